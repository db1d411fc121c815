//! The study's report: results in, Markdown, one HTML page, charts and a CSV table out.
//!
//! Starts no run and reads no file. A run that is missing leaves its cells empty and its name in the report.

pub mod charts;
mod csv;
mod document;
mod files;
mod html;
mod markdown;
mod runs;
mod sections;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};

use charts::{Chart, svg};
use document::CHARTS_FOLDER;
use files::{ReportFile, is_of_a_report};

use crate::study::error::{StudyError, io_error};
use crate::study::results::collection::Study;
use crate::study::results::result::{MissingRun, RunResult};
use crate::study::results::result_check;

/// How a file of commands begins, which reports had beside each chart.
const OLD_COMMANDS: &str = "vision-ekipl ";

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
}

/// Writes the report of these results into the folder `out`, which is made if it is absent. Charts of an earlier report that
/// this one does not have are removed.
///
/// # Errors
/// A result contradicts itself, two results are of the same run, one method key has two descriptions, a file cannot be
/// written, or something else than an earlier report stands in its place; nothing is written then.
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
    let paths = ReportFiles {
        markdown: out.join("report.md"),
        html: out.join("report.html"),
        csv: out.join("results.csv"),
        charts: charts
            .all()
            .map(|chart| chart_path(&folder, chart))
            .collect(),
    };
    let chart_file =
        |chart: &Chart| ReportFile::new(chart_path(&folder, chart), chart.svg.clone(), svg::MARK);
    let mut files: Vec<ReportFile> = charts.all().map(chart_file).collect();
    let table = csv::render(results, &paths.csv)?;
    files.push(ReportFile::new(paths.csv.clone(), table, csv::MARK));
    let text = markdown::render(&document);
    files.push(ReportFile::new(
        paths.markdown.clone(),
        text,
        sections::TITLE,
    ));
    let page = html::render(&document);
    files.push(ReportFile::new(paths.html.clone(), page, sections::TITLE));
    files.iter().try_for_each(ReportFile::check)?;
    fs::create_dir_all(&folder).map_err(io_error("create the folder", &folder))?;
    files.iter().try_for_each(ReportFile::write)?;
    remove_others(&folder, &paths.charts)?;
    Ok(paths)
}

fn chart_path(folder: &Path, chart: &Chart) -> PathBuf {
    folder.join(format!("{}.svg", chart.description.name))
}

