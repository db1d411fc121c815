//! All external models of a run, asked together; knows nothing of what kind they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{
    DropReason, Teacher, TeacherError, TeacherReport, TeacherRequest, TextCodec, to_action,
};
use crate::record::{Action, Example, Prompt};

/// The external models of a run, in configuration order. Empty for plain GRPO.
#[derive(Default)]
pub struct Roster {
    teachers: Vec<Box<dyn Teacher>>,
    needed: NeededLogprobs,
}

/// What must be known of an action for it to enter a pool: how probable it was to its teacher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NeededLogprobs {
    /// Nothing.
    #[default]
    None,
    /// The log-probability of the whole text.
    OfText,
    /// That of each of the policy's tokens.
    OfTokens,
}

impl NeededLogprobs {
    const fn are_in(self, action: &Action) -> bool {
        let (tokens, text) = (&action.external_logprobs, &action.external_logprob_sum);
        match self {
            Self::None => true,
            Self::OfText => tokens.is_some() || text.is_some(),
            Self::OfTokens => tokens.is_some(),
        }
    }
}

/// What one call of [`Roster::act`] brought.
#[derive(Debug, Clone, PartialEq)]
pub struct RosterAnswer {
    /// One list per prompt: teacher after teacher, each in its own order.
    pub actions: Vec<Vec<Action>>,
    /// One entry per teacher.
    pub statistics: Vec<TeacherStatistics>,
}

/// What became of the actions that one teacher was asked for: `asked` = `answered` + all dropped.
#[derive(Debug, Clone, PartialEq)]
pub struct TeacherStatistics {
    /// The teacher.
    pub name: Arc<str>,
    /// Actions asked for.
    pub asked: usize,
    /// Actions that entered a pool.
    pub answered: usize,
    /// Policy tokens of these, end tokens included.
    pub tokens: usize,
    /// Actions that did not, by reason.
    pub dropped: BTreeMap<DropReason, usize>,
    /// What asking took since the last call, what was asked ahead included.
    pub report: TeacherReport,
}

impl Roster {
    /// A roster of teachers with distinct names.
    ///
    /// # Errors
    /// [`TeacherError::Name`] for a name that is empty, taken, or `policy`; [`TeacherError::NoActions`].
    pub fn new(teachers: Vec<Box<dyn Teacher>>) -> Result<Self, TeacherError> {
        let mut names = BTreeSet::new();
        for teacher in &teachers {
            let name = teacher.name();
            let fault = match name {
                "" => Some("but a name cannot be empty"),
                "policy" => Some("but that is what logs call the trained model"),
                _ if !names.insert(name) => Some("but more than once"),
                _ => None,
            };
            if let Some(fault) = fault {
                return Err(TeacherError::Name {
                    name: name.to_owned(),
                    fault,
                });
            }
            if teacher.num_actions() == 0 {
                return Err(TeacherError::NoActions(name.to_owned()));
            }
        }
        Ok(Self {
            teachers,
            needed: NeededLogprobs::None,
        })
    }

    /// The same, dropping every action of which `needed` is not known ([`DropReason::NoLogprobs`]).
    #[must_use]
    pub fn needing(self, needed: NeededLogprobs) -> Self {
        Self { needed, ..self }
    }

    /// Whether there is no teacher at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.teachers.is_empty()
    }

    /// The teachers' names, in configuration order.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.teachers.iter().map(|teacher| teacher.name()).collect()
    }

    /// External actions per prompt, all teachers together (Σ n of the method).
    #[must_use]
    pub fn num_actions(&self) -> usize {
        self.teachers
            .iter()
            .map(|teacher| teacher.num_actions())
            .sum()
    }

    /// Lets every teacher begin with the prompts of the next [`Roster::act`], which should get the same seed.
    pub fn prefetch(&mut self, prompts: &[(&Example, &Prompt)], seed: u64) {
        for (index, teacher) in self.teachers.iter_mut().enumerate() {
            let requests = requests(prompts, teacher.num_actions());
            if !requests.is_empty() {
                teacher.prefetch(&requests, teacher_seed(seed, index));
            }
        }
    }

    /// Gives back the memory of every teacher that can do so until it is asked again.
    pub fn release(&mut self) {
        self.teachers
            .iter_mut()
            .for_each(|teacher| teacher.release());
    }

    /// Asks every teacher for its actions for each of `prompts` and turns the answers into actions of the policy's
    /// tokens. Each teacher gets a seed of its own. Without prompts nobody is asked.
    ///
    /// # Errors
    /// What a teacher fails with, and [`TeacherError::AnswerCount`].
    pub fn act(
        &mut self,
        prompts: &[(&Example, &Prompt)],
        seed: u64,
        codec: &dyn TextCodec,
        max_completion_length: usize,
    ) -> Result<RosterAnswer, TeacherError> {
        // All are told before the first is waited for, so that slow servers think side by side.
        if self.teachers.len() > 1 {
            self.prefetch(prompts, seed);
        }
        let mut actions = vec![Vec::new(); prompts.len()];
        let mut statistics = Vec::with_capacity(self.teachers.len());
        let needed = self.needed;
        for (index, teacher) in self.teachers.iter_mut().enumerate() {
            let seed = teacher_seed(seed, index);
            let mut tally = TeacherStatistics::new(teacher.name());
            if !prompts.is_empty() {
                ask(teacher.as_mut(), prompts, seed, |prompt, answer| {
                    let action = answer.and_then(|answer| {
                        let action = to_action(answer, &tally.name, codec, max_completion_length)?;
                        let known = needed.are_in(&action);
                        known.then_some(action).ok_or(DropReason::NoLogprobs)
                    });
                    if let Some(action) = tally.count(action) {
                        actions[prompt].push(action);
                    }
                })?;
            }
            tally.report = teacher.report();
            tally.warn();
            statistics.push(tally);
        }
        Ok(RosterAnswer {
            actions,
            statistics,
        })
    }
}

