//! Which micro-batches of a generation batch make which optimizer step, as TRL and transformers count them: arithmetic on
//! the keys alone; knows nothing of rows, losses or models.

use crate::config::Run;

/// The sizes that decide it.
///
/// A pass over the data is a row of micro-batches: `iterations` times those of its first generation batch, then of its
/// second, and so on. Every `accumulation` of them are an optimizer step; the last step of a pass takes what is left.
/// (transformers `Trainer._inner_training_loop`; TRL `GRPOTrainer._prepare_inputs`.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Micro-batches of a generation batch: `steps_per_generation`.
    pub micro_batches: usize,
    /// Times that each is learnt from: `num_iterations`.
    pub iterations: usize,
    /// Micro-batches of an optimizer step: `gradient_accumulation_steps`.
    pub accumulation: usize,
    /// Generation batches of a pass over the data.
    pub generations_per_pass: usize,
}

/// The part of one optimizer step that lies in one generation batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its number in the generation batch; before part 1 and later ones the weights have changed since sampling.
    pub number: usize,
    /// Which micro-batches, in order; one may stand twice where a step runs over the end of an iteration.
    pub micro_batches: Vec<usize>,
    /// Micro-batches of the whole step, those of other generation batches included.
    pub of: usize,
    /// Whether the step is complete with it.
    pub completes: bool,
}

impl Cut {
    /// The sizes of a run over `rows` rows.
    #[must_use]
    pub fn of(run: &Run, rows: usize) -> Self {
        Self {
            micro_batches: run.batch.steps_per_generation,
            iterations: run.loss.num_iterations,
            accumulation: run.batch.gradient_accumulation_steps,
            generations_per_pass: (rows / run.prompts_per_generation()).max(1),
        }
    }

    /// The parts of generation batch `generation` of the run, counted from 0, in order.
    pub fn parts(self, generation: u64) -> impl Iterator<Item = Part> {
        let (start, end, pass) = self.places(generation);
        let mut at = start;
        (0..).map_while(move |number| {
            let first = at / self.accumulation * self.accumulation;
            let last = (first + self.accumulation).min(pass);
            let until = last.min(end);
            let part = Part {
                number,
                micro_batches: (at..until)
                    .map(|place| (place - start) % self.micro_batches)
                    .collect(),
                of: last - first,
                completes: until == last,
            };
            at = until;
            (!part.micro_batches.is_empty()).then_some(part)
        })
    }

    /// Optimizer steps that generation batch `generation` completes.
    #[must_use]
    pub fn steps(self, generation: u64) -> u64 {
        let (start, end, pass) = self.places(generation);
        let done = |place: usize| {
            if place == pass {
                place.div_ceil(self.accumulation)
            } else {
                place / self.accumulation
            }
        };
        (done(end) - done(start)) as u64
    }

