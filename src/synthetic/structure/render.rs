//! A figure -> pixels, in the style of a split. It knows no problem.

use std::f32::consts::{PI, TAU};

use tiny_skia::Pixmap;

use super::super::family::Split;
use super::super::picture::{Place, canvas, ellipse, fill, line, plain, polygon, stroke, veil};
use super::super::text::Lettering;
use super::labels::{Half, Labels};
use super::mark::{Mark, Point};
use super::style::Style;

/// How the figure lies on the paper.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pose {
    /// Radians, towards the left.
    pub turn: f32,
    /// Right and left are exchanged.
    pub mirrored: bool,
}

/// A figure on its way to the paper.
struct Sheet {
    /// Pixels per side.
    side: f32,
    style: &'static Style,
    lettering: Lettering,
    /// Paper around the letters, so that they can be read over a line.
    halo: Lettering,
    /// Thickness of lines.
    width: f32,
    /// Pixels per unit, and where the origin of the turned figure lies.
    scale: f32,
    origin: Place,
    pose: Pose,
    /// Where angles are marked.
    corners: Vec<Place>,
}

/// Draws the figure on `size` x `size` pixels.
pub(super) fn render(marks: &[Mark], pose: Pose, split: Split, size: u32) -> Pixmap {
    let style = Style::of(split);
    let mut sheet = Sheet::new(marks, pose, style, size as f32);
    let corner = |mark: &Mark| match mark {
        Mark::Angle { at, .. } => Some(sheet.place(*at)),
        _ => None,
    };
    sheet.corners = marks.iter().filter_map(corner).collect();
    let mut canvas = canvas(size, size, style.paper);
    draw_grid(&mut canvas, &sheet);
    let lines: Vec<Vec<Place>> = marks.iter().map(|mark| sheet.line(mark)).collect();
    for (mark, line) in marks.iter().zip(&lines) {
        draw_line(&mut canvas, &sheet, mark, line);
    }
    let mut labels = Labels::new(size as f32, &lines);
    for mark in marks {
        if let Mark::Angle { text, .. } | Mark::Length { text, .. } = mark {
            let half = sheet.half(text);
            let place = labels.put(half, &sheet.places_for_text(mark, half));
            sheet.halo.draw_centred(&mut canvas, text, place);
            sheet.lettering.draw_centred(&mut canvas, text, place);
        }
    }
    canvas
}

fn draw_grid(canvas: &mut Pixmap, sheet: &Sheet) {
    let Some(color) = sheet.style.grid else {
        return;
    };
    let side = sheet.side;
    for index in 1..12 {
        let at = index as f32 * side / 12.0;
        for ends in [[(at, 0.0), (at, side)], [(0.0, at), (side, at)]] {
            stroke(canvas, line(&ends), &plain(color), 0.5 * sheet.width);
        }
    }
}

fn draw_line(canvas: &mut Pixmap, sheet: &Sheet, mark: &Mark, places: &[Place]) {
    let (ink, width) = (plain(sheet.style.ink), sheet.width);
    if let Mark::Dot(point) = mark {
        let dot = ellipse(sheet.place(*point), 1.6 * width, 1.6 * width);
        return fill(canvas, dot, &ink);
    }
    let is_closed = matches!(mark, Mark::Polygon(_) | Mark::Circle(..));
    if let (true, Some(tint)) = (is_closed, sheet.style.tint) {
        fill(canvas, polygon(places), &veil(tint, 0.16));
    }
    let thin = matches!(
        mark,
        Mark::Angle { .. } | Mark::RightAngle { .. } | Mark::Tick(_)
    );
    stroke(
        canvas,
        line(places),
        &ink,
        if thin { 0.8 * width } else { width },
    );
}

impl Sheet {
    fn new(marks: &[Mark], pose: Pose, style: &'static Style, side: f32) -> Self {
        let height = (0.17 * side).min(12.0 + 0.055 * side);
        let places: Vec<Place> = marks
            .iter()
            .flat_map(outline)
            .map(|point| posed(point, pose))
            .collect();
        let of = |pick: fn(f32, f32) -> f32, part: fn(&Place) -> f32| {
            places.iter().map(part).reduce(pick).unwrap_or(0.0)
        };
        let (left, right) = (of(f32::min, |place| place.0), of(f32::max, |place| place.0));
        let (top, bottom) = (of(f32::min, |place| place.1), of(f32::max, |place| place.1));
        let room = side - 2.0 * height;
        let scale = room / (right - left).max(bottom - top).max(1e-3);
        let lettering = Lettering {
            typeface: style.typeface,
            height,
            weight: style.weight * height,
            slant: style.slant,
            color: style.text,
        };
        Self {
            side,
            style,
            halo: Lettering {
                weight: lettering.weight + 0.2 * height,
                color: style.paper,
                ..lettering
            },
            lettering,
            width: (0.01 * style.width * side).max(0.8 * style.width),
            scale,
            origin: (
                0.5 * (side - scale * (left + right)),
                0.5 * (side - scale * (top + bottom)),
            ),
            pose,
            corners: Vec::new(),
        }
    }

