//! What logits may be divided by.
//!
//! Knows nothing of what is done with them.

/// Their reciprocals are ordinary numbers, and so are the quotients.
pub const TEMPERATURES: std::ops::RangeInclusive<f32> = 1e-6..=1e6;
