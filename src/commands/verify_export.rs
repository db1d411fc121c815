//! `verify-export`: whether a merged model says what the model and its adapter say.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use image::{ImageFormat, Rgb, RgbImage};

use super::say::say_line;
use crate::cli::VerifyExportArguments;
use crate::data::prompt::{PromptEncoder, PromptOptions};
use crate::device::{OpenDevice, read_back};
use crate::model::Qwen2Vl;
use crate::model::open::ModelPlace;
use crate::model::packing::Packed;
use crate::options::WeightFormat;
use crate::record::{ContentPart, ImageSource, Message, Prompt};
use crate::run::{merge, setup};

/// What the models are asked; the second one comes with a picture.
const QUESTIONS: [&str; 3] = [
    "What is the capital of France?",
    "How many colours are there in the picture? Think first, then answer.",
    "Write a function that adds 17 and 25, and say what it returns: fn main() { println!(\"{}\", 17 + 25); }",
];
const WITH_PICTURE: usize = 1;

/// `vision-ekipl verify-export`.
pub(super) fn run(arguments: &VerifyExportArguments) -> Result<()> {
    let open = setup::open_device(&arguments.device.device)?;
    let place = merge::place(arguments.model.as_deref(), &arguments.adapter)?;
    let merged = ModelPlace::of(&arguments.merged)?;
    ensure!(
        merged.adapter.is_none(),
        "{}: an adapter, no merged model\nhint: `vision-ekipl merge` writes one",
        arguments.merged.display()
    );
    let prompts = prompts(&place.base)?;
    let adapted = logits(&place, &prompts, &open)?;
    let merged = logits(&merged, &prompts, &open)?;
    let mut largest = 0.0_f32;
    for ((question, adapted), merged) in QUESTIONS.iter().zip(&adapted).zip(&merged) {
        let found = Difference::between(adapted, merged)?;
        largest = largest.max(found.largest);
        say_line(&format!(
            "{:.6} at most of logits up to {:.1}, {} of {} next tokens equal: {question}",
            found.largest, found.scale, found.equal, found.tokens
        ))?;
    }
    say_line(&format!("largest difference of a logit: {largest:.6}"))?;
    match arguments.tolerance {
        Some(tolerance) if largest > tolerance => bail!(
            "the merged model differs by {largest}, more than {tolerance}\nhint: files in bfloat16 round each weight to 8 bits; merge into a float32 copy of the model to see less"
        ),
        _ => Ok(()),
    }
}

fn prompts(folder: &Path) -> Result<Vec<Arc<Prompt>>> {
    let encoder = PromptEncoder::open(folder, &PromptOptions::default())?;
    let prompt = |(number, question): (usize, &&str)| {
        let has_picture = number == WITH_PICTURE;
        let mut content = vec![ContentPart::Text {
            text: (*question).to_owned(),
        }];
        let mut pictures = Vec::new();
        if has_picture {
            content.insert(0, ContentPart::Image);
            pictures.push(ImageSource::Bytes(picture()?.into()));
        }
        let messages = [Message {
            role: "user".to_owned(),
            content,
        }];
        let id = format!("question-{number}");
        Ok(Arc::new(
            encoder.encode_conversation(&id, &messages, &pictures)?,
        ))
    };
    QUESTIONS.iter().enumerate().map(prompt).collect()
}

/// Coloured squares, as a PNG file.
fn picture() -> Result<Vec<u8>> {
    let colour = |x: u32, y: u32| {
        let square = (x / 28 + 2 * (y / 28)) % 5;
        Rgb([
            (square * 60) as u8,
            (255 - square * 45) as u8,
            (x + y) as u8,
        ])
    };
    let mut file = Cursor::new(Vec::new());
    RgbImage::from_fn(112, 84, colour).write_to(&mut file, ImageFormat::Png)?;
    Ok(file.into_inner())
}

/// Logits of one prompt.
struct Logits {
    /// [n, V]
    values: Vec<f32>,
    vocabulary: usize,
}

fn logits(place: &ModelPlace, prompts: &[Arc<Prompt>], open: &OpenDevice) -> Result<Vec<Logits>> {
    let (model, _) = setup::frozen_model(place, WeightFormat::default(), open)?;
    prompts
        .iter()
        .map(|prompt| of_prompt(&model, prompt))
        .collect()
}

fn of_prompt(model: &Qwen2Vl, prompt: &Arc<Prompt>) -> Result<Logits> {
    let prompts = [Arc::clone(prompt)];
    let packed = Packed::new(&prompts, &[]);
    let hidden = model.hidden(&prompts, &packed);
    Ok(Logits {
        values: read_back(&model.logits(hidden))?,
        vocabulary: model.config.text.vocab_size,
    })
}

/// How far two models are apart on one prompt.
struct Difference {
    largest: f32,
    scale: f32,
    equal: usize,
    tokens: usize,
}

impl Difference {
    fn between(one: &Logits, other: &Logits) -> Result<Self> {
        ensure!(
            one.values.len() == other.values.len() && one.vocabulary == other.vocabulary,
            "the merged model has a vocabulary of {} tokens, the model {}\nhint: they are not of one kind",
            other.vocabulary,
            one.vocabulary
        );
        let pairs = || one.values.iter().zip(&other.values);
        let rows = one
            .values
            .chunks(one.vocabulary)
            .zip(other.values.chunks(one.vocabulary));
        Ok(Self {
            largest: pairs().fold(0.0, |largest, (a, b)| largest.max((a - b).abs())),
            scale: one
                .values
                .iter()
                .fold(0.0, |largest, a| largest.max(a.abs())),
            equal: rows.filter(|(a, b)| best(a) == best(b)).count(),
            tokens: one.values.len() / one.vocabulary.max(1),
        })
    }
}

fn best(logits: &[f32]) -> Option<usize> {
    let ranked = logits.iter().enumerate();
    ranked
        .max_by(|a, b| a.1.total_cmp(b.1))
        .map(|(token, _)| token)
}
