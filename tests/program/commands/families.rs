//! `data structure` and `data transformation`, experts of every spelling, and contact sheets.

use serde_json::Value;

use crate::support::program::{program, text};
use crate::support::run::names;

#[test]
fn training_rows_come_with_the_papers_two_experts_and_test_rows_with_those_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = |arguments: &str| {
        let words = ["data"].into_iter().chain(arguments.split(' '));
        let out = ["--count", "5", "--out", text(folder.path())];
        program(&words.chain(out).collect::<Vec<_>>()).done()
    };
    let printed = data("structure --split train");
    for line in [
        "structure-train.json\n",
        "structure-train-expert-a.jsonl (",
        "structure-train-expert-b.jsonl (",
        " of 5 right)\n",
    ] {
        assert!(printed.contains(line), "{line} in {printed}");
    }
    data("structure --split test --expert none");
    let printed = data("transformation --split test-ood-left --expert a=1:verbose --expert b=0");
    assert!(
        printed.contains("transformation-test-ood-left-a.jsonl (5 of 5 right)"),
        "{printed}"
    );
    assert!(
        printed.contains("transformation-test-ood-left-b.jsonl (0 of 5 right)"),
        "{printed}"
    );
    let expected = [
        "images",
        "structure-test.json",
        "structure-train-expert-a.jsonl",
        "structure-train-expert-b.jsonl",
        "structure-train.json",
        "transformation-test-ood-left-a.jsonl",
        "transformation-test-ood-left-b.jsonl",
        "transformation-test-ood-left.json",
    ];
    assert_eq!(names(folder.path()), expected);
    let rows = std::fs::read(folder.path().join(expected[7])).expect("rows");
    let rows: Vec<Value> = serde_json::from_slice(&rows).expect("a JSON list");
    for row in &rows {
        for image in row["image"].as_array().expect("two pictures") {
            let path = folder.path().join(image.as_str().expect("a path"));
            assert_eq!(image::image_dimensions(path).expect("a picture"), (84, 84));
        }
    }
}

#[test]
fn a_contact_sheet_is_one_picture_and_no_data_set() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sheet.png");
    for family in [
        "counting --renderer solid",
        "structure --difficulty full",
        "transformation",
    ] {
        let words = ["data"].into_iter().chain(family.split(' '));
        let sheet = [
            "--split",
            "train",
            "--overwrite",
            "--contact-sheet",
            text(&file),
        ];
        let printed = program(&words.chain(sheet).collect::<Vec<_>>()).done();
        assert_eq!(printed.trim_end(), text(&file));
        assert_eq!(names(folder.path()), ["sheet.png"]);
        let (width, height) = image::image_dimensions(&file).expect("a picture");
        assert!(width > 1000 && height > 800, "{width} x {height}");
    }
}

#[test]
fn what_a_family_does_not_have_is_refused_with_what_it_has() {
    let refused = |arguments: &str, words: &[&str]| {
        let all = ["data"].into_iter().chain(arguments.split(' '));
        program(&all.collect::<Vec<_>>()).refused(words);
    };
    let rest = "--count 1 --out unused";
    refused(
        &format!("transformation --split test-ood {rest}"),
        &[
            "`split` is test-ood",
            "train, test, test-ood-left, test-ood-right",
        ],
    );
    refused(
        &format!("structure --split train --size 40 {rest}"),
        &["`size` is 40", "56 to 4096"],
    );
    refused(
        &format!("structure --split train --expert gpt=high {rest}"),
        &["`--expert`", "NAME=ACCURACY", "gpt=high"],
    );
    refused(
        &format!("structure --split train --expert gpt=1.5 {rest}"),
        &["gpt=1.5", "0 to 1"],
    );
}