    /// Where the micro-batches of a generation batch begin and end in its pass, and the length of the pass.
    fn places(self, generation: u64) -> (usize, usize, usize) {
        let own = self.micro_batches * self.iterations;
        let nth = (generation % self.generations_per_pass as u64) as usize;
        (nth * own, (nth + 1) * own, self.generations_per_pass * own)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::learner::batch::{LossType, LossWeightOptions, loss_weights, micro_batches};
    use crate::record::{Prompt, TokenBatch, TokenRow};

    /// Every combination of small sizes, whether or not one divides the other.
    fn grid() -> Vec<Cut> {
        let mut cuts = Vec::new();
        for micro_batches in [1, 2, 3, 4, 6, 8] {
            for iterations in 1..=3 {
                for accumulation in [1, 2, 3, 4, 8, 12] {
                    for generations_per_pass in [1, 2, 5] {
                        cuts.push(Cut {
                            micro_batches,
                            iterations,
                            accumulation,
                            generations_per_pass,
                        });
                    }
                }
            }
        }
        cuts
    }

    #[test]
    fn a_pass_makes_the_steps_of_the_keys_and_uses_each_micro_batch_once_an_iteration() {
        for cut in grid() {
            let whole = cut.micro_batches * cut.iterations * cut.generations_per_pass;
            for pass in 0..2 {
                let (mut steps, mut waiting) = (0, 0);
                for nth in 0..cut.generations_per_pass as u64 {
                    let generation = pass * cut.generations_per_pass as u64 + nth;
                    let parts: Vec<Part> = cut.parts(generation).collect();
                    let mut used = vec![0; cut.micro_batches];
                    for (number, part) in parts.iter().enumerate() {
                        assert_eq!(part.number, number, "{cut:?}");
                        part.micro_batches
                            .iter()
                            .for_each(|micro| used[*micro] += 1);
                        waiting += part.micro_batches.len();
                        if part.completes {
                            assert_eq!(waiting, part.of, "{cut:?}: the size of a step");
                            waiting = 0;
                            steps += 1;
                        }
                    }
                    assert!(used.iter().all(|count| *count == cut.iterations), "{cut:?}");
                    let completed = parts.iter().filter(|part| part.completes).count();
                    assert_eq!(cut.steps(generation), completed as u64, "{cut:?}");
                }
                assert_eq!(steps, whole.div_ceil(cut.accumulation), "{cut:?}");
                assert_eq!(waiting, 0, "{cut:?}: a pass ends with a whole step");
            }
        }
    }

    /// One generation batch is one step wherever the keys say so, whatever `num_generations` is.
    #[test]
    fn an_aligned_generation_batch_is_steps_per_generation_over_accumulation_steps() {
        for cut in grid() {
            let own = cut.micro_batches * cut.iterations;
            if own.is_multiple_of(cut.accumulation) {
                for generation in 0..7 {
                    assert_eq!(cut.steps(generation), (own / cut.accumulation) as u64);
                    assert!(cut.parts(generation).all(|part| part.completes));
                }
            }
        }
    }

    /// Rows of different lengths, eight of them of each prompt.
    fn batch(rows: usize) -> TokenBatch {
        let prompt = Arc::new(Prompt {
            id: String::new(),
            rendered: String::new(),
            input_ids: vec![1],
            positions: vec![[0; 3]],
            rope_delta: 0,
            images: Vec::new(),
        });
        let row = |index: usize| TokenRow::plain(index / 8, vec![7; 1 + index % 5]);
        TokenBatch {
            prompts: vec![prompt; rows.div_ceil(8)],
            rows: (0..rows).map(row).collect(),
        }
    }

    /// Every way in which 8 completions of a prompt meet a micro-batch: (micro-batch, micro-batches) whose product the
    /// generations divide. Each of the steps counts for one, and each completion in each iteration once.
    #[test]
    fn the_weights_of_a_generation_batch_add_up_to_its_steps() {
        let sizes = [
            (3, 8),
            (6, 4),
            (12, 2),
            (10, 4),
            (8, 1),
            (2, 4),
            (16, 3),
            (1, 8),
            (24, 1),
        ];
        for (per_batch, count) in sizes {
            let whole = batch(per_batch * count);
            let micro = micro_batches(&whole, count);
            assert!(micro.iter().all(|micro| micro.rows.len() == per_batch));
            for (iterations, accumulation) in
                [(1, count), (1, 1), (2, count), (3, 2), (1, 2 * count)]
            {
                let cut = Cut {
                    micro_batches: count,
                    iterations,
                    accumulation,
                    generations_per_pass: 1_000_000,
                };
                for loss_type in [
                    LossType::Grpo,
                    LossType::Bnpo,
                    LossType::DrGrpo,
                    LossType::Dapo,
                ] {
                    let options = LossWeightOptions {
                        loss_type,
                        max_completion_length: 8,
                        steps: count as f64 / accumulation as f64,
                    };
                    let weights = loss_weights(&micro, &options);
                    let of_micro = |index: usize| -> f64 {
                        weights[index]
                            .iter()
                            .flatten()
                            .copied()
                            .map(f64::from)
                            .sum()
                    };
                    let total: f64 = cut
                        .parts(0)
                        .flat_map(|part| part.micro_batches)
                        .map(of_micro)
                        .sum();
                    let tokens: usize = whole.rows.iter().map(|row| row.token_ids.len()).sum();
                    let one = match loss_type {
                        LossType::DrGrpo => tokens as f64 / (whole.rows.len() * 8) as f64,
                        _ => 1.0,
                    };
                    let expected = one * (count * iterations) as f64 / accumulation as f64;
                    assert!(
                        (total - expected).abs() < 1e-4 * expected,
                        "{per_batch} x {count}, {cut:?}, {loss_type:?}: {total}, not {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_step_over_two_generation_batches_is_complete_with_the_second() {
        let cut = Cut {
            micro_batches: 2,
            iterations: 1,
            accumulation: 4,
            generations_per_pass: 3,
        };
        let part = |micro_batches: &[usize], of, completes| Part {
            number: 0,
            micro_batches: micro_batches.to_vec(),
            of,
            completes,
        };
        let found: Vec<Part> = (0..3).flat_map(|index| cut.parts(index)).collect();
        let last_of_the_pass = part(&[0, 1], 2, true);
        assert_eq!(
            found,
            [
                part(&[0, 1], 4, false),
                part(&[0, 1], 4, true),
                last_of_the_pass
            ]
        );
    }

    #[test]
    fn a_step_may_run_over_the_end_of_an_iteration() {
        let cut = Cut {
            micro_batches: 3,
            iterations: 2,
            accumulation: 2,
            generations_per_pass: 1,
        };
        let found: Vec<Vec<usize>> = cut.parts(0).map(|part| part.micro_batches).collect();
        assert_eq!(found, [vec![0, 1], vec![2, 0], vec![1, 2]]);
    }
}
