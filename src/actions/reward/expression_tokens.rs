//! Cuts a numeric expression into tokens, plain text and LaTeX alike; knows nothing of precedence.

use super::unit::{is_word_of_unit, known};

/// A piece of an expression.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Token<'a> {
    /// A number without sign, and whether it was written with a decimal point.
    Number {
        value: f64,
        decimal: bool,
    },
    Pi,
    Plus,
    Minus,
    Times,
    Divide,
    Power,
    Percent,
    /// Square root, or another with a bracketed index.
    Root,
    Fraction,
    /// An opening bracket, by the one that closes it.
    Open(char),
    Close(char),
    /// A word that says what is counted or measured.
    Unit(&'a str),
    /// `million` and its like, after a number.
    Scale(f64),
}

/// The tokens of an expression, and what was said beside them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Tokens<'a> {
    pub(super) list: Vec<Token<'a>>,
    /// A degree sign or a sign of currency: it may stand anywhere and changes no value.
    pub(super) sign: Option<&'static str>,
    /// The digits of the last number, as they were written but for separators.
    pub(super) written: String,
}

/// Words that multiply the number before them.
const SCALES: [(&str, f64); 6] = [
    ("hundred", 1e2),
    ("thousand", 1e3),
    ("million", 1e6),
    ("millions", 1e6),
    ("billion", 1e9),
    ("trillion", 1e12),
];
/// What stands in the exponent of a degree: the ring, its names, and a plain letter (read without white space).
const DEGREES: [&str; 9] = [
    "\\circ",
    "°",
    "o",
    "\\text{o}",
    "\\mathrm{o}",
    "\\textrm{o}",
    "\\text{\\circ}",
    "\\mathrm{\\circ}",
    "\\mathrm{°}",
];
/// Longest exponent that is looked at as a degree.
const LONGEST_DEGREE: usize = 32;

/// The tokens of `text`; `None` at the first thing that has no place in a numeric expression.
pub(super) fn tokenize(text: &str) -> Option<Tokens<'_>> {
    let mut cursor = Cursor {
        rest: text,
        tokens: Tokens::default(),
        // One dollar sign is money; two or more delimit a formula.
        has_one_dollar: text.bytes().filter(|byte| *byte == b'$').take(2).count() == 1,
    };
    while let Some(character) = cursor.rest.chars().next() {
        cursor.step(character)?;
    }
    Some(cursor.tokens)
}

struct Cursor<'a> {
    rest: &'a str,
    tokens: Tokens<'a>,
    has_one_dollar: bool,
}

