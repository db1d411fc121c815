//! The external expert: right in a given share of its answers, else off by one or two with reasoning to match.
//! It sees the scene's objects, never the picture.

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::Difficulty;
use super::question::Question;
use super::scene::{Object, Size, Vocabulary};

/// The share of wrong answers that miss by one; the others miss by two.
const OFF_BY_ONE: f64 = 0.8;

/// What the expert says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    /// Reasoning and answer in their tags.
    pub text: String,
    /// Whether the answer is right.
    pub right: bool,
}

/// Draws one statement; it is right with probability `accuracy`.
pub(super) fn state(
    rng: &mut impl Rng,
    (question, objects): (&Question, &[Object]),
    (vocabulary, difficulty): (Vocabulary, Difficulty),
    accuracy: f64,
) -> Statement {
    let right = rng.random_bool(accuracy);
    let seen = if right {
        objects.to_vec()
    } else {
        misperceive(rng, question, objects, vocabulary)
    };
    let (reasoning, answer) = (
        question.reasoning(&seen, difficulty),
        question.answer(&seen),
    );
    Statement {
        text: format!("<think>\n{reasoning}\n</think>\n<answer>\n{answer}\n</answer>"),
        right,
    }
}

/// The objects as a careless eye takes them: one or two of those that count are missed, or seen where none are.
fn misperceive(
    rng: &mut impl Rng,
    question: &Question,
    objects: &[Object],
    vocabulary: Vocabulary,
) -> Vec<Object> {
    let error = if rng.random_bool(OFF_BY_ONE) { 1 } else { 2 };
    let mut counted: Vec<usize> = (0..objects.len())
        .filter(|index| question.counts(&objects[*index]))
        .collect();
    let mut seen = objects.to_vec();
    if rng.random_bool(0.5) && counted.len() >= error {
        counted.shuffle(rng);
        counted.truncate(error);
        counted.sort_unstable();
        for index in counted.into_iter().rev() {
            seen.remove(index);
        }
    } else {
        for _ in 0..error {
            let object = question.made_to_count(imagined(rng, objects, vocabulary), vocabulary);
            seen.insert(rng.random_range(0..=seen.len()), object);
        }
    }
    seen
}

/// A second look at one of the objects, or one that is not there.
fn imagined(rng: &mut impl Rng, objects: &[Object], vocabulary: Vocabulary) -> Object {
    objects.choose(rng).copied().unwrap_or(Object {
        shape: vocabulary.shapes[0],
        color: vocabulary.colors[0],
        size: Size::Small,
        x: 0.0,
        y: 0.0,
        angle: 0.0,
    })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::Split;
    use super::super::scene::tests::scene;
    use super::*;

    /// (statement, true answer) for many scenes.
    fn statements(difficulty: Difficulty, accuracy: f64) -> Vec<(Statement, usize)> {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let vocabulary = Vocabulary::of(Split::Train, difficulty);
        let one = |seed| {
            let objects = scene(seed, Split::Train, difficulty).objects;
            let question = Question::draw(&mut rng, &objects, vocabulary, difficulty);
            let statement = state(
                &mut rng,
                (&question, &objects),
                (vocabulary, difficulty),
                accuracy,
            );
            (statement, question.answer(&objects))
        };
        (0..2000).map(one).collect()
    }

    fn answer(statement: &Statement) -> usize {
        let (_, rest) = statement.text.split_once("</think>\n<answer>\n").unwrap();
        rest.strip_suffix("\n</answer>").unwrap().parse().unwrap()
    }

    #[test]
    fn it_is_right_as_often_as_asked() {
        for (accuracy, low, high) in [(0.0, 0, 0), (0.7, 1330, 1470), (1.0, 2000, 2000)] {
            let all = statements(Difficulty::Easy, accuracy);
            let right = all
                .iter()
                .filter(|(statement, truth)| answer(statement) == *truth)
                .count();
            assert!(
                (low..=high).contains(&right),
                "{right} of 2000 at {accuracy}"
            );
            assert!(
                all.iter()
                    .all(|(statement, truth)| statement.right == (answer(statement) == *truth))
            );
        }
    }

    #[test]
    fn wrong_answers_miss_by_one_or_two() {
        for difficulty in [Difficulty::Easy, Difficulty::Full] {
            let misses: Vec<_> = statements(difficulty, 0.0)
                .iter()
                .map(|(said, truth)| answer(said).abs_diff(*truth))
                .collect();
            let by_one = misses.iter().filter(|miss| **miss == 1).count();
            assert!(misses.iter().all(|miss| (1..=2).contains(miss)));
            assert!((1500..1700).contains(&by_one), "{by_one}");
        }
    }

    #[test]
    fn reasoning_and_answer_agree() {
        for (statement, _) in statements(Difficulty::Easy, 0.3) {
            let (reasoning, _) = statement.text.split_once("\n</think>").unwrap();
            let (list, conclusion) = reasoning
                .strip_prefix("<think>\n")
                .unwrap()
                .split_once(": ")
                .unwrap();
            let (count, noun) = conclusion.split_once(' ').unwrap();
            let listed = list.split(' ').filter(|word| match noun {
                "object" | "objects" => *word != "nothing",
                other => *word == other || format!("{word}s") == other,
            });
            assert_eq!(listed.count(), answer(&statement), "{}", statement.text);
            assert_eq!(count, answer(&statement).to_string(), "{}", statement.text);
        }
    }
}
