//! Packs the selected actions of a step for the learner and says how much each token weighs in the loss; knows nothing
//! of the loss of a token itself.

use std::sync::Arc;

pub use crate::options::LossType;
use crate::record::{Component, FinishReason, Group, ScoredAction, Source, TokenBatch, TokenRow};

/// What packing depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackOptions {
    /// `mask_truncated_completions`: completions without an end token count for nothing.
    pub mask_truncated_completions: bool,
    /// Most tokens a completion may have.
    pub max_completion_length: usize,
    /// `external_kl`: whether the KL term holds on external tokens too.
    pub external_kl: bool,
}

/// Groups that cannot be packed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// A completion without tokens.
    #[error(
        "example `{example}`: the action of `{action_source}` has no tokens, expected at least an end token\nhint: drop it before it is scored"
    )]
    EmptyAction {
        /// Example id.
        example: String,
        /// Who wrote it.
        action_source: String,
    },
    /// A completion above the limit.
    #[error(
        "example `{example}`: the action of `{action_source}` has {tokens} tokens, but `max_completion_length` is {limit}\nhint: raise `max_completion_length` to {tokens} or drop the action"
    )]
    TooLong {
        /// Example id.
        example: String,
        /// Who wrote it.
        action_source: String,
        /// Its length.
        tokens: usize,
        /// The limit.
        limit: usize,
    },
    /// Log-probabilities that do not belong to the tokens.
    #[error(
        "example `{example}`: the action of `{action_source}` has {logprobs} {kind} log-probabilities for {tokens} tokens\nhint: keep both of the same rollout"
    )]
    LogprobCount {
        /// Example id.
        example: String,
        /// Who wrote it.
        action_source: String,
        /// `sampling` or `old`.
        kind: &'static str,
        /// Log-probabilities.
        logprobs: usize,
        /// Tokens.
        tokens: usize,
    },
}

/// One row per selected action, in order of the groups; each group's prompt once.
///
/// A group without a single reward is left out with a warning, one without selected actions silently: some ways of
/// learning select none.
///
/// # Errors
/// [`BatchError`] names the example and the action.
///
/// # Panics
/// If a group has another number of advantages than of selected actions.
pub fn pack(groups: &[Group], options: &PackOptions) -> Result<TokenBatch, BatchError> {
    let mut batch = TokenBatch::default();
    for group in groups {
        let example = &group.example;
        assert!(
            group.selected.len() == group.advantages.len(),
            "example `{}`: {} advantages for {} selected actions",
            example.id,
            group.advantages.len(),
            group.selected.len()
        );
        if group.selected.is_empty() {
            continue;
        }
        if group
            .selected
            .iter()
            .all(|&index| group.pool[index].reward.is_none())
        {
            log::warn!(
                "{}: no selected action of example `{}` has a reward; the group is skipped",
                example.origin,
                example.id
            );
            continue;
        }
        let prompt = batch.prompts.len();
        batch.prompts.push(Arc::clone(&group.prompt));
        for (&index, &advantage) in group.selected.iter().zip(&group.advantages) {
            let mut row = token_row(&example.id, &group.pool[index], advantage, options)?;
            row.prompt = prompt;
            batch.rows.push(row);
        }
    }
    Ok(batch)
}