impl<'a> Cursor<'a> {
    fn step(&mut self, character: char) -> Option<()> {
        match character {
            '0'..='9' | '.' => self.number(),
            '\\' => self.command(),
            '^' => {
                self.advance(1);
                self.power()
            }
            '*' => {
                let doubled = self.rest.starts_with("**");
                self.push(
                    if doubled { Token::Power } else { Token::Times },
                    1 + usize::from(doubled),
                )
            }
            'a'..='z' | 'A'..='Z' => self.word(),
            '°' => {
                self.advance(character.len_utf8());
                self.degree()
            }
            '$' => {
                self.advance(1);
                if self.has_one_dollar {
                    self.tokens.sign = Some("$");
                }
                Some(())
            }
            '€' | '£' | '¥' | '₹' | '¢' => {
                self.advance(character.len_utf8());
                self.tokens.sign = Some(match character {
                    '€' => "€",
                    '£' => "£",
                    '¥' => "¥",
                    '₹' => "₹",
                    _ => "¢",
                });
                Some(())
            }
            // In LaTeX a tilde is a space.
            '~' => {
                self.advance(1);
                Some(())
            }
            '{' => self.brace(),
            _ if character.is_whitespace() => {
                self.advance(character.len_utf8());
                Some(())
            }
            _ => self.push(symbol(character)?, character.len_utf8()),
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    fn push(&mut self, token: Token<'a>, bytes: usize) -> Option<()> {
        self.tokens.list.push(token);
        self.advance(bytes);
        Some(())
    }

    /// An empty pair of braces only carries an exponent (`{}^\circ`).
    fn brace(&mut self) -> Option<()> {
        let inside = self.rest[1..].trim_start();
        if let Some(rest) = inside.strip_prefix('}') {
            self.rest = rest;
            return Some(());
        }
        self.push(Token::Open('}'), 1)
    }

    /// Digits with optional thousands separators, decimals and exponent.
    fn number(&mut self) -> Option<()> {
        let mut written = String::from(self.take_digits());
        let grouped = (1..=3).contains(&written.len());
        let mut separator = None;
        while grouped && let Some((found, group)) = self.thousands_group(separator) {
            separator = Some(found);
            written.push_str(group);
        }
        let decimal = self.rest.starts_with('.');
        if decimal {
            self.advance(1);
            written.push('.');
            written.push_str(self.take_digits());
        }
        if let Some(length) = exponent_length(self.rest) {
            written.push_str(&self.rest[..length]);
            self.advance(length);
        }
        let value = written.parse().ok()?;
        self.tokens.written = written;
        self.tokens.list.push(Token::Number { value, decimal });
        Some(())
    }

    fn take_digits(&mut self) -> &'a str {
        let length = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.rest.split_at(length);
        self.rest = rest;
        digits
    }

    /// Three digits after a separator, the same one throughout a number.
    fn thousands_group(
        &mut self,
        separator: Option<&'static str>,
    ) -> Option<(&'static str, &'a str)> {
        const SEPARATORS: [&str; 6] = ["{,}", ",", "\\,", "\\ ", "~", " "];
        let separator = match separator {
            Some(separator) => separator,
            None => SEPARATORS
                .into_iter()
                .find(|separator| self.rest.starts_with(separator))?,
        };
        let after = self.rest.strip_prefix(separator)?;
        let digits = after.bytes().take(4).take_while(u8::is_ascii_digit).count();
        // `1 100/200` is a mixed number, if anything.
        let is_fraction = separator == " " && after[digits..].trim_start().starts_with('/');
        if digits != 3 || is_fraction {
            return None;
        }
        self.rest = &after[3..];
        Some((separator, &after[..3]))
    }

    /// A power sign was read; what stands in a degree's exponent makes it a degree sign instead.
    fn power(&mut self) -> Option<()> {
        let rest = self.rest.trim_start();
        let exponent = exponent_text(rest);
        let compact: String = exponent.split_whitespace().collect();
        let inside = compact
            .strip_prefix('{')
            .and_then(|inside| inside.strip_suffix('}'));
        if DEGREES.contains(&inside.unwrap_or(&compact)) {
            self.rest = &rest[exponent.len()..];
            return self.degree();
        }
        self.tokens.list.push(Token::Power);
        Some(())
    }

    /// A degree sign was read: of an angle, or with `C` or `F` of temperature.
    fn degree(&mut self) -> Option<()> {
        self.tokens.sign = Some("deg");
        let rest = self.rest.trim_start_matches([' ', '\\', ',', '~']);
        for (names, sign) in [
            (["C", "mathrm{C}", "text{C}"], "°C"),
            (["F", "mathrm{F}", "text{F}"], "°F"),
        ] {
            for name in names {
                let after = rest.strip_prefix(name);
                if let Some(after) = after.filter(|after| !starts_with_letter(after)) {
                    self.tokens.sign = Some(sign);
                    self.rest = after;
                    return Some(());
                }
            }
        }
        Some(())
    }

    fn word(&mut self) -> Option<()> {
        let word = self.take_letters();
        self.push_word(word)?;
        // `cm2` is a power; `cm 2` is not.
        let mut after = self.rest.chars();
        let value = match after.next() {
            Some('2') => 2.0,
            Some('3') => 3.0,
            _ => return Some(()),
        };
        let goes_on = after
            .next()
            .is_some_and(|next| next.is_ascii_digit() || next == '.');
        if !goes_on && matches!(self.tokens.list.last(), Some(Token::Unit(_))) {
            let decimal = false;
            self.tokens.list.push(Token::Power);
            return self.push(Token::Number { value, decimal }, 1);
        }
        Some(())
    }

    fn push_word(&mut self, word: &'a str) -> Option<()> {
        let lower = word.to_ascii_lowercase();
        let scale = SCALES.iter().find(|(name, _)| *name == lower);
        let token = match lower.as_str() {
            "pi" => Token::Pi,
            "sqrt" => Token::Root,
            "percent" | "pct" => Token::Percent,
            // `1.5 x 10^3`, but not `2 x 3`.
            "x" if self.is_before_ten() => Token::Times,
            _ if scale.is_some() => Token::Scale(scale?.1),
            _ if is_word_of_unit(word) => Token::Unit(word),
            _ => return None,
        };
        self.tokens.list.push(token);
        Some(())
    }

    fn is_before_ten(&self) -> bool {
        let power = self.rest.trim_start().strip_prefix("10");
        power.is_some_and(|rest| rest.trim_start().starts_with(['^', '*']))
    }

    fn take_letters(&mut self) -> &'a str {
        let length = self
            .rest
            .bytes()
            .take_while(u8::is_ascii_alphabetic)
            .count();
        let (letters, rest) = self.rest.split_at(length);
        self.rest = rest;
        letters
    }

