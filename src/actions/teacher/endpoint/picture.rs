//! Pictures as a chat request carries them: data URIs of PNG or JPEG, small enough. Knows nothing of rows or servers.

use std::io::{BufReader, Cursor};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat, ImageReader, Limits};

use super::failure::{Failure, FailureReason};
use crate::record::ImageSource;

/// Bytes of a picture file at most.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// Pixels that are decoded at most, as in the policy's own reader.
const MAX_DECODED_PIXELS: u64 = 89_478_485;
/// What a decoder may allocate.
const MAX_DECODER_BYTES: u64 = 1 << 30;
/// Quality of a JPEG that had to be made smaller.
const JPEG_QUALITY: u8 = 92;
/// Pixels per token, for estimates only: Qwen2-VL's merged patch of 28 x 28. Others count differently.
const PIXELS_PER_TOKEN: u64 = 784;

/// The encoded bytes of a picture.
///
/// # Errors
/// [`FailureReason::BadImage`].
pub(super) fn read(source: &ImageSource) -> Result<Arc<[u8]>, Failure> {
    match source {
        ImageSource::Bytes(bytes) => Ok(Arc::clone(bytes)),
        ImageSource::Path(path) => {
            let fault = |problem: String| bad(format!("{}: {problem}", path.display()));
            let size = std::fs::metadata(path)
                .map_err(|error| fault(error.to_string()))?
                .len();
            if size > MAX_FILE_BYTES {
                return Err(fault(format!(
                    "{size} bytes, expected at most {MAX_FILE_BYTES}"
                )));
            }
            std::fs::read(path)
                .map(Arc::from)
                .map_err(|error| fault(error.to_string()))
        }
    }
}

/// The picture as a data URI. PNG and JPEG of at most `max_pixels` keep their bytes; larger ones are scaled with their
/// aspect ratio and keep their format; every other format becomes PNG.
///
/// # Errors
/// [`FailureReason::BadImage`] if it cannot be read.
pub(super) fn data_uri(bytes: &[u8], max_pixels: usize) -> Result<String, Failure> {
    let (format, width, height) = size(bytes)?;
    let (new_width, new_height) = within(width, height, max_pixels);
    let is_small = (new_width, new_height) == (width, height);
    if is_small && matches!(format, ImageFormat::Png | ImageFormat::Jpeg) {
        return Ok(uri(format, bytes));
    }
    let mut image = reader(bytes)?
        .decode()
        .map_err(|error| bad(error.to_string()))?;
    if !is_small {
        image = image.resize_exact(new_width, new_height, FilterType::CatmullRom);
    }
    let format = if format == ImageFormat::Jpeg {
        format
    } else {
        ImageFormat::Png
    };
    let encoded = encode(image, format).map_err(|error| bad(error.to_string()))?;
    Ok(uri(format, &encoded))
}

/// About how many tokens of a prompt the picture takes.
pub(super) fn estimated_tokens(bytes: &[u8], max_pixels: usize) -> u64 {
    let Ok((_, width, height)) = size(bytes) else {
        return 0;
    };
    let (width, height) = within(width, height, max_pixels);
    (u64::from(width) * u64::from(height)).div_ceil(PIXELS_PER_TOKEN)
}

fn reader(bytes: &[u8]) -> Result<ImageReader<BufReader<Cursor<&[u8]>>>, Failure> {
    let reader = ImageReader::new(BufReader::new(Cursor::new(bytes))).with_guessed_format();
    let mut reader = reader.map_err(|error| bad(error.to_string()))?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    reader.limits(limits);
    Ok(reader)
}

/// Format, width and height from the header.
fn size(bytes: &[u8]) -> Result<(ImageFormat, u32, u32), Failure> {
    let reader = reader(bytes)?;
    let format = reader
        .format()
        .ok_or_else(|| bad("no picture format that is known".to_owned()))?;
    let (width, height) = reader
        .into_dimensions()
        .map_err(|error| bad(error.to_string()))?;
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > MAX_DECODED_PIXELS {
        return Err(bad(format!(
            "{width} x {height} pixels, expected 1 to {MAX_DECODED_PIXELS}"
        )));
    }
    Ok((format, width, height))
}

/// Width and height with the same aspect ratio and an area of at most `max_pixels`.
fn within(width: u32, height: u32, max_pixels: usize) -> (u32, u32) {
    let area = f64::from(width) * f64::from(height);
    if area <= max_pixels as f64 {
        return (width, height);
    }
    let scale = (max_pixels as f64 / area).sqrt();
    let shorter = |side: u32| ((f64::from(side) * scale).floor() as u32).max(1);
    let (new_width, new_height) = (shorter(width), shorter(height));
    // A side that cannot become shorter than one pixel leaves less for the other.
    let most = |other: u32| {
        u32::try_from(max_pixels / other as usize)
            .unwrap_or(u32::MAX)
            .max(1)
    };
    (
        new_width.min(most(new_height)),
        new_height.min(most(new_width)),
    )
}