/// Removes charts of an earlier report, and the commands that reports of earlier versions had beside each.
fn remove_others(folder: &Path, charts: &[PathBuf]) -> Result<(), StudyError> {
    for entry in fs::read_dir(folder).map_err(io_error("read", folder))? {
        let path = entry.map_err(io_error("read", folder))?.path();
        let mark = match path.extension().and_then(|ending| ending.to_str()) {
            Some("svg") if !charts.contains(&path) => svg::MARK,
            Some("sh") => OLD_COMMANDS,
            _ => continue,
        };
        if is_of_a_report(&path, mark) {
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
            html.contains("<pre>vision-ekipl study configs/study/*.yaml --only base --only ours"),
            "the command"
        );
        assert!(
            plain.contains("\n    vision-ekipl study configs/study/*.yaml --only base --only ours"),
            "the command"
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
        let inside = |name: &str| folder.path().join("charts").join(name);
        fs::create_dir(folder.path().join("charts")).expect("a folder");
        let old = [
            ("old.svg", "<svg class=\"study-chart\" role=\"img\"></svg>"),
            ("old.sh", "vision-ekipl train a.yaml\n"),
        ];
        let mine = [
            ("logo.svg", "<svg xmlns=\"a\"></svg>"),
            ("run.sh", "echo me\n"),
        ];
        for (name, text) in old.iter().chain(&mine) {
            fs::write(inside(name), text).expect("written");
        }
        let mut results = results();
        write_report(&results, &[], "base", folder.path()).expect("written");
        assert!(old.iter().all(|(name, _)| !inside(name).exists()));
        for (name, text) in mine {
            assert_eq!(fs::read_to_string(inside(name)).expect("kept"), text);
        }
        write_report(&results, &[], "base", folder.path()).expect("over its own");
        results[0].final_evaluations[0].accuracy = f64::NAN;
        let error = write_report(&results, &[], "base", folder.path()).expect_err("refused");
        let error = error.to_string();
        assert!(
            error.contains("base-counting-seed-1.json") && error.contains("final[0].accuracy"),
            "{error}"
        );
    }

    #[test]
    fn what_is_not_of_a_report_is_never_overwritten_and_no_link_is_followed() {
        let theirs = [
            "report.md",
            "report.html",
            "results.csv",
            "charts/pass-at-k.svg",
        ];
        for name in theirs {
            let folder = tempfile::tempdir().expect("a folder");
            fs::create_dir(folder.path().join("charts")).expect("a folder");
            let path = folder.path().join(name);
            fs::write(&path, "my thesis").expect("written");
            let error = write_report(&results(), &[], "base", folder.path()).expect_err(name);
            let error = error.to_string();
            assert!(
                error.contains(name) && error.contains("--report"),
                "{error}"
            );
            assert_eq!(fs::read_to_string(&path).expect("kept"), "my thesis");
            let others = fs::read_dir(folder.path()).expect("readable").count();
            assert!(others <= 2, "nothing was written beside {name}");
        }
        #[cfg(unix)]
        {
            let folder = tempfile::tempdir().expect("a folder");
            let target = folder.path().join("target");
            fs::write(&target, "").expect("written");
            let out = folder.path().join("out");
            fs::create_dir(&out).expect("a folder");
            std::os::unix::fs::symlink(&target, out.join("report.md")).expect("a link");
            write_report(&results(), &[], "base", &out).expect_err("a link");
            fs::remove_file(out.join("report.md")).expect("removed");
            std::os::unix::fs::symlink(&target, out.join(".report.md.partial")).expect("a link");
            write_report(&results(), &[], "base", &out).expect("written");
            assert_eq!(
                fs::read_to_string(&target).expect("kept"),
                "",
                "not followed"
            );
        }
    }

    #[test]
    fn text_of_results_stays_text_in_every_file() {
        let hostile = "<script>a</script>\"'><img src=x onerror=b> $x$ \u{1b}[0m\u{202e} =1+1";
        let mut results = results();
        for result in &mut results {
            result.method.title = format!("{hostile} {}", result.method.key);
            result.machine = format!("=HYPERLINK({hostile})");
            result.device = hostile.to_owned();
            result.commit = hostile.to_owned();
            result.start = hostile.to_owned();
            result.model.description = hostile.to_owned();
            result.commands = vec!["</pre><script>c</script>".to_owned(), "rm -rf ~".to_owned()];
            for step in &mut result.steps {
                let shares = std::mem::take(&mut step.external_share);
                step.external_share = shares
                    .into_values()
                    .map(|x| (hostile.to_owned(), x))
                    .collect();
            }
        }
        let mut gap = missing(method("new", Role::Control), Family::Structure, 1);
        gap.reason = format!("{hostile}\n# heading");
        let folder = tempfile::tempdir().expect("a folder");
        let files = write_report(&results, &[gap], "base", folder.path()).expect("written");
        let read = |path: &Path| fs::read_to_string(path).expect("readable");
        let others = files.charts.iter().chain([&files.html, &files.markdown]);
        for path in others {
            let text = read(path);
            for mark in ["<script", "<img", "rm -rf", "\u{1b}", "\u{202e}"] {
                assert!(!text.contains(mark), "{mark} in {}", path.display());
            }
        }
        assert!(!read(&files.markdown).contains("\n# heading"));
        for line in read(&files.csv).lines() {
            assert!(!line.contains(",=") && !line.contains(",\"="), "{line}");
        }
    }
}
