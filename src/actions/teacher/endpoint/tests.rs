//! The whole teacher against a server that does wrong: what is lost, what is kept, and that nothing takes long.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use image::ImageFormat;
use serde_json::json;
use tempfile::TempDir;

use super::fault_server::{Act, FaultServer, Request};
use super::picture::tests::picture;
use super::*;
use crate::actions::teacher::tests::{Characters, example, prompt};
use crate::actions::teacher::{
    DropReason, Roster, Teacher, TeacherAnswer, TeacherError, TeacherReport, to_action,
};
use crate::options::Reasoning;
use crate::record::{ContentPart, Example, FinishReason, ImageSource, Message};

const MILLISECOND: Duration = Duration::from_millis(1);
const KEY: &str = "sk-planted/0123456789+abcdef";

fn options(server: &FaultServer) -> EndpointOptions {
    let mut options = EndpointOptions::new("strong", &server.url(), "model-1");
    options.patience.timeout = Duration::from_secs(10);
    options.patience.first_wait = 5 * MILLISECOND;
    options.patience.max_retries = 2;
    options
}

fn memory() -> Arc<RecordFile> {
    Arc::new(RecordFile::open(None, RecordMode::Auto).expect("a record"))
}

fn open(options: EndpointOptions) -> EndpointTeacher {
    EndpointTeacher::open(options, memory()).expect("a teacher")
}

fn open_keyed(mut options: EndpointOptions, record: Arc<RecordFile>) -> EndpointTeacher {
    options.api_key_env = Some("PLANTED".to_owned());
    let environment = |name: &str| (name == "PLANTED").then(|| OsString::from(KEY));
    EndpointTeacher::open_with(options, record, environment).expect("a teacher")
}

fn row(id: &str) -> Example {
    let text = ContentPart::Text {
        text: format!("Question {id}?"),
    };
    let mut row = example(id);
    row.messages = vec![Message {
        role: "user".to_owned(),
        content: vec![ContentPart::Image, text],
    }];
    row.images = vec![ImageSource::Bytes(picture(8, 8, ImageFormat::Png))];
    row
}

fn rows(count: usize) -> Vec<Example> {
    (0..count)
        .map(|index| row(&format!("row-{index}")))
        .collect()
}

/// Texts by example, and what it took.
fn answers(teacher: &mut EndpointTeacher, rows: &[Example]) -> (Vec<Vec<String>>, TeacherReport) {
    let count = teacher.options().num_actions;
    let asked: Vec<_> = rows.iter().map(|row| (row, count)).collect();
    let found = teacher.answer(&asked).expect("answers");
    let texts = found
        .into_iter()
        .map(|list| list.into_iter().map(|answer| answer.text).collect());
    (texts.collect(), teacher.report())
}

/// The one failure of one question, the requests it took and the words.
fn failure(options: EndpointOptions) -> (String, usize, String) {
    let mut stopping = options.clone();
    let mut teacher = open(options);
    let started = Instant::now();
    let (found, report) = answers(&mut teacher, &rows(1));
    assert!(started.elapsed() < Duration::from_secs(20), "bounded");
    assert_eq!(found, [Vec::<String>::new()]);
    let reasons: Vec<_> = report.failures.iter().collect();
    assert_eq!((reasons.len(), *reasons[0].1), (1, 1), "{reasons:?}");
    stopping.on_teacher_failure = OnTeacherFailure::Stop;
    stopping.patience.max_retries = 0;
    let words = match open(stopping).answer(&[(&row("row-0"), 1)]) {
        Err(error) => error.to_string(),
        Ok(_) => String::new(),
    };
    ((*reasons[0].0).to_owned(), report.requests, words)
}

