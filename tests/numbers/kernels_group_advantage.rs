//! Does the `group_advantage` kernel agree with the stage, with TRL and with the method's vectors, on every device?

use crate::support::{assert_close, devices, golden_path};
use burn::tensor::Device;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use vision_ekipl::actions::advantage::{self, AdvantageInput, ScaleRewards};
use vision_ekipl::kernels::{self, AdvantageRows};

const SCALES: [ScaleRewards; 3] = [ScaleRewards::None, ScaleRewards::Group, ScaleRewards::Batch];

/// The kernel on the stage's input.
fn group_advantage(input: &AdvantageInput, device: &Device) -> Vec<f32> {
    let rows = AdvantageRows {
        rewards: &input.rewards,
        groups: &input.groups,
        in_baseline: &input.in_baseline,
        wanted: &input.wanted,
        scale_rewards: input.scale_rewards,
    };
    kernels::group_advantage(&rows, device).expect("the device answers")
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// One group in which every row is in the baseline and wanted.
fn one_group(rewards: &[f32], scale_rewards: ScaleRewards) -> AdvantageInput {
    AdvantageInput {
        rewards: rewards.to_vec(),
        groups: vec![0; rewards.len()],
        in_baseline: vec![true; rewards.len()],
        wanted: vec![true; rewards.len()],
        scale_rewards,
    }
}

#[test]
fn advantages_are_those_of_trl() {
    let text =
        std::fs::read_to_string(golden_path("golden-advantages.json")).expect("a golden file");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    for (device_name, device) in devices() {
        for (index, case) in json["cases"].as_array().expect("a list").iter().enumerate() {
            let numbers = |key: &str| -> Vec<f32> {
                let list = case[key].as_array().expect("a list").iter();
                list.map(|number| number.as_f64().map_or(f32::NAN, |number| number as f32))
                    .collect()
            };
            let rewards = numbers("rewards");
            let scale = serde_json::from_value(case["scale_rewards"].clone()).expect("a scale");
            let groups = (0..rewards.len()).map(|row| row as u32 / 4).collect();
            let input = AdvantageInput {
                groups,
                ..one_group(&rewards, scale)
            };
            let found = group_advantage(&input, &device);
            assert_close(
                &format!("{device_name} case {index}"),
                &found,
                &wide(&numbers("advantages")),
                1e-6,
            );
        }
    }
}

#[test]
fn advantages_are_those_of_the_method() {
    // Policy rewards, then external ones; rows that are selected; baseline; advantages of the selected rows.
    let a = [1.0, 1.0, 2.0, 1.0, 0.0, 1.0, 1.0, 1.0, 2.0, 1.0];
    let top = [0, 1, 2, 3, 5, 6, 7, 8];
    let b = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 1.0];
    let selected = |row: usize, chosen: &[usize]| chosen.contains(&row);
    type Baseline = fn(usize, &[usize]) -> bool;
    let cases: [(&[f32], &[usize], Baseline, [f64; 3]); 5] = [
        (&a, &top, selected, [0.0, -0.5399, 1.6198]),
        (&a, &top, |_, _| true, [0.0, -0.1761, 1.5852]),
        (&a, &top, |row, _| row < 8, [0.0, 0.0, 1.8705]),
        (
            &a,
            &[0, 1, 2, 3, 4, 5, 6, 8],
            selected,
            [-1.7552, -0.1950, 1.3651],
        ),
        (
            &b,
            &[0, 1, 2, 3, 4, 5, 6, 8],
            selected,
            [0.0, -0.3535, 2.4742],
        ),
    ];
    for (device_name, device) in devices() {
        for (rewards, chosen, baseline, values) in cases {
            let mut input = one_group(rewards, ScaleRewards::Group);
            input.wanted = (0..rewards.len())
                .map(|row| chosen.contains(&row))
                .collect();
            input.in_baseline = (0..rewards.len())
                .map(|row| baseline(row, chosen))
                .collect();
            let expected: Vec<f64> = (0..rewards.len())
                .map(|row| {
                    if chosen.contains(&row) {
                        values[rewards[row] as usize]
                    } else {
                        0.0
                    }
                })
                .collect();
            // The method gives four decimals.
            assert_close(
                device_name,
                &group_advantage(&input, &device),
                &expected,
                5e-5,
            );
        }
    }
}