fn encode(image: DynamicImage, format: ImageFormat) -> image::ImageResult<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    if format == ImageFormat::Jpeg {
        image
            .into_rgb8()
            .write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY))?;
    } else if image.color().has_alpha() {
        image.into_rgba8().write_to(&mut bytes, ImageFormat::Png)?;
    } else {
        image.into_rgb8().write_to(&mut bytes, ImageFormat::Png)?;
    }
    Ok(bytes.into_inner())
}

fn uri(format: ImageFormat, bytes: &[u8]) -> String {
    format!(
        "data:{};base64,{}",
        format.to_mime_type(),
        STANDARD.encode(bytes)
    )
}

fn bad(problem: String) -> Failure {
    Failure::new(FailureReason::BadImage, problem)
}

#[cfg(test)]
pub(super) mod tests {
    use image::{ImageBuffer, Rgb};

    use super::*;

    /// A picture with a gradient in it.
    pub(in super::super) fn picture(width: u32, height: u32, format: ImageFormat) -> Arc<[u8]> {
        let pixel = |x: u32, y: u32| Rgb([(x * 3) as u8, (y * 5) as u8, 90]);
        let mut bytes = Cursor::new(Vec::new());
        ImageBuffer::from_fn(width, height, pixel)
            .write_to(&mut bytes, format)
            .expect("in memory");
        bytes.into_inner().into()
    }

    fn decoded(uri: &str, start: &str) -> (Vec<u8>, DynamicImage) {
        let encoded = uri
            .strip_prefix(start)
            .unwrap_or_else(|| panic!("{}", &uri[..40]));
        let bytes = STANDARD.decode(encoded).expect("base64");
        let image = image::load_from_memory(&bytes).expect("a picture");
        (bytes, image)
    }

    #[test]
    fn small_png_and_jpeg_keep_their_bytes() {
        for (format, start) in [
            (ImageFormat::Png, "data:image/png;base64,"),
            (ImageFormat::Jpeg, "data:image/jpeg;base64,"),
        ] {
            let bytes = picture(20, 10, format);
            let uri = data_uri(&bytes, 200).expect("a URI");
            assert_eq!(decoded(&uri, start).0, *bytes);
        }
    }

    #[test]
    fn large_pictures_are_scaled_and_keep_format_and_ratio() {
        for (format, start) in [
            (ImageFormat::Png, "data:image/png;base64,"),
            (ImageFormat::Jpeg, "data:image/jpeg;base64,"),
        ] {
            let uri = data_uri(&picture(200, 100, format), 5000).expect("a URI");
            let (_, image) = decoded(&uri, start);
            assert_eq!((image.width(), image.height()), (100, 50));
            let [red, green, blue, _] = image::GenericImageView::get_pixel(&image, 20, 20).0;
            // Pixel 20 of the half-size picture shows pixel 40.5 of the full one.
            assert!(red.abs_diff(121) < 8 && green.abs_diff(202) < 8 && blue.abs_diff(90) < 8);
        }
    }

    #[test]
    fn other_formats_become_png_and_transparency_stays() {
        let uri = data_uri(&picture(20, 10, ImageFormat::Bmp), 1000).expect("a URI");
        let (_, image) = decoded(&uri, "data:image/png;base64,");
        assert_eq!(image.to_rgb8().get_pixel(10, 4).0, [30, 20, 90]);
        let mut bytes = Cursor::new(Vec::new());
        let clear = ImageBuffer::from_pixel(40, 40, image::Rgba([9_u8, 9, 9, 0]));
        clear
            .write_to(&mut bytes, ImageFormat::Png)
            .expect("in memory");
        let uri = data_uri(&bytes.into_inner(), 100).expect("a URI");
        let (_, image) = decoded(&uri, "data:image/png;base64,");
        assert_eq!(image.to_rgba8().get_pixel(3, 3).0[3], 0);
    }

    #[test]
    fn the_area_is_never_above_the_limit() {
        for (width, height) in [
            (1, 1),
            (3, 7),
            (1000, 1),
            (1, 5000),
            (4000, 3000),
            (65_000, 2),
        ] {
            for max_pixels in [1, 10, 784, 401_408] {
                let (new_width, new_height) = within(width, height, max_pixels);
                assert!(new_width as usize * new_height as usize <= max_pixels);
                assert!(
                    new_width >= 1 && new_height >= 1 && new_width <= width && new_height <= height
                );
            }
        }
        assert_eq!(within(640, 480, 307_200), (640, 480));
    }

    #[test]
    fn what_is_no_picture_has_a_reason() {
        let png = picture(8, 8, ImageFormat::Png);
        let mut huge = png.to_vec();
        huge[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
        for bytes in [&b""[..], b"GIF", b"<html>", &png[..20], &huge] {
            let failure = data_uri(bytes, 1000).expect_err("refused");
            assert_eq!(failure.reason, FailureReason::BadImage);
            assert_eq!(estimated_tokens(bytes, 1000), 0);
        }
        let absent = read(&ImageSource::Path("no/such.png".into())).expect_err("refused");
        assert!(absent.words.starts_with("no/such.png: "), "{absent}");
    }

    #[test]
    fn tokens_are_estimated_from_what_is_sent() {
        let png = picture(56, 56, ImageFormat::Png);
        assert_eq!(estimated_tokens(&png, 1 << 20), 4);
        assert_eq!(estimated_tokens(&png, 784), 1);
    }
}
