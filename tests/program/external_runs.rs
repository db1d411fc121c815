//! Does a run with a recorded, a local and an endpoint teacher train, survive a kill, and replay offline to equal numbers?

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::golden_path;
use crate::support::program::program;
use crate::support::run::{Workspace, json_lines, metric, metrics, shown, with};
use crate::support::server::Server;
use serde_json::Value;

/// What asking says about itself; all other numbers are the run's.
const ABOUT_ASKING: [&str; 8] = [
    "requests",
    "request_failures",
    "cache_hit_ratio",
    "latency_s",
    "input_tokens",
    "output_tokens",
    "cost",
    "timing_s",
];

/// metrics.jsonl without the clock and without what asking took.
fn learnt(run: &Path) -> Vec<String> {
    let is_clock = |name: &str| {
        name.starts_with("train_")
            || name == "step_time"
            || name.starts_with("perf/")
            || name.starts_with("timing")
    };
    let rows = metrics(run).into_iter().map(|mut row| {
        row.retain(|name, _| {
            let asking = name.starts_with("external/")
                && ABOUT_ASKING.iter().any(|word| name.ends_with(word));
            !asking && !is_clock(name)
        });
        Value::Object(row).to_string()
    });
    rows.collect()
}

/// A recorded expert, a frozen checkpoint and this server, all of whose actions train. The checkpoint's weights are random:
/// hot enough, some of its actions end.
fn external(work: &Workspace, server: &Server) -> String {
    format!(
        "[{{name: expert, path: {}}}, {{name: local, model_name_or_path: {}, num_actions: 8, temperature: 5}}, \
         {{name: server, base_url: '{}', model: m, price_per_million_input_tokens: 1, max_retries: 0}}]",
        shown(&work.expert),
        shown(&golden_path("qwen2vl-tiny")),
        server.address,
    )
}

const KEYS: [(&str, &str); 5] = [
    ("selection", "all"),
    ("max_completion_length", "96"),
    ("unload_between_phases", "true"),
    ("max_steps", "6"),
    ("save_steps", "2"),
];

#[test]
fn three_kinds_of_teachers_train_and_replay_without_a_server() {
    let work = Workspace::new();
    let server = Server::start(Duration::ZERO);
    let (external, cache) = (external(&work, &server), work.path("answers.jsonl"));
    let cache = shown(&cache);
    let keys = with(
        &KEYS,
        &[("external", &external), ("external_cache", &cache)],
    );
    let whole = work.train("whole", &keys);
    let asked = server.requests();
    assert!(asked > 0, "the server was asked");
    for name in ["expert", "local", "server"] {
        let shares = metric(&whole, &format!("external/{name}/fraction"));
        assert!(
            shares.iter().any(|share| *share > 0.0),
            "{name} takes part: {shares:?}"
        );
    }
    assert!(metric(&whole, "external/server/cost").iter().sum::<f64>() > 0.0);
    let replayed = work.train(
        "replayed",
        &with(&keys, &[("external_cache_mode", "replay")]),
    );
    assert_eq!(server.requests(), asked, "a replay asks nobody");
    assert_eq!(learnt(&replayed), learnt(&whole));
    assert_eq!(
        metric(&replayed, "external/server/cost")
            .iter()
            .sum::<f64>(),
        0.0
    );
}

#[test]
fn a_missing_answer_stops_a_replay_before_anything_is_learnt() {
    let work = Workspace::new();
    let server = Server::start(Duration::ZERO);
    let cache = work.path("answers.jsonl");
    std::fs::write(&cache, "").expect("an empty record");
    let (external, cache) = (external(&work, &server), shown(&cache));
    let keys = with(
        &KEYS,
        &[
            ("external", &external),
            ("external_cache", &cache),
            ("external_cache_mode", "replay"),
        ],
    );
    let error = work
        .try_train("run", &keys)
        .expect_err("nothing is recorded");
    let text = format!("{error:#}");
    assert!(
        text.contains("`server`") && text.contains("train-"),
        "{text}"
    );
    assert_eq!(server.requests(), 0);
}

/// Killed without warning while the server is slow; what was answered is not asked again.
#[test]
fn a_killed_run_goes_on_with_its_recorded_answers() {
    let work = Workspace::new();
    let server = Server::start(Duration::from_millis(30));
    let external = external(&work, &server);
    let long = with(
        &KEYS,
        &[("external", external.as_str()), ("max_steps", "12")],
    );
    let whole = work.train("whole", &long);
    let asked = server.requests();
    let config = work.config("killed", &long);
    let killed = work.path("killed");
    let mut child = Command::new(env!("CARGO_BIN_EXE_vision-ekipl"))
        .arg("train")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let started = Instant::now();
    while !killed.join("checkpoint-2").exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "no checkpoint");
        assert!(
            child.try_wait().expect("a child").is_none(),
            "it ended before the kill"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().expect("killed");
    child.wait().expect("gone");
    let before = json_lines(&killed.join("external_cache.jsonl")).len();
    assert!(before > 0, "answers were stored at once");
    program(&["train", &shown(&config), "--resume_from_checkpoint", "true"]).done();
    assert_eq!(learnt(&killed), learnt(&whole));
    // At most the requests under way at the kill are asked twice.
    assert!(
        server.requests() - asked <= asked + 8,
        "{} and {asked}",
        server.requests()
    );
}

#[test]
fn an_endpoint_is_harvested_and_looked_at() {
    let work = Workspace::new();
    let server = Server::start(Duration::ZERO);
    let external = external(&work, &server);
    let config = shown(&work.config("run", &with(&KEYS, &[("external", external.as_str())])));
    let estimate = program(&["harvest", &config, "--estimate"]).done();
    assert!(
        estimate.contains("server") && server.requests() == 0,
        "{estimate}"
    );
    let table = program(&["harvest", &config]).done();
    assert!(table.contains("100") || table.contains("10  "), "{table}");
    assert_eq!(server.requests(), 10, "one request a row");
    program(&["harvest", &config]).done();
    assert_eq!(server.requests(), 10, "a second run asks nothing");
    let seen = program(&["teachers", &config]).done();
    for part in ["expert  recorded", "local", "endpoint", "seen"] {
        assert!(seen.contains(part), "{part} in\n{seen}");
    }
    program(&["train", &config]).done();
    assert_eq!(
        server.requests(),
        11,
        "training takes what was harvested; only `teachers` asked afresh"
    );
}

/// A key in the environment is found nowhere in what a run writes or says.
#[test]
fn a_key_is_found_nowhere() {
    let work = Workspace::new();
    let server = Server::start(Duration::ZERO);
    let entry = format!(
        "[{{name: server, base_url: '{}', model: m, api_key_env: PLANTED_KEY}}]",
        server.address
    );
    let config = work.config("run", &with(&KEYS, &[("external", entry.as_str())]));
    let said = Command::new(env!("CARGO_BIN_EXE_vision-ekipl"))
        .arg("train")
        .arg(&config)
        .env("PLANTED_KEY", "sk-planted-0123456789")
        .env("RUST_LOG", "trace")
        .output()
        .expect("the program starts");
    assert!(said.status.success());
    assert!(server.requests() > 0);
    let mut texts = vec![said.stdout, said.stderr];
    let mut folders = vec![work.path("run")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path => texts.push(std::fs::read(path).expect("a file")),
            }
        }
    }
    assert!(texts.len() > 10, "everything was read");
    let holds_key = |text: &Vec<u8>| text.windows(10).any(|part| part == b"sk-planted");
    assert!(!texts.iter().any(holds_key));
}