    /// A LaTeX command.
    fn command(&mut self) -> Option<()> {
        self.advance(1);
        let name = self.take_letters();
        match name {
            "" => return self.escaped_symbol(),
            "frac" | "dfrac" | "tfrac" | "cfrac" => {
                self.tokens.list.push(Token::Fraction);
                self.single_digits(2);
            }
            "sqrt" => {
                self.tokens.list.push(Token::Root);
                self.single_digits(1);
            }
            "pi" => self.tokens.list.push(Token::Pi),
            "times" | "cdot" | "ast" => self.tokens.list.push(Token::Times),
            "div" => self.tokens.list.push(Token::Divide),
            "text" | "mathrm" | "textrm" | "mbox" | "textbf" | "mathbf" | "textit" | "mathit"
            | "mathsf" | "operatorname" | "textnormal" => return self.wording(),
            // A ring without a power sign; OCR loses it.
            "circ" => return self.degree(),
            "left" | "right" | "boxed" | "fbox" | "quad" | "qquad" | "displaystyle"
            | "textstyle" | "rm" | "bf" | "it" | "big" | "Big" => {}
            _ => return None,
        }
        Some(())
    }

    /// After a backslash: spacing (`\,`), formula delimiters (`\(`), `\%` and `\$`.
    fn escaped_symbol(&mut self) -> Option<()> {
        let character = self.rest.chars().next()?;
        match character {
            '%' => self.tokens.list.push(Token::Percent),
            '$' => self.tokens.sign = Some("$"),
            ',' | ';' | ':' | '!' | ' ' | '(' | ')' | '[' | ']' => {}
            _ => return None,
        }
        self.advance(character.len_utf8());
        Some(())
    }

    /// `\frac12` and `\sqrt2` take single digits.
    fn single_digits(&mut self, at_most: usize) {
        for _ in 0..at_most {
            let rest = self.rest.trim_start();
            let digit = rest.chars().next().and_then(|digit| digit.to_digit(10));
            let Some(digit) = digit else {
                return;
            };
            self.rest = &rest[1..];
            self.tokens.list.push(Token::Number {
                value: f64::from(digit),
                decimal: false,
            });
        }
    }

    /// `\text{…}`: words of units, an expression in other letters (`\text{120 cm}`, `\mathbf{3}`), or a thing that is
    /// counted.
    fn wording(&mut self) -> Option<()> {
        let inside = self.rest.trim_start().strip_prefix('{')?;
        let (content, rest) = inside.split_once('}')?;
        if content.contains('{') {
            // An expression with commands of its own; the braces make it one operand.
            self.rest = self.rest.trim_start();
            return Some(());
        }
        let calculates = |character: char| character.is_numeric() || "/^·".contains(character);
        if content.contains(calculates) {
            self.rest = content;
            while let Some(character) = self.rest.chars().next() {
                self.step(character)?;
            }
            self.rest = rest;
            return Some(());
        }
        self.rest = rest;
        let content = content.trim_matches(|letter: char| letter.is_whitespace() || letter == '~');
        // Formula OCR puts spaces between all letters.
        let joined: String = content.split_whitespace().take(LONGEST_DEGREE).collect();
        let is_known = |word: &str| is_word_of_unit(word) || ["percent", "%"].contains(&word);
        if content.split_whitespace().all(is_known) {
            for word in content.split_whitespace() {
                match word {
                    "%" => self.tokens.list.push(Token::Percent),
                    word => self.push_word(word)?,
                }
            }
            return Some(());
        }
        if let Some(name) = known(&joined) {
            self.tokens.list.push(Token::Unit(name));
            return Some(());
        }
        if content.contains(['\\', '$', '%', '=']) {
            return None;
        }
        self.tokens.list.push(Token::Unit(content));
        Some(())
    }
}

/// The exponent at the beginning of a text: a braced group, a command with or without one, or one character.
fn exponent_text(text: &str) -> &str {
    let mut depth = 0_usize;
    let mut in_command = false;
    for (index, character) in text.char_indices().take(LONGEST_DEGREE) {
        match character {
            '{' => depth += 1,
            '}' if depth <= 1 => return &text[..=index],
            '}' => depth -= 1,
            _ if depth > 0 => {}
            '\\' if index == 0 => in_command = true,
            _ if in_command && character.is_ascii_alphabetic() => {}
            _ if in_command => return &text[..index],
            _ if starts_with_letter(&text[index + character.len_utf8()..]) => return "",
            _ => return &text[..index + character.len_utf8()],
        }
    }
    let is_short = text.char_indices().nth(LONGEST_DEGREE).is_none();
    if depth == 0 && is_short { text } else { "" }
}

