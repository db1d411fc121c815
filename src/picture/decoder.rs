//! The decoders of all formats behind one door, and their errors in our words. It decodes nothing itself.

use std::io::{BufRead, ErrorKind, Seek};

use image::{ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::error::ImageProblem;
use super::kind;

/// What a decoder may allocate beside the samples: rows, tables, metadata that unfolds.
pub(super) const MAX_TABLE_BYTES: u64 = 64 << 20;

/// A decoder that has read the header.
pub(super) fn open_decoder<'a, R: BufRead + Seek + 'a>(
    reader: R,
    format: ImageFormat,
) -> Result<Box<dyn ImageDecoder + 'a>, ImageError> {
    let mut reader = ImageReader::with_format(reader, format);
    reader.limits(limits(MAX_TABLE_BYTES));
    Ok(Box::new(reader.into_decoder()?))
}

/// Limits of a decoder that may allocate so much.
pub(super) fn limits(bytes: u64) -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(bytes);
    limits
}

/// The system's error.
pub(super) fn unreadable(error: std::io::Error) -> ImageProblem {
    match error.kind() {
        ErrorKind::NotFound => ImageProblem::Absent,
        _ => ImageProblem::Unreadable {
            reason: error.to_string(),
        },
    }
}

/// The decoder's error; of a TIFF that is not read, the kind is told from its first bytes.
pub(super) fn decoder_problem(
    error: ImageError,
    format: ImageFormat,
    bytes: &[u8],
) -> ImageProblem {
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
