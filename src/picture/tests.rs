//! Pictures of every kind against what Pillow shows (tests/golden/pictures/make.py wrote both), and what is refused.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::ImageEncoder;
use image::codecs::png::PngEncoder;
use safetensors::SafeTensors;
use serde_json::Value;

use super::*;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn file(name: &str) -> ImageSource {
    ImageSource::Path(path(name))
}

fn of_bytes(bytes: impl Into<Arc<[u8]>>) -> ImageSource {
    ImageSource::Bytes(bytes.into())
}

/// Why the picture cannot be used: by its header, and by decoding it.
fn refusals(bytes: Vec<u8>) -> [String; 2] {
    let source = of_bytes(bytes);
    let header = header(&source).expect_err("unusable").to_string();
    [header, decode(&source).expect_err("unusable").to_string()]
}

/// Files that no decoder here reads, and the words that name their kind.
const REFUSED: [(&str, &str); 9] = [
    (
        "P.tif",
        "TIFF with palette colour, 8 bits, 1 samples, uncompressed",
    ),
    (
        "F.tif",
        "TIFF with grey, 32 bits (floating point), 1 samples, uncompressed",
    ),
    ("LAB.tif", "TIFF with Lab"),
    ("YCbCr.tif", "TIFF with YCbCr"),
    ("zstd.tif", "Zstandard compression"),
    ("lzma.tif", "LZMA compression"),
    ("LA.tif", "TIFF with grey, 8 bits, 2 samples"),
    ("grey-4-bits.tif", "TIFF with grey, 4 bits, 1 samples"),
    ("group3.tif", "fax compression"),
];

