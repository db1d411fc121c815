//! Evaluates a closed numeric expression written in plain text or LaTeX; knows nothing of the text around it.
//!
//! Numbers (thousands separators, decimals, exponents), `+ - * / ^`, brackets, `\frac`, `\sqrt`, π, implicit products
//! (`2\pi`), mixed numbers (`1\frac{1}{2}`, `1 1/2`), then an optional percent sign, degree sign or known unit. Anything
//! else, a non-finite result included, is `None`. Work is linear in the text and nesting is bounded.

use super::expression_tokens::{Token, Tokens, tokenize};
use super::spelling::plain;
use super::unit::Unit;

/// Brackets, fractions and roots inside one another beyond this depth are refused.
const MAXIMUM_DEPTH: usize = 32;

/// The value of an expression, with what matters when it is compared.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Value {
    /// Finite; a percentage holds its face value.
    pub(super) number: f64,
    /// Whether a percent sign ends the expression.
    pub(super) percent: bool,
    /// Whether a decimal point occurs: the number may then stand for a rounded one.
    pub(super) decimal: bool,
    /// The digits of a whole number that was written as such (`-0012.0` is `-12`): exact where an `f64` is not.
    pub(super) integer: Option<String>,
    /// What is counted or measured.
    pub(super) unit: Unit,
    /// Whether it states a number, in place of computing one: `2\sqrt{3}` and `x = 5` do, `5 + 1 = 6` does not.
    pub(super) is_statement: bool,
}

impl Value {
    /// The number, a percentage divided by 100.
    pub(super) fn fraction(&self) -> f64 {
        if self.percent {
            self.number / 100.0
        } else {
            self.number
        }
    }
}

/// The value of `text`, or of what follows its last equals sign; `None` if that is not a closed numeric expression.
pub(super) fn evaluate(text: &str) -> Option<Value> {
    let text = plain(text);
    let (left, side) = match text.rfind(['=', '≈']) {
        Some(sign) => {
            let (left, right) = text.split_at(sign);
            let sign = right.chars().next().map_or(0, char::len_utf8);
            (left, &right[sign..])
        }
        None => ("", text.as_ref()),
    };
    let tokens = tokenize(side.trim().trim_end_matches(['.', ' ']))?;
    let mut parser = Parser {
        tokens: &tokens.list,
        position: 0,
        depth: 0,
    };
    let number = parser.sum()?;
    let percent = parser.accept(Token::Percent);
    let mut unit = parser.units()?;
    if let Some(sign) = tokens.sign {
        unit.and(sign);
    }
    let is_decimal = |token: &Token<'_>| matches!(token, Token::Number { decimal: true, .. });
    number.is_finite().then(|| Value {
        number,
        percent,
        decimal: tokens.list.iter().any(is_decimal),
        integer: integer(&tokens),
        unit: unit.settled(),
        is_statement: is_statement(&tokens.list) && !left.contains(|c: char| c.is_numeric()),
    })
}

/// The digits of a lone whole number.
fn integer(tokens: &Tokens<'_>) -> Option<String> {
    let mut numbers = tokens.list.iter();
    let is_operand = |token: &&Token<'_>| {
        !matches!(
            token,
            Token::Percent
                | Token::Unit(_)
                | Token::Plus
                | Token::Minus
                | Token::Open(_)
                | Token::Close(_)
        )
    };
    let alone = numbers.clone().filter(is_operand).count() == 1;
    let is_number = |token: &Token<'_>| matches!(token, Token::Number { .. });
    let place = numbers.position(is_number).filter(|_| alone)?;
    let (whole, decimals) = match tokens.written.split_once('.') {
        Some((whole, decimals)) => (whole, decimals),
        None => (tokens.written.as_str(), ""),
    };
    if whole.is_empty()
        || !whole.bytes().all(|byte| byte.is_ascii_digit())
        || !decimals.bytes().all(|byte| byte == b'0')
    {
        return None;
    }
    let digits = whole.trim_start_matches('0');
    let minuses = tokens.list[..place]
        .iter()
        .filter(|token| **token == Token::Minus);
    Some(match (digits, minuses.count() % 2) {
        ("", _) => "0".to_owned(),
        (digits, 0) => digits.to_owned(),
        (digits, _) => format!("-{digits}"),
    })
}

/// Whether nothing is to be computed: no sum, at most one quotient, and products of numbers only with powers of ten.
fn is_statement(tokens: &[Token<'_>]) -> bool {
    let mut quotients = 0;
    for (index, token) in tokens.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|index| tokens.get(index));
        let sign_place = matches!(
            before,
            None | Some(Token::Open(_) | Token::Power | Token::Fraction | Token::Divide)
        );
        let before_unit = matches!(tokens.get(index + 1), Some(Token::Unit(_)));
        let good = match token {
            Token::Plus | Token::Minus => sign_place,
            Token::Times => {
                before_unit
                    || matches!(
                        tokens.get(index + 1..index + 3),
                        Some([Token::Number { value: 10.0, .. }, Token::Power])
                    )
                    || matches!(tokens.get(index + 1), Some(Token::Root | Token::Pi))
            }
            Token::Divide if before_unit => true,
            Token::Divide => {
                quotients += 1;
                quotients == 1
            }
            _ => true,
        };
        if !good {
            return false;
        }
    }
    true
}

