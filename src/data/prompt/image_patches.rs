//! Cuts a resized picture into normalised patches, in the order the vision tower reads them.
//!
//! Knows nothing of files, sizes that are allowed, or the tower itself.

use rayon::prelude::*;

use super::image_settings::ImageSettings;
use crate::picture::RgbImage;
use crate::record::ImagePatches;

const CHANNELS: usize = 3;
/// Values that are worth a task of their own.
const VALUES_PER_TASK: usize = 1 << 16;

/// [P, C] patch rows of a picture whose sides are multiples of patch size times merge size.
///
/// Rows run over blocks of merge x merge patches in raster order and, inside a block, over its patches in raster order:
/// the patches that the merger joins are adjacent. Columns run over (channel, frame, y, x), the order of the patch
/// embedding's flattened kernel; the still picture is repeated for every frame.
///
/// Source: `patchify` of transformers' `image_processing_qwen2_vl.py`.
pub(super) fn cut_patches(image: &RgbImage, settings: &ImageSettings) -> ImagePatches {
    let (patch, merge) = (settings.patch_size, settings.merge_size);
    let (rows, columns) = (image.height / patch, image.width / patch);
    let patch_values = CHANNELS * settings.temporal_patch_size * patch * patch;
    let band_values = columns * merge * patch_values;
    let mut pixel_values = vec![0.0; rows * columns * patch_values];
    pixel_values
        .par_chunks_exact_mut(band_values)
        .enumerate()
        .with_min_len(VALUES_PER_TASK.div_ceil(band_values))
        .for_each(|(band, output)| {
            for (index, values) in output.chunks_exact_mut(patch_values).enumerate() {
                let (block, row, column) = (
                    index / (merge * merge),
                    index / merge % merge,
                    index % merge,
                );
                let top = (band * merge + row) * patch;
                let left = (block * merge + column) * patch;
                write_patch(image, settings, (top, left), values);
            }
        });
    ImagePatches {
        grid: [1, rows, columns],
        pixel_values,
    }
}

/// Writes the patch whose upper left pixel is `corner` (row, column).
fn write_patch(
    image: &RgbImage,
    settings: &ImageSettings,
    corner: (usize, usize),
    values: &mut [f32],
) {
    let patch = settings.patch_size;
    let frame_values = patch * patch;
    let channel_values = frame_values * settings.temporal_patch_size;
    for (channel, frames) in values.chunks_exact_mut(channel_values).enumerate() {
        let normalised = &settings.normalised[channel];
        let (frame, copies) = frames.split_at_mut(frame_values);
        for (y, line) in frame.chunks_exact_mut(patch).enumerate() {
            let start = ((corner.0 + y) * image.width + corner.1) * CHANNELS;
            let pixels = image.pixels[start..start + patch * CHANNELS].chunks_exact(CHANNELS);
            for (value, pixel) in line.iter_mut().zip(pixels) {
                *value = normalised[usize::from(pixel[channel])];
            }
        }
        for copy in copies.chunks_exact_mut(frame_values) {
            copy.copy_from_slice(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::prompt::golden;

    fn settings(patch_size: usize, merge_size: usize, temporal_patch_size: usize) -> ImageSettings {
        let identity = std::array::from_fn(|level| level as f32);
        ImageSettings {
            patch_size,
            merge_size,
            temporal_patch_size,
            min_pixels: 1,
            max_pixels: 1 << 20,
            normalised: [identity; 3],
        }
    }

    #[test]
    fn rows_follow_blocks_and_columns_follow_channel_frame_y_x() {
        // 4 x 4 pixels, patches of one pixel in 2 x 2 blocks; the red channel counts pixels in raster order.
        let pixels = (0..16)
            .flat_map(|index| [index, 100 + index, 200])
            .collect();
        let image = RgbImage {
            width: 4,
            height: 4,
            pixels,
        };
        let patches = cut_patches(&image, &settings(1, 2, 2));
        assert_eq!(patches.grid, [1, 4, 4]);
        let reds: Vec<f32> = patches.pixel_values.chunks(6).map(|row| row[0]).collect();
        let order = [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15];
        assert_eq!(reds, order.map(|index| index as f32));
        assert_eq!(
            patches.pixel_values[..6],
            [0.0, 0.0, 100.0, 100.0, 200.0, 200.0]
        );
    }

    #[test]
    fn summaries_of_every_recorded_picture_agree() {
        let tensors = golden::Tensors::open("golden-preprocess.safetensors");
        let summary = golden::json("golden-preprocess.json");
        let settings = golden::image_settings("qwen2vl-tiny");
        for entry in summary["images"].as_array().expect("images") {
            let name = entry["name"].as_str().expect("a name");
            let (shape, pixels) = tensors.bytes(&format!("{name}.resized_torch"));
            let image = RgbImage {
                width: shape[1],
                height: shape[0],
                pixels,
            };
            let patches = cut_patches(&image, &settings);
            let grid: Vec<u64> = patches.grid.iter().map(|&side| side as u64).collect();
            assert_eq!(serde_json::json!(grid), entry["image_grid_thw"], "{name}");
            let head = entry["pixel_values_first_row_head"]
                .as_array()
                .expect("head");
            for (value, expected) in patches.pixel_values.iter().zip(head) {
                let difference = f64::from(*value) - expected.as_f64().expect("a number");
                assert!(
                    difference.abs() <= 1e-6,
                    "{name}: {value} against {expected}"
                );
            }
            let sum: f64 = patches
                .pixel_values
                .iter()
                .map(|&value| f64::from(value))
                .sum();
            let mean = sum / patches.pixel_values.len() as f64;
            let expected = entry["pixel_values_mean"].as_f64().expect("a number");
            assert!(
                (mean - expected).abs() <= 1e-5,
                "{name}: {mean} against {expected}"
            );
        }
    }
}
