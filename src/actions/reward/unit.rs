//! What is counted or measured: names of units and how two of them compare. Knows nothing of numbers.

/// Each unit with its spellings. One letter counts in its own case (`m`, not `M`), longer words in any.
#[rustfmt::skip] // One unit a line: this is a table.
const UNITS: [(&str, &[&str]); 51] = [
    ("um", &["um", "micrometer", "micrometers", "micron", "microns"]),
    ("mm", &["mm", "millimeter", "millimeters", "millimetre", "millimetres"]),
    ("cm", &["cm", "cms", "centimeter", "centimeters", "centimetre", "centimetres"]),
    ("dm", &["dm", "decimeter", "decimeters", "decimetre", "decimetres"]),
    ("m", &["m", "meter", "meters", "metre", "metres"]),
    ("km", &["km", "kms", "kilometer", "kilometers", "kilometre", "kilometres"]),
    ("in", &["in", "inch", "inches"]),
    ("ft", &["ft", "foot", "feet"]),
    ("yd", &["yd", "yds", "yard", "yards"]),
    ("mi", &["mi", "mile", "miles"]),
    ("deg", &["deg", "degs", "degree", "degrees"]),
    ("rad", &["rad", "rads", "radian", "radians"]),
    ("ms", &["ms", "millisecond", "milliseconds"]),
    ("s", &["s", "sec", "secs", "second", "seconds"]),
    ("min", &["min", "mins", "minute", "minutes"]),
    ("h", &["h", "hr", "hrs", "hour", "hours"]),
    ("day", &["day", "days"]),
    ("week", &["week", "weeks", "wk", "wks"]),
    ("month", &["month", "months"]),
    ("year", &["year", "years", "yr", "yrs"]),
    ("mg", &["mg", "milligram", "milligrams"]),
    ("g", &["g", "gram", "grams"]),
    ("kg", &["kg", "kgs", "kilogram", "kilograms"]),
    ("ton", &["ton", "tons", "tonne", "tonnes"]),
    ("lb", &["lb", "lbs", "pound", "pounds"]),
    ("oz", &["oz", "ounce", "ounces"]),
    ("ml", &["ml", "milliliter", "milliliters", "millilitre", "millilitres"]),
    ("l", &["l", "L", "liter", "liters", "litre", "litres"]),
    ("gal", &["gal", "gallon", "gallons"]),
    ("$", &["$", "dollar", "dollars", "usd"]),
    ("¢", &["¢", "cent", "cents"]),
    ("€", &["€", "euro", "euros", "eur"]),
    ("£", &["£", "gbp"]),
    ("¥", &["¥", "yuan", "yen", "rmb"]),
    ("₹", &["₹", "rs", "rupee", "rupees", "inr"]),
    ("N", &["N", "newton", "newtons"]),
    ("J", &["J", "joule", "joules"]),
    ("kJ", &["kj", "kilojoule", "kilojoules"]),
    ("cal", &["cal", "calorie", "calories"]),
    ("kcal", &["kcal"]),
    ("W", &["W", "watt", "watts"]),
    ("kW", &["kw", "kilowatt", "kilowatts"]),
    ("V", &["V", "volt", "volts"]),
    ("A", &["A", "amp", "amps", "ampere", "amperes"]),
    ("ohm", &["ohm", "ohms"]),
    ("Hz", &["hz", "hertz"]),
    ("Pa", &["pa", "pascal", "pascals"]),
    ("kPa", &["kpa"]),
    ("K", &["K", "kelvin", "kelvins"]),
    ("mol", &["mol", "mole", "moles"]),
    ("", &["unit", "units"]),
];
/// Words that stand for a quotient or power of units.
const COMPOUNDS: [(&str, &[(&str, i32)]); 6] = [
    ("mph", &[("mi", 1), ("h", -1)]),
    ("kph", &[("km", 1), ("h", -1)]),
    ("kmh", &[("km", 1), ("h", -1)]),
    ("kmph", &[("km", 1), ("h", -1)]),
    ("sqft", &[("ft", 2)]),
    ("cc", &[("cm", 3)]),
];
/// Words between units, and around them.
const HELPERS: [&str; 7] = ["square", "sq", "cubic", "cu", "squared", "cubed", "per"];

/// Whether a word may stand after a number without being one.
pub(super) fn is_word_of_unit(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    name_of(word).is_some()
        || HELPERS.contains(&lower.as_str())
        || COMPOUNDS.iter().any(|(name, _)| *name == lower)
}

