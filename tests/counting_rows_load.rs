//! The rendered counting data set loads as Reason-RFT rows, and its expert speaks about every one of them.

use std::collections::HashSet;

use vision_ekipl::counting::{CountingOptions, Split, generate};
use vision_ekipl::dataset::{Dataset, DatasetOptions, supervised_target};
use vision_ekipl::record::{ContentPart, Example, ImageSource, Task};

#[test]
fn rendered_rows_load_with_task_prompt_and_supervised_target() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = CountingOptions::new(Split::Train, 20, 7, folder.path());
    options.expert_accuracy = Some(0.7);
    let summary = generate(&options, &|_| ()).unwrap();
    let opens = |example: &Example| match &example.images[0] {
        ImageSource::Path(path) => image::open(path)
            .map(|_| ())
            .map_err(|error| error.to_string()),
        ImageSource::Bytes(_) => Err("expected a file".into()),
    };
    let data = DatasetOptions {
        files: vec![summary.rows],
        task: Some(Task::Counting),
        ..DatasetOptions::default()
    };
    let dataset = Dataset::load(&data, &opens).unwrap();
    assert_eq!((dataset.examples.len(), dataset.rejected.len()), (20, 0));
    let [ContentPart::Image, ContentPart::Text { text }] =
        dataset.examples[0].messages[0].content.as_slice()
    else {
        panic!("{:?}", dataset.examples[0].messages);
    };
    assert!(text.starts_with("How many ") && text.ends_with("between <answer> and </answer>."));
    for example in &dataset.examples {
        let target = supervised_target(example, false).unwrap();
        let end = format!("\n</think>\n<answer>\n{}\n</answer>", example.solution);
        assert!(
            target.starts_with("<think>\n") && target.ends_with(&end),
            "{target}"
        );
    }
    let lines = std::fs::read_to_string(summary.expert.unwrap()).unwrap();
    let rows = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let spoken: HashSet<String> = rows
        .map(|row| row["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        spoken,
        dataset
            .examples
            .iter()
            .map(|example| example.id.clone())
            .collect()
    );
}