#[test]
fn every_fault_costs_the_action_and_has_its_reason() {
    type Fault = fn() -> Act;
    let html = || {
        Act::Send(
            200,
            vec![("content-type", "text/html".to_owned())],
            b"<html>log in</html>".to_vec(),
        )
    };
    let faults: [(&str, usize, &str, Fault); 19] = [
        ("timeout", 3, "timeout", || {
            Act::Late(Duration::from_secs(60), Box::new(Act::Hang))
        }),
        ("timeout", 3, "timeout", || Act::Drip(20 * MILLISECOND)),
        ("connection", 3, "connection", || Act::Hang),
        ("connection", 3, "disconnected", || {
            Act::Cut(b"{\"choices\": [{".to_vec())
        }),
        ("rate_limited", 3, "status 429: slow down", || {
            Act::error(429, "slow down")
        }),
        ("server_error", 3, "status 500: oops", || {
            Act::error(500, "oops")
        }),
        ("server_error", 3, "status 503", || {
            Act::Send(503, vec![], vec![])
        }),
        ("timeout", 3, "status 408", || Act::error(408, "x")),
        ("rejected", 3, "status 409", || Act::error(409, "x")),
        ("rejected", 1, "status 401: no such key", || {
            Act::error(401, "no such key")
        }),
        ("rejected", 1, "status 404: <h1>Not Found</h1>", || {
            Act::Send(404, vec![], b"<h1>Not\nFound</h1>".to_vec())
        }),
        ("server_error", 3, "status 502: upstream", || {
            Act::json(&json!({"error": {"message": "upstream", "code": 502}}))
        }),
        ("redirected", 1, "points to http://elsewhere/v1", || {
            Act::Send(
                307,
                vec![("location", "http://elsewhere/v1".to_owned())],
                vec![],
            )
        }),
        (
            "bad_json",
            1,
            "expected JSON, found <html>log in</html>",
            html,
        ),
        ("bad_json", 1, "found {\"choices\": [{", || {
            Act::Send(200, vec![], b"{\"choices\": [{".to_vec())
        }),
        ("not_utf8", 1, "not UTF-8", || {
            Act::Send(
                200,
                vec![],
                b"{\"choices\": [{\"message\": {\"content\": \"\xff\xfe\"}}]}".to_vec(),
            )
        }),
        ("too_large", 1, "104857600 bytes", || {
            Act::Flood(100 << 20, true)
        }),
        ("too_large", 1, "more than 16777216 bytes", || {
            Act::Flood(100 << 20, false)
        }),
        ("bad_http", 1, "", || {
            Act::Noise(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
        }),
    ];
    for (reason, requests, words, act) in faults {
        let server = FaultServer::start(move |_, _| act());
        let mut options = options(&server);
        let is_slow = words == "timeout";
        options.patience.timeout = if is_slow { 400 } else { 10_000 } * MILLISECOND;
        let found = failure(options);
        assert_eq!(
            (found.0.as_str(), found.1),
            (reason, requests),
            "{}",
            found.2
        );
        assert!(
            found.2.contains(words)
                && found
                    .2
                    .starts_with("external source `strong`: no answer for example `row-0`: "),
            "{}",
            found.2
        );
        assert!(found.2.contains("\nhint: "), "{}", found.2);
    }
}

#[test]
fn an_answer_with_nothing_in_it_costs_the_action_and_never_the_run() {
    for (reason, choices) in [
        ("empty_choice", json!([{"message": {"content": null}}])),
        (
            "empty_choice",
            json!([{"message": {"content": "x"}, "finish_reason": "tool_calls"}]),
        ),
        ("refused", json!([{"message": {"refusal": "no"}}])),
    ] {
        let server = FaultServer::start(move |_, _| Act::json(&json!({"choices": choices})));
        assert_eq!(
            failure(options(&server)),
            (reason.to_owned(), 1, String::new())
        );
    }
}

#[test]
fn a_success_with_a_failure_inside_is_asked_again_and_named_if_it_stays() {
    let inner = json!([{"message": {"content": ""}, "finish_reason": "error",
        "error": {"code": 502, "message": "the upstream provider is gone"}}]);
    let half = |word: &str| json!([{"message": {"content": "<think>I"}, "finish_reason": word}]);
    for (reason, requests, words, choices) in [
        ("unfinished", 3, "an answer without choices", json!([])),
        ("server_error", 3, "the upstream provider is gone", inner),
        ("unfinished", 3, "`finish_reason` is `abort`", half("abort")),
        ("unfinished", 3, "`finish_reason` is `error`", half("error")),
        (
            "unfinished",
            3,
            "`insufficient_system_resource`",
            half("insufficient_system_resource"),
        ),
        (
            "unknown_end",
            1,
            "`finish_reason` is `bored`",
            half("bored"),
        ),
        (
            "rejected",
            1,
            "status 402 inside the answer: no money",
            json!([{"error": {"code": "insufficient_quota", "message": "no money"}}]),
        ),
    ] {
        let always = choices.clone();
        let server = FaultServer::start(move |_, _| Act::json(&json!({"choices": always})));
        let found = failure(options(&server));
        assert_eq!(
            (found.0.as_str(), found.1),
            (reason, requests),
            "{}",
            found.2
        );
        assert!(found.2.contains(words), "{words}: {}", found.2);
        if requests > 1 {
            let server = FaultServer::start(move |number, _| match number {
                0 => Act::json(&json!({"choices": choices})),
                _ => Act::texts(&["fine"]),
            });
            let record = memory();
            let mut teacher =
                EndpointTeacher::open(options(&server), Arc::clone(&record)).expect("a teacher");
            let (texts, report) = answers(&mut teacher, &rows(1));
            assert_eq!(texts, [["fine"]]);
            assert_eq!((report.requests, report.failures.len()), (2, 0));
        }
    }
}

#[test]
fn a_choice_that_broke_off_among_whole_ones_is_asked_for_again() {
    let server = FaultServer::start(|number, _| match number {
        0 => Act::json(&json!({"choices": [
            {"index": 0, "message": {"content": "a"}, "finish_reason": "stop"},
            {"index": 1, "message": {"content": "half"}, "finish_reason": "abort"},
            {"index": 2, "message": {"content": "c"}, "finish_reason": "stop"},
        ], "usage": {"prompt_tokens": 10, "completion_tokens": 7}})),
        _ => Act::texts(&["b"]),
    });
    let mut options = options(&server);
    options.num_actions = 3;
    options.budget.price_per_million_output_tokens = 1e6;
    let record = memory();
    let mut teacher = EndpointTeacher::open(options, Arc::clone(&record)).expect("a teacher");
    let (texts, report) = answers(&mut teacher, &rows(1));
    assert_eq!(texts, [["a", "b", "c"]]);
    assert_eq!((report.requests, report.output_tokens), (2, 17));
    let recorded = record.totals("strong");
    assert_eq!(
        (recorded.output_tokens, recorded.cost),
        (17, 17.0),
        "nothing paid is lost"
    );
}

#[test]
fn answers_that_could_not_be_used_are_paid_for_all_the_same() {
    let broken = json!({"choices": [{"message": {"content": "ha"}, "finish_reason": "abort"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5}});
    let server = FaultServer::start(move |number, _| match number {
        0 | 2..=9 => Act::json(&broken),
        _ => Act::texts(&["fine"]),
    });
    let mut options = options(&server);
    options.budget.price_per_million_output_tokens = 1e6;
    let record = memory();
    let mut teacher = EndpointTeacher::open(options, Arc::clone(&record)).expect("a teacher");
    let (texts, report) = answers(&mut teacher, &rows(1));
    assert_eq!((texts.concat().len(), report.cost), (1, 15.0));
    let (texts, report) = answers(&mut teacher, &[row("other")]);
    assert_eq!((texts.concat().len(), report.cost), (0, 15.0));
    assert_eq!(record.totals("strong").cost, 30.0);
}

#[test]
fn parameters_that_a_server_refuses_by_name_are_left_out_and_remembered() {
    for name in ["seed", "temperature", "top_p", "logprobs", "max_tokens"] {
        let server = FaultServer::start(move |_, request| {
            match request.body.get(name) {
            Some(_) => Act::Send(
                422,
                vec![],
                json!({"message": {"detail": [{"type": "extra_forbidden", "loc": ["body", name]}]}})
                    .to_string()
                    .into_bytes(),
            ),
            None => Act::texts(&["fine"]),
        }
        });
        let mut options = options(&server);
        options.seed = Some(3);
        options.top_p = Some(0.9);
        options.logprobs = true;
        options.patience.max_retries = 0;
        options.budget.max_concurrency = 1;
        let record = memory();
        let mut teacher =
            EndpointTeacher::open(options.clone(), Arc::clone(&record)).expect("a teacher");
        let (texts, report) = answers(&mut teacher, &rows(3));
        assert_eq!((texts.concat().len(), report.requests), (3, 4), "{name}");
        let last = &server.requests()[3].body;
        let kept = ["seed", "temperature", "top_p", "logprobs", "max_tokens"]
            .iter()
            .filter(|other| last.get(**other).is_some())
            .count();
        assert_eq!(kept, 4, "{name} alone: {last}");
        let asked = open(options).ask(&row("once")).expect("a round trip");
        assert!(asked.answer.is_ok(), "{name}");
    }
}

#[test]
fn thoughts_apart_stand_before_the_answer_unless_the_entry_says_otherwise() {
    let server = FaultServer::start(|_, _| {
        Act::json(&json!({"choices": [{"finish_reason": "stop", "message":
            {"content": "<answer>1</answer>", "reasoning_content": "I count one."}}]}))
    });
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("record.jsonl");
    let whole = "<think>I count one.</think>\n<answer>1</answer>";
    for (reasoning, expected, requests) in [
        (Reasoning::Think, whole, 1),
        (Reasoning::Drop, "<answer>1</answer>", 0),
        (Reasoning::AsIs, "<answer>1</answer>", 0),
        (Reasoning::Think, whole, 0),
    ] {
        let mut options = options(&server);
        options.reasoning = reasoning;
        let record = RecordFile::open(Some(&path), RecordMode::Auto).expect("a record");
        let mut teacher = EndpointTeacher::open(options, Arc::new(record)).expect("a teacher");
        let (texts, report) = answers(&mut teacher, &rows(1));
        assert_eq!(texts, [[expected]]);
        assert_eq!(report.requests, requests, "one record serves every reading");
        let asked = teacher.ask(&row("once")).expect("a round trip");
        assert_eq!(asked.answer.expect("an answer").text, expected);
    }
}

#[test]
fn nobody_there_is_a_failed_connection() {
    let server = FaultServer::start(|_, _| Act::Hang);
    let options = options(&server);
    let address = server.url();
    drop(server);
    // The port may take a moment to close.
    while std::net::TcpStream::connect(address.trim_start_matches("http://")).is_ok() {
        std::thread::sleep(MILLISECOND);
    }
    let (reason, requests, _) = failure(options);
    assert_eq!((reason.as_str(), requests), ("connection", 3));
}

#[test]
fn a_server_without_tls_is_not_trusted_with_a_key() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut sent = [0; 16];
        std::io::Read::read_exact(&mut stream, &mut sent).expect("a greeting");
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        std::io::Write::write_all(&mut stream, answer).expect("sent");
        sent[0]
    });
    let options = EndpointOptions::new("strong", &format!("https://{address}"), "m");
    let mut teacher = open_keyed(options, memory());
    let (_, report) = answers(&mut teacher, &rows(1));
    // Also the proof that the HTTP library was built with the system's certificates.
    assert_eq!(report.failures, BTreeMap::from([("tls", 1)]));
    assert_eq!(
        server.join().expect("no panic"),
        0x16,
        "a TLS handshake and nothing else"
    );
}

