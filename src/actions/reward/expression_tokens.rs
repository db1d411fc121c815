//! Cuts a numeric expression into tokens, plain text and LaTeX alike; knows nothing of precedence.

/// A piece of an expression.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Token {
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
    Unit,
}

/// Words that may follow a number without changing it.
const UNITS: &str = "mm cm dm m km meter meters metre metres centimeter centimeters in inch inches ft foot feet \
    yd yard yards mi mile miles deg degree degrees rad radian radians unit units square sq \
    cubic s sec second seconds min minute minutes h hr hour hours g gram grams kg l ml dollar \
    dollars cents";

/// The tokens of `text`; `None` at the first thing that has no place in a numeric expression.
pub(super) fn tokenize(text: &str) -> Option<Vec<Token>> {
    let mut cursor = Cursor {
        rest: text,
        tokens: Vec::new(),
    };
    while let Some(character) = cursor.rest.chars().next() {
        cursor.step(character)?;
    }
    Some(cursor.tokens)
}

struct Cursor<'a> {
    rest: &'a str,
    tokens: Vec<Token>,
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
            '²' | '³' => {
                self.tokens.push(Token::Power);
                let value = if character == '²' { 2.0 } else { 3.0 };
                self.push(
                    Token::Number {
                        value,
                        decimal: false,
                    },
                    character.len_utf8(),
                )
            }
            'a'..='z' | 'A'..='Z' => self.word(),
            // Dollar signs delimit formulas or name a currency, a tilde is a space, a degree sign changes no value.
            '$' | '~' | '°' => {
                self.advance(character.len_utf8());
                Some(())
            }
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

    fn push(&mut self, token: Token, bytes: usize) -> Option<()> {
        self.tokens.push(token);
        self.advance(bytes);
        Some(())
    }

    /// Digits with optional thousands separators (`,` or `{,}`), decimals and exponent.
    fn number(&mut self) -> Option<()> {
        let mut written = String::from(self.take_digits());
        let grouped = (1..=3).contains(&written.len());
        while grouped && let Some(group) = self.thousands_group() {
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
        self.tokens.push(Token::Number { value, decimal });
        Some(())
    }

    fn take_digits(&mut self) -> &'a str {
        let length = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.rest.split_at(length);
        self.rest = rest;
        digits
    }

    fn thousands_group(&mut self) -> Option<&'a str> {
        let after = self
            .rest
            .strip_prefix("{,}")
            .or_else(|| self.rest.strip_prefix(','))?;
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        if digits != 3 {
            return None;
        }
        self.rest = &after[3..];
        Some(&after[..3])
    }

    /// A power sign was read; `^\circ` and `^{\circ}` are degree signs instead.
    fn power(&mut self) -> Option<()> {
        for degree in ["\\circ", "{\\circ}", "°", "{°}"] {
            if let Some(rest) = self.rest.trim_start().strip_prefix(degree) {
                self.rest = rest;
                return Some(());
            }
        }
        self.tokens.push(Token::Power);
        Some(())
    }

    fn word(&mut self) -> Option<()> {
        let word = self.take_letters();
        let token = match word.to_ascii_lowercase().as_str() {
            "pi" => Token::Pi,
            "sqrt" => Token::Root,
            "percent" => Token::Percent,
            unit if UNITS.split(' ').any(|known| known == unit) => Token::Unit,
            _ => return None,
        };
        self.tokens.push(token);
        Some(())
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
                self.tokens.push(Token::Fraction);
                self.single_digits(2);
            }
            "sqrt" => {
                self.tokens.push(Token::Root);
                self.single_digits(1);
            }
            "pi" => self.tokens.push(Token::Pi),
            "times" | "cdot" | "ast" => self.tokens.push(Token::Times),
            "div" => self.tokens.push(Token::Divide),
            "text" | "mathrm" | "textrm" | "mbox" => return self.unit_text(),
            "left" | "right" | "boxed" | "quad" | "displaystyle" | "degree" => {}
            _ => return None,
        }
        Some(())
    }

    /// After a backslash: spacing (`\,`), formula delimiters (`\(`), `\%` and `\$`.
    fn escaped_symbol(&mut self) -> Option<()> {
        let character = self.rest.chars().next()?;
        match character {
            '%' => self.tokens.push(Token::Percent),
            ',' | ';' | ':' | '!' | ' ' | '(' | ')' | '[' | ']' | '$' => {}
            _ => return None,
        }
        self.advance(character.len_utf8());
        Some(())
    }

    /// `\frac12` and `\sqrt2` take single digits.
    fn single_digits(&mut self, at_most: usize) {
        for _ in 0..at_most {
            let Some(digit) = self
                .rest
                .trim_start()
                .chars()
                .next()
                .and_then(|digit| digit.to_digit(10))
            else {
                return;
            };
            self.rest = &self.rest.trim_start()[1..];
            self.tokens.push(Token::Number {
                value: f64::from(digit),
                decimal: false,
            });
        }
    }

    /// `\text{…}`: whatever it says is a unit, unless it holds digits.
    fn unit_text(&mut self) -> Option<()> {
        let (content, rest) = self.rest.trim_start().strip_prefix('{')?.split_once('}')?;
        if content.contains(|character: char| character.is_numeric()) {
            return None;
        }
        self.rest = rest;
        self.tokens.push(Token::Unit);
        Some(())
    }
}

