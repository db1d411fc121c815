//! Does whatever ends a run by rule log the step first and save the last good state, and does nothing else end one?

use std::path::Path;

use serde_json::{Value, json};

use crate::support::run::{Workspace, json_lines, metric, metrics, names, shown, with};

fn checkpoints(run: &Path) -> Vec<String> {
    let mut names = names(run);
    names.retain(|name| name.starts_with("checkpoint-"));
    names
}

/// Nobody listens on the discard port.
const DEAD: &str = "base_url: 'http://127.0.0.1:9/v1', model: m, max_retries: 0";

#[test]
fn a_dead_server_and_a_spent_budget_never_end_a_run() {
    let work = Workspace::new();
    let external = format!(
        "[{{name: expert, path: {}}}, {{name: dead, {DEAD}}}, {{name: broke, {DEAD}, max_cost: 0.0000001, \
         price_per_million_input_tokens: 1000, price_per_million_output_tokens: 1000}}]",
        shown(&work.expert)
    );
    let keys = [
        ("external", external.as_str()),
        ("max_steps", "14"),
        ("max_completion_length", "48"),
        ("save_strategy", "no"),
    ];
    let run = work.train("run", &keys);
    assert_eq!(metric(&run, "external/request_failures"), [1.0; 14]);
    assert_eq!(checkpoints(&run), ["checkpoint-14"]);
}

/// Without any reward there is no difference of rewards either.
#[test]
fn a_run_without_a_signal_ends_logged_and_saved() {
    let work = Workspace::new();
    let keys = [
        ("reward_funcs", "[format]"),
        ("watchdog_patience", "3"),
        ("logging_steps", "10"),
        ("save_strategy", "no"),
    ];
    let error = work.try_train("run", &keys).expect_err("no signal");
    let text = format!("{error:#}");
    assert!(
        text.contains("step 3") && text.contains("watchdog_patience"),
        "{text}"
    );
    let run = work.path("run");
    let rows = metrics(&run);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["step"], json!(3));
    assert_eq!(checkpoints(&run), ["checkpoint-3"]);
}

/// An external model whose failures stop the run is asked with a probability that rises from 0.
#[test]
fn a_teacher_that_stops_the_run_leaves_what_was_learnt_before() {
    let work = Workspace::new();
    let external = format!("[{{name: dead, {DEAD}, on_teacher_failure: stop}}]");
    let keys = [
        ("external", external.as_str()),
        ("external_when", "{schedule: {from: 0, to: 1, steps: 4}}"),
        ("logging_steps", "10"),
        ("save_strategy", "no"),
    ];
    let error = work.try_train("run", &keys).expect_err("it stops");
    assert!(format!("{error:#}").contains("`dead`"), "{error:#}");
    let run = work.path("run");
    let rows = metrics(&run);
    let step = rows.last().expect("a row")["step"]
        .as_u64()
        .expect("a step");
    assert!((1..6).contains(&step), "{step}");
    assert_eq!(checkpoints(&run), [format!("checkpoint-{step}")]);
}

/// The third step's ratios overflow: it is refused, logged with what is known, and the run goes on from the second.
#[test]
fn a_refused_update_is_logged_and_the_last_good_state_saved() {
    let work = Workspace::new();
    let file = work.path("rollouts.jsonl");
    let dump = shown(&file);
    let three = [("max_steps", "3"), ("save_strategy", "no")];
    work.train("recorded", &with(&three, &[("dump_rollouts", &dump)]));
    let rows = json_lines(&file);
    let write = |broken: bool| {
        let mut text = String::new();
        for (index, row) in rows.iter().enumerate() {
            let mut row = row.clone();
            row.remove("sampling_logprobs"); // those of other weights
            let mut row = Value::Object(row);
            row["reward"] = json!(index % 2);
            if broken && row["step"] == 3 {
                let tokens = row["completion_ids"].as_array().expect("ids").len();
                row["old_logprobs"] = json!(vec![-1000.0; tokens]);
            }
            text += &format!("{row}\n");
        }
        std::fs::write(&file, text).expect("written rollouts");
    };
    write(true);
    let replay = with(
        &three,
        &[("replay_rollouts", &dump), ("logging_steps", "5")],
    );
    let error = work.try_train("run", &replay).expect_err("refused");
    let text = format!("{error:#}");
    assert!(text.contains("step 3: the update was refused"), "{text}");
    let run = work.path("run");
    let logged: Vec<Value> = metrics(&run)
        .iter()
        .map(|row| row["step"].clone())
        .collect();
    assert_eq!(logged, [json!(2), json!(3)]);
    let last = &metrics(&run)[1];
    assert!(
        last["loss"].is_null() && last["reward"].is_number(),
        "{last:?}"
    );
    assert_eq!(checkpoints(&run), ["checkpoint-2"]);
    assert!(run.join("failed-step-3.jsonl").is_file());

    write(false);
    work.train("run", &with(&replay, &[("resume_from_checkpoint", "true")]));
    let whole = work.train("whole", &replay);
    let weights = |run: &Path| std::fs::read(run.join("checkpoint-3/model.safetensors"));
    assert!(weights(&run).expect("a file") == weights(&whole).expect("a file"));
    let logged: Vec<Value> = metrics(&run)
        .iter()
        .map(|row| row["step"].clone())
        .collect();
    assert_eq!(
        logged[..2],
        [json!(2), json!(3)],
        "the refused row is replaced"
    );
}
