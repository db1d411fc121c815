//! `full-size`: a model folder of a published size with random weights.

use anyhow::{Context, Result};

use super::say::say_line;
use crate::cli::FullSizeArguments;
use crate::run::checkpoint::copy_model_files;
use crate::start::full_size::{FullSize, write};

/// `vision-ekipl full-size`.
pub(super) fn run(arguments: &FullSizeArguments) -> Result<()> {
    let size = match arguments.size.as_str() {
        "7b" => FullSize::B7,
        _ => FullSize::B2,
    };
    let shown = arguments.out.display();
    std::fs::create_dir(&arguments.out).with_context(|| {
        format!("{shown}: cannot be made\nhint: name a folder that does not exist yet")
    })?;
    copy_model_files(&arguments.tokenizer, &arguments.out)?;
    write(&arguments.out, size, arguments.seed)?;
    say_line(&shown.to_string())
}
