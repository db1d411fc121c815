//! A drawn chart, and the command that makes its runs again. Draws nothing.

use super::svg::Description;
use crate::study::results::collection::Study;
use crate::study::results::result::{Family, Method};
use crate::study::results::text::distinct;
use crate::study::settings::SEEDS;

/// A drawn chart.
#[derive(Debug, Clone)]
pub struct Chart {
    /// File stem, title and caption.
    pub description: Description,
    /// The picture; its root element is `svg`, without an XML declaration, so that a page can hold it in line.
    pub svg: String,
    /// `vision-ekipl study ...`: makes the runs behind its numbers that have no result yet, and this report again.
    pub command: String,
}

impl Chart {
    pub(super) const fn new(svg: String, description: Description, command: String) -> Self {
        Self {
            description,
            svg,
            command,
        }
    }
}

/// The command that makes every run of these methods and families. It holds keys and numbers of the results and none of
/// their text, so that a result of somebody else puts nothing on a command line: keys are of `a-z 0-9 . _ -`.
pub(super) fn command_of(study: &Study, methods: &[&Method], families: &[Family]) -> String {
    let mut words = vec!["vision-ekipl study configs/study/*.yaml".to_owned()];
    let keys = distinct(methods.iter().map(|method| method.key.as_str()));
    words.extend(keys.iter().map(|key| format!("--only {key}")));
    if families.len() < Family::ALL.len() {
        words.extend(
            families
                .iter()
                .map(|family| format!("--family {}", family.name())),
        );
    }
    let seeds = study.seeds();
    if let (Some(first), Some(last)) = (seeds.first(), seeds.last()) {
        // Wider ranges are of no study that this command makes.
        let count = last.saturating_sub(*first).saturating_add(1);
        if SEEDS.contains(&count) {
            words.push(format!("--seeds {count}"));
            if *first != 1 {
                words.push(format!("--first-seed {first}"));
            }
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::results::fixture::{method, run};
    use crate::study::results::result::Role;

    #[test]
    fn the_command_names_methods_families_and_seeds() {
        let methods = [
            method("base", Role::Reference),
            method("ours", Role::Proposed),
        ];
        let results: Vec<_> = [2, 4]
            .map(|seed| run(methods[0].clone(), Family::Counting, seed, 5))
            .into();
        let study = Study::new(&results, &[], "base").expect("a study");
        let both = [&methods[0], &methods[1], &methods[0]];
        assert_eq!(
            command_of(&study, &both, &[Family::Counting]),
            "vision-ekipl study configs/study/*.yaml --only base --only ours --family counting --seeds 3 --first-seed 2"
        );
        let study = Study::new(&[], &[], "base").expect("a study");
        assert_eq!(
            command_of(&study, &both[..1], &Family::ALL),
            "vision-ekipl study configs/study/*.yaml --only base"
        );
    }
}
