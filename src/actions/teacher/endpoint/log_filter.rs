//! Keeps requests out of the log: at its finest levels the HTTP library prints what it sends, the key with it. Knows
//! nothing of where a log goes.

use log::{Level, Log, Metadata, Record};

/// Beginning of the names of everything that the HTTP library logs.
const HTTP_LIBRARY: &str = "ureq";

/// A logger that passes on everything except the HTTP library's debugging output, whatever `RUST_LOG` asks for.
#[derive(Debug)]
pub struct WithoutTraffic<L>(pub L);

impl<L: Log> Log for WithoutTraffic<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let shows_traffic =
            metadata.target().starts_with(HTTP_LIBRARY) && metadata.level() > Level::Info;
        !shows_traffic && self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}
