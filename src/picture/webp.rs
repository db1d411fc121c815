//! The chunks of a WebP: whether the file is whole. It decodes no pixels.

use std::io::{BufRead, Seek, SeekFrom};

/// Whether every chunk ends inside the file, so that no reader makes room for more than there is.
///
/// # Errors
/// The system's.
pub(super) fn is_whole<R: BufRead + Seek>(reader: &mut R) -> std::io::Result<bool> {
    let length = reader.seek(SeekFrom::End(0))?;
    reader.seek(SeekFrom::Start(4))?;
    let mut size = [0; 4];
    if length < 20 {
        return Ok(false);
    }
    reader.read_exact(&mut size)?;
    // The last chunk may lack the byte that makes its length even.
    let end = u64::from(u32::from_le_bytes(size)) + 8;
    let mut place = 12;
    while place + 8 <= end.min(length) {
        reader.seek(SeekFrom::Start(place + 4))?;
        reader.read_exact(&mut size)?;
        place += 8 + u64::from(u32::from_le_bytes(size));
        if place > length {
            return Ok(false);
        }
        place += place % 2;
    }
    Ok(end <= length + 1)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn a_chunk_beyond_the_file_is_no_whole_file() {
        let mut bytes = b"RIFF\x1a\0\0\0WEBPVP8X\x04\0\0\0abcdEXIF\x01\0\0\0x".to_vec();
        let whole = |bytes: &[u8]| is_whole(&mut Cursor::new(bytes)).expect("in memory");
        assert!(whole(&bytes) && whole(&[&bytes[..], b"trailer"].concat()));
        for length in 0..bytes.len() {
            assert!(!whole(&bytes[..length]), "cut to {length}");
        }
        bytes[28..32].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(!whole(&bytes));
    }
}
