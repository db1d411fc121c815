//! The program `vision-ekipl`: parse, run one command, print what went wrong and what to do about it.

use std::process::ExitCode;

use clap::Parser;
use vision_ekipl::cli::Cli;
use vision_ekipl::metrics::LogWriter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The runtime below us logs at info what only its developers need.
    let filter = env_logger::Env::default().default_filter_or("warn,vision_ekipl=info");
    env_logger::Builder::from_env(filter)
        .format_timestamp(None)
        .target(env_logger::Target::Pipe(Box::new(LogWriter)))
        .init();
    match vision_ekipl::commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", message(&error));
            ExitCode::FAILURE
        }
    }
}

/// The cause chain on one line, then every hint on a line of its own.
fn message(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut hints: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let (said, hint) = text
            .split_once("\nhint: ")
            .map_or((text.as_str(), None), |(said, hint)| (said, Some(hint)));
        // A transparent wrapper says what its source says.
        if !parts.iter().any(|part| part.contains(said)) {
            parts.push(said.to_owned());
        }
        hints.extend(
            hint.map(|hint| format!("hint: {hint}"))
                .filter(|hint| !hints.contains(hint)),
        );
    }
    let mut lines = vec![parts.join(": ")];
    lines.extend(hints);
    lines.join("\n")
}
