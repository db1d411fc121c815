//! The four choices of a problem. It knows no diagram.

use rand::Rng;
use rand::seq::SliceRandom;

use super::kind::number;

/// The letters of the choices.
const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

/// Four numbers in rising order, and which of them is right.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choices {
    pub numbers: [f64; 4],
    pub right: usize,
}

impl Choices {
    /// Draws wrong numbers around the right one, at multiples of a step; the right one takes every place alike where
    /// there is room below it.
    pub(super) fn draw(rng: &mut impl Rng, right: f64, step: f64) -> Self {
        let mut below: Vec<f64> = (1..=5)
            .map(|n| right - f64::from(n) * step)
            .filter(|n| *n > 0.0)
            .collect();
        let mut above: Vec<f64> = (1..=5).map(|n| right + f64::from(n) * step).collect();
        below.shuffle(rng);
        above.shuffle(rng);
        let place = rng.random_range(0..4).min(below.len());
        let mut numbers: Vec<f64> = below.into_iter().take(place).collect();
        numbers.extend(above.into_iter().take(3 - place));
        numbers.push(right);
        numbers.sort_by(f64::total_cmp);
        Self {
            numbers: [numbers[0], numbers[1], numbers[2], numbers[3]],
            right: place,
        }
    }

    /// `Choices: A. 50 B. 60 C. 70 D. 80`.
    pub(super) fn text(&self) -> String {
        let choice = |(letter, value): (&str, &f64)| format!("{letter}. {}", number(*value));
        let all: Vec<String> = LETTERS.into_iter().zip(&self.numbers).map(choice).collect();
        format!("Choices: {}", all.join(" "))
    }

    /// The choice nearest to a number.
    pub(super) fn nearest(&self, value: f64) -> usize {
        let distance = |index: &usize| (self.numbers[*index] - value).abs();
        let nearest = (0..4).min_by(|a, b| distance(a).total_cmp(&distance(b)));
        nearest.unwrap_or(self.right)
    }

    pub(super) const fn letter(choice: usize) -> &'static str {
        LETTERS[choice]
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn choices_rise_and_the_right_one_takes_every_place() {
        let mut places = [0; 4];
        for seed in 0..400 {
            let choices = Choices::draw(&mut ChaCha8Rng::seed_from_u64(seed), 70.0, 10.0);
            assert!(
                choices.numbers.windows(2).all(|two| two[0] < two[1]) && choices.numbers[0] > 0.0
            );
            assert_eq!(choices.numbers[choices.right], 70.0);
            places[choices.right] += 1;
        }
        assert!(places.iter().all(|count| *count > 70), "{places:?}");
    }

    #[test]
    fn small_numbers_have_no_choices_below_zero() {
        for seed in 0..50 {
            let choices = Choices::draw(&mut ChaCha8Rng::seed_from_u64(seed), 2.0, 1.5);
            assert!(
                choices.numbers[0] > 0.0 && choices.right <= 1,
                "{choices:?}"
            );
        }
    }

    #[test]
    fn text_and_letters() {
        let choices = Choices {
            numbers: [12.56, 50.0, 60.0, 70.5],
            right: 1,
        };
        assert_eq!(choices.text(), "Choices: A. 12.56 B. 50 C. 60 D. 70.5");
        assert_eq!(
            [13.0, 56.0, 1000.0].map(|value| Choices::letter(choices.nearest(value))),
            ["A", "C", "D"]
        );
    }
}
