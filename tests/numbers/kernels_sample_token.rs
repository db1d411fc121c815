//! Does `sample_token` draw what transformers' warpers leave, on every device?

use crate::support::{Golden, devices, golden_path};
use burn::tensor::{Device, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use vision_ekipl::kernels::{
    NO_TOKEN, NOT_FINITE_TOKEN, SampleOptions, sample_token, sample_weights,
};

/// Largest error of a cumulative probability: f32 sums of up to 151,936 terms.
const CUMULATIVE_TOLERANCE: f64 = 1e-5;

struct Batch {
    vocabulary: usize,
    logits: Vec<f32>,
    uniforms: Vec<f32>,
    suppressed: Option<Vec<f32>>,
}

impl Batch {
    fn row(&self, row: usize) -> &[f32] {
        &self.logits[row * self.vocabulary..(row + 1) * self.vocabulary]
    }

    /// Ids and log-probabilities from the device, after noise has gone through its memory.
    fn sample(&self, device: &Device, options: &SampleOptions) -> Vec<(f32, f32)> {
        let rows = self.uniforms.len();
        drop(Tensor::<1>::full([4 * rows + 64], f32::NAN, device).into_data());
        let logits = TensorData::new(self.logits.clone(), [rows, self.vocabulary]);
        let logits = Tensor::<2>::from_data(logits, device);
        let uniforms =
            Tensor::<1>::from_data(TensorData::new(self.uniforms.clone(), [rows]), device);
        let suppressed = self.suppressed.as_ref().map(|suppressed| {
            Tensor::<1>::from_data(
                TensorData::new(suppressed.clone(), [self.vocabulary]),
                device,
            )
        });
        let chosen = sample_token(logits, uniforms, suppressed, options).expect("options in range");
        assert_eq!(chosen.dims(), [rows, 2]);
        let chosen: Vec<f32> = chosen.into_data().try_to_vec().expect("f32");
        chosen.chunks(2).map(|pair| (pair[0], pair[1])).collect()
    }
}

/// Random logits; `step` rounds them so that many are equal (0 = no rounding).
fn random_batch(seed: u64, rows: usize, vocabulary: usize, step: f32, suppress: bool) -> Batch {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut logit = || {
        let value: f32 = (0..4).map(|_| random.random_range(-3.0..3.0f32)).sum();
        if step > 0.0 {
            (value / step).round() * step
        } else {
            value
        }
    };
    let logits = (0..rows * vocabulary).map(|_| logit()).collect();
    let uniforms = (0..rows).map(|_| random.random_range(0.0..1.0)).collect();
    let suppressed = suppress.then(|| {
        let mut suppressed: Vec<f32> = (0..vocabulary)
            .map(|_| f32::from(u8::from(random.random_bool(0.2))))
            .collect();
        suppressed[vocabulary / 2] = 0.0;
        suppressed
    });
    Batch {
        vocabulary,
        logits,
        uniforms,
        suppressed,
    }
}

/// Transformers' warpers written down naively: full sorts, f64 sums, the top-p comparison in f32 as PyTorch does it.
/// Probabilities, 0 where a filter dropped the token.
fn naive(logits: &[f32], suppressed: Option<&[f32]>, options: &SampleOptions) -> Vec<f64> {
    let is_suppressed = |id: usize| suppressed.is_some_and(|suppressed| suppressed[id] > 0.5);
    let mut scores: Vec<f64> = logits
        .iter()
        .map(|&logit| f64::from(logit) / f64::from(options.temperature))
        .collect();
    for id in (0..scores.len()).filter(|&id| is_suppressed(id)) {
        scores[id] = f64::NEG_INFINITY;
    }
    if options.top_k > 0 {
        let mut sorted = scores.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let last = sorted[options.top_k.min(sorted.len()) - 1];
        scores
            .iter_mut()
            .filter(|score| **score < last)
            .for_each(|score| *score = f64::NEG_INFINITY);
    }
    if options.top_p < 1.0 {
        let probabilities = softmax(&scores);
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[a].partial_cmp(&scores[b]).expect("numbers"));
        order.pop();
        let top_p: f64 = options.top_p.to_string().parse().expect("a number");
        let mut cumulative = 0.0;
        for id in order {
            cumulative += probabilities[id];
            if cumulative as f32 <= (1.0 - top_p) as f32 {
                scores[id] = f64::NEG_INFINITY;
            }
        }
    }
    let mut probabilities = softmax(&scores);
    let highest = probabilities
        .iter()
        .fold(0.0, |highest, &p| f64::max(highest, p));
    for (score, probability) in scores.iter_mut().zip(&probabilities) {
        if *probability < f64::from(options.min_p) * highest {
            *score = f64::NEG_INFINITY;
        }
    }
    probabilities = softmax(&scores);
    probabilities
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let highest = scores
        .iter()
        .fold(f64::NEG_INFINITY, |highest, &score| highest.max(score));
    let weights: Vec<f64> = scores.iter().map(|score| (score - highest).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

/// Asserts that `id` is a survivor whose interval of the cumulative distribution contains `uniform`.
fn assert_drawn(what: &str, id: f32, uniform: f32, probabilities: &[f64]) {
    assert!(
        id >= 0.0 && (id as usize) < probabilities.len(),
        "{what}: id {id}"
    );
    let id = id as usize;
    assert!(
        probabilities[id] > 0.0,
        "{what}: token {id} was dropped by a filter"
    );
    let before: f64 = probabilities[..id].iter().sum();
    let interval =
        before - CUMULATIVE_TOLERANCE..=before + probabilities[id] + CUMULATIVE_TOLERANCE;
    assert!(
        interval.contains(&f64::from(uniform)),
        "{what}: token {id} covers {interval:?}, uniform {uniform}"
    );
}

fn log_softmax(logits: &[f32], suppressed: Option<&[f32]>, temperature: f32, id: usize) -> f64 {
    let options = SampleOptions {
        temperature,
        ..SampleOptions::default()
    };
    naive(logits, suppressed, &options)[id].ln()
}

/// Case of golden-sampling.json: the logits row, the options, kept ids in ascending order with probabilities.
struct GoldenCase {
    name: String,
    logits: Vec<f32>,
    options: SampleOptions,
    kept: Vec<(usize, f64)>,
}

fn golden_cases() -> Vec<GoldenCase> {
    let text = std::fs::read_to_string(golden_path("golden-sampling.json")).expect("a golden file");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let golden = Golden::open("golden-qwen2vl-tiny.safetensors");
    let number = |value: &Value| value.as_f64().expect("a number");
    json["cases"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|case| {
            let all = golden.f32(&format!(
                "{}.logits",
                case["prompt"].as_str().expect("a string")
            ));
            let options = SampleOptions {
                temperature: number(&case["temperature"]) as f32,
                top_k: number(&case["top_k"]) as usize,
                top_p: number(&case["top_p"]) as f32,
                min_p: number(&case["min_p"]) as f32,
                logprob_temperature: 1.0,
            };
            let ids = case["kept_ids"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|id| number(id) as usize);
            let mut kept: Vec<_> = ids
                .zip(case["probs"].as_array().expect("a list").iter().map(number))
                .collect();
            kept.sort_by_key(|&(id, _)| id);
            let name = format!("{} {options:?}", case["prompt"]);
            GoldenCase {
                name,
                logits: all[all.len() - 928..].to_vec(),
                options,
                kept,
            }
        })
        .collect()
}

#[test]
fn kept_tokens_and_probabilities_match_transformers() {
    for case in golden_cases() {
        let weights = sample_weights(&case.logits, &[], &case.options).expect("finite logits");
        let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        let kept: Vec<_> = (0..weights.len()).filter(|&id| weights[id] > 0.0).collect();
        assert_eq!(
            kept,
            case.kept.iter().map(|&(id, _)| id).collect::<Vec<_>>(),
            "{}",
            case.name
        );
        for &(id, expected) in &case.kept {
            let found = f64::from(weights[id]) / total;
            assert!(
                (found - expected).abs() <= 1e-6,
                "{}: token {id}: {found}, expected {expected}",
                case.name
            );
        }
    }
}

/// A uniform in the middle of a token's interval, and two just inside of its ends, must draw that token: only the
/// right tokens with the right probabilities pass.
#[test]
fn every_kept_token_is_drawn_on_its_interval_on_every_device() {
    for (device_name, device) in devices() {
        for case in golden_cases() {
            let (mut uniforms, mut expected) = (Vec::new(), Vec::new());
            let mut before = 0.0;
            for &(id, probability) in &case.kept {
                let margin = f64::min(2e-6, 0.4 * probability);
                for uniform in [
                    before + margin,
                    before + 0.5 * probability,
                    before + probability - margin,
                ] {
                    uniforms.push(f64::max(uniform, 0.0) as f32);
                    expected.push(id as f32);
                }
                before += probability;
            }
            let logits = case.logits.repeat(uniforms.len());
            let batch = Batch {
                vocabulary: 928,
                logits,
                uniforms,
                suppressed: None,
            };
            let drawn: Vec<f32> = batch
                .sample(&device, &case.options)
                .iter()
                .map(|chosen| chosen.0)
                .collect();
            assert_eq!(drawn, expected, "{device_name}: {}", case.name);
        }
    }
}

/// Options that take every path of the kernel: thresholds inside and outside of its short list, with and without ties.
fn filter_options() -> Vec<SampleOptions> {
    let options = |top_k, top_p, min_p| SampleOptions {
        temperature: 0.8,
        top_k,
        top_p,
        min_p,
        logprob_temperature: 1.0,
    };
    vec![
        options(0, 0.9, 0.0),
        options(0, 0.37, 0.0),
        options(7, 1.0, 0.0),
        options(50, 0.8, 0.05),
        options(0, 1.0, 0.3),
        options(1, 0.5, 0.0),
        options(200, 0.9, 0.0),
        options(300, 1.0, 0.0),
        options(100_000, 0.95, 0.0),
    ]
}

#[test]
fn kept_tokens_match_the_naive_warpers_among_equal_logits() {
    let (cpu, others) = (Device::flex(), devices().split_off(1));
    for seed in 0..12 {
        let step = [0.0, 0.5, 2.0, 100.0][seed as usize % 4];
        let row = random_batch(seed, 1, 1 + 61 * seed as usize, step, seed % 3 == 0);
        for options in filter_options() {
            let suppressed = row.suppressed.as_deref();
            let what = format!("seed {seed}, {options:?}");
            let expected = naive(&row.logits, suppressed, &options);
            let found =
                sample_weights(&row.logits, suppressed.unwrap_or(&[]), &options).expect("finite");
            let kept = |positive: &dyn Fn(usize) -> bool| -> Vec<usize> {
                (0..found.len()).filter(|&id| positive(id)).collect()
            };
            let kept_ids = kept(&|id| expected[id] > 0.0);
            assert_eq!(kept(&|id| found[id] > 0.0), kept_ids, "{what}");

            // The middles of the first, the last and some other intervals that are wide enough.
            let middle = |&id: &usize| expected[..id].iter().sum::<f64>() + 0.5 * expected[id];
            let wide: Vec<usize> = kept_ids
                .into_iter()
                .filter(|&id| expected[id] > 1e-4)
                .collect();
            let step = wide.len().div_ceil(40);
            let wide: Vec<usize> = wide
                .iter()
                .copied()
                .step_by(step)
                .chain(wide.last().copied())
                .collect();
            let uniforms: Vec<f32> = wide.iter().map(|id| middle(id) as f32).collect();
            let logits = row.logits.repeat(uniforms.len());
            let batch = Batch {
                vocabulary: row.vocabulary,
                logits,
                uniforms,
                suppressed: row.suppressed.clone(),
            };
            for device in others.iter().map(|(_, device)| device).chain([&cpu]) {
                let ids: Vec<usize> = batch
                    .sample(device, &options)
                    .iter()
                    .map(|chosen| chosen.0 as usize)
                    .collect();
                assert_eq!(ids, wide, "{what}");
            }
        }
    }
}

#[test]
fn draws_follow_the_distribution_on_every_device_and_odd_size() {
    let sizes = [
        (1, 1),
        (3, 31),
        (31, 33),
        (33, 1023),
        (5, 65_537),
        (2, 151_936),
        (1023, 7),
        (65_537, 5),
    ];
    let filters = [
        SampleOptions::default(),
        SampleOptions {
            temperature: 0.7,
            top_k: 50,
            top_p: 0.9,
            min_p: 0.0,
            logprob_temperature: 0.9,
        },
        SampleOptions {
            temperature: 1.3,
            top_k: 0,
            top_p: 0.8,
            min_p: 0.02,
            logprob_temperature: 1.3,
        },
        SampleOptions {
            temperature: 1.0,
            top_k: 3,
            top_p: 1.0,
            min_p: 0.0,
            logprob_temperature: 1.0,
        },
    ];
    for (device_name, device) in devices() {
        for (seed, (rows, vocabulary)) in sizes.into_iter().enumerate() {
            // The filters' many passes take too long on software adapters for that many rows.
            for (index, options) in
                filters
                    .iter()
                    .enumerate()
                    .take(if rows > 60_000 { 1 } else { filters.len() })
            {
                let step = if index % 2 == 0 { 0.25 } else { 0.0 };
                let batch = random_batch(seed as u64, rows, vocabulary, step, index == 2);
                let suppressed = batch.suppressed.as_deref();
                let what = format!("{device_name} [{rows}, {vocabulary}] filter {index}");
                for (row, (id, logprob)) in batch.sample(&device, options).into_iter().enumerate() {
                    let expected = naive(batch.row(row), suppressed, options);
                    assert_drawn(&what, id, batch.uniforms[row], &expected);
                    let expected = log_softmax(
                        batch.row(row),
                        suppressed,
                        options.logprob_temperature,
                        id as usize,
                    );
                    assert!(
                        (f64::from(logprob) - expected).abs() < 2e-5,
                        "{what}: {logprob}, expected {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn greedy_takes_the_lowest_id_among_equals() {
    let options = SampleOptions {
        temperature: 0.0,
        ..SampleOptions::default()
    };
    for (device_name, device) in devices() {
        let logits = vec![
            0.0, 2.0, 1.0, 2.0, -1.0, -2.0, -1.0, -3.0, -0.0, -1.0, 0.0, -5.0,
        ];
        let batch = Batch {
            vocabulary: 4,
            logits,
            uniforms: vec![0.99; 3],
            suppressed: None,
        };
        let ids: Vec<f32> = batch
            .sample(&device, &options)
            .iter()
            .map(|chosen| chosen.0)
            .collect();
        assert_eq!(ids, [1.0, 0.0, 0.0], "{device_name}");
        let batch = Batch {
            suppressed: Some(vec![0.0, 1.0, 0.0, 0.0]),
            ..batch
        };
        let chosen = batch.sample(&device, &options);
        assert_eq!(
            chosen.iter().map(|chosen| chosen.0).collect::<Vec<_>>(),
            [3.0, 0.0, 0.0],
            "{device_name}"
        );
        let expected = log_softmax(batch.row(0), batch.suppressed.as_deref(), 1.0, 3);
        assert!(
            (f64::from(chosen[0].1) - expected).abs() < 1e-6,
            "{device_name}: {}",
            chosen[0].1
        );
    }
}

#[test]
fn the_extremes_of_the_uniform_draw_the_first_and_the_last_survivor() {
    let options = SampleOptions {
        top_k: 2,
        ..SampleOptions::default()
    };
    for (device_name, device) in devices() {
        let logits = [
            vec![-9.0; 300],
            vec![1.0],
            vec![-9.0; 300],
            vec![1.0],
            vec![-9.0; 7],
        ]
        .concat();
        let vocabulary = logits.len();
        let uniforms = vec![0.0, 1.0 - f32::EPSILON / 2.0];
        let batch = Batch {
            vocabulary,
            logits: logits.repeat(2),
            uniforms,
            suppressed: None,
        };
        let ids: Vec<f32> = batch
            .sample(&device, &options)
            .iter()
            .map(|chosen| chosen.0)
            .collect();
        assert_eq!(ids, [300.0, 601.0], "{device_name}");
    }
}

#[test]
fn rows_that_cannot_be_drawn_from_are_reported() {
    let low = f32::NEG_INFINITY;
    let logits = vec![
        1.0,
        f32::NAN,
        0.0,
        1.0,
        f32::INFINITY,
        0.0,
        low,
        5.0,
        low,
        low,
        3.0,
        2.0,
        f32::NAN,
        1.0,
        0.5,
    ];
    for (device_name, device) in devices() {
        for temperature in [0.0, 1.0] {
            let options = SampleOptions {
                temperature,
                top_p: 0.5,
                top_k: 2,
                ..SampleOptions::default()
            };
            let mut batch = Batch {
                vocabulary: 3,
                logits: logits.clone(),
                uniforms: vec![0.4; 5],
                suppressed: None,
            };
            let ids: Vec<f32> = batch
                .sample(&device, &options)
                .iter()
                .map(|chosen| chosen.0)
                .collect();
            assert_eq!(
                ids,
                [
                    NOT_FINITE_TOKEN,
                    NOT_FINITE_TOKEN,
                    1.0,
                    1.0,
                    NOT_FINITE_TOKEN
                ],
                "{device_name}"
            );
            batch.suppressed = Some(vec![0.0, 1.0, 1.0]);
            let ids: Vec<f32> = batch
                .sample(&device, &options)
                .iter()
                .map(|chosen| chosen.0)
                .collect();
            assert_eq!(
                ids,
                [0.0, 0.0, NO_TOKEN, NO_TOKEN, NOT_FINITE_TOKEN],
                "{device_name}"
            );
        }
    }
}

#[test]
fn no_rows_are_fine_and_the_graph_does_not_record_a_draw() {
    let device = Device::flex();
    let empty = sample_token(
        Tensor::zeros([0, 5], &device),
        Tensor::zeros([0], &device),
        None,
        &SampleOptions::default(),
    )
    .expect("options in range");
    assert_eq!(empty.dims(), [0, 2]);
    let tracked = Tensor::<2>::zeros([2, 5], &device.autodiff()).require_grad();
    let uniforms = Tensor::full([2], 0.5, &tracked.device());
    let chosen =
        sample_token(tracked, uniforms, None, &SampleOptions::default()).expect("options in range");
    assert!(!chosen.is_require_grad());
    assert_eq!(chosen.into_data().try_to_vec::<f32>().expect("f32")[0], 2.0);
}

#[test]
fn options_out_of_range_are_named() {
    let error = SampleOptions {
        top_p: 0.0,
        ..SampleOptions::default()
    }
    .check()
    .expect_err("0 keeps nothing");
    assert_eq!(
        error.to_string(),
        "`top_p` is 0; expected more than 0, at most 1\nhint: 1 is off"
    );
    for options in [
        SampleOptions {
            temperature: -1.0,
            ..SampleOptions::default()
        },
        SampleOptions {
            temperature: f32::NAN,
            ..SampleOptions::default()
        },
        SampleOptions {
            min_p: 1.5,
            ..SampleOptions::default()
        },
        SampleOptions {
            logprob_temperature: 0.0,
            ..SampleOptions::default()
        },
        SampleOptions {
            temperature: 1e-40,
            ..SampleOptions::default()
        },
        SampleOptions {
            temperature: 1e38,
            ..SampleOptions::default()
        },
        SampleOptions {
            top_p: 1e-46_f64 as f32,
            ..SampleOptions::default()
        },
    ] {
        assert!(options.check().is_err(), "{options:?}");
        let (logits, uniforms) = (
            Tensor::zeros([1, 5], &Device::flex()),
            Tensor::zeros([1], &Device::flex()),
        );
        assert!(sample_token(logits, uniforms, None, &options).is_err());
    }
    assert_eq!(SampleOptions::default().check(), Ok(()));
}
