//! The chunks of a PNG: size, Exif wherever it stands, and whether the file is whole. It decodes no pixels.

use std::io::{BufRead, Seek, SeekFrom};

/// Largest chunk of metadata that is kept.
const LONGEST_EXIF: usize = 1 << 20;

/// What the chunks say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct PngLayout {
    /// Columns and rows of the first chunk.
    pub size: Option<(usize, usize)>,
    /// Whether the samples are red, green and blue without alpha.
    pub is_rgb: bool,
    /// The Exif chunk, which may also follow the pixels.
    pub exif: Option<Vec<u8>>,
    /// Whether the last chunk is there.
    pub is_whole: bool,
}

/// Goes from chunk to chunk; chunk data is passed over unread.
///
/// # Errors
/// The system's.
pub(super) fn read_layout<R: BufRead + Seek>(reader: &mut R) -> std::io::Result<PngLayout> {
    let mut layout = PngLayout::default();
    let length = reader.seek(SeekFrom::End(0))?;
    let mut place = reader.seek(SeekFrom::Start(8))?;
    let mut head = [0; 8];
    while place + 12 <= length {
        reader.read_exact(&mut head)?;
        let [l3, l2, l1, l0, kind @ ..] = head;
        let size = u64::from(u32::from_be_bytes([l3, l2, l1, l0]));
        let next = place + 12 + size;
        let mut kept = 0;
        if next <= length
            && (&kind == b"IHDR" && size >= 8 || &kind == b"eXIf" && size <= LONGEST_EXIF as u64)
        {
            let mut data = vec![0; size as usize];
            reader.read_exact(&mut data)?;
            kept = size;
            layout.take(&kind, data);
        }
        if &kind == b"IEND" {
            layout.is_whole = next <= length;
            break;
        }
        place = next;
        reader.seek_relative((size - kept + 4) as i64)?;
    }
    reader.seek(SeekFrom::Start(0))?;
    Ok(layout)
}

impl PngLayout {
    fn take(&mut self, kind: &[u8], data: Vec<u8>) {
        let side = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |side, byte| side << 8 | usize::from(*byte))
        };
        if kind == b"IHDR" {
            self.size = self.size.or(Some((side(&data[..4]), side(&data[4..8]))));
            self.is_rgb = data.get(9) == Some(&2);
        } else if self.exif.is_none() {
            self.exif = Some(data);
        }
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
        let layout = |bytes: &[u8]| read_layout(&mut Cursor::new(bytes)).expect("in memory");
        let whole = layout(&bytes);
        assert_eq!((whole.size, whole.is_rgb), (Some((3, 2)), true));
        assert_eq!(whole.exif.as_deref(), Some(&b"II*\0"[..]));
        assert!(whole.is_whole && layout(&[&bytes[..], b"trailer"].concat()).is_whole);
        for length in [8, 20, 33, 1000, 30_040, bytes.len() - 1] {
            assert!(!layout(&bytes[..length]).is_whole, "cut to {length}");
        }
    }

    #[test]
    fn a_length_beyond_the_file_ends_the_walk() {
        let mut bytes = file(&[(b"IDAT", b"")]);
        bytes[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(
            read_layout(&mut Cursor::new(&bytes)).expect("in memory"),
            PngLayout::default()
        );
    }
}
