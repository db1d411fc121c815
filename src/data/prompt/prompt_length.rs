//! Refuses prompts that are too long, and computes the settings under which they would fit.
//!
//! Knows nothing of tokens or pixels; it counts. Nothing is ever cut: half a picture is worse than none.

use super::PromptOptions;
use super::error::PromptError;
use super::image_settings::ImageSettings;
use super::smart_resize::{ResizeLimits, smart_resize};
use crate::picture::ImageProblem;

/// What a prompt is made of, before any picture is decoded.
#[derive(Debug)]
pub(super) struct PromptSize<'a> {
    /// Tokens besides the pictures'.
    pub(super) text_tokens: usize,
    /// Height and width of each picture as stored.
    pub(super) images: &'a [(usize, usize)],
}

/// Frames, rows and columns of merged patches that a picture of this size becomes.
///
/// # Errors
/// What [`smart_resize`] refuses.
pub(super) fn merged_grid(
    (height, width): (usize, usize),
    settings: &ImageSettings,
    max_pixels: usize,
) -> Result<[usize; 3], ImageProblem> {
    let factor = settings.factor();
    let limits = ResizeLimits {
        factor,
        min_pixels: settings.min_pixels,
        max_pixels,
    };
    let (height, width) = smart_resize(height, width, &limits)?;
    Ok([1, height / factor, width / factor])
}

/// Tokens of the whole prompt, if it fits.
///
/// # Errors
/// [`PromptError::PromptTooLong`] for the tighter of the two limits.
pub(super) fn check_length(
    id: &str,
    size: &PromptSize<'_>,
    settings: &ImageSettings,
    options: &PromptOptions,
) -> Result<usize, PromptError> {
    let image_tokens = count_tokens(size.images, settings, settings.max_pixels);
    let tokens = size.text_tokens + image_tokens;
    let own = options
        .max_prompt_length
        .map(|limit| (format!("max_prompt_length {limit}"), limit));
    let tightest = own
        .into_iter()
        .chain(context(options))
        .min_by_key(|(_, limit)| *limit);
    match tightest {
        Some((shown, limit)) if tokens > limit => Err(PromptError::PromptTooLong {
            id: id.to_owned(),
            tokens,
            image_tokens,
            limit: shown,
            hint: hint(size, settings, options, tokens, limit),
        }),
        _ => Ok(tokens),
    }
}

/// What the model's context leaves for the prompt: in words and in tokens.
fn context(options: &PromptOptions) -> Option<(String, usize)> {
    let (context, completion) = (options.context_length?, options.max_completion_length);
    if completion == 0 {
        return Some((format!("the context length {context}"), context));
    }
    let room = context.saturating_sub(completion);
    let shown = format!(
        "the {room} that the context length {context} leaves beside max_completion_length {completion}"
    );
    Some((shown, room))
}

fn hint(
    size: &PromptSize<'_>,
    settings: &ImageSettings,
    options: &PromptOptions,
    tokens: usize,
    limit: usize,
) -> String {
    let mut remedies = Vec::new();
    if let Some(max_pixels) = fitting_max_pixels(size, settings, limit) {
        remedies.push(format!("lower max_pixels to <= {max_pixels}"));
    }
    let room = context(options).map_or(usize::MAX, |(_, room)| room);
    if options.max_prompt_length.is_some() && tokens <= room {
        remedies.push(format!("raise max_prompt_length to {tokens}"));
    }
    let rest = options.context_length.unwrap_or(0).saturating_sub(tokens);
    if tokens > room && rest > 0 {
        remedies.push(format!("lower max_completion_length to <= {rest}"));
    }
    if remedies.is_empty() {
        remedies.push("shorten the text or give fewer images".to_owned());
    }
    remedies.join(" or ")
}