/// The row of an action, as if its prompt were the first.
fn token_row(
    example: &str,
    scored: &ScoredAction,
    advantage: f32,
    options: &PackOptions,
) -> Result<TokenRow, BatchError> {
    let action = &scored.action;
    let (tokens, limit) = (action.token_ids.len(), options.max_completion_length);
    let (example, action_source) = (example.to_owned(), action.source.name().to_owned());
    if tokens == 0 {
        return Err(BatchError::EmptyAction {
            example,
            action_source,
        });
    }
    if tokens > limit {
        return Err(BatchError::TooLong {
            example,
            action_source,
            tokens,
            limit,
        });
    }
    for (kind, logprobs) in [
        ("sampling", &action.sampling_logprobs),
        ("old", &action.old_logprobs),
    ] {
        if let Some(logprobs) = logprobs
            .as_ref()
            .map(Vec::len)
            .filter(|&count| count != tokens)
        {
            return Err(BatchError::LogprobCount {
                example,
                action_source,
                kind,
                logprobs,
                tokens,
            });
        }
    }
    let dropped = options.mask_truncated_completions && action.finish == FinishReason::Length;
    let kl_holds = action.source == Source::Policy || options.external_kl;
    Ok(TokenRow {
        source: action.source.clone(),
        mask: vec![if dropped { 0.0 } else { 1.0 }; tokens],
        advantages: vec![advantage; tokens],
        old_logprobs: action.old_logprobs.clone(),
        sampling_logprobs: action.sampling_logprobs.clone(),
        kl_weight: if kl_holds { 1.0 } else { 0.0 },
        external_logprobs: action.external_logprobs.clone(),
        external_logprob_sum: action.external_logprob_sum,
        ..TokenRow::plain(0, action.token_ids.clone())
    })
}

/// Cuts a batch into exactly `count` micro-batches in order, each row in one of them. `count` divides the rows of a usual
/// batch, whose micro-batches then have `per_device_train_batch_size` rows each, as TRL's; otherwise sizes differ by one
/// at most, and with fewer rows than micro-batches some are empty. A prompt whose rows are cut stands in each micro-batch
/// that has one of them.
///
/// (TRL `split_tensor_dict`, without the shuffle before it: rows of a prompt stay neighbours, so that it is read once.)
///
/// # Panics
/// If `count` is 0.
#[must_use]
pub fn micro_batches(batch: &TokenBatch, count: usize) -> Vec<TokenBatch> {
    assert!(count > 0, "a batch is cut into at least one micro-batch");
    let end = |number: usize| batch.rows.len() * number / count;
    (0..count)
        .map(|number| part(batch, end(number)..end(number + 1)))
        .collect()
}

/// Some rows of a batch with their prompts.
fn part(batch: &TokenBatch, rows: std::ops::Range<usize>) -> TokenBatch {
    let mut result = TokenBatch::default();
    for rows in batch.rows[rows].chunk_by(|a, b| a.prompt == b.prompt) {
        let prompt = result.prompts.len();
        result
            .prompts
            .push(Arc::clone(&batch.prompts[rows[0].prompt]));
        result.rows.extend(rows.iter().map(|row| TokenRow {
            prompt,
            ..row.clone()
        }));
    }
    result
}

/// What the weights of tokens depend on besides the tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossWeightOptions {
    /// The aggregation.
    pub loss_type: LossType,
    /// Most tokens a completion may have; the denominator of [`LossType::DrGrpo`].
    pub max_completion_length: usize,
    /// Optimizer steps that one pass over the generation batch makes: its micro-batches / those of a step. A fraction
    /// where one does not divide the other, or where a step takes several generation batches.
    pub steps: f64,
}

fn tokens_of(batch: &TokenBatch, component: Component) -> f64 {
    rows_of(batch, component).map(row_tokens).sum()
}

fn rows_of(batch: &TokenBatch, component: Component) -> impl Iterator<Item = &TokenRow> {
    batch
        .rows
        .iter()
        .filter(move |row| row.component == component)
}

fn row_tokens(row: &TokenRow) -> f64 {
    row.mask.iter().copied().map(f64::from).sum()
}

