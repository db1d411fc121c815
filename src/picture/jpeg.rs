//! The marker segments of a JPEG: size, orientation, passes, and where the picture ends. It decodes no pixels.
//!
//! Source: ITU-T T.81, annex B.

use std::io::{BufRead, Seek, SeekFrom};

/// Bytes of metadata of one segment that are kept.
const LONGEST_SEGMENT: usize = 0xffff;

/// What stands before the first scan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct JpegHeader {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// 1 grey, 3 colour, 4 print colours.
    pub components: usize,
    /// Bits of a sample.
    pub bits: usize,
    /// The frame's marker: C0 baseline, C1 extended, C2 progressive; others are not decoded.
    pub frame: u8,
    /// The TIFF structure of the first Exif segment.
    pub exif: Option<Vec<u8>>,
    /// The first XMP packet.
    pub xmp: Option<Vec<u8>>,
}

/// Reads the segments up to the first scan; `None` if there is no frame or the file ends.
///
/// # Errors
/// The system's.
pub(super) fn read_header<R: BufRead + Seek>(
    reader: &mut R,
) -> std::io::Result<Option<JpegHeader>> {
    let mut header = JpegHeader::default();
    reader.seek(SeekFrom::Start(2))?;
    loop {
        let Some(marker) = next_marker(reader)? else {
            return Ok(None);
        };
        match marker {
            // The first scan, or the end without one.
            0xda | 0xd9 => return Ok((header.frame != 0).then_some(header)),
            0x01 | 0xd0..=0xd8 => continue,
            _ => {}
        }
        let mut length = [0; 2];
        if !fill(reader, &mut length)? {
            return Ok(None);
        }
        let length = usize::from(u16::from_be_bytes(length)).saturating_sub(2);
        let is_frame = matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc);
        if !is_frame && marker != 0xe1 {
            reader.seek_relative(length as i64)?;
            continue;
        }
        let mut segment = vec![0; length.min(LONGEST_SEGMENT)];
        if !fill(reader, &mut segment)? {
            return Ok(None);
        }
        header.take(marker, &segment);
    }
}

impl JpegHeader {
    fn take(&mut self, marker: u8, segment: &[u8]) {
        if marker != 0xe1 {
            if let [bits, h1, h0, w1, w0, components, ..] = *segment {
                self.frame = marker;
                self.bits = usize::from(bits);
                self.height = usize::from(u16::from_be_bytes([h1, h0]));
                self.width = usize::from(u16::from_be_bytes([w1, w0]));
                self.components = usize::from(components);
            }
            return;
        }
        let exif = segment.strip_prefix(b"Exif\0\0");
        let xmp = segment.strip_prefix(b"http://ns.adobe.com/xap/1.0/\0");
        if self.exif.is_none() {
            self.exif = exif.map(<[u8]>::to_vec);
        }
        if self.xmp.is_none() {
            self.xmp = xmp.map(<[u8]>::to_vec);
        }
    }
}

/// The next marker; bytes between segments, which no writer should leave, are passed over.
fn next_marker<R: BufRead>(reader: &mut R) -> std::io::Result<Option<u8>> {
    let mut after_fill = false;
    let mut byte = [0];
    while fill(reader, &mut byte)? {
        match byte[0] {
            0xff => after_fill = true,
            0 => after_fill = false,
            marker if after_fill => return Ok(Some(marker)),
            _ => {}
        }
    }
    Ok(None)
}

