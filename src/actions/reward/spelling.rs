//! How data sets and models write one and the same thing: other signs, spaces and wrappings become the plain ones. Knows
//! nothing of what a number is worth.
//!
//! The gold answer and the answer go through the same two functions: [`plain`] before a number is looked for,
//! [`text_form`] where there is none.

use std::borrow::Cow;

/// Commands of LaTeX that mean a sign; longer names first where one begins another.
const SIGNS: [(&str, &str); 17] = [
    ("\\approx", "≈"),
    ("\\simeq", "≈"),
    ("\\thickapprox", "≈"),
    ("\\textdegree", "°"),
    ("\\degree", "°"),
    ("\\degrees", "°"),
    ("\\textdollar", "\\$"),
    ("\\dollar", "\\$"),
    ("\\euro", "€"),
    ("\\pounds", "£"),
    ("\\percent", "%"),
    ("\\Omega", " ohm"),
    ("\\ohm", " ohm"),
    ("&deg", "°"),
    ("&percnt", "%"),
    ("&nbsp", " "),
    ("&minus", "-"),
];
/// Fractions that are one character, with the expression they stand for; in braces, so that a number before it makes
/// a mixed one.
const FRACTIONS: [(char, &str); 15] = [
    ('½', "\\frac{1}{2}"),
    ('⅓', "\\frac{1}{3}"),
    ('⅔', "\\frac{2}{3}"),
    ('¼', "\\frac{1}{4}"),
    ('¾', "\\frac{3}{4}"),
    ('⅕', "\\frac{1}{5}"),
    ('⅖', "\\frac{2}{5}"),
    ('⅗', "\\frac{3}{5}"),
    ('⅘', "\\frac{4}{5}"),
    ('⅙', "\\frac{1}{6}"),
    ('⅚', "\\frac{5}{6}"),
    ('⅛', "\\frac{1}{8}"),
    ('⅜', "\\frac{3}{8}"),
    ('⅝', "\\frac{5}{8}"),
    ('⅞', "\\frac{7}{8}"),
];

/// What may stand around a whole answer.
const WRAPPINGS: [(&str, &str); 6] = [
    ("$$", "$$"),
    ("$", "$"),
    ("\\(", "\\)"),
    ("\\[", "\\]"),
    ("\\boxed{", "}"),
    ("\\text{", "}"),
];

/// The text with the plain sign for each of its spellings: full-width letters, the many minus and degree signs, fractions
/// of one character, raised digits, LaTeX's and HTML's names; without Markdown around the whole, and of GSM8K's
/// `reasoning #### answer` the answer.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    let text = text.rsplit("####").next().unwrap_or(text);
    let text = unmarked(text.trim());
    if text.is_ascii() && !text.contains(['\\', '&']) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    let mut raised = false;
    while let Some(character) = rest.chars().next() {
        if ['\\', '&'].contains(&character)
            && let Some((name, sign)) = sign_of(rest)
        {
            clean.push_str(sign);
            rest = &rest[name..];
            continue;
        }
        rest = &rest[character.len_utf8()..];
        let digit = raised_digit(character);
        if digit.is_some() && !raised {
            clean.push_str("^{");
        } else if digit.is_none() && raised {
            clean.push('}');
        }
        raised = digit.is_some();
        match digit {
            Some(digit) => clean.push(digit),
            None => push_plain(&mut clean, character),
        }
    }
    if raised {
        clean.push('}');
    }
    Cow::Owned(clean)
}

/// A text without a number, as it is compared: LaTeX's delimiters and spacing, and white space beside anything that is
/// neither letter nor digit, say nothing. `( 3 , 4 )` is `(3,4)`; `a b` is not `ab`, and `A` is not `a`.
pub(super) fn text_form(text: &str) -> String {
    let text = plain(text);
    let mut text = text.as_ref();
    for (opening, closing) in WRAPPINGS {
        let inside = text
            .strip_prefix(opening)
            .and_then(|rest| rest.strip_suffix(closing));
        text = inside.unwrap_or(text).trim();
    }
    let mut form = String::with_capacity(text.len());
    let mut rest = text;
    let mut gap = false;
    while let Some(character) = rest.chars().next() {
        let spacing = ["\\left", "\\right", "\\,", "\\;", "\\:", "\\!", "\\ ", "~"]
            .iter()
            .find(|spacing| is_spacing(rest, spacing));
        if let Some(spacing) = spacing {
            rest = &rest[spacing.len()..];
            gap = true;
            continue;
        }
        rest = &rest[character.len_utf8()..];
        if character.is_whitespace() {
            gap = true;
            continue;
        }
        let word = |character: char| character.is_alphanumeric();
        if gap && word(character) && form.chars().next_back().is_some_and(word) {
            form.push(' ');
        }
        gap = false;
        form.push(character);
    }
    form
}

