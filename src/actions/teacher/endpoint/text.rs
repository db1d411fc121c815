//! Text that a server wrote, made safe to keep and to show. Knows nothing of what it says.

/// Bytes of one answer's text at most: far more than any completion that can train.
pub(super) const MAX_TEXT_BYTES: usize = 1 << 20;
/// Characters of a server's words in an error.
const MAX_QUOTED: usize = 300;

/// The text without control characters other than line feed and tabulator.
pub(super) fn without_controls(text: &str) -> String {
    let keeps = |character: &char| matches!(character, '\n' | '\t') || !character.is_control();
    text.chars().filter(keeps).collect()
}

/// One line for a message: white space joined, the rest cut off.
pub(super) fn quoted(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(MAX_QUOTED) {
        None => words,
        Some((end, _)) => {
            let start = words[..end].trim_end();
            format!("{start} ... ({} characters)", words.chars().count())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_go_and_text_stays() {
        assert_eq!(
            without_controls("a\0b\r\nc\td\u{1b}[31m\u{7f}\u{85}é<|im_end|>"),
            "ab\nc\td[31mé<|im_end|>"
        );
    }

    #[test]
    fn a_quotation_is_one_short_line() {
        assert_eq!(quoted(" not\n  found \t"), "not found");
        let long = quoted(&"é".repeat(400));
        assert!(long.starts_with("éé") && long.ends_with("é ... (400 characters)"));
        assert_eq!(long.matches('é').count(), 300);
    }
}
