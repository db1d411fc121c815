//! Devices that are not there, and what one cannot hold.

use std::process::Command;

use serde_json::Value;

use crate::support::program::{Said, program, run, training_refused};
use crate::support::run::Workspace;

/// What `doctor` says of a device, if it can be opened.
fn doctor(device: &str) -> Result<Value, Said> {
    let said = program(&["doctor", "--json", "--device", device]);
    if said.code == Some(0) {
        Ok(serde_json::from_str(&said.stdout).expect("JSON"))
    } else {
        Err(said)
    }
}

#[test]
fn a_device_that_nobody_has() {
    let work = Workspace::new();
    let words = ["`device` is \"cuda\"; expected one of auto, gpu, vulkan"];
    training_refused(&work, "run", &[("device", "cuda")], &words);
    let said = program(&["doctor", "--device", "gpu:no such card"]);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    said.refused(&["`--device gpu:no such card`"]);
    assert_eq!(program(&["doctor", "--device", "tpu"]).code, Some(2));
}

/// `gpu` is hardware or an error, never software.
#[test]
fn hardware_is_asked_for_and_software_is_there() {
    match doctor("gpu") {
        Ok(report) => {
            let name = report["device"]["description"].as_str().expect("a name");
            let adapters = report["adapters"].as_array().expect("a list");
            let found = adapters.iter().find(|adapter| {
                adapter["software"] == true
                    && name.starts_with(adapter["name"].as_str().expect("a name"))
            });
            assert_eq!(found, None, "{name} is software");
        }
        Err(said) => said.refused(&["for `--device gpu`"]),
    }
}

/// Every device is compared with stored numbers: no kernel is exactly right on the CPU, and none is far off.
#[test]
fn the_self_test_compares_with_numbers_of_others() {
    let report = doctor("cpu").expect("the CPU is always there");
    let tests = report["self_test"].as_array().expect("a list");
    assert_eq!(tests.len(), 14);
    for test in tests {
        assert_eq!(test["passed"], true, "{test}");
        let exact = test["kernel"] == "group_advantage" || test["kernel"] == "write_rows";
        assert!(
            exact || test["worst"].as_f64().expect("a number") > 0.0,
            "{test}"
        );
    }
}

#[test]
fn a_working_adapter_is_not_announced_by_an_error() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vision-ekipl"));
    command.args(["doctor", "--device", "cpu"]);
    let said = run(command.env_remove("XDG_RUNTIME_DIR"));
    assert!(!said.stderr.contains("XDG_RUNTIME_DIR"), "{}", said.stderr);
}

/// The tower's widest layer over a picture of twelve million pixels: 1,176 values for each of 61,000 patches, more than
/// software Vulkan binds.
#[test]
fn a_picture_that_no_buffer_holds_is_refused_before_the_first_step() {
    let Ok(report) = doctor("vulkan") else {
        println!("SKIPPED: no Vulkan adapter was found");
        return;
    };
    let limit = report["device"]["max_buffer_bytes"].as_u64();
    if limit.is_none_or(|limit| limit > 200_000_000) {
        println!("SKIPPED: the adapter's buffers are large enough ({limit:?} bytes)");
        return;
    }
    let work = Workspace::new();
    let keys = [
        ("device", "vulkan"),
        ("min_pixels", "12000000"),
        ("max_pixels", "12845056"),
    ];
    let words = [
        "the vision tower over ",
        " MB, and ",
        "hint: lower max_pixels, or run",
    ];
    training_refused(&work, "run", &keys, &words);
}
