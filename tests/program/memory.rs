//! What a run says of the memory that it takes.

use serde_json::Value;
use vision_ekipl::system::memory::machine_bytes;

use crate::support::program::{program, text};
use crate::support::run::{Workspace, metric};

const GIB: f64 = (1_u64 << 30) as f64;

/// On the CPU device the peak is that of the process: more than the weights with gradients and moments, less than the
/// machine has, and never falling.
#[test]
fn every_step_logs_the_largest_memory_so_far() {
    let work = Workspace::new();
    let run = work.train("run", &[("device", "cpu")]);
    let peaks = metric(&run, "perf/max_memory_allocated_gb");
    assert!(peaks.len() > 1 && peaks.is_sorted(), "{peaks:?}");
    let machine = machine_bytes().map_or(f64::INFINITY, |bytes| bytes as f64 / GIB);
    let parameters = 1e5 * 4.0 * 4.0 / GIB;
    assert!(peaks[0] > parameters && peaks[0] < machine, "{peaks:?}");
    assert_eq!(
        peaks,
        metric(&run, "perf/cpu_memory_used_gb"),
        "one process"
    );
    assert!(
        metric(&run, "perf/max_memory_reserved_gb").is_empty(),
        "the CPU has no pool"
    );

    let tuned = work.config(
        "tuned",
        &[
            ("device", "cpu"),
            ("max_steps", "1"),
            ("max_completion_length", "64"),
        ],
    );
    program(&["sft", text(&tuned)]).done();
    let tuned = metric(&work.path("tuned"), "perf/max_memory_allocated_gb");
    assert!(tuned[0] > parameters, "{tuned:?}");
}

/// A pool holds at least what its tensors take.
#[test]
fn a_gpu_logs_its_pool() {
    if vision_ekipl::device::first_gpu().is_none() {
        println!("SKIPPED: no adapter was found");
        return;
    }
    let work = Workspace::new();
    let keys = [
        ("device", "vulkan"),
        ("max_steps", "1"),
        ("max_completion_length", "4"),
    ];
    let run = work.train("run", &keys);
    let of = |name: &str| metric(&run, name)[0];
    let allocated = of("perf/max_memory_allocated_gb");
    assert!(allocated > 1e5 * 4.0 * 4.0 / GIB, "{allocated}");
    assert!(of("perf/max_memory_reserved_gb") >= allocated);
    assert!(of("perf/cpu_memory_used_gb") > 0.0);
}

/// The JSON of a plan of a configuration, with flags.
fn plan(config: &std::path::Path, flags: &[&str]) -> Value {
    let words = [&["plan", text(config), "--json", "--device", "cpu"], flags].concat();
    serde_json::from_str(&program(&words).done()).expect("JSON")
}

#[test]
fn a_plan_is_a_table_with_a_verdict() {
    let work = Workspace::new();
    let config = work.config("run", &[("beta", "0.04")]);
    let printed = program(&["plan", text(&config), "--device", "cpu"]).done();
    let mut lines = printed.lines();
    assert!(
        lines
            .next()
            .is_some_and(|line| line.starts_with("10 rows (0 rejected), ")),
        "{printed}"
    );
    let head = printed
        .lines()
        .find(|line| line.starts_with("GiB"))
        .expect("a table");
    let words: Vec<&str> = head.split_whitespace().collect();
    assert_eq!(
        words,
        [
            "GiB", "loading", "sampling", "scoring", "backward", "update", "saving"
        ]
    );
    for part in [
        "program ",
        "trained weights ",
        "AdamW moments ",
        "reference model ",
        "decoding caches ",
        "graph of all blocks ",
        "total ",
    ] {
        assert!(
            printed.lines().any(|line| line.starts_with(part)),
            "{part} in {printed}"
        );
    }
    assert!(printed.trim_end().ends_with(": it fits"), "{printed}");
    assert!(!work.path("run").exists(), "nothing is written");
    let tuned = program(&["plan", text(&config), "--sft", "--device", "cpu"]).done();
    let head = tuned
        .lines()
        .find(|line| line.starts_with("GiB"))
        .expect("a table");
    assert!(
        !head.contains("sampling") && head.contains("update"),
        "{tuned}"
    );
}

/// What is said to fit is planned again with the keys that were said.
#[test]
fn what_does_not_fit_is_told_what_would() {
    let work = Workspace::new();
    let keys = [
        ("num_generations", "8"),
        ("per_device_train_batch_size", "8"),
        ("max_completion_length", "4000"),
    ];
    let config = work.config("run", &keys);
    let whole = plan(&config, &[]);
    let peak = whole["peak"]["bytes"].as_f64().expect("bytes");
    let memory = format!("{}", peak * 0.7 / GIB);
    let flags = ["--memory-gib", memory.as_str()];
    let tight = plan(&config, &flags);
    assert_eq!(tight["fits"], false);
    assert_eq!(tight["advice"]["fits"], true, "{tight:#}");
    let remedies = tight["advice"]["remedies"].as_array().expect("a list");
    let mut followed: Vec<String> = flags.iter().map(|word| (*word).to_owned()).collect();
    for remedy in remedies {
        for pair in remedy["keys"].as_str().expect("keys").split(", ") {
            let (key, value) = pair.split_once(": ").expect("a key and its value");
            followed.extend([format!("--{key}"), value.to_owned()]);
        }
    }
    let followed: Vec<&str> = followed.iter().map(String::as_str).collect();
    let after = plan(&config, &followed);
    assert_eq!(after["fits"], true, "{followed:?}: {after:#}");
    assert_eq!(
        after["peak"]["bytes"], tight["advice"]["peak"],
        "{followed:?}"
    );
    let words = [&["plan", text(&config), "--device", "cpu"][..], &flags].concat();
    let printed = program(&words).done();
    assert!(
        printed.contains("it does not fit") && printed.contains("(saves "),
        "{printed}"
    );
}
