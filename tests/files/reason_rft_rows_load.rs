//! Rows in the form of the Reason-RFT-CoT files load as they are: hand-made rows of all three tasks, with old columns.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use vision_ekipl::actions::reward::{
    Credit, accuracy_reward, format_reward, function_sequence_reward,
};
use vision_ekipl::data::dataset::{Dataset, DatasetOptions, supervised_target};
use vision_ekipl::record::{ContentPart, Example, ImageSource, Task};

/// Writes the rows, and a picture for every name in them, where the published archives have them.
fn load(name: &str, rows: &[Value], task: Task) -> Vec<Arc<Example>> {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images").join("train_images");
    std::fs::create_dir_all(&images).unwrap();
    for row in rows {
        let names = match &row["image"] {
            Value::Array(names) => names.clone(),
            one => vec![one.clone()],
        };
        for name in names {
            image::RgbImage::new(32, 28)
                .save(images.join(name.as_str().unwrap()))
                .unwrap();
        }
    }
    let file = folder.path().join(name);
    std::fs::write(&file, serde_json::to_vec_pretty(&rows).unwrap()).unwrap();
    let options = DatasetOptions {
        files: vec![file],
        image_dir: Some(images),
        task: Some(task),
        ..DatasetOptions::default()
    };
    let dataset = Dataset::load(&options, &opens).unwrap();
    assert_eq!(dataset.rejected.len(), 0, "{:?}", dataset.rejected);
    dataset.examples
}

