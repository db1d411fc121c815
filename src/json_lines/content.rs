//! The bytes of a text file -> UTF-8 without its mark. It knows nothing of JSON.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

/// What some programs write before UTF-8.
pub(super) const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// A gzip file may unfold to this many bytes,
const UNPACKED_AT_LEAST: u64 = 256 << 20;
/// or to this many times its size. Text shrinks ten- or twentyfold; what unfolds further is no text.
const LARGEST_RATIO: u64 = 100;

/// Bytes of a text that a person wrote, at most.
const LONGEST_TEXT: u64 = 1 << 20;

/// First bytes of what is no text, what it is, and what to do about it.
const CONTAINERS: [(&[u8], &str); 9] = [
    (
        b"PAR1",
        "a Parquet file; convert it with Python's `datasets`: \
         `load_dataset(\"parquet\", data_files=FILE)[\"train\"].to_json(\"rows.jsonl\")`",
    ),
    (
        b"ARROW1",
        "an Arrow file; convert it with Python's `datasets`: `Dataset.from_file(FILE).to_json(\"rows.jsonl\")`",
    ),
    (b"PK\x03\x04", "a zip archive; unpack it"),
    (
        b"\x28\xb5\x2f\xfd",
        "compressed by zstd; unpack it: `zstd -d FILE`",
    ),
    (b"BZh", "compressed by bzip2; unpack it: `bunzip2 FILE`"),
    (b"\xfd7zXZ\0", "compressed by xz; unpack it: `unxz FILE`"),
    (
        b"SQLite format 3",
        "an SQLite database; write its rows as JSON lines",
    ),
    (
        b"version https://git-lfs",
        "the pointer of Git LFS in the file's place; fetch the file: `git lfs pull`",
    ),
    (b"\xff\xfe\0\0", "UTF-32 text; save it as UTF-8"),
];

/// Reads a file: its text as UTF-8 without a byte order mark, unpacked if it is gzip.
///
/// # Errors
/// The system's, or `InvalidData` with what the file is and the remedy: no regular file, Parquet, an archive, text that is
/// not whole.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe would be waited for, and a device has no end.
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        let kind = if metadata.is_dir() {
            "a folder"
        } else {
            "a pipe or a device"
        };
        return Err(unusable(format!("{kind}, expected a file")));
    }
    let bytes = fs::read(path)?;
    match decode(&bytes)? {
        Cow::Borrowed(text) if text.len() == bytes.len() => Ok(bytes),
        text => Ok(text.into_owned()),
    }
}

/// Reads a text that a person wrote, a template for example: as [`read`], each line ending with a line feed, as Python's
/// text files have it.
///
/// # Errors
/// As [`read`], and text that is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    let too_long = || {
        unusable(format!(
            "longer than {LONGEST_TEXT} bytes, too long for a text that people write"
        ))
    };
    if fs::metadata(path)?.len() > LONGEST_TEXT {
        return Err(too_long());
    }
    let bytes = read(path)?;
    // A small file may unfold to a long text.
    if bytes.len() as u64 > LONGEST_TEXT {
        return Err(too_long());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        unusable(format!(
            "not UTF-8 after {place} bytes; save the file as UTF-8"
        ))
    })?;
    Ok(text.replace("\r\n", "\n").replace('\r', "\n"))
}

/// The text of a file's bytes, as [`read`] gives it.
///
/// # Errors
/// As [`read`], without the system's.
fn decode(bytes: &[u8]) -> io::Result<Cow<'_, [u8]>> {
    if !bytes.starts_with(b"\x1f\x8b") {
        return plain(bytes);
    }
    let unpacked = unpack(bytes)?;
    Ok(Cow::Owned(plain(&unpacked)?.into_owned()))
}

fn plain(bytes: &[u8]) -> io::Result<Cow<'_, [u8]>> {
    if let Some((_, what)) = CONTAINERS
        .iter()
        .find(|(start, _)| bytes.starts_with(start))
    {
        return Err(unusable((*what).to_owned()));
    }
    match bytes {
        [0xff, 0xfe, units @ ..] => utf16(units, u16::from_le_bytes),
        [0xfe, 0xff, units @ ..] => utf16(units, u16::from_be_bytes),
        [0x1f, 0x8b, ..] => Err(unusable("gzip inside gzip; unpack it".to_owned())),
        _ => Ok(Cow::Borrowed(
            bytes.strip_prefix(UTF8_MARK).unwrap_or(bytes),
        )),
    }
}

/// Text as Windows PowerShell writes it.
fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> io::Result<Cow<'static, [u8]>> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let text: Result<String, _> =
        char::decode_utf16(pairs.iter().map(|pair| unit(*pair))).collect();
    match text {
        Ok(text) if rest.is_empty() => Ok(Cow::Owned(text.into_bytes())),
        _ => Err(unusable(
            "UTF-16 text that is not whole; save it as UTF-8".to_owned(),
        )),
    }
}

