//! Values stored in a format, row by row. It knows formats and their rounding, not where the values come from.

use half::{bf16, f16};

use super::storage::{BLOCK, Storage};
use crate::kernels::vector_math::{LANES, VectorTask, run};

/// Stores one row of values in the bytes of a row; quantised storages take the codes nearest to the values.
pub(super) fn encode_row(storage: Storage, values: &[f32], row: &mut [u8]) {
    debug_assert_eq!(row.len(), storage.row_bytes(values.len()));
    match storage {
        Storage::F32 => {
            for (word, value) in row.as_chunks_mut::<4>().0.iter_mut().zip(values) {
                *word = value.to_le_bytes();
            }
        }
        Storage::Bf16 => {
            for (word, value) in row.as_chunks_mut::<2>().0.iter_mut().zip(values) {
                *word = bf16::from_f32(*value).to_le_bytes();
            }
        }
        Storage::F16 => {
            for (word, value) in row.as_chunks_mut::<2>().0.iter_mut().zip(values) {
                *word = f16::from_f32(*value).to_le_bytes();
            }
        }
        Storage::Q8 => {
            let (codes, scales) = row.split_at_mut(values.len().div_ceil(BLOCK) * BLOCK);
            let codes = codes.as_chunks_mut::<BLOCK>().0;
            let scales = scales.as_chunks_mut::<2>().0;
            for ((values, codes), scale) in values.chunks(BLOCK).zip(codes).zip(scales) {
                *scale = eight_bits(values, codes);
            }
        }
        Storage::Q4 => {
            let (codes, scales) = row.split_at_mut(values.len().div_ceil(BLOCK) * BLOCK / 2);
            let codes = codes.as_chunks_mut::<{ BLOCK / 2 }>().0;
            let scales = scales.as_chunks_mut::<4>().0;
            for ((values, codes), scale) in values.chunks(BLOCK).zip(codes).zip(scales) {
                *scale = four_bits(values, codes);
            }
        }
    }
}

/// Codes of a block; returns its scale.
fn eight_bits(values: &[f32], codes: &mut [u8; BLOCK]) -> [u8; 2] {
    let largest = values
        .iter()
        .fold(0.0f32, |most, value| most.max(value.abs()));
    let scale = f16::from_f32(largest / 127.0);
    let inverse = inverse(scale.to_f32());
    for (code, value) in codes.iter_mut().zip(values) {
        *code = ((value * inverse).round().clamp(-127.0, 127.0) as i8).cast_unsigned();
    }
    scale.to_le_bytes()
}

/// The reciprocal of a scale; zero for zero, so that a block of zeros has codes.
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// Codes of a block, value i in the low half of byte i, value 16 + i in its high half; returns step and lowest value.
fn four_bits(values: &[f32], codes: &mut [u8; BLOCK / 2]) -> [u8; 4] {
    let mut block = Block {
        values: [values[0]; BLOCK],
        counts: [0.0; BLOCK],
    };
    block.values[..values.len()].copy_from_slice(values);
    block.counts[..values.len()].fill(1.0);
    let line = run(BestLine(&block));
    let inverse = inverse(line.step);
    let code = |value: f32| line.code(value, inverse) as u8;
    for (index, byte) in codes.iter_mut().enumerate() {
        *byte = code(block.values[index]) | code(block.values[index + BLOCK / 2]) << 4;
    }
    let [step, lowest] = [line.step, line.lowest].map(|value| f16::from_f32(value).to_le_bytes());
    [step[0], step[1], lowest[0], lowest[1]]
}

/// Values of a block, and 1 for each that counts; the padding repeats the first value.
struct Block {
    values: [f32; BLOCK],
    counts: [f32; BLOCK],
}

/// Values on a line: `lowest + code · step`, codes 0 to 15.
#[derive(Debug, Clone, Copy)]
struct Line {
    step: f32,
    lowest: f32,
}

impl Line {
    #[inline(always)]
    fn code(self, value: f32, inverse: f32) -> f32 {
        // Half is added and the rest cut off: one instruction where rounding to even is several.
        ((value - self.lowest) * inverse + 0.5)
            .clamp(0.0, 15.0)
            .trunc()
    }

    /// With both numbers as they are stored.
    #[inline(always)]
    fn as_stored(self) -> Self {
        let stored = |value: f32| f16::from_f32(value.clamp(-LARGEST_HALF, LARGEST_HALF)).to_f32();
        Self {
            step: stored(self.step),
            lowest: stored(self.lowest),
        }
    }
}

/// Largest finite f16.
const LARGEST_HALF: f32 = 65_504.0;

