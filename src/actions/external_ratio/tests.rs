//! Each scheme against numbers worked out by hand from the method's formulas.

use std::sync::Arc;

use super::*;
use crate::record::{Action, Example, FinishReason, Prompt, ScoredAction};

fn options(ratio: ExternalRatio) -> ExternalRatioOptions {
    ExternalRatioOptions {
        ratio,
        gamma: Some(0.1),
        weight_level: WeightLevel::Sequence,
        weight_cap: 3.0,
        share: SupervisedShare::Constant(0.25),
        uncertainty_weighted: true,
        coefficient: 1.0,
        model_weights: BTreeMap::new(),
    }
}

fn prompt(id: &str) -> Arc<Prompt> {
    Arc::new(Prompt {
        id: id.to_owned(),
        rendered: String::new(),
        input_ids: vec![1],
        positions: vec![[0; 3]],
        rope_delta: 0,
        images: Vec::new(),
    })
}

fn row(source: Source, advantage: f32) -> TokenRow {
    TokenRow {
        source,
        advantages: vec![advantage; 2],
        old_logprobs: Some(vec![-1.0, -2.0]),
        ..TokenRow::plain(0, vec![5, 6])
    }
}

fn external(name: &str, advantage: f32) -> TokenRow {
    row(Source::External(name.into()), advantage)
}

/// A policy row with advantage -0.5 and an external one with 1.5.
fn batch() -> TokenBatch {
    TokenBatch {
        prompts: vec![prompt("a")],
        rows: vec![row(Source::Policy, -0.5), external("expert", 1.5)],
    }
}

fn stamped(options: &ExternalRatioOptions) -> TokenBatch {
    let mut batch = batch();
    stamp(&mut batch, options, 0).expect("can be stamped");
    batch
}

#[test]
fn the_papers_ratio_changes_nothing() {
    assert_eq!(stamped(&options(ExternalRatio::Same)), batch());
}

#[test]
fn likelihood_schemes_move_the_advantage_into_the_likelihood_term() {
    for (ratio, gamma, shape) in [
        (
            ExternalRatio::Luffy,
            Some(0.1),
            LikelihoodShape::Shaped { gamma: 0.1 },
        ),
        (ExternalRatio::Luffy, None, LikelihoodShape::Probability),
        (
            ExternalRatio::RlPlus,
            None,
            LikelihoodShape::ExplorationWeighted,
        ),
        (ExternalRatio::Unit, None, LikelihoodShape::LogLikelihood),
    ] {
        let found = stamped(&ExternalRatioOptions {
            gamma,
            ..options(ratio)
        });
        assert_eq!(
            found.rows[0],
            batch().rows[0],
            "{ratio:?}: policy rows stay"
        );
        let external = &found.rows[1];
        assert_eq!(external.advantages, [0.0; 2]);
        assert_eq!(
            external.likelihood,
            Some(Likelihood {
                shape,
                coefficients: vec![1.5; 2]
            })
        );
        assert_eq!(
            (external.component, external.kl_weight),
            (Component::Policy, 1.0)
        );
    }
}

/// By hand: mu 0.25, so the policy's part counts 0.75 and the supervised part 0.25 x its own mean.
#[test]
fn chord_mixes_a_supervised_part() {
    let found = stamped(&options(ExternalRatio::Chord));
    assert_eq!(
        (found.rows[0].scale, found.rows[0].component),
        (0.75, Component::Policy)
    );
    let external = &found.rows[1];
    assert_eq!(
        (external.scale, external.component, external.kl_weight),
        (0.25, Component::Supervised, 0.0)
    );
    let shape = LikelihoodShape::UncertaintyWeighted;
    assert_eq!(
        external.likelihood,
        Some(Likelihood {
            shape,
            coefficients: vec![1.0; 2]
        })
    );
    let plain = ExternalRatioOptions {
        uncertainty_weighted: false,
        ..options(ExternalRatio::Chord)
    };
    let shape = LikelihoodShape::LogLikelihood;
    assert_eq!(
        stamped(&plain).rows[1].likelihood,
        Some(Likelihood {
            shape,
            coefficients: vec![1.0; 2]
        })
    );
}

#[test]
fn coefficients_multiply_per_model_and_over_all() {
    let mut batch = batch();
    batch.rows.push(external("other", 1.0));
    let options = ExternalRatioOptions {
        coefficient: 0.5,
        model_weights: BTreeMap::from([("expert".to_owned(), 0.2)]),
        ..options(ExternalRatio::Same)
    };
    stamp(&mut batch, &options, 0).expect("can be stamped");
    assert_eq!(
        [
            batch.rows[0].scale,
            batch.rows[1].scale,
            batch.rows[2].scale
        ],
        [1.0, 0.1, 0.5]
    );
}

