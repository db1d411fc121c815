//! Pictures as a chat request carries them: data URIs of PNG or JPEG, small enough. Knows nothing of rows or servers.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, ImageBuffer, ImageFormat};

use super::failure::{Failure, FailureReason};
use crate::picture::{self, Header, ImageProblem};
use crate::record::ImageSource;

/// Quality of a JPEG that had to be made smaller.
const JPEG_QUALITY: u8 = 92;
/// Pixels per token, for estimates only: Qwen2-VL's merged patch of 28 x 28. Others count differently.
const PIXELS_PER_TOKEN: u64 = 784;

/// The encoded bytes of a picture, which lies below `folder` where one is given: rows may name any file of the machine, and
/// links count as what they point to.
///
/// # Errors
/// [`FailureReason::BadImage`], [`FailureReason::ImageOutside`].
pub(super) fn read(source: &ImageSource, folder: Option<&Path>) -> Result<Arc<[u8]>, Failure> {
    if let (ImageSource::Path(path), Some(folder)) = (source, folder)
        && !is_inside(path, folder)
    {
        return Err(Failure::new(
            FailureReason::ImageOutside,
            format!(
                "{}: outside {}, so it is not sent; set `external_image_paths: any` if the rows can be trusted",
                path.display(),
                folder.display()
            ),
        ));
    }
    let bytes = picture::bytes(source);
    let bytes = bytes.map_err(|problem| bad(&format!("{}: ", picture::place(source)), &problem))?;
    Ok(Arc::from(bytes))
}

fn is_inside(path: &Path, folder: &Path) -> bool {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    match (path.canonicalize(), folder.canonicalize()) {
        (Ok(path), Ok(folder)) => path.starts_with(folder),
        // What is not there is an error of its own when it is read.
        (Err(_), _) => true,
        (_, Err(_)) => false,
    }
}

/// The picture as a data URI, with the pixels that the policy sees: upright, over white, 8 bits. PNG and JPEG of at most
/// `max_pixels` that every reader shows so keep their bytes; larger ones are scaled with their aspect ratio and keep their
/// format; all others become PNG.
///
/// # Errors
/// [`FailureReason::BadImage`] if it cannot be read.
pub(super) fn data_uri(bytes: &Arc<[u8]>, max_pixels: usize) -> Result<String, Failure> {
    let Header {
        format,
        width,
        height,
        is_plain,
        ..
    } = header(bytes)?;
    let (new_width, new_height) = within(width as u32, height as u32, max_pixels);
    let is_small = (new_width as usize, new_height as usize) == (width, height);
    if is_small && is_plain && matches!(format, ImageFormat::Png | ImageFormat::Jpeg) {
        let own = picture::own_bytes(bytes, format).map_err(|problem| bad("", &problem))?;
        return Ok(uri(format, own));
    }
    let image = picture::decode_bytes(bytes).map_err(|problem| bad("", &problem))?;
    let buffer = ImageBuffer::from_raw(width as u32, height as u32, image.pixels);
    let mut image = DynamicImage::ImageRgb8(buffer.expect("three bytes a pixel"));
    if !is_small {
        image = image.resize_exact(new_width, new_height, FilterType::CatmullRom);
    }
    let format = if format == ImageFormat::Jpeg && !is_small {
        format
    } else {
        ImageFormat::Png
    };
    let encoded = encode(&image, format);
    let encoded =
        encoded.map_err(|error| Failure::new(FailureReason::BadImage, error.to_string()))?;
    Ok(uri(format, &encoded))
}

/// About how many tokens of a prompt the picture takes.
pub(super) fn estimated_tokens(bytes: &Arc<[u8]>, max_pixels: usize) -> u64 {
    let Ok(Header { width, height, .. }) = header(bytes) else {
        return 0;
    };
    let (width, height) = within(width as u32, height as u32, max_pixels);
    (u64::from(width) * u64::from(height)).div_ceil(PIXELS_PER_TOKEN)
}

