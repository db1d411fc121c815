//! Reads image files into 8-bit RGB pixels, the way transformers' processor sees them.
//!
//! Transparency is laid over white, grey and palette pictures become RGB, 16-bit samples keep their high byte, the first
//! frame of an animation counts, and EXIF rotation is not applied (the processor does not either). Knows nothing of
//! resizing, rows or models.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, ErrorKind, Seek};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::error::{ImageProblem, PromptError};
use super::smart_resize::check_shape;
use crate::record::ImageSource;

/// Most pixels that are decoded: 8-bit RGB of this size takes 256 MiB. Pillow warns from the same size on.
const MAX_DECODED_PIXELS: usize = 89_478_485;
/// What a decoder may allocate: the largest picture at 16 bits and four channels, and room for its own tables.
const MAX_DECODER_BYTES: u64 = 1 << 30;

/// A decoded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RgbImage {
    /// Columns.
    pub(super) width: usize,
    /// Rows.
    pub(super) height: usize,
    /// [height, width, 3] red, green, blue.
    pub(super) pixels: Vec<u8>,
}

/// Checks that a picture can be used and returns its width and height: from the header alone, or with `full` by decoding
/// all of it, which also finds files that are cut off.
///
/// # Errors
/// [`PromptError::Image`] with the place and the problem.
pub fn verify_image(source: &ImageSource, full: bool) -> Result<(usize, usize), PromptError> {
    let size = if full {
        decode(source).map(|image| (image.width, image.height))
    } else {
        read_size(source)
    };
    size.map_err(|problem| PromptError::Image {
        place: place(source),
        problem,
    })
}

/// How messages name a picture.
pub(super) fn place(source: &ImageSource) -> String {
    match source {
        ImageSource::Path(path) => path.display().to_string(),
        ImageSource::Bytes(bytes) => format!("image of {} bytes in the row", bytes.len()),
    }
}

/// Width and height from the header, of a picture that may be decoded.
///
/// # Errors
/// Any [`ImageProblem`] that the header shows.
pub(super) fn read_size(source: &ImageSource) -> Result<(usize, usize), ImageProblem> {
    let decoder = match source {
        ImageSource::Path(path) => open_decoder(BufReader::new(open_file(path)?))?.1,
        ImageSource::Bytes(bytes) => open_decoder(Cursor::new(bytes.as_ref()))?.1,
    };
    checked_size(decoder.as_ref())
}

/// The whole picture.
///
/// # Errors
/// Any [`ImageProblem`].
pub(super) fn decode(source: &ImageSource) -> Result<RgbImage, ImageProblem> {
    // The header decides first, so that an enormous file is never read whole.
    read_size(source)?;
    let bytes: Cow<'_, [u8]> = match source {
        ImageSource::Path(path) => Cow::Owned(std::fs::read(path).map_err(unreadable)?),
        ImageSource::Bytes(bytes) => Cow::Borrowed(bytes),
    };
    let (format, decoder) = open_decoder(Cursor::new(bytes.as_ref()))?;
    if format == ImageFormat::Jpeg && !jpeg_is_complete(&bytes) {
        let reason = "the JPEG data ends before its end marker".to_owned();
        return Err(ImageProblem::Corrupt { reason });
    }
    DynamicImage::from_decoder(decoder)
        .map(into_rgb)
        .map_err(decoder_problem)
}

fn open_file(path: &Path) -> Result<File, ImageProblem> {
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        let reason = "it is a directory".to_owned();
        return Err(ImageProblem::Unreadable { reason });
    }
    Ok(file)
}

