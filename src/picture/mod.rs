//! Encoded pictures -> upright 8-bit RGB pixels, as `datasets` and transformers' `load_image` see them: the policy and a
//! server that is asked for answers see the same ones.
//!
//! The orientation that a camera wrote is applied, transparency is laid over white, grey, palette and print colours become
//! RGB, 16-bit samples keep their high byte, the first frame of an animation counts, what follows a picture's end is no part
//! of it. Sizes, bytes, passes and memory have limits. It knows nothing of resizing, rows or models.

mod budget;
mod error;
mod jpeg;
mod kind;
mod orientation;
mod pixels;
mod png;
mod webp;

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

pub use error::ImageProblem;
pub use pixels::RgbImage;

use crate::record::ImageSource;
use budget::Budget;

/// Most pixels that are decoded: 8-bit RGB of this size takes 256 MiB. Pillow warns from the same size on.
const MAX_DECODED_PIXELS: usize = 89_478_485;
/// Most bytes of decoded samples, before they become 8-bit RGB.
const MAX_SAMPLE_BYTES: u64 = 512 << 20;
/// What a decoder may allocate beside the samples: rows, tables, metadata that unfolds.
const MAX_TABLE_BYTES: u64 = 64 << 20;
/// Most samples that all passes of a progressive JPEG together go through; seconds of work.
const MAX_PASSED_SAMPLES: u64 = 1 << 32;
/// From so many pixels on a picture is handled alone.
const LARGE_PIXELS: usize = 1 << 24;
/// Most bytes of a file.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// Bytes at the end of a long file in which its end marker is looked for first.
const TAIL_BYTES: u64 = 64 << 10;

/// Memory in which all threads together decode.
static MEMORY: Budget = Budget::new(1 << 30);

/// What the header of a picture says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// How the bytes are encoded.
    pub format: ImageFormat,
    /// Columns of the upright picture.
    pub width: usize,
    /// Rows of the upright picture.
    pub height: usize,
    /// Whether every reader shows these bytes alike: upright, without transparency, 8 bits, grey or RGB.
    pub is_plain: bool,
    turn: Orientation,
    /// Whether a colour that a PNG of mode RGB declares clear stays a colour.
    keeps_clear_colour: bool,
    /// Memory that decoding takes.
    cost: u64,
}

impl Header {
    /// Whether several such pictures at once could fill the memory.
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.width * self.height > LARGE_PIXELS
    }

    /// Refuses a JPEG that goes over its pixels so often that decoding takes minutes.
    fn check_passes(&self, bytes: &[u8]) -> Result<(), ImageProblem> {
        let passes = match self.format {
            ImageFormat::Jpeg => jpeg::passes(bytes),
            _ => 1,
        };
        let samples = 3 * self.width as u64 * self.height as u64;
        let most = (MAX_PASSED_SAMPLES / samples.max(1)).max(20);
        if passes > most {
            return Err(ImageProblem::TooCostly {
                width: self.width,
                height: self.height,
                cost: format!("{passes} passes"),
                limit: format!("{most}"),
            });
        }
        Ok(())
    }
}

/// How messages name a picture.
#[must_use]
pub fn place(source: &ImageSource) -> String {
    match source {
        ImageSource::Path(path) => path.display().to_string(),
        ImageSource::Bytes(bytes) => format!("image of {} bytes in the row", bytes.len()),
    }
}

/// Size and format from the header of a picture that may be decoded and whose file is whole as far as its structure tells
/// (its end is there). No pixel is decoded.
///
/// # Errors
/// Any [`ImageProblem`] that the header or the file's end shows.
pub fn header(source: &ImageSource) -> Result<Header, ImageProblem> {
    match source {
        ImageSource::Path(path) => {
            let mut reader = BufReader::new(open_file(path)?);
            let header = read_header(&mut reader)?;
            check_end(&mut reader, header.format)?;
            Ok(header)
        }
        ImageSource::Bytes(bytes) => {
            let header = read_header(&mut Cursor::new(bytes.as_ref()))?;
            check_end(&mut Cursor::new(bytes.as_ref()), header.format)?;
            Ok(header)
        }
    }
}

