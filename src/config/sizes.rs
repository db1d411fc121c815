//! Products of keys that must be held in memory or counted: each key may be in its range and their product beyond any
//! machine.
//!
//! Judges a resolved [`Run`]; allocates nothing.

use super::error::ConfigError;
use super::file::{RawConfig, wrong};
use super::purpose::Purpose;
use super::run::Run;

/// Most completions that are sampled at once, own and external.
const COMPLETIONS: u128 = 1_000_000;
/// Most tokens that they may have.
const TOKENS: u128 = 1_000_000_000;
/// Most micro-batches that are learnt from between two rollouts.
const MICRO_BATCHES: u128 = 1_000_000;

/// A product: its factors as messages name them, what they make, and how many of it there may be.
#[derive(Clone)]
struct Product {
    /// The key that an error stands at.
    key: &'static str,
    factors: Vec<(&'static str, usize)>,
    what: &'static str,
    most: u128,
}

/// Checks the products of a run.
///
/// # Errors
/// For the first that is too large, at its first key.
pub(super) fn check(run: &Run, raw: &RawConfig, purpose: Purpose) -> Result<(), ConfigError> {
    let products = match purpose {
        Purpose::Train => [training(run), evaluation(run)].concat(),
        Purpose::Eval => evaluation(run),
        Purpose::Parts => Vec::new(),
        Purpose::Sft => supervised(run),
    };
    for product in products {
        let found: u128 = product
            .factors
            .iter()
            .map(|(_, value)| *value as u128)
            .product();
        if found > product.most {
            let factors = product
                .factors
                .iter()
                .map(|(name, value)| format!("{name} {value}"));
            let factors = factors.collect::<Vec<_>>().join(" x ");
            let problem = format!(
                "makes {found} {} ({factors}), at most {}",
                product.what, product.most
            );
            return Err(wrong(
                raw,
                product.key,
                problem,
                "lower one of them".to_owned(),
            ));
        }
    }
    Ok(())
}

fn training(run: &Run) -> Vec<Product> {
    let batch = (
        "`per_device_train_batch_size`",
        run.batch.per_device_train_batch_size,
    );
    let steps = ("`steps_per_generation`", run.batch.steps_per_generation);
    let length = (
        "`max_completion_length`",
        run.sampling.max_completion_length,
    );
    let actions = run
        .group
        .external
        .iter()
        .map(|external| external.num_actions);
    let pool = (
        "pool per `num_generations`",
        1 + actions.sum::<usize>() / run.group.num_generations,
    );
    vec![
        Product {
            key: "steps_per_generation",
            factors: vec![batch, steps],
            what: "completions sampled at once",
            most: COMPLETIONS,
        },
        Product {
            key: "external",
            factors: vec![batch, steps, pool],
            what: "actions at once",
            most: 4 * COMPLETIONS,
        },
        Product {
            key: "max_completion_length",
            factors: vec![batch, steps, length],
            what: "tokens sampled at once",
            most: TOKENS,
        },
        Product {
            key: "num_iterations",
            factors: vec![steps, ("`num_iterations`", run.loss.num_iterations)],
            what: "micro-batches per rollout",
            most: MICRO_BATCHES,
        },
    ]
}

fn evaluation(run: &Run) -> Vec<Product> {
    let batch = (
        "`per_device_eval_batch_size`",
        run.evaluation.per_device_eval_batch_size,
    );
    let length = (
        "`max_completion_length`",
        run.sampling.max_completion_length,
    );
    vec![Product {
        key: "per_device_eval_batch_size",
        factors: vec![batch, length],
        what: "tokens decoded at once",
        most: TOKENS,
    }]
}

fn supervised(run: &Run) -> Vec<Product> {
    let batch = (
        "`per_device_train_batch_size`",
        run.batch.per_device_train_batch_size,
    );
    let steps = (
        "`gradient_accumulation_steps`",
        run.batch.gradient_accumulation_steps,
    );
    vec![Product {
        key: "gradient_accumulation_steps",
        factors: vec![batch, steps],
        what: "rows per optimizer step",
        most: 1000 * COMPLETIONS,
    }]
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, train};

    #[test]
    fn products_beyond_any_machine_are_named_with_their_factors() {
        for (lines, part) in [
            (
                "per_device_train_batch_size: 1000000\nsteps_per_generation: 4",
                "makes 4000000 completions sampled at once (`per_device_train_batch_size` 1000000 x `steps_per_generation` 4), at most 1000000",
            ),
            (
                "per_device_train_batch_size: 65536\nmax_completion_length: 1048576",
                "`max_completion_length` makes 68719476736 tokens sampled at once",
            ),
            (
                "per_device_train_batch_size: 8\nsteps_per_generation: 100000\nnum_iterations: 1000",
                "`num_iterations` makes 100000000 micro-batches per rollout",
            ),
        ] {
            let text = message(lines);
            assert!(
                text.contains(part) && text.contains("\nhint: lower one of them"),
                "{text}"
            );
        }
        train(
            "per_device_train_batch_size: 1024\nsteps_per_generation: 16\nmax_completion_length: 32768",
        );
    }
}
