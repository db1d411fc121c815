//! The range of a number. Both ends belong to it and every message names them.

/// Most optimizer steps of a run.
pub(crate) const STEPS: u64 = 1_000_000_000;

/// The range of a number, ends included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(super) low: f64,
    pub(super) high: f64,
    /// Whether 0 is allowed beside the range: it switches something off.
    pub(super) or_zero: bool,
}

impl Bounds {
    pub(super) fn hold(self, number: f64) -> bool {
        (self.or_zero && number == 0.0) || (self.low..=self.high).contains(&number)
    }

    pub(super) fn description(self) -> String {
        let zero = if self.or_zero { "0 or " } else { "" };
        format!(
            "{zero}a number from {} to {}",
            plain(self.low),
            plain(self.high)
        )
    }
}

/// `1e-6` and not `0.000001`.
fn plain(number: f64) -> String {
    let size = number.abs();
    if size != 0.0 && !(1e-4..1e6).contains(&size) {
        format!("{number:e}")
    } else {
        number.to_string()
    }
}
