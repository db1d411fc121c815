//! `data counting`: rows, pictures and recorded actions.

use std::path::Path;

use serde_json::Value;

use crate::support::program::{program, text};
use crate::support::run::names;

/// Renders six rows of a split into a folder.
pub fn counting(folder: &Path, split: &str, more: &[&str]) -> String {
    let always = ["data", "counting", "--count", "6", "--out", text(folder)];
    program(&[&always[..], &["--split", split], more].concat()).done()
}

#[test]
fn data_counting_writes_rows_pictures_and_an_experts_actions() {
    let folder = tempfile::tempdir().expect("a folder");
    let expert = [
        "--expert-accuracy",
        "1",
        "--expert-name",
        "oracle",
        "--seed",
        "5",
    ];
    let printed = counting(folder.path(), "train", &expert);
    assert!(printed.contains("counting-train.json\n"), "{printed}");
    assert!(
        printed.contains("counting-train-oracle.jsonl (6 of 6 right)"),
        "{printed}"
    );
    for split in ["test", "test-ood"] {
        counting(folder.path(), split, &["--size", "56", "--seed", "5"]);
    }
    let expected = [
        "counting-test-ood.json",
        "counting-test.json",
        "counting-train-oracle.jsonl",
        "counting-train.json",
        "images",
    ];
    assert_eq!(names(folder.path()), expected);
    for (split, size) in [("train", 84), ("test", 56), ("test-ood", 56)] {
        let file = std::fs::read(folder.path().join(format!("counting-{split}.json")));
        let rows: Vec<Value> = serde_json::from_slice(&file.expect("rows")).expect("a JSON list");
        assert_eq!(rows.len(), 6);
        for row in &rows {
            let path = folder.path().join(row["image"].as_str().expect("a path"));
            let picture = image::image_dimensions(&path).expect("a picture");
            assert_eq!(picture, (size, size), "{}", path.display());
            assert!(
                row["solution"]
                    .as_str()
                    .expect("text")
                    .parse::<u32>()
                    .is_ok()
            );
            assert_eq!(row.get("cot").is_some(), split == "train");
        }
    }
    let again = tempfile::tempdir().expect("a folder");
    counting(again.path(), "train", &expert);
    for name in [
        "counting-train.json",
        "counting-train-oracle.jsonl",
        "images/train-3.png",
    ] {
        let read = |folder: &Path| std::fs::read(folder.join(name)).expect("a file");
        assert!(read(again.path()) == read(folder.path()), "{name} repeats");
    }
    counting(again.path(), "train", &["--seed", "6", "--overwrite"]);
    let read = |folder: &Path| std::fs::read(folder.join("counting-train.json")).expect("rows");
    assert!(
        read(again.path()) != read(folder.path()),
        "another seed, other rows"
    );
}
