//! `demo`: renders counting data, warm-starts a small policy, trains it with and without an external expert from the
//! same start with the same budget, and compares.

use anyhow::Result;

use super::interrupts;
use super::say::say_line;
use super::train::AFTER_STEP;
use crate::cli::DemoArguments;
use crate::demo::run::{Demo, Effort};

/// `vision-ekipl demo`.
pub(super) fn run(arguments: &DemoArguments) -> Result<()> {
    interrupts::catch(AFTER_STEP)?;
    let open = crate::device::open(&arguments.device.device)?;
    let effort = if open.is_software {
        Effort::SOFTWARE_VULKAN
    } else {
        Effort::FULL
    };
    if open.is_software {
        log::warn!(
            "{} computes on the CPU through Vulkan, about 40 times slower than `--device cpu`: this run takes {} and {} steps \
             instead of {} and {}; it shows that the path works, not that it learns",
            open.description,
            effort.sft_steps,
            effort.train_steps,
            Effort::FULL.sft_steps,
            Effort::FULL.train_steps
        );
    }
    for seed in arguments.seed..arguments.seed + arguments.seeds {
        let folder = arguments.output.join(format!("seed-{seed}"));
        let demo = Demo {
            folder,
            seed,
            device: arguments.device.device.clone(),
            effort,
        };
        say_line(&format!("\n{}", demo.run()?))?;
    }
    Ok(())
}
