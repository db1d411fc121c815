//! Pictures that cannot be used, and prompts that do not pair up with them or are too long.

use serde_json::{Value, json};

use crate::support::golden_path;
use crate::support::program::{copied_model, edit_json, program, text, training_refused};
use crate::support::run::{Workspace, json_lines};

/// The third row of every test is the bad one.
const BAD: usize = 2;

/// A PNG that says it has this size; its pixels end early.
fn png_claiming(width: u32, height: u32) -> Vec<u8> {
    let chunk = |kind: &[u8], data: &[u8]| {
        let body = [kind, data].concat();
        let length = (data.len() as u32).to_be_bytes();
        [&length[..], &body, &crc32(&body).to_be_bytes()].concat()
    };
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let header = [&size[..], &[8, 2, 0, 0, 0]].concat();
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &header),
        chunk(b"IEND", &[]),
    ]
    .concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    let shift = |value: u32, _| (value >> 1) ^ (0xEDB8_8320 * (value & 1));
    let step = |value: u32, byte: &u8| (0..8).fold(value ^ u32::from(*byte), shift);
    !bytes.iter().fold(!0, step)
}

/// Changes the bad row, expects `train` to refuse it by file, row, id and `words`, and finds it in the list of rejected
/// rows.
fn row_refused(edit: impl FnOnce(&mut Value), keys: &[(&str, &str)], words: &[&str]) {
    let work = Workspace::new();
    edit_json(&work.rows, |rows| edit(&mut rows[BAD]));
    let place = format!("{}:3 (id `train-2`): ", work.rows.display());
    let counted = [
        "1 of 10 rows cannot be used, `max_rejected_fraction` is 0",
        &place,
    ];
    training_refused(&work, "run", keys, &[&counted, words].concat());
    let rejected = json_lines(&work.path("run").join("rejected_rows.jsonl"));
    assert_eq!(rejected.len(), 1, "{rejected:?}");
    assert_eq!(rejected[0]["row"], 3);
    assert_eq!(rejected[0]["id"], "train-2");
    assert_eq!(rejected[0]["file"], text(&work.rows));
    let reason = rejected[0]["reason"].as_str().expect("a reason");
    assert!(
        reason.contains(words[0]) && !reason.contains('\n'),
        "{reason}"
    );
}

fn picture_refused(bytes: Option<&[u8]>, words: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    let picture = folder.path().join("picture.png");
    if let Some(bytes) = bytes {
        std::fs::write(&picture, bytes).expect("written");
    }
    row_refused(|row| row["image"] = json!(text(&picture)), &[], words);
    let model = golden_path("qwen2vl-tiny");
    let generate = [
        "generate",
        "--model",
        text(&model),
        "--prompt",
        "hi",
        "--device",
        "cpu",
    ];
    let said = program(&[&generate[..], &["--image", text(&picture)]].concat());
    said.refused(&["image 1 of 1", "picture.png", words[0]]);
}

#[test]
fn absent() {
    picture_refused(None, &["does not exist", "picture.png", "image_dir"]);
}

#[test]
fn corrupt() {
    let whole = std::fs::read(golden_path("images/photo.png")).expect("a picture");
    picture_refused(
        Some(&whole[..whole.len() / 2]),
        &["the image is corrupt: ", "image 1 of 1", "picture.png"],
    );
    picture_refused(
        Some(b""),
        &["the image has 0 bytes", "copy the image again"],
    );
    picture_refused(
        Some(b"<html>404</html>"),
        &["no image of a known format", "PNG, JPEG"],
    );
}

#[test]
fn of_no_size_or_an_enormous_one() {
    picture_refused(
        Some(&png_claiming(0, 7)),
        &["the image is 0 x 7 pixels", "remove the row"],
    );
    picture_refused(
        Some(&png_claiming(20_000, 20_000)),
        &[
            "20000 x 20000 pixels, more than the 89478485",
            "resize the file",
        ],
    );
    picture_refused(
        Some(&png_claiming(6000, 10)),
        &["6000 x 10 pixels", "200 times", "crop or pad"],
    );
}

#[test]
fn more_placeholders_than_pictures_and_the_reverse() {
    row_refused(
        |row| row["problem"] = json!("<image> and <image>: how many?"),
        &[],
        &["have 2 image placeholders, the row has 1"],
    );
    row_refused(
        |row| {
            row["problem"] = json!("<image> how many?");
            row["image"] = json!([row["image"], row["image"], row["image"]]);
        },
        &[],
        &["have 1 image placeholders, the row has 3"],
    );
    row_refused(
        |row| row["problem"] = json!("What is <|image_pad|> for?"),
        &[],
        &[
            "has 2 image placeholder(s), the row has 1 image(s)",
            "one image per image part",
        ],
    );
}

#[test]
fn a_prompt_longer_than_its_limit() {
    let long = |row: &mut Value| row["problem"] = json!("How many objects? ".repeat(40));
    row_refused(
        long,
        &[("max_prompt_length", "300")],
        &[
            "more than max_prompt_length 300",
            "raise max_prompt_length to ",
        ],
    );
}

#[test]
fn a_prompt_longer_than_the_context() {
    let work = Workspace::new();
    let model = copied_model(&work, "model");
    edit_json(&model.join("config.json"), |config| {
        config["max_position_embeddings"] = json!(200);
    });
    let words = [
        "10 of 10 rows cannot be used",
        "more than the 20 that the context length 200 leaves beside max_completion_length 180",
        "(9 of them for images)",
        "lower max_completion_length to <= 84",
        "and 5 more",
    ];
    let model = ("model_name_or_path", text(&model));
    training_refused(
        &work,
        "run",
        &[model, ("max_completion_length", "180")],
        &words,
    );
    let rejected = json_lines(&work.path("run").join("rejected_rows.jsonl"));
    assert_eq!(rejected.len(), 10, "every row is named");
    let long = "How many objects? ".repeat(40);
    let arguments = [
        "generate", "--model", model.1, "--prompt", &long, "--device", "cpu",
    ];
    let said = program(&[&arguments[..], &["--max-new-tokens", "8"]].concat());
    said.refused(&[
        "the prompt has ",
        "more than the 192 that the context length 200 leaves beside max_completion_length 8",
        "shorten the text",
    ]);
}
