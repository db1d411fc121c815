//! `merge` and `verify-export`, as a person runs them.

use crate::support::golden_path;
use crate::support::program::program;
use crate::support::run::shown;

#[test]
fn an_adapter_is_merged_and_compared() {
    let work = tempfile::tempdir().expect("a folder");
    let model = shown(&golden_path("qwen2vl-tiny"));
    let adapter = shown(&golden_path("../peft/all-linear"));
    let merged = shown(&work.path().join("below/merged"));
    let merge = [
        "merge",
        "--model",
        &model,
        "--adapter",
        &adapter,
        "--out",
        &merged,
    ];
    assert!(program(&merge).done().contains("folded in"));
    program(&merge).refused(&["exists, and nothing is overwritten"]);
    let mut verify = vec![
        "verify-export",
        "--model",
        &model,
        "--adapter",
        &adapter,
        "--merged",
        &merged,
        "--device",
        "cpu",
        "--tolerance",
        "0.001",
    ];
    let said = program(&verify).done();
    assert_eq!(said.lines().count(), 4, "{said}");
    assert!(
        said.contains("largest difference of a logit: 0.0000"),
        "{said}"
    );
    // The model itself is not what the adapter makes of it.
    verify[6] = &model;
    program(&verify).refused(&["the merged model differs by", "more than 0.001"]);
    verify[6] = &adapter;
    program(&verify).refused(&["no merged model"]);
}

#[test]
fn the_model_is_the_one_that_the_adapter_names() {
    let work = tempfile::tempdir().expect("a folder");
    // The fixtures name it from the root of the repository, where the tests run.
    let adapter = shown(&golden_path("../peft/rslora-saved"));
    let merged = shown(&work.path().join("merged"));
    program(&["merge", "--adapter", &adapter, "--out", &merged]).done();
    let config = std::fs::read_to_string(work.path().join("merged/config.json")).expect("there");
    assert!(
        config.contains("\"tie_word_embeddings\": false"),
        "{config}"
    );
    let model = shown(&golden_path("qwen2vl-tiny"));
    program(&[
        "merge",
        "--adapter",
        &model,
        "--out",
        &shown(&work.path().join("x")),
    ])
    .refused(&["no adapter_config.json"]);
    program(&[
        "merge",
        "--model",
        &adapter,
        "--adapter",
        &adapter,
        "--out",
        &merged,
    ])
    .refused(&["an adapter, not a model"]);
}
