//! Does `sft` do what its keys say: passes of the right length, checkpoints and held-out losses when they are due?

use crate::support::run::{Workspace, metrics, names, shown};

/// 10 rows at 4 x 2: a pass is a step of 8 rows and one of 2.
#[test]
fn passes_end_with_their_rows_and_strategies_hold() {
    let work = Workspace::new();
    let held_out = format!("[{}]", shown(&work.rows));
    let keys = [
        ("max_completion_length", "256"),
        ("per_device_train_batch_size", "4"),
        ("gradient_accumulation_steps", "2"),
        ("max_steps", "-1"),
        ("num_train_epochs", "2"),
        ("save_strategy", "epoch"),
        ("eval_strategy", "epoch"),
        ("eval_on_start", "true"),
        ("eval_dataset_name", held_out.as_str()),
    ];
    let run = work.fine_tune("run", &keys);
    let rows = metrics(&run);
    let column = |name: &str| -> Vec<(u64, f64)> {
        let value = |row: &serde_json::Map<String, serde_json::Value>| {
            Some((row["step"].as_u64()?, row.get(name)?.as_f64()?))
        };
        rows.iter().filter_map(value).collect()
    };
    assert_eq!(column("epoch"), [(1, 0.8), (2, 1.0), (3, 1.8), (4, 2.0)]);
    let losses = column("eval_loss");
    let steps: Vec<u64> = losses.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [0, 2, 4]);
    assert!(losses[2].1 < losses[0].1, "it learns: {losses:?}");
    let mut saved = names(&run);
    saved.retain(|name| name.starts_with("checkpoint-"));
    assert_eq!(saved, ["checkpoint-2", "checkpoint-4"]);
}

/// One step over all rows has the loss that evaluation finds on them before it.
#[test]
fn the_held_out_loss_is_the_loss_of_the_same_rows() {
    let work = Workspace::new();
    let held_out = format!("[{}]", shown(&work.rows));
    let keys = [
        ("max_completion_length", "256"),
        ("per_device_train_batch_size", "10"),
        ("per_device_eval_batch_size", "3"),
        ("max_steps", "1"),
        ("eval_on_start", "true"),
        ("eval_dataset_name", held_out.as_str()),
    ];
    let rows = metrics(&work.fine_tune("run", &keys));
    let (held_out, loss) = (&rows[0]["eval_loss"], &rows[1]["loss"]);
    let difference = held_out.as_f64().expect("a loss") - loss.as_f64().expect("a loss");
    assert!(difference.abs() < 1e-5, "{held_out} and {loss}");
}
