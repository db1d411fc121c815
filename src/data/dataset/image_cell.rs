//! A picture column's value, path or encoded bytes -> [`ImageSource`]. It decodes no picture and opens no file.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use super::container::kind;
use crate::record::ImageSource;

/// Standard alphabet; padding is optional because some writers leave it out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The first bytes of the picture formats that the program reads: PNG, JPEG, GIF, WebP, BMP, TIFF (both orders).
const SIGNATURES: [&[u8]; 7] = [
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"GIF8",
    b"RIFF",
    b"BM",
    b"II*\0",
    b"MM\0*",
];

/// Where an object has its path: `datasets`, chat messages, verl and `qwen_vl_utils`.
const PATH_KEYS: [&str; 5] = ["path", "url", "image", "image_url", "base64"];

/// The cells of an `image` or `images` column: a list has one each, null has none.
pub(super) fn cells(column: Option<&Value>) -> Vec<&Value> {
    match column {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list.iter().collect(),
        Some(single) => vec![single],
    }
}

/// Reads one cell: a path (relative ones are joined to `folder`), base64, a data URI, or `{"bytes", "path"}`
/// (the bytes win); also `{"url"}` and `{"image"}`, as chat messages and verl have it.
///
/// # Errors
/// What was expected and what was found.
pub(super) fn read_cell(cell: &Value, folder: &Path) -> Result<ImageSource, String> {
    match cell {
        Value::String(text) => read_text(text, folder),
        Value::Object(fields) => {
            let present = |key: &str| fields.get(key).filter(|value| !value.is_null());
            match (present("bytes"), PATH_KEYS.into_iter().find_map(present)) {
                (Some(Value::String(text)), _) => Ok(ImageSource::Bytes(decode(text)?)),
                (Some(other), _) => Err(format!(
                    "`bytes` of a picture must be base64 text, found {}",
                    kind(other)
                )),
                (None, Some(Value::String(text))) => read_text(text, folder),
                // verl's {"image": {"bytes": ...}}.
                (None, Some(inner @ Value::Object(fields)))
                    if !fields.values().any(Value::is_object) =>
                {
                    read_cell(inner, folder)
                }
                (None, Some(other)) => Err(format!(
                    "the path of a picture must be text, found {}",
                    kind(other)
                )),
                (None, None) => Err(format!(
                    "a picture object must have `bytes` or `path` (or `image`, `url`), found {}",
                    names(fields)
                )),
            }
        }
        other => Err(format!(
            "a picture must be a path, base64, a data URI or an object, found {}",
            kind(other)
        )),
    }
}

fn read_text(text: &str, folder: &Path) -> Result<ImageSource, String> {
    if text.is_empty() {
        return Err("the path of a picture is empty".into());
    }
    if text.starts_with("http://") || text.starts_with("https://") {
        return Err(format!(
            "pictures are not fetched from the network: `{}`; download it first",
            excerpt(text)
        ));
    }
    if let Some(uri) = text.strip_prefix("data:") {
        let Some((_, payload)) = uri.split_once(";base64,") else {
            return Err(format!(
                "a data URI must hold base64, found `{}`",
                excerpt(text)
            ));
        };
        return Ok(ImageSource::Bytes(decode(payload)?));
    }
    if let Some(bytes) = bare_base64(text) {
        return Ok(ImageSource::Bytes(bytes));
    }
    Ok(ImageSource::Path(folder.join(path_of(text).as_ref())))
}

/// The path of a text, or of a file URI, in which spaces and letters beyond ASCII are written as `%20`.
fn path_of(text: &str) -> Cow<'_, str> {
    let Some(path) = text.strip_prefix("file://") else {
        return Cow::Borrowed(text);
    };
    let path = path.strip_prefix("localhost").unwrap_or(path);
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, more @ ..] = rest {
        let digits = more
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped.filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8(bytes).map_or(Cow::Borrowed(path), Cow::Owned)
}

fn names(fields: &Map<String, Value>) -> String {
    let names: Vec<String> = fields
        .keys()
        .take(5)
        .map(|name| format!("`{name}`"))
        .collect();
    if names.is_empty() {
        "nothing".into()
    } else {
        names.join(", ")
    }
}

fn decode(text: &str) -> Result<Arc<[u8]>, String> {
    let compact: String = text.split_ascii_whitespace().collect();
    let bytes = BASE64
        .decode(compact)
        .map_err(|error| format!("the picture's base64 cannot be decoded: {error}"))?;
    if bytes.is_empty() {
        Err("the picture has no bytes".into())
    } else {
        Ok(bytes.into())
    }
}