    fn place(&self, point: Point) -> Place {
        let (x, y) = posed(point, self.pose);
        (
            self.origin.0 + self.scale * x,
            self.origin.1 + self.scale * y,
        )
    }

    /// Half of the text's width and height.
    fn half(&self, text: &str) -> Half {
        (
            0.5 * self.lettering.width(text),
            0.5 * self.lettering.digit_height(),
        )
    }

    /// Unit vectors from a corner towards its sides' ends.
    fn directions(&self, at: Point, sides: [Point; 2]) -> [Place; 2] {
        let corner = self.place(at);
        sides.map(|side| unit(corner, self.place(side)))
    }

    /// The middle of a line, and its direction.
    fn middle(&self, [from, to]: [Point; 2]) -> (Place, Place) {
        let (from, to) = (self.place(from), self.place(to));
        let middle = (0.5 * (from.0 + to.0), 0.5 * (from.1 + to.1));
        (middle, unit(from, to))
    }

    /// The mark as places joined by a line; none for marks of other kinds.
    fn line(&self, mark: &Mark) -> Vec<Place> {
        let height = self.lettering.height;
        match mark {
            Mark::Polygon(points) => {
                let closed = points.iter().chain(points.first());
                closed.map(|point| self.place(*point)).collect()
            }
            Mark::Line(points) => points.iter().map(|point| self.place(*point)).collect(),
            Mark::Circle(..) => outline(mark)
                .into_iter()
                .map(|point| self.place(point))
                .collect(),
            Mark::Angle { at, sides, .. } => self.arc(*at, *sides),
            Mark::RightAngle { at, sides } => {
                let (corner, [first, second]) = (self.place(*at), self.directions(*at, *sides));
                let step = |from: Place, way: Place| moved(from, way, 0.42 * height);
                let (a, b) = (step(corner, first), step(corner, second));
                vec![a, step(a, second), b]
            }
            Mark::Tick(ends) => {
                let (middle, (x, y)) = self.middle(*ends);
                let end = |side: f32| moved(middle, (-y, x), side * 0.3 * height);
                vec![end(-1.0), end(1.0)]
            }
            Mark::Arrow(ends) => {
                let (tip, (x, y)) = self.middle(*ends);
                let end = |side: f32| moved(tip, (-x - side * y, -y + side * x), 0.35 * height);
                vec![end(0.7), tip, end(-0.7)]
            }
            Mark::Dot(_) | Mark::Length { .. } => Vec::new(),
        }
    }

    /// An arc around a corner.
    fn arc(&self, at: Point, sides: [Point; 2]) -> Vec<Place> {
        let (corner, [first, second]) = (self.place(at), self.directions(at, sides));
        let start = first.1.atan2(first.0);
        let mut turn = second.1.atan2(second.0) - start;
        if turn.abs() > PI {
            turn -= TAU * turn.signum();
        }
        let radius = 0.62 * self.lettering.height;
        let on = |step: u8| {
            let (sine, cosine) = (start + turn * f32::from(step) / 16.0).sin_cos();
            moved(corner, (cosine, sine), radius)
        };
        (0..=16).map(on).collect()
    }

    /// Where the text of a mark may stand, better places first.
    fn places_for_text(&self, mark: &Mark, half: Half) -> Vec<Place> {
        match mark {
            Mark::Angle { at, sides, .. } => self.places_at_angle(*at, *sides, half),
            Mark::Length {
                ends, away_from, ..
            } => self.places_at_line(*ends, *away_from, half),
            _ => Vec::new(),
        }
    }

    /// Between the sides, farther and farther from the corner but closer to it than to others; then behind it.
    fn places_at_angle(&self, at: Point, sides: [Point; 2], half: Half) -> Vec<Place> {
        let (corner, [first, second]) = (self.place(at), self.directions(at, sides));
        let way = unit((0.0, 0.0), (first.0 + second.0, first.1 + second.1));
        let (height, reach) = (self.lettering.height, reach(half, way));
        let nearest = 0.7 * height + reach;
        let is_own = |far: &f32| {
            let place = moved(corner, way, *far);
            let mut others = self
                .corners
                .iter()
                .filter(|other| distance(corner, **other) > 1.0);
            others.all(|other| distance(place, *other) > 1.1 * far)
        };
        let inside = (0..14).map(|step| nearest + 0.12 * height * step as f32);
        let behind = (0..6).map(|step| -reach - height * (0.25 + 0.12 * step as f32));
        let distances = inside.filter(is_own).chain(behind);
        distances.map(|far| moved(corner, way, far)).collect()
    }