fn symbol(character: char) -> Option<Token> {
    Some(match character {
        '+' => Token::Plus,
        '-' | '−' | '–' => Token::Minus,
        '×' | '·' => Token::Times,
        '/' | '÷' => Token::Divide,
        '%' => Token::Percent,
        '√' => Token::Root,
        'π' => Token::Pi,
        '(' => Token::Open(')'),
        '[' => Token::Open(']'),
        '{' => Token::Open('}'),
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

    fn whole(value: f64) -> Token {
        Token::Number {
            value,
            decimal: false,
        }
    }

    #[test]
    fn thousands_separators_need_groups_of_three() {
        assert_eq!(tokenize("1,234"), Some(vec![whole(1234.0)]));
        assert_eq!(tokenize("1{,}234{,}567"), Some(vec![whole(1_234_567.0)]));
        assert_eq!(tokenize("1,2345"), None);
        assert_eq!(tokenize("1234,567"), None);
        assert_eq!(tokenize("1,23"), None);
    }

    #[test]
    fn a_lone_point_is_no_number() {
        assert_eq!(tokenize("."), None);
        assert_eq!(
            tokenize("3."),
            Some(vec![Token::Number {
                value: 3.0,
                decimal: true
            }])
        );
        assert_eq!(
            tokenize("1.2.3"),
            Some(vec![
                Token::Number {
                    value: 1.2,
                    decimal: true
                },
                Token::Number {
                    value: 0.3,
                    decimal: true
                }
            ])
        );
    }

    #[test]
    fn latex_arguments_without_braces_are_single_digits() {
        assert_eq!(
            tokenize("\\frac12"),
            Some(vec![Token::Fraction, whole(1.0), whole(2.0)])
        );
        assert_eq!(
            tokenize("\\sqrt 23"),
            Some(vec![Token::Root, whole(2.0), whole(3.0)])
        );
    }

    #[test]
    fn degree_signs_vanish_and_units_stay() {
        assert_eq!(tokenize("30^{\\circ}"), Some(vec![whole(30.0)]));
        assert_eq!(tokenize("30 degrees"), Some(vec![whole(30.0), Token::Unit]));
        assert_eq!(
            tokenize("30\\text{ cm}"),
            Some(vec![whole(30.0), Token::Unit])
        );
        assert_eq!(tokenize("\\text{4 cm}"), None);
        assert_eq!(tokenize("30 apples"), None);
    }

    #[test]
    fn words_are_case_insensitive() {
        assert_eq!(tokenize("2PI"), Some(vec![whole(2.0), Token::Pi]));
        assert_eq!(tokenize("3 CM"), Some(vec![whole(3.0), Token::Unit]));
    }
}