/// The largest `max_pixels` under which the pictures leave room for the text.
fn fitting_max_pixels(
    size: &PromptSize<'_>,
    settings: &ImageSettings,
    limit: usize,
) -> Option<usize> {
    let room = limit.checked_sub(size.text_tokens)?;
    let token_pixels = settings.factor() * settings.factor();
    let fits = |tokens: usize| count_tokens(size.images, settings, tokens * token_pixels) <= room;
    let smallest = settings.min_pixels.div_ceil(token_pixels).max(1);
    let (mut low, mut high) = (smallest, settings.max_pixels / token_pixels + 1);
    if size.images.is_empty() || low >= high || !fits(low) {
        return None;
    }
    // Pictures never shrink when the limit grows: the largest limit that fits lies at `low`, below `high`.
    while low + 1 < high {
        let middle = low.midpoint(high);
        if fits(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(low * token_pixels)
}

fn count_tokens(images: &[(usize, usize)], settings: &ImageSettings, max_pixels: usize) -> usize {
    let grids = images
        .iter()
        .filter_map(|&image| merged_grid(image, settings, max_pixels).ok());
    grids.map(|grid| grid.iter().product::<usize>()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::prompt::golden;

    const IMAGES: [(usize, usize); 2] = [(150, 200), (62, 90)];

    fn checked(options: PromptOptions) -> Result<usize, PromptError> {
        // 12 and 6 tokens for the pictures.
        let size = PromptSize {
            text_tokens: 70,
            images: &IMAGES,
        };
        let settings = golden::image_settings("qwen2vl-tiny");
        check_length("train-7", &size, &settings, &options)
    }

    fn message(max_prompt_length: Option<usize>, context_length: Option<usize>) -> String {
        let result = checked(PromptOptions {
            max_prompt_length,
            context_length,
            ..PromptOptions::default()
        });
        result.expect_err("too long").to_string()
    }

    #[test]
    fn a_prompt_of_exactly_the_limit_passes() {
        let options = PromptOptions {
            max_prompt_length: Some(88),
            context_length: Some(88),
            ..PromptOptions::default()
        };
        checked(options).expect("it fits");
        checked(PromptOptions::default()).expect("no limit");
    }

    #[test]
    fn the_remedies_are_numbers_that_work() {
        let text = message(Some(80), None);
        let expected = "example `train-7`: the prompt has 88 tokens (18 of them for images), more than max_prompt_length 80\n\
                        hint: lower max_pixels to <= 4704 or raise max_prompt_length to 88";
        assert_eq!(text, expected);
        let settings = golden::image_settings("qwen2vl-tiny");
        assert!(count_tokens(&IMAGES, &settings, 4704) <= 10);
        assert!(count_tokens(&IMAGES, &settings, 4704 + 784) > 10);
    }

    /// The search against trying every limit, and its time at the largest limit that a run may set.
    #[test]
    fn the_largest_limit_that_fits_is_found_at_once() {
        let mut settings = golden::image_settings("qwen2vl-tiny");
        let images = [(150, 200), (62, 90), (1000, 30), (3000, 2000)];
        for (text_tokens, limit) in (0..40).map(|step| (step * 3 % 17, 3 * step + 1)) {
            let size = PromptSize {
                text_tokens,
                images: &images,
            };
            settings.max_pixels = 100 * 784;
            let fits = |tokens: &usize| {
                text_tokens + count_tokens(&images, &settings, tokens * 784) <= limit
            };
            let tried = (4..=100).rev().find(fits).map(|tokens| tokens * 784);
            assert_eq!(
                fitting_max_pixels(&size, &settings, limit),
                tried,
                "{limit}"
            );
        }
        settings.max_pixels = crate::record::ImagePatches::MOST_MAX_PIXELS;
        let size = PromptSize {
            text_tokens: 0,
            images: &[(8000, 8000); 200],
        };
        let found = fitting_max_pixels(&size, &settings, 200 * 1000).expect("a limit");
        assert!(
            count_tokens(size.images, &settings, found) <= 200_000,
            "{found}"
        );
    }

    #[test]
    fn the_context_cannot_be_raised() {
        let text = message(Some(85), Some(80));
        assert!(text.contains("more than the context length 80\n"), "{text}");
        assert!(
            text.ends_with("hint: lower max_pixels to <= 4704"),
            "{text}"
        );
        let text = message(None, Some(70));
        assert!(
            text.ends_with("hint: shorten the text or give fewer images"),
            "{text}"
        );
    }

    #[test]
    fn the_completion_takes_its_part_of_the_context() {
        let options = PromptOptions {
            context_length: Some(100),
            max_completion_length: 40,
            ..PromptOptions::default()
        };
        let text = checked(options).expect_err("too long").to_string();
        assert!(
            text.contains("88 tokens (18 of them for images), more than the 60 that the context length 100 leaves beside max_completion_length 40"),
            "{text}"
        );
        assert!(
            text.ends_with("hint: lower max_completion_length to <= 12"),
            "{text}"
        );
    }
}
