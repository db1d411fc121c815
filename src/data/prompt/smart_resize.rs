//! The size a picture is resized to before it is cut into patches.
//!
//! Knows nothing of pixels, files or models: it maps two numbers to two numbers.

use crate::picture::ImageProblem;

/// The longer side may be at most this many times the shorter one.
const MAX_ASPECT_RATIO: f64 = 200.0;

/// What a resized picture has to obey, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ResizeLimits {
    /// Both sides become multiples of this: patch size times merge size.
    pub(super) factor: usize,
    /// Least area.
    pub(super) min_pixels: usize,
    /// Largest area.
    pub(super) max_pixels: usize,
}

/// Height and width that a `height` x `width` picture is resized to: multiples of the factor, area within the limits,
/// aspect ratio kept as well as that allows.
///
/// Source: `smart_resize` of transformers' `image_processing_qwen2_vl.py`. Halves round to the even neighbour, as
/// Python's `round` does, and the floating-point operations keep its order, so that the table agrees exactly.
///
/// # Errors
/// [`ImageProblem::ZeroSize`] without pixels, [`ImageProblem::AspectRatio`] beyond 200 : 1.
pub(super) fn smart_resize(
    height: usize,
    width: usize,
    limits: &ResizeLimits,
) -> Result<(usize, usize), ImageProblem> {
    check_shape(height, width)?;
    let (h, w, factor) = (height as f64, width as f64, limits.factor as f64);
    let nearest = |side: f64| (side / factor).round_ties_even() * factor;
    let area = nearest(h) * nearest(w);
    let (min_pixels, max_pixels) = (limits.min_pixels as f64, limits.max_pixels as f64);
    let (resized_height, resized_width) = if area > max_pixels {
        let shrink = (h * w / max_pixels).sqrt();
        let fit = |side: f64| ((side / shrink / factor).floor() * factor).max(factor);
        (fit(h), fit(w))
    } else if area < min_pixels {
        let grow = (min_pixels / (h * w)).sqrt();
        let fit = |side: f64| (side * grow / factor).ceil() * factor;
        (fit(h), fit(w))
    } else {
        (nearest(h), nearest(w))
    };
    Ok((resized_height as usize, resized_width as usize))
}

/// Refuses pictures that no limits could make usable.
///
/// # Errors
/// See [`smart_resize`].
pub(super) fn check_shape(height: usize, width: usize) -> Result<(), ImageProblem> {
    if height == 0 || width == 0 {
        return Err(ImageProblem::ZeroSize { width, height });
    }
    let (longer, shorter) = (height.max(width), height.min(width));
    if longer as f64 / shorter as f64 > MAX_ASPECT_RATIO {
        return Err(ImageProblem::AspectRatio { width, height });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::prompt::golden;

    fn row(value: &serde_json::Value) -> Vec<usize> {
        let entries = value.as_array().expect("a list");
        entries
            .iter()
            .map(|entry| entry.as_u64().expect("a number") as usize)
            .collect()
    }

    #[test]
    fn sizes_match_the_recorded_table() {
        let table = golden::json("golden-smart-resize.json");
        let cases = table["cases"].as_array().expect("cases");
        assert!(cases.len() > 100, "the table is whole");
        for case in cases.iter().map(row) {
            let limits = ResizeLimits {
                factor: case[2],
                min_pixels: case[3],
                max_pixels: case[4],
            };
            let resized = smart_resize(case[0], case[1], &limits).expect("a usable shape");
            assert_eq!(resized, (case[5], case[6]), "{case:?}");
        }
    }

    #[test]
    fn slivers_are_refused_with_their_size() {
        let table = golden::json("golden-smart-resize.json");
        let limits = ResizeLimits {
            factor: 28,
            min_pixels: 3136,
            max_pixels: 12544,
        };
        for case in table["errors"].as_array().expect("errors").iter().map(row) {
            let error = smart_resize(case[0], case[1], &limits).expect_err("beyond 200 : 1");
            let text = error.to_string();
            assert!(
                text.contains(&format!("{} x {} pixels", case[1], case[0])),
                "{text}"
            );
            assert!(text.contains("at most 200 times"), "{text}");
            assert!(text.contains("hint: crop or pad"), "{text}");
        }
    }

    #[test]
    fn no_pixels_are_refused() {
        let limits = ResizeLimits {
            factor: 28,
            min_pixels: 3136,
            max_pixels: 12544,
        };
        let error = smart_resize(0, 7, &limits).expect_err("no rows");
        assert!(error.to_string().contains("7 x 0 pixels"), "{error}");
    }
}
