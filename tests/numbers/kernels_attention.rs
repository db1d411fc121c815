//! `attention` and `write_rows`: values and gradients against its definition in double precision, on odd sizes and odd ranges.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use vision_ekipl::kernels::{Places, Spans, Visible, attention, write_rows};

use crate::devices::{assert_close, devices, uniform, values};

/// n, m, H, K, E.
#[derive(Clone, Copy)]
struct Sizes {
    queries: usize,
    keys: usize,
    heads: usize,
    groups: usize,
    width: usize,
}

/// `Σ_{i, h, e} upstream · out` and `out` by definition.
fn reference(inputs: &[Vec<f64>; 3], sizes: Sizes, visible: &[Visible]) -> Vec<f64> {
    let Sizes {
        heads,
        groups,
        width,
        ..
    } = sizes;
    let [q, k, v] = inputs;
    let mut out = vec![0.0; visible.len() * heads * width];
    for (query, seen) in visible.iter().enumerate() {
        for head in 0..heads {
            let row = (query * heads + head) * width;
            let at = |key: u32| (key as usize * groups + head / (heads / groups)) * width;
            let keys: Vec<u32> = seen.prefix.clone().chain(seen.own.clone()).collect();
            let score = |key: &u32| -> f64 {
                (0..width)
                    .map(|e| q[row + e] * k[at(*key) + e])
                    .sum::<f64>()
                    / (width as f64).sqrt()
            };
            let scores: Vec<f64> = keys.iter().map(score).collect();
            let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = scores.iter().map(|s| (s - highest).exp()).sum();
            for (key, s) in keys.iter().zip(&scores) {
                for e in 0..width {
                    out[row + e] += (s - highest).exp() / total * v[at(*key) + e];
                }
            }
        }
    }
    out
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

struct Case {
    name: &'static str,
    sizes: Sizes,
    visible: Vec<Visible>,
}

impl Case {
    /// q, k, v, upstream.
    fn inputs(&self) -> [Vec<f32>; 4] {
        let Sizes {
            queries,
            keys,
            heads,
            groups,
            width,
        } = self.sizes;
        let sizes = [
            queries * heads * width,
            keys * groups * width,
            keys * groups * width,
            queries * heads * width,
        ];
        let mut stream = 0;
        sizes.map(|size| {
            stream += 1;
            uniform(stream, size, -2.0, 2.0)
        })
    }

    fn shapes(&self) -> [[usize; 3]; 3] {
        let Sizes {
            queries,
            keys,
            heads,
            groups,
            width,
        } = self.sizes;
        let stored = [keys, groups, width];
        [[queries, heads, width], stored, stored]
    }

    /// Output and the three gradients of Σ upstream · out on a device.
    fn on(&self, device: &Device) -> [Vec<f32>; 4] {
        let [q, k, v, upstream] = self.inputs();
        let shapes = self.shapes();
        let tracked = |values: Vec<f32>, shape: [usize; 3]| {
            Tensor::<3>::from_data(TensorData::new(values, shape), &device.clone().autodiff())
                .require_grad()
        };
        let (q, k, v) = (
            tracked(q, shapes[0]),
            tracked(k, shapes[1]),
            tracked(v, shapes[2]),
        );
        let spans = Arc::new(Spans::new(self.visible.clone(), self.sizes.keys));
        let out = attention(q.clone(), k.clone(), v.clone(), &spans);
        let upstream = Tensor::<3>::from_data(
            TensorData::new(upstream, shapes[0]),
            &device.clone().autodiff(),
        );
        let mut gradients = (out.clone() * upstream).sum().backward();
        let mut gradient =
            |tensor: &Tensor<3>| values(tensor.grad_remove(&mut gradients).expect("tracked"));
        [
            values(out.inner()),
            gradient(&q),
            gradient(&k),
            gradient(&v),
        ]
    }
}

fn visible(prefix: std::ops::Range<u32>, own: std::ops::Range<u32>) -> Visible {
    Visible { prefix, own }
}

/// Prompts with their completions, packed: `(prompt tokens, tokens of each completion)`.
fn groups(groups: &[(u32, &[u32])]) -> Vec<Visible> {
    let mut seen = Vec::new();
    for (prompt, completions) in groups {
        let start = seen.len() as u32;
        seen.extend((0..*prompt).map(|place| visible(0..0, start..start + place + 1)));
        for tokens in *completions {
            let own = seen.len() as u32;
            seen.extend(
                (0..*tokens).map(|place| visible(start..start + prompt, own..own + place + 1)),
            );
        }
    }
    seen
}

fn case(name: &'static str, [heads, groups, width]: [usize; 3], visible: Vec<Visible>) -> Case {
    let ends = visible.iter().map(|seen| seen.prefix.end.max(seen.own.end));
    let sizes = Sizes {
        queries: visible.len(),
        keys: ends.max().unwrap_or(0) as usize,
        heads,
        groups,
        width,
    };
    Case {
        name,
        sizes,
        visible,
    }
}

/// Rows in decoding: seven of a prompt of 301 tokens, one of them long itself, three of another prompt, one that sees nothing.
fn few_queries() -> Vec<Visible> {
    let row = |index: u32| visible(0..301, 301 + index * 30..302 + index * 31);
    let mut rows: Vec<Visible> = (0..6).map(row).collect();
    rows.push(visible(0..301, 520..790));
    rows.extend((0..3).map(|index| visible(800..929, 930 + index * 5..931 + index * 6)));
    rows.push(visible(0..0, 0..0));
    rows
}

fn cases() -> Vec<Case> {
    let rows = |row: u32| visible(0..37, 40 + row * 70..40 + row * 70 + 1 + row);
    let windows = [4u32, 1, 9, 16].iter().scan(0, |start, size| {
        let window = *start..*start + size;
        *start += size;
        Some(window)
    });
    let mut hole = groups(&[(5, &[2, 3])]);
    hole[6] = visible(0..0, 0..0);
    hole[8] = visible(1..3, 0..0);
    vec![
        case("one token", [1, 1, 1], vec![visible(0..0, 0..1)]),
        case(
            "two groups",
            [4, 2, 24],
            groups(&[(7, &[3, 1, 5]), (2, &[2])]),
        ),
        case("long rows", [2, 1, 16], groups(&[(67, &[40, 33, 1])])),
        case(
            "many short rows",
            [3, 3, 5],
            groups(&[(9, &[1; 40]), (33, &[2; 20])]),
        ),
        case(
            "windows",
            [2, 2, 10],
            windows
                .flat_map(|window| vec![visible(0..0, window.clone()); window.len()])
                .collect(),
        ),
        case("rows of a cache", [6, 2, 16], (0..9).map(rows).collect()),
        case("few queries, long ranges", [6, 2, 12], few_queries()),
        case(
            "queries that see nothing, keys that nobody sees",
            [2, 1, 8],
            hole,
        ),
        case("two words a part", [2, 1, 19], groups(&[(6, &[4, 4])])),
        case("a wide head", [2, 1, 130], groups(&[(6, &[4, 4])])),
    ]
}

/// Values against the definition, gradients of the smaller cases against central differences of it in double precision, and
/// all of both against Burn's autodiff of a dense masked softmax on the CPU device.
#[test]
fn attention_and_its_gradients_equal_their_definition() {
    let devices = devices();
    for case in cases() {
        let [q, k, v, upstream] = case.inputs();
        let inputs = [wide(&q), wide(&k), wide(&v)];
        let values = reference(&inputs, case.sizes, &case.visible);
        let Sizes {
            queries,
            keys,
            heads,
            width,
            ..
        } = case.sizes;
        let differences = (queries * heads * width < 1500 && keys < 800)
            .then(|| differences(&case, inputs, &upstream));
        let dense = dense(&case);
        // Software Vulkan takes half a minute to compile the widest shaders; the soundness test validates their text.
        let wide_head = case.sizes.width > 64;
        for device in devices.iter().take(if wide_head { 1 } else { usize::MAX }) {
            let name = format!("{} on {device:?}", case.name);
            let found = case.on(device);
            assert_close(&name, &found[0], &values, 3e-6, 3e-6);
            for (index, (found, expected)) in found.iter().zip(&dense).enumerate() {
                let what = format!("{name}, dense [{index}]");
                assert_close(&what, found, &wide(expected), 3e-5, 3e-5);
            }
            let gradients = found[1..].iter().zip(differences.iter().flatten());
            for (index, (found, expected)) in gradients.enumerate() {
                let what = format!("{name}, differences [{index}]");
                assert_close(&what, found, expected, 2e-5, 2e-5);
            }
        }
    }
}

/// d Σ upstream · out / d input, for every value of q, k and v.
fn differences(case: &Case, mut inputs: [Vec<f64>; 3], upstream: &[f32]) -> Vec<Vec<f64>> {
    const STEP: f64 = 1e-5;
    let loss = |inputs: &[Vec<f64>; 3]| -> f64 {
        let out = reference(inputs, case.sizes, &case.visible);
        out.iter()
            .zip(upstream)
            .map(|(out, &weight)| out * f64::from(weight))
            .sum()
    };
    (0..3)
        .map(|which| {
            (0..inputs[which].len())
                .map(|index| {
                    let value = inputs[which][index];
                    inputs[which][index] = value + STEP;
                    let above = loss(&inputs);
                    inputs[which][index] = value - STEP;
                    let below = loss(&inputs);
                    inputs[which][index] = value;
                    (above - below) / (2.0 * STEP)
                })
                .collect()
        })
        .collect()
}

/// Output and gradients from stock operations.
fn dense(case: &Case) -> [Vec<f32>; 4] {
    let device = Device::flex().autodiff();
    let [q, k, v, upstream] = case.inputs();
    let shapes = case.shapes();
    let tracked = |values: Vec<f32>, shape: [usize; 3]| {
        Tensor::<3>::from_data(TensorData::new(values, shape), &device).require_grad()
    };
    let (q, k, v) = (
        tracked(q, shapes[0]),
        tracked(k, shapes[1]),
        tracked(v, shapes[2]),
    );
    let share = case.sizes.heads / case.sizes.groups;
    let heads = |stored: &Tensor<3>| {
        stored
            .clone()
            .unsqueeze_dim::<4>(2)
            .repeat_dim(2, share)
            .reshape([case.sizes.keys, case.sizes.heads, case.sizes.width])
            .swap_dims(0, 1)
    };
    let mask: Vec<f32> = case
        .visible
        .iter()
        .flat_map(|seen| {
            (0..case.sizes.keys as u32).map(|key| {
                f32::from(u8::from(
                    seen.prefix.contains(&key) || seen.own.contains(&key),
                ))
            })
        })
        .collect();
    let mask = Tensor::<3>::from_data(
        TensorData::new(mask, [1, case.sizes.queries, case.sizes.keys]),
        &device,
    );
    let scores = q.clone().swap_dims(0, 1).matmul(heads(&k).swap_dims(1, 2))
        / (case.sizes.width as f64).sqrt();
    let hidden = (mask.clone() - 1.0) * 1e30;
    let scores = scores + hidden;
    let highest = scores.clone().detach().max_dim(2);
    let weights = (scores - highest).exp() * mask;
    let total = weights.clone().sum_dim(2).clamp_min(1e-30);
    let out = (weights / total).matmul(heads(&v)).swap_dims(0, 1);
    let upstream = Tensor::<3>::from_data(TensorData::new(upstream, shapes[0]), &device);
    let mut gradients = (out.clone() * upstream).sum().backward();
    let mut gradient =
        |tensor: &Tensor<3>| values(tensor.grad_remove(&mut gradients).expect("tracked"));
    [
        values(out.inner()),
        gradient(&q),
        gradient(&k),
        gradient(&v),
    ]
}

/// What is written is what is read back, also where the cache has another owner; other rows stay.
#[test]
fn rows_of_a_cache_are_replaced() {
    for device in devices() {
        let tensor = |values: Vec<f32>, rows: usize| {
            Tensor::<3>::from_data(TensorData::new(values, [rows, 2, 3]), &device)
        };
        let old = uniform(1, 7 * 6, -1.0, 1.0);
        let new = uniform(2, 2 * 6, -1.0, 1.0);
        let places = Arc::new(Places::new(vec![5, 0]));
        let mut expected = old.clone();
        expected[5 * 6..6 * 6].copy_from_slice(&new[..6]);
        expected[..6].copy_from_slice(&new[6..]);
        let cache = tensor(old.clone(), 7);
        let kept = cache.clone();
        let written = write_rows(cache, tensor(new.clone(), 2), &places);
        assert_eq!(values(written), expected, "{device:?}");
        assert_eq!(values(kept.clone()), old, "{device:?}: the other owner's");
        let alone = write_rows(kept, tensor(new, 2), &places);
        assert_eq!(values(alone), expected, "{device:?}: in place");
    }
}