#[test]
fn a_fault_that_passes_costs_nothing_and_retry_after_is_obeyed() {
    let server = FaultServer::start(|number, _| match number {
        0 => Act::Send(429, vec![("retry-after", "0.3".to_owned())], vec![]),
        1 => Act::Hang,
        _ => Act::texts(&["fine"]),
    });
    let (texts, report) = answers(&mut open(options(&server)), &rows(1));
    assert_eq!(texts, [["fine"]]);
    assert_eq!(
        (report.requests, report.answered, report.failures.len()),
        (3, 1, 0)
    );
    let times: Vec<Instant> = server.requests().iter().map(|request| request.at).collect();
    assert!(
        times[1] - times[0] >= 300 * MILLISECOND,
        "{:?}",
        times[1] - times[0]
    );
}

#[test]
fn a_server_that_asks_for_hours_gets_the_longest_wait() {
    let server = FaultServer::start(|number, _| match number {
        0 => Act::Send(503, vec![("retry-after", "86400".to_owned())], vec![]),
        _ => Act::texts(&["fine"]),
    });
    let mut options = options(&server);
    options.patience.longest_wait = 100 * MILLISECOND;
    assert_eq!(answers(&mut open(options), &rows(1)).0, [["fine"]]);
}

/// As many answers as were asked for.
fn obliging(_: usize, request: &Request) -> Act {
    let count = request.body["n"].as_u64().unwrap_or(1) as usize;
    let texts: Vec<String> = (0..count)
        .map(|index| {
            format!(
                "{} {index}",
                request.body["messages"][0]["content"][1]["text"]
            )
        })
        .collect();
    Act::texts(&texts.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn several_actions_are_one_request_where_the_server_allows_it() {
    let server = FaultServer::start(obliging);
    let mut options = options(&server);
    options.num_actions = 3;
    let (texts, report) = answers(&mut open(options), &rows(2));
    assert_eq!(
        texts[1],
        [
            "\"Question row-1?\" 0",
            "\"Question row-1?\" 1",
            "\"Question row-1?\" 2"
        ]
    );
    assert_eq!(
        (
            report.requests,
            report.answered,
            report.input_tokens,
            report.output_tokens
        ),
        (2, 6, 200, 60)
    );
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.body["n"] == 3)
    );
}

