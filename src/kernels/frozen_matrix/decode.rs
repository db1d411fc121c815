//! Values of stored rows as f32, vectorised. It knows formats, not what the values are for.

use std::ops::Range;

use super::storage::{BLOCK, Storage, Stored};
use crate::kernels::vector_math::{VectorTask, multiply_add};

/// Some values of one stored row, to be decoded.
pub(super) struct Row<'a> {
    storage: Storage,
    bytes: &'a [u8],
    width: usize,
    columns: Range<usize>,
    out: &'a mut [f32],
}

impl<'a> Row<'a> {
    /// The values `columns` of a row, into `out`; they begin at a multiple of [`BLOCK`].
    #[inline(always)]
    pub fn new(matrix: Stored<'a>, row: usize, columns: Range<usize>, out: &'a mut [f32]) -> Self {
        debug_assert!(columns.start % BLOCK == 0 && columns.len() == out.len());
        Self {
            storage: matrix.storage,
            bytes: matrix.rows(row..row + 1),
            width: matrix.shape[1],
            columns,
            out,
        }
    }
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

/// Decodes block by block; the values of a last block that is not whole go through a buffer.
///
/// Loops over arrays, here and below: iterators of the standard library are not inlined into every part of the crate, and
/// what is not inlined is not compiled for the vector instructions of [`run`](crate::kernels::vector_math::run).
#[inline(always)]
fn eight_bits(row: Row<'_>) {
    let (codes, scales) = row.bytes.split_at(row.width.div_ceil(BLOCK) * BLOCK);
    let codes = &codes.as_chunks::<BLOCK>().0[row.columns.start / BLOCK..];
    let scales = &scales.as_chunks::<2>().0[row.columns.start / BLOCK..];
    let (whole, rest) = row.out.as_chunks_mut::<BLOCK>();
    for block in 0..whole.len() {
        eight_bit_block(&codes[block], scales[block], &mut whole[block]);
    }
    if !rest.is_empty() {
        let mut values = [0.0; BLOCK];
        eight_bit_block(&codes[whole.len()], scales[whole.len()], &mut values);
        rest.copy_from_slice(&values[..rest.len()]);
    }
}

#[inline(always)]
fn eight_bit_block(codes: &[u8; BLOCK], scale: [u8; 2], out: &mut [f32; BLOCK]) {
    let scale = from_half(u16::from_le_bytes(scale));
    for index in 0..BLOCK {
        out[index] = f32::from(codes[index].cast_signed()) * scale;
    }
}

/// Blocks whose steps and lowest values are decoded together.
const BATCH: usize = 16;

#[inline(always)]
fn four_bits<const FMA: bool>(row: Row<'_>) {
    let (codes, lines) = row.bytes.split_at(row.width.div_ceil(BLOCK) * BLOCK / 2);
    let codes = &codes.as_chunks::<{ BLOCK / 2 }>().0[row.columns.start / BLOCK..];
    let lines = &lines.as_chunks::<4>().0[row.columns.start / BLOCK..];
    let (whole, rest) = row.out.as_chunks_mut::<BLOCK>();
    for first in (0..whole.len()).step_by(BATCH) {
        let size = BATCH.min(whole.len() - first);
        let mut words = [0; BATCH];
        for index in 0..size {
            words[index] = u32::from_le_bytes(lines[first + index]);
        }
        let mut steps = [0.0; BATCH];
        let mut lowest = [0.0; BATCH];
        for index in 0..BATCH {
            steps[index] = from_half(words[index] as u16);
            lowest[index] = from_half((words[index] >> 16) as u16);
        }
        for index in 0..size {
            let line = [steps[index], lowest[index]];
            four_bit_block::<FMA>(&codes[first + index], line, &mut whole[first + index]);
        }
    }
    if !rest.is_empty() {
        let word = u32::from_le_bytes(lines[whole.len()]);
        let line = [from_half(word as u16), from_half((word >> 16) as u16)];
        let mut values = [0.0; BLOCK];
        four_bit_block::<FMA>(&codes[whole.len()], line, &mut values);
        rest.copy_from_slice(&values[..rest.len()]);
    }
}

#[inline(always)]
fn four_bit_block<const FMA: bool>(
    codes: &[u8; BLOCK / 2],
    [step, lowest]: [f32; 2],
    out: &mut [f32; BLOCK],
) {
    let mut wide = [0i32; BLOCK / 2];
    for index in 0..BLOCK / 2 {
        wide[index] = i32::from(codes[index]);
    }
    let (low, high) = out.split_at_mut(BLOCK / 2);
    for index in 0..BLOCK / 2 {
        low[index] = multiply_add::<FMA>((wide[index] & 15) as f32, step, lowest);
    }
    for index in 0..BLOCK / 2 {
        high[index] = multiply_add::<FMA>((wide[index] >> 4) as f32, step, lowest);
    }
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
