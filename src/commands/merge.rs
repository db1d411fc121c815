//! `merge`: a model with its adapter folded in.

use anyhow::Result;

use super::say::say_line;
use crate::cli::MergeArguments;
use crate::run::merge;

/// `vision-ekipl merge`.
pub(super) fn run(arguments: &MergeArguments) -> Result<()> {
    let place = merge::place(arguments.model.as_deref(), &arguments.adapter)?;
    merge::merge(&place, &arguments.out)?;
    say_line(&format!(
        "{}: {} with {} folded in",
        arguments.out.display(),
        place.base.display(),
        arguments.adapter.display()
    ))
}
