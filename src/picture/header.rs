//! What can be told of a picture without decoding it: size, orientation, cost, and whether its file is whole.

use std::io::{BufRead, Read, Seek, SeekFrom};

use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageFormat};

use super::decoder::{decoder_problem, open_decoder, unreadable};
use super::error::ImageProblem;
use super::{jpeg, kind, orientation, png, webp};

/// Most pixels that are decoded: 8-bit RGB of this size takes 256 MiB. Pillow warns from the same size on.
const MAX_DECODED_PIXELS: usize = 89_478_485;
/// Most bytes of decoded samples, before they become 8-bit RGB.
const MAX_SAMPLE_BYTES: u64 = 512 << 20;
/// Most samples that all passes of a progressive JPEG together go through; seconds of work.
const MAX_PASSED_SAMPLES: u64 = 1 << 32;
/// From so many pixels on a picture is handled alone.
const LARGE_PIXELS: usize = 1 << 24;
/// Bytes at the end of a long file in which its end marker is looked for first.
const TAIL_BYTES: u64 = 64 << 10;

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
    pub(super) turn: Orientation,
    /// Whether a colour that a PNG of mode RGB declares clear stays a colour.
    pub(super) keeps_clear_colour: bool,
    /// Memory that decoding takes.
    pub(super) cost: u64,
}

impl Header {
    /// Whether several such pictures at once could fill the memory.
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.width * self.height > LARGE_PIXELS
    }

    /// Refuses a JPEG that goes over its pixels so often that decoding takes minutes.
    pub(super) fn check_passes(&self, bytes: &[u8]) -> Result<(), ImageProblem> {
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

/// Reads the header of a picture that may be decoded, and goes back to the beginning.
pub(super) fn read_header<R: BufRead + Seek>(reader: &mut R) -> Result<Header, ImageProblem> {
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
pub(super) fn check_end<R: BufRead + Seek>(
    reader: &mut R,
    format: ImageFormat,
) -> Result<(), ImageProblem> {
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