/// `[micro-batch][row][token]` weights w, the mask included, of the micro-batches of one **generation batch**: the loss of
/// an optimizer step is Σ w · (loss of the token) over its micro-batches. (TRL `GRPOTrainer._compute_loss`.)
///
/// All weights of a generation batch together are `steps` times the mean that the loss type names, so that each of its
/// steps counts for one. TRL divides each micro-batch by the accumulation steps; here a row counts by its share of the
/// generation batch. That is the same for micro-batches of equal size, and for `grpo`, `dr_grpo` and `dapo` it makes the
/// loss independent of the cut. In `bnpo` the cut matters by definition.
///
/// Each [`Component`] is averaged by itself: the rows and tokens of the supervised part never dilute the policy's part,
/// and its own weights are `steps` / its tokens.
#[must_use]
pub fn loss_weights(
    micro_batches: &[TokenBatch],
    options: &LossWeightOptions,
) -> Vec<Vec<Vec<f32>>> {
    let sum = |count: &dyn Fn(&TokenBatch) -> f64| micro_batches.iter().map(count).sum::<f64>();
    let whole = Counts {
        policy_rows: sum(&|batch| rows_of(batch, Component::Policy).count() as f64),
        policy_tokens: sum(&|batch| tokens_of(batch, Component::Policy)),
        supervised_tokens: sum(&|batch| tokens_of(batch, Component::Supervised)),
    };
    let of_batch = |batch: &TokenBatch| {
        let rows = batch.rows.iter();
        rows.map(|row| row_weights(row, denominator(row, batch, whole, options) / options.steps))
            .collect()
    };
    micro_batches.iter().map(of_batch).collect()
}

/// What a generation batch holds.
#[derive(Clone, Copy)]
struct Counts {
    policy_rows: f64,
    policy_tokens: f64,
    supervised_tokens: f64,
}