fn fill<R: BufRead>(reader: &mut R, bytes: &mut [u8]) -> std::io::Result<bool> {
    match reader.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Bytes of the picture up to and including its end marker; `None` if the data ends before it. What follows (a phone's
/// video, a maker's tags) is no part of the picture, and a thumbnail's own markers stand inside a segment.
pub(super) fn end(bytes: &[u8]) -> Option<usize> {
    walk(bytes, |_| ())
}

/// Scans of the picture.
pub(super) fn passes(bytes: &[u8]) -> u64 {
    let mut passes = 0;
    walk(bytes, |marker| passes += u64::from(marker == 0xda));
    passes
}

/// Goes from segment to segment and returns the place after the end marker.
fn walk(bytes: &[u8], mut segment: impl FnMut(u8)) -> Option<usize> {
    let mut place = 2;
    loop {
        // To the next marker: inside a scan only FF 00 and the restart markers are data.
        place += bytes.get(place..)?.iter().position(|byte| *byte == 0xff)?;
        let marker = *bytes.get(place + 1)?;
        match marker {
            0xff => place += 1,
            0xd9 => return Some(place + 2),
            0x00 | 0x01 | 0xd0..=0xd8 => place += 2,
            _ => {
                let length = bytes.get(place + 2..place + 4)?;
                place += 2 + usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
                segment(marker);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Cursor;

    use super::*;

    /// A JPEG's skeleton: the segments, then scans of the given data.
    pub(in crate::picture) fn skeleton(segments: &[(u8, &[u8])], scans: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![0xff, 0xd8];
        let scan_head: &[u8] = &[1, 1, 0, 0, 63, 0];
        let all = segments
            .iter()
            .copied()
            .map(|(marker, data)| (marker, data, &[][..]));
        for (marker, data, scan) in all.chain(scans.iter().map(|scan| (0xda, scan_head, *scan))) {
            bytes.extend([0xff, marker]);
            bytes.extend((data.len() as u16 + 2).to_be_bytes());
            bytes.extend(data);
            bytes.extend(scan);
        }
        bytes.extend([0xff, 0xd9]);
        bytes
    }

    const FRAME: (u8, &[u8]) = (
        0xc2,
        &[8, 0, 20, 0, 30, 3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1],
    );

    #[test]
    fn the_end_is_that_of_the_picture_and_of_nothing_else() {
        let thumbnail = [b"Exif\0\0".to_vec(), skeleton(&[FRAME], &[b"t"])].concat();
        let scans: [&[u8]; 2] = [b"a\xff\x00b\xff\xd0c\xff\xff", b"d"];
        let whole = skeleton(&[(0xe1, &thumbnail), (0xfe, b"\xff\xd9"), FRAME], &scans);
        assert_eq!((end(&whole), passes(&whole)), (Some(whole.len()), 2));
        let trailer = b"ftyp\xff\xda mp4 \xff\xd9 and more \xff\xda";
        assert_eq!(end(&[&whole[..], trailer].concat()), Some(whole.len()));
        for length in 0..whole.len() {
            assert_eq!(end(&whole[..length]), None, "cut to {length}");
        }
    }

    #[test]
    fn the_header_holds_size_and_metadata() {
        let exif = [b"Exif\0\0".to_vec(), b"II*\0".to_vec()].concat();
        let xmp = [b"http://ns.adobe.com/xap/1.0/\0".to_vec(), b"<x/>".to_vec()].concat();
        let bytes = skeleton(
            &[(0xe0, b"JFIF"), (0xe1, &exif), (0xe1, &xmp), FRAME],
            &[b"x"],
        );
        let header = read_header(&mut Cursor::new(&bytes))
            .expect("in memory")
            .expect("a header");
        assert_eq!(
            (header.width, header.height, header.components, header.frame),
            (30, 20, 3, 0xc2)
        );
        assert_eq!(header.exif.as_deref(), Some(&b"II*\0"[..]));
        assert_eq!(header.xmp.as_deref(), Some(&b"<x/>"[..]));
        let scan = bytes
            .windows(2)
            .position(|pair| pair == [0xff, 0xda])
            .expect("a scan");
        for length in 0..scan {
            let found = read_header(&mut Cursor::new(&bytes[..length])).expect("in memory");
            assert_eq!(found, None, "cut to {length}");
        }
    }
}
