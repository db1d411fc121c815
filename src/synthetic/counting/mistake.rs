//! What a careless observer takes a scene for, and how the count then goes wrong. It knows no wording.

use rand::Rng;
use rand::seq::{IndexedMutRandom, IndexedRandom, SliceRandom};

use super::super::attributes::Size;
use super::question::Question;
use super::scene::{Object, SIZES, Scene, Vocabulary};

/// The share of wrong answers that miss by one; the others miss by two.
const OFF_BY_ONE: f64 = 0.8;

/// How often a misperceived attribute is looked for that changes the answer.
const TRIES: usize = 20;

/// Seen objects and a wrong answer: objects are missed or imagined, an attribute is misperceived, or the count slips.
pub(super) fn mistaken(
    rng: &mut impl Rng,
    question: &Question,
    objects: &[Object],
    vocabulary: Vocabulary,
) -> (Vec<Object>, usize) {
    let truth = question.answer(objects);
    let missed = |rng: &mut _| {
        let seen = misperceive(rng, question, objects, vocabulary);
        let answer = question.answer(&seen);
        (seen, answer)
    };
    let (seen, answer) = match rng.random_range(0..3) {
        0 => missed(rng),
        1 => confused(rng, question, objects, vocabulary).unwrap_or_else(|| missed(rng)),
        _ => (objects.to_vec(), slip(rng, truth)),
    };
    if answer == truth {
        // Two removals may leave nothing that an imagined object could add.
        return (objects.to_vec(), slip(rng, truth));
    }
    (seen, answer)
}

/// The scene with one or more cells misread, until the answer is another: an object missed, recoloured or imagined in an
/// empty cell.
pub(super) fn misread(
    rng: &mut impl Rng,
    question: &Question,
    scene: &Scene,
    vocabulary: Vocabulary,
) -> Vec<Object> {
    let truth = question.answer(&scene.objects);
    let mut seen = scene.objects.clone();
    while question.answer(&seen) == truth {
        let cell = rng.random_range(0..scene.grid * scene.grid);
        let color = vocabulary.colors[rng.random_range(0..vocabulary.colors.len())];
        match seen
            .iter()
            .position(|object| object.cell(scene.grid) == cell)
        {
            Some(index) if rng.random_bool(0.5) => {
                seen.remove(index);
            }
            Some(index) => seen[index].color = color,
            None => seen.push(Object {
                color,
                x: (cell % scene.grid) as f32 + 0.5,
                y: (cell / scene.grid) as f32 + 0.5,
                ..imagined(rng, &scene.objects, vocabulary)
            }),
        }
    }
    seen.sort_by_key(|object| object.cell(scene.grid));
    seen
}

/// One more or one less.
fn slip(rng: &mut impl Rng, truth: usize) -> usize {
    if truth > 0 && rng.random_bool(0.5) {
        truth - 1
    } else {
        truth + 1
    }
}

/// The objects with one attribute misperceived, where that changes the answer.
fn confused(
    rng: &mut impl Rng,
    question: &Question,
    objects: &[Object],
    vocabulary: Vocabulary,
) -> Option<(Vec<Object>, usize)> {
    let truth = question.answer(objects);
    (0..TRIES).find_map(|_| {
        let mut seen = objects.to_vec();
        let object = seen.choose_mut(rng)?;
        match rng.random_range(0..4) {
            0 => object.color = *vocabulary.colors.choose(rng)?,
            1 => object.shape = *vocabulary.shapes.choose(rng)?,
            2 => object.size = *SIZES.choose(rng)?,
            _ => object.material = vocabulary.materials.choose(rng).copied(),
        }
        let answer = question.answer(&seen);
        (answer != truth).then_some((seen, answer))
    })
}

/// The objects as a careless eye takes them: one or two of those that count are missed, or seen where none are.
pub(super) fn misperceive(
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
        material: vocabulary.materials.first().copied(),
        x: 0.0,
        y: 0.0,
        angle: 0.0,
    })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::super::family::{Difficulty, Renderer, Split};
    use super::super::question::tests::all_kinds;
    use super::super::scene::tests::scene;
    use super::*;

    #[test]
    fn every_mistake_is_wrong_by_little() {
        let mut kinds = [0; 3];
        for (renderer, split, difficulty) in all_kinds() {
            let vocabulary = Vocabulary::of(renderer, split, difficulty);
            for seed in 0..300 {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                let objects = scene(seed, renderer, split, difficulty).objects;
                let question =
                    Question::draw(&mut rng, &objects, vocabulary, (renderer, difficulty));
                let (seen, answer) = mistaken(&mut rng, &question, &objects, vocabulary);
                let miss = answer.abs_diff(question.answer(&objects));
                assert!((1..=2).contains(&miss), "{question:?} {objects:?} {answer}");
                kinds[if seen.len() != objects.len() {
                    0
                } else {
                    1 + usize::from(seen == objects)
                }] += 1;
            }
        }
        assert!(kinds.iter().all(|count| *count > 300), "{kinds:?}");
    }

    #[test]
    fn what_is_misread_is_wrong_and_stands_in_cells_of_its_own() {
        let vocabulary = Vocabulary::of(Renderer::Grid, Split::Train, Difficulty::Easy);
        for seed in 0..300 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let scene = scene(seed, Renderer::Grid, Split::Train, Difficulty::Easy);
            let kind = (Renderer::Grid, Difficulty::Easy);
            let question = Question::draw(&mut rng, &scene.objects, vocabulary, kind);
            let seen = misread(&mut rng, &question, &scene, vocabulary);
            assert_ne!(question.answer(&seen), question.answer(&scene.objects));
            let cells: Vec<usize> = seen.iter().map(|object| object.cell(scene.grid)).collect();
            assert!(cells.windows(2).all(|pair| pair[0] < pair[1]), "{cells:?}");
        }
    }

    #[test]
    fn what_is_missed_or_imagined_misses_by_one_or_two() {
        for difficulty in Difficulty::ALL {
            let vocabulary = Vocabulary::of(Renderer::Flat, Split::Train, difficulty);
            let miss = |seed| {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                let objects = scene(seed, Renderer::Flat, Split::Train, difficulty).objects;
                let question =
                    Question::draw(&mut rng, &objects, vocabulary, (Renderer::Flat, difficulty));
                let seen = misperceive(&mut rng, &question, &objects, vocabulary);
                question.answer(&seen).abs_diff(question.answer(&objects))
            };
            let misses: Vec<usize> = (0..2000).map(miss).collect();
            let by_one = misses.iter().filter(|miss| **miss == 1).count();
            assert!(misses.iter().all(|miss| (1..=2).contains(miss)));
            assert!((1500..1700).contains(&by_one), "{by_one}");
        }
    }
}
