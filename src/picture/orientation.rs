//! The orientation that a camera wrote beside the pixels, and pixels turned upright. It knows nothing of files.

use image::metadata::Orientation;
use image::{DynamicImage, ImageBuffer};

use super::pixels::RgbImage;

/// The orientation of Exif data, else that of an XMP packet, as Pillow's `getexif` looks for it.
pub(super) fn of(exif: Option<&[u8]>, xmp: Option<&[u8]>) -> Orientation {
    // Some writers keep the JPEG segment's mark in other formats, as Pillow knows.
    let exif = exif.map(|bytes| bytes.strip_prefix(b"Exif\0\0").unwrap_or(bytes));
    exif.and_then(Orientation::from_exif_chunk)
        .or_else(|| xmp.and_then(of_xmp))
        .unwrap_or(Orientation::NoTransforms)
}

/// `tiff:Orientation="6"` or `<tiff:Orientation>6`.
fn of_xmp(packet: &[u8]) -> Option<Orientation> {
    let name = b"tiff:Orientation";
    let start = packet.windows(name.len()).position(|bytes| bytes == name)? + name.len();
    let rest = &packet[start..];
    let value = rest
        .strip_prefix(b"=\"")
        .or_else(|| rest.strip_prefix(b">"))?;
    Orientation::from_exif(value.first()?.checked_sub(b'0')?)
}

/// Columns and rows of the upright picture.
pub(super) fn turned_size((width, height): (usize, usize), turn: Orientation) -> (usize, usize) {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    match turn {
        Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH => (height, width),
        _ => (width, height),
    }
}

/// The upright picture.
pub(super) fn turned(image: RgbImage, turn: Orientation) -> RgbImage {
    if turn == Orientation::NoTransforms {
        return image;
    }
    let (width, height) = (image.width as u32, image.height as u32);
    let buffer = ImageBuffer::from_raw(width, height, image.pixels).expect("three bytes a pixel");
    let mut buffer = DynamicImage::ImageRgb8(buffer);
    buffer.apply_orientation(turn);
    RgbImage {
        width: buffer.width() as usize,
        height: buffer.height() as usize,
        pixels: buffer.into_rgb8().into_raw(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Exif data with one entry, the orientation.
    pub(in crate::picture) fn exif(value: u8, is_little: bool) -> Vec<u8> {
        if is_little {
            let mut bytes = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
            bytes.extend([value, 0, 0, 0, 0, 0, 0, 0]);
            bytes
        } else {
            let mut bytes = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01".to_vec();
            bytes.extend([0, value, 0, 0, 0, 0, 0, 0]);
            bytes
        }
    }

    /// What the picture with the red values 1 2 3 / 4 5 6 becomes, as Pillow's `exif_transpose` turns it.
    pub(in crate::picture) const TURNED: [(u8, usize, [u8; 6]); 8] = [
        (1, 3, [1, 2, 3, 4, 5, 6]),
        (2, 3, [3, 2, 1, 6, 5, 4]),
        (3, 3, [6, 5, 4, 3, 2, 1]),
        (4, 3, [4, 5, 6, 1, 2, 3]),
        (5, 2, [1, 4, 2, 5, 3, 6]),
        (6, 2, [4, 1, 5, 2, 6, 3]),
        (7, 2, [6, 3, 5, 2, 4, 1]),
        (8, 2, [3, 6, 2, 5, 1, 4]),
    ];

    #[test]
    fn each_orientation_is_turned_as_pillow_turns_it() {
        for (value, width, reds) in TURNED {
            let pixels = (1..=6).flat_map(|red| [red, 0, 9]).collect();
            let turn = of(Some(&exif(value, value % 2 == 0)), None);
            let image = turned(
                RgbImage {
                    width: 3,
                    height: 2,
                    pixels,
                },
                turn,
            );
            assert_eq!(image.width, width, "{value}");
            assert_eq!(
                (image.width, image.height),
                turned_size((3, 2), turn),
                "{value}"
            );
            let found: Vec<u8> = image.pixels.chunks(3).map(|pixel| pixel[0]).collect();
            assert_eq!(found, reds, "{value}");
        }
    }

    #[test]
    fn it_is_found_in_every_form_and_else_upright() {
        let marked = [b"Exif\0\0".to_vec(), exif(6, true)].concat();
        assert_eq!(of(Some(&marked), None), Orientation::Rotate90);
        for packet in [
            "<x tiff:Orientation=\"6\"/>",
            "<tiff:Orientation>6</tiff:Orientation>",
        ] {
            assert_eq!(of(None, Some(packet.as_bytes())), Orientation::Rotate90);
            assert_eq!(
                of(Some(&exif(3, true)), Some(packet.as_bytes())),
                Orientation::Rotate180
            );
        }
        for exif in [exif(0, true), exif(9, false), b"II*\0".to_vec(), vec![]] {
            assert_eq!(
                of(Some(&exif), Some(b"tiff:Orientation=x")),
                Orientation::NoTransforms
            );
        }
    }
}