/// The encoded bytes.
///
/// # Errors
/// The file is absent, no regular file, too long, or cannot be read.
pub fn bytes(source: &ImageSource) -> Result<Cow<'_, [u8]>, ImageProblem> {
    match source {
        ImageSource::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
        ImageSource::Path(path) => {
            let mut bytes = Vec::new();
            let file = open_file(path)?.take(MAX_FILE_BYTES);
            BufReader::new(file)
                .read_to_end(&mut bytes)
                .map_err(unreadable)?;
            Ok(Cow::Owned(bytes))
        }
    }
}

/// The whole picture.
///
/// # Errors
/// Any [`ImageProblem`].
pub fn decode(source: &ImageSource) -> Result<RgbImage, ImageProblem> {
    // The header decides first, so that an enormous file is never read whole.
    header(source)?;
    decode_bytes(&bytes(source)?)
}

/// As [`decode`], of bytes.
///
/// # Errors
/// Any [`ImageProblem`].
pub fn decode_bytes(bytes: &[u8]) -> Result<RgbImage, ImageProblem> {
    let header = read_header(&mut Cursor::new(bytes))?;
    let own = own_bytes(bytes, header.format)?;
    header.check_passes(own)?;
    let _share = MEMORY.take(header.cost);
    let problem = |error| decoder_problem(error, header.format, own);
    let mut decoder = open_decoder(Cursor::new(own), header.format).map_err(problem)?;
    let limits = limits(decoder.total_bytes() + MAX_TABLE_BYTES);
    decoder.set_limits(limits).map_err(problem)?;
    let image = DynamicImage::from_decoder(decoder).map_err(problem)?;
    let image = if header.keeps_clear_colour {
        pixels::without_alpha(image)
    } else {
        pixels::into_rgb(image)
    };
    Ok(orientation::turned(image, header.turn))
}

/// The bytes that belong to the picture: what follows the end of a JPEG does not.
///
/// # Errors
/// The data ends before the picture does. A decoder fills what is missing with grey and says nothing, so a file that is
/// cut off would train on half a picture.
pub fn own_bytes(bytes: &[u8], format: ImageFormat) -> Result<&[u8], ImageProblem> {
    if format != ImageFormat::Jpeg {
        return Ok(bytes);
    }
    let end = jpeg::end(bytes);
    end.map(|end| &bytes[..end])
        .ok_or_else(|| ImageProblem::corrupt("the JPEG data ends before its end marker"))
}

fn open_file(path: &Path) -> Result<File, ImageProblem> {
    // Asked before it is opened: a pipe would be waited for.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        let kind = if metadata.is_dir() {
            "a directory"
        } else {
            "a pipe or a device"
        };
        let reason = format!("it is {kind}");
        return Err(ImageProblem::Unreadable { reason });
    }
    let (bytes, limit) = (metadata.len(), MAX_FILE_BYTES);
    if bytes > limit {
        return Err(ImageProblem::TooLong { bytes, limit });
    }
    File::open(path).map_err(unreadable)
}

fn read_header<R: BufRead + Seek>(reader: &mut R) -> Result<Header, ImageProblem> {
    let head = reader.fill_buf().map_err(unreadable)?;
    let format = kind::format_of(head)?;
    let header = match format {
        ImageFormat::Jpeg => jpeg_header(reader),
        ImageFormat::Png => png_header(reader),
        _ => header_of_decoder(reader, format),
    }?;
    reader.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    Ok(header)
}