/// The unit that this word names, in a spelling of our own.
pub(super) fn known(word: &str) -> Option<&'static str> {
    name_of(word).filter(|name| !name.is_empty())
}

fn name_of(word: &str) -> Option<&'static str> {
    let matches = |spelling: &&&str| {
        if word.len() == 1 {
            **spelling == word
        } else {
            spelling.eq_ignore_ascii_case(word)
        }
    };
    let found = UNITS
        .iter()
        .find(|(_, spellings)| spellings.iter().any(|spelling| matches(&spelling)));
    found.map(|(name, _)| *name)
}

/// A product of powers of units. Without factors it says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Unit {
    /// Name and exponent, in order of names.
    factors: Vec<(String, i32)>,
    /// "units": whatever is being measured.
    any: bool,
    /// What the next word is raised to: after `square`, `cubic`, `per`.
    next: Option<i32>,
}

impl Unit {
    /// One unit by itself.
    pub(super) fn of(word: &str) -> Self {
        let mut unit = Self::default();
        unit.word(word);
        unit
    }

    /// Whether nothing is said.
    pub(super) fn is_empty(&self) -> bool {
        self.factors.is_empty()
    }

    /// Whether both can measure the same: one says nothing, or both say the same.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        let (left, right) = (self, other);
        left.any
            || right.any
            || left.is_empty()
            || right.is_empty()
            || left.factors == right.factors
    }

    /// The next unit is divided by.
    pub(super) fn divide(&mut self) {
        self.next = Some(-self.next.unwrap_or(1));
    }

    /// A word; one that names no unit is a thing that is counted.
    pub(super) fn word(&mut self, word: &str) {
        let lower = word.trim().to_ascii_lowercase();
        match lower.as_str() {
            "square" | "sq" => return self.next = Some(2 * self.next.unwrap_or(1)),
            "cubic" | "cu" => return self.next = Some(3 * self.next.unwrap_or(1)),
            "squared" => return self.raise(2),
            "cubed" => return self.raise(3),
            "per" => return self.divide(),
            _ => {}
        }
        let exponent = self.next.take().unwrap_or(1);
        if let Some((_, factors)) = COMPOUNDS.iter().find(|(name, _)| *name == lower) {
            factors
                .iter()
                .for_each(|(name, power)| self.multiply(name, power * exponent));
            return;
        }
        match name_of(word.trim()) {
            Some("") => self.any = true,
            Some(name) => self.multiply(name, exponent),
            // Things are counted in one or in many.
            None => self.multiply(lower.strip_suffix('s').unwrap_or(&lower), exponent),
        }
    }

    /// Also what a sign says (`$`, a degree), unless a word has said so.
    pub(super) fn and(&mut self, sign: &str) {
        let Self { factors, .. } = Self::of(sign);
        for (name, exponent) in factors {
            if !self.factors.iter().any(|(known, _)| *known == name) {
                self.multiply(&name, exponent);
            }
        }
    }

    /// The last unit to this power.
    pub(super) fn raise(&mut self, power: i32) {
        if let Some((_, exponent)) = self.factors.last_mut() {
            *exponent = exponent.saturating_mul(power);
        }
    }

    fn multiply(&mut self, name: &str, exponent: i32) {
        self.factors.push((name.to_owned(), exponent));
    }

    /// Equal units joined, in order.
    pub(super) fn settled(mut self) -> Self {
        self.factors.sort();
        let mut joined: Vec<(String, i32)> = Vec::new();
        for (name, exponent) in self.factors {
            match joined.last_mut() {
                Some((last, sum)) if *last == name => *sum = sum.saturating_add(exponent),
                _ => joined.push((name, exponent)),
            }
        }
        joined.retain(|(_, exponent)| *exponent != 0);
        self.factors = joined;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_stands_for_two_units() {
        let all: Vec<&str> = UNITS
            .iter()
            .flat_map(|(_, words)| words.iter().copied())
            .collect();
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn one_letter_counts_in_its_own_case() {
        assert!(is_word_of_unit("m") && !is_word_of_unit("M"));
        assert!(is_word_of_unit("CM") && is_word_of_unit("per") && is_word_of_unit("mph"));
        assert!(!is_word_of_unit("x") && !is_word_of_unit("apples"));
    }
}
