//! Length, completeness, and the map of the tree.

use regex::Regex;

use super::source::{SourceFile, files};
use super::{code_matches, report, top_modules};

/// Longest text of a file, tests not counted; the first prefix that fits counts. rustfmt breaks lines at 100 columns, which
/// counts against these.
const FILE_BUDGETS: [(&str, usize); 6] = [
    ("src/main.rs", 60),
    ("src/run/train.rs", 80),
    ("src/commands/", 170),
    ("src/", 500),
    ("shaders/shared/", 110),
    ("shaders/", 250),
];
const FUNCTION_LINES: usize = 80;
const ARGUMENTS: usize = 5;

#[test]
fn nothing_is_left_undone() {
    let mut places = code_matches(
        r"\b(todo|unimplemented|dbg)!|\.unwrap\(\)|#!?\[allow\(",
        &[],
    );
    let ignored = Regex::new(r"#\[ignore").expect("valid");
    for file in files("tests", "rs")
        .into_iter()
        .filter(|file| !file.path.starts_with("tests/tidy/"))
    {
        places.extend(
            ignored
                .find_iter(&file.text)
                .map(|_| (file.path.clone(), "an ignored test".to_owned())),
        );
    }
    report(
        "no todo!, unimplemented!, dbg!, unwrap(), #[allow] or ignored test",
        "what is there works; #[expect] ends by itself",
        places,
    );
}

#[test]
fn every_file_is_a_module_with_a_header_and_a_good_name() {
    let sources = files("src", "rs");
    let mut places = Vec::new();
    for file in sources
        .iter()
        .chain(&files("tests", "rs"))
        .chain(&files("benches", "rs"))
    {
        if !file.text.starts_with("//! ") {
            places.push((file.path.clone(), "has no `//!` header".to_owned()));
        }
    }
    for file in &sources {
        let path = file.path.trim_end_matches(".rs").trim_end_matches("/mod");
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        if ["utils", "util", "common", "misc", "helpers"].contains(&name) {
            places.push((
                file.path.clone(),
                "is named after nothing in particular".to_owned(),
            ));
        }
        let parents = if folder == "src" {
            ["src/lib.rs".to_owned(), "src/main.rs".to_owned()]
        } else {
            [format!("{folder}/mod.rs"), format!("{folder}.rs")]
        };
        let declared = |parent: &&SourceFile| {
            parents.contains(&parent.path) && parent.text.contains(&format!("mod {name};"))
        };
        if path != "src/lib"
            && path != "src/main"
            && !sources.iter().any(|parent| declared(&parent))
        {
            places.push((
                file.path.clone(),
                "is declared by no module, so nothing compiles it".to_owned(),
            ));
        }
    }
    report(
        "every file is part of the program and says what it is for",
        "a reader can go by names",
        places,
    );
}

#[test]
fn the_readme_and_the_table_of_contents_are_complete() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap_or_default();
    let contents = std::fs::read_to_string(root.join("src/lib.rs")).expect("a readable src/lib.rs");
    let mut places = Vec::new();
    for name in top_modules() {
        if !readme.contains(&format!("{name}.rs")) && !readme.contains(&format!("{name}/")) {
            places.push(("README.md".to_owned(), format!("does not name src/{name}")));
        }
        if !contents.contains(&format!("pub mod {name};")) {
            places.push((
                "src/lib.rs".to_owned(),
                format!("does not list `pub mod {name};`"),
            ));
        }
    }
    report(
        "README.md and src/lib.rs name every top module",
        "they are the map",
        places,
    );
}

#[test]
fn files_and_functions_stay_short() {
    let mut places = Vec::new();
    let sources = files("src", "rs");
    for file in sources.iter().chain(&files("shaders", "wgsl")) {
        let budget = FILE_BUDGETS
            .iter()
            .find(|(prefix, _)| file.path.starts_with(prefix))
            .map_or(usize::MAX, |(_, lines)| *lines);
        if file.lines > budget {
            places.push((
                file.path.clone(),
                format!("{} lines, expected at most {budget}", file.lines),
            ));
        }
    }
    for file in &sources {
        for function in file.functions() {
            if function.lines > FUNCTION_LINES {
                places.push((
                    file.path.clone(),
                    format!(
                        "line {}: `{}` has {} lines",
                        function.line, function.name, function.lines
                    ),
                ));
            }
        }
    }
    report(
        "files and functions keep to their budgets",
        "a reader holds one in the head at a time",
        places,
    );
}

#[test]
fn functions_take_few_arguments_and_no_public_one_takes_a_bare_yes_or_no() {
    let mut places = Vec::new();
    for file in files("src", "rs") {
        for function in file.functions() {
            let at = format!("line {}: `{}`", function.line, function.name);
            if function.arguments.len() > ARGUMENTS {
                places.push((
                    file.path.clone(),
                    format!("{at} takes {} arguments", function.arguments.len()),
                ));
            }
            if function.public
                && function
                    .arguments
                    .iter()
                    .any(|argument| argument.ends_with(": bool"))
            {
                places.push((file.path.clone(), format!("{at} takes a bool")));
            }
        }
    }
    report(
        "at most five arguments, and no boolean one in a public function",
        "calls must be readable without the signature",
        places,
    );
}

/// A claim whose test was renamed or removed would look proved.
#[test]
fn the_tests_that_prove_the_readme_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("tests/README.md")).expect("tests/README.md");
    let name = Regex::new(r"`([a-z0-9]+(?:_[a-z0-9]+)+)`").expect("valid");
    let sources: Vec<SourceFile> = files("src", "rs")
        .into_iter()
        .chain(files("tests", "rs"))
        .collect();
    let mut places = Vec::new();
    let rows = table
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    for (claim, proof) in rows {
        let tests: Vec<&str> = name
            .captures_iter(proof)
            .map(|found| found.get(1).expect("the group").as_str())
            .collect();
        if tests.is_empty() && !proof.contains("not tested") && claim != "README says" {
            places.push((claim.to_owned(), "names no test and no reason".to_owned()));
        }
        for test in tests {
            let declared = format!("fn {test}(");
            if !sources.iter().any(|file| file.text.contains(&declared)) {
                places.push((claim.to_owned(), format!("there is no test `{test}`")));
            }
        }
    }
    report(
        "every test that tests/README.md names exists",
        "a claim without its test is a hope",
        places,
    );
}
