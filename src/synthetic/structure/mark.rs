//! The things of which a diagram consists. It knows no problem and no pixel.

/// Right, up; in units of the figure.
pub(super) type Point = (f32, f32);

/// One thing to draw.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Mark {
    /// A closed figure.
    Polygon(Vec<Point>),
    /// A line from point to point.
    Line(Vec<Point>),
    /// Around a point with a radius.
    Circle(Point, f32),
    Dot(Point),
    /// A small arc from one side to another, with its text.
    Angle {
        at: Point,
        sides: [Point; 2],
        text: String,
    },
    /// A small square between two perpendicular sides.
    RightAngle {
        at: Point,
        sides: [Point; 2],
    },
    /// Text beside the middle of a line, on the side away from a point.
    Length {
        ends: [Point; 2],
        away_from: Point,
        text: String,
    },
    /// A small stroke across a line: equal to others that have one.
    Tick([Point; 2]),
    /// A small arrow head on a line: parallel to others that have one.
    Arrow([Point; 2]),
}

/// The text at what is asked for.
pub(super) const UNKNOWN: &str = "x";

/// The text at a known angle.
pub(super) fn degrees(value: u32) -> String {
    format!("{value}°")
}

pub(super) fn angle(at: Point, sides: [Point; 2], text: impl Into<String>) -> Mark {
    let text = text.into();
    Mark::Angle { at, sides, text }
}

pub(super) fn length(ends: [Point; 2], away_from: Point, value: u32) -> Mark {
    let text = value.to_string();
    Mark::Length {
        ends,
        away_from,
        text,
    }
}

/// The point in a direction, in degrees from the right towards up, at a distance.
pub(super) fn polar(from: Point, direction: f32, distance: f32) -> Point {
    let (sine, cosine) = direction.to_radians().sin_cos();
    (from.0 + distance * cosine, from.1 + distance * sine)
}

/// Where a line from one point meets a line from another; directions in degrees.
pub(super) fn meet((a, alpha): (Point, f32), (b, beta): (Point, f32)) -> Point {
    let ((ay, ax), (by, bx)) = (alpha.to_radians().sin_cos(), beta.to_radians().sin_cos());
    let across = ax * by - ay * bx;
    let distance = ((b.0 - a.0) * by - (b.1 - a.1) * bx) / across;
    (a.0 + distance * ax, a.1 + distance * ay)
}

/// A triangle on a base of length 1 with these angles at its ends.
pub(super) fn triangle(left: f32, right: f32) -> [Point; 3] {
    let (a, b) = ((0.0, 0.0), (1.0, 0.0));
    [a, b, meet((a, left), (b, 180.0 - right))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: Point, b: Point) -> bool {
        (a.0 - b.0).hypot(a.1 - b.1) < 1e-4
    }

    #[test]
    fn points_by_hand() {
        assert!(near(polar((1.0, 1.0), 90.0, 2.0), (1.0, 3.0)));
        assert!(near(
            meet(((0.0, 0.0), 45.0), ((2.0, 0.0), 135.0)),
            (1.0, 1.0)
        ));
        let [a, b, c] = triangle(60.0, 60.0);
        assert!(near(a, (0.0, 0.0)) && near(b, (1.0, 0.0)) && near(c, (0.5, 0.866_03)));
    }
}