fn opens(example: &Example) -> Result<(), String> {
    let open = |path: &Path| {
        image::open(path)
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    example.images.iter().try_for_each(|image| match image {
        ImageSource::Path(path) => open(path),
        ImageSource::Bytes(_) => Err("expected a file".into()),
    })
}

/// Pictures, and the text after them.
fn parts(example: &Example) -> (usize, &str) {
    let content = &example.messages[0].content;
    let pictures = content
        .iter()
        .take_while(|part| **part == ContentPart::Image)
        .count();
    match &content[pictures..] {
        [ContentPart::Text { text }] => (pictures, text),
        other => panic!("{other:?}"),
    }
}

#[test]
fn counting_rows_with_a_chain_of_thought_and_without() {
    let rows = [
        json!({
            "id": "train-21764",
            "image": "CLEVR_train_021764.png",
            "problem": "Subtract all large gray matte cubes. Subtract all tiny blue rubber things. How many objects are left?",
            "answer": "4",
            "cot": "There are 6 objects. One is a large gray cube, one a tiny blue thing. 6 - 1 - 1 = 4.",
        }),
        json!({
            "id": "clevr-math-7",
            "image": "superCLEVR_new_025000.png",
            "problem_no_prompt": "How many different things are there?",
            "problem": "How many different things are there?",
            "solution": "<answer> 7 </answer>",
            "level": 1,
            "type": "count",
        }),
    ];
    let examples = load(
        "A3-Visual-Counting-train-35k-cot.json",
        &rows,
        Task::Counting,
    );
    assert_eq!(
        [&examples[0].id, &examples[1].id],
        ["train-21764", "clevr-math-7"]
    );
    let (pictures, text) = parts(&examples[0]);
    assert_eq!(pictures, 1);
    assert!(
        text.starts_with("Subtract all large gray matte cubes."),
        "{text}"
    );
    assert!(text.contains("(number)"), "{text}");
    let target = supervised_target(&examples[0], false).unwrap();
    assert!(
        target.starts_with("<think>\nThere are 6 objects."),
        "{target}"
    );
    assert_eq!(
        (accuracy_reward(&target, "4"), format_reward(&target)),
        (1.0, 1.0)
    );
    assert_eq!(
        examples[1].solution, "7",
        "the tags of the old column are taken off"
    );
    assert!(examples[1].cot.is_none() && supervised_target(&examples[1], false).is_err());
    assert_eq!(examples[1].columns["level"], 1);
    assert_eq!(examples[1].columns["type"], "count");
}

#[test]
fn structure_rows_ask_for_a_letter_or_a_number() {
    let rows = [
        json!({
            "id": "geomath-train-1203",
            "image": "geo170k_1203.png",
            "problem": "As shown in the figure, AB is parallel to CD and angle 1 is 50 degrees. What is angle 2?\nChoices:\nA: 40°\nB: 50°\nC: 130°\nD: 140°",
            "answer": "B",
            "cot": "<think>Alternate angles are equal, so angle 2 is 50 degrees, which is B.</think>",
        }),
        json!({
            "id": "geomath-train-1204",
            "image": "geo170k_1204.png",
            "problem": "In the triangle the angles at A and B are 47 and 62 degrees. Find the angle at C.",
            "answer": 71,
            "cot": "180 - 47 - 62 = 71.",
        }),
        json!({
            "id": "geomath-train-1205",
            "image": "geo170k_1205.png",
            "problem": "Find the radius.",
            "solution": "2.5",
        }),
    ];
    let examples = load(
        "A2-Structure-Perception-train-4k5-cot.json",
        &rows,
        Task::Structure,
    );
    let endings = [
        "(chosen letter)",
        "(float number or int number)",
        "(float number or int number)",
    ];
    for (example, ending) in examples.iter().zip(endings) {
        let (pictures, text) = parts(example);
        assert!(pictures == 1 && text.contains(ending), "{text}");
    }
    let (_, text) = parts(&examples[0]);
    assert!(
        text.contains("D: 140°") && text.contains("(A, B, C or D)"),
        "{text}"
    );
    assert_eq!(
        supervised_target(&examples[0], false).unwrap(),
        "<think>\nAlternate angles are equal, so angle 2 is 50 degrees, which is B.\n</think>\n<answer>\nB\n</answer>"
    );
    assert_eq!(examples[1].solution, "71", "a number in place of text");
}

#[test]
fn transformation_rows_have_two_pictures() {
    let solution = "change_size(2,'small'), change_position(0,'front_left')";
    let rows = [
        json!({
            "id": "train-418840",
            "image": ["img_418840-init.C.png", "img_418840-fin.C.png"],
            "problem": "((0, 'cylinder', 'medium', 'purple', 'glass'), (1, 'cube', 'small', 'red', 'metal'), (2, 'sphere', 'large', 'brown', 'rubber'))",
            "answer": solution,
            "cot": "Object 2 has become small. Object 0 stands further to the front and the left.",
        }),
        json!({
            "id": "test-1042",
            "image": ["img_1042-init.C.png", "img_1042-fin.L.png"],
            "problem_no_prompt": "((0, 'cube', 'small', 'gray', 'rubber'))",
            "problem": "((0, 'cube', 'small', 'gray', 'rubber'))",
            "solution": "<answer>change_color(0,'cyan')</answer>",
            "level": 1,
            "type": "view",
        }),
    ];
    for task in [
        Task::Transformation,
        Task::TransformationOnlyFull,
        Task::TransformationPenalty,
    ] {
        let examples = load("A1-Spatial-Transformation-train-60k-cot.json", &rows, task);
        for (example, question) in examples.iter().zip(["((0, 'cylinder',", "((0, 'cube',"]) {
            let (pictures, text) = parts(example);
            assert!(
                pictures == 2 && text.contains(question) && text.contains("change_position"),
                "{text}"
            );
        }
        let names: Vec<_> = examples[0]
            .images
            .iter()
            .map(|image| match image {
                ImageSource::Path(path) => path.file_name().unwrap().to_string_lossy().into_owned(),
                ImageSource::Bytes(_) => panic!("expected paths"),
            })
            .collect();
        assert_eq!(
            names,
            ["img_418840-init.C.png", "img_418840-fin.C.png"],
            "the order of the row"
        );
        let target = supervised_target(&examples[0], false).unwrap();
        assert_eq!(format_reward(&target), 1.0);
        assert_eq!(
            function_sequence_reward(&target, solution, Credit::ONLY_FULL),
            1.0
        );
        assert_eq!(examples[1].solution, "change_color(0,'cyan')");
        assert_eq!(examples[1].columns["type"], "view");
    }
}

#[test]
fn a_transformation_row_without_its_second_picture_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    image::RgbImage::new(32, 28)
        .save(folder.path().join("img_1-init.C.png"))
        .unwrap();
    let rows = json!([{
        "id": "train-1",
        "image": ["img_1-init.C.png", "img_1-fin.C.png"],
        "problem": "((0, 'cube', 'small', 'gray', 'rubber'))",
        "answer": "change_color(0,'cyan')",
    }]);
    let file = folder.path().join("rows.json");
    std::fs::write(&file, rows.to_string()).unwrap();
    let options = DatasetOptions {
        files: vec![file],
        task: Some(Task::TransformationOnlyFull),
        ..DatasetOptions::default()
    };
    let message = Dataset::load(&options, &opens).unwrap_err().to_string();
    assert!(
        message.contains("img_1-fin.C.png") && message.contains("train-1"),
        "{message}"
    );
}
