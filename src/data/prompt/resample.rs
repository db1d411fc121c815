//! Antialiased bicubic resize of 8-bit pictures, bit-equal to torchvision's.
//!
//! Two passes of one dimension, horizontal then vertical. Each accumulates integer products of 16-bit fixed-point
//! weights and rounds back to 8 bits, so a single resize in floating point gives other bytes. Knows nothing of patches,
//! limits or files.

use rayon::prelude::*;

use crate::picture::RgbImage;

const CHANNELS: usize = 3;
/// Rows that the horizontal pass works on at once.
const BAND: usize = 8;
/// Values of one column of a band.
const LANES: usize = BAND * CHANNELS;
/// Multiply-adds that are worth a task of their own.
const OPERATIONS_PER_TASK: usize = 1 << 17;

/// Resizes to `width` x `height`; a picture that already has that size comes back untouched, and so does an axis.
///
/// Source: `upsample_bicubic2d_aa` of PyTorch for uint8 tensors, which torchvision's `resize` calls.
pub(super) fn resize(image: RgbImage, width: usize, height: usize) -> RgbImage {
    let image = if image.width == width {
        image
    } else {
        resize_rows(&image, width)
    };
    if image.height == height {
        image
    } else {
        resize_columns(&image, height)
    }
}

/// For every output index the window of input it reads, with fixed-point weights.
struct WeightTable {
    /// First input index of each window.
    first: Vec<usize>,
    /// `taps` weights per output index; short windows end in zeros, which `count` excludes.
    weights: Vec<i16>,
    /// Length of each window.
    count: Vec<usize>,
    /// Longest window.
    taps: usize,
    /// Fractional bits of the weights.
    bits: u32,
}

impl WeightTable {
    /// Windows and weights for resizing `input` samples to `output` samples.
    fn new(input: usize, output: usize) -> Self {
        let windows: Vec<(usize, Vec<f64>)> = (0..output)
            .map(|index| window(index, input, output))
            .collect();
        let largest = windows
            .iter()
            .flat_map(|(_, weights)| weights)
            .fold(0.0, |largest: f64, &weight| largest.max(weight));
        let bits = fixed_point_bits(largest);
        let taps = windows.iter().map(|(_, w)| w.len()).max().unwrap_or(0);
        let mut weights = vec![0; output * taps];
        for (row, (_, window)) in weights.chunks_exact_mut(taps).zip(&windows) {
            for (fixed, &weight) in row.iter_mut().zip(window) {
                // Rounds half away from zero; the conversion cuts towards zero.
                *fixed = (weight * f64::from(1u32 << bits) + 0.5f64.copysign(weight)) as i16;
            }
        }
        Self {
            first: windows.iter().map(|(first, _)| *first).collect(),
            count: windows.iter().map(|(_, w)| w.len()).collect(),
            weights,
            taps,
            bits,
        }
    }

    /// First input index and weights of one output index.
    fn window(&self, index: usize) -> (usize, &[i16]) {
        let start = index * self.taps;
        (
            self.first[index],
            &self.weights[start..start + self.count[index]],
        )
    }

    /// One half in fixed point: the accumulator's start.
    fn half(&self) -> i32 {
        1 << (self.bits - 1)
    }

    /// Fixed point back to 8 bits.
    fn round(&self, sum: i32) -> u8 {
        (sum >> self.bits).clamp(0, 255) as u8
    }
}

/// First input index and normalised weights for one output index. Shrinking widens the filter; windows are cut at the
/// border and their weights scaled to sum to one.
fn window(index: usize, input: usize, output: usize) -> (usize, Vec<f64>) {
    let scale = input as f64 / output as f64;
    let stretch = scale.max(1.0);
    let support = 2.0 * stretch;
    let inverse = 1.0 / stretch;
    let centre = scale * (index as f64 + 0.5);
    // The conversions cut towards zero, and negative values to zero.
    let first = (centre - support + 0.5) as usize;
    let last = ((centre + support + 0.5) as usize).min(input);
    let mut weights: Vec<f64> = (first..last)
        .map(|sample| bicubic((sample as f64 - centre + 0.5) * inverse))
        .collect();
    let total: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= total);
    (first, weights)
}

/// The bicubic filter with a = -0.5, the one both torch and Pillow use when antialiasing.
fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// As many fractional bits, 22 at most, as keep the largest weight of the pass below 2^15.
fn fixed_point_bits(largest: f64) -> u32 {
    let fits = |bits: u32| ((0.5 + largest * f64::from(1u32 << (bits + 1))) as i64) < 1 << 15;
    (0..22).find(|&bits| !fits(bits)).unwrap_or(22)
}

/// The horizontal pass.
fn resize_rows(image: &RgbImage, width: usize) -> RgbImage {
    let table = WeightTable::new(image.width, width);
    let mut pixels = vec![0; image.height * width * CHANNELS];
    let rows_per_task = OPERATIONS_PER_TASK.div_ceil(width * table.taps * CHANNELS);
    pixels
        .par_chunks_mut(width * CHANNELS * BAND)
        .zip(image.pixels.par_chunks(image.width * CHANNELS * BAND))
        .with_min_len(rows_per_task.div_ceil(BAND))
        .for_each_init(
            || vec![[0; LANES]; image.width],
            |columns, (output, input)| {
                gather_columns(input, columns);
                resize_band(&table, columns, output);
            },
        );
    RgbImage {
        width,
        height: image.height,
        pixels,
    }
}

