//! The program `vision-ekipl`: parse, run one command, print what went wrong and what to do about it.

use std::process::ExitCode;

use vision_ekipl::actions::teacher::endpoint::WithoutTraffic;
use vision_ekipl::commands;
use vision_ekipl::config::scrubbed;
use vision_ekipl::printable::printable_lines;
use vision_ekipl::run::metrics::{LogWriter, write_log_line};

fn main() -> ExitCode {
    // SAFETY: nothing has started a thread yet.
    unsafe { vision_ekipl::device::hush_display_search() };
    let cli = vision_ekipl::cli::parse();
    // The runtime below us logs at info what only its developers need.
    let filter = env_logger::Env::default().default_filter_or("warn,vision_ekipl=info");
    let logger = env_logger::Builder::from_env(filter)
        .format(write_log_line)
        .target(env_logger::Target::Pipe(Box::new(LogWriter)))
        .build();
    log::set_max_level(logger.filter());
    log::set_boxed_logger(Box::new(WithoutTraffic(logger))).expect("the first logger");
    let ended = commands::run(cli);
    if let Err(error) = &ended {
        let text = scrubbed(&message(error));
        commands::complain(&format!("error: {}", printable_lines(&text)));
    }
    ExitCode::from(commands::exit_status(&ended))
}

/// The cause chain on one line, then every hint on a line of its own.
fn message(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut hints: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let mut pieces = text.split("\nhint: ").map(str::to_owned);
        let said = pieces.next().unwrap_or_default();
        // A wrapper may repeat what its source says, remedy included.
        if !parts.iter().any(|part| part.contains(&said)) {
            parts.push(said);
        }
        for hint in pieces.map(|hint| format!("hint: {hint}")) {
            if !hints.contains(&hint) {
                hints.push(hint);
            }
        }
    }
    let mut lines = vec![parts.join(": ")];
    lines.extend(hints);
    lines.join("\n")
}