/// Two entries of one model must not draw the same.
const fn teacher_seed(seed: u64, index: usize) -> u64 {
    seed ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn requests<'a>(
    prompts: &[(&'a Example, &'a Prompt)],
    num_actions: usize,
) -> Vec<TeacherRequest<'a>> {
    let request = |&(example, prompt): &(&'a Example, &'a Prompt)| TeacherRequest {
        example,
        prompt,
        num_actions,
    };
    prompts.iter().map(request).collect()
}

/// Hands `take` each answer with the index of its prompt, [`DropReason::Missing`] for those that did not come.
fn ask(
    teacher: &mut dyn Teacher,
    prompts: &[(&Example, &Prompt)],
    seed: u64,
    mut take: impl FnMut(usize, Result<super::TeacherAnswer, DropReason>),
) -> Result<(), TeacherError> {
    let num_actions = teacher.num_actions();
    let answers = teacher.act(&requests(prompts, num_actions), seed)?;
    let count = |what, found, expected| TeacherError::AnswerCount {
        name: teacher.name().to_owned(),
        what,
        found,
        expected,
    };
    if answers.len() != prompts.len() {
        return Err(count("lists of actions", answers.len(), prompts.len()));
    }
    if let Some(list) = answers.iter().find(|list| list.len() > num_actions) {
        return Err(count("actions for one prompt", list.len(), num_actions));
    }
    for (prompt, list) in answers.into_iter().enumerate() {
        let missing = num_actions - list.len();
        list.into_iter().for_each(|answer| take(prompt, Ok(answer)));
        (0..missing).for_each(|_| take(prompt, Err(DropReason::Missing)));
    }
    Ok(())
}

impl TeacherStatistics {
    fn new(name: &str) -> Self {
        Self {
            name: Arc::from(name),
            asked: 0,
            answered: 0,
            tokens: 0,
            dropped: BTreeMap::new(),
            report: TeacherReport::default(),
        }
    }

    fn count(&mut self, action: Result<Action, DropReason>) -> Option<Action> {
        self.asked += 1;
        match action {
            Ok(action) => {
                self.answered += 1;
                self.tokens += action.token_ids.len();
                Some(action)
            }
            Err(reason) => {
                *self.dropped.entry(reason).or_default() += 1;
                None
            }
        }
    }

