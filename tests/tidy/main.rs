//! The house rules that a text scan can check. Each failure says why the rule exists and lists the places.

mod circles;
mod form;
mod graph;
mod kernels;
mod layers;
mod source;

use std::collections::BTreeSet;

use regex::Regex;
use source::{SourceFile, files};

const BARE: &str = "at most five arguments, and no boolean one in a public function";
const CIRCLE_OF_PARTS: &str = "the files and folders of a folder use each other without a circle";
const CIRCLE_OF_FILES: &str =
    "files use each other without a circle, a folder's own `mod.rs` included";
const UPWARD: &str =
    "a room uses only rooms below it: data, actions, model and learner, run, study, commands";
/// `(rule, file, reason and the condition that removes the exception)`; circles and upward uses have none.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        BARE,
        "src/run/checkpoint.rs",
        "`model_only` is the key `save_only_model`; goes when a checkpoint takes an options struct",
    ),
    (
        BARE,
        "src/data/dataset/cursor.rs",
        "`shuffle` is the key `shuffle_dataset`, and is saved under its name",
    ),
    (
        BARE,
        "src/data/dataset/template.rs",
        "`answer_only` is the key `sft_target`; goes when the stage has that enum",
    ),
    (
        BARE,
        "src/data/prompt/mod.rs",
        "`skip_special_tokens`, the name and place of Hugging Face's tokenizers",
    ),
    (
        BARE,
        "src/actions/reward/length.rs",
        "`correct`, as in the published reward functions",
    ),
    (
        "no host stage reads a clock",
        "src/data/prompt/template_functions.rs",
        "a chat template may call `strftime_now`, as transformers lets it; Qwen's do not",
    ),
];

/// Fails with the places that break `rule`, and with exceptions that nothing needs any more.
fn report(rule: &str, why: &str, places: Vec<(String, String)>) {
    let excused = |path: &str| {
        EXCEPTIONS
            .iter()
            .any(|exception| exception.0 == rule && path == exception.1)
    };
    let mut lines: Vec<String> = places
        .iter()
        .filter(|(path, _)| !excused(path))
        .map(|(path, what)| format!("  {path}: {what}"))
        .collect();
    for (_, path, _) in EXCEPTIONS.iter().filter(|exception| exception.0 == rule) {
        if !places.iter().any(|place| place.0 == *path) {
            lines.push(format!(
                "  {path}: needs its exception no more; remove it from tests/tidy/main.rs"
            ));
        }
    }
    assert!(
        lines.is_empty(),
        "{rule}\nwhy: {why}\n{}\n",
        lines.join("\n")
    );
}

/// `line: text` of every match of `pattern` in the code of `file`.
fn matches(file: &SourceFile, pattern: &Regex) -> Vec<(String, String)> {
    let line = |position: usize| file.code[..position].matches('\n').count() + 1;
    let found = pattern.find_iter(&file.code);
    found
        .map(|found| {
            (
                file.path.clone(),
                format!("line {}: `{}`", line(found.start()), found.as_str().trim()),
            )
        })
        .collect()
}

/// Every match of `pattern` in the code of `src/`, except in files whose path starts with one of `allowed`.
fn code_matches(pattern: &str, allowed: &[&str]) -> Vec<(String, String)> {
    let pattern = Regex::new(pattern).expect("a valid pattern");
    let mut sources = files("src", "rs");
    sources.retain(|file| !allowed.iter().any(|prefix| file.path.starts_with(prefix)));
    sources
        .iter()
        .flat_map(|file| matches(file, &pattern))
        .collect()
}

/// Folders of `src/` that hold several stages; every other one is a module by itself.
const FLOORS: [&str; 4] = ["actions", "data", "learner", "run"];

/// `dataset` for `src/data/dataset/mod.rs`, `batch` for `src/learner/batch.rs`, `learner` for `src/learner/mod.rs`.
fn module(path: &str) -> &str {
    let path = path.strip_prefix("src/").unwrap_or(path);
    let mut parts = path.split('/').map(|part| part.trim_end_matches(".rs"));
    let top = parts.next().unwrap_or(path);
    match parts.next() {
        Some(part) if FLOORS.contains(&top) && part != "mod" => part,
        _ => top,
    }
}

/// Names of the modules that are stages or rooms of their own.
fn modules() -> BTreeSet<String> {
    let mut names: BTreeSet<String> = files("src", "rs")
        .iter()
        .map(|file| module(&file.path).to_owned())
        .collect();
    names.retain(|name| name != "lib" && name != "main");
    names
}

/// Names of the modules directly under `src/`.
fn top_modules() -> BTreeSet<String> {
    let first = |path: &str| {
        let path = path.strip_prefix("src/").unwrap_or(path);
        path.split('/')
            .next()
            .unwrap_or(path)
            .trim_end_matches(".rs")
            .to_owned()
    };
    let mut names: BTreeSet<String> = files("src", "rs")
        .iter()
        .map(|file| first(&file.path))
        .collect();
    names.retain(|name| name != "lib" && name != "main");
    names
}

/// The scanner itself: what it does not see, the rules above would let pass.
#[test]
fn the_scanner_tells_code_from_comments_literals_and_tests() {
    let text = concat!(
        "//! burn::x\nuse crate::{record::Group, actions::reward};\n/* wgpu::y */\n",
        "pub fn long<F: Fn(&str) -> bool>(&self, a: Vec<(u8, u8)>, flag: bool) -> u8 {\n    let s = \"shaders/a.wgsl }\";\n",
        "    let c = '{'; let r = r#\"a \"quoted\" b\"#;\n    crate::data::prompt::go::<'static>()\n}\n",
        "trait T {\n    fn none(&self);\n}\n",
        "#[cfg(test)]\nmod tests {\n    fn t() { x.unwrap() }\n    const S: &str = \"b.wgsl\";\n}\n",
    );
    let file = source::parse("src/x.rs".to_owned(), text.to_owned());
    assert!(
        !file.code.contains("burn") && !file.code.contains("wgpu") && !file.code.contains("unwrap"),
        "{}",
        file.code
    );
    assert_eq!(file.literals, ["shaders/a.wgsl }", "a \"quoted\" b"]);
    assert_eq!(file.imported_modules(), ["prompt", "record", "reward"]);
    assert_eq!((file.lines, text.lines().count()), (11, 16));
    let functions = file.functions();
    assert_eq!(
        functions.len(),
        1,
        "the trait's method has no body and the test's function does not count"
    );
    assert_eq!(
        (
            functions[0].name,
            functions[0].public,
            functions[0].line,
            functions[0].lines
        ),
        ("long", true, 4, 5)
    );
    assert_eq!(functions[0].arguments, ["a: Vec<(u8, u8)>", "flag: bool"]);
}
