//! Rewards for the shape of a completion: which tags stand where; knows nothing of the content between them.

use std::sync::LazyLock;

use regex::Regex;

static THINK_ANSWER: LazyLock<Regex> =
    LazyLock::new(|| whole_text(r"<think>.*?</think>\s*<answer>.*?</answer>"));

static FULL_CAPTION: LazyLock<Regex> = LazyLock::new(|| {
    whole_text(
        r"<summary>.*?</summary>\s*<caption>.*?</caption>\s*<think>.*?</think>\s*<answer>.*?</answer>",
    )
});

/// 1 if the *whole* text is `<think>…</think>`, white space, `<answer>…</answer>`; else 0.
/// (Reason-RFT `format_reward`.)
///
/// Nothing is trimmed first: one leading or trailing character costs the point. Because the match is of the whole
/// text, a tag may recur inside a block (a second `<answer>`, a nested `<think>`).
#[must_use]
pub fn format_reward(text: &str) -> f32 {
    point_if(THINK_ANSWER.is_match(text))
}

/// As [`format_reward`], with `<summary>`, `<caption>`, `<think>`, `<answer>` in this order.
/// (Reason-RFT `caption_format_reward`, task `trance-full-caption`.)
#[must_use]
pub fn full_caption_format_reward(text: &str) -> f32 {
    point_if(FULL_CAPTION.is_match(text))
}

/// 1 if the text starts with `<think>`, never opens it again, and closes it; else 0. (TRL `think_format_reward`.)
#[must_use]
pub fn think_format_reward(text: &str) -> f32 {
    const OPENING: &str = "<think>";
    point_if(
        text.strip_prefix(OPENING)
            .is_some_and(|rest| !rest.contains(OPENING) && rest.contains("</think>")),
    )
}

fn whole_text(pattern: &str) -> Regex {
    Regex::new(&format!(r"(?s)\A{pattern}\z"))
        .expect("the patterns of this file are constant and valid")
}

fn point_if(matches: bool) -> f32 {
    if matches { 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_edge_cases() {
        for accepted in [
            "<think>a</think>\n\n<answer>3</answer>",
            "<think>a</think><answer>3</answer>",
            "<think></think><answer></answer>",
            "<think>a</think><answer>1</answer><answer>2</answer>",
            "<think><think>a</think></think>\n<answer>3</answer>",
            "<think>a<think>b</think>\n<answer>3</answer>",
            "<think>two\nlines</think>\n<answer>\n3\n</answer>",
        ] {
            assert_eq!(format_reward(accepted), 1.0, "{accepted:?}");
        }
        for refused in [
            " <think>a</think>\n<answer>3</answer>",
            "<think>a</think>\n<answer>3</answer>\n",
            "<think>a</think>\n<answer>3</answer> done",
            "<think>a</think> so <answer>3</answer>",
            "<THINK>a</THINK>\n<ANSWER>3</ANSWER>",
            "<answer>3</answer>",
            "<think>a</think>",
            "<answer>3</answer><think>a</think>",
            "",
        ] {
            assert_eq!(format_reward(refused), 0.0, "{refused:?}");
        }
    }

    #[test]
    fn full_caption_needs_all_four_blocks_in_order() {
        let whole =
            "<summary>s</summary>\n<caption>c</caption>\n<think>t</think>\n<answer>a</answer>";
        assert_eq!(full_caption_format_reward(whole), 1.0);
        assert_eq!(full_caption_format_reward(&format!("{whole}\n")), 0.0);
        assert_eq!(
            full_caption_format_reward("<think>t</think>\n<answer>a</answer>"),
            0.0
        );
        let swapped = "<caption>c</caption><summary>s</summary><think>t</think><answer>a</answer>";
        assert_eq!(full_caption_format_reward(swapped), 0.0);
    }

    #[test]
    fn think_format_is_the_one_of_trl() {
        assert_eq!(
            think_format_reward("<think>\nreason\n</think>\nanswer\n"),
            1.0
        );
        assert_eq!(think_format_reward("<think></think>"), 1.0);
        assert_eq!(think_format_reward("<think>\nreason\nanswer"), 0.0);
        assert_eq!(think_format_reward("<think>a<think>b</think>"), 0.0);
        assert_eq!(think_format_reward("x<think>a</think>"), 0.0);
    }
}