/// The format, told by the first bytes and never by the name, and a decoder that has read the header.
fn open_decoder<'a, R: BufRead + Seek + 'a>(
    mut reader: R,
) -> Result<(ImageFormat, Box<dyn ImageDecoder + 'a>), ImageProblem> {
    let head = reader.fill_buf().map_err(unreadable)?;
    if head.is_empty() {
        return Err(ImageProblem::Empty);
    }
    if let Some((width, height)) = png_size(head) {
        // Before the decoder, which calls a size of zero invalid and wants more of the file than its header.
        check_size(width, height)?;
    }
    let mut reader = ImageReader::new(reader)
        .with_guessed_format()
        .map_err(unreadable)?;
    let format = reader.format().ok_or(ImageProblem::UnknownFormat)?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(decoder_problem)?;
    Ok((format, Box::new(decoder)))
}

/// Width and height from the first bytes of a PNG.
fn png_size(head: &[u8]) -> Option<(usize, usize)> {
    let fields = head.strip_prefix(b"\x89PNG\r\n\x1a\n")?.get(8..16)?;
    let side = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0, |side, &byte| side << 8 | usize::from(byte))
    };
    Some((side(&fields[..4]), side(&fields[4..])))
}

fn checked_size(decoder: &dyn ImageDecoder) -> Result<(usize, usize), ImageProblem> {
    let (width, height) = decoder.dimensions();
    check_size(width as usize, height as usize)
}

/// The size itself, if such a picture may be decoded.
fn check_size(width: usize, height: usize) -> Result<(usize, usize), ImageProblem> {
    check_shape(height, width)?;
    if width.saturating_mul(height) > MAX_DECODED_PIXELS {
        let limit = MAX_DECODED_PIXELS;
        return Err(ImageProblem::TooLarge {
            width,
            height,
            limit,
        });
    }
    Ok((width, height))
}

fn unreadable(error: std::io::Error) -> ImageProblem {
    match error.kind() {
        ErrorKind::NotFound => ImageProblem::Absent,
        _ => ImageProblem::Unreadable {
            reason: error.to_string(),
        },
    }
}

fn decoder_problem(error: ImageError) -> ImageProblem {
    match error {
        ImageError::Unsupported(_) => ImageProblem::UnknownFormat,
        other => ImageProblem::Corrupt {
            reason: other.to_string(),
        },
    }
}

/// Whether an end marker follows the last scan. The decoder fills what is missing with grey and says nothing, so a file
/// that is cut off would train on half a picture. Scan data never holds either marker, and a thumbnail's come earlier.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    let last = |marker: [u8; 2]| bytes.windows(2).rposition(|pair| pair == marker);
    match (last([0xFF, 0xDA]), last([0xFF, 0xD9])) {
        (Some(scan), Some(end)) => end > scan,
        _ => false,
    }
}

