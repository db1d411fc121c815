//! A camera above the ground, the light, and the ground itself. It knows no object.

use tiny_skia::Pixmap;

use super::picture::{Place, fill, mix, plain, polygon, stroke};

/// Right, away from the central camera, up; in units of the scene.
pub(crate) type Spot = [f32; 3];

/// Towards the light, in the frame of the scene: from the left, the front and above.
pub(crate) const LIGHT: Spot = [-0.45, -0.5, 0.74];

/// Looks down on the scene from afar, without perspective.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Camera {
    /// Where it stands around the scene in radians: 0 in front, positive to the left of it.
    pub yaw: f32,
    /// Angle in radians by which it looks down.
    pub pitch: f32,
    /// Pixels per unit of the scene.
    pub scale: f32,
    /// Where the scene's origin appears.
    pub origin: Place,
}

impl Camera {
    /// Right and away along the ground as this camera sees it.
    fn turned(&self, [x, y, _]: Spot) -> (f32, f32) {
        let (sine, cosine) = self.yaw.sin_cos();
        (x * cosine - y * sine, x * sine + y * cosine)
    }

    /// Where a spot appears.
    pub(crate) fn project(&self, spot: Spot) -> Place {
        let (right, away) = self.turned(spot);
        let (sine, cosine) = self.pitch.sin_cos();
        let up = away * sine + spot[2] * cosine;
        (
            self.origin.0 + self.scale * right,
            self.origin.1 - self.scale * up,
        )
    }

    /// Larger for spots that others may hide.
    pub(crate) fn depth(&self, x: f32, y: f32) -> f32 {
        self.turned([x, y, 0.0]).1
    }

    /// Whether a side with this outward direction can be seen.
    pub(crate) fn sees(&self, outward: Spot) -> bool {
        self.turned(outward).1 < 0.0
    }

    /// Thickness of outlines in pixels.
    pub(crate) fn rim(&self) -> f32 {
        (0.035 * self.scale).max(0.7)
    }

    /// The direction of the light on the picture: right, down.
    pub(crate) fn light(&self) -> (f32, f32) {
        let ((right, away), (sine, cosine)) = (self.turned(LIGHT), self.pitch.sin_cos());
        (right, -(away * sine + LIGHT[2] * cosine))
    }
}

/// The ground: a mat with a lighter edge, so that a turn of the camera can be seen.
pub(crate) fn draw_ground(canvas: &mut Pixmap, camera: &Camera, half: f32) {
    let corners = |half: f32| {
        let ends = [(-half, -half), (half, -half), (half, half), (-half, half)];
        polygon(&ends.map(|(x, y)| camera.project([x, y, 0.0])))
    };
    fill(canvas, corners(half), &plain([222, 220, 212]));
    stroke(
        canvas,
        corners(half),
        &plain(mix([222, 220, 212], [90, 90, 100], 0.45)),
        camera.rim(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const AHEAD: Camera = Camera {
        yaw: 0.0,
        pitch: 0.9,
        scale: 10.0,
        origin: (50.0, 50.0),
    };
    const LEFT: Camera = Camera {
        yaw: std::f32::consts::FRAC_PI_2,
        ..AHEAD
    };

    #[test]
    fn what_is_right_far_or_high_appears_right_or_up() {
        let origin = AHEAD.project([0.0; 3]);
        assert_eq!(origin, (50.0, 50.0));
        assert_eq!(AHEAD.project([1.0, 0.0, 0.0]), (60.0, 50.0));
        let (far, high) = (
            AHEAD.project([0.0, 1.0, 0.0]),
            AHEAD.project([0.0, 0.0, 1.0]),
        );
        assert!(far.0 == 50.0 && far.1 < 50.0 && high.0 == 50.0 && high.1 < 50.0);
        assert!(AHEAD.depth(0.0, 1.0) > AHEAD.depth(0.0, -1.0));
    }

    #[test]
    fn from_the_left_the_right_is_far_and_the_front_is_right() {
        assert!(LEFT.depth(1.0, 0.0) > LEFT.depth(-1.0, 0.0));
        assert!(LEFT.project([0.0, -1.0, 0.0]).0 > 55.0);
        assert!(LEFT.sees([-1.0, 0.0, 0.0]) && !LEFT.sees([1.0, 0.0, 0.0]));
        assert!(AHEAD.sees([0.0, -1.0, 0.0]) && !AHEAD.sees([0.0, 1.0, 0.0]));
    }

    #[test]
    fn the_light_comes_from_the_upper_left() {
        let (right, down) = AHEAD.light();
        assert!(right < 0.0 && down < 0.0);
    }
}
