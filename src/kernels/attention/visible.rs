//! What one query sees of the keys. Knows no call and no device.

use std::ops::Range;

/// What one query sees: `prefix` ∪ `own`. Either may be empty; they do not overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visible {
    /// Keys of what stands before the query's row and is shared with others: a completion's prompt.
    pub prefix: Range<u32>,
    /// Keys of the query's own row: up to itself, or all of it where attention is not causal.
    pub own: Range<u32>,
}
