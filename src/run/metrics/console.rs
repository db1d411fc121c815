//! What a person at the terminal sees: progress with rate and time left, log lines between, tables at the end.
//!
//! Progress and log lines go to standard error; standard output is for results. Knows nothing of training.

use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use crate::printable::{printable, printable_lines};

/// The bars on the screen; log lines are printed above them.
static SCREEN: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Time between two progress lines where standard error is not a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Progress of a known number of steps: a bar on a terminal, a line every ten seconds elsewhere.
///
/// `grpo [=====>    ] 12/60  2.1 s each  1m 41s left  reward 0.61`
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    label: String,
    /// When the last plain line was printed; `None` on a terminal.
    plain: Option<Instant>,
    finished: bool,
}

impl Progress {
    /// Starts `label` with `done` of `total` steps already made (by the run that is resumed); neither counts in the rate.
    #[must_use]
    pub fn start(label: &str, total: u64, done: u64) -> Self {
        let terminal = io::stderr().is_terminal();
        let bar = ProgressBar::hidden().with_position(done);
        bar.set_length(total);
        bar.reset_eta();
        let bar = if terminal { SCREEN.add(bar) } else { bar };
        bar.set_style(style());
        bar.set_prefix(label.to_owned());
        if terminal {
            bar.enable_steady_tick(Duration::from_secs(1));
        }
        Self {
            bar,
            label: label.to_owned(),
            plain: (!terminal).then(Instant::now),
            finished: false,
        }
    }

    /// One more step is done; `message` stands at the end of the line.
    pub fn advance(&mut self, message: &str) {
        let message = &printable(message).to_string();
        self.bar.set_message(message.clone());
        self.bar.inc(1);
        let last = Some(self.bar.position()) == self.bar.length();
        if let Some(printed) = &mut self.plain
            && (last || printed.elapsed() >= LINE_INTERVAL)
        {
            *printed = Instant::now();
            let line = plain_line(&self.label, &self.bar, message);
            // A closed standard error must not stop the training.
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    /// Leaves the bar as it is, on a line of its own.
    pub fn finish(mut self) {
        self.finished = true;
        self.bar.abandon();
    }
}

impl Drop for Progress {
    /// An error ended the work: the bar must not keep the screen.
    fn drop(&mut self) {
        if !self.finished {
            self.bar.abandon();
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len}  {rate}  {left}  {wide_msg}")
        .expect("the template is constant and its keys are known")
        .with_key(
            "rate",
            |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let _ = out.write_str(&rate(state.per_sec()));
            },
        )
        .with_key(
            "left",
            |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let _ = out.write_str(&left(state.per_sec(), state.eta()));
            },
        )
        .progress_chars("=> ")
}

fn plain_line(label: &str, bar: &ProgressBar, message: &str) -> String {
    let (position, total) = (bar.position(), bar.length().unwrap_or(0));
    let (rate, left) = (rate(bar.per_sec()), left(bar.per_sec(), bar.eta()));
    format!("{label} {position}/{total}  {rate}  {left}  {message}")
        .trim_end()
        .to_owned()
}

/// `3.2/s`, or `4.1 s each` when slow: the unit (steps, rows, pictures) is known from the label.
fn rate(per_second: f64) -> String {
    if per_second <= 0.0 || !per_second.is_finite() {
        "-/s".to_owned()
    } else if per_second < 1.0 {
        format!("{:.1} s each", 1.0 / per_second)
    } else {
        format!("{per_second:.1}/s")
    }
}

/// `1h 05m left`, `2m 07s left`, `9s left`; unknown before the first step.
fn left(per_second: f64, eta: Duration) -> String {
    if per_second <= 0.0 || !per_second.is_finite() {
        return "? left".to_owned();
    }
    let seconds = eta.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s left"),
        (0, minutes, seconds) => format!("{minutes}m {seconds:02}s left"),
        (hours, minutes, _) => format!("{hours}h {minutes:02}m left"),
    }
}

/// One line of the log as env_logger writes it, `[WARN  vision_ekipl::run] text`, of whatever was quoted in it only what can be
/// read: no escape sequence of a row, a model file or a server reaches the terminal.
///
/// # Errors
/// The target cannot be written.
pub fn write_log_line(
    out: &mut env_logger::fmt::Formatter,
    record: &log::Record<'_>,
) -> io::Result<()> {
    let level = record.level();
    let style = out.default_level_style(level);
    let text = record.args().to_string();
    writeln!(
        out,
        "[{style}{level:<5}{style:#} {}] {}",
        record.target(),
        printable_lines(&text)
    )
}

/// Standard error for the logger: prints above the progress bars instead of through them.
///
/// `env_logger::Builder::target(Target::Pipe(Box::new(LogWriter)))`
#[derive(Debug, Clone, Copy)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        SCREEN.suspend(|| io::stderr().write(text))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Rows in aligned columns under `headers`: the first column to the left, the others to the right.
///
/// ```text
/// accuracy    before    GRPO
/// ----------  ------  ------
/// in domain    2.0 %  61.0 %
/// ```
///
/// # Panics
/// If a row has not one cell per header: a bug in the caller.
#[must_use]
pub fn table(headers: &[&str], rows: &[Vec<String>]) -> String {
    let mut lines: Vec<Vec<String>> =
        vec![headers.iter().map(|&header| header.to_owned()).collect()];
    for row in rows {
        assert_eq!(
            row.len(),
            headers.len(),
            "cells of the row {row:?} under {headers:?}"
        );
        lines.push(row.clone());
    }
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headers.len()).map(width).collect();
    lines.insert(1, widths.iter().map(|&width| "-".repeat(width)).collect());
    let cell = |(column, (text, &width)): (usize, (&String, &usize))| {
        if column == 0 {
            format!("{text:<width$}")
        } else {
            format!("{text:>width$}")
        }
    };
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> = line.iter().zip(&widths).enumerate().map(cell).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_aligns_its_columns() {
        let rows = [
            vec!["in domain".to_owned(), "2.0 %".into(), "61.0 %".into()],
            vec!["größe".into(), "1".into(), "".into()],
        ];
        let expected = "accuracy   before    GRPO\n---------  ------  ------\nin domain   2.0 %  61.0 %\ngröße           1\n";
        assert_eq!(table(&["accuracy", "before", "GRPO"], &rows), expected);
    }

    #[test]
    fn rates_and_times_read_well_at_every_speed() {
        assert_eq!(rate(3.24), "3.2/s");
        assert_eq!(rate(0.25), "4.0 s each");
        assert_eq!(rate(0.0), "-/s");
        let text = |seconds| left(1.0, Duration::from_secs(seconds));
        assert_eq!(
            [text(9), text(127), text(3900)],
            ["9s left", "2m 07s left", "1h 05m left"]
        );
        assert_eq!(left(0.0, Duration::ZERO), "? left");
    }

    #[test]
    fn a_plain_line_holds_position_rate_time_and_message() {
        let bar = ProgressBar::hidden().with_position(10);
        bar.set_length(14);
        bar.reset_eta();
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(20));
            bar.inc(1);
        }
        let line = plain_line("grpo", &bar, "reward 0.61");
        assert!(
            line.starts_with("grpo 13/14  ") && line.ends_with("s left  reward 0.61"),
            "{line}"
        );
        let rate = line.split_whitespace().nth(2).unwrap();
        let rate: f64 = rate.strip_suffix("/s").unwrap().parse().unwrap();
        assert!(
            (1.0..=55.0).contains(&rate),
            "3 steps of at least 20 ms, not the 10 that were done before: {line}"
        );
    }
}