    /// Beside the middle of the line, or a little along it; then on its other side.
    fn places_at_line(&self, ends: [Point; 2], away_from: Point, half: Half) -> Vec<Place> {
        let (middle, along) = self.middle(ends);
        let away = unit(middle, self.place(away_from));
        let mut normal = (-along.1, along.0);
        if away.0 * normal.0 + away.1 * normal.1 > 0.0 {
            normal = (-normal.0, -normal.1);
        }
        let height = self.lettering.height;
        let far = reach(half, normal) + 0.22 * height;
        let at =
            |side: f32, shift: f32| moved(moved(middle, normal, side * far), along, shift * height);
        let beside = [1.0, -1.0].map(|side| [0.0, 0.6, -0.6].map(|shift| at(side, shift)));
        beside.concat()
    }
}

/// How far a text reaches in a direction.
fn reach((across, down): Half, (right, bottom): Place) -> f32 {
    across * right.abs() + down * bottom.abs()
}

/// The points that must fit on the paper.
fn outline(mark: &Mark) -> Vec<Point> {
    match mark {
        Mark::Polygon(points) | Mark::Line(points) => points.clone(),
        Mark::Circle((x, y), radius) => {
            let on = |step: u8| {
                let (sine, cosine) = (TAU * f32::from(step) / 64.0).sin_cos();
                (x + radius * cosine, y + radius * sine)
            };
            (0..=64).map(on).collect()
        }
        _ => Vec::new(),
    }
}

/// Turned, mirrored, and with down in place of up.
fn posed((x, y): Point, pose: Pose) -> Place {
    let x = if pose.mirrored { -x } else { x };
    let (sine, cosine) = pose.turn.sin_cos();
    (x * cosine - y * sine, -(x * sine + y * cosine))
}

fn moved((x, y): Place, (right, down): Place, distance: f32) -> Place {
    (x + distance * right, y + distance * down)
}

fn distance(from: Place, to: Place) -> f32 {
    (to.0 - from.0).hypot(to.1 - from.1)
}

/// The direction from one place to another, of length 1.
fn unit(from: Place, to: Place) -> Place {
    let length = distance(from, to).max(1e-6);
    ((to.0 - from.0) / length, (to.1 - from.1) / length)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::super::family::Difficulty;
    use super::super::kind::Kind;
    use super::super::mark::length;
    use super::*;

    const UPRIGHT: Pose = Pose {
        turn: 0.0,
        mirrored: false,
    };

    #[test]
    fn figures_and_their_texts_stay_inside_the_picture() {
        for (split, difficulty, size) in [
            (Split::Train, Difficulty::Easy, 84),
            (Split::TestOod, Difficulty::Easy, 84),
            (Split::Train, Difficulty::Full, 224),
            (Split::TestOod, Difficulty::Full, 224),
        ] {
            for kind in Kind::of(split, difficulty) {
                for seed in 0..10 {
                    let mut rng = ChaCha8Rng::seed_from_u64(seed);
                    let marks = kind.figure(&kind.values(&mut rng, difficulty));
                    let turn = 0.05 * seed as f32;
                    let picture = render(
                        &marks,
                        Pose {
                            turn,
                            mirrored: seed % 2 == 0,
                        },
                        split,
                        size,
                    );
                    let text = Style::of(split).text;
                    let is_text = |x: u32, y: u32| {
                        let pixel = picture.pixel(x, y).unwrap();
                        [pixel.red(), pixel.green(), pixel.blue()] == text
                    };
                    let edge = |at: u32| [(at, 0), (at, size - 1), (0, at), (size - 1, at)];
                    assert!(
                        !(0..size).flat_map(edge).any(|(x, y)| is_text(x, y)),
                        "{kind:?} {seed}"
                    );
                }
            }
        }
    }

    #[test]
    fn other_numbers_look_different() {
        let picture = |values: &[u32]| {
            render(
                &Kind::RectangleArea.figure(values),
                UPRIGHT,
                Split::Train,
                84,
            )
        };
        let [first, second] = [[6, 3], [8, 4]].map(|values| picture(&values));
        let differ = first
            .pixels()
            .iter()
            .zip(second.pixels())
            .filter(|(a, b)| a != b)
            .count();
        assert!(
            (10..400).contains(&differ),
            "the same rectangle with other labels: {differ}"
        );
    }

    #[test]
    fn mirrored_figures_keep_their_texts_readable() {
        let corners = vec![(-1.0, 0.0), (1.0, 0.0), (1.0, 2.0), (-1.0, 2.0)];
        let bottom = length([corners[0], corners[1]], corners[2], 74);
        let marks = [Mark::Polygon(corners), bottom];
        let plain = render(&marks, UPRIGHT, Split::Train, 84);
        let mirrored = render(
            &marks,
            Pose {
                mirrored: true,
                ..UPRIGHT
            },
            Split::Train,
            84,
        );
        let differ = plain
            .pixels()
            .iter()
            .zip(mirrored.pixels())
            .filter(|(a, b)| a != b)
            .count();
        assert!(differ < 40, "a square is its own mirror image: {differ}");
    }
}