/// What the losses of a row's tokens are divided by in a mean over the whole generation batch. An all-masked set counts as
/// one token, as in TRL.
#[expect(
    clippy::cast_precision_loss,
    reason = "batches are far smaller than 2^53"
)]
fn denominator(
    row: &TokenRow,
    batch: &TokenBatch,
    whole: Counts,
    options: &LossWeightOptions,
) -> f64 {
    if row.component == Component::Supervised {
        return whole.supervised_tokens.max(1.0);
    }
    let batch_rows = || rows_of(batch, Component::Policy).count() as f64;
    let batch_tokens = || tokens_of(batch, Component::Policy);
    match options.loss_type {
        LossType::Grpo | LossType::Sapo => whole.policy_rows * row_tokens(row).max(1.0),
        LossType::Bnpo => whole.policy_rows / batch_rows() * batch_tokens().max(1.0),
        LossType::DrGrpo => whole.policy_rows * options.max_completion_length as f64,
        LossType::Dapo | LossType::Cispo => whole.policy_tokens.max(1.0),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the learner works in f32")]
fn row_weights(row: &TokenRow, denominator: f64) -> Vec<f32> {
    let weight = |mask: &f32| (f64::from(*mask) / denominator) as f32 * row.scale;
    row.mask.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;
    use crate::record::{Action, Example, Prompt};

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

    fn scored(
        source: Source,
        tokens: usize,
        reward: Option<f32>,
        finish: FinishReason,
    ) -> ScoredAction {
        let action = Action {
            source,
            token_ids: vec![7; tokens],
            text: String::new(),
            sampling_logprobs: None,
            external_logprobs: None,
            external_logprob_sum: None,
            old_logprobs: None,
            finish,
        };
        ScoredAction {
            action,
            rewards: vec![reward],
            reward,
            passes: false,
        }
    }

    /// A group whose whole pool is selected.
    fn group(id: &str, pool: Vec<ScoredAction>) -> Group {
        let example = Example {
            id: id.to_owned(),
            task: None,
            messages: Vec::new(),
            images: Vec::new(),
            solution: String::new(),
            cot: None,
            target: None,
            columns: serde_json::Map::new(),
            origin: "rows.jsonl:1".to_owned(),
        };
        let count = u8::try_from(pool.len()).expect("small");
        Group {
            example: Arc::new(example),
            prompt: prompt(id),
            selected: (0..pool.len()).collect(),
            advantages: (0..count).map(f32::from).collect(),
            pool,
        }
    }

    fn own(tokens: usize) -> ScoredAction {
        scored(Source::Policy, tokens, Some(1.0), FinishReason::Stop)
    }

    const OPTIONS: PackOptions = PackOptions {
        mask_truncated_completions: true,
        max_completion_length: 8,
        external_kl: true,
    };

    #[test]
    fn selected_actions_become_rows_in_selection_order() {
        let external = scored(
            Source::External("expert".into()),
            2,
            Some(2.0),
            FinishReason::Stop,
        );
        let mut first = group("a", vec![own(3), own(4), external]);
        first.selected = vec![2, 0];
        first.advantages = vec![1.5, -0.5];
        first.pool[0].action.sampling_logprobs = Some(vec![-0.1, -0.2, -0.3]);
        let batch = pack(&[first, group("b", vec![own(1)])], &OPTIONS).expect("packs");
        let ids: Vec<&str> = batch
            .prompts
            .iter()
            .map(|prompt| prompt.id.as_str())
            .collect();
        assert_eq!(ids, ["a", "b"]);
        let [expert, policy, other] = &batch.rows[..] else {
            panic!("{} rows", batch.rows.len())
        };
        assert_eq!(
            (expert.prompt, expert.source.name(), expert.token_ids.len()),
            (0, "expert", 2)
        );
        assert_eq!(
            (&expert.advantages[..], &expert.mask[..]),
            (&[1.5, 1.5][..], &[1.0, 1.0][..])
        );
        assert_eq!((policy.prompt, &policy.advantages[..]), (0, &[-0.5; 3][..]));
        assert_eq!(
            policy.sampling_logprobs.as_deref(),
            Some(&[-0.1, -0.2, -0.3][..])
        );
        assert_eq!((other.prompt, other.token_ids.len()), (1, 1));
    }

    /// By hand: two policy rows of 3 and 1 tokens, one supervised of 2 tokens with scale 0.25.
    #[test]
    fn each_component_is_averaged_by_itself() {
        let pool = vec![own(3), own(1), own(2)];
        let mut batch = pack(&[group("a", pool)], &OPTIONS).expect("packs");
        batch.rows[2].component = Component::Supervised;
        batch.rows[2].scale = 0.25;
        let of_type = |loss_type| {
            let options = LossWeightOptions {
                loss_type,
                max_completion_length: 8,
                steps: 1.0,
            };
            let weights = loss_weights(std::slice::from_ref(&batch), &options);
            [weights[0][0][0], weights[0][1][0], weights[0][2][0]]
        };
        let supervised = 0.25 / 2.0;
        assert_eq!(of_type(LossType::Grpo), [1.0 / 6.0, 0.5, supervised]);
        assert_eq!(of_type(LossType::Bnpo), [0.25, 0.25, supervised]);
        assert_eq!(
            of_type(LossType::DrGrpo),
            [1.0 / 16.0, 1.0 / 16.0, supervised]
        );
        assert_eq!(of_type(LossType::Dapo), [0.25, 0.25, supervised]);
    }

    #[test]
    fn truncated_completions_are_masked_only_on_request() {
        let pool = vec![
            own(2),
            scored(Source::Policy, 8, Some(0.0), FinishReason::Length),
        ];
        let masked = pack(&[group("a", pool.clone())], &OPTIONS).expect("packs");
        assert_eq!(masked.rows[1].mask, [0.0; 8]);
        assert_eq!(tokens_of(&masked, Component::Policy), 2.0);
        let plain = PackOptions {
            mask_truncated_completions: false,
            ..OPTIONS
        };
        assert_eq!(
            pack(&[group("a", pool)], &plain).expect("packs").rows[1].mask,
            [1.0; 8]
        );
    }

    #[test]
    fn the_kl_term_can_spare_external_actions() {
        let external = scored(
            Source::External("expert".into()),
            1,
            Some(2.0),
            FinishReason::Stop,
        );
        let mut first = own(2);
        first.action.old_logprobs = Some(vec![-0.3, -0.4]);
        let groups = [group("a", vec![first, external])];
        let weights = |external_kl| -> Vec<f32> {
            let batch = pack(
                &groups,
                &PackOptions {
                    external_kl,
                    ..OPTIONS
                },
            )
            .expect("packs");
            assert_eq!(
                batch.rows[0].old_logprobs.as_deref(),
                Some(&[-0.3, -0.4][..])
            );
            batch.rows.iter().map(|row| row.kl_weight).collect()
        };
        assert_eq!(weights(true), [1.0, 1.0]);
        assert_eq!(weights(false), [1.0, 0.0]);
    }

    #[test]
    fn groups_without_any_reward_are_skipped_and_lone_nulls_stay() {
        let null = || scored(Source::Policy, 1, None, FinishReason::Stop);
        let groups = [
            group("a", vec![null(), null()]),
            group("b", vec![null(), own(2)]),
            group("c", Vec::new()),
        ];
        let batch = pack(&groups, &OPTIONS).expect("packs");
        assert_eq!(batch.prompts.len(), 1);
        assert_eq!(
            batch
                .rows
                .iter()
                .map(|row| (row.prompt, row.token_ids.len()))
                .collect::<Vec<_>>(),
            [(0, 1), (0, 2)]
        );
    }

    #[test]
    fn impossible_actions_are_named() {
        let refused = |action| {
            pack(&[group("train-7", vec![own(1), action])], &OPTIONS)
                .expect_err("refused")
                .to_string()
        };
        assert!(
            refused(own(0)).contains("example `train-7`: the action of `policy` has no tokens")
        );
        assert!(refused(own(9)).contains("has 9 tokens, but `max_completion_length` is 8"));
        let mut torn = own(2);
        torn.action.sampling_logprobs = Some(vec![-0.1]);
        assert!(refused(torn).contains("1 sampling log-probabilities for 2 tokens"));
        let mut torn = own(2);
        torn.action.old_logprobs = Some(vec![-0.1; 3]);
        assert!(refused(torn).contains("3 old log-probabilities for 2 tokens"));
    }

    /// The example ids and lengths of the rows of each micro-batch.
    fn shape(micro: &[TokenBatch]) -> Vec<Vec<(String, usize)>> {
        let of_batch = |micro: &TokenBatch| {
            let name = |row: &TokenRow| (micro.prompts[row.prompt].id.clone(), row.token_ids.len());
            micro.rows.iter().map(name).collect()
        };
        micro.iter().map(of_batch).collect()
    }

    #[test]
    fn a_batch_is_cut_into_as_many_micro_batches_as_asked_for() {
        let groups: Vec<Group> = [("a", 3), ("b", 3), ("c", 2), ("d", 7)]
            .into_iter()
            .map(|(id, rows)| group(id, (1..=rows).map(own).collect()))
            .collect();
        let batch = pack(&groups, &OPTIONS).expect("packs");
        let whole = shape(&micro_batches(&batch, 1)).concat();
        assert_eq!(whole.len(), 15);
        let sizes = |count| -> Vec<usize> {
            let micro = micro_batches(&batch, count);
            micro.iter().map(|micro| micro.rows.len()).collect()
        };
        assert_eq!(sizes(3), [5, 5, 5]);
        assert_eq!(sizes(4), [3, 4, 4, 4]);
        for count in 1..20 {
            let micro = micro_batches(&batch, count);
            assert_eq!(micro.len(), count);
            assert_eq!(
                shape(&micro).concat(),
                whole,
                "no row is lost, doubled or moved"
            );
            let (least, most) = (15 / count, 15usize.div_ceil(count));
            assert!(
                sizes(count)
                    .iter()
                    .all(|size| (least..=most).contains(size))
            );
            for one in &micro {
                let mut ids: Vec<&str> = one.prompts.iter().map(|prompt| &*prompt.id).collect();
                let all = ids.len();
                ids.dedup();
                assert_eq!(ids.len(), all, "each prompt once");
            }
        }
        let empty = micro_batches(&TokenBatch::default(), 4);
        assert!(empty.len() == 4 && empty.iter().all(|micro| micro.rows.is_empty()));
    }

    fn weights_of(micro_batches: &[TokenBatch], loss_type: LossType, steps: f64) -> Vec<Vec<f32>> {
        let options = LossWeightOptions {
            loss_type,
            max_completion_length: 8,
            steps,
        };
        loss_weights(micro_batches, &options).concat()
    }

    #[test]
    fn weights_by_hand() {
        let truncated = scored(Source::Policy, 3, Some(0.0), FinishReason::Length);
        let batch = pack(
            &[group("a", vec![own(2), truncated, own(1), own(5)])],
            &OPTIONS,
        )
        .expect("packs");
        let rows = |weights: [f32; 4]| -> Vec<Vec<f32>> {
            [2, 3, 1, 5]
                .iter()
                .zip(weights)
                .map(|(&tokens, weight)| vec![weight; tokens])
                .collect()
        };
        let whole = std::slice::from_ref(&batch);
        let halves = micro_batches(&batch, 2);
        for cut in [whole, &halves[..]] {
            assert_eq!(
                weights_of(cut, LossType::Grpo, 1.0),
                rows([0.125, 0.0, 0.25, 0.05])
            );
            assert_eq!(
                weights_of(cut, LossType::DrGrpo, 1.0),
                rows([0.031_25, 0.0, 0.031_25, 0.031_25])
            );
            assert_eq!(
                weights_of(cut, LossType::Dapo, 1.0),
                rows([0.125, 0.0, 0.125, 0.125])
            );
            // Cut into two optimizer steps, each of which counts for one.
            assert_eq!(
                weights_of(cut, LossType::Dapo, 2.0),
                rows([0.25, 0.0, 0.25, 0.25])
            );
        }
        assert_eq!(
            weights_of(whole, LossType::Bnpo, 1.0),
            rows([0.125, 0.0, 0.125, 0.125])
        );
        assert_eq!(
            weights_of(&halves, LossType::Bnpo, 1.0),
            rows([0.25, 0.0, 0.5 / 6.0, 0.5 / 6.0])
        );
    }

    #[test]
    fn an_all_truncated_batch_has_finite_weights() {
        let truncated = || scored(Source::Policy, 3, Some(0.0), FinishReason::Length);
        let batch = pack(&[group("a", vec![truncated(), truncated()])], &OPTIONS).expect("packs");
        for loss_type in [
            LossType::Grpo,
            LossType::Bnpo,
            LossType::DrGrpo,
            LossType::Dapo,
        ] {
            let weights = weights_of(std::slice::from_ref(&batch), loss_type, 1.0);
            assert_eq!(weights.concat(), [0.0; 6], "{loss_type:?}");
        }
    }

    /// The group of the GRPO goldens.
    struct Golden {
        tensors: SafeTensors<'static>,
        json: serde_json::Value,
    }

    impl Golden {
        fn open() -> Self {
            let bytes =
                include_bytes!("../../tests/golden/public/golden-grpo-qwen2vl-tiny.safetensors");
            let json = include_str!("../../tests/golden/public/golden-grpo-qwen2vl-tiny.json");
            Self {
                tensors: SafeTensors::deserialize(bytes).expect("safetensors"),
                json: serde_json::from_str(json).expect("JSON"),
            }
        }

        fn floats(&self, name: &str) -> Vec<f64> {
            let data = self.tensors.tensor(name).expect("a tensor").data().to_vec();
            let values = data
                .chunks_exact(4)
                .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")));
            values.map(f64::from).collect()
        }

        /// Rows of 17, 6, 23 and 2 tokens, without the padding.
        fn batch(&self) -> TokenBatch {
            let mask = self
                .tensors
                .tensor("completion_mask")
                .expect("a mask")
                .data()
                .to_vec();
            let mask: Vec<bool> = mask.chunks_exact(8).map(|bytes| bytes[0] == 1).collect();
            let lengths = mask
                .chunks_exact(23)
                .map(|row| row.iter().filter(|&&set| set).count());
            let options = PackOptions {
                max_completion_length: 32,
                ..OPTIONS
            };
            pack(&[group("p0", lengths.map(own).collect())], &options).expect("packs")
        }

        /// TRL's loss of each token in f64, rows as in [`Self::batch`].
        fn token_losses(&self, settings: &serde_json::Value, lengths: &[usize]) -> Vec<Vec<f64>> {
            let number = |key: &str| settings[key].as_f64().expect("a number");
            let temperature = format!("{:.1}", number("temperature"));
            let [now, old, reference] = ["logps", "old_logps", "ref_logps"]
                .map(|name| self.floats(&format!("{name}_t{temperature}")));
            let advantages = self.floats("advantages");
            let rows = lengths.iter().zip(advantages).enumerate();
            rows.map(|(row, (&tokens, advantage))| {
                let range = row * 23..row * 23 + tokens;
                let mut log_ratios: Vec<f64> =
                    range.clone().map(|index| now[index] - old[index]).collect();
                if settings["importance_sampling_level"] == "sequence" {
                    #[expect(clippy::cast_precision_loss, reason = "23 at most")]
                    let mean = log_ratios.iter().sum::<f64>() / tokens as f64;
                    log_ratios.fill(mean);
                }
                range
                    .zip(log_ratios)
                    .map(|(index, log_ratio)| {
                        let ratio = log_ratio.exp();
                        let clipped =
                            ratio.clamp(1.0 - number("epsilon"), 1.0 + number("epsilon_high"));
                        let difference = reference[index] - now[index];
                        let k3 = difference.exp() - difference - 1.0;
                        let corrected = settings["use_bias_correction_kl"] == true;
                        let kl = if corrected { k3 * ratio } else { k3 };
                        number("beta") * kl - (ratio * advantage).min(clipped * advantage)
                    })
                    .collect()
            })
            .collect()
        }

        fn losses_of(
            &self,
            micro_batches: &[TokenBatch],
            settings: &serde_json::Value,
        ) -> Vec<f64> {
            let lengths: Vec<usize> = self
                .batch()
                .rows
                .iter()
                .map(|row| row.token_ids.len())
                .collect();
            let options = LossWeightOptions {
                loss_type: serde_json::from_value(settings["loss_type"].clone())
                    .expect("a known loss"),
                max_completion_length: 32,
                steps: 1.0,
            };
            let mut losses = self.token_losses(settings, &lengths).into_iter();
            let weigh = |rows: &Vec<Vec<f32>>| -> f64 {
                let mut total = 0.0;
                for weights in rows {
                    let row = losses.next().expect("a row");
                    assert_eq!(row.len(), weights.len());
                    total += row
                        .iter()
                        .zip(weights)
                        .map(|(loss, &weight)| loss * f64::from(weight))
                        .sum::<f64>();
                }
                total
            };
            loss_weights(micro_batches, &options)
                .iter()
                .map(weigh)
                .collect()
        }
    }

    #[test]
    fn losses_of_trl() {
        let golden = Golden::open();
        let whole = [golden.batch()];
        let configurations = golden.json["losses"].as_object().expect("losses");
        assert_eq!(configurations.len(), 26);
        for (name, settings) in configurations {
            let found = golden.losses_of(&whole, settings)[0];
            let expected = settings["loss"].as_f64().expect("a loss");
            assert!(
                (found - expected).abs() < 2e-6,
                "{name}: {found}, not {expected}"
            );
        }
    }

    #[test]
    fn losses_of_trl_in_two_micro_batches() {
        let golden = Golden::open();
        let halves = micro_batches(&golden.batch(), 2);
        for (loss_type, expected) in golden.json["micro_batches"]
            .as_object()
            .expect("micro-batches")
        {
            let settings = &golden.json["losses"][format!("{loss_type}-beta0.04-token")];
            let found = golden.losses_of(&halves, settings);
            for (index, loss) in found.iter().enumerate() {
                let expected = expected["losses"][index].as_f64().expect("a loss");
                assert!(
                    (loss - expected).abs() < 2e-6,
                    "{loss_type} {index}: {loss}, not {expected}"
                );
            }
            let sum = expected["sum"].as_f64().expect("a sum");
            assert!(
                (found.iter().sum::<f64>() - sum).abs() < 2e-6,
                "{loss_type}"
            );
        }
    }
}
