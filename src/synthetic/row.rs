//! A row of the data set, and what a lesson makes of it. It knows no file.

use serde::Serialize;

/// A Reason-RFT row. Test rows have no `cot`, as in the original.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    pub id: String,
    pub image: Images,
    pub problem: String,
    pub answer: String,
    pub solution: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cot: Option<String>,
    pub level: usize,
    #[serde(rename = "type")]
    pub kind: String,
}

/// One path as text, several as a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Images {
    One(String),
    Several(Vec<String>),
}

impl Row {
    /// Turns it into a task that only takes seeing.
    pub(crate) fn name_instead(&mut self, (problem, answer): (String, String)) {
        self.problem = problem;
        self.solution.clone_from(&answer);
        self.answer = answer;
        self.cot = None;
    }

    /// Turns it into a request for its reasoning.
    pub(crate) fn explain_instead(&mut self) {
        let reasoning = self.cot.take().unwrap_or_default();
        self.name_instead((format!("Explain: {}", self.problem), reasoning));
    }

    /// Leaves the answer alone.
    pub(crate) fn answer_only(&mut self) {
        self.cot = None;
    }
}
