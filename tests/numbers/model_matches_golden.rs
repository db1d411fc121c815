//! Is the model the model? Every stage against Hugging Face transformers on tiny random checkpoints.

use std::sync::Arc;

use crate::support::{Golden, assert_close, devices, golden_path};
use burn::tensor::Device;
use vision_ekipl::actions::generator::{Generate, SamplingParameters};
use vision_ekipl::model::Qwen2Vl;
use vision_ekipl::model::config::ModelConfig;
use vision_ekipl::model::packing::Packed;
use vision_ekipl::model::parameters::{Holding, Weights, host_values};
use vision_ekipl::record::Prompt;

const PROMPTS: [&str; 5] = ["p0", "p1", "p2", "p3", "p4"];

fn open(folder: &str, device: &Device) -> Qwen2Vl {
    let path = golden_path(folder);
    let config = ModelConfig::open(&path).expect("config.json");
    let weights = Weights::load(&path, &Holding::trained(u64::MAX), device).expect("weights");
    Qwen2Vl::new(&config, &weights, folder, device).expect("a whole model")
}

/// Logits of every token of some prompts, packed; and where each prompt lies.
fn logits(model: &Qwen2Vl, prompts: &[Arc<Prompt>]) -> (Vec<f32>, Packed) {
    let packed = Packed::new(prompts, &[]);
    let hidden = model.hidden(prompts, &packed);
    (host_values(&model.logits(hidden)), packed)
}

fn check(folder: &str, golden_name: &str, device: &Device) {
    let golden = Golden::open(&format!("{golden_name}.safetensors"));
    let pixels = Golden::open("golden-qwen2vl-tiny.safetensors");
    let model = open(folder, device);
    let prompts: Vec<Arc<Prompt>> = PROMPTS
        .iter()
        .map(|id| golden.prompt(id, &pixels))
        .collect();
    for (id, prompt) in PROMPTS.iter().zip(&prompts) {
        if let Some(found) = model.image_embeddings(&prompt.images) {
            let expected = golden.f64(&format!("{id}.image_embeds"));
            assert_close(
                &format!("{folder} {id} image embeddings"),
                &host_values(&found),
                expected,
                5e-5,
            );
        }
        let (logits, _) = logits(&model, std::slice::from_ref(prompt));
        let width = model.config.text.vocab_size;
        let (name, from) = if golden.has(&format!("{id}.logits")) {
            (format!("{id}.logits"), 0)
        } else {
            (
                format!("{id}.logits_last4"),
                (prompt.input_ids.len() - 4) * width,
            )
        };
        assert_close(
            &format!("{folder} {id} logits"),
            &logits[from..],
            golden.f64(&name),
            3e-4,
        );
    }
    batch_equals_one_by_one(folder, &golden, &model, &prompts);
    greedy_tokens_are_equal(folder, &golden, &model, &prompts);
}

fn batch_equals_one_by_one(
    folder: &str,
    golden: &Golden,
    model: &Qwen2Vl,
    prompts: &[Arc<Prompt>],
) {
    let (logits, packed) = logits(model, prompts);
    let width = model.config.text.vocab_size;
    let expected = golden.f64("batch.logits_last4");
    for (row, prompt) in packed.prompts.iter().enumerate() {
        let end = prompt.end as usize;
        let last = &logits[(end - 4) * width..end * width];
        let expected = &expected[row * 4 * width..(row + 1) * 4 * width];
        assert_close(&format!("{folder} batch row {row}"), last, expected, 3e-4);
    }
}

fn greedy_tokens_are_equal(
    folder: &str,
    golden: &Golden,
    model: &Qwen2Vl,
    prompts: &[Arc<Prompt>],
) {
    let parameters = SamplingParameters {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repetition_penalty: 1.0,
        max_new_tokens: 24,
        logprob_temperature: 1.0,
        end_tokens: vec![898, 896],
        suppressed: None,
        generation_rows: None,
        seed: 0,
    };
    let together = model
        .generate(prompts, 1, &parameters)
        .expect("finite logits");
    for (row, id) in PROMPTS.iter().enumerate() {
        let expected = golden.ids(&format!("{id}.greedy_ids"));
        assert_eq!(
            together[row][0].token_ids, expected,
            "{folder} {id}: greedy tokens in a batch"
        );
        let alone = model
            .generate(&prompts[row..=row], 2, &parameters)
            .expect("finite logits");
        assert_eq!(
            alone[0][1].token_ids, expected,
            "{folder} {id}: greedy tokens alone, two of a group"
        );
    }
}

#[test]
fn qwen2_vl_matches_transformers() {
    for (_, device) in devices() {
        check("qwen2vl-tiny", "golden-qwen2vl-tiny", &device);
    }
}

#[test]
fn sharded_bf16_in_the_new_layout_is_the_same_model() {
    for (_, device) in devices() {
        check(
            "qwen2vl-tiny-v5-sharded-bf16",
            "golden-qwen2vl-tiny",
            &device,
        );
    }
}

#[test]
fn qwen2_5_vl_matches_transformers() {
    for (_, device) in devices() {
        check("qwen25vl-tiny", "golden-qwen25vl-tiny", &device);
    }
}