    fn warn(&self) {
        if self.dropped.is_empty() {
            return;
        }
        let reasons: Vec<String> = self
            .dropped
            .iter()
            .map(|(reason, count)| format!("{count} {}", reason.name()))
            .collect();
        log::warn!(
            "external source `{}`: dropped of {} actions: {}",
            self.name,
            self.asked,
            reasons.join(", ")
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::TeacherAnswer;
    use super::super::tests::{Characters, answer, example, prompt};
    use super::*;

    /// Says the same to everyone.
    struct Parrot {
        name: &'static str,
        num_actions: usize,
        lists: Option<usize>,
        answers: Vec<TeacherAnswer>,
    }

    impl Teacher for Parrot {
        fn name(&self) -> &str {
            self.name
        }

        fn num_actions(&self) -> usize {
            self.num_actions
        }

        fn act(
            &mut self,
            requests: &[TeacherRequest<'_>],
            _seed: u64,
        ) -> Result<Vec<Vec<TeacherAnswer>>, TeacherError> {
            assert!(!requests.is_empty(), "nobody is asked about nothing");
            assert!(
                requests
                    .iter()
                    .all(|request| request.num_actions == self.num_actions)
            );
            Ok(vec![
                self.answers.clone();
                self.lists.unwrap_or(requests.len())
            ])
        }
    }

    fn parrot(name: &'static str, num_actions: usize, answers: &[&str]) -> Box<dyn Teacher> {
        let answers = answers.iter().copied().map(answer).collect();
        Box::new(Parrot {
            name,
            num_actions,
            lists: None,
            answers,
        })
    }

    fn act(teachers: Vec<Box<dyn Teacher>>, prompts: usize) -> Result<RosterAnswer, TeacherError> {
        let (example, prompt) = (example("a"), prompt("a"));
        Roster::new(teachers)?.act(&vec![(&example, &prompt); prompts], 1, &Characters, 5)
    }

    #[test]
    fn actions_come_prompt_by_prompt_and_teacher_by_teacher() {
        let teachers = vec![parrot("strong", 2, &["ab", "c"]), parrot("weak", 1, &["d"])];
        let answer = act(teachers, 2).expect("answers");
        for actions in &answer.actions {
            let found: Vec<(&str, &str)> = actions
                .iter()
                .map(|action| (action.source.name(), action.text.as_str()))
                .collect();
            assert_eq!(found, [("strong", "ab"), ("strong", "c"), ("weak", "d")]);
        }
        let [strong, weak] = &answer.statistics[..] else {
            panic!("two teachers")
        };
        assert_eq!(
            (&*strong.name, strong.asked, strong.answered, strong.tokens),
            ("strong", 4, 4, 10)
        );
        assert_eq!(
            (&*weak.name, weak.asked, weak.answered, weak.tokens),
            ("weak", 2, 2, 4)
        );
        assert!(strong.dropped.is_empty() && weak.dropped.is_empty());
    }

    #[test]
    fn actions_of_unknown_probability_are_dropped_where_it_is_needed() {
        let (example, prompt) = (example("a"), prompt("a"));
        let known = |text: &str, token_ids: Vec<u32>| TeacherAnswer {
            token_logprobs: Some(crate::actions::teacher::TokenLogprobs {
                logprobs: vec![-0.5; token_ids.len()],
                token_ids,
            }),
            ..answer(text)
        };
        let answers = [known("a", vec![97, 0]), known("b", vec![1, 2]), answer("c")];
        for (needed, left) in [
            (NeededLogprobs::None, &["a", "b", "c"][..]),
            (NeededLogprobs::OfText, &["a", "b"]),
            (NeededLogprobs::OfTokens, &["a"]),
        ] {
            let teacher = Parrot {
                name: "local",
                num_actions: 3,
                lists: None,
                answers: answers.to_vec(),
            };
            let roster = Roster::new(vec![Box::new(teacher)]).expect("a teacher");
            let mut roster = roster.needing(needed);
            let found = roster
                .act(&[(&example, &prompt)], 1, &Characters, 5)
                .expect("answers");
            let texts: Vec<&str> = found.actions[0]
                .iter()
                .map(|action| action.text.as_str())
                .collect();
            assert_eq!(texts, left, "{needed:?}");
            let dropped = found.statistics[0].dropped.get(&DropReason::NoLogprobs);
            assert_eq!(dropped.copied().unwrap_or(0), 3 - left.len());
        }
    }

    /// Says the seed that it got.
    struct Seed(&'static str);

    impl Teacher for Seed {
        fn name(&self) -> &str {
            self.0
        }

        fn num_actions(&self) -> usize {
            1
        }

        fn act(
            &mut self,
            _: &[TeacherRequest<'_>],
            seed: u64,
        ) -> Result<Vec<Vec<TeacherAnswer>>, TeacherError> {
            Ok(vec![vec![answer(&format!("{:04x}", seed >> 48))]])
        }
    }

    /// Counts what it is told ahead.
    #[derive(Default)]
    struct Ahead(TeacherReport);

    impl Teacher for Ahead {
        fn name(&self) -> &str {
            "a"
        }

        fn num_actions(&self) -> usize {
            2
        }

        fn prefetch(&mut self, requests: &[TeacherRequest<'_>], seed: u64) {
            assert_eq!((requests[0].num_actions, seed), (2, 1));
            self.0.requests += requests.len();
        }

        fn act(
            &mut self,
            requests: &[TeacherRequest<'_>],
            _: u64,
        ) -> Result<Vec<Vec<TeacherAnswer>>, TeacherError> {
            Ok(vec![Vec::new(); requests.len()])
        }

        fn report(&mut self) -> TeacherReport {
            std::mem::take(&mut self.0)
        }
    }

    /// Answers once all teachers of its roster were told of the prompts.
    struct Together {
        name: &'static str,
        told: std::rc::Rc<std::cell::RefCell<Vec<&'static str>>>,
    }

    impl Teacher for Together {
        fn name(&self) -> &str {
            self.name
        }

        fn num_actions(&self) -> usize {
            1
        }

        fn prefetch(&mut self, requests: &[TeacherRequest<'_>], _: u64) {
            assert_eq!(requests.len(), 2);
            self.told.borrow_mut().push(self.name);
        }

        fn act(
            &mut self,
            requests: &[TeacherRequest<'_>],
            _: u64,
        ) -> Result<Vec<Vec<TeacherAnswer>>, TeacherError> {
            assert_eq!(*self.told.borrow(), ["a", "b", "c"], "nobody waits unasked");
            Ok(vec![vec![answer("x")]; requests.len()])
        }
    }

    #[test]
    fn everybody_is_asked_before_anybody_is_waited_for() {
        let told = std::rc::Rc::default();
        let teacher = |name| -> Box<dyn Teacher> {
            let told = std::rc::Rc::clone(&told);
            Box::new(Together { name, told })
        };
        let answer = act(vec![teacher("a"), teacher("b"), teacher("c")], 2).expect("answers");
        assert_eq!(answer.actions.concat().len(), 6);
    }

    #[test]
    fn what_was_asked_ahead_is_reported_once() {
        let (example, prompt) = (example("a"), prompt("a"));
        let prompts = [(&example, &prompt); 3];
        let mut roster = Roster::new(vec![Box::new(Ahead::default())]).expect("a roster");
        roster.prefetch(&[], 1);
        roster.prefetch(&prompts, 1);
        let requests = |roster: &mut Roster| {
            let answer = roster.act(&prompts, 1, &Characters, 5).expect("answers");
            answer.statistics[0].report.requests
        };
        assert_eq!((requests(&mut roster), requests(&mut roster)), (3, 0));
    }

    #[test]
    fn teachers_draw_from_seeds_of_their_own() {
        let texts = || -> Vec<String> {
            let answer = act(vec![Box::new(Seed("a")), Box::new(Seed("b"))], 1).expect("answers");
            let texts = answer.actions[0].iter().map(|action| action.text.clone());
            texts.collect()
        };
        let found = texts();
        assert_ne!(found[0], found[1]);
        assert_eq!(found, texts());
    }

    #[test]
    fn what_is_dropped_is_counted_by_reason() {
        let answer = act(vec![parrot("a", 4, &["ok", " ", "too long"])], 2).expect("answers");
        assert_eq!(
            answer.actions.iter().map(Vec::len).collect::<Vec<_>>(),
            [1, 1]
        );
        let statistics = &answer.statistics[0];
        assert_eq!((statistics.asked, statistics.answered), (8, 2));
        let dropped = [
            (DropReason::Missing, 2),
            (DropReason::Empty, 2),
            (DropReason::TooLong, 2),
        ];
        assert_eq!(statistics.dropped, BTreeMap::from(dropped));
    }

    #[test]
    fn without_teachers_or_prompts_nothing_happens() {
        let alone = act(Vec::new(), 2).expect("answers");
        assert_eq!(
            (alone.actions, alone.statistics),
            (vec![Vec::new(), Vec::new()], Vec::new())
        );
        let unasked = act(vec![parrot("a", 1, &["x"])], 0).expect("answers");
        assert!(unasked.actions.is_empty());
        assert_eq!(unasked.statistics[0].asked, 0);
        assert!(Roster::default().is_empty());
    }

    #[test]
    fn names_and_sizes_are_known() {
        let roster = Roster::new(vec![parrot("a", 2, &[]), parrot("b", 1, &[])]).expect("a roster");
        assert_eq!(
            (roster.names(), roster.num_actions(), roster.is_empty()),
            (vec!["a", "b"], 3, false)
        );
    }

    #[test]
    fn unusable_rosters_are_refused() {
        let refused = |teachers| Roster::new(teachers).err().expect("refused").to_string();
        assert!(
            refused(vec![parrot("a", 1, &[]), parrot("a", 1, &[])])
                .contains("`a`, but more than once")
        );
        assert!(
            refused(vec![parrot("policy", 1, &[])])
                .contains("`policy`, but that is what logs call")
        );
        assert!(refused(vec![parrot("", 1, &[])]).contains("cannot be empty"));
        assert!(refused(vec![parrot("a", 0, &[])]).contains("`a` has `num_actions` 0"));
    }

    #[test]
    fn a_teacher_that_miscounts_is_named() {
        let many = act(vec![parrot("a", 1, &["x", "y"])], 1)
            .expect_err("refused")
            .to_string();
        assert!(
            many.contains("`a` returned 2 actions for one prompt, expected 1"),
            "{many}"
        );
        let short = Parrot {
            name: "a",
            num_actions: 1,
            lists: Some(1),
            answers: Vec::new(),
        };
        let short = act(vec![Box::new(short)], 3)
            .expect_err("refused")
            .to_string();
        assert!(
            short.contains("`a` returned 1 lists of actions, expected 3"),
            "{short}"
        );
    }
}