fn jpeg_header<R: BufRead + Seek>(reader: &mut R) -> Result<Header, ImageProblem> {
    let found = jpeg::read_header(reader).map_err(unreadable)?;
    let found =
        found.ok_or_else(|| ImageProblem::corrupt("the JPEG data ends before its first scan"))?;
    let kind = match (found.frame, found.bits) {
        (0xc0..=0xc2, 8) => None,
        (0xc0..=0xc2, bits) => Some(format!("JPEG with {bits} bits per sample")),
        (0xc3, _) => Some("lossless JPEG".to_owned()),
        (0xc9..=0xcb, _) => Some("JPEG with arithmetic coding".to_owned()),
        _ => Some("hierarchical JPEG".to_owned()),
    };
    if let Some(kind) = kind {
        return Err(ImageProblem::UnreadKind { kind });
    }
    let samples = found.width as u64 * found.height as u64 * found.components as u64;
    // A progressive picture is held as 16-bit coefficients until its last pass.
    let coefficients = if found.frame == 0xc2 { 2 * samples } else { 0 };
    let turn = orientation::of(found.exif.as_deref(), found.xmp.as_deref());
    Measured {
        format: ImageFormat::Jpeg,
        stored: (found.width, found.height),
        turn,
        sample_bytes: samples,
        table_bytes: coefficients,
        is_plain: found.components < 4,
        keeps_clear_colour: false,
    }
    .checked()
}

fn png_header<R: BufRead + Seek>(reader: &mut R) -> Result<Header, ImageProblem> {
    let layout = png::read_layout(reader).map_err(unreadable)?;
    let layout = layout.ok_or_else(|| ImageProblem::corrupt("the PNG data has no header"))?;
    let pixels = layout.size.0 as u64 * layout.size.1 as u64;
    let sample_bytes = layout.channels() * if layout.bits > 8 { 2 } else { 1 };
    Measured {
        format: ImageFormat::Png,
        stored: layout.size,
        turn: orientation::of(layout.exif.as_deref(), layout.xmp.as_deref()),
        sample_bytes: pixels.saturating_mul(sample_bytes),
        table_bytes: 0,
        is_plain: layout.bits <= 8 && !layout.has_clear && layout.colour < 4,
        keeps_clear_colour: layout.colour == 2,
    }
    .checked()
}

fn header_of_decoder<R: BufRead + Seek>(
    reader: &mut R,
    format: ImageFormat,
) -> Result<Header, ImageProblem> {
    if format == ImageFormat::WebP {
        // Before the decoder, which makes room for what a chunk claims to hold.
        check_end(reader, format)?;
        reader.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    }
    let head = tiff_head(reader, format).map_err(unreadable)?;
    let opened = open_decoder(reader, format);
    let mut decoder = opened.map_err(|error| decoder_problem(error, format, &head))?;
    let exif = decoder.exif_metadata().ok().flatten();
    let xmp = decoder.xmp_metadata().ok().flatten();
    let turn = match format {
        // Its orientation is a tag of the file itself.
        ImageFormat::Tiff => decoder.orientation().unwrap_or(Orientation::NoTransforms),
        _ => orientation::of(exif.as_deref(), xmp.as_deref()),
    };
    let (width, height) = decoder.dimensions();
    Measured {
        format,
        stored: (width as usize, height as usize),
        turn,
        sample_bytes: decoder.total_bytes(),
        table_bytes: 0,
        is_plain: matches!(decoder.color_type(), ColorType::L8 | ColorType::Rgb8),
        keeps_clear_colour: false,
    }
    .checked()
}

/// What a message about a TIFF looks at: its first directory is usually near the beginning.
fn tiff_head<R: BufRead + Seek>(reader: &mut R, format: ImageFormat) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    if format == ImageFormat::Tiff {
        reader.by_ref().take(1 << 20).read_to_end(&mut head)?;
        reader.seek(SeekFrom::Start(0))?;
    }
    Ok(head)
}

/// What was found, not yet checked.
struct Measured {
    format: ImageFormat,
    /// Columns and rows as stored.
    stored: (usize, usize),
    turn: Orientation,
    sample_bytes: u64,
    table_bytes: u64,
    is_plain: bool,
    keeps_clear_colour: bool,
}

