//! Do servers that nobody here wrote serve as teachers? A run trains with them and replays without them.
//!
//! They are Python programs: `make servers` installs them into `target/servers`, or the environment variable
//! `VISION_EKIPL_SERVERS` names another virtual environment. Where there is none the tests say so and do nothing.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::golden_path;
use crate::support::run::{Workspace, json_lines, metric, shown, with};

/// A server process; it ends with the test.
struct RealServer {
    child: Child,
    port: u16,
}

impl Drop for RealServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl RealServer {
    /// Starts `arguments` with `PORT` replaced by a free port and waits until `health` answers.
    fn start(program: &PathBuf, arguments: &[&str], health: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let arguments = arguments
            .iter()
            .map(|word| word.replace("PORT", &port.to_string()));
        let child = Command::new(program)
            .args(arguments)
            .env("HF_HUB_OFFLINE", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let mut server = Self { child, port };
        let started = Instant::now();
        while !server.answers(health) {
            assert!(
                started.elapsed() < Duration::from_secs(180),
                "{}: not ready",
                program.display()
            );
            assert!(
                server.child.try_wait().expect("a child").is_none(),
                "{}: ended",
                program.display()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
        server
    }

    fn answers(&self, path: &str) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return false;
        };
        let mut head = [0; 12];
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).is_ok()
            && stream.read_exact(&mut head).is_ok()
            && head.ends_with(b"200")
    }
}

/// Written past the test runner, which shows nothing of tests that pass.
fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// A program of the virtual environment, if it is installed there.
fn installed(name: &str) -> Option<PathBuf> {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/servers");
    let folder = std::env::var_os("VISION_EKIPL_SERVERS").map_or_else(default, PathBuf::from);
    let program = folder.join("bin").join(name);
    if program.exists() {
        return Some(program);
    }
    skip(&format!(
        "{} is not there; `make servers` installs it",
        program.display()
    ));
    None
}

/// Trains with this entry of `external` and replays with the server gone.
fn trains_and_replays(server: RealServer, model: &str, more: &str) {
    let work = Workspace::new();
    let external = format!(
        "[{{name: expert, path: {}}}, {{name: local, model_name_or_path: {}, max_tokens: 8}}, \
         {{name: server, base_url: 'http://127.0.0.1:{}', model: '{model}', max_tokens: 16, {more}}}]",
        shown(&work.expert),
        shown(&golden_path("qwen2vl-tiny")),
        server.port,
    );
    let cache = shown(&work.path("answers.jsonl"));
    let keys = [
        ("external", external.as_str()),
        ("external_cache", &cache),
        ("selection", "all"),
        ("max_completion_length", "64"),
        ("max_steps", "3"),
    ];
    let whole = work.train("whole", &keys);
    let answers = json_lines(&work.path("answers.jsonl"));
    assert!(
        answers.iter().any(|line| line["text"].is_string()),
        "{answers:?}"
    );
    assert_eq!(
        metric(&whole, "external/server/request_failures")
            .iter()
            .sum::<f64>(),
        0.0
    );
    drop(server);
    let replayed = work.train(
        "replayed",
        &with(&keys, &[("external_cache_mode", "replay")]),
    );
    for name in [
        "loss",
        "reward",
        "grad_norm",
        "external/fraction",
        "external/tokens",
    ] {
        assert_eq!(metric(&replayed, name), metric(&whole, name), "{name}");
    }
}

#[test]
fn transformers_serve() {
    let Some(python) = installed("python") else {
        return;
    };
    let has_server = Command::new(&python)
        .args(["-c", "import fastapi, torchvision, transformers, uvicorn"])
        .stderr(Stdio::null())
        .status();
    if !has_server.is_ok_and(|status| status.success()) {
        skip(&format!(
            "{} has no transformers[serving]",
            python.display()
        ));
        return;
    }
    let folder = shown(&golden_path("qwen2vl-tiny"));
    let serve = ["-m", "transformers.cli.transformers", "serve", &folder];
    let place = ["--host", "127.0.0.1", "--port", "PORT", "--device", "cpu"];
    let server = RealServer::start(&python, &[&serve[..], &place[..]].concat(), "/health");
    trains_and_replays(server, &folder, "max_retries: 2");
}

#[test]
fn litellm_proxy() {
    let Some(litellm) = installed("litellm") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("litellm.yaml");
    let model = "model_list:\n  - model_name: canned\n    litellm_params:\n      model: openai/canned\n      api_key: none\n      \
                 mock_response: \"<think>\\nseen\\n</think>\\n<answer>\\n2\\n</answer>\"\n";
    std::fs::write(&config, model).expect("a written configuration");
    let config = shown(&config);
    let arguments = ["--config", &config, "--host", "127.0.0.1", "--port", "PORT"];
    let server = RealServer::start(&litellm, &arguments, "/health/liveliness");
    trains_and_replays(server, "canned", "num_actions: 2, temperature: 1");
}
