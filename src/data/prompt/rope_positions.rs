//! Expands image placeholders and gives every token its three-axis rotary position.
//!
//! Knows nothing of text, pictures or the rotary embedding itself: it maps ids and grids to ids and positions.

/// A prompt's tokens as the model takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PositionedTokens {
    /// [T] ids; each placeholder stands once per merged patch.
    pub(super) input_ids: Vec<u32>,
    /// [T] temporal, height, width.
    pub(super) positions: Vec<[u32; 3]>,
    /// Largest position + 1 - T.
    pub(super) rope_delta: i64,
}

/// Repeats each `placeholder` in `ids` once per cell of its grid (frames x rows x columns of merged patches) and numbers
/// all tokens: text counts up on all axes; a picture starts at the next position p with (p + frame, p + row,
/// p + column); what follows continues after the largest of these.
///
/// Source: `get_rope_index` of transformers' `modeling_qwen2_vl.py`, for still pictures also that of Qwen2.5-VL.
/// The number of placeholders equals the number of grids; the caller has checked that.
pub(super) fn expand_placeholders(
    ids: &[u32],
    placeholder: u32,
    grids: &[[usize; 3]],
) -> PositionedTokens {
    let image_tokens: usize = grids
        .iter()
        .map(|grid| grid.iter().product::<usize>())
        .sum();
    let capacity = ids.len() + image_tokens - grids.len();
    let mut input_ids = Vec::with_capacity(capacity);
    let mut positions = Vec::with_capacity(capacity);
    let mut next = 0;
    let mut remaining = grids.iter();
    for &id in ids {
        let grid = if id == placeholder {
            remaining.next()
        } else {
            None
        };
        let Some(&[frames, rows, columns]) = grid else {
            input_ids.push(id);
            positions.push([next; 3]);
            next += 1;
            continue;
        };
        for cell in 0..frames * rows * columns {
            let frame = cell / (rows * columns);
            let row = cell / columns % rows;
            let offsets = [frame, row, cell % columns];
            input_ids.push(id);
            positions.push(offsets.map(|offset| next + offset as u32));
        }
        next += frames.max(rows).max(columns) as u32;
    }
    let rope_delta = i64::from(next) - input_ids.len() as i64;
    PositionedTokens {
        input_ids,
        positions,
        rope_delta,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAD: u32 = 9;

    #[test]
    fn text_counts_up_on_all_axes() {
        let tokens = expand_placeholders(&[1, 2, 3], PAD, &[]);
        assert_eq!(tokens.input_ids, [1, 2, 3]);
        assert_eq!(tokens.positions, [[0; 3], [1; 3], [2; 3]]);
        assert_eq!(tokens.rope_delta, 0);
    }

    #[test]
    fn a_picture_spans_its_longer_side() {
        let tokens = expand_placeholders(&[1, PAD, 2], PAD, &[[1, 2, 3]]);
        assert_eq!(tokens.input_ids, [1, PAD, PAD, PAD, PAD, PAD, PAD, 2]);
        let expected = [
            [0, 0, 0],
            [1, 1, 1],
            [1, 1, 2],
            [1, 1, 3],
            [1, 2, 1],
            [1, 2, 2],
            [1, 2, 3],
            [4, 4, 4],
        ];
        assert_eq!(tokens.positions, expected);
        assert_eq!(tokens.rope_delta, 5 - 8);
    }

    #[test]
    fn neighbouring_pictures_stay_apart() {
        let tokens = expand_placeholders(&[PAD, PAD], PAD, &[[1, 1, 2], [1, 1, 1]]);
        assert_eq!(tokens.positions, [[0, 0, 0], [0, 0, 1], [2, 2, 2]]);
        assert_eq!(tokens.rope_delta, 0);
    }
}
