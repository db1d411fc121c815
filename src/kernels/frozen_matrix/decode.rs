//! Values of stored rows as f32, vectorised. It knows formats, not what the values are for.

use std::ops::Range;

use super::storage::{BLOCK, Storage};
use crate::kernels::vector_math::{VectorTask, multiply_add, run};

/// Decodes the values `columns` of one stored row of `width` values into `out`.
///
/// `columns` begins at a multiple of [`BLOCK`].
pub(super) fn decode_row(
    storage: Storage,
    row: &[u8],
    width: usize,
    columns: Range<usize>,
    out: &mut [f32],
) {
    debug_assert!(columns.start % BLOCK == 0 && columns.end <= width);
    debug_assert_eq!(out.len(), columns.len());
    run(Row {
        storage,
        bytes: row,
        width,
        columns,
        out,
    });
}

struct Row<'a> {
    storage: Storage,
    bytes: &'a [u8],
    width: usize,
    columns: Range<usize>,
    out: &'a mut [f32],
}

impl VectorTask for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Range { start, end } = self.columns;
        match self.storage {
            Storage::F32 => copy_floats(&self.bytes[start * 4..end * 4], self.out),
            Storage::Bf16 => {
                let words = self.bytes[start * 2..end * 2].as_chunks::<2>().0;
                for (value, word) in self.out.iter_mut().zip(words) {
                    *value = f32::from_bits(u32::from(u16::from_le_bytes(*word)) << 16);
                }
            }
            Storage::F16 => {
                let words = self.bytes[start * 2..end * 2].as_chunks::<2>().0;
                for (value, word) in self.out.iter_mut().zip(words) {
                    *value = from_half(u16::from_le_bytes(*word));
                }
            }
            Storage::Q8 => eight_bits(self),
            Storage::Q4 => four_bits::<FMA>(self),
        }
    }
}

#[inline(always)]
fn copy_floats(bytes: &[u8], out: &mut [f32]) {
    for (value, word) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *value = f32::from_le_bytes(*word);
    }
}

/// An f16 as f32, without a branch and without a subnormal f32 on the way.
#[inline(always)]
pub(super) fn from_half(half: u16) -> f32 {
    /// 2^-14, where subnormal halves begin.
    const SMALLEST_NORMAL: u32 = 113 << 23;
    let magnitude = u32::from(half & 0x7fff);
    let shifted = magnitude << 13;
    let normal = shifted + (112 << 23);
    let subnormal =
        (f32::from_bits(shifted + SMALLEST_NORMAL) - f32::from_bits(SMALLEST_NORMAL)).to_bits();
    let special = shifted | 0x7f80_0000;
    let bits = if magnitude < 0x0400 {
        subnormal
    } else {
        normal
    };
    let bits = if magnitude >= 0x7c00 { special } else { bits };
    f32::from_bits(bits | u32::from(half & 0x8000) << 16)
}

/// One f16 at a place in bytes.
#[inline(always)]
fn half_at(bytes: &[u8], place: usize) -> f32 {
    from_half(u16::from_le_bytes([bytes[2 * place], bytes[2 * place + 1]]))
}

/// Decodes whole blocks; the values of a last block that is not whole go through a buffer.
#[inline(always)]
fn for_blocks(columns: Range<usize>, out: &mut [f32], block: impl Fn(usize, &mut [f32; BLOCK])) {
    let first = columns.start / BLOCK;
    let (whole, rest) = out.as_chunks_mut::<BLOCK>();
    for (index, values) in whole.iter_mut().enumerate() {
        block(first + index, values);
    }
    if !rest.is_empty() {
        let mut values = [0.0; BLOCK];
        block(first + whole.len(), &mut values);
        rest.copy_from_slice(&values[..rest.len()]);
    }
}

#[inline(always)]
fn eight_bits(row: Row<'_>) {
    let blocks = row.width.div_ceil(BLOCK);
    let (codes, scales) = row.bytes.split_at(blocks * BLOCK);
    let codes = codes.as_chunks::<BLOCK>().0;
    for_blocks(row.columns, row.out, |block, values| {
        let scale = half_at(scales, block);
        for (value, code) in values.iter_mut().zip(&codes[block]) {
            *value = f32::from(code.cast_signed()) * scale;
        }
    });
}

#[inline(always)]
fn four_bits<const FMA: bool>(row: Row<'_>) {
    let blocks = row.width.div_ceil(BLOCK);
    let (codes, scales) = row.bytes.split_at(blocks * BLOCK / 2);
    let codes = codes.as_chunks::<{ BLOCK / 2 }>().0;
    for_blocks(row.columns, row.out, |block, values| {
        let step = half_at(scales, 2 * block);
        let lowest = half_at(scales, 2 * block + 1);
        let (low, high) = values.split_at_mut(BLOCK / 2);
        for ((low, high), code) in low.iter_mut().zip(high).zip(&codes[block]) {
            *low = multiply_add::<FMA>(f32::from(code & 15), step, lowest);
            *high = multiply_add::<FMA>(f32::from(code >> 4), step, lowest);
        }
    });
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn every_half_has_its_value() {
        for bits in 0..=u16::MAX {
            let (found, expected) = (from_half(bits), f16::from_bits(bits).to_f32());
            let same = found == expected && found.is_sign_negative() == expected.is_sign_negative();
            assert!(same || found.is_nan() && expected.is_nan(), "{bits:#06x}");
        }
    }
}