#[test]
fn every_kind_shows_what_pillow_shows_or_is_refused_by_its_name() {
    let text = std::fs::read(path("pictures/expected.json")).expect("the reference data");
    let expected: serde_json::Map<String, Value> = serde_json::from_slice(&text).expect("JSON");
    assert!(expected.len() >= 70);
    let mut wrong = Vec::new();
    for (name, reference) in &expected {
        let source = file(&format!("pictures/{name}"));
        match (
            decode(&source),
            REFUSED.iter().find(|refused| refused.0 == name),
        ) {
            (Ok(image), None) => {
                let size = serde_json::json!([image.width, image.height]);
                let header = header(&source).expect("a header");
                assert_eq!(
                    (header.width, header.height),
                    (image.width, image.height),
                    "{name}"
                );
                let rgb = STANDARD
                    .decode(reference["rgb"].as_str().expect("text"))
                    .expect("base64");
                // Lossy decoders round their transforms and colours differently.
                let lossy = ["jpg", "lossy", "jpeg"]
                    .iter()
                    .any(|part| name.contains(part));
                let largest = image
                    .pixels
                    .iter()
                    .zip(&rgb)
                    .map(|(a, b)| a.abs_diff(*b))
                    .max();
                if reference["size"] != size || largest > Some(if lossy { 6 } else { 0 }) {
                    wrong.push(format!("{name}: {size}, differs by {largest:?}"));
                }
            }
            (Err(problem), Some((_, words))) if problem.to_string().contains(words) => {}
            (found, refused) => {
                wrong.push(format!(
                    "{name}: {:?}, refused {refused:?}",
                    found.map(|_| "read")
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_recorded_mode_decodes_to_its_recorded_pixels() {
    let bytes = std::fs::read(path("public/golden-preprocess.safetensors")).expect("the file");
    let tensors = SafeTensors::deserialize(&bytes).expect("tensors");
    for name in [
        "badge",
        "photo",
        "strip",
        "grey_alpha",
        "bilevel",
        "palette_transparent",
    ] {
        let expected = tensors.tensor(&format!("{name}.rgb")).expect("recorded");
        let image = decode(&file(&format!("public/images/{name}.png"))).expect("a picture");
        assert_eq!([image.height, image.width], expected.shape()[..2], "{name}");
        assert_eq!(image.pixels, expected.data(), "{name}");
    }
}

/// A picture with an orientation, put into a JPEG that has none.
fn with_exif(jpeg: &[u8], value: u8) -> Vec<u8> {
    let exif = [b"Exif\0\0".to_vec(), orientation::tests::exif(value, true)].concat();
    let length = (exif.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xff, 0xe1], &length, &exif, &jpeg[2..]].concat()
}

#[test]
fn a_turned_picture_has_the_size_and_the_pixels_of_the_upright_one() {
    let jpeg = std::fs::read(path("public/images/jpeg.jpg")).expect("the file");
    let upright = decode_bytes(&jpeg).expect("a picture");
    for value in 1..=8 {
        let source = of_bytes(with_exif(&jpeg, value));
        let turned = decode(&source).expect("a picture");
        let found = header(&source).expect("a header");
        assert_eq!((found.width, found.height), (turned.width, turned.height));
        assert_eq!(found.is_plain, value == 1, "{value}");
        let swaps = value >= 5;
        assert_eq!(
            swaps,
            (turned.width, turned.height) != (upright.width, upright.height)
        );
        assert_eq!(value == 1, turned == upright);
    }
}

#[test]
fn only_what_every_reader_shows_alike_is_plain() {
    for (name, is_plain) in [
        ("RGB.png", true),
        ("L.png", true),
        ("P.png", true),
        ("444.jpg", true),
        ("trailer.jpg", true),
        ("RGBA.png", false),
        ("colour-clear.png", false),
        ("palette-clear.png", false),
        ("grey16.png", false),
        ("turned.png", false),
        ("turned-late.png", false),
        ("cmyk.jpg", false),
        ("turned-xmp.jpg", false),
    ] {
        let found = header(&file(&format!("pictures/{name}"))).expect(name);
        assert_eq!(found.is_plain, is_plain, "{name}");
    }
}

#[test]
fn what_follows_the_end_of_a_jpeg_is_no_part_of_it() {
    let jpeg = std::fs::read(path("public/images/jpeg.jpg")).expect("the file");
    let plain = decode_bytes(&jpeg).expect("a picture");
    for trailer in [
        vec![0; 200_000],
        b"\xff\xda video \xff\xd9\xff\xda".repeat(9000),
        jpeg.clone(),
    ] {
        let source = of_bytes([&jpeg[..], &trailer].concat());
        assert_eq!(decode(&source).expect("a picture"), plain);
        let bytes = bytes(&source).expect("bytes");
        assert_eq!(own_bytes(&bytes, ImageFormat::Jpeg).expect("whole"), jpeg);
    }
}

#[test]
fn a_file_that_is_cut_off_is_refused_by_its_header_where_the_format_tells() {
    for name in [
        "public/images/photo.png",
        "public/images/jpeg.jpg",
        "pictures/lossy.webp",
    ] {
        let bytes = std::fs::read(path(name)).expect("the file");
        for share in [2, 3] {
            let cut = bytes[..bytes.len() * share / 4].to_vec();
            for text in refusals(cut) {
                assert!(text.contains("the image is corrupt: "), "{name}: {text}");
                assert!(
                    text.contains("\nhint: open it in a viewer"),
                    "{name}: {text}"
                );
            }
        }
    }
}

fn png(width: u32, height: u32, pixels: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(pixels, width, height, image::ExtendedColorType::Rgb8)
        .expect("a PNG in memory");
    bytes
}

/// A small PNG whose header claims another size and form.
fn png_claiming(width: u32, height: u32, [bits, colour]: [u8; 2]) -> Vec<u8> {
    let mut bytes = png(1, 1, &[1, 2, 3]);
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    bytes[24..26].copy_from_slice(&[bits, colour]);
    let checksum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 * (crc & 1))
        })
    };
    !bytes.iter().fold(!0, step)
}

#[test]
fn enormous_and_empty_sizes_are_refused_by_the_header() {
    let rgb = [8, 2];
    for (bytes, words) in [
        (
            png_claiming(20_000, 20_000, rgb),
            "20000 x 20000 pixels, more than the 89478485",
        ),
        (
            png_claiming(u32::MAX >> 1, u32::MAX >> 1, rgb),
            "more than the 89478485",
        ),
        (
            png_claiming(9000, 9000, [16, 6]),
            "9000 x 9000 pixels takes 617 MB to decode, more than 512 MB",
        ),
        (
            png_claiming(0, 7, rgb),
            "the image is 0 x 7 pixels, so it has no content",
        ),
        (
            png_claiming(5, 0, rgb),
            "the image is 5 x 0 pixels, so it has no content",
        ),
        (
            jpeg::tests::skeleton(
                &[(0xc2, &[8, 0xff, 0xff, 0xff, 0xff, 1, 1, 0x11, 0])],
                &[b""],
            ),
            "65535 x 65535 pixels",
        ),
    ] {
        for text in refusals(bytes) {
            assert!(text.contains(words), "{text}");
            assert!(text.contains("\nhint: "), "{text}");
        }
    }
}

/// Metadata of a few kilobytes that unfolds to hundreds of megabytes, and a picture that is gone over thousands of times.
#[test]
fn bombs_are_refused_or_passed_over() {
    let zeros = {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, &vec![0; 100 << 20]).expect("in memory");
        encoder.finish().expect("in memory")
    };
    let plain = png(1, 1, &[1, 2, 3]);
    let data = [b"iCCPp\0\0".to_vec(), zeros].concat();
    let length = (data.len() as u32 - 4).to_be_bytes();
    let bomb = [
        &plain[..33],
        &length,
        &data,
        &crc32(&data).to_be_bytes(),
        &plain[33..],
    ]
    .concat();
    assert!(bomb.len() < 200_000);
    // The profile is not needed; what matters is that it is not unfolded.
    if let Ok(image) = decode(&of_bytes(bomb)) {
        assert_eq!(image.pixels, [1, 2, 3]);
    }
    let frame: &[u8] = &[8, 0x20, 0, 0x20, 0, 1, 1, 0x11, 0];
    let scans = vec![&b"x"[..]; 2000];
    let source = of_bytes(jpeg::tests::skeleton(&[(0xc2, frame)], &scans));
    let text = decode(&source).expect_err("too many passes").to_string();
    assert!(
        text.contains("takes 2000 passes to decode, more than 21"),
        "{text}"
    );
}

