//! Values stored in a format, row by row. It knows formats and their rounding, not where the values come from.
//!
//! Why 4-bit blocks have a step and a lowest value (5 bits a value), found by a search for the least squared error. Error of
//! the weights in percent, blocks of 32, of Gaussian, Laplacian and Gaussian values of which one in a hundred is ten times as
//! large; and mean absolute change of the log-probability of a token of text under SmolLM2-135M-Instruct, layers alone:
//!
//! | format | bits | Gauss | Laplace | outliers | change |
//! |---|---|---|---|---|---|
//! | symmetric steps from the largest value | 4.5 | 8.6 | 10.7 | 14.4 | 0.57 |
//! | NF4 codebook from the largest value | 4.5 | 8.7 | 9.3 | 11.0 | 0.53 |
//! | step and lowest value from the ends | 5 | 7.8 | 9.2 | 10.0 | 0.55 |
//! | step and lowest value, searched | 5 | 7.0 | 8.3 | 9.1 | 0.36 |
//! | 8 bits | 8.5 | | | | 0.03 |
//!
//! The published weights of that model lie on sixteen steps in blocks of 32 already, and change by nothing here; for the table
//! its columns were scaled at random and the scales undone in the layer before, which computes the same. So models that
//! were rounded to blocks of even steps before (GGUF's Q4_0 and Q4_1, GPTQ, AWQ) keep their values in this format.

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
    let scale = half_of(largest / 127.0);
    let inverse = inverse(scale.to_f32());
    for (code, value) in codes.iter_mut().zip(values) {
        // Rounded to the nearest, also without an instruction for it.
        let place = value * inverse;
        *code = ((place + 0.5f32.copysign(place)) as i8).cast_unsigned();
    }
    scale.to_le_bytes()
}

/// The reciprocal of a scale; zero for zero, so that a block of zeros has codes.
#[inline(always)]
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// Codes of a block, value i in the low half of byte i, value 16 + i in its high half; returns step and lowest value.
fn four_bits(values: &[f32], codes: &mut [u8; BLOCK / 2]) -> [u8; 4] {
    let block = Block::new(values);
    let line = run(BestLine(&block));
    let inverse = inverse(line.step);
    let code = |value: f32| line.code(value, inverse) as u8;
    let [low, high] = &block.values;
    for (index, byte) in codes.iter_mut().enumerate() {
        *byte = code(low[index]) | code(high[index]) << 4;
    }
    let [step, lowest] = [line.step, line.lowest].map(|value| half_of(value).to_le_bytes());
    [step[0], step[1], lowest[0], lowest[1]]
}

/// Values of a block, and 1 for each that counts; the padding repeats the first value.
struct Block {
    values: [[f32; LANES]; 2],
    counts: [[f32; LANES]; 2],
}

/// A block is two vectors of [`LANES`] values.
const _: () = assert!(2 * LANES == BLOCK);

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
        Self {
            step: half_of(self.step).to_f32(),
            lowest: half_of(self.lowest).to_f32(),
        }
    }
}

/// The nearest finite f16.
fn half_of(value: f32) -> f16 {
    let largest = f16::MAX.to_f32();
    f16::from_f32(value.clamp(-largest, largest))
}

/// Where the search starts: how far inside the lower and the upper end of the block the codes 0 and 15 lie, in parts of
/// its range. The last four leave one to four codes above the block unused: a block that was rounded to sixteen even
/// steps before, and does not use them all, keeps its values.
const STARTS: [[f32; 2]; 8] = [
    [0.0, 0.0],
    [0.0, 0.05],
    [0.05, 0.0],
    [0.05, 0.05],
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
        let (low, high) = block.ends();
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
            if error == 0.0 {
                break;
            }
        }
        best.1
    }
}

impl Block {
    fn new(values: &[f32]) -> Self {
        let mut block = Self {
            values: [[values[0]; LANES]; 2],
            counts: [[0.0; LANES]; 2],
        };
        for (index, value) in values.iter().enumerate() {
            block.values[index / LANES][index % LANES] = *value;
            block.counts[index / LANES][index % LANES] = 1.0;
        }
        block
    }

    /// The lowest and the highest value.
    #[inline(always)]
    fn ends(&self) -> (f32, f32) {
        let (mut low, mut high) = (self.values[0][0], self.values[0][0]);
        for part in 0..2 {
            for lane in 0..LANES {
                let value = self.values[part][lane];
                low = if value < low { value } else { low };
                high = if value > high { value } else { high };
            }
        }
        (low, high)
    }

    /// The line of least squares through the values at the codes that they have on `line`.
    #[inline(always)]
    fn fitted(&self, line: Line) -> Line {
        let inverse = inverse(line.step);
        // Of the codes, their squares, the values above the lowest, and these times the codes.
        let [mut codes, mut squares] = [[0.0; LANES]; 2];
        let [mut values, mut products] = [[0.0; LANES]; 2];
        for part in 0..2 {
            for lane in 0..LANES {
                let count = self.counts[part][lane];
                let above = self.values[part][lane] - line.lowest;
                let code = line.code(self.values[part][lane], inverse) * count;
                codes[lane] += code;
                squares[lane] += code * code;
                values[lane] += above * count;
                products[lane] += above * code;
            }
        }
        let count = total(self.counts[0]) + total(self.counts[1]);
        let (codes, values) = (total(codes), total(values));
        let spread = count * total(squares) - codes * codes;
        if spread <= 0.0 {
            return line;
        }
        let step = (count * total(products) - codes * values) / spread;
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
        for part in 0..2 {
            for lane in 0..LANES {
                let value = self.values[part][lane];
                let missed = value - (line.code(value, inverse) * line.step + line.lowest);
                sums[lane] += missed * missed * self.counts[part][lane];
            }
        }
        total(sums)
    }
}

/// The sum of all lanes, by halves: sixteen additions one after the other would take longer than all that precedes them.
#[inline(always)]
fn total(mut lanes: [f32; LANES]) -> f32 {
    for lane in 0..8 {
        lanes[lane] += lanes[lane + 8];
    }
    for lane in 0..4 {
        lanes[lane] += lanes[lane + 4];
    }
    (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])
}

#[cfg(test)]
mod tests {
    use super::super::FrozenMatrix;
    use super::*;

    /// Values that lie on a line of storable numbers are found again without an error, also where they use few codes.
    #[test]
    fn values_on_a_line_keep_their_values() {
        for (count, codes) in [(BLOCK, 16), (19, 16), (BLOCK, 14), (BLOCK, 12)] {
            let value = |index: usize| -0.75 + 0.013_732_91 * ((index * 5 + 3) % codes) as f32;
            let values: Vec<f32> = (0..count).map(value).collect();
            let mut row = vec![0; Storage::Q4.row_bytes(count)];
            encode_row(Storage::Q4, &values, &mut row);
            let mut found = vec![f32::NAN; count];
            FrozenMatrix::new([1, count], Storage::Q4, row.into()).copy_rows(0..1, &mut found);
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
            let block = Block::new(&values);
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
