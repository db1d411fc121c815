//! Evaluates a closed numeric expression written in plain text or LaTeX; knows nothing of the text around it.
//!
//! Numbers (thousands separators, decimals, exponents), `+ - * / ^`, brackets, `\frac`, `\sqrt`, π, implicit products
//! (`2\pi`), mixed numbers (`1\frac{1}{2}`), then an optional percent sign, degree sign or known unit. Anything else,
//! a non-finite result included, is `None`. Work is linear in the text and nesting is bounded.

use super::expression_tokens::{Token, tokenize};

/// Brackets, fractions and roots inside one another beyond this depth are refused.
const MAXIMUM_DEPTH: usize = 32;

/// The value of an expression, with what matters when it is compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Value {
    /// Finite; a percentage holds its face value.
    pub(super) number: f64,
    /// Whether a percent sign ends the expression.
    pub(super) percent: bool,
    /// Whether a decimal point occurs: the number may then stand for a rounded one.
    pub(super) decimal: bool,
}

impl Value {
    /// The number, a percentage divided by 100.
    pub(super) fn fraction(self) -> f64 {
        if self.percent {
            self.number / 100.0
        } else {
            self.number
        }
    }
}

/// The value of `text`, or of what follows its last equals sign; `None` if that is not a closed numeric expression.
pub(super) fn evaluate(text: &str) -> Option<Value> {
    let side = text.rsplit(['=', '≈']).next().unwrap_or(text);
    let tokens = tokenize(side.trim().trim_end_matches('.'))?;
    let mut parser = Parser {
        tokens: &tokens,
        position: 0,
        depth: 0,
    };
    let number = parser.sum()?;
    let percent = parser.accept(Token::Percent);
    parser.units()?;
    let decimal = tokens
        .iter()
        .any(|token| matches!(token, Token::Number { decimal: true, .. }));
    number.is_finite().then_some(Value {
        number,
        percent,
        decimal,
    })
}

struct Parser<'a> {
    tokens: &'a [Token],
    position: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<Token> {
        self.tokens.get(self.position).copied()
    }

    fn accept(&mut self, expected: Token) -> bool {
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
            let before_unit = matches!(self.tokens.get(self.position + 1), Some(Token::Unit));
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

    /// A whole number directly before a fraction is added to it: `1\frac{1}{2}` is 1.5.
    fn mixed_number(&mut self, value: f64, decimal: bool) -> Option<f64> {
        if decimal || !self.accept(Token::Fraction) {
            return Some(value);
        }
        Some(value + self.argument()? / self.argument()?)
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
    fn units(&mut self) -> Option<()> {
        while let Some(token) = self.peek() {
            self.position += 1;
            match token {
                Token::Unit => {}
                Token::Divide | Token::Times if self.peek() == Some(Token::Unit) => {}
                Token::Power => self.unit_power()?,
                _ => return None,
            }
        }
        Some(())
    }

    fn unit_power(&mut self) -> Option<()> {
        let after_unit = self.position >= 2 && self.tokens[self.position - 2] == Token::Unit;
        (after_unit && self.argument().is_some()).then_some(())
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
            "1 1/2",
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
