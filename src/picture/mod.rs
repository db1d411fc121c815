//! Encoded pictures -> upright 8-bit RGB pixels, as `datasets` and transformers' `load_image` see them: the policy and a
//! server that is asked for answers see the same ones.
//!
//! The orientation that a camera wrote is applied, transparency is laid over white, grey, palette and print colours become
//! RGB, 16-bit samples keep their high byte, the first frame of an animation counts, what follows a picture's end is no part
//! of it. Sizes, bytes, passes and memory have limits. It knows nothing of resizing, rows or models.

mod budget;
mod decoder;
mod error;
mod header;
mod jpeg;
mod kind;
mod orientation;
mod pixels;
mod png;
mod webp;

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageFormat};

pub use error::ImageProblem;
pub use header::Header;
pub use pixels::RgbImage;

use crate::record::ImageSource;
use budget::Budget;
use decoder::{MAX_TABLE_BYTES, decoder_problem, limits, open_decoder, unreadable};
use header::{check_end, read_header};

/// Most bytes of a file.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Memory in which all threads together decode.
static MEMORY: Budget = Budget::new(1 << 30);

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

#[cfg(test)]
mod tests;