#[test]
fn what_a_server_leaves_out_is_asked_for_one_by_one() {
    let one =
        |_: usize, request: &Request| Act::texts(&[&format!("seed {}", request.body["seed"])]);
    let refuses = move |number: usize, request: &Request| match request.body.get("n") {
        Some(_) => Act::error(400, "`n` must be 1"),
        None => one(number, request),
    };
    for (server, first_round) in [
        (FaultServer::start(one), 3),
        (FaultServer::start(refuses), 4),
    ] {
        let mut options = options(&server);
        options.num_actions = 3;
        options.seed = Some(7);
        options.budget.max_concurrency = 1;
        let mut teacher = open(options);
        let (texts, report) = answers(&mut teacher, &rows(1));
        let distinct: HashSet<&String> = texts[0].iter().collect();
        assert_eq!(
            (distinct.len(), report.requests, report.failures.len()),
            (3, first_round, 0)
        );
        let (texts, report) = answers(&mut teacher, &[row("other")]);
        assert_eq!(
            (texts[0].len(), report.requests),
            (3, 3),
            "it is remembered"
        );
    }
}

#[test]
fn the_newer_name_of_the_limit_is_tried_and_remembered() {
    let server = FaultServer::start(
        |_, request| match request.body.get("max_completion_tokens") {
            None => Act::error(
                400,
                "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
            ),
            Some(_) => Act::texts(&["fine"]),
        },
    );
    let mut options = options(&server);
    options.patience.max_retries = 0;
    options.budget.max_concurrency = 1;
    let (texts, report) = answers(&mut open(options.clone()), &rows(3));
    assert_eq!((texts.concat().len(), report.requests), (3, 4));
    let stubborn = FaultServer::start(|_, _| Act::error(400, "no max_completion_tokens either"));
    options.base_url = stubborn.url();
    assert_eq!(
        answers(&mut open(options), &rows(1)).1.failures,
        BTreeMap::from([("rejected", 1)])
    );
}

#[test]
fn questions_asked_ahead_are_answered_while_the_run_does_something_else() {
    let server =
        FaultServer::start(|_, _| Act::Late(1000 * MILLISECOND, Box::new(Act::texts(&["fine"]))));
    let mut options = options(&server);
    options.patience.timeout = Duration::from_secs(20);
    options.budget.max_concurrency = 4;
    let record = memory();
    let mut teacher = EndpointTeacher::open(options, Arc::clone(&record)).expect("a teacher");
    let rows = rows(4);
    let asked: Vec<&Example> = rows.iter().collect();
    teacher.start(&asked);
    assert!(record.is_empty(), "nothing waits");
    let end = Instant::now() + Duration::from_secs(20);
    while record.len() < 4 && Instant::now() < end {
        std::thread::sleep(10 * MILLISECOND);
    }
    let (texts, report) = answers(&mut teacher, &rows);
    assert!(report.waited_s < 0.9, "{}", report.waited_s);
    assert_eq!(
        (
            texts.concat().len(),
            report.requests,
            report.answered,
            report.cache_hits
        ),
        (4, 4, 4, 0)
    );
    assert!(
        report.latency_s >= 4.0,
        "four times a second, overlapping: {}",
        report.latency_s
    );
    let (_, report) = answers(&mut teacher, &rows);
    assert_eq!(
        (report.requests, report.answered, report.cache_hits),
        (0, 0, 4)
    );
}

