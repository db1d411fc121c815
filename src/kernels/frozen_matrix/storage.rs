//! How the values of a frozen matrix lie in memory, and the bytes that hold them.
//! It knows sizes, not what is computed with the values.
//!
//! Rows lie one after the other, each in [`Storage::row_bytes`] bytes: what safetensors has for the floats, and for the
//! quantised storages the codes of all blocks of the row followed by one word or half a word of scales per block.

use std::ops::{Deref, Range};
use std::sync::Arc;

/// Values that share one scale in the quantised storages; the last block of a row is padded.
pub(crate) const BLOCK: usize = 32;

/// The number format of a frozen matrix; everything is little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// IEEE single precision.
    F32,
    /// The upper half of an f32.
    Bf16,
    /// IEEE half precision.
    F16,
    /// Blocks of 32 along a row: 8-bit whole numbers and one f16 scale; 8.5 bits a value.
    Q8,
    /// Blocks of 32 along a row: 4-bit codes, one f16 step and one f16 lowest value; 5 bits a value.
    Q4,
}

impl Storage {
    /// Every storage.
    pub const ALL: [Self; 5] = [Self::F32, Self::Bf16, Self::F16, Self::Q8, Self::Q4];

    /// Bytes of a row of `columns` values.
    #[must_use]
    pub fn row_bytes(self, columns: usize) -> usize {
        let blocks = columns.div_ceil(BLOCK);
        match self {
            Self::F32 => columns * 4,
            Self::Bf16 | Self::F16 => columns * 2,
            // Scales in pairs, so that rows begin at whole words.
            Self::Q8 => blocks * BLOCK + blocks.div_ceil(2) * 4,
            Self::Q4 => blocks * BLOCK / 2 + blocks * 4,
        }
    }
}

/// A stored matrix as it lies in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored<'a> {
    pub storage: Storage,
    /// `[rows, columns]`
    pub shape: [usize; 2],
    pub bytes: &'a [u8],
}

impl<'a> Stored<'a> {
    /// The bytes of some rows.
    #[inline(always)]
    pub fn rows(self, rows: Range<usize>) -> &'a [u8] {
        let size = self.storage.row_bytes(self.shape[1]);
        &self.bytes[rows.start * size..rows.end * size]
    }

    /// The values of some rows where they are, if they are f32 in this machine's order and aligned.
    #[inline(always)]
    pub fn floats(self, rows: Range<usize>) -> Option<&'a [f32]> {
        if self.storage != Storage::F32 || cfg!(target_endian = "big") {
            return None;
        }
        bytemuck::try_cast_slice(self.rows(rows)).ok()
    }
}

/// Bytes that somebody owns, a mapped file or a vector, and that many may read.
#[derive(Clone)]
pub struct SharedBytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl SharedBytes {
    /// The bytes `range` of what `owner` holds.
    ///
    /// # Panics
    /// If the range leaves what `owner` holds.
    #[must_use]
    pub fn new(owner: Arc<dyn AsRef<[u8]> + Send + Sync>, range: Range<usize>) -> Self {
        let length = (*owner).as_ref().len();
        assert!(
            range.start <= range.end && range.end <= length,
            "bytes {range:?} of {length} bytes"
        );
        Self { owner, range }
    }
}

impl From<Vec<u8>> for SharedBytes {
    fn from(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self::new(Arc::new(bytes), range)
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.range.clone()]
    }
}

impl std::fmt::Debug for SharedBytes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} shared bytes", self.range.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_take_the_bits_that_are_promised() {
        let bits = |storage: Storage, columns: usize| storage.row_bytes(columns) * 8;
        let wide = 64 * 35;
        assert_eq!(bits(Storage::F32, wide), wide * 32);
        assert_eq!(bits(Storage::Bf16, 33), 33 * 16);
        assert_eq!(bits(Storage::F16, wide), wide * 16);
        assert_eq!(bits(Storage::Q8, wide) * 2, wide * 17);
        assert_eq!(bits(Storage::Q4, wide), wide * 5);
        // Two blocks, of which one is nearly empty.
        assert_eq!(Storage::Q8.row_bytes(33), 2 * 32 + 4);
        assert_eq!(Storage::Q4.row_bytes(33), 2 * 16 + 8);
    }

    #[test]
    #[should_panic(expected = "bytes 2..5 of 4 bytes")]
    fn a_range_that_leaves_the_owner_is_refused() {
        let _ = SharedBytes::new(Arc::new(vec![0u8; 4]), 2..5);
    }
}
