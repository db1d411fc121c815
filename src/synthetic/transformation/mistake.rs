//! What a careless observer takes a transformation for. It knows no wording.

use rand::Rng;

use super::change::{Call, Value};
use super::scene::{Object, Rules, pick};

/// Ways to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    /// A value is misperceived; a direction may be the one beside it.
    Value,
    /// The change is seen on another object.
    Object,
    /// The change of one thing is taken for that of another.
    Function,
    /// A change is overlooked.
    Missed,
    /// A change is seen where there is none.
    Imagined,
}

const ALL: [Mistake; 5] = [
    Mistake::Value,
    Mistake::Object,
    Mistake::Function,
    Mistake::Missed,
    Mistake::Imagined,
];

/// Calls that are not the given ones: one to two mistakes per call, in an answer of a possible length. With one mistake
/// in all, a wrong answer of four calls would earn nearly full partial credit.
pub(super) fn mistaken(
    rng: &mut impl Rng,
    objects: &[Object],
    calls: &[Call],
    rules: &Rules,
) -> Vec<Call> {
    loop {
        let mut wrong = calls.to_vec();
        for _ in 0..rng.random_range(calls.len()..=2 * calls.len()) {
            mistake(rng, &mut wrong, objects.len(), rules);
        }
        wrong.sort_by_key(Call::order);
        if wrong != calls && is_possible(objects, &wrong) {
            return wrong;
        }
    }
}

/// Makes one mistake, unless the number of calls forbids it.
fn mistake(rng: &mut impl Rng, calls: &mut Vec<Call>, objects: usize, rules: &Rules) {
    let index = rng.random_range(0..calls.len());
    let Call { object, value } = calls[index];
    match pick(rng, &ALL) {
        Mistake::Value => calls[index].value = Value::draw(rng, value.function(), rules),
        Mistake::Object => calls[index].object = rng.random_range(0..objects),
        Mistake::Function => calls[index].value = Value::draw_any(rng, rules),
        Mistake::Missed if calls.len() > 1 => {
            calls.remove(index);
        }
        Mistake::Imagined if calls.len() < rules.calls => {
            let value = Value::draw_any(rng, rules);
            calls.push(Call { object, value });
        }
        Mistake::Missed | Mistake::Imagined => {}
    }
}

/// Whether every call changes something, and no two the same thing.
fn is_possible(objects: &[Object], calls: &[Call]) -> bool {
    let changes = |call: &Call| call.value.before(&objects[call.object]) != Some(call.value);
    calls.iter().all(changes) && calls.windows(2).all(|two| two[0].order() != two[1].order())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::super::family::Difficulty;
    use super::super::{change, scene};
    use super::*;

    #[test]
    fn mistaken_calls_are_possible_of_every_length_and_never_right() {
        for difficulty in Difficulty::ALL {
            let rules = Rules::of(difficulty);
            let (mut lengths, mut kept) = (HashSet::new(), [0; 3]);
            for seed in 0..600 {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                let objects = scene::draw(&mut rng, &rules, difficulty);
                let (calls, _) = change::draw(&mut rng, &objects, &rules);
                let wrong = mistaken(&mut rng, &objects, &calls, &rules);
                let words =
                    |calls: &[Call]| calls.iter().map(Call::to_string).collect::<HashSet<_>>();
                assert!(words(&calls) != words(&wrong) && words(&wrong).len() == wrong.len());
                assert!(
                    (1..=rules.calls).contains(&wrong.len()) && is_possible(&objects, &wrong),
                    "{wrong:?}"
                );
                lengths.insert(wrong.len().cmp(&calls.len()));
                if let ([right], [wrong]) = (calls.as_slice(), wrong.as_slice()) {
                    kept[0] += usize::from(right.object == wrong.object);
                    kept[1] += usize::from(right.value == wrong.value);
                    kept[2] += usize::from(right.value.function() != wrong.value.function());
                }
            }
            assert_eq!(lengths.len(), if rules.calls == 1 { 1 } else { 3 });
            assert!(
                kept.iter().all(|count| *count > 10),
                "object, value, neither: {kept:?}"
            );
        }
    }
}
