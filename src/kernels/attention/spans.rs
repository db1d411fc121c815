//! Which keys each query sees: at most two ranges, so no mask exists.
//!
//! Plain numbers, and what the devices keep of them from launch to launch. Knows no model and no token.

use std::sync::OnceLock;

use super::tables::Tables;
use super::tiles::{KeyTile, QueryTile, key_tiles, query_tiles};
use super::visible::Visible;

/// The visible ranges of all queries of one call of `attention`, or of the calls of all layers; all on one device.
#[derive(Debug)]
pub struct Spans {
    visible: Vec<Visible>,
    keys: usize,
    /// Of the CPU twin; those over keys only for the backward pass.
    query_tiles: OnceLock<Vec<QueryTile>>,
    key_tiles: OnceLock<Vec<KeyTile>>,
    /// Of the shaders, uploaded by the first launch that needs them.
    pub(super) tables: Tables,
}

impl Spans {
    /// The spans of `visible.len()` queries over `keys` keys.
    ///
    /// # Panics
    /// If a range ends beyond the keys or two ranges of one query overlap: a mistake of the caller.
    #[must_use]
    pub fn new(visible: Vec<Visible>, keys: usize) -> Self {
        for (query, seen) in visible.iter().enumerate() {
            let (prefix, own) = (&seen.prefix, &seen.own);
            assert!(
                prefix.end as usize <= keys && own.end as usize <= keys,
                "query {query} sees {seen:?} of {keys} keys"
            );
            let apart = prefix.end <= own.start || own.end <= prefix.start;
            assert!(
                prefix.is_empty() || own.is_empty() || apart,
                "query {query} sees a key twice: {seen:?}"
            );
        }
        Self {
            visible,
            keys,
            query_tiles: OnceLock::new(),
            key_tiles: OnceLock::new(),
            tables: Tables::default(),
        }
    }

    /// Number of queries.
    #[must_use]
    pub fn queries(&self) -> usize {
        self.visible.len()
    }

    /// Number of keys.
    #[must_use]
    pub const fn keys(&self) -> usize {
        self.keys
    }

    /// What each query sees.
    #[must_use]
    pub fn visible(&self) -> &[Visible] {
        &self.visible
    }

    /// Tiles of at most `most` queries; the first call decides.
    pub(super) fn query_tiles(&self, most: usize) -> &[QueryTile] {
        self.query_tiles
            .get_or_init(|| query_tiles(&self.visible, most))
    }

    /// Tiles of at most `most` keys; the first call decides.
    pub(super) fn key_tiles(&self, most: usize) -> &[KeyTile] {
        self.key_tiles
            .get_or_init(|| key_tiles(&self.visible, self.keys, most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "sees a key twice")]
    fn overlapping_ranges_are_refused() {
        let seen = Visible {
            prefix: 0..3,
            own: 2..4,
        };
        let _ = Spans::new(vec![seen], 4);
    }
}