/// The bytes if the text is base64 of a picture. Base64 of a JPEG begins with `/9j/` and so looks like a path;
/// only the decoded signature tells them apart.
fn bare_base64(text: &str) -> Option<Arc<[u8]>> {
    let looks_like_base64 = text.len() >= 32
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+/=\r\n".contains(&byte));
    let bytes = looks_like_base64.then(|| decode(text).ok()).flatten()?;
    SIGNATURES
        .iter()
        .any(|signature| bytes.starts_with(signature))
        .then_some(bytes)
}

fn excerpt(text: &str) -> String {
    if text.chars().count() <= 80 {
        text.into()
    } else {
        text.chars().take(77).chain("...".chars()).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const JPEG_BYTES: [u8; 26] = *b"\xff\xd8\xff\xe0....JFIF....abcdefghij";

    fn read(cell: Value) -> Result<ImageSource, String> {
        read_cell(&cell, Path::new("pictures"))
    }

    fn bytes(content: &[u8]) -> ImageSource {
        ImageSource::Bytes(content.into())
    }

    #[test]
    fn reads_every_kind_of_cell() {
        let encoded = BASE64.encode(JPEG_BYTES);
        assert!(
            encoded.starts_with("/9j/"),
            "the case that looks like an absolute path"
        );
        assert_eq!(
            read(json!("a/b.png")),
            Ok(ImageSource::Path("pictures/a/b.png".into()))
        );
        assert_eq!(
            read(json!("/data/b.png")),
            Ok(ImageSource::Path("/data/b.png".into()))
        );
        assert_eq!(
            read(json!("file:///data/b.png")),
            Ok(ImageSource::Path("/data/b.png".into()))
        );
        assert_eq!(
            read(json!({"bytes": null, "path": "b.png"})),
            Ok(ImageSource::Path("pictures/b.png".into()))
        );
        for cell in [
            json!({"image": "b.png"}),
            json!({"image": {"path": "b.png"}}),
            json!({"image_url": {"url": "b.png"}}),
        ] {
            assert_eq!(read(cell), Ok(ImageSource::Path("pictures/b.png".into())));
        }
        for (text, path) in [
            (
                "file:///data/my%20picture%20%C3%A4.png",
                "/data/my picture ä.png",
            ),
            ("file://localhost/data/b.png", "/data/b.png"),
            ("file:///data/100%.png", "/data/100%.png"),
            (
                "my picture 100%20 ä 図.png",
                "pictures/my picture 100%20 ä 図.png",
            ),
        ] {
            assert_eq!(read(json!(text)), Ok(ImageSource::Path(path.into())));
        }
        for cell in [
            json!(encoded),
            json!(encoded.trim_end_matches('=')),
            json!(format!("data:image/jpeg;base64,{encoded}")),
            json!({"bytes": encoded, "path": "b.jpg"}),
            json!({"url": format!("data:image/jpeg;base64,{encoded}")}),
            json!({"image": format!("data:image/jpeg;base64,{encoded}")}),
            json!({"image": {"bytes": encoded, "path": null}}),
        ] {
            assert_eq!(read(cell.clone()), Ok(bytes(&JPEG_BYTES)), "{cell}");
        }
    }

    #[test]
    fn a_long_path_of_base64_letters_stays_a_path() {
        let path = "pictures/train/imagesOfScenesWithoutAnExtension42";
        assert_eq!(
            read(json!(path)),
            Ok(ImageSource::Path(Path::new("pictures").join(path)))
        );
    }

    #[test]
    fn says_what_is_wrong() {
        for (cell, expected) in [
            (
                json!("https://example.org/a.png"),
                "pictures are not fetched from the network",
            ),
            (json!("data:image/png,abc"), "a data URI must hold base64"),
            (
                json!("data:image/png;base64,@@@"),
                "the picture's base64 cannot be decoded",
            ),
            (json!({"bytes": ""}), "the picture has no bytes"),
            (
                json!({"bytes": [1, 2]}),
                "`bytes` of a picture must be base64 text, found a list",
            ),
            (
                json!({"name": "a.png"}),
                "a picture object must have `bytes` or `path`",
            ),
            (json!(""), "the path of a picture is empty"),
            (json!(7), "found a number"),
        ] {
            let reason = read(cell).unwrap_err();
            assert!(reason.contains(expected), "{reason}");
        }
    }

    #[test]
    fn a_column_has_none_one_or_several_cells() {
        assert_eq!(cells(None).len(), 0);
        assert_eq!(cells(Some(&Value::Null)).len(), 0);
        assert_eq!(cells(Some(&json!("a.png"))).len(), 1);
        assert_eq!(cells(Some(&json!(["a.png", {"path": "b.png"}]))).len(), 2);
    }
}
