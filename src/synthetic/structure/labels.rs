//! Where texts stand so that they cover neither lines nor each other. It draws nothing.

use super::super::picture::Place;

/// Half of a text's width and height.
pub(super) type Half = (f32, f32);

/// What a place costs by its rank, per pixel of a line that it covers, for covering a text, and per pixel outside.
const RANK: f32 = 0.6;
const LINE: f32 = 1.0;
const TEXT: f32 = 60.0;
const OUTSIDE: f32 = 20.0;

/// Lines and texts of a picture so far.
pub(super) struct Labels {
    side: f32,
    /// A point for every pixel of every line.
    points: Vec<Place>,
    texts: Vec<(Place, Half)>,
}

impl Labels {
    pub(super) fn new(side: f32, lines: &[Vec<Place>]) -> Self {
        let points = lines
            .iter()
            .flat_map(|line| line.windows(2).flat_map(points_between));
        Self {
            side,
            points: points.collect(),
            texts: Vec::new(),
        }
    }

    /// Takes the best of the places, of which earlier ones are preferred, for a text.
    pub(super) fn put(&mut self, half: Half, places: &[Place]) -> Place {
        let cost =
            |(rank, place): (usize, &Place)| (self.cost(*place, half) + RANK * rank as f32, *place);
        let best = places
            .iter()
            .enumerate()
            .map(cost)
            .min_by(|a, b| a.0.total_cmp(&b.0));
        let (_, place) = best.expect("every text has places to choose from");
        self.texts.push((place, half));
        place
    }

    fn cost(&self, (x, y): Place, (across, down): Half) -> f32 {
        let covers =
            |point: &&Place| (point.0 - x).abs() < across + 1.0 && (point.1 - y).abs() < down + 1.0;
        let touches = |((left, top), (wide, high)): &&(Place, Half)| {
            (left - x).abs() < across + wide + 2.0 && (top - y).abs() < down + high + 2.0
        };
        let lines = self.points.iter().filter(covers).count() as f32;
        let texts = self.texts.iter().filter(touches).count() as f32;
        let beyond = |middle: f32, half: f32| {
            (half + 1.0 - middle)
                .max(middle + half + 1.0 - self.side)
                .max(0.0)
        };
        LINE * lines + TEXT * texts + OUTSIDE * (beyond(x, across) + beyond(y, down))
    }
}

fn points_between(ends: &[Place]) -> impl Iterator<Item = Place> + use<> {
    let ((x, y), (to_x, to_y)) = (ends[0], ends[1]);
    let steps = (to_x - x).hypot(to_y - y).ceil().max(1.0) as usize;
    (0..steps).map(move |step| {
        let share = step as f32 / steps as f32;
        (x + share * (to_x - x), y + share * (to_y - y))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_keep_off_lines_texts_and_the_border() {
        let line = vec![(0.0, 50.0), (100.0, 50.0)];
        let mut labels = Labels::new(100.0, &[line]);
        let places = [(50.0, 50.0), (50.0, -5.0), (50.0, 30.0), (80.0, 30.0)];
        assert_eq!(
            labels.put((10.0, 5.0), &places),
            (50.0, 30.0),
            "off the line"
        );
        assert_eq!(
            labels.put((10.0, 5.0), &places),
            (80.0, 30.0),
            "off the first text"
        );
        let mut free = Labels::new(100.0, &[]);
        assert_eq!(
            free.put((10.0, 5.0), &places),
            (50.0, 50.0),
            "the first of good places"
        );
    }
}