/// By hand: log π_old = -3, log q = -2.5, w = exp(-0.5) = 0.60653; self-normalised over w = 1, 0.60653 to
/// 2 x 1 / 1.60653 and 2 x 0.60653 / 1.60653; effective size 1.60653² / (1 + 0.36788) = 1.88684.
#[test]
fn importance_weights_multiply_the_advantages() {
    let with_logprobs = |logprobs: Option<Vec<f32>>, sum: Option<f32>| {
        let mut batch = batch();
        batch.rows[1].external_logprobs = logprobs;
        batch.rows[1].external_logprob_sum = sum;
        batch
    };
    let close = |found: &[f32], expected: [f32; 2]| {
        let pairs = found.iter().zip(expected);
        pairs.for_each(|(found, expected)| {
            assert!(
                (found - expected).abs() < 1e-5,
                "{found}, expected {expected}"
            )
        });
    };
    for (logprobs, sum) in [(Some(vec![-0.5, -2.0]), None), (None, Some(-2.5))] {
        let mut exact = with_logprobs(logprobs.clone(), sum);
        let report =
            stamp(&mut exact, &options(ExternalRatio::Is), 0).expect("has log-probabilities");
        close(&exact.rows[1].advantages, [0.909_796; 2]);
        close(&exact.rows[0].advantages, [-0.5; 2]);
        assert!((report.effective_sample_size.expect("is reported") - 1.886_84).abs() < 1e-4);
        let mut normalised = with_logprobs(logprobs, sum);
        stamp(&mut normalised, &options(ExternalRatio::Snis), 0).expect("has log-probabilities");
        close(&normalised.rows[1].advantages, [1.132_622; 2]);
        close(&normalised.rows[0].advantages, [-0.622_459; 2]);
    }
    let mut per_token = with_logprobs(Some(vec![-0.5, -3.5]), None);
    let level = ExternalRatioOptions {
        weight_level: WeightLevel::Token,
        ..options(ExternalRatio::Is)
    };
    stamp(&mut per_token, &level, 0).expect("has log-probabilities");
    close(&per_token.rows[1].advantages, [0.909_796, 4.5]);
}

#[test]
fn an_action_without_log_probabilities_is_named() {
    for (level, part) in [
        (
            WeightLevel::Sequence,
            "no log-probabilities of its own, which",
        ),
        (WeightLevel::Token, "for the policy's tokens"),
    ] {
        let options = ExternalRatioOptions {
            weight_level: level,
            ..options(ExternalRatio::Is)
        };
        let message = stamp(&mut batch(), &options, 0)
            .expect_err("has none")
            .to_string();
        assert!(
            message.contains("prompt `a`: the action of `expert`") && message.contains(part),
            "{message}"
        );
        assert!(
            message.contains("\nhint: use external_ratio same"),
            "{message}"
        );
    }
}

/// A pool of policy actions and one external action, all selected.
fn group(passing: &[bool], external_passes: &[bool]) -> Group {
    let scored = |source: Source, passes: bool| ScoredAction {
        action: Action {
            source,
            token_ids: vec![1],
            text: String::new(),
            sampling_logprobs: None,
            external_logprobs: None,
            external_logprob_sum: None,
            old_logprobs: None,
            finish: FinishReason::Stop,
        },
        rewards: vec![Some(f32::from(passes))],
        reward: Some(f32::from(passes)),
        passes,
    };
    let own = passing.iter().map(|passes| scored(Source::Policy, *passes));
    let others = external_passes
        .iter()
        .map(|passes| scored(Source::External("expert".into()), *passes));
    let pool: Vec<ScoredAction> = own.chain(others).collect();
    Group {
        example: Arc::new(Example {
            id: "a".to_owned(),
            task: None,
            messages: Vec::new(),
            images: Vec::new(),
            solution: String::new(),
            cot: None,
            target: None,
            columns: serde_json::Map::new(),
            origin: "rows.jsonl:1".to_owned(),
        }),
        prompt: prompt("a"),
        selected: (0..pool.len()).collect(),
        advantages: Vec::new(),
        pool,
    }
}

#[test]
fn supervised_schemes_admit_what_their_papers_train_on() {
    let admitted = |ratio, mut group: Group| {
        admit(std::slice::from_mut(&mut group), ratio);
        group.selected
    };
    let failed = || group(&[false, false], &[false, true, true]);
    let solved = || group(&[false, true], &[true]);
    assert_eq!(admitted(ExternalRatio::Chord, failed()), [0, 1, 3, 4]);
    assert_eq!(admitted(ExternalRatio::Hpt, failed()), [3]);
    assert_eq!(admitted(ExternalRatio::Hpt, solved()), [0, 1]);
    assert_eq!(
        admitted(ExternalRatio::Hpt, group(&[false, false], &[false])),
        [0, 1]
    );
    assert_eq!(admitted(ExternalRatio::SftSelected, solved()), [2]);
    assert_eq!(admitted(ExternalRatio::Luffy, solved()), [0, 1, 2]);
}
