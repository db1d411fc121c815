//! Products of sizes.

/// Bytes of a number in f32.
pub(super) const F32: u64 = 4;

/// The product; no number of bytes is too large to be compared.
pub(super) fn times<const N: usize>(sizes: [usize; N]) -> u64 {
    sizes
        .into_iter()
        .fold(1, |product: u64, size| product.saturating_mul(size as u64))
}