fn starts_with_letter(text: &str) -> bool {
    text.starts_with(|next: char| next.is_ascii_alphabetic())
}

fn symbol(character: char) -> Option<Token<'static>> {
    Some(match character {
        '+' => Token::Plus,
        '-' => Token::Minus,
        '×' | '·' => Token::Times,
        '/' | '÷' => Token::Divide,
        '%' => Token::Percent,
        '√' => Token::Root,
        'π' => Token::Pi,
        '(' => Token::Open(')'),
        '[' => Token::Open(']'),
        ')' | ']' | '}' => Token::Close(character),
        _ => return None,
    })
}

/// Bytes of an exponent at the start of `text`: `e3`, `E-12`.
fn exponent_length(text: &str) -> Option<usize> {
    let after = text.strip_prefix(['e', 'E'])?;
    let digits = after.strip_prefix(['+', '-']).unwrap_or(after);
    let count = digits.bytes().take_while(u8::is_ascii_digit).count();
    (count > 0).then(|| text.len() - digits.len() + count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(value: f64) -> Token<'static> {
        Token::Number {
            value,
            decimal: false,
        }
    }

    fn list(text: &str) -> Option<Vec<Token<'_>>> {
        tokenize(text).map(|tokens| tokens.list)
    }

    #[test]
    fn thousands_separators_need_groups_of_three() {
        for text in [
            "1,234,567",
            "1{,}234{,}567",
            "1\\,234\\,567",
            "1 234 567",
            "1~234~567",
        ] {
            assert_eq!(list(text), Some(vec![whole(1_234_567.0)]), "{text}");
        }
        for text in ["1,2345", "1234,567", "1,23", "1,234{,}567"] {
            assert_eq!(list(text), None, "{text}");
        }
        assert_eq!(list("3 4"), Some(vec![whole(3.0), whole(4.0)]));
    }

    #[test]
    fn a_lone_point_is_no_number() {
        let decimal = |value| Token::Number {
            value,
            decimal: true,
        };
        assert_eq!(list("."), None);
        assert_eq!(list("3."), Some(vec![decimal(3.0)]));
        assert_eq!(list("1.2.3"), Some(vec![decimal(1.2), decimal(0.3)]));
    }

    #[test]
    fn latex_arguments_without_braces_are_single_digits() {
        let half = Some(vec![Token::Fraction, whole(1.0), whole(2.0)]);
        assert_eq!(list("\\frac12"), half);
        assert_eq!(list("\\frac 1 2"), half);
        let root = Some(vec![Token::Root, whole(2.0), whole(3.0)]);
        assert_eq!(list("\\sqrt 23"), root);
    }

    #[test]
    fn degrees_are_a_sign_and_units_are_words() {
        for text in [
            "30°",
            "30^\\circ",
            "30^{\\circ}",
            "30 ^ { \\circ }",
            "30{}^{\\circ}",
            "30^o",
            "30^{o}",
            "30^\\text{o}",
            "30^{\\text{o}}",
            "30^{\\mathrm { o }}",
            "30^{°}",
            "30\\circ",
        ] {
            let found = tokenize(text).expect(text);
            assert_eq!(
                (found.list, found.sign),
                (vec![whole(30.0)], Some("deg")),
                "{text}"
            );
        }
        for text in [
            "25°C",
            "25 ^\\circ C",
            "25^{\\circ}\\mathrm{C}",
            "25 ^{\\circ} \\text{C}",
        ] {
            assert_eq!(tokenize(text).expect(text).sign, Some("°C"), "{text}");
        }
        assert_eq!(
            list("30 degrees"),
            Some(vec![whole(30.0), Token::Unit("degrees")])
        );
        assert_eq!(
            list("30\\text{ cm}"),
            Some(vec![whole(30.0), Token::Unit("cm")])
        );
        assert_eq!(
            list("30\\mathrm{~cm}"),
            Some(vec![whole(30.0), Token::Unit("cm")])
        );
        assert_eq!(
            list("3\\text{ red cubes}"),
            Some(vec![whole(3.0), Token::Unit("red cubes")])
        );
        assert_eq!(list("30 apples"), None);
        assert_eq!(list("30^ox"), None);
    }

    #[test]
    fn words_are_case_insensitive() {
        assert_eq!(list("2PI"), Some(vec![whole(2.0), Token::Pi]));
        assert_eq!(list("3 CM"), Some(vec![whole(3.0), Token::Unit("CM")]));
        assert_eq!(list("3 M"), None);
    }
}
