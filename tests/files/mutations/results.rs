//! Result files of a study by somebody else: read or refused, and the report of what was read harms nobody.

use std::fs;
use std::path::Path;

use vision_ekipl::study::report::write_report;
use vision_ekipl::study::results::result_file;

use super::{World, assert_is_a_message, each_case};

#[test]
fn result_files() {
    let runs = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results/study/runs");
    let names = [
        "ekipl-counting-seed-1",
        "reason-rft-zero-counting-seed-1",
        "zero-shot-counting-seed-1",
    ];
    let seeds = names.map(|name| fs::read(runs.join(format!("{name}.json"))).expect("a result"));
    each_case("results", 500, &seeds, |input| {
        let world = World::new();
        let path = world.write("result.json", input);
        let result = match world.keeps(|| result_file::read(&path)) {
            Ok(result) => result,
            Err(error) => return assert_is_a_message(&error.to_string()),
        };
        let out = world.output();
        let key = result.method.key.clone();
        let written = world.keeps(|| write_report(&[result], &[], &key, &out));
        let files = match written {
            Ok(files) => files,
            Err(error) => return assert_is_a_message(&error.to_string()),
        };
        for path in files
            .charts
            .iter()
            .chain([&files.html, &files.markdown, &files.csv])
        {
            let text = fs::read_to_string(path).expect("written");
            assert!(path.starts_with(&out), "{}", path.display());
            assert!(!text.contains('\u{1b}') && !text.contains("<script") && text.len() < 4 << 20);
        }
    });
}
