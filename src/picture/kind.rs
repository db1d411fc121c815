//! What the first bytes of a file say it is, in words. It decodes nothing.

use image::ImageFormat;

use super::error::ImageProblem;

/// Formats that are known by name and not read: first bytes after an offset, and the name.
const UNREAD: [(usize, &[u8], &str); 20] = [
    (4, b"ftypheic", "HEIC, as iPhones store photos"),
    (4, b"ftypheix", "HEIC, as iPhones store photos"),
    (4, b"ftypheim", "HEIC, as iPhones store photos"),
    (4, b"ftyphevc", "HEIC, as iPhones store photos"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"ftypmsf1", "HEIF"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    (4, b"ftypcrx ", "Canon's raw format CR3"),
    (4, b"ftyp", "a video (MP4 or MOV)"),
    (4, b"CgBI", "PNG in Apple's variant CgBI"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\x01\0", "an icon file (ICO)"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"%PDF", "a PDF document"),
    (0, b"<svg", "SVG, a drawing in text"),
    (
        0,
        b"version https://git-lfs",
        "the pointer of Git LFS in the image's place (`git lfs pull` fetches it)",
    ),
];

/// The format that the first bytes show; never the file's name.
///
/// # Errors
/// Nothing is known by these bytes, or a format without a decoder.
pub(super) fn format_of(head: &[u8]) -> Result<ImageFormat, ImageProblem> {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    if head.is_empty() {
        return Err(ImageProblem::Empty);
    }
    let starts = |bytes: &[u8]| head.starts_with(bytes);
    if head.get(12..16) == Some(b"CgBI") {
        return Err(unread("PNG in Apple's variant CgBI"));
    }
    if starts(b"II+\0") || starts(b"MM\0+") {
        return Ok(Tiff);
    }
    if let Ok(format @ (Bmp | Gif | Jpeg | Png | Tiff | WebP)) = image::guess_format(head) {
        return Ok(format);
    }
    let named = |(offset, bytes, _): &&(usize, &[u8], &str)| {
        head.get(*offset..)
            .is_some_and(|rest| rest.starts_with(bytes))
    };
    match UNREAD.iter().find(named) {
        Some((_, _, name)) => Err(unread(name)),
        None if starts(b"<?xml") && head.windows(4).any(|bytes| bytes == b"<svg") => {
            Err(unread("SVG, a drawing in text"))
        }
        None => Err(ImageProblem::UnknownFormat),
    }
}

fn unread(kind: &str) -> ImageProblem {
    ImageProblem::UnreadKind {
        kind: kind.to_owned(),
    }
}

/// The name of a format that is read.
pub(super) const fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "PNG",
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Gif => "GIF",
        ImageFormat::WebP => "WebP",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Tiff => "TIFF",
        _ => "an image",
    }
}

/// What kind of TIFF this is: `TIFF with palette colour, 8 bits, 1 sample, LZW`. Source: TIFF 6.0, tags 258 to 339.
pub(super) fn tiff_kind(bytes: &[u8]) -> String {
    let mut words = vec!["TIFF".to_owned()];
    let Some(file) = TiffHead::open(bytes) else {
        return "TIFF without a readable directory".to_owned();
    };
    if file.is_big {
        words.push("in its form for large files (BigTIFF)".to_owned());
    }
    let colour = match file.value(262) {
        Some(0) => "white-is-zero grey",
        Some(1) => "grey",
        Some(2) => "RGB",
        Some(3) => "palette colour",
        Some(5) => "CMYK",
        Some(6) => "YCbCr",
        Some(8..=10) => "Lab",
        Some(32803) => "raw sensor data",
        _ => "unknown colour",
    };
    words.push(format!("with {colour}"));
    let bits = file.value(258).unwrap_or(1);
    let number = match file.value(339) {
        Some(2) => " (signed)",
        Some(3) => " (floating point)",
        _ => "",
    };
    words.push(format!(", {bits} bits{number}"));
    words.push(format!(", {} samples", file.value(277).unwrap_or(1)));
    if file.value(284) == Some(2) {
        words.push(" in planes".to_owned());
    }
    let compression = match file.value(259) {
        None | Some(1) => "uncompressed".to_owned(),
        Some(2..=4) => "fax compression".to_owned(),
        Some(5) => "LZW".to_owned(),
        Some(6) => "old JPEG compression".to_owned(),
        Some(7) => "JPEG compression".to_owned(),
        Some(8 | 32946) => "Deflate".to_owned(),
        Some(32773) => "PackBits".to_owned(),
        Some(34712) => "JPEG 2000 compression".to_owned(),
        Some(34887) => "LERC compression".to_owned(),
        Some(34925) => "LZMA compression".to_owned(),
        Some(50000) => "Zstandard compression".to_owned(),
        Some(50001) => "WebP compression".to_owned(),
        Some(other) => format!("compression {other}"),
    };
    words.push(format!(", {compression}"));
    words.join(" ").replace(" ,", ",")
}

/// The first directory of a TIFF.
struct TiffHead<'a> {
    entries: &'a [u8],
    is_little: bool,
    is_big: bool,
}

impl<'a> TiffHead<'a> {
    fn open(bytes: &'a [u8]) -> Option<Self> {
        let is_little = bytes.starts_with(b"II");
        let mut head = Self {
            entries: &[],
            is_little,
            is_big: false,
        };
        head.is_big = head.number(bytes.get(2..4)?) == 43;
        let (offset, count_size, entry_size) = if head.is_big {
            (head.number(bytes.get(8..16)?), 8, 20)
        } else {
            (head.number(bytes.get(4..8)?), 2, 12)
        };
        let directory = bytes.get(usize::try_from(offset).ok()?..)?;
        let count = usize::try_from(head.number(directory.get(..count_size)?)).ok()?;
        let length = count.min(4096) * entry_size;
        let rest = &directory[count_size..];
        head.entries = &rest[..length.min(rest.len())];
        Some(head)
    }

    /// The first value of a tag that stands in the entry itself: a short or a long.
    fn value(&self, tag: u64) -> Option<u64> {
        let size = if self.is_big { 20 } else { 12 };
        let entry = self
            .entries
            .chunks_exact(size)
            .find(|entry| self.number(&entry[..2]) == tag)?;
        let is_short = self.number(&entry[2..4]) == 3;
        let values = &entry[size - if self.is_big { 8 } else { 4 }..];
        let count = self.number(&entry[4..size - values.len()]);
        // Several shorts that do not fit stand elsewhere; the bits of all samples are usually alike.
        if is_short && count as usize * 2 > values.len() {
            return None;
        }
        Some(self.number(&values[..if is_short { 2 } else { 4 }]))
    }

    fn number(&self, bytes: &[u8]) -> u64 {
        let join = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        if self.is_little {
            bytes.iter().rev().fold(0, join)
        } else {
            bytes.iter().fold(0, join)
        }
    }
}
