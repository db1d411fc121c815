//! A memory plan as a person reads it: GiB of every part in every phase, the peak, the advice.

use super::planned::{Planned, usable};
use crate::run::memory_plan::{Advice, Phase};
use crate::run::metrics::table;

/// The whole text, without a last line end.
pub(super) fn of(planned: &Planned) -> String {
    [head(planned), parts(planned), verdict(planned)].join("\n\n")
}

fn head(planned: &Planned) -> String {
    let tokens = planned.plan.tokens;
    let sampled = match tokens.sampled {
        0 => String::new(),
        sampled => format!("{sampled} drawn, "),
    };
    let parts = planned.plan.parts.iter();
    let weights = parts.filter(|part| part.what.ends_with(" weights"));
    let weights: u64 = weights.map(|part| part.of(Phase::Loading)).sum();
    format!(
        "{} rows ({} rejected), {} optimizer steps, prompts of up to {} tokens\ntokens of a step at most: {sampled}{} learnt, {} in a micro-batch\n{:.1} MB  weights of the policy",
        planned.rows,
        planned.rejected,
        planned.steps,
        planned.prompt_tokens,
        tokens.learnt,
        tokens.micro_batch,
        weights as f64 / 1e6
    )
}

fn parts(planned: &Planned) -> String {
    let plan = &planned.plan;
    let row = |name: &str, bytes: &dyn Fn(Phase) -> u64| {
        let cells = plan.phases.iter().map(|phase| gib(bytes(*phase)));
        std::iter::once(name.to_owned())
            .chain(cells)
            .collect::<Vec<_>>()
    };
    let mut rows: Vec<Vec<String>> = plan
        .parts
        .iter()
        .map(|part| row(part.what, &|phase| part.of(phase)))
        .collect();
    rows.push(row("total", &|phase| plan.of(phase)));
    let names = plan.phases.iter().map(|phase| phase.name());
    let head: Vec<&str> = std::iter::once("GiB").chain(names).collect();
    table(&head, &rows).trim_end().to_owned()
}

fn verdict(planned: &Planned) -> String {
    let (phase, bytes) = planned.plan.peak();
    let peak = format!("peak: {} GiB in {}", gib(bytes), phase.name());
    let Some(memory) = planned.device.memory_bytes else {
        return format!(
            "{peak}; {} does not say how much memory it has\nhint: `--memory-gib N` holds the plan against N GiB",
            planned.device.name
        );
    };
    let of = format!(
        "{peak}, of {} GiB that {} can give ({} GiB, a tenth left free)",
        gib(usable(memory)),
        planned.device.name,
        gib(memory)
    );
    match &planned.advice {
        None => format!("{of}: it fits"),
        Some(advice) => format!("{of}: it does not fit\n{}", remedies(advice)),
    }
}

fn remedies(advice: &Advice) -> String {
    let mut lines = vec![if advice.fits {
        format!(
            "with these keys it takes {} GiB and fits:",
            gib(advice.peak)
        )
    } else {
        format!(
            "with all of these keys it still takes {} GiB; take a smaller model or another device:",
            gib(advice.peak)
        )
    }];
    for remedy in &advice.remedies {
        lines.push(format!(
            "  {}  (saves {} GiB)",
            remedy.keys,
            gib(remedy.saves)
        ));
    }
    lines.join("\n")
}

/// Two digits behind the point; small sizes keep three that count, so that small models have a plan too.
fn gib(bytes: u64) -> String {
    let value = bytes as f64 / f64::from(1 << 30);
    match value {
        0.0 => "-".to_owned(),
        value if value < 0.1 => format!("{value:.4}"),
        value => format!("{value:.2}"),
    }
}