struct Parser<'a> {
    tokens: &'a [Token<'a>],
    position: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.position).copied()
    }

    fn accept(&mut self, expected: Token<'_>) -> bool {
        let found = self.peek() == Some(expected);
        self.position += usize::from(found);
        found
    }

    /// product (('+' | '-') product)*
    fn sum(&mut self) -> Option<f64> {
        let mut total = self.product()?;
        loop {
            if self.accept(Token::Plus) {
                total += self.product()?;
            } else if self.accept(Token::Minus) {
                total -= self.product()?;
            } else {
                return Some(total);
            }
        }
    }

    /// signed ('*' signed | '/' signed | power)*; a power without operator is an implicit factor, never a plain number.
    fn product(&mut self) -> Option<f64> {
        let mut total = self.signed()?;
        loop {
            // `km/h`: the slash of a unit is not a division.
            let before_unit = matches!(self.tokens.get(self.position + 1), Some(Token::Unit(_)));
            if !before_unit && self.accept(Token::Times) {
                total *= self.signed()?;
            } else if !before_unit && self.accept(Token::Divide) {
                total /= self.signed()?;
            } else if matches!(
                self.peek(),
                Some(Token::Open(_) | Token::Root | Token::Fraction | Token::Pi)
            ) {
                total *= self.power()?;
            } else {
                return Some(total);
            }
        }
    }

    /// ('+' | '-')* power
    fn signed(&mut self) -> Option<f64> {
        let mut sign = 1.0;
        loop {
            if self.accept(Token::Minus) {
                sign = -sign;
            } else if !self.accept(Token::Plus) {
                return Some(sign * self.power()?);
            }
        }
    }

    /// primary ('^' sign* primary)*, right to left.
    fn power(&mut self) -> Option<f64> {
        let mut tower = vec![self.primary()?];
        while self.accept(Token::Power) {
            let mut sign = 1.0;
            while self.accept(Token::Minus) {
                sign = -sign;
            }
            tower.push(sign * self.primary()?);
        }
        tower
            .into_iter()
            .rev()
            .reduce(|exponent, base: f64| base.powf(exponent))
    }

    fn primary(&mut self) -> Option<f64> {
        let token = self.peek()?;
        self.position += 1;
        match token {
            Token::Number { value, decimal } => self.mixed_number(value, decimal),
            Token::Pi => Some(std::f64::consts::PI),
            Token::Open(closing) => self.inside(closing),
            Token::Fraction => Some(self.argument()? / self.argument()?),
            Token::Root => {
                let index = if self.accept(Token::Open(']')) {
                    self.inside(']')?
                } else {
                    2.0
                };
                let radicand = self.argument()?;
                (radicand >= 0.0).then(|| {
                    if index == 2.0 {
                        radicand.sqrt()
                    } else {
                        radicand.powf(1.0 / index)
                    }
                })
            }
            _ => None,
        }
    }

    /// A whole number directly before a fraction is added to it: `1\frac{1}{2}` and `1 1/2` are 1.5. A word such as
    /// `million` multiplies it.
    fn mixed_number(&mut self, value: f64, decimal: bool) -> Option<f64> {
        if !decimal && self.accept(Token::Fraction) {
            return Some(value + self.argument()? / self.argument()?);
        }
        let after = self.tokens.get(self.position..self.position + 3);
        if let Some(
            [
                Token::Number {
                    value: part,
                    decimal: false,
                },
                Token::Divide,
                Token::Number {
                    value: whole,
                    decimal: false,
                },
            ],
        ) = after
            && !decimal
            && part < whole
        {
            self.position += 3;
            return Some(value + part / whole);
        }
        let mut value = value;
        while let Some(Token::Scale(scale)) = self.peek() {
            self.position += 1;
            value *= scale;
        }
        Some(value)
    }

    /// What `\frac` and `\sqrt` take: a bracketed expression, a number or π.
    fn argument(&mut self) -> Option<f64> {
        let token = self.peek()?;
        self.position += 1;
        match token {
            Token::Number { value, .. } => Some(value),
            Token::Pi => Some(std::f64::consts::PI),
            Token::Open(closing) => self.inside(closing),
            _ => None,
        }
    }

    fn inside(&mut self, closing: char) -> Option<f64> {
        if self.depth == MAXIMUM_DEPTH {
            return None;
        }
        self.depth += 1;
        let value = self.sum()?;
        self.depth -= 1;
        self.accept(Token::Close(closing)).then_some(value)
    }

    /// Nothing more, or units with their powers and quotients up to the end: `cm`, `cm^2`, `km/h`.
    fn units(&mut self) -> Option<Unit> {
        let mut unit = Unit::default();
        while let Some(token) = self.peek() {
            self.position += 1;
            let before_unit = matches!(self.peek(), Some(Token::Unit(_)));
            match token {
                Token::Unit(word) => unit.word(word),
                Token::Divide if before_unit => unit.divide(),
                Token::Times if before_unit => {}
                Token::Power => unit.raise(self.unit_power()?),
                _ => return None,
            }
        }
        Some(unit)
    }

    /// A small whole number, after a unit.
    fn unit_power(&mut self) -> Option<i32> {
        let before = self.position.checked_sub(2)?;
        let after_unit = matches!(self.tokens.get(before), Some(Token::Unit(_)));
        let sign = if self.accept(Token::Minus) { -1.0 } else { 1.0 };
        let power = sign * self.argument()?;
        let whole = power.fract() == 0.0 && power.abs() < 10.0;
        (after_unit && whole).then_some(power as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Option<f64> {
        evaluate(text).map(|value| value.number)
    }

    #[test]
    fn arithmetic_follows_the_usual_precedence() {
        for (text, expected) in [
            ("1 + 2 * 3", 7.0),
            ("(1 + 2) * 3", 9.0),
            ("2 - 3 - 4", -5.0),
            ("12 / 3 / 2", 2.0),
            ("2^3^2", 512.0),
            ("2**3", 8.0),
            ("-2^2", -4.0),
            ("2^{-1}", 0.5),
            ("2^-1", 0.5),
            ("--3", 3.0),
            ("3 × 4 ÷ 2", 6.0),
            ("3 \\cdot 4 \\div 2", 6.0),
            ("[2 + 1]", 3.0),
            ("\\left(2 + 1\\right)", 3.0),
            (".5", 0.5),
            ("1e3", 1000.0),
            ("2.5E-1", 0.25),
            ("1,234,567.5", 1_234_567.5),
            ("4²", 16.0),
            ("\\boxed{3}", 3.0),
        ] {
            assert_eq!(number(text), Some(expected), "{text:?}");
        }
    }

    #[test]
    fn roots_fractions_and_implicit_products() {
        for (text, expected) in [
            ("\\frac12", 0.5),
            ("\\frac{3}{4}", 0.75),
            ("\\tfrac{1+2}{4}", 0.75),
            ("-\\frac{1}{2}", -0.5),
            ("1\\frac{1}{2}", 1.5),
            ("1 \\frac { 1 } { 2 }", 1.5),
            ("1 1/2", 1.5),
            ("-1 1/2", -1.5),
            ("1½", 1.5),
            ("2.5 million", 2.5e6),
            ("1.5 x 10^3", 1500.0),
            ("1.5×10⁻³", 0.0015),
            ("\\mathbf{3}", 3.0),
            ("\\text{3 cm}", 3.0),
            ("-1\\frac{1}{2}", -1.5),
            ("\\sqrt{16}", 4.0),
            ("\\sqrt9", 3.0),
            ("sqrt(16)", 4.0),
            ("√16", 4.0),
            ("\\sqrt[3]{8}", 2.0),
            ("2(3+4)", 14.0),
            ("(2)(3)", 6.0),
            ("3\\sqrt{4}", 6.0),
            ("2\\pi", 2.0 * std::f64::consts::PI),
            ("π/2", std::f64::consts::FRAC_PI_2),
            ("\\frac{\\pi}{2}", std::f64::consts::FRAC_PI_2),
        ] {
            let found = number(text).unwrap_or(f64::NAN);
            assert!(
                (found - expected).abs() < 1e-12,
                "{text:?}: {found}, not {expected}"
            );
        }
    }

    #[test]
    fn units_and_signs_after_the_number_are_dropped() {
        for text in [
            "12 cm",
            "12cm^2",
            "12 cm²",
            "12 km/h",
            "12 square units",
            "12°",
            "12\\text{ apples}",
            "$12$",
            "12 m^{2}",
        ] {
            assert_eq!(number(text), Some(12.0), "{text:?}");
        }
        let percentage = evaluate("12.5\\%").expect("a percentage");
        assert_eq!(
            (percentage.number, percentage.percent, percentage.decimal),
            (12.5, true, true)
        );
        assert_eq!(percentage.fraction(), 0.125);
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "x",
            "3x",
            "3 4",
            "1 3/2",
            "3,4",
            "1,23",
            "(3",
            "3)",
            "(3]",
            "{3)",
            "3 +",
            "* 3",
            "^2",
            "1/0",
            "0/0",
            "\\sqrt{-1}",
            "(-8)^{0.5}",
            "9^9^9",
            "cm",
            "12^",
            "12 cm 3",
            "\\frac{1}",
            "\\unknown{3}",
            "3; 4",
            "50% off",
            "50%%",
            "12/cm/",
        ] {
            assert_eq!(number(text), None, "{text:?}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| "(".repeat(depth) + "1" + &")".repeat(depth);
        assert_eq!(number(&nested(MAXIMUM_DEPTH)), Some(1.0));
        assert_eq!(number(&nested(MAXIMUM_DEPTH + 1)), None);
    }
}
