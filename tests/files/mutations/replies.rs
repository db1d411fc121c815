//! What a server answers: taken, or a failure with its reason; never a panic, a wait without end, or an answer without bound.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Map, json};
use vision_ekipl::actions::teacher::endpoint::{
    Budget, EndpointOptions, EndpointTeacher, Patience, RecordFile, RecordMode,
};
use vision_ekipl::record::{ContentPart, Example, Message};

use super::{assert_is_a_message, each_case};

/// Answers every request with the bytes that are set.
fn server(reply: &Arc<Mutex<Vec<u8>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let reply = Arc::clone(reply);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away is none of the server's business.
            let _ = serve(&stream, &reply);
        }
    });
    format!("http://{address}/v1")
}

fn serve(mut stream: &TcpStream, reply: &Mutex<Vec<u8>>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream);
    let (mut length, mut line) = (0, String::new());
    while reader.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    reader.read_exact(&mut vec![0; length])?;
    stream.write_all(&reply.lock().expect("no panic while it is held"))
}

/// Bodies as servers write them; odd ones of real servers among them.
fn bodies() -> Vec<Vec<u8>> {
    let message = json!({"role": "assistant", "content": "<answer> 3 </answer>"});
    let usage = json!({"prompt_tokens": 50, "completion_tokens": 9});
    let token = json!({"token": "3", "bytes": [51], "logprob": -0.1});
    [
        json!({"choices": [{"index": 0, "finish_reason": "stop", "message": message}], "usage": usage}),
        json!({"choices": [{"index": 0, "finish_reason": "length", "logprobs": {"content": [token]},
                "message": {"content": [{"type": "text", "text": "3"}], "reasoning_content": "one, two, three"}}]}),
        json!({"error": {"message": "the model is loading", "type": "server_error", "code": 503}}),
        json!({"error": "quota", "choices": []}),
    ]
    .map(|body| body.to_string().into_bytes())
    .to_vec()
}

#[test]
fn replies_of_servers() {
    let reply = Arc::new(Mutex::new(Vec::new()));
    let mut options = EndpointOptions::new("expert", &server(&reply), "m");
    options.logprobs = true;
    options.patience = Patience {
        timeout: Duration::from_secs(5),
        max_retries: 0,
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(2),
        max_consecutive_failures: 0,
        ..Patience::default()
    };
    options.budget = Budget {
        max_concurrency: 1,
        ..Budget::default()
    };
    let record = Arc::new(RecordFile::open(None, RecordMode::Auto).expect("no file"));
    let teacher = EndpointTeacher::open(options, record).expect("a teacher");
    let text = "How many?".to_owned();
    let example = Example {
        id: "a".to_owned(),
        task: None,
        messages: vec![Message {
            role: "user".to_owned(),
            content: vec![ContentPart::Text { text }],
        }],
        images: Vec::new(),
        solution: "3".to_owned(),
        cot: None,
        target: None,
        columns: Map::new(),
        origin: "rows.json:1".to_owned(),
    };
    each_case("replies", 800, &bodies(), move |input| {
        // Some come with the wrong status, some without any.
        let status = [
            "200 OK",
            "200 OK",
            "400 Bad Request",
            "429 Slow",
            "500 Oops",
        ][input.len() % 5];
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            input.len()
        );
        *reply.lock().expect("no panic while it is held") = [head.as_bytes(), input].concat();
        match teacher.ask(&example) {
            Ok(trip) => match trip.answer {
                Ok(answer) => assert!(answer.text.len() <= 16 * input.len() + 1024),
                Err(failure) => assert_is_a_message(&failure.to_string()),
            },
            Err(error) => assert_is_a_message(&error.to_string()),
        }
    });
}