#[test]
fn no_more_requests_run_at_once_than_allowed_and_they_keep_the_pace() {
    let running = Arc::new(Mutex::new((0_usize, 0_usize)));
    let seen = Arc::clone(&running);
    let server = FaultServer::start(move |_, _| {
        let mut counts = running.lock().expect("held by one");
        counts.0 += 1;
        counts.1 = counts.1.max(counts.0);
        drop(counts);
        std::thread::sleep(30 * MILLISECOND);
        running.lock().expect("held by one").0 -= 1;
        Act::texts(&["fine"])
    });
    let mut limited = options(&server);
    limited.budget.max_concurrency = 2;
    answers(&mut open(limited), &rows(8));
    assert_eq!(seen.lock().expect("held by one").1, 2);
    let mut paced = options(&server);
    paced.budget.requests_per_minute = Some(600.0);
    let started = Instant::now();
    answers(&mut open(paced), &rows(4));
    assert!(
        started.elapsed() >= 300 * MILLISECOND,
        "three intervals of 0.1 s"
    );
}

#[test]
fn the_same_question_twice_is_one_request() {
    let server = FaultServer::start(|number, _| {
        if number == 0 {
            Act::texts(&["fine"])
        } else {
            Act::error(400, "again")
        }
    });
    let (texts, report) = answers(&mut open(options(&server)), &[row("a"), row("a")]);
    assert_eq!(
        (texts, report.requests, report.answered),
        (vec![vec!["fine".to_owned()]; 2], 1, 1)
    );
    let broken = FaultServer::start(|_, _| Act::error(400, "no"));
    let (_, report) = answers(&mut open(options(&broken)), &[row("a"), row("a")]);
    assert_eq!(
        (report.requests, &report.failures),
        (1, &BTreeMap::from([("rejected", 2)]))
    );
}

#[test]
fn spent_money_stops_the_requests_and_not_the_run() {
    let server = FaultServer::start(obliging);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("record.jsonl");
    let mut options = options(&server);
    options.budget.max_concurrency = 4;
    options.budget.price_per_million_input_tokens = 1000.0;
    options.budget.price_per_million_output_tokens = 10_000.0;
    // 100 · 0.001 + 10 · 0.01 = 0.2 a request.
    options.budget.max_cost = Some(0.7);
    options.max_tokens = 20;
    options.on_teacher_failure = OnTeacherFailure::Stop;
    let record = || Arc::new(RecordFile::open(Some(&path), RecordMode::Auto).expect("a record"));
    let (texts, report) = answers(
        &mut EndpointTeacher::open(options.clone(), record()).expect("a teacher"),
        &rows(10),
    );
    assert_eq!(
        texts.concat().len(),
        4,
        "the fourth goes beyond 0.7, the fifth is not sent"
    );
    assert_eq!(
        (report.requests, &report.failures),
        (4, &BTreeMap::from([("cost_limit", 6)]))
    );
    assert!((report.cost - 0.8).abs() < 1e-9);
    let (texts, report) = answers(
        &mut EndpointTeacher::open(options.clone(), record()).expect("a teacher"),
        &rows(10),
    );
    assert_eq!(
        (texts.concat().len(), report.requests, report.cache_hits),
        (4, 0, 4),
        "the next run remembers"
    );
    options.budget.max_cost = Some(1.1);
    let (texts, _) = answers(
        &mut EndpointTeacher::open(options, record()).expect("a teacher"),
        &rows(10),
    );
    assert_eq!(texts.concat().len(), 6);
}

#[test]
fn a_server_that_keeps_failing_is_left_alone_and_found_again() {
    let is_up = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_up);
    let server = FaultServer::start(move |_, _| {
        if seen.load(Ordering::SeqCst) {
            Act::texts(&["fine"])
        } else {
            Act::error(500, "down")
        }
    });
    let mut options = options(&server);
    options.patience.max_retries = 0;
    options.patience.max_consecutive_failures = 3;
    options.patience.breaker_pause = 1000 * MILLISECOND;
    options.budget.max_concurrency = 1;
    let mut teacher = open(options);
    let (_, report) = answers(&mut teacher, &rows(8));
    assert_eq!(
        (report.requests, &report.failures),
        (
            3,
            &BTreeMap::from([("refused_by_breaker", 5), ("server_error", 3)])
        )
    );
    is_up.store(true, Ordering::SeqCst);
    std::thread::sleep(1100 * MILLISECOND);
    let (texts, report) = answers(&mut teacher, &rows(8));
    assert_eq!((texts.concat().len(), report.requests), (8, 8));
}

#[test]
fn a_second_run_asks_nothing_and_replay_needs_no_server() {
    let server = FaultServer::start(|number, _| match number {
        1 => Act::json(&json!({"choices": [{"message": {"content": null}}]})),
        2 => Act::error(404, "gone"),
        _ => Act::texts(&["fine"]),
    });
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("record.jsonl");
    let record = |mode| Arc::new(RecordFile::open(Some(&path), mode).expect("a record"));
    let mut options = options(&server);
    options.budget.max_concurrency = 1;
    let (first, _) = answers(
        &mut EndpointTeacher::open(options.clone(), record(RecordMode::Auto)).expect("a teacher"),
        &rows(4),
    );
    assert_eq!(first.concat().len(), 2);
    drop(server);
    options.api_key_env = Some("NOT_SET_ANYWHERE".to_owned());
    let mut replay =
        EndpointTeacher::open(options, record(RecordMode::Replay)).expect("no key is needed");
    let (again, report) = answers(&mut replay, &rows(4));
    assert_eq!(again, first);
    assert_eq!(
        (report.requests, report.cache_hits, &report.failures),
        (
            0,
            2,
            &BTreeMap::from([("empty_choice", 1), ("rejected", 1)])
        )
    );
    let message = replay
        .answer(&[(&row("new"), 1)])
        .expect_err("a miss")
        .to_string();
    assert!(
        message.contains(
            "record.jsonl: no recorded answer of `strong` for action 1 of example `new`\nhint: "
        ),
        "{message}"
    );
    replay.start(&[&row("new")]);
    assert!(
        replay
            .ask(&row("new"))
            .expect_err("asks nobody")
            .to_string()
            .contains("asks no server")
    );
}