/// Where the search starts: how far inside the lower and the upper end of the block the codes 0 and 15 lie, in parts of
/// its range. The last four leave one to four codes above the block unused: a block that was rounded to sixteen even
/// steps before, and does not use them all, keeps its values.
const STARTS: [[f32; 2]; 13] = [
    [0.0, 0.0],
    [0.0, 0.03],
    [0.0, 0.06],
    [0.03, 0.0],
    [0.03, 0.03],
    [0.03, 0.06],
    [0.06, 0.0],
    [0.06, 0.03],
    [0.06, 0.06],
    [0.0, -1.0 / 14.0],
    [0.0, -2.0 / 13.0],
    [0.0, -3.0 / 12.0],
    [0.0, -4.0 / 11.0],
];

/// The line of least squared error that a search finds: each start is fitted twice to its codes.
struct BestLine<'a>(&'a Block);

impl VectorTask for BestLine<'_> {
    type Output = Line;

    #[inline(always)]
    fn run<const FMA: bool>(self) -> Line {
        let block = self.0;
        let (mut low, mut high) = (block.values[0], block.values[0]);
        for value in block.values {
            low = if value < low { value } else { low };
            high = if value > high { value } else { high };
        }
        let range = high - low;
        let level = Line {
            step: 0.0,
            lowest: low,
        };
        let mut best = (f32::INFINITY, level.as_stored());
        for [below, above] in STARTS {
            let start = Line {
                step: range * (1.0 - below - above) / 15.0,
                lowest: low + range * below,
            };
            let line = block.fitted(block.fitted(start)).as_stored();
            let error = block.error(line);
            if error < best.0 {
                best = (error, line);
            }
        }
        best.1
    }
}

impl Block {
    /// The line of least squares through the values at the codes that they have on `line`.
    #[inline(always)]
    fn fitted(&self, line: Line) -> Line {
        let inverse = inverse(line.step);
        // Of the count, the codes, their squares, the values above the lowest, and these times the codes.
        let mut sums = [[0.0; LANES]; 5];
        for start in (0..BLOCK).step_by(LANES) {
            for lane in 0..LANES {
                let (value, count) = (self.values[start + lane], self.counts[start + lane]);
                let code = line.code(value, inverse) * count;
                let above = (value - line.lowest) * count;
                sums[0][lane] += count;
                sums[1][lane] += code;
                sums[2][lane] += code * code;
                sums[3][lane] += above;
                sums[4][lane] += above * code;
            }
        }
        let [count, codes, squares, values, products] = sums.map(|lanes| lanes.iter().sum::<f32>());
        let spread = count * squares - codes * codes;
        if spread <= 0.0 {
            return line;
        }
        let step = (count * products - codes * values) / spread;
        Line {
            step,
            lowest: line.lowest + (values - step * codes) / count,
        }
    }

    /// Sum of the squared distances of the values from their places on `line`.
    #[inline(always)]
    fn error(&self, line: Line) -> f32 {
        let inverse = inverse(line.step);
        let mut sums = [0.0; LANES];
        for start in (0..BLOCK).step_by(LANES) {
            for lane in 0..LANES {
                let (value, count) = (self.values[start + lane], self.counts[start + lane]);
                let found = line.code(value, inverse) * line.step + line.lowest;
                sums[lane] += (value - found) * (value - found) * count;
            }
        }
        sums.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode::decode_row;
    use super::*;

    /// Values that lie on a line of storable numbers are found again without an error, also where they use few codes.
    #[test]
    fn values_on_a_line_keep_their_values() {
        for (count, codes) in [(BLOCK, 16), (19, 16), (BLOCK, 14), (BLOCK, 12)] {
            let value = |index: usize| -0.75 + 0.0137_329_1 * ((index * 7 + 3) % codes) as f32;
            let values: Vec<f32> = (0..count).map(value).collect();
            let mut row = vec![0; Storage::Q4.row_bytes(count)];
            encode_row(Storage::Q4, &values, &mut row);
            let mut found = vec![f32::NAN; count];
            decode_row(Storage::Q4, &row, count, 0..count, &mut found);
            assert_eq!(found, values);
        }
    }

    /// The search is never worse than the range of the block cut into fifteen steps.
    #[test]
    fn the_search_beats_the_plain_range() {
        for seed in 0..200u32 {
            let value = |index: u32| {
                let mixed = (index ^ seed << 8).wrapping_mul(0x85eb_ca6b);
                let mixed = (mixed ^ mixed >> 13).wrapping_mul(0xc2b2_ae35);
                ((mixed >> 8) as f32 / (1 << 23) as f32 - 1.0).powi(3)
            };
            let values: Vec<f32> = (0..BLOCK as u32).map(value).collect();
            let block = Block {
                values: std::array::from_fn(|index| values[index]),
                counts: [1.0; BLOCK],
            };
            let low = values.iter().copied().fold(f32::MAX, f32::min);
            let high = values.iter().copied().fold(f32::MIN, f32::max);
            let plain = Line {
                step: (high - low) / 15.0,
                lowest: low,
            };
            let best = block.error(run(BestLine(&block)));
            assert!(best <= block.error(plain.as_stored()), "block {seed}");
        }
    }
}
