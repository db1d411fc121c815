//! A chat server for tests that does on each request what it is told, mostly wrong things. Knows nothing of the client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What came in.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) at: Instant,
    /// The first line and the headers.
    pub(super) head: String,
    pub(super) body: Value,
}

/// What goes out.
pub(super) enum Act {
    /// A whole response.
    Send(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// The same, after a while.
    Late(Duration, Box<Act>),
    /// Nothing; the connection closes.
    Hang,
    /// A response that promises more bytes than come.
    Cut(Vec<u8>),
    /// A success with a body of so many bytes, with or without saying so before.
    Flood(usize, bool),
    /// One byte of a response at a time, with this pause between.
    Drip(Duration),
    /// These bytes in place of HTTP.
    Noise(&'static [u8]),
}

impl Act {
    /// A proper answer with these texts.
    pub(super) fn texts(texts: &[&str]) -> Self {
        let choice = |(index, text): (usize, &&str)| json!({"index": index, "message": {"content": text}, "finish_reason": "stop"});
        Self::json(&json!({
            "choices": texts.iter().enumerate().map(choice).collect::<Vec<_>>(),
            "usage": {"prompt_tokens": 100, "completion_tokens": 10 * texts.len()},
        }))
    }

    /// A success with this body.
    pub(super) fn json(value: &Value) -> Self {
        Self::Send(200, vec![], value.to_string().into_bytes())
    }

    /// A failure with the usual body.
    pub(super) fn error(status: u16, message: &str) -> Self {
        Self::Send(
            status,
            vec![],
            json!({"error": {"message": message}})
                .to_string()
                .into_bytes(),
        )
    }
}

/// A running server; it ends when it is dropped.
pub(super) struct FaultServer {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
    closed: Arc<AtomicBool>,
}

impl FaultServer {
    /// Starts a server that answers request `n`, counted from 0, with `act(n, request)`.
    pub(super) fn start(act: impl Fn(usize, &Request) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let server = Self {
            address,
            requests: Arc::default(),
            closed: Arc::default(),
        };
        let (requests, closed, act) = (
            Arc::clone(&server.requests),
            Arc::clone(&server.closed),
            Arc::new(act),
        );
        thread::spawn(move || {
            for stream in listener.incoming() {
                if closed.load(Ordering::SeqCst) {
                    return;
                }
                let (requests, closed, act) =
                    (Arc::clone(&requests), Arc::clone(&closed), Arc::clone(&act));
                thread::spawn(move || {
                    let Ok(stream) = stream else { return };
                    // A client that goes away in the middle is none of the server's business.
                    let Some(request) = read(&stream) else { return };
                    let number = {
                        let mut requests = requests.lock().expect("no panic while it is held");
                        requests.push(request.clone());
                        requests.len() - 1
                    };
                    let _ = perform(stream, act(number, &request), &closed);
                });
            }
        });
        server
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests
            .lock()
            .expect("no panic while it is held")
            .clone()
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| {
        line.to_ascii_lowercase()
            .strip_prefix("content-length:")
            .map(str::to_owned)
    });
    let mut body = vec![0; length?.trim().parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        at: Instant::now(),
        head,
        body: serde_json::from_slice(&body).ok()?,
    })
}

fn perform(mut stream: TcpStream, act: Act, closed: &AtomicBool) -> std::io::Result<()> {
    let head = |status: u16, headers: &[(&str, String)], length: usize| {
        let headers: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        format!(
            "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n"
        )
    };
    match act {
        Act::Send(status, headers, body) => {
            stream.write_all(head(status, &headers, body.len()).as_bytes())?;
            stream.write_all(&body)
        }
        Act::Late(time, act) => {
            wait(time, closed);
            perform(stream, *act, closed)
        }
        Act::Hang => Ok(()),
        Act::Cut(body) => {
            stream.write_all(head(200, &[], body.len() + 100).as_bytes())?;
            stream.write_all(&body)
        }
        Act::Flood(bytes, says_so) => {
            let head = if says_so {
                head(200, &[], bytes)
            } else {
                "HTTP/1.1 200 x\r\nconnection: close\r\n\r\n".to_owned()
            };
            stream.write_all(head.as_bytes())?;
            let piece = [b' '; 1 << 16];
            (0..bytes / piece.len()).try_for_each(|_| stream.write_all(&piece))
        }
        Act::Drip(pause) => {
            for byte in head(200, &[], 1000).bytes().chain([b' '; 1000]) {
                stream.write_all(&[byte])?;
                wait(pause, closed);
            }
            Ok(())
        }
        Act::Noise(bytes) => stream.write_all(bytes),
    }
}

fn wait(time: Duration, closed: &AtomicBool) {
    let end = Instant::now() + time;
    while Instant::now() < end && !closed.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(5).min(time));
    }
}