#[test]
fn an_answer_is_in_the_file_before_anybody_wants_it() {
    let server = FaultServer::start(obliging);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("record.jsonl");
    let record = Arc::new(RecordFile::open(Some(&path), RecordMode::Auto).expect("a record"));
    let mut teacher = EndpointTeacher::open(options(&server), record).expect("a teacher");
    teacher.start(&[&row("a")]);
    let end = Instant::now() + Duration::from_secs(10);
    let mut text = String::new();
    while text.is_empty() && Instant::now() < end {
        text = std::fs::read_to_string(&path).expect("a file");
    }
    let line: RecordLine = serde_json::from_str(&text).expect("one whole line");
    assert_eq!(
        (
            line.prompt_id.as_str(),
            line.sample_index,
            line.name.as_str()
        ),
        ("a", 0, "strong")
    );
    assert_eq!((line.model.as_str(), line.failure), ("model-1", None));
    assert!(
        line.base_url.ends_with("/v1/chat/completions")
            && line.latency_s > 0.0
            && line.created > 1_700_000_000
    );
    let usage = RecordedUsage {
        prompt_tokens: 100,
        completion_tokens: 10,
        estimated: false,
    };
    assert_eq!(line.usage, Some(usage));
}

#[test]
fn an_answered_run_asks_again_only_for_what_failed() {
    let server = FaultServer::start(|number, _| {
        if number == 1 {
            Act::error(404, "gone")
        } else {
            Act::texts(&["fine"])
        }
    });
    let mut options = options(&server);
    options.budget.max_concurrency = 1;
    let mut teacher = open(options);
    assert_eq!(answers(&mut teacher, &rows(3)).0.concat().len(), 2);
    let (texts, report) = answers(&mut teacher, &rows(3));
    assert_eq!(
        (texts.concat().len(), report.requests, report.cache_hits),
        (3, 1, 2)
    );
}

#[test]
fn teachers_of_one_run_share_a_record_without_mixing() {
    let server = FaultServer::start(obliging);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("record.jsonl");
    let record = Arc::new(RecordFile::open(Some(&path), RecordMode::Auto).expect("a record"));
    let mut first =
        EndpointTeacher::open(options(&server), Arc::clone(&record)).expect("a teacher");
    let mut other = options(&server);
    other.name = "weak".to_owned();
    let mut second = EndpointTeacher::open(other, Arc::clone(&record)).expect("a teacher");
    let rows = rows(20);
    let asked: Vec<&Example> = rows.iter().collect();
    first.start(&asked);
    second.start(&asked);
    assert_eq!(
        (
            answers(&mut first, &rows).1.answered,
            answers(&mut second, &rows).1.answered
        ),
        (20, 20)
    );
    drop((first, second, record));
    let lines = std::fs::read_to_string(&path).expect("a file");
    let keys: HashSet<String> = lines
        .lines()
        .map(|line| {
            serde_json::from_str::<RecordLine>(line)
                .expect("whole lines")
                .key
        })
        .collect();
    assert_eq!((lines.lines().count(), keys.len()), (40, 40));
}

#[test]
fn a_stop_ends_the_wait_and_the_threads_go_at_once() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let server = FaultServer::start(|_, _| Act::Late(Duration::from_secs(60), Box::new(Act::Hang)));
    let mut options = options(&server);
    options.patience.timeout = Duration::from_secs(60);
    options.stop = Some(&STOP);
    let mut teacher = open(options.clone());
    let stopper = std::thread::spawn(|| {
        std::thread::sleep(100 * MILLISECOND);
        STOP.store(true, Ordering::SeqCst);
    });
    let started = Instant::now();
    let error = teacher.answer(&[(&row("a"), 1)]).expect_err("stopped");
    assert!(matches!(error, TeacherError::Stopped { .. }), "{error}");
    drop(teacher);
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    stopper.join().expect("it stores a flag");
    // Waiting for the next try ends as well.
    STOP.store(false, Ordering::SeqCst);
    let broken = FaultServer::start(|_, _| Act::error(500, "down"));
    options.base_url = broken.url();
    options.patience.first_wait = Duration::from_secs(60);
    let mut teacher = open(options);
    teacher.start(&[&row("a")]);
    std::thread::sleep(300 * MILLISECOND);
    let started = Instant::now();
    drop(teacher);
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
}

