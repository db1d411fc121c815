//! What is known of an update whose gradients are used as they come.

/// An update whose gradients are used as they come.
#[derive(Debug)]
pub(super) struct Streaming {
    /// Its learning rate.
    pub rate: f64,
    /// Σ of the squares of all gradients so far.
    pub squares: f64,
    /// Names of the parameters that were updated.
    pub updated: Vec<String>,
}
