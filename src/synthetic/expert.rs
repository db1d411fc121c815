//! Experts whose answers are recorded: how often they are right, how they write, how often they forget the tags.
//! What they say about an example is up to its family.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::drawn::{Drawn, Statement, Wording};
use super::family::{Family, Split};

/// One expert.
#[derive(Debug, Clone, PartialEq)]
pub struct Expert {
    /// Its source name.
    pub name: String,
    /// Probability that an answer is entirely right.
    pub accuracy: f64,
    /// How it writes.
    pub wording: Wording,
    /// Probability that an answer, right or wrong, lacks tags.
    pub format_errors: f64,
}

/// What an expert says, in the form in which it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Utterance {
    pub text: String,
    /// Whether the answer is right.
    pub right: bool,
}

/// A line of the file of recorded actions.
#[derive(Debug, Serialize)]
pub(crate) struct RecordedAction<'a> {
    pub id: &'a str,
    pub source: &'a str,
    pub text: &'a str,
}

impl Expert {
    /// The share of answers without tags, unless another is asked for.
    pub const FORMAT_ERRORS: f64 = 0.02;

    /// An expert that writes as the rows' own chains of thought and never forgets a tag.
    #[must_use]
    pub fn new(name: &str, accuracy: f64) -> Self {
        Self {
            name: name.into(),
            accuracy,
            wording: Wording::Row,
            format_errors: 0.0,
        }
    }

    /// Reads `NAME=ACCURACY` or `NAME=ACCURACY:WORDING`.
    ///
    /// # Errors
    /// What was expected and what was found.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || {
            let words = Wording::ALL.map(Wording::name).join(", ");
            format!(
                "expected NAME=ACCURACY or NAME=ACCURACY:STYLE with a style of {words}, found `{text}`"
            )
        };
        let (name, rest) = text.split_once('=').ok_or_else(expected)?;
        let (accuracy, style) = rest.split_once(':').unwrap_or((rest, Wording::Row.name()));
        let wording = Wording::ALL
            .into_iter()
            .find(|wording| wording.name() == style);
        Ok(Self {
            name: name.to_owned(),
            accuracy: accuracy.parse().map_err(|_| expected())?,
            wording: wording.ok_or_else(expected)?,
            format_errors: Self::FORMAT_ERRORS,
        })
    }

    /// Two experts that are right as often as the paper's two: GPT-4o (`expert-a`) and Gemini 1.5 Pro (`expert-b`).
    /// Of spatial transformation the paper gives the mean partial credit; these experts are entirely right that often,
    /// and their wrong answers earn a partial credit of about 0.24 (easy) or 0.38 (full) besides.
    #[must_use]
    pub fn of_the_paper(family: Family, split: Split) -> [Self; 2] {
        let [first, second] = match (family, split) {
            (Family::Counting { .. }, Split::Train | Split::Test) => [0.68, 0.62],
            (Family::Counting { .. }, _) => [0.34, 0.38],
            (Family::Structure, Split::Train | Split::Test) => [0.50, 0.50],
            (Family::Structure, _) => [0.43, 0.48],
            (Family::Transformation, Split::Train | Split::Test) => [0.43, 0.26],
            (Family::Transformation, Split::TestOodLeft) => [0.29, 0.19],
            (Family::Transformation, _) => [0.30, 0.20],
        };
        let expert = |name: &str, accuracy, wording| Self {
            name: name.into(),
            accuracy,
            wording,
            format_errors: Self::FORMAT_ERRORS,
        };
        [
            expert("expert-a", first, Wording::Terse),
            expert("expert-b", second, Wording::Verbose),
        ]
    }

    /// Says something about the example.
    pub(crate) fn speak(&self, rng: &mut ChaCha8Rng, drawn: &dyn Drawn) -> Utterance {
        let right = rng.random_bool(self.accuracy);
        let Statement { reasoning, answer } = drawn.statement(rng, right, self.wording);
        let untagged = self.format_errors > 0.0 && rng.random_bool(self.format_errors);
        // Forms whose answer is found all the same, so that only the format is wrong.
        let text = if !untagged {
            format!("<think>\n{reasoning}\n</think>\n<answer>\n{answer}\n</answer>")
        } else if rng.random_bool(0.5) {
            format!("{reasoning}\n<answer>\n{answer}\n</answer>")
        } else {
            answer
        };
        Utterance { text, right }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::super::{Difficulty, structure};
    use super::*;

    #[test]
    fn tags_are_missing_as_often_as_asked_and_the_answer_stays() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let drawn = structure::draw(&mut rng, Split::Train, Difficulty::Easy);
        let mut expert = Expert::parse("a=1").unwrap();
        expert.format_errors = 0.2;
        let texts: Vec<String> = (0..1000)
            .map(|_| expert.speak(&mut rng, drawn.as_ref()).text)
            .collect();
        let (bare, half) = (
            drawn.answer(),
            format!("\n<answer>\n{}\n</answer>", drawn.answer()),
        );
        let count = |holds: &dyn Fn(&str) -> bool| texts.iter().filter(|text| holds(text)).count();
        assert!((760..840).contains(&count(
            &|text| text.starts_with("<think>\n") && text.ends_with(&half)
        )));
        assert!((70..130).contains(&count(&|text| text == bare)));
        assert!((70..130).contains(&count(
            &|text| !text.contains("think") && text.ends_with(&half)
        )));
    }

    #[test]
    fn experts_are_read_from_the_command_line() {
        let expert = Expert::parse("gpt=0.68:terse").unwrap();
        assert_eq!(
            (expert.name.as_str(), expert.accuracy, expert.wording),
            ("gpt", 0.68, Wording::Terse)
        );
        assert_eq!(Expert::parse("a=1").unwrap().wording, Wording::Row);
        for wrong in ["gpt", "gpt=x", "gpt=0.5:loud", "=:"] {
            let text = Expert::parse(wrong).unwrap_err();
            assert!(
                text.contains("NAME=ACCURACY:STYLE") && text.contains(wrong),
                "{text}"
            );
        }
    }

    #[test]
    fn the_papers_experts_are_weaker_out_of_domain() {
        let family = Family::Transformation;
        let [a, b] = Expert::of_the_paper(family, Split::Train);
        assert_eq!(
            ([a.accuracy, b.accuracy], [a.wording, b.wording]),
            ([0.43, 0.26], [Wording::Terse, Wording::Verbose])
        );
        for split in [Split::TestOodLeft, Split::TestOodRight] {
            let [c, d] = Expert::of_the_paper(family, split);
            assert!(c.accuracy < a.accuracy && d.accuracy < b.accuracy);
        }
    }
}
