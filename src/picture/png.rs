//! The chunks of a PNG: size and form, orientation wherever it stands, and whether the file is whole. It decodes no pixels.
//!
//! Source: PNG specification, third edition, sections 5 and 11.

use std::io::{BufRead, Seek, SeekFrom};

/// Largest chunk of metadata that is kept.
const LONGEST_METADATA: u64 = 1 << 20;
/// The keyword of an XMP packet.
const XMP: &[u8] = b"XML:com.adobe.xmp\0\0";

/// What the chunks say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct PngLayout {
    /// Columns and rows.
    pub size: (usize, usize),
    /// Bits of a sample.
    pub bits: u8,
    /// 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGB with alpha.
    pub colour: u8,
    /// Whether colours are declared clear.
    pub has_clear: bool,
    /// The Exif chunk, which may also follow the pixels.
    pub exif: Option<Vec<u8>>,
    /// The XMP packet, if it is not compressed.
    pub xmp: Option<Vec<u8>>,
    /// Whether the last chunk is there.
    pub is_whole: bool,
}

/// Goes from chunk to chunk; pixels are passed over unread. `None` if the first chunk is no whole header.
///
/// # Errors
/// The system's.
pub(super) fn read_layout<R: BufRead + Seek>(reader: &mut R) -> std::io::Result<Option<PngLayout>> {
    let mut layout = None;
    let length = reader.seek(SeekFrom::End(0))?;
    let mut place = reader.seek(SeekFrom::Start(8))?;
    let mut head = [0; 8];
    while place + 12 <= length {
        reader.read_exact(&mut head)?;
        let [l3, l2, l1, l0, kind @ ..] = head;
        let size = u64::from(u32::from_be_bytes([l3, l2, l1, l0]));
        let next = place + 12 + size;
        let is_kept = matches!(&kind, b"IHDR" | b"eXIf" | b"iTXt" | b"tRNS") && next <= length;
        let mut data = Vec::new();
        if is_kept && size <= LONGEST_METADATA {
            data.resize(size as usize, 0);
            reader.read_exact(&mut data)?;
        }
        if layout.is_none() && (&kind != b"IHDR" || next > length) {
            return Ok(None);
        }
        let known: &mut PngLayout = layout.get_or_insert_default();
        known.take(&kind, &data);
        if &kind == b"IEND" {
            known.is_whole = next <= length;
            break;
        }
        place = next;
        reader.seek_relative((size + 4) as i64 - data.len() as i64)?;
    }
    reader.seek(SeekFrom::Start(0))?;
    Ok(layout)
}

impl PngLayout {
    fn take(&mut self, kind: &[u8; 4], data: &[u8]) {
        let side = |bytes: &[u8]| {
            let join = |side: usize, byte: &u8| side << 8 | usize::from(*byte);
            bytes.iter().fold(0, join)
        };
        match (kind, data) {
            (b"IHDR", [sides @ .., bits, colour, _, _, _]) if sides.len() == 8 => {
                self.size = (side(&sides[..4]), side(&sides[4..]));
                (self.bits, self.colour) = (*bits, *colour);
            }
            (b"tRNS", _) => self.has_clear = true,
            (b"eXIf", exif) if self.exif.is_none() => self.exif = Some(exif.to_vec()),
            (b"iTXt", text) if text.starts_with(XMP) => self.xmp = Some(text.to_vec()),
            _ => {}
        }
    }

    /// Channels once palettes and clear colours are spelled out.
    pub(super) fn channels(&self) -> u64 {
        let colours = if matches!(self.colour, 0 | 4) { 1 } else { 3 };
        colours + u64::from(self.has_clear || self.colour >= 4)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn file(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
        let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
        for (kind, data) in chunks {
            bytes.extend((data.len() as u32).to_be_bytes());
            bytes.extend(*kind);
            bytes.extend(*data);
            bytes.extend([0; 4]);
        }
        bytes
    }

    #[test]
    fn chunks_are_walked_to_the_end() {
        let header: &[u8] = &[0, 0, 0, 3, 0, 0, 0, 2, 8, 2, 0, 0, 0];
        let bytes = file(&[
            (b"IHDR", header),
            (b"IDAT", &[7; 30_000]),
            (b"eXIf", b"II*\0"),
            (b"IEND", b""),
        ]);
        let layout = |bytes: &[u8]| {
            let layout = read_layout(&mut Cursor::new(bytes)).expect("in memory");
            layout.unwrap_or_default()
        };
        let whole = layout(&bytes);
        assert_eq!((whole.size, whole.bits, whole.colour), ((3, 2), 8, 2));
        assert_eq!((whole.has_clear, whole.channels()), (false, 3));
        assert_eq!(whole.exif.as_deref(), Some(&b"II*\0"[..]));
        assert!(whole.is_whole && layout(&[&bytes[..], b"trailer"].concat()).is_whole);
        for length in [8, 20, 33, 1000, 30_040, bytes.len() - 1] {
            assert!(!layout(&bytes[..length]).is_whole, "cut to {length}");
        }
    }

    #[test]
    fn a_length_beyond_the_file_or_another_first_chunk_ends_the_walk() {
        let header: &[u8] = &[0, 0, 0, 3, 0, 0, 0, 2, 8, 3, 0, 0, 0];
        let mut bytes = file(&[(b"IHDR", header), (b"tRNS", b"x"), (b"IDAT", b"")]);
        let palette = read_layout(&mut Cursor::new(&bytes)).expect("in memory");
        let palette = palette.expect("a header");
        assert_eq!((palette.channels(), palette.is_whole), (4, false));
        bytes[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
        let cut = read_layout(&mut Cursor::new(&bytes)).expect("in memory");
        assert_eq!(cut, None);
        let other = file(&[(b"IDAT", b"x"), (b"IHDR", header)]);
        assert_eq!(
            read_layout(&mut Cursor::new(&other)).expect("in memory"),
            None
        );
    }
}