/// transformers' `convert_to_rgb`: transparency over white, everything else as Pillow's `convert("RGB")`. One departure:
/// Pillow clips 16-bit grey at 255, which turns such pictures white; here it keeps the high byte like 16-bit RGB.
fn into_rgb(image: DynamicImage) -> RgbImage {
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
    use std::sync::Arc;

    use image::ImageEncoder;
    use image::codecs::png::PngEncoder;

    use super::*;
    use crate::data::prompt::golden;

    fn png(width: u32, height: u32, pixels: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes)
            .write_image(pixels, width, height, image::ExtendedColorType::Rgb8)
            .expect("a PNG in memory");
        bytes
    }

    /// A small PNG whose header claims another size.
    fn png_claiming(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = png(1, 1, &[1, 2, 3]);
        bytes[16..20].copy_from_slice(&width.to_be_bytes());
        bytes[20..24].copy_from_slice(&height.to_be_bytes());
        let checksum = crc32(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    fn crc32(bytes: &[u8]) -> u32 {
        let step = |crc: u32, byte: &u8| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0xEDB8_8320 * (crc & 1))
            })
        };
        !bytes.iter().fold(!0, step)
    }

    fn message(bytes: Vec<u8>, full: bool) -> String {
        let source = ImageSource::Bytes(Arc::from(bytes));
        verify_image(&source, full)
            .expect_err("unusable")
            .to_string()
    }

    #[test]
    fn every_recorded_mode_decodes_to_its_recorded_pixels() {
        let tensors = golden::Tensors::open("golden-preprocess.safetensors");
        for file in [
            "badge.png",
            "photo.png",
            "strip.png",
            "grey_alpha.png",
            "bilevel.png",
            "palette_transparent.png",
        ] {
            let name = file.strip_suffix(".png").expect("a PNG");
            let (shape, expected) = tensors.bytes(&format!("{name}.rgb"));
            let image = golden::decoded(file);
            assert_eq!([image.height, image.width], shape[..2], "{name}");
            assert_eq!(image.pixels, expected, "{name}");
        }
    }

    #[test]
    fn a_jpeg_differs_by_few_levels_from_the_reference_decoder() {
        let tensors = golden::Tensors::open("golden-preprocess.safetensors");
        let (_, expected) = tensors.bytes("jpeg.rgb");
        let image = golden::decoded("jpeg.jpg");
        assert_eq!(image.pixels.len(), expected.len());
        let differences = image
            .pixels
            .iter()
            .zip(&expected)
            .map(|(a, b)| a.abs_diff(*b));
        let largest = differences.max().expect("pixels");
        assert!(largest <= 4, "differs by {largest} levels");
    }

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

    #[test]
    fn header_and_full_decode_agree_on_the_size() {
        let path = golden::path("images/photo.png");
        let source = ImageSource::Path(path);
        assert_eq!(verify_image(&source, false).expect("a header"), (200, 150));
        assert_eq!(verify_image(&source, true).expect("a picture"), (200, 150));
    }

    #[test]
    fn absent_and_unreadable_files_are_named() {
        let absent = ImageSource::Path("no/such/picture.png".into());
        let text = verify_image(&absent, false)
            .expect_err("absent")
            .to_string();
        assert!(
            text.starts_with("no/such/picture.png: the image file does not exist\nhint: "),
            "{text}"
        );
        let folder = ImageSource::Path(golden::path("images"));
        let text = verify_image(&folder, true)
            .expect_err("a folder")
            .to_string();
        assert!(text.contains("cannot be read"), "{text}");
    }

    #[test]
    fn empty_foreign_and_broken_bytes_are_told_apart() {
        let empty = message(Vec::new(), false);
        assert!(
            empty.starts_with("image of 0 bytes in the row: the image has 0 bytes\nhint: "),
            "{empty}"
        );
        let foreign = message(b"<html>404</html>".to_vec(), false);
        assert!(
            foreign.contains("no image of a known format\nhint: PNG, JPEG"),
            "{foreign}"
        );
        let mut broken = std::fs::read(golden::path("images/photo.png")).expect("the file");
        broken.truncate(broken.len() / 2);
        let broken = message(broken, true);
        assert!(broken.contains("the image is corrupt: "), "{broken}");
        assert!(broken.contains("\nhint: open it in a viewer"), "{broken}");
    }

    #[test]
    fn a_jpeg_that_is_cut_off_is_not_half_a_picture() {
        let mut bytes = std::fs::read(golden::path("images/jpeg.jpg")).expect("the file");
        bytes.truncate(bytes.len() * 3 / 4);
        let text = message(bytes, true);
        assert!(
            text.contains("the JPEG data ends before its end marker"),
            "{text}"
        );
    }

    #[test]
    fn enormous_pictures_are_refused_by_their_header() {
        for full in [false, true] {
            let text = message(png_claiming(20_000, 20_000), full);
            assert!(
                text.contains("20000 x 20000 pixels, more than the 89478485"),
                "{text}"
            );
            assert!(text.contains("hint: resize the file"), "{text}");
            assert!(text.contains("max_pixels"), "{text}");
        }
    }

    #[test]
    fn zero_sizes_are_refused() {
        for (width, height) in [(0, 7), (5, 0), (0, 0)] {
            let text = message(png_claiming(width, height), false);
            assert!(
                text.contains(&format!(
                    "the image is {width} x {height} pixels, so it has no content"
                )),
                "{text}"
            );
            assert!(text.contains("hint: remove the row"), "{text}");
        }
    }
}
