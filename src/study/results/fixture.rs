//! Small made-up results for the tests of this module.

use std::collections::BTreeMap;

use super::result::{
    Domain, Evaluation, FORMAT_VERSION, Family, FinalEvaluation, Method, MissingKind, MissingRun,
    ModelDescription, PassAtK, Role, RunResult, Step,
};
use super::statistics::mean_pass_at_k;

/// Methods in the order of their first use in a test.
pub(in crate::study) fn method(key: &str, role: Role) -> Method {
    Method {
        key: key.to_owned(),
        title: format!("The {key}"),
        role,
        order: u32::from(role != Role::Reference),
        counterpart: None,
    }
}

/// A run that gets `right` of ten rows right, in domain; out of domain one fewer. Its reward rises by 0.1 a step up to
/// `right / 10` in ten steps and then stays for ten.
pub(in crate::study) fn run(method: Method, family: Family, seed: u64, right: u32) -> RunResult {
    let steps = (1..=20).map(|step| Step {
        step,
        samples: 8 * step,
        wall_seconds: 2.0 * step as f64,
        reward: Some(f64::from(right) / 10.0 * (step as f64 / 10.0).min(1.0)),
        accuracy: Some(0.5),
        external_share: match method.role {
            Role::Proposed => BTreeMap::from([("expert".to_owned(), 0.5 / step as f64)]),
            _ => BTreeMap::new(),
        },
    });
    let evaluation = |split: &str, domain, right: u32| Evaluation {
        step: 20,
        samples: 160,
        wall_seconds: 40.0,
        split: split.to_owned(),
        domain,
        rows: 10,
        accuracy: f64::from(right) / 10.0,
    };
    RunResult {
        format_version: FORMAT_VERSION,
        family,
        seed,
        commit: "0123abc".to_owned(),
        machine: "2 cores".to_owned(),
        device: "cpu".to_owned(),
        model: ModelDescription {
            parameters: 1_000_000,
            description: "tiny".to_owned(),
        },
        start: "random weights".to_owned(),
        commands: vec![format!(
            "vision-ekipl train {}.yaml --seed {seed}",
            method.key
        )],
        config_digest: "d1".to_owned(),
        started: "2026-11-22T10:00:00Z".to_owned(),
        wall_seconds: 50.0,
        steps: steps.collect(),
        evaluations: vec![
            evaluation("test", Domain::In, right),
            evaluation("test-ood", Domain::Out, right - 1),
        ],
        final_evaluations: vec![
            last("test", Domain::In, right),
            last("test-ood", Domain::Out, right - 1),
        ],
        timing_s: BTreeMap::from([("timing_s/gen".to_owned(), 20.0)]),
        method,
    }
}

fn last(split: &str, domain: Domain, right: u32) -> FinalEvaluation {
    let correct_counts: Vec<u32> = (0..10).map(|row| if row < right { 3 } else { 0 }).collect();
    let value = |k| Some((k, mean_pass_at_k(4, &correct_counts, k)?));
    FinalEvaluation {
        split: split.to_owned(),
        domain,
        rows: 10,
        temperature: 0.0,
        accuracy: f64::from(right) / 10.0,
        exact_match: f64::from(right) / 10.0,
        scores: (0..10)
            .map(|row| f64::from(u8::from(row < right)))
            .collect(),
        pass_at_k: Some(PassAtK {
            temperature: 0.9,
            top_p: 1.0,
            samples_per_row: 4,
            values: [1, 2, 4].into_iter().filter_map(value).collect(),
            correct_counts,
        }),
    }
}

/// A run that failed.
pub(in crate::study) fn missing(method: Method, family: Family, seed: u64) -> MissingRun {
    MissingRun {
        method,
        family,
        seed,
        kind: MissingKind::Failed,
        reason: "loss is | not finite".to_owned(),
    }
}
