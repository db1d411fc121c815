//! Who may know whom: stages, devices, the outside world.

use std::collections::BTreeSet;

use regex::Regex;

use super::source::{SourceFile, files};
use super::{code_matches, matches, module, modules, report};

/// Plain Rust on host data.
const HOST: [&str; 25] = [
    "advantage",
    "batch",
    "cli",
    "config",
    "dataset",
    "external_ratio",
    "json_lines",
    "likelihood",
    "metrics",
    "model_folder",
    "options",
    "picture",
    "prompt",
    "record",
    "reward",
    "rollout",
    "rollout_file",
    "seed",
    "secret",
    "folder",
    "selection",
    "study",
    "synthetic",
    "system",
    "teacher",
];
/// What any host module may use besides itself: what travels, and what all of them read or draw alike.
const SHARED: [&str; 11] = [
    "record",
    "generator",
    "json_lines",
    "model_folder",
    "options",
    "picture",
    "printable",
    "secret",
    "seed",
    "statistics",
    "system",
];
/// Files of host modules that put other stages together, each with what it is for.
const COMPOSING_FILES: [(&str, &str); 8] = [
    (
        "src/actions/teacher/local.rs",
        "a model that answers on this device is a teacher too",
    ),
    (
        "src/run/metrics/step_report.rs",
        "what a step did becomes the metrics of its row",
    ),
    // A study makes runs, which are this program with its configuration; what judges them is host code alone.
    ("src/study/gather.rs", "a run folder becomes a result"),
    (
        "src/study/runner.rs",
        "starts runs and looks for their checkpoints",
    ),
    ("src/study/session.rs", "one sitting: plan, runs, results"),
    ("src/study/settings.rs", "YAML, which configuration reads"),
    ("src/study/site.rs", "YAML, which configuration reads"),
    ("src/study/plan.rs", "the commands of runs"),
];
/// `(module, module)`: the flags of the command line are the keys of the configuration.
const PAIRS: [(&str, &str); 1] = [("cli", "config")];
/// Modules that put stages, or what they report, together; every other one uses at most one of them.
const COMPOSERS: [&str; 12] = [
    "commands",
    "setup",
    "train",
    "trainer",
    "sft",
    "evaluation",
    "state",
    "position",
    "learner",
    "checkpoint",
    "demo",
    "start",
];

fn host_files() -> Vec<SourceFile> {
    let mut sources = files("src", "rs");
    sources.retain(|file| {
        let composes = COMPOSING_FILES.iter().any(|(path, _)| *path == file.path);
        HOST.contains(&module(&file.path)) && !composes
    });
    sources
}

#[test]
fn host_stages_know_no_device() {
    let device = Regex::new(
        r"\b(burn|burn_\w+|cubecl\w*|wgpu)\s*::|\buse\s+(burn|burn_\w+|cubecl\w*|wgpu)\b",
    )
    .expect("valid");
    let places = host_files()
        .iter()
        .flat_map(|file| matches(file, &device))
        .collect();
    report(
        "host stages never name burn, cubecl or wgpu",
        "they run and are tested without any device",
        places,
    );
}

#[test]
fn a_stage_imports_records_only() {
    let mut places = Vec::new();
    for file in host_files() {
        for used in file.imported_modules() {
            let own = module(&file.path);
            if used != own && !SHARED.contains(&used) && !PAIRS.contains(&(own, used)) {
                places.push((file.path.clone(), format!("uses `crate::{used}`")));
            }
        }
    }
    report(
        "a host stage imports only what stages share",
        "stages meet in records, so each can change alone",
        places,
    );
}

#[test]
fn only_composers_use_several_stages() {
    let sources = files("src", "rs");
    let mut places = Vec::new();
    for name in modules()
        .iter()
        .filter(|name| !HOST.contains(&name.as_str()) && !COMPOSERS.contains(&name.as_str()))
    {
        let own = sources.iter().filter(|file| module(&file.path) == name);
        let used: BTreeSet<&str> = own.flat_map(SourceFile::imported_modules).collect();
        let stages: Vec<&str> = used
            .into_iter()
            .filter(|used| HOST.contains(used) && !SHARED.contains(used))
            .collect();
        if stages.len() > 1 {
            places.push((format!("src/{name}"), format!("uses {}", stages.join(", "))));
        }
    }
    report(
        "only the modules that compose the program use several stages",
        "a reader finds the order of the stages in one place",
        places,
    );
}

#[test]
fn burns_backend_layers_are_named_by_kernels_only() {
    let places = code_matches(r"\b(Autodiff|Fusion|Dispatch)\b", &["src/kernels/"]);
    report(
        "only src/kernels names Autodiff, Fusion or Dispatch",
        "the rest of the program is the same on every backend",
        places,
    );
}

#[test]
fn only_commands_and_metrics_print() {
    let places = code_matches(r"\b(print|println|eprint|eprintln)!", &[]);
    report(
        "nothing prints by print! or eprint!",
        "they end the program where nobody reads any more; commands/say.rs does not",
        places,
    );
    let places = code_matches(
        r"\bstd(out|err)\(\)",
        &[
            "src/commands/say.rs",
            "src/run/metrics/",
            "src/system/signals.rs",
        ],
    );
    report(
        "only commands/say.rs and run/metrics/ write to the standard streams",
        "standard output is for results; everything else logs",
        places,
    );
}

#[test]
fn only_system_files_makes_files() {
    let places = code_matches(
        r"\bFile::(create|create_new|options)\b|\bfs::write\b|\bOpenOptions\b|\bWriter::from_path\b",
        // The last two: a file is forced to the disk; a module of tests.
        &[
            "src/system/files.rs",
            "src/run/folder/disk.rs",
            "src/data/prompt/golden.rs",
        ],
    );
    report(
        "only system/files.rs makes files",
        "nothing is written through links, or over what somebody else made",
        places,
    );
}

#[test]
fn each_outside_world_has_one_door() {
    let places = code_matches(r"\bserde_saphyr\b", &["src/config/"]);
    report(
        "only src/config knows YAML",
        "there is one place where options are read",
        places,
    );
    let places = code_matches(
        r"\b(std::net|TcpStream|TcpListener|UdpSocket)\b",
        &["src/actions/teacher/endpoint/"],
    );
    report(
        "only teacher/endpoint opens a socket",
        "a run without endpoints stays on its machine",
        places,
    );
    let places = code_matches(
        r"\bprocess::(Command\b|\{[^}]*\bCommand\b)",
        &[
            "src/actions/reward/process.rs",
            "src/actions/reward/process/",
            "src/study/",
            "src/system/guard.rs",
        ],
    );
    report(
        "only reward/process.rs, its parts, study and the watcher of children start a program",
        "a run does not depend on what is installed; a study is this program, many times",
        places,
    );
}

#[test]
fn stages_are_functions_of_their_input() {
    let clock = Regex::new(r"\b(Instant|SystemTime)::now\b").expect("valid");
    let stages = host_files();
    let places = stages
        .iter()
        // A server is asked with time-outs, and its answers carry the time.
        .filter(|file| {
            module(&file.path) != "metrics"
                && !file.path.starts_with("src/actions/teacher/endpoint/")
        })
        .flat_map(|file| matches(file, &clock))
        .collect();
    report(
        "no host stage reads a clock",
        "the same input gives the same output",
        places,
    );
    let places = code_matches(
        r"\bthread_rng\b|\brand::(rng|random)\b|\bfrom_(os_rng|entropy)\b|\bOsRng\b",
        &[],
    );
    report(
        "randomness enters as a seed",
        "a run can be repeated",
        places,
    );
}
