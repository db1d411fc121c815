//! A configuration planned for a device: the memory plan, what the device has, and the advice.

use anyhow::Result;
use serde_json::json;

use crate::config::{Purpose, Run};
use crate::device::{self, Surveyed};
use crate::model::config::ModelConfig;
use crate::run::memory_plan::{Advice, MemoryPlan, Place, Work, advice};
use crate::run::setup::{self, Sized};

/// A tenth of a memory is left to whatever else is in it.
const SHARE_OF_MEMORY: [u64; 2] = [9, 10];

/// A plan and what it is held against.
pub(super) struct Planned {
    pub rows: usize,
    pub rejected: usize,
    pub steps: u64,
    pub prompt_tokens: usize,
    pub plan: MemoryPlan,
    pub device: Surveyed,
    pub advice: Option<Advice>,
}

impl Planned {
    /// `memory_gib` takes the place of the memory that the device has.
    pub fn new(run: &Run, purpose: Purpose, memory_gib: Option<f64>) -> Result<Self> {
        let mut device = device::survey(&run.runtime.device)?;
        if let Some(memory) = memory_gib {
            device.memory_bytes = Some((memory * f64::from(1 << 30)) as u64);
        }
        let start = setup::policy_place(run, None)?.base;
        let config = ModelConfig::open(&start)?;
        let encoder = setup::open_encoder(run, &start, config.text.max_position_embeddings)?;
        let file = setup::data_file(&run.data.dataset_name, &run.data.dataset_train_split)?;
        let dataset = setup::load_dataset(run, &file, &encoder, None)?;
        let rows = dataset.examples.len();
        let (work, steps) = match purpose {
            Purpose::Sft => (Work::Supervised, run.sft_steps(rows)?),
            _ => (Work::Training, run.steps(rows)?),
        };
        let sized = Sized {
            run,
            work,
            config: &config,
            encoder: &encoder,
            examples: &dataset.examples,
        };
        let place = if device.is_gpu {
            Place::Gpu
        } else {
            Place::Cpu
        };
        let settings = sized.settings(place)?;
        let limit = device.memory_bytes.map(usable);
        // A configuration may say nothing that makes adapters of its model.
        let adapters = setup::adapters(run, &config).ok();
        Ok(Self {
            rows,
            rejected: dataset.rejected.len(),
            steps,
            prompt_tokens: settings.prompt.tokens,
            plan: MemoryPlan::new(&settings),
            advice: limit.and_then(|limit| advice(&settings, adapters.as_ref(), limit)),
            device,
        })
    }

    pub fn json(&self) -> serde_json::Value {
        let (phase, bytes) = self.plan.peak();
        json!({
            "rows": self.rows,
            "steps": self.steps,
            "prompt_tokens": self.prompt_tokens,
            "tokens": self.plan.tokens,
            "parts": self.plan.parts,
            "peak": {"phase": phase, "bytes": bytes},
            "device": {"name": self.device.name, "memory_bytes": self.device.memory_bytes},
            "fits": self.device.memory_bytes.map(|memory| bytes <= usable(memory)),
            "advice": self.advice,
        })
    }
}

pub(super) const fn usable(memory: u64) -> u64 {
    memory / SHARE_OF_MEMORY[1] * SHARE_OF_MEMORY[0]
}