#[test]
fn equal_rewards_and_lone_rewards_have_advantage_zero_exactly() {
    for (device_name, device) in devices() {
        for scale in SCALES {
            // 0.1 added up in f32 and divided is not 0.1: a computed spread would be small but not 0.
            let equal = group_advantage(&one_group(&[0.1; 13], scale), &device);
            assert_eq!(equal, [0.0; 13], "{device_name} {scale:?}");
            let lone = group_advantage(&one_group(&[3.0], scale), &device);
            assert_eq!(lone, [0.0], "{device_name} {scale:?}");
            // All policy rewards equal, one external success: the divisor is 1, not 1e-4.
            let mut input = one_group(&[1.0, 1.0, 2.0], scale);
            input.in_baseline[2] = false;
            let found = group_advantage(&input, &device);
            let expected = if scale == ScaleRewards::Batch {
                1.0 / (1.0 / 3.0_f64.sqrt() + 1e-4)
            } else {
                1.0
            };
            assert_close(device_name, &found, &[0.0, 0.0, expected], 1e-6);
        }
    }
}

#[test]
fn missing_rewards_and_missing_baselines_get_nothing() {
    for (device_name, device) in devices() {
        for scale in SCALES {
            let mut input = one_group(&[1.0, f32::NAN, 0.0, 5.0, 7.0], scale);
            input.groups = vec![9, 9, 9, 4, 4];
            input.in_baseline[3] = false;
            input.in_baseline[4] = false;
            input.wanted[2] = false;
            let found = group_advantage(&input, &device);
            assert_eq!(found[1..], [0.0; 4], "{device_name} {scale:?}");
            assert!(found[0] > 0.0, "{device_name} {scale:?}: {found:?}");
        }
        assert!(group_advantage(&one_group(&[], ScaleRewards::Group), &device).is_empty());
    }
}

/// Groups of all sizes in random order; rewards of a few values, as the tasks give, or of any value.
fn random_input(
    seed: u64,
    rows: usize,
    largest_group: usize,
    scale_rewards: ScaleRewards,
) -> AdvantageInput {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let groups = rows.div_ceil(largest_group.max(2) / 2).max(1) as u32;
    let reward = |random: &mut ChaCha8Rng| match random.random_range(0..10) {
        0 => f32::NAN,
        1..=5 => random.random_range(0..3) as f32,
        _ => random.random_range(-1.0..2.0),
    };
    AdvantageInput {
        rewards: (0..rows).map(|_| reward(&mut random)).collect(),
        groups: (0..rows)
            .map(|_| random.random_range(0..groups) * 1_000_003)
            .collect(),
        in_baseline: (0..rows).map(|_| random.random_bool(0.8)).collect(),
        wanted: (0..rows).map(|_| random.random_bool(0.8)).collect(),
        scale_rewards,
    }
}

#[test]
fn every_device_agrees_with_the_stage_on_odd_sizes_and_any_order() {
    let sizes = [
        (1, 1),
        (31, 8),
        (33, 33),
        (1023, 8),
        (5000, 5000),
        (65_537, 16),
        (65_537, 65_537),
    ];
    for (device_name, device) in devices() {
        for (seed, (rows, largest_group)) in sizes.into_iter().enumerate() {
            for scale in SCALES {
                let input = random_input(seed as u64, rows, largest_group, scale);
                let expected = advantage::group_advantage(&input);
                let found = group_advantage(&input, &device);
                // A row outside of a baseline that hardly spreads has a large advantage: relative above 1.
                let scaled = |values: &[f32]| -> Vec<f32> {
                    values
                        .iter()
                        .zip(&expected)
                        .map(|(value, expected)| value / expected.abs().max(1.0))
                        .collect()
                };
                let (found, expected) = (scaled(&found), wide(&scaled(&expected)));
                // Sums of up to 65,537 rewards in f32.
                let tolerance = if rows > 1023 { 1e-5 } else { 2e-6 };
                assert_close(
                    &format!("{device_name} {rows} {scale:?}"),
                    &found,
                    &expected,
                    tolerance,
                );
            }
        }
    }
}

#[test]
#[should_panic(expected = "group_advantage: 1 rewards, but columns of [0, 0, 0]")]
fn columns_of_different_lengths_are_named() {
    let input = AdvantageInput {
        rewards: vec![1.0],
        ..one_group(&[], ScaleRewards::Group)
    };
    let _ = group_advantage(&input, &burn::tensor::Device::flex());
}
