//! Which method has which look. Draws nothing.

use super::style::Style;
use crate::study::results::collection::Study;
use crate::study::results::result::Role;
use crate::study::results::text::distinct;

/// One look per method of the paper's table, the same in every chart.
pub(super) struct Styles {
    keys: Vec<String>,
}

impl Styles {
    /// The first looks are the easiest to tell apart: the proposed methods and their counterparts have them.
    pub fn new(study: &Study) -> Self {
        let proposed = study.methods(&[Role::Proposed]);
        let pairs = proposed
            .iter()
            .flat_map(|method| [method.key.as_str(), study.counterpart(method)]);
        let others = study.methods(&[Role::Reference, Role::Proposed]);
        let others = others.iter().map(|method| method.key.as_str());
        let keys = distinct(pairs.chain(others));
        Self {
            keys: keys.into_iter().map(str::to_owned).collect(),
        }
    }

    pub fn of(&self, key: &str) -> Style {
        let known = self.keys.iter().position(|known| known == key);
        Style::number(known.unwrap_or(self.keys.len()))
    }
}
