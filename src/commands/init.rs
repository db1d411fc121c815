//! `init`: a small checkpoint with random weights, to be taught from nothing.

use anyhow::{Context, Result, ensure};

use super::say::say_line;
use crate::cli::InitArguments;
use crate::json_lines;
use crate::record::Task;
use crate::start::{FILES, Sizes, Start};
use crate::system::files::{Existing, Named};

/// Numbers per query head; Qwen2-VL's rotary sections divide it.
const HEAD: usize = 24;

/// Weights are drawn in memory, 4 bytes each.
const MOST_PARAMETERS: u64 = 1_000_000_000;

/// `vision-ekipl init`.
pub(super) fn run(arguments: &InitArguments) -> Result<()> {
    for name in FILES {
        let output = Named::new("--out", &arguments.out.join(name));
        output.may_be_written(Existing::from(arguments.overwrite))?;
    }
    let heads = arguments.hidden / HEAD;
    let template = arguments.prompt_template.as_ref().map(|path| {
        json_lines::read_text(path).with_context(|| {
            format!(
                "{}: cannot be read\nhint: check --prompt_template",
                path.display()
            )
        })
    });
    let prompt_template = template.transpose()?;
    let start = Start {
        rows: arguments.rows.clone(),
        task: arguments.task.as_deref().and_then(Task::from_name),
        prompt_template,
        system_turn: arguments.system.clone(),
        vocabulary: arguments.vocabulary,
        sizes: Sizes {
            hidden: arguments.hidden,
            intermediate: arguments.hidden * 8 / 3,
            layers: arguments.layers,
            heads,
            key_value_heads: heads / 2,
            vision_width: arguments.vision_width,
            vision_depth: arguments.vision_depth,
            filter_waves: arguments.filter_waves,
            vision_heads: arguments.vision_width / 16,
        },
        seed: arguments.seed,
    };
    let parameters = start.sizes.parameters(arguments.vocabulary);
    ensure!(
        parameters <= MOST_PARAMETERS,
        "the model would have up to {parameters} parameters, at most {MOST_PARAMETERS} are made\nhint: lower --hidden, \
         --layers, --vision-width, --vision-depth or --vocabulary; larger models are trained from published checkpoints"
    );
    start.write(&arguments.out)?;
    say_line(&arguments.out.display().to_string())
}
