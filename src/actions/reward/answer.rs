//! Finds the answer inside a completion; knows nothing of what makes an answer right.

use std::ops::Range;

const OPENING: &str = "<answer>";
const CLOSING: &str = "</answer>";

/// Content of the **first** `<answer>…</answer>`, newlines included and outer white space removed; `None` without a
/// whole pair of tags. (Reason-RFT, stage_rl/reward.py.)
///
/// Differs from upstream: there the tag pattern stops at a newline, so an answer on its own line counted as untagged.
#[must_use]
pub fn tagged_answer(text: &str) -> Option<&str> {
    between_tags(text, |_: &Range<usize>| true)
}

/// As [`tagged_answer`], but a pair of tags with a newline between them is passed over: what upstream's evaluation
/// of spatial transformation does (method: section 3.7).
#[must_use]
pub fn single_line_tagged_answer(text: &str) -> Option<&str> {
    // Each end of a line is looked at once, however many tags stand before it.
    let mut ends = text.match_indices('\n').map(|(end, _)| end).peekable();
    between_tags(text, |content: &Range<usize>| {
        while ends.next_if(|end| *end < content.start).is_some() {}
        ends.peek().is_none_or(|end| *end >= content.end)
    })
}

/// The tagged answer, or the whole text without outer white space.
#[must_use]
pub fn answer_or_text(text: &str) -> &str {
    tagged_answer(text).unwrap_or_else(|| text.trim())
}

/// The first content that is accepted. Each opening and each closing is looked at once: the closing of an opening is never
/// before that of an earlier one.
fn between_tags(text: &str, mut accepts: impl FnMut(&Range<usize>) -> bool) -> Option<&str> {
    let mut closings = text.match_indices(CLOSING).map(|(end, _)| end).peekable();
    text.match_indices(OPENING).find_map(|(start, _)| {
        let start = start + OPENING.len();
        while closings.next_if(|end| *end < start).is_some() {}
        let content = start..*closings.peek()?;
        accepts(&content).then(|| text[content].trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_pair_of_tags_wins_and_is_trimmed() {
        assert_eq!(
            tagged_answer("x<answer> 1 </answer><answer>2</answer>"),
            Some("1")
        );
        assert_eq!(tagged_answer("<answer>\n3\n</answer>"), Some("3"));
        assert_eq!(tagged_answer("<answer>\u{2003}3\u{a0}</answer>"), Some("3"));
        assert_eq!(tagged_answer("<answer></answer>"), Some(""));
    }

    #[test]
    fn an_incomplete_pair_is_no_tag() {
        assert_eq!(tagged_answer("<answer>3"), None);
        assert_eq!(tagged_answer("3</answer>"), None);
        assert_eq!(tagged_answer("</answer><answer>3"), None);
        assert_eq!(tagged_answer("<Answer>3</Answer>"), None);
        assert_eq!(answer_or_text(" 3\n"), "3");
    }

    #[test]
    fn the_single_line_form_passes_over_pairs_that_cross_a_newline() {
        assert_eq!(single_line_tagged_answer("<answer>\n3\n</answer>"), None);
        assert_eq!(
            single_line_tagged_answer("<answer>\n3\n</answer><answer>4</answer>"),
            Some("4")
        );
        // The regular expression of upstream starts again inside a failed pair, and so does this.
        assert_eq!(
            single_line_tagged_answer("<answer>\n<answer>5</answer>"),
            Some("5")
        );
    }
}
