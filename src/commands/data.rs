//! `data`: draws data sets in Reason-RFT's format, or a sheet of examples to look at.

use anyhow::{Context, Result, anyhow, ensure};

use super::say::{say, say_line};
use crate::cli::{CountingArguments, DataArguments, DataFamily};
use crate::demo::run::render;
use crate::synthetic::{
    Difficulty, Expert, Family, Lesson, Renderer, Split, SyntheticOptions, contact_sheet, outputs,
};
use crate::system::files::{self, Existing, Named};

/// Answers of experts are held in memory until their files are written.
const MOST_ANSWERS: u64 = 10_000_000;

const KNOWN: &str = "the command line allows no other word";

/// `vision-ekipl data FAMILY`.
pub(super) fn run(family: &DataFamily) -> Result<()> {
    let (family, arguments) = match family {
        DataFamily::Counting(counting) => (counting_family(counting), &counting.data),
        DataFamily::Structure(arguments) => (Family::Structure, arguments),
        DataFamily::Transformation(arguments) => (Family::Transformation, arguments),
    };
    let options = options(family, arguments)?;
    let answers =
        options.count as u64 * options.expert_actions as u64 * options.experts.len() as u64;
    ensure!(
        answers <= MOST_ANSWERS,
        "`--count` {} x `--expert-actions` {} x {} experts are {answers} answers, at most {MOST_ANSWERS}\nhint: lower one of them",
        options.count,
        options.expert_actions,
        options.experts.len()
    );
    let existing = Existing::from(arguments.overwrite);
    if let Some(path) = &arguments.contact_sheet {
        Named::new("--contact-sheet", path).may_be_written(existing)?;
        let sheet = contact_sheet(&options)?;
        files::write(path, sheet, existing).with_context(|| {
            format!(
                "{}: cannot be written\nhint: check the folder of `--contact-sheet`",
                path.display()
            )
        })?;
        return say_line(&path.display().to_string());
    }
    for path in outputs(&options) {
        Named::new("--out", &path).may_be_written(existing)?;
    }
    let summary = render(&options)?;
    let mut text = format!("{}\n", summary.rows.display());
    for expert in summary.experts {
        text.push_str(&format!(
            "{} ({} of {} right)\n",
            expert.path.display(),
            expert.right,
            expert.actions
        ));
    }
    say(&text)
}

fn counting_family(arguments: &CountingArguments) -> Family {
    Family::Counting {
        renderer: Renderer::from_name(&arguments.renderer).expect(KNOWN),
        max_objects: arguments.max_objects,
    }
}

fn options(family: Family, arguments: &DataArguments) -> Result<SyntheticOptions> {
    let split = Split::from_name(&arguments.split).expect(KNOWN);
    let difficulty = Difficulty::from_name(&arguments.difficulty).expect(KNOWN);
    let size = match (family, difficulty) {
        (Family::Counting { .. }, _) | (_, Difficulty::Easy) => 84,
        (_, Difficulty::Full) => 224,
    };
    Ok(SyntheticOptions {
        family,
        split,
        count: arguments.count.unwrap_or(1),
        seed: arguments.seed,
        out: arguments.out.clone().unwrap_or_default(),
        size: arguments.size.unwrap_or(size),
        difficulty,
        experts: experts(family, split, arguments)?,
        expert_actions: arguments.expert_actions,
        lesson: Lesson {
            naming: arguments.naming,
            explaining: arguments.explaining,
            reasoning: arguments
                .reasoning
                .unwrap_or(1.0 - arguments.naming - arguments.explaining),
        },
    })
}

/// The experts that are asked for; without a word about them, the paper's two for training.
fn experts(family: Family, split: Split, arguments: &DataArguments) -> Result<Vec<Expert>> {
    let alone = arguments
        .expert_accuracy
        .map(|accuracy| Expert::new(&arguments.expert_name, accuracy));
    let by_default = arguments.expert.is_empty()
        && alone.is_none()
        && split == Split::Train
        && !matches!(
            family,
            Family::Counting {
                renderer: Renderer::Flat | Renderer::Grid,
                ..
            }
        );
    let paper = || Expert::of_the_paper(family, split);
    let mut experts: Vec<Expert> = Vec::new();
    if by_default {
        experts.extend(paper());
    }
    for word in &arguments.expert {
        match word.as_str() {
            "none" => {}
            "paper" => experts.extend(paper()),
            text => {
                let hint = "hint: for example `--expert gpt=0.68:terse`, or `--expert paper`";
                let expert =
                    Expert::parse(text).map_err(|fault| anyhow!("`--expert`: {fault}\n{hint}"))?;
                experts.push(expert);
            }
        }
    }
    for expert in &mut experts {
        expert.format_errors = arguments.expert_format_errors;
    }
    experts.extend(alone);
    Ok(experts)
}