/// What this program and its HTTP library logged.
struct Log(Mutex<String>);

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let crate_name = module_path!()
            .split("::")
            .next()
            .expect("a path has a start");
        let target = record.target();
        if target.starts_with(crate_name)
            || target.starts_with("ureq")
            || target.starts_with("rustls")
        {
            let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            text.push_str(&format!("{target}: {}\n", record.args()));
        }
    }

    fn flush(&self) {}
}

static LOG: WithoutTraffic<Log> = WithoutTraffic(Log(Mutex::new(String::new())));

/// Repeats the key in every place that a client might read.
fn echoing(number: usize, request: &Request) -> Act {
    let sent = request
        .head
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with("authorization: "))
        .expect("the key came");
    let sent = &sent["authorization: ".len()..];
    assert_eq!(sent, format!("Bearer {KEY}"));
    match number % 7 {
        0 => Act::texts(&[&format!("your key is {sent}")]),
        1 => Act::error(401, &format!("bad key {sent}")),
        2 => Act::Send(
            404,
            vec![("x-key", sent.to_owned())],
            format!("<p>{}</p>", KEY.to_uppercase()).into_bytes(),
        ),
        3 => Act::Send(
            307,
            vec![("location", format!("http://elsewhere/?{sent}"))],
            vec![],
        ),
        4 => Act::Send(200, vec![], format!("not json {sent}").into_bytes()),
        5 => Act::json(&json!({"error": {"message": sent, "code": 400}})),
        _ => {
            let token = |text: &str| json!({"token": text, "logprob": -1});
            let content = json!([token("key "), token(&KEY[..12]), token(&KEY[12..])]);
            Act::json(
                &json!({"choices": [{"message": {"content": format!("key {KEY}")}, "logprobs": {"content": content}}]}),
            )
        }
    }
}

#[test]
fn a_planted_key_is_found_nowhere() {
    // Only one logger can be set in a process; where another test has one, the rest of this test still counts.
    let is_logging = log::set_logger(&LOG).is_ok();
    if is_logging {
        log::set_max_level(log::LevelFilter::Trace);
    }
    let server = FaultServer::start(echoing);
    let folder: TempDir = tempfile::tempdir().expect("a folder");
    let path: PathBuf = folder.path().join("record.jsonl");
    let record = Arc::new(RecordFile::open(Some(&path), RecordMode::Auto).expect("a record"));
    let mut options = options(&server);
    options.patience.max_retries = 0;
    options.patience.max_consecutive_failures = 0;
    options.budget.max_concurrency = 1;
    options.logprobs = true;
    let mut seen = String::new();
    let mut teacher = open_keyed(options.clone(), Arc::clone(&record));
    let (texts, report) = answers(&mut teacher, &rows(7));
    assert_eq!(
        report.failures,
        BTreeMap::from([("bad_json", 1), ("redirected", 1), ("rejected", 3)])
    );
    assert_eq!(texts[0], ["your key is Bearer [key removed]"]);
    seen += &format!("{texts:?} {report:?} {:?}", teacher.options());
    options.on_teacher_failure = OnTeacherFailure::Stop;
    let mut stopping = open_keyed(options, Arc::clone(&record));
    for index in 0..14 {
        let row = row(&format!("stop-{index}"));
        seen += &match stopping.answer(&[(&row, 1)]) {
            Ok(answers) => format!("{answers:?}"),
            Err(error) => format!("{error} {error:?}"),
        };
        seen += &format!("{:?}", stopping.ask(&row));
    }
    seen += &format!("{record:?}");
    drop((teacher, stopping, record));
    seen += &std::fs::read_to_string(&path).expect("a file");
    if is_logging {
        log::set_max_level(log::LevelFilter::Off);
        let logged = LOG
            .0
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        assert!(logged.contains("actions lost: rejected"), "the log is read");
        seen += &logged;
    }
    assert!(seen.contains("[key removed]") && seen.contains("status 401: bad key"));
    for part in [KEY, &KEY.to_uppercase(), &KEY[..12], &KEY[12..]] {
        assert!(
            !seen.contains(part),
            "{}",
            seen.find(part)
                .map_or("", |at| &seen[at.saturating_sub(200)..at + 20])
        );
    }
}

#[test]
fn a_redirect_never_reaches_the_other_host() {
    let other = FaultServer::start(|_, _| Act::texts(&["stolen"]));
    for status in [301, 302, 303, 307, 308] {
        let place = other.url();
        let server = FaultServer::start(move |_, _| {
            Act::Send(status, vec![("location", place.clone())], vec![])
        });
        let (texts, report) = answers(&mut open_keyed(options(&server), memory()), &rows(1));
        assert_eq!(
            (texts.concat().len(), &report.failures),
            (0, &BTreeMap::from([("redirected", 1)]))
        );
    }
    assert!(other.requests().is_empty());
}

#[test]
fn a_missing_key_is_named() {
    let mut options = EndpointOptions::new("strong", "http://localhost:1", "m");
    let message = |options: &EndpointOptions| {
        let opened = EndpointTeacher::open(options.clone(), memory());
        opened.err().expect("refused").to_string()
    };
    options.api_key_env = Some("NOT_SET_ANYWHERE".to_owned());
    let found = message(&options);
    assert!(found.starts_with("external source `strong`: `api_key_env` names the environment variable `NOT_SET_ANYWHERE`, but it is not set"), "{found}");
    for key in [
        "sk-live-0123456789abcdef",
        "hf_AbCdEf0123456789",
        "AKIAIOSFODNN7EXAMPLE",
    ] {
        options.api_key_env = Some(key.to_owned());
        let found = message(&options);
        assert!(
            found.contains("not shown") && !found.contains(key),
            "{found}"
        );
    }
}