fn header(bytes: &Arc<[u8]>) -> Result<Header, Failure> {
    picture::header(&ImageSource::Bytes(Arc::clone(bytes))).map_err(|problem| bad("", &problem))
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

fn encode(image: &DynamicImage, format: ImageFormat) -> image::ImageResult<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    if format == ImageFormat::Jpeg {
        image.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY))?;
    } else {
        image.write_to(&mut bytes, ImageFormat::Png)?;
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

fn bad(place: &str, problem: &ImageProblem) -> Failure {
    // A failure is one line of a log.
    let words = problem.to_string().replace("\nhint: ", "; ");
    Failure::new(FailureReason::BadImage, format!("{place}{words}"))
}

#[cfg(test)]
pub(super) mod tests {
    use image::Rgb;

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
    fn other_formats_become_png_and_transparency_is_laid_over_white() {
        let uri = data_uri(&picture(20, 10, ImageFormat::Bmp), 1000).expect("a URI");
        let (_, image) = decoded(&uri, "data:image/png;base64,");
        assert_eq!(image.to_rgb8().get_pixel(10, 4).0, [30, 20, 90]);
        let clear = ImageBuffer::from_pixel(40, 40, image::Rgba([9_u8, 9, 9, 0]));
        for max_pixels in [100, 4000] {
            let mut bytes = Cursor::new(Vec::new());
            clear
                .write_to(&mut bytes, ImageFormat::Png)
                .expect("in memory");
            let uri = data_uri(&bytes.into_inner().into(), max_pixels).expect("a URI");
            let (_, image) = decoded(&uri, "data:image/png;base64,");
            assert_eq!(image.to_rgba8().get_pixel(3, 3).0, [255; 4]);
        }
    }

    /// What is sent holds the pixels that the policy's reader gives, whatever the file's kind; lossy scaling apart.
    #[test]
    fn a_server_sees_the_pixels_of_the_policy() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures");
        let mut seen = 0;
        for entry in std::fs::read_dir(folder).expect("the reference data") {
            let source = ImageSource::Path(entry.expect("an entry").path());
            let Ok(expected) = picture::decode(&source) else {
                continue;
            };
            let bytes = read(&source, None).expect("bytes");
            let uri = data_uri(&bytes, 1 << 20).expect("a URI");
            let (_, encoded) = uri.split_once(";base64,").expect("a data URI");
            let sent = STANDARD.decode(encoded).expect("base64");
            // As a server reads it that knows no orientation.
            let image = image::load_from_memory(&sent)
                .expect("a picture")
                .into_rgb8();
            assert_eq!(
                (image.width() as usize, image.height() as usize),
                (expected.width, expected.height)
            );
            assert!(
                image.into_raw() == expected.pixels,
                "{}",
                picture::place(&source)
            );
            seen += 1;
        }
        assert!(seen >= 55, "{seen} pictures");
    }

    #[test]
    fn a_trailer_stays_at_home() {
        let jpeg = picture(20, 10, ImageFormat::Jpeg);
        let motion: Arc<[u8]> = [&jpeg[..], b"a video of the kitchen"].concat().into();
        let uri = data_uri(&motion, 1000).expect("a URI");
        assert_eq!(decoded(&uri, "data:image/jpeg;base64,").0, *jpeg);
    }

    #[test]
    fn a_picture_outside_the_folder_is_not_read() {
        let outside = tempfile::tempdir().expect("a folder");
        let inside = outside.path().join("data set");
        std::fs::create_dir(&inside).expect("created");
        let png = picture(8, 8, ImageFormat::Png);
        std::fs::write(outside.path().join("private.png"), &png).expect("written");
        std::fs::write(inside.join("own.png"), &png).expect("written");
        #[cfg(unix)]
        std::os::unix::fs::symlink(outside.path().join("private.png"), inside.join("link.png"))
            .expect("linked");
        let paths = [
            "own.png",
            "../data set/own.png",
            "../private.png",
            "./../private.png",
        ];
        for (name, is_read) in paths.iter().zip([true, true, false, false]) {
            let source = ImageSource::Path(inside.join(name));
            assert_eq!(read(&source, Some(&inside)).is_ok(), is_read, "{name}");
            assert!(read(&source, None).is_ok(), "{name}");
        }
        let absolute = ImageSource::Path(outside.path().join("private.png"));
        let failure = read(&absolute, Some(&inside)).expect_err("outside");
        assert_eq!(failure.reason, FailureReason::ImageOutside);
        assert!(
            failure.words.contains("external_image_paths: any"),
            "{failure}"
        );
        if cfg!(unix) {
            let link = ImageSource::Path(inside.join("link.png"));
            assert!(
                read(&link, Some(&inside)).is_err(),
                "a link counts as what it points to"
            );
        }
        let absent =
            read(&ImageSource::Path(inside.join("no.png")), Some(&inside)).expect_err("absent");
        assert_eq!(absent.reason, FailureReason::BadImage);
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
            let bytes = Arc::from(bytes);
            let failure = data_uri(&bytes, 1000).expect_err("refused");
            assert_eq!(failure.reason, FailureReason::BadImage);
            assert!(!failure.words.contains('\n'), "{failure}");
            assert_eq!(estimated_tokens(&bytes, 1000), 0);
        }
        let absent = read(&ImageSource::Path("no/such.png".into()), None).expect_err("refused");
        assert!(absent.words.starts_with("no/such.png: "), "{absent}");
    }

    #[test]
    fn tokens_are_estimated_from_what_is_sent() {
        let png = picture(56, 56, ImageFormat::Png);
        assert_eq!(estimated_tokens(&png, 1 << 20), 4);
        assert_eq!(estimated_tokens(&png, 784), 1);
    }
}