/// Turns a band of rows into columns: all values of one column side by side.
fn gather_columns(band: &[u8], columns: &mut [[u8; LANES]]) {
    for (row, line) in band.chunks_exact(columns.len() * CHANNELS).enumerate() {
        for (column, pixel) in columns.iter_mut().zip(line.chunks_exact(CHANNELS)) {
            column[row * CHANNELS..(row + 1) * CHANNELS].copy_from_slice(pixel);
        }
    }
}

/// Weighted sums of whole columns.
fn resize_band(table: &WeightTable, columns: &[[u8; LANES]], band: &mut [u8]) {
    let stride = table.first.len() * CHANNELS;
    for index in 0..table.first.len() {
        let (first, weights) = table.window(index);
        let mut sums = [table.half(); LANES];
        for (column, &weight) in columns[first..].iter().zip(weights) {
            for (sum, &value) in sums.iter_mut().zip(column) {
                *sum += i32::from(value) * i32::from(weight);
            }
        }
        let values = sums.map(|sum| table.round(sum));
        for (line, pixel) in band
            .chunks_exact_mut(stride)
            .zip(values.chunks_exact(CHANNELS))
        {
            line[index * CHANNELS..(index + 1) * CHANNELS].copy_from_slice(pixel);
        }
    }
}

/// The vertical pass: every output row is a weighted sum of whole input rows.
fn resize_columns(image: &RgbImage, height: usize) -> RgbImage {
    let table = WeightTable::new(image.height, height);
    let stride = image.width * CHANNELS;
    let mut pixels = vec![0; height * stride];
    let rows_per_task = OPERATIONS_PER_TASK.div_ceil(stride * table.taps);
    pixels
        .par_chunks_exact_mut(stride)
        .enumerate()
        .with_min_len(rows_per_task)
        .for_each_init(
            || vec![0i32; stride],
            |sums, (index, output)| {
                let (first, weights) = table.window(index);
                let rows = image.pixels[first * stride..].chunks_exact(stride);
                sums.fill(table.half());
                for (row, &weight) in rows.zip(weights) {
                    let weight = i32::from(weight);
                    for (sum, &value) in sums.iter_mut().zip(row) {
                        *sum += i32::from(value) * weight;
                    }
                }
                for (value, &sum) in output.iter_mut().zip(sums.iter()) {
                    *value = table.round(sum);
                }
            },
        );
    RgbImage {
        width: image.width,
        height,
        pixels,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::prompt::golden;

    fn striped(width: usize, height: usize) -> RgbImage {
        let pixels = (0..width * height * CHANNELS)
            .map(|index| (index * 37 % 256) as u8)
            .collect();
        RgbImage {
            width,
            height,
            pixels,
        }
    }

    #[test]
    fn every_recorded_picture_is_resized_bit_for_bit() {
        let tensors = golden::Tensors::open("golden-preprocess.safetensors");
        let summary = golden::json("golden-preprocess.json");
        let images = summary["images"].as_array().expect("images");
        assert_eq!(images.len(), 13);
        for entry in images {
            let name = entry["name"].as_str().expect("a name");
            // The JPEG's pixels come from the recording, so that this test is about resizing alone.
            let image = if name == "jpeg" {
                let (shape, pixels) = tensors.bytes("jpeg.rgb");
                RgbImage {
                    width: shape[1],
                    height: shape[0],
                    pixels,
                }
            } else {
                golden::decoded(entry["file"].as_str().expect("a file"))
            };
            let (shape, expected) = tensors.bytes(&format!("{name}.resized_torch"));
            let resized = resize(image, shape[1], shape[0]);
            assert_eq!(
                (resized.height, resized.width),
                (shape[0], shape[1]),
                "{name}"
            );
            assert_eq!(resized.pixels, expected, "{name}");
        }
    }

    #[test]
    fn the_same_size_is_not_resampled() {
        let image = striped(5, 4);
        assert_eq!(resize(image.clone(), 5, 4), image);
    }

    #[test]
    fn a_flat_picture_stays_flat_in_every_direction() {
        let flat = RgbImage {
            width: 31,
            height: 17,
            pixels: vec![201; 31 * 17 * CHANNELS],
        };
        for (width, height) in [(1, 1), (28, 56), (300, 3), (31, 90), (700, 17)] {
            let resized = resize(flat.clone(), width, height);
            assert_eq!(resized.pixels.len(), width * height * CHANNELS);
            assert!(
                resized.pixels.iter().all(|&value| value == 201),
                "{width} x {height}"
            );
        }
    }

    #[test]
    fn single_pixels_grow() {
        let resized = resize(striped(1, 1), 56, 56);
        assert!(resized.pixels.chunks(3).all(|pixel| pixel == [0, 37, 74]));
    }
}