impl Measured {
    fn checked(self) -> Result<Header, ImageProblem> {
        let (width, height) = check_size(self.stored)?;
        let pixels = width as u64 * height as u64;
        if self.sample_bytes > MAX_SAMPLE_BYTES {
            return Err(ImageProblem::TooCostly {
                width,
                height,
                cost: format!("{} MB", self.sample_bytes >> 20),
                limit: format!("{} MB", MAX_SAMPLE_BYTES >> 20),
            });
        }
        let (width, height) = orientation::turned_size(self.stored, self.turn);
        Ok(Header {
            format: self.format,
            width,
            height,
            is_plain: self.is_plain && self.turn == Orientation::NoTransforms,
            turn: self.turn,
            keeps_clear_colour: self.keeps_clear_colour,
            // The samples, what the decoder keeps beside them, the RGB pixels and their turned copy.
            cost: self.sample_bytes + self.table_bytes + 6 * pixels,
        })
    }
}

/// The size itself, if such a picture may be decoded.
fn check_size((width, height): (usize, usize)) -> Result<(usize, usize), ImageProblem> {
    if width == 0 || height == 0 {
        return Err(ImageProblem::ZeroSize { width, height });
    }
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

/// Refuses a file whose end is missing, as far as its structure tells without decoding.
fn check_end<R: BufRead + Seek>(reader: &mut R, format: ImageFormat) -> Result<(), ImageProblem> {
    let is_whole = match format {
        ImageFormat::Png => png::read_layout(reader)
            .map_err(unreadable)?
            .is_some_and(|layout| layout.is_whole),
        ImageFormat::Jpeg => jpeg_has_end(reader).map_err(unreadable)?,
        ImageFormat::WebP => webp::is_whole(reader).map_err(unreadable)?,
        _ => true,
    };
    if is_whole {
        Ok(())
    } else {
        Err(ImageProblem::corrupt(format!(
            "the {} data ends before its end marker",
            kind::name(format)
        )))
    }
}

/// Of a long file the last bytes are looked at first; they usually hold the marker.
fn jpeg_has_end<R: BufRead + Seek>(reader: &mut R) -> std::io::Result<bool> {
    let length = reader.seek(SeekFrom::End(0))?;
    let mut bytes = Vec::new();
    if length > 2 * TAIL_BYTES {
        reader.seek(SeekFrom::Start(length - TAIL_BYTES))?;
        reader.read_to_end(&mut bytes)?;
        if bytes.windows(2).any(|pair| pair == [0xff, 0xd9]) {
            return Ok(true);
        }
        bytes.clear();
    }
    reader.seek(SeekFrom::Start(0))?;
    reader.read_to_end(&mut bytes)?;
    Ok(jpeg::end(&bytes).is_some())
}

fn open_decoder<'a, R: BufRead + Seek + 'a>(
    reader: R,
    format: ImageFormat,
) -> Result<Box<dyn ImageDecoder + 'a>, ImageError> {
    let mut reader = ImageReader::with_format(reader, format);
    reader.limits(limits(MAX_TABLE_BYTES));
    Ok(Box::new(reader.into_decoder()?))
}

fn limits(bytes: u64) -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(bytes);
    limits
}

fn unreadable(error: std::io::Error) -> ImageProblem {
    match error.kind() {
        ErrorKind::NotFound => ImageProblem::Absent,
        _ => ImageProblem::Unreadable {
            reason: error.to_string(),
        },
    }
}

fn decoder_problem(error: ImageError, format: ImageFormat, bytes: &[u8]) -> ImageProblem {
    match (error, format) {
        (ImageError::Unsupported(_), ImageFormat::Tiff) => ImageProblem::UnreadKind {
            kind: kind::tiff_kind(bytes),
        },
        (ImageError::Unsupported(error), _) => ImageProblem::UnreadKind {
            kind: format!("{} of a rare kind ({error})", kind::name(format)),
        },
        (error, _) => ImageProblem::corrupt(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