#[test]
fn a_picture_that_cannot_be_sent_costs_the_action() {
    let server = FaultServer::start(obliging);
    let mut absent = row("absent");
    absent.images = vec![ImageSource::Path("no/such.png".into())];
    let mut broken = row("broken");
    broken.images = vec![ImageSource::Bytes(Arc::from(&b"not a picture"[..]))];
    let mut teacher = open(options(&server));
    teacher.start(&[&absent, &broken]);
    let (texts, report) = answers(&mut teacher, &[absent, row("fine"), broken]);
    assert_eq!(
        (texts[1].len(), &report.failures),
        (1, &BTreeMap::from([("bad_image", 2)]))
    );
    assert_eq!(report.requests, 1);
}

#[test]
fn a_hostile_text_becomes_plain_tokens_of_the_policy() {
    let server = FaultServer::start(|_, _| {
        let choice = json!({"message": {"content": "<|im_end|>\u{0}\u{1b}[2J<answer>3</answer>"}, "finish_reason": "stop"});
        Act::json(&json!({"choices": [choice]}))
    });
    let mut roster = Roster::new(vec![Box::new(open(options(&server)))]).expect("a roster");
    let (row, prompt) = (row("a"), prompt("a"));
    let answer = roster
        .act(&[(&row, &prompt)], 1, &Characters, 100)
        .expect("answers");
    let action = &answer.actions[0][0];
    assert_eq!(action.text, "<|im_end|>[2J<answer>3</answer>");
    assert_eq!(
        action.token_ids.iter().filter(|id| **id == 0).count(),
        1,
        "the end token stands at the end only"
    );
    assert_eq!(
        (
            answer.statistics[0].report.requests,
            answer.statistics[0].report.answered
        ),
        (1, 1)
    );
    let cut = TeacherAnswer {
        text: "x".to_owned(),
        finish_reason: FinishReason::Length,
        token_logprobs: None,
        token_texts: None,
    };
    assert_eq!(
        to_action(cut, &Arc::from("strong"), &Characters, 9),
        Err(DropReason::EndpointLength)
    );
}

#[test]
fn what_is_missing_is_estimated_without_a_request() {
    let server = FaultServer::start(obliging);
    let mut options = options(&server);
    options.num_actions = 2;
    options.max_tokens = 50;
    options.budget.price_per_million_input_tokens = 1e6;
    options.budget.price_per_million_output_tokens = 1e6;
    let mut teacher = open(options);
    let examples: Vec<Arc<Example>> = rows(3).into_iter().map(Arc::new).collect();
    let estimate = teacher.estimate(&examples);
    // 4 of the turn, 1 of the 8 x 8 picture, 4 of the fifteen bytes of text; 2 answers of up to 50 each.
    assert_eq!(
        (estimate.actions, estimate.recorded, estimate.requests),
        (6, 0, 3)
    );
    assert_eq!(
        (estimate.input_tokens, estimate.output_tokens, estimate.cost),
        (27, 300, 327.0)
    );
    assert!(server.requests().is_empty() && !estimate.has_recorded_lengths);
    answers(&mut teacher, &rows(1));
    let estimate = teacher.estimate(&examples);
    assert_eq!(
        (estimate.recorded, estimate.requests, estimate.output_tokens),
        (2, 2, 40),
        "10 tokens each so far"
    );
    assert!(estimate.has_recorded_lengths && (estimate.spent - 120.0).abs() < 1e-6);
}

#[test]
fn one_round_trip_is_shown_with_its_fault() {
    let server = FaultServer::start(|number, _| {
        if number == 0 {
            Act::texts(&["hello"])
        } else {
            Act::error(500, "oops")
        }
    });
    let teacher = open(options(&server));
    let trip = teacher.ask(&row("a")).expect("asked");
    assert_eq!(
        trip.answer.map(|answer| answer.text).as_deref(),
        Ok("hello")
    );
    assert_eq!(trip.usage.map(|usage| usage.prompt_tokens), Some(100));
    assert!(trip.latency > Duration::ZERO);
    let failure = teacher
        .ask(&row("a"))
        .expect("asked")
        .answer
        .expect_err("a failure");
    assert_eq!(failure.to_string(), "server_error: status 500: oops");
    assert_eq!(
        server.requests().len(),
        2,
        "without retries, and the record answers nothing"
    );
}

#[test]
fn log_probabilities_survive_the_record() {
    let server = FaultServer::start(|_, _| {
        let tokens = json!([{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -0.25}]);
        Act::json(
            &json!({"choices": [{"message": {"content": "ab"}, "logprobs": {"content": tokens}}]}),
        )
    });
    let mut options = options(&server);
    options.logprobs = true;
    let mut teacher = open(options);
    for _ in 0..2 {
        let answer = teacher
            .answer(&[(&row("a"), 1)])
            .expect("answers")
            .remove(0)
            .remove(0);
        let action = to_action(answer, &Arc::from("strong"), &Characters, 9).expect("an action");
        assert_eq!(action.external_logprobs, Some(vec![-0.5, -0.25, 0.0]));
        assert_eq!(action.external_logprob_sum, Some(-0.75));
    }
}