fn unpack(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let limit = UNPACKED_AT_LEAST.max(LARGEST_RATIO.saturating_mul(bytes.len() as u64));
    let mut unpacked = Vec::new();
    let read = MultiGzDecoder::new(bytes)
        .take(limit + 1)
        .read_to_end(&mut unpacked);
    read.map_err(|error| {
        unusable(format!(
            "gzip data that cannot be unpacked ({error}); it may be cut off, `gzip -t FILE` tells"
        ))
    })?;
    if unpacked.len() as u64 > limit {
        let size = bytes.len();
        return Err(unusable(format!(
            "gzip data of {size} bytes that unfolds to more than {limit}; unpack it yourself if it can be trusted"
        )));
    }
    Ok(unpacked)
}

fn unusable(words: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).expect("in memory");
        encoder.finish().expect("in memory")
    }

    fn utf16_of(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        std::iter::once(0xfeff)
            .chain(text.encode_utf16())
            .flat_map(bytes)
            .collect()
    }

    #[test]
    fn every_way_to_write_text_reads_alike() {
        let text = "{\"id\": \"é😀\"}\r\n";
        let marked = [UTF8_MARK, text.as_bytes()].concat();
        let halves = [gzip(&text.as_bytes()[..5]), gzip(&text.as_bytes()[5..])].concat();
        for (name, bytes) in [
            ("plain", text.as_bytes().to_vec()),
            ("marked", marked.clone()),
            ("UTF-16, little end first", utf16_of(text, u16::to_le_bytes)),
            ("UTF-16, big end first", utf16_of(text, u16::to_be_bytes)),
            ("gzip", gzip(text.as_bytes())),
            ("gzip of marked", gzip(&marked)),
            ("gzip of UTF-16", gzip(&utf16_of(text, u16::to_le_bytes))),
            ("two gzip members", halves),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("rows of ümläut.jsonl");
            std::fs::write(&path, bytes).expect("written");
            assert_eq!(read(&path).expect(name), text.as_bytes(), "{name}");
        }
    }

    #[test]
    fn a_template_has_one_kind_of_line_end_and_no_mark() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("template.txt");
        for bytes in [
            &b"\xef\xbb\xbfa\r\n{Question}\rb\n"[..],
            b"\xff\xfea\0\n\0{\0Q\0u\0e\0s\0t\0i\0o\0n\0}\0\n\0b\0\n\0",
        ] {
            std::fs::write(&path, bytes).expect("written");
            assert_eq!(read_text(&path).expect("text"), "a\n{Question}\nb\n");
        }
        std::fs::write(&path, b"caf\xe9").expect("written");
        assert!(
            read_text(&path)
                .expect_err("Latin-1")
                .to_string()
                .contains("not UTF-8 after 3 bytes")
        );
    }

    #[test]
    fn what_is_no_text_is_named_with_the_remedy() {
        for (bytes, words) in [
            (b"PAR1\x15\x04".to_vec(), "a Parquet file; convert it"),
            (gzip(b"PAR1\x15\x04"), "a Parquet file"),
            (b"ARROW1\0\0".to_vec(), "an Arrow file"),
            (b"PK\x03\x04\x14".to_vec(), "a zip archive"),
            (b"\x28\xb5\x2f\xfd\x04".to_vec(), "zstd"),
            (b"BZh91AY".to_vec(), "bzip2"),
            (b"\xfd7zXZ\0\0".to_vec(), "xz"),
            (
                b"version https://git-lfs.github.com/spec/v1\n".to_vec(),
                "git lfs pull",
            ),
            (b"\xff\xfe\0\0a\0\0\0".to_vec(), "UTF-32"),
            (b"\xff\xfea".to_vec(), "UTF-16 text that is not whole"),
            (gzip(&gzip(b"{}")), "gzip inside gzip"),
            (
                gzip(b"{\"id\": 1}")[..20].to_vec(),
                "gzip data that cannot be unpacked",
            ),
        ] {
            let error = decode(&bytes).expect_err(words);
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().contains(words), "{error}");
            assert!(!error.to_string().contains(char::is_control), "{error:?}");
        }
    }

    #[test]
    fn gzip_that_unfolds_without_end_is_refused() {
        let bomb = gzip(&vec![b' '; UNPACKED_AT_LEAST as usize + 1]);
        assert!(bomb.len() < 1 << 20, "{}", bomb.len());
        let error = decode(&bomb).expect_err("too large");
        assert!(
            error.to_string().contains("unfolds to more than 268435456"),
            "{error}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn pipes_devices_and_folders_are_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, words) in [
            (Path::new("/dev/zero"), "a pipe or a device"),
            (folder.path(), "a folder"),
        ] {
            assert!(read(path).expect_err(words).to_string().contains(words));
            assert!(
                read_text(path)
                    .expect_err(words)
                    .to_string()
                    .contains(words)
            );
        }
        let bomb = folder.path().join("text.yaml.gz");
        std::fs::write(&bomb, gzip(&vec![b' '; 2 << 20])).expect("written");
        let error = read_text(&bomb).expect_err("too long").to_string();
        assert!(error.contains("longer than 1048576 bytes"), "{error}");
    }
}