#[test]
fn kinds_without_a_decoder_are_named() {
    let frame = |marker, bits| {
        jpeg::tests::skeleton(&[(marker, &[bits, 0, 9, 0, 9, 1, 1, 0x11, 0])], &[b"x"])
    };
    for (bytes, words) in [
        (
            b"\0\0\0\x18ftypheic\0\0\0\0".to_vec(),
            "HEIC, as iPhones store photos",
        ),
        (b"\0\0\0\x1cftypavif\0\0\0\0".to_vec(), "AVIF"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0".to_vec(), "a video"),
        (b"\xff\x0a\x00\x00".to_vec(), "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n".to_vec(), "JPEG 2000"),
        (b"%PDF-1.7".to_vec(), "a PDF"),
        (b"<svg xmlns=\"x\"/>".to_vec(), "SVG"),
        (b"<?xml version=\"1.0\"?>\n<svg/>".to_vec(), "SVG"),
        (b"8BPS\0\x01".to_vec(), "Photoshop"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid".to_vec(),
            "git lfs pull",
        ),
        (
            b"\x89PNG\r\n\x1a\n\0\0\0\x04CgBI\0\0\0\0".to_vec(),
            "Apple's variant CgBI",
        ),
        (frame(0xc0, 12), "JPEG with 12 bits per sample"),
        (frame(0xc3, 8), "lossless JPEG"),
        (frame(0xc9, 8), "JPEG with arithmetic coding"),
        (b"II*\0\x08\0\0\0\0\0\0\0\0\0".to_vec(), ""),
    ] {
        for text in refusals(bytes) {
            assert!(text.contains(words), "{text}");
            assert!(
                words.is_empty() || text.contains("which is not read\nhint: convert it"),
                "{text}"
            );
        }
    }
    let [foreign, _] = refusals(b"<html>404</html>".to_vec());
    assert!(
        foreign.contains("no image of a known format\nhint: PNG, JPEG"),
        "{foreign}"
    );
    let [empty, _] = refusals(Vec::new());
    assert!(
        empty.starts_with("the image has 0 bytes\nhint: "),
        "{empty}"
    );
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    for (path, words) in [
        (path("no/such/picture.png"), "does not exist"),
        (path("public/images"), "it is a directory"),
        ("/dev/zero".into(), "it is a pipe or a device"),
    ] {
        let source = ImageSource::Path(path);
        let text = decode(&source).expect_err(words).to_string();
        assert!(text.contains(words) && text.contains("\nhint: "), "{text}");
        assert!(bytes(&source).is_err());
    }
}

/// A mutated file is read or refused: no panic, no more memory than the limits allow.
#[test]
fn mutated_pictures_never_panic() {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let names = [
        "RGBA.png",
        "progressive.jpg",
        "lossy-alpha.webp",
        "animated.gif",
        "P.bmp",
        "tiff_lzw.tif",
        "turned-6.jpg",
    ];
    for name in names {
        let whole = std::fs::read(path(&format!("pictures/{name}"))).expect("the file");
        for _ in 0..150 {
            let mut bytes = whole.clone();
            for _ in 0..=random(4) {
                let place = random(bytes.len());
                bytes[place] = random(256) as u8;
            }
            if random(4) == 0 {
                bytes.truncate(random(bytes.len()));
            }
            let source = of_bytes(bytes);
            let found = header(&source).map(|header| (header.width, header.height));
            if let Ok(image) = decode(&source) {
                assert_eq!(found.ok(), Some((image.width, image.height)), "{name}");
                assert_eq!(image.pixels.len(), image.width * image.height * 3, "{name}");
            }
        }
    }
}
