//! A server's tokens, which come as text, beside the policy's, which are numbers. Knows nothing of either's origin.

use std::ops::Range;

use super::TextCodec;

/// The tokens of an answer as a server shows them, and how probable they were to its model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TokenTexts {
    /// [T] bytes of each token; a token need not be whole characters.
    pub pieces: Vec<Vec<u8>>,
    /// [T] log-probability of each.
    pub logprobs: Vec<f32>,
}

/// How probable an answer was to the model that wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct TextLogprobs {
    /// The whole text in the model's own tokens.
    pub sum: f32,
    /// [T] one per token of the policy, if these are the same tokens.
    pub by_token: Option<Vec<f32>>,
}

impl TokenTexts {
    /// The log-probabilities of the bytes `kept` of a text; the policy's tokens of that part are `token_ids`, end token
    /// included.
    ///
    /// The tokens must spell the whole text, and `kept` must begin and end between two of them. One more is taken for the
    /// end token; servers that do not show theirs leave it out, and it then counts as certain (0): after a whole answer it
    /// nearly is, and a ratio π/q can only come out smaller than it is. `None` if the tokens spell something else, or one
    /// of them is half cut.
    #[must_use]
    pub fn of_text(
        &self,
        text: &str,
        kept: Range<usize>,
        token_ids: &[u32],
        codec: &dyn TextCodec,
    ) -> Option<TextLogprobs> {
        if self.logprobs.len() != self.pieces.len() {
            return None;
        }
        let end = self.end_of(text)?;
        let (first, last) = (self.boundary(kept.start)?, self.boundary(kept.end)?);
        let pieces = &self.pieces[first..last];
        let mut logprobs = self.logprobs[first..last].to_vec();
        logprobs.push(self.logprobs.get(end).copied().unwrap_or(0.0));
        let sum = logprobs
            .iter()
            .map(|logprob| f64::from(*logprob))
            .sum::<f64>() as f32;
        let is_same = token_ids.len() == pieces.len() + 1
            && token_ids.iter().zip(pieces).all(|(id, piece)| {
                // Both sides show a part of a character as U+FFFD; the spelling of the whole is checked above.
                codec.decode(&[*id]) == String::from_utf8_lossy(piece)
            });
        Some(TextLogprobs {
            sum,
            by_token: is_same.then_some(logprobs),
        })
    }

    /// How many pieces spell the first `bytes` bytes, if these end with a piece.
    fn boundary(&self, bytes: usize) -> Option<usize> {
        let mut spelled = 0;
        for (index, piece) in self.pieces.iter().enumerate() {
            if spelled >= bytes {
                return (spelled == bytes).then_some(index);
            }
            spelled += piece.len();
        }
        (spelled == bytes).then_some(self.pieces.len())
    }

    /// How many pieces spell the text; at most one may follow.
    fn end_of(&self, text: &str) -> Option<usize> {
        let mut left = text.as_bytes();
        let mut shown = 0;
        while !left.is_empty() {
            let piece = self.pieces.get(shown).filter(|piece| !piece.is_empty())?;
            left = left.strip_prefix(piece.as_slice())?;
            shown += 1;
        }
        (self.pieces.len() <= shown + 1).then_some(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Characters;
    use super::*;

    fn texts(pieces: &[&str], logprobs: &[f32]) -> TokenTexts {
        let pieces = pieces
            .iter()
            .map(|piece| piece.as_bytes().to_vec())
            .collect();
        TokenTexts {
            pieces,
            logprobs: logprobs.to_vec(),
        }
    }

    fn found(texts: &TokenTexts, text: &str) -> Option<TextLogprobs> {
        let mut ids = Characters.encode(text).expect("ids");
        ids.push(0);
        texts.of_text(text, 0..text.len(), &ids, &Characters)
    }

    #[test]
    fn the_same_tokens_keep_each_log_probability() {
        let logprobs = found(
            &texts(&["a", "é", "<|im_end|>"], &[-0.5, -0.25, -0.125]),
            "aé",
        )
        .expect("kept");
        assert_eq!(
            (logprobs.sum, logprobs.by_token),
            (-0.875, Some(vec![-0.5, -0.25, -0.125]))
        );
        let without_end = found(&texts(&["a", "é"], &[-0.5, -0.25]), "aé").expect("kept");
        assert_eq!(
            (without_end.sum, without_end.by_token),
            (-0.75, Some(vec![-0.5, -0.25, 0.0]))
        );
    }

    #[test]
    fn other_tokens_keep_the_sum() {
        let logprobs =
            found(&texts(&["ab", "c", "<eos>"], &[-0.5, -0.25, -1.0]), "abc").expect("kept");
        assert_eq!((logprobs.sum, logprobs.by_token), (-1.75, None));
    }

    #[test]
    fn parts_of_a_character_are_pieces_too() {
        let split = TokenTexts {
            pieces: vec![vec![0xe2, 0x82], vec![0xac]],
            logprobs: vec![-1.0, -0.5],
        };
        assert_eq!(found(&split, "€").map(|logprobs| logprobs.sum), Some(-1.5));
    }

    #[test]
    fn tokens_of_another_text_are_not_kept() {
        for (pieces, count) in [
            (&["a", "b"][..], 2),
            (&["a"], 1),
            (&["a", "bc", "<eos>", "x"], 4),
            (&[" ", "a", "bc"], 3),
            (&["", "a", "bc"], 3),
            (&["a", "bc"], 1),
            (&[], 0),
        ] {
            assert_eq!(
                found(&texts(pieces, &vec![-1.0; count]), "abc"),
                None,
                "{pieces:?}"
            );
        }
    }
}
