//! The study's report: results in, Markdown, one HTML page, charts and a CSV table out.
//!
//! Starts no run and reads no file. A run that is missing leaves its cells empty and its name in the report.

pub mod charts;
mod csv;
mod document;
mod html;
mod markdown;
mod runs;
mod sections;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};

use crate::study::error::{StudyError, io_error};
use crate::study::results::collection::Study;
use crate::study::results::result::{MissingRun, RunResult};
use crate::study::results::result_check;

/// Folder of the charts beside the report.
const CHARTS_FOLDER: &str = "charts";

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportFiles {
    /// `report.md`.
    pub markdown: PathBuf,
    /// `report.html`.
    pub html: PathBuf,
    /// `results.csv`.
    pub csv: PathBuf,
    /// `charts/*.svg`.
    pub charts: Vec<PathBuf>,
    /// `charts/*.sh`: the commands behind a chart, where they are not those of an earlier one.
    pub commands: Vec<PathBuf>,
}

/// Writes the report of these results into the folder `out`, which is made if it is absent. Charts of an earlier report that
/// this one does not have are removed, with their commands.
///
/// # Errors
/// A result contradicts itself, two results are of the same run, one method key has two descriptions, or a file cannot be
/// written.
pub fn write_report(
    results: &[RunResult],
    missing: &[MissingRun],
    baseline: &str,
    out: &Path,
) -> Result<ReportFiles, StudyError> {
    for result in results {
        result_check::check(result, &result.file_name())?;
    }
    let study = Study::new(results, missing, baseline)?;
    let charts = charts::draw(&study);
    let document = sections::document(&study, &charts);
    let folder = out.join(CHARTS_FOLDER);
    fs::create_dir_all(&folder).map_err(io_error("create the folder", &folder))?;
    let mut files = ReportFiles {
        markdown: out.join("report.md"),
        html: out.join("report.html"),
        csv: out.join("results.csv"),
        charts: Vec::new(),
        commands: Vec::new(),
    };
    for chart in charts.all() {
        let path = folder.join(format!("{}.svg", chart.description.name));
        fs::write(&path, &chart.svg).map_err(io_error("write", &path))?;
        files.charts.push(path);
    }
    for block in document
        .charts()
        .filter(|block| block.same_commands.is_none())
    {
        let path = folder.join(format!("{}.sh", block.chart.description.name));
        let lines = block.chart.commands.join("\n");
        fs::write(&path, lines + "\n").map_err(io_error("write", &path))?;
        files.commands.push(path);
    }
    remove_others(&folder, &files)?;
    csv::write(results, &files.csv)?;
    fs::write(&files.markdown, markdown::render(&document))
        .map_err(io_error("write", &files.markdown))?;
    fs::write(&files.html, html::render(&document)).map_err(io_error("write", &files.html))?;
    Ok(files)
}

