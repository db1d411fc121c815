//! One example to one external model and back. Knows nothing of rewards.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

use crate::actions::teacher::endpoint::{RecordFile, RecordMode};
use crate::actions::teacher::{TeacherAnswer, TeacherRequest};
use crate::config::{External, ExternalSource, Run};
use crate::record::{Example, Prompt};
use crate::run::setup;

/// What one external model said.
pub(super) struct Trip {
    /// Time to the answer.
    pub seconds: f64,
    /// Tokens of the answer, where the source counts them.
    pub tokens: Option<u64>,
    /// What it cost.
    pub cost: f64,
    /// The answer, or why there is none.
    pub answer: Result<TeacherAnswer, String>,
}

/// Asks one external model about one example.
pub(super) fn round_trip(run: &Run, external: &External, example: &Arc<Example>) -> Result<Trip> {
    if let ExternalSource::Endpoint(endpoint) = &external.source {
        // Asked afresh: a look at an endpoint is of no use if the record answers.
        let record = Arc::new(RecordFile::open(None, RecordMode::Auto)?);
        let teacher = setup::endpoint_teacher(run, external, endpoint, record, None)?;
        let trip = teacher.ask(example)?;
        return Ok(Trip {
            seconds: trip.latency.as_secs_f64(),
            tokens: trip.usage.map(|usage| usage.completion_tokens),
            cost: trip.price,
            answer: trip.answer.map_err(|failure| failure.to_string()),
        });
    }
    let open = || setup::open_device(&run.runtime.device);
    let mut teacher = setup::teacher_of(run, external, std::slice::from_ref(example), &open)?;
    let prompt = unread_prompt(example);
    let request = TeacherRequest {
        example,
        prompt: &prompt,
        num_actions: 1,
    };
    let started = Instant::now();
    let answers = teacher.act(&[request], run.runtime.seed)?;
    let answer = answers.into_iter().flatten().next();
    Ok(Trip {
        seconds: started.elapsed().as_secs_f64(),
        tokens: answer
            .as_ref()
            .and_then(|answer| Some(answer.token_logprobs.as_ref()?.token_ids.len() as u64)),
        cost: 0.0,
        answer: answer.ok_or_else(|| "no action".to_owned()),
    })
}

/// A prompt in the policy's tokens, which no teacher reads: each has its own tokenizer.
fn unread_prompt(example: &Example) -> Prompt {
    Prompt {
        id: example.id.clone(),
        rendered: String::new(),
        input_ids: Vec::new(),
        positions: Vec::new(),
        rope_delta: 0,
        images: Vec::new(),
    }
}
