//! Text of others (rows, model files, servers, programs) as a message, a log line or a table may show it.
//!
//! A terminal obeys escape sequences, a log is read line by line, and some characters turn or hide what stands around them:
//! a row could write a line of its own into a log, or colour an error away. Knows nothing of where the text comes from.

use std::fmt::{self, Write as _};

/// Characters of a text that a message quotes at most.
pub const EXCERPT: usize = 200;

/// Characters of one line of a message at most: lists of keys fit, a value of a megabyte does not.
pub const LINE: usize = 10_000;

/// The text on one line without anything that a terminal or a reader would take for more than text: control characters,
/// line ends and invisible or turning characters become `\n`, `\u{1b}`, ... What is left is shown as it is, backslashes too.
#[must_use]
pub fn printable(text: &str) -> Printable<'_> {
    Printable {
        text,
        most: usize::MAX,
        keeps_lines: false,
    }
}

/// As [`printable`], cut after [`EXCERPT`] characters with the number of all: a text of a megabyte is no message.
#[must_use]
pub fn excerpt(text: &str) -> Printable<'_> {
    Printable {
        most: EXCERPT,
        ..printable(text)
    }
}

/// As [`printable`], but line ends and tabs stay: for what is made of lines, such as an error with its hints. Lines after the
/// first that are no hint are indented: quoted text with a line end cannot begin a message of its own. A line is cut after
/// [`LINE`] characters.
#[must_use]
pub fn printable_lines(text: &str) -> Printable<'_> {
    Printable {
        keeps_lines: true,
        ..printable(text)
    }
}

/// See [`printable`].
#[derive(Debug, Clone, Copy)]
pub struct Printable<'a> {
    text: &'a str,
    most: usize,
    keeps_lines: bool,
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.keeps_lines {
            return self.write_lines(out);
        }
        let mut characters = self.text.chars();
        for character in characters.by_ref().take(self.most) {
            write_one(out, character)?;
        }
        if self.most < usize::MAX && characters.next().is_some() {
            write!(out, "… ({} characters)", self.text.chars().count())?;
        }
        Ok(())
    }
}

impl Printable<'_> {
    fn write_lines(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.text.split('\n').enumerate() {
            if index > 0 {
                out.write_char('\n')?;
                let stands_alone = line.is_empty() || line.starts_with([' ', '\t']);
                if !stands_alone && !line.starts_with("hint: ") {
                    out.write_str("  ")?;
                }
            }
            let mut characters = line.chars();
            for character in characters.by_ref().take(LINE) {
                if character == '\t' {
                    out.write_char(character)?;
                } else {
                    write_one(out, character)?;
                }
            }
            if characters.next().is_some() {
                write!(out, "… ({} characters)", line.chars().count())?;
            }
        }
        Ok(())
    }
}

fn write_one(out: &mut fmt::Formatter<'_>, character: char) -> fmt::Result {
    if is_hidden(character) {
        write!(out, "{}", character.escape_default())
    } else {
        out.write_char(character)
    }
}

/// Control characters, separators of lines, and what turns, joins or hides its neighbours without being seen: Unicode's
/// bidirectional controls (UAX 9), invisible operators and fillers, tags, interlinear marks and the byte order mark.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_obeyed() {
        let cases = [
            ("plain, größer, 数, 🙂", "plain, größer, 数, 🙂"),
            // Families of emoji and Indic or Persian words need their joiners (U+200C, U+200D).
            ("👩\u{200d}🚀", "👩\u{200d}🚀"),
            (r"C:\models\a", r"C:\models\a"),
            ("one\ntwo\r\tthree", r"one\ntwo\r\tthree"),
            (
                "\u{1b}[2J\u{1b}]0;title\u{7}",
                r"\u{1b}[2J\u{1b}]0;title\u{7}",
            ),
            ("\u{9b}31m\u{85}\u{7f}\0", r"\u{9b}31m\u{85}\u{7f}\u{0}"),
            (
                "a\u{202e}cba\u{2066}\u{2028}",
                r"a\u{202e}cba\u{2066}\u{2028}",
            ),
            ("\u{feff}a\u{200b}b", r"\u{feff}a\u{200b}b"),
            ("\u{e0041}", r"\u{e0041}"),
        ];
        for (text, expected) in cases {
            assert_eq!(printable(text).to_string(), expected);
        }
        assert_eq!(
            printable_lines("error: a\nhint: b\tc\u{1b}[0m\r").to_string(),
            "error: a\nhint: b\tc\\u{1b}[0m\\r"
        );
        assert_eq!(
            printable_lines("id `x\n[WARN run] forged`\n  row 2\n").to_string(),
            "id `x\n  [WARN run] forged`\n  row 2\n"
        );
    }

    #[test]
    fn no_shown_character_is_a_control_character() {
        let all: String = (0..=0x0010_ffff_u32).filter_map(char::from_u32).collect();
        let shown = printable(&all).to_string();
        assert!(
            !shown
                .chars()
                .any(|character| character.is_control() || is_hidden(character))
        );
    }

    #[test]
    fn an_excerpt_is_short_and_says_how_long_the_text_is() {
        assert_eq!(excerpt("abc").to_string(), "abc");
        let exact = "é".repeat(EXCERPT);
        assert_eq!(excerpt(&exact).to_string(), exact);
        let text = excerpt(&"\u{1b}".repeat(1_000_000)).to_string();
        assert!(text.ends_with("… (1000000 characters)"), "{text}");
        assert!(text.len() < 8 * EXCERPT, "{}", text.len());
        let text = printable_lines(&format!("{}\nhint: a", "x".repeat(1_000_000))).to_string();
        assert!(
            text.ends_with("… (1000000 characters)\nhint: a"),
            "{}",
            text.len()
        );
        assert!(text.len() < LINE + 100, "{}", text.len());
    }
}