fn remove_others(folder: &Path, files: &ReportFiles) -> Result<(), StudyError> {
    for entry in fs::read_dir(folder).map_err(io_error("read", folder))? {
        let path = entry.map_err(io_error("read", folder))?.path();
        let ends_in = |ending: &str| {
            path.extension()
                .is_some_and(|extension| extension == ending)
        };
        let (chart, commands) = (ends_in("svg"), ends_in("sh"));
        let old = (chart && !files.charts.contains(&path))
            || (commands && !files.commands.contains(&path));
        if old {
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::study::results::fixture::{method, missing, run};
    use crate::study::results::result::{Family, Role};

    fn results() -> Vec<RunResult> {
        let mut results = Vec::new();
        for seed in 1..=3 {
            for family in [Family::Counting, Family::Transformation] {
                results.push(run(method("base", Role::Reference), family, seed, 5));
                results.push(run(method("ours", Role::Proposed), family, seed, 8));
            }
            let control = method("control", Role::Control);
            results.push(run(control, Family::Counting, seed, 6));
        }
        results
    }

    /// `report.md` and `report.html` of a report whose files are all there.
    fn report(results: &[RunResult], missing: &[MissingRun]) -> (String, String) {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("new/folder");
        let files = write_report(results, missing, "base", &out).expect("written");
        assert!(files.csv.exists());
        let read = |path: &Path| fs::read_to_string(path).expect("readable");
        for chart in &files.charts {
            assert!(read(chart).starts_with("<svg "), "{}", chart.display());
        }
        for commands in &files.commands {
            assert!(
                read(commands).starts_with("vision-ekipl "),
                "{}",
                commands.display()
            );
        }
        (read(&files.markdown), read(&files.html))
    }

    #[test]
    fn the_report_has_the_numbers_worked_out_by_hand() {
        let (markdown, html) = report(&results(), &[]);
        let line = "| The base | 50.0 ± 0.0 | 40.0 ± 0.0 | 50.0 ± 0.0 | 40.0 ± 0.0 | 45.0 ± 0.0 |";
        let plain = markdown.replace('\u{a0}', " ");
        assert!(plain.contains(line), "{plain}");
        let line = "| **The ours** | +30.0 (+30.0 to +30.0) |";
        assert!(plain.contains(line), "{plain}");
        assert!(
            plain.contains("- **holds**: The ours is more accurate than The base."),
            "{plain}"
        );
        assert!(
            html.contains("vision-ekipl train ours.yaml --seed 3"),
            "exact commands"
        );
        assert!(
            plain.contains("(charts/reward-against-steps.sh)"),
            "a link to the commands"
        );
        assert!(plain.contains("No planned run is missing."));
        for word in [
            "0123abc",
            "2 cores",
            "1.00 million parameters",
            "Seeds: 1, 2, 3",
            "greedy",
        ] {
            assert!(plain.contains(word) && html.contains(word), "{word}");
        }
    }

    #[test]
    fn the_page_needs_nothing_else_and_its_ids_are_unique() {
        let (_, html) = report(&results(), &[]);
        let outside = html.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
        for reference in [
            "http://", "https://", "<script", "<link", "@import", " src=",
        ] {
            assert!(!outside.contains(reference), "{reference}");
        }
        let ids: Vec<&str> = html
            .split(" id=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        let different: BTreeSet<&&str> = ids.iter().collect();
        assert_eq!(ids.len(), different.len(), "{ids:?}");
        assert!(
            html.contains("<text") && html.contains("prefers-color-scheme"),
            "real text, both themes"
        );
        for clip in html
            .split("url(#")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            assert!(ids.contains(&clip), "{clip} is not defined");
        }
    }

    #[test]
    fn gaps_are_named_and_nothing_panics_without_data() {
        let gaps = [
            missing(method("ours", Role::Proposed), Family::Structure, 2),
            missing(method("new", Role::Ablation), Family::Counting, 1),
        ];
        let (markdown, html) = report(&results(), &gaps);
        let why = "The ours, structure: seed 2 failed (loss is \\| not finite)";
        assert!(markdown.contains(why), "{markdown}");
        assert!(markdown.contains("The new, counting, seed 1: failed"));
        assert!(
            markdown.contains(" — |") && html.contains("<td>—</td>"),
            "empty cells"
        );
        let (markdown, _) = report(&[], &gaps);
        assert!(markdown.contains("2 planned runs"), "{markdown}");
        report(&[], &[]);
        report(&results()[..1], &[]);
        let mut bare = results();
        for result in &mut bare {
            result.steps.clear();
            result.evaluations.clear();
            result.final_evaluations.clear();
            result.timing_s.clear();
        }
        let (markdown, _) = report(&bare, &[]);
        assert!(
            markdown.contains("seed 1 has no split in domain"),
            "{markdown}"
        );
    }

    #[test]
    fn there_is_a_chart_for_each_figure_of_the_paper_and_each_family_with_controls() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = write_report(&results(), &[], "base", folder.path()).expect("written");
        let name = |path: &PathBuf| {
            path.file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
        };
        let mut found: Vec<String> = files.charts.iter().filter_map(name).collect();
        found.sort();
        let mut expected = vec!["selected-share", "pass-at-k", "controls-counting"];
        let places = ["steps", "samples", "time"];
        let curves = places.map(|place| {
            [
                "reward",
                "accuracy",
                "controls-counting-reward",
                "controls-counting-accuracy",
            ]
            .map(|what| format!("{what}-against-{place}"))
        });
        expected.extend(curves.iter().flatten().map(String::as_str));
        expected.sort_unstable();
        assert_eq!(found, expected);
        let share = fs::read_to_string(&files.charts[6]).expect("readable");
        assert!(share.contains(">expert</text>") && share.contains(">policy</text>"));
        let bars = files
            .charts
            .iter()
            .find(|path| path.ends_with("controls-counting.svg"));
        let bars = fs::read_to_string(bars.expect("drawn")).expect("readable");
        assert!(bars.contains(">The control</text>") && bars.contains(">The ours</text>"));
    }

    #[test]
    fn old_charts_go_and_faulty_results_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let old = ["old.svg", "old.sh"].map(|name| folder.path().join("charts").join(name));
        fs::create_dir(folder.path().join("charts")).expect("a folder");
        for path in &old {
            fs::write(path, "").expect("written");
        }
        let mut results = results();
        write_report(&results, &[], "base", folder.path()).expect("written");
        assert!(old.iter().all(|path| !path.exists()));
        results[0].final_evaluations[0].accuracy = f64::NAN;
        let error = write_report(&results, &[], "base", folder.path()).expect_err("refused");
        let error = error.to_string();
        assert!(
            error.contains("base-counting-seed-1.json") && error.contains("final[0].accuracy"),
            "{error}"
        );
    }
}
