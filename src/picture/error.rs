//! Why a picture cannot be used, with the remedy.

/// Why a picture cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageProblem {
    /// No such file.
    #[error(
        "the image file does not exist\nhint: check the path, and `image_dir` if the path is relative"
    )]
    Absent,
    /// The file cannot be read.
    #[error(
        "the image file cannot be read: {reason}\nhint: check that it is a file and its permissions"
    )]
    Unreadable {
        /// The system's words.
        reason: String,
    },
    /// No bytes at all.
    #[error(
        "the image has 0 bytes\nhint: an interrupted copy leaves empty files; copy the image again"
    )]
    Empty,
    /// No pixels.
    #[error(
        "the image is {width} x {height} pixels, so it has no content\nhint: remove the row or replace the image"
    )]
    ZeroSize {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// Not an image.
    #[error(
        "the bytes are no image of a known format\nhint: PNG, JPEG, WebP, GIF, BMP and TIFF are read; convert the image to one of them"
    )]
    UnknownFormat,
    /// A format, or a kind of one, without a decoder.
    #[error(
        "the image is {kind}, which is not read\nhint: convert it to an ordinary PNG or JPEG; PNG, JPEG, WebP, GIF, BMP and most kinds of TIFF are read"
    )]
    UnreadKind {
        /// The format, and what is special about the file.
        kind: String,
    },
    /// The decoder gave up.
    #[error(
        "the image is corrupt: {reason}\nhint: open it in a viewer; if it is cut off, copy it again"
    )]
    Corrupt {
        /// The decoder's words.
        reason: String,
    },
    /// So large that decoding could exhaust the memory.
    #[error(
        "the image is {width} x {height} pixels, more than the {limit} pixels that are decoded\n\
         hint: resize the file to at most 8192 pixels per side; nothing is lost, the model sees at most `max_pixels` pixels of it"
    )]
    TooLarge {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// Most pixels that are decoded.
        limit: usize,
    },
    /// So many bits per pixel, or so many passes, that decoding takes more memory or time than any picture should.
    #[error(
        "the image of {width} x {height} pixels takes {cost} to decode, more than {limit}\n\
         hint: save it as an ordinary PNG or JPEG with 8 bits per channel, smaller if need be"
    )]
    TooCostly {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// What it takes.
        cost: String,
        /// What it may take.
        limit: String,
    },
    /// A file so long that it is not read.
    #[error("the image file has {bytes} bytes, more than {limit}\nhint: convert it to PNG or JPEG")]
    TooLong {
        /// Bytes of the file.
        bytes: u64,
        /// Most bytes that are read.
        limit: u64,
    },
    /// A sliver that the model's resize rule refuses.
    #[error(
        "the image is {width} x {height} pixels; the longer side may be at most 200 times the shorter one\nhint: crop or pad the image"
    )]
    AspectRatio {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
    },
}

impl ImageProblem {
    pub(super) fn corrupt(reason: impl Into<String>) -> Self {
        Self::Corrupt {
            reason: reason.into(),
        }
    }
}
