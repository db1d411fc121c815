//! Pictures of every format that is read.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, RgbImage};
use serde_json::Map;
use vision_ekipl::data::prompt::{PromptEncoder, PromptOptions};
use vision_ekipl::record::{ContentPart, Example, ImageSource, Message};

use super::{assert_is_a_message, each_case, golden};

/// A small picture in each format, and the golden ones of odd kinds.
fn seeds() -> Vec<Vec<u8>> {
    let picture = RgbImage::from_fn(23, 17, |x, y| {
        image::Rgb([x as u8 * 9, y as u8 * 13, (x * y) as u8])
    });
    let picture = DynamicImage::ImageRgb8(picture);
    let formats = [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::WebP,
        ImageFormat::Gif,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
    ];
    let encode = |format: ImageFormat| {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).expect("encoded");
        bytes.into_inner()
    };
    let odd = [
        "bilevel.png",
        "grey_alpha.png",
        "palette_transparent.png",
        "jpeg.jpg",
        "thin.png",
    ];
    let odd = odd.map(|name| golden(&format!("images/{name}")));
    formats.map(encode).into_iter().chain(odd).collect()
}

#[test]
fn pictures() {
    let folder = crate::support::golden_path("qwen2vl-tiny");
    let options = PromptOptions {
        max_pixels: Some(50_000),
        ..PromptOptions::default()
    };
    let encoder = PromptEncoder::open(&folder, &options).expect("an encoder");
    each_case("pictures", 3000, &seeds(), move |input| {
        let example = Example {
            id: "a".to_owned(),
            task: None,
            messages: vec![Message {
                role: "user".to_owned(),
                content: vec![ContentPart::Image],
            }],
            images: vec![ImageSource::Bytes(input.into())],
            solution: String::new(),
            cot: None,
            target: None,
            columns: Map::new(),
            origin: "rows.json:1".to_owned(),
        };
        match encoder.encode(&example) {
            Ok(prompt) => assert!(prompt.input_ids.len() < 1000, "{}", prompt.input_ids.len()),
            Err(error) => assert_is_a_message(&error.to_string()),
        }
    });
}
