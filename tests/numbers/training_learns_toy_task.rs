//! Does the reward rise? A policy of random weights learns by GRPO alone to name the colour of a picture.

use std::path::Path;

use crate::support::run::{Workspace, json_lines, metric, shown};
use serde_json::json;
use vision_ekipl::start::checkpoint::{Sizes, write_checkpoint};
use vision_ekipl::start::tokenizer::write_tokenizer;

const SIZES: Sizes = Sizes {
    hidden: 32,
    intermediate: 64,
    layers: 1,
    heads: 2,
    key_value_heads: 1,
    vision_width: 32,
    vision_depth: 1,
    vision_heads: 2,
    filter_waves: 3,
};
const QUESTION: &str = "Which colour?";
/// Single bytes, the special tokens and a few pairs of letters: a first token is right once in 280 draws.
const VOCABULARY: usize = 280;

/// Pictures in shades of red, whose name is `1`, and of blue, whose name is `2`.
fn write_rows(folder: &Path) -> String {
    let mut text = String::new();
    for index in 0..32u8 {
        let is_red = index % 2 == 0;
        let bright = 120 + 4 * index;
        let colour = if is_red {
            [bright, 10, 20]
        } else {
            [20, 10, bright]
        };
        let name = format!("{index}.png");
        image::RgbImage::from_pixel(56, 56, image::Rgb(colour))
            .save(folder.join(&name))
            .expect("a written picture");
        let row = json!({
            "id": format!("row-{index}"),
            "prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}],
            "image": name,
            "solution": if is_red { "1" } else { "2" },
        });
        text += &format!("{row}\n");
    }
    let path = folder.join("colours.jsonl");
    std::fs::write(&path, text).expect("written rows");
    shown(&path)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn the_reward_rises_until_the_picture_is_read() {
    let work = Workspace::new();
    let start = work.path("start");
    std::fs::create_dir(&start).expect("a new folder");
    let ids = write_tokenizer(&start, VOCABULARY, &[QUESTION.to_owned()], "You count.")
        .expect("a tokenizer");
    write_checkpoint(&start, &ids, &SIZES, 1).expect("a checkpoint");
    let (start, rows) = (shown(&start), write_rows(&work.path("data")));
    let keys = [
        ("model_name_or_path", start.as_str()),
        ("dataset_name", rows.as_str()),
        ("task_name", ""),
        ("top_k", ""),
        ("temperature", "1"),
        ("reward_funcs", "[accuracy]"),
        ("num_generations", "16"),
        ("per_device_train_batch_size", "128"),
        ("max_completion_length", "1"),
        ("learning_rate", "3e-3"),
        ("max_steps", "200"),
        ("save_strategy", "no"),
    ];
    let run = work.train("run", &keys);
    let rewards = metric(&run, "reward");
    let tenths: Vec<f64> = rewards.chunks(20).map(mean).collect();
    println!("reward by tenths of the run: {tenths:.3?}");
    assert!(tenths[0] < 0.3, "it knew nothing at first: {tenths:.3?}");
    // Naming one colour whatever the picture shows earns a half.
    assert!(
        tenths[9] > 0.9,
        "it reads the picture in the end: {tenths:.3?}"
    );
    let last: Vec<_> = json_lines(&run.join("completions.jsonl"))
        .into_iter()
        .filter(|row| row["step"] == 200)
        .collect();
    for name in ["1", "2"] {
        assert!(
            last.iter().any(|row| row["completion"] == name),
            "`{name}` is said"
        );
    }
}
