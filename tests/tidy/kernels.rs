//! Shaders and the kernels that own them.

use std::collections::BTreeSet;

use super::source::{SourceFile, files};
use super::{module, report};

const STORAGE_BINDINGS: usize = 8;

#[test]
fn wgsl_belongs_to_the_kernel_of_its_name() {
    let sources = files("src", "rs");
    let mut places = Vec::new();
    let includes = |file: &SourceFile, shader: &str| {
        file.literals
            .iter()
            .any(|literal| literal.ends_with(shader))
    };
    for file in sources
        .iter()
        .filter(|file| !file.path.starts_with("src/kernels/"))
    {
        if includes(file, ".wgsl") {
            places.push((file.path.clone(), "includes WGSL".to_owned()));
        }
    }
    for shader in files("shaders", "wgsl") {
        let users: BTreeSet<&str> = sources
            .iter()
            .filter(|file| {
                includes(
                    file,
                    shader.path.strip_prefix("shaders").unwrap_or(&shader.path),
                )
            })
            .map(|file| module(file.path.strip_prefix("src/kernels/").unwrap_or(&file.path)))
            .collect();
        let stem = module(
            shader
                .path
                .rsplit('/')
                .next()
                .unwrap_or("")
                .trim_end_matches(".wgsl"),
        );
        let shared = shader.path.starts_with("shaders/shared/");
        let owned = users.len() == 1
            && users
                .iter()
                .all(|user| stem == *user || stem.starts_with(&format!("{user}_")));
        if users.is_empty() || !(shared || owned) {
            places.push((
                shader.path,
                format!("included by {users:?}, expected the kernel of its name"),
            ));
        }
    }
    report(
        "each shader is included by src/kernels/<its stem> alone",
        "whoever reads a kernel finds its other half",
        places,
    );
}

#[test]
fn shaders_keep_to_portable_forms() {
    let mut places = Vec::new();
    for shader in files("shaders", "wgsl") {
        let bindings = shader.text.matches("var<storage").count();
        if bindings > STORAGE_BINDINGS {
            places.push((
                shader.path.clone(),
                format!("{bindings} storage bindings, expected at most {STORAGE_BINDINGS}"),
            ));
        }
        if shader.path.starts_with("shaders/shared/")
            && (shader.text.contains("@group(") || shader.text.contains("@compute"))
        {
            places.push((
                shader.path.clone(),
                "a shared part has a binding or an entry".to_owned(),
            ));
        }
        if shader.text.contains("{{") {
            places.push((
                shader.path.clone(),
                "has a `{{` hole; the text must be WGSL by itself".to_owned(),
            ));
        }
        if !shader.text.starts_with("// ") {
            places.push((
                shader.path,
                "has no header: formula, shapes, what one thread does".to_owned(),
            ));
        }
    }
    report(
        "shaders are plain WGSL with at most eight storage bindings",
        "every adapter must take them",
        places,
    );
}

#[test]
fn every_kernel_is_tested() {
    let tests = files("tests", "rs");
    let kernels: BTreeSet<String> = files("src/kernels", "rs")
        .iter()
        .filter(|file| {
            file.literals
                .iter()
                .any(|literal| literal.ends_with(".wgsl") && !literal.contains("/shared/"))
        })
        .map(|file| module(file.path.strip_prefix("src/kernels/").unwrap_or("")).to_owned())
        .collect();
    assert!(
        !kernels.is_empty(),
        "no kernel includes a shader: the rule would check nothing"
    );
    let tested = |kernel: &String| tests.iter().any(|test| test.text.contains(kernel.as_str()));
    let places = kernels.iter().filter(|kernel| !tested(kernel));
    let places = places
        .map(|kernel| {
            (
                format!("src/kernels/{kernel}"),
                "no file in tests/ uses it".to_owned(),
            )
        })
        .collect();
    report(
        "every kernel is compared with its reference in tests/",
        "a kernel without an oracle is a guess",
        places,
    );
}
