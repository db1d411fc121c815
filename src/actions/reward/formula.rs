//! Finds formulas and numbers inside running text; knows nothing of what they are worth. Every search is linear in the text:
//! a pair of delimiters that is never closed is looked for once.

use std::sync::LazyLock;

use regex::Regex;

/// A chain of numbers and operators in running text, after white space, an equals sign or nothing (and Markdown's bold
/// or a currency sign): `3`, `-1,234.5`, `3/4`, `1 1/2`, `2 * 3`, `50%`, `3 million`. So neither `x3`, `f(1,2)` nor `<b>3`
/// holds a number.
static NUMBERS: LazyLock<Regex> = LazyLock::new(|| {
    let number = r"(?:\d{1,3}(?:,\d{3})+\b|\d+)(?:\.\d+)?";
    let mixed = r"\d{1,9} \d{1,9}/\d{1,9}";
    let chain = format!(r"[-−]?(?:{mixed}|{number}(?:\s*[-−+*/×÷^]\s*{number})*)");
    let suffix = r"(?:\s*[%％]|\s+(?i:hundred|thousand|million|billion|trillion)\b)?";
    Regex::new(&format!(
        r"(?:^|[\s=])(?:\*\*)?\\?[$€£¥₹￥]?({chain}{suffix})"
    ))
    .expect("a constant pattern")
});

static ANSWER_PHRASE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)answer\s*(?:is|:|=)").expect("a constant pattern"));

/// The first number in running text.
pub(super) fn first_number(text: &str) -> Option<&str> {
    let found = NUMBERS.captures(text)?;
    found.get(1).map(|number| number.as_str())
}

/// The last number in running text.
pub(super) fn last_number(text: &str) -> Option<&str> {
    let found = NUMBERS.captures_iter(text).last()?;
    found.get(1).map(|number| number.as_str())
}

/// What follows the last "answer is".
pub(super) fn after_answer_phrase(text: &str) -> Option<&str> {
    let phrase = ANSWER_PHRASE.find_iter(text).last()?;
    Some(&text[phrase.end()..])
}

/// Content of the last `\boxed{…}` whose braces balance.
pub(super) fn boxed(text: &str) -> Option<&str> {
    const BOXED: &str = "\\boxed";
    let rest = text[text.rfind(BOXED)? + BOXED.len()..].trim_start();
    let rest = rest.strip_prefix('{')?;
    let mut depth = 1_usize;
    for (index, character) in rest.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&rest[..index]);
        }
    }
    None
}

/// Content of each formula between `$$`, `$`, `\(` and `\)`, `\[` and `\]`, in order.
pub(super) fn formulas(text: &str) -> Formulas<'_> {
    Formulas {
        rest: text,
        unclosed: [false; 4],
    }
}

/// Delimiters of formulas; the longer one first where one begins another.
const DELIMITERS: [(&str, &str); 4] = [("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")];

/// An iterator over formulas.
pub(super) struct Formulas<'a> {
    rest: &'a str,
    /// Delimiters that nothing closes any more.
    unclosed: [bool; 4],
}

impl<'a> Iterator for Formulas<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        loop {
            self.rest = &self.rest[self.rest.find(['$', '\\'])?..];
            if let Some(found) = self.formula() {
                return Some(found);
            }
            // Money (`\$5`) and other commands are no delimiters.
            let skipped = if self.rest.starts_with("\\$") { 2 } else { 1 };
            self.rest = &self.rest[skipped..];
        }
    }
}

impl<'a> Formulas<'a> {
    /// The formula that begins here.
    fn formula(&mut self) -> Option<&'a str> {
        for (index, (opening, closing)) in DELIMITERS.into_iter().enumerate() {
            let Some(inside) = self.rest.strip_prefix(opening) else {
                continue;
            };
            if self.unclosed[index] || inside.starts_with(closing) {
                continue;
            }
            match inside.find(closing) {
                Some(end) => {
                    self.rest = &inside[end + closing.len()..];
                    return Some(&inside[..end]);
                }
                None => self.unclosed[index] = true,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_found_between_their_delimiters() {
        for (text, expected) in [
            (
                "a $1$ b $$2$$ c \\(3\\) d \\[4\\]",
                vec!["1", "2", "3", "4"],
            ),
            ("$1$$2$", vec!["1", "2"]),
            ("$$1$$$2$", vec!["1", "2"]),
            ("\\($1$\\($2$", vec!["1", "2"]),
            ("$$ 1 $ 2", vec![" 1 "]),
            ("it costs \\$5, $x$", vec!["x"]),
            ("one $ only", vec![]),
            ("\\alpha", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(formulas(text).collect::<Vec<_>>(), expected, "{text}");
        }
    }

    #[test]
    fn the_last_box_counts() {
        for (text, expected) in [
            ("\\boxed{1} \\boxed{\\frac{1}{2}}", Some("\\frac{1}{2}")),
            ("\\boxed { 3 }", Some(" 3 ")),
            ("\\boxed{1", None),
            ("\\boxed 1", None),
            ("1", None),
        ] {
            assert_eq!(boxed(text), expected, "{text}");
        }
    }

    #[test]
    fn numbers_are_found_in_running_text() {
        for (text, expected) in [
            ("1 1/2 cups", Some("1 1/2")),
            ("about 3 million people", Some("3 million")),
            ("costs \\$1,234.50 now", Some("1,234.50")),
            ("at 50 %", Some("50 %")),
            ("3 or 4", Some("4")),
            ("x3", None),
        ] {
            assert_eq!(last_number(text), expected, "{text}");
        }
        assert_eq!(first_number("3 or 4"), Some("3"));
    }
}