/// Whether the text begins with this command and not with a longer one (`\leftarrow`).
fn is_spacing(text: &str, command: &str) -> bool {
    let after = text
        .strip_prefix(command)
        .and_then(|rest| rest.chars().next());
    let ends_in_letter = command.ends_with(|last: char| last.is_ascii_alphabetic());
    text.starts_with(command)
        && !(ends_in_letter && after.is_some_and(|next| next.is_ascii_alphabetic()))
}

/// Without Markdown's bold or code around the whole.
fn unmarked(text: &str) -> &str {
    let mut text = text;
    for mark in ["**", "__", "`"] {
        let inside = text
            .strip_prefix(mark)
            .and_then(|rest| rest.strip_suffix(mark));
        text = inside
            .filter(|inside| !inside.is_empty() && !inside.contains(mark))
            .map_or(text, str::trim);
    }
    text
}

/// The command or entity at the beginning of the text: its length, and the sign that it means.
fn sign_of(text: &str) -> Option<(usize, &'static str)> {
    let (name, sign) = SIGNS.iter().find(|(name, _)| is_spacing(text, name))?;
    let after = &text[name.len()..];
    // `\degree{}` and `&deg;` end their names so.
    let end = ["{}", ";"].iter().find(|end| after.starts_with(**end));
    Some((name.len() + end.map_or(0, |end| end.len()), sign))
}

fn push_plain(clean: &mut String, character: char) {
    match character {
        // Full-width signs of Chinese and Japanese text.
        '\u{ff01}'..='\u{ff5e}' => {
            clean.extend(char::from_u32(u32::from(character) - 0xfee0));
        }
        '−' | '–' | '‒' | '﹣' | '‐' | '‑' => clean.push('-'),
        // The ordinal sign, a ring, an operator and a raised letter in place of the degree sign; and the Chinese word.
        'º' | '˚' | '∘' | '◦' | 'ᵒ' | '度' => clean.push('°'),
        '℃' => clean.push_str("°C"),
        '℉' => clean.push_str("°F"),
        '￥' => clean.push('¥'),
        '∶' => clean.push(':'),
        '≒' | '≅' | '≃' => clean.push('≈'),
        '⋅' | '∙' | '•' | '∗' => clean.push('·'),
        '∕' | '⁄' => clean.push('/'),
        'µ' | 'μ' => clean.push('u'),
        '\u{2126}' | '\u{3a9}' => clean.push_str(" ohm"),
        '。' => clean.push('.'),
        _ if character.is_whitespace() => clean.push(' '),
        '\u{200b}' | '\u{feff}' => {}
        _ => match FRACTIONS.iter().find(|(sign, _)| *sign == character) {
            Some((_, expression)) => clean.push_str(expression),
            None => clean.push(character),
        },
    }
}

/// The digit or sign that a raised one stands for.
const fn raised_digit(character: char) -> Option<char> {
    Some(match character {
        '⁰' => '0',
        '¹' => '1',
        '²' => '2',
        '³' => '3',
        '⁴' => '4',
        '⁵' => '5',
        '⁶' => '6',
        '⁷' => '7',
        '⁸' => '8',
        '⁹' => '9',
        '⁻' => '-',
        '⁺' => '+',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_become_the_plain_ones() {
        for (text, expected) in [
            ("4.0", "4.0"),
            (" 4 ", "4"),
            ("145º", "145°"),
            ("145˚", "145°"),
            ("145\\degree", "145°"),
            ("145\\textdegree{}", "145°"),
            ("145&deg;", "145°"),
            ("\\degreesign", "\\degreesign"),
            ("１２３，４５６％", "123,456%"),
            ("−3", "-3"),
            ("1½", "1\\frac{1}{2}"),
            ("10⁻³", "10^{-3}"),
            ("cm²", "cm^{2}"),
            ("**3**", "3"),
            ("`3`", "3"),
            ("2**3**4", "2**3**4"),
            ("x\\approx 3", "x≈ 3"),
            ("So it is 9 * 2 = 18\n#### 18", "18"),
            ("3\u{a0}cm", "3 cm"),
        ] {
            assert_eq!(plain(text), expected, "{text}");
        }
    }

    #[test]
    fn texts_are_compared_without_spacing() {
        for (left, right) in [
            ("(3, 4)", "( 3,4 )"),
            ("$x + 1$", "x+1"),
            ("\\left( x \\right)", "(x)"),
            ("1 : 2", "1:2"),
            ("x ^ { 2 } + 1", "x^{2}+1"),
            ("\\( A B \\)", "A B"),
            ("Ａ", "A"),
            ("$\\boxed{B}$", "B"),
            ("\\text{B}", "B"),
        ] {
            assert_eq!(text_form(left), text_form(right), "{left} and {right}");
        }
        for (left, right) in [
            ("A", "a"),
            ("a b", "ab"),
            ("A", "A."),
            ("(3,4)", "(4,3)"),
            ("1:2", "2:1"),
            ("\\leftarrow", "arrow"),
            ("x+1", "x-1"),
        ] {
            assert_ne!(text_form(left), text_form(right), "{left} and {right}");
        }
    }
}
