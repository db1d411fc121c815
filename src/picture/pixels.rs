//! Decoded samples of any kind -> 8-bit RGB. It knows nothing of files.

use image::DynamicImage;

/// A decoded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// [height, width, 3] red, green, blue.
    pub pixels: Vec<u8>,
}

/// transformers' `convert_to_rgb`: transparency over white, everything else as Pillow's `convert("RGB")`. One departure:
/// Pillow clips 16-bit grey at 255, which turns such pictures white; here it keeps the high byte like 16-bit RGB.
pub(super) fn into_rgb(image: DynamicImage) -> RgbImage {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let high = |sample: u16| (sample >> 8) as u8;
    let pixels = match image {
        DynamicImage::ImageRgb8(image) => image.into_raw(),
        DynamicImage::ImageLuma8(image) => grey(image.into_raw().into_iter()),
        DynamicImage::ImageLuma16(image) => grey(image.into_raw().into_iter().map(high)),
        DynamicImage::ImageRgb16(image) => image.into_raw().into_iter().map(high).collect(),
        DynamicImage::ImageLumaA16(image) => {
            let pixels = image.pixels().map(|pixel| pixel.0.map(high));
            over_white(pixels.map(|[level, alpha]| [level, level, level, alpha]))
        }
        DynamicImage::ImageRgba16(image) => {
            over_white(image.pixels().map(|pixel| pixel.0.map(high)))
        }
        DynamicImage::ImageRgb32F(_) => image.into_rgb8().into_raw(),
        // RGBA, grey with alpha, and floating-point RGBA.
        transparent => over_white(transparent.into_rgba8().pixels().map(|pixel| pixel.0)),
    };
    RgbImage {
        width,
        height,
        pixels,
    }
}

/// The colours of a picture of mode RGB, of which one may be declared clear: transformers' `convert_to_rgb` leaves such a
/// picture as it is.
pub(super) fn without_alpha(image: DynamicImage) -> RgbImage {
    into_rgb(match image {
        DynamicImage::ImageRgba16(_) => DynamicImage::ImageRgb16(image.into_rgb16()),
        DynamicImage::ImageRgba8(_) => DynamicImage::ImageRgb8(image.into_rgb8()),
        image => image,
    })
}

fn grey(levels: impl Iterator<Item = u8>) -> Vec<u8> {
    levels.flat_map(|level| [level; 3]).collect()
}

/// Pillow's `alpha_composite` onto opaque white, in its integer arithmetic.
fn over_white(pixels: impl Iterator<Item = [u8; 4]>) -> Vec<u8> {
    pixels
        .flat_map(|[red, green, blue, alpha]| {
            let source = u32::from(alpha) * 128;
            [red, green, blue].map(|value| {
                let mixed = u32::from(value) * source + 255 * (255 * 128 - source) + (0x80 << 7);
                ((((mixed >> 8) + mixed) >> 8) >> 7) as u8
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compositing_keeps_opaque_colours_and_hides_clear_ones() {
        let opaque: Vec<u8> = (0..=255u8)
            .flat_map(|v| over_white([[v, v, v, 255]].into_iter()))
            .collect();
        assert!(
            opaque
                .chunks(3)
                .enumerate()
                .all(|(v, pixel)| pixel == [v as u8; 3])
        );
        assert_eq!(over_white([[9, 99, 199, 0]].into_iter()), [255; 3]);
    }

    #[test]
    fn sixteen_bits_keep_the_high_byte() {
        let grey = image::ImageBuffer::from_raw(2, 1, vec![0x1234u16, 0xFFFF]).expect("two pixels");
        let image = into_rgb(DynamicImage::ImageLuma16(grey));
        assert_eq!(image.pixels, [0x12, 0x12, 0x12, 0xFF, 0xFF, 0xFF]);
    }
}
