//! Reward for visible steps of reasoning; knows nothing of whether they are right.

use std::sync::LazyLock;

use regex::Regex;

static MARKER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"Step \d+:|^\d+\.|\n-|\n\*|First,|Second,|Next,|Finally,")
        .expect("a constant pattern")
});

/// min(1, markers / 3); a marker is `Step n:`, a line that starts with `-` or `*`, one of `First,` `Second,` `Next,`
/// `Finally,`, or a number with a dot at the very start. (Reason-RFT `reasoning_steps_reward`.)
///
/// Kept from upstream: numbered lines after the first, and a list sign on the first line, do not count.
#[must_use]
pub fn reason_reward(text: &str) -> f32 {
    // Three markers earn everything, so no more need be counted.
    let markers = MARKER.find_iter(text).take(3).count();
    [0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0][markers]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_counted_up_to_three() {
        assert_eq!(reason_reward("It is 3."), 0.0);
        assert_eq!(reason_reward("First, look."), 1.0 / 3.0);
        assert_eq!(reason_reward("1. look\n2. count"), 1.0 / 3.0);
        assert_eq!(reason_reward("- look\n- count\n* say"), 2.0 / 3.0);
        assert_eq!(
            reason_reward("Step 1: a Step 2: b Step 3: c Step 4: d"),
            1.0
        );
        assert_eq!(reason_reward("first, step 1:"), 0.0);
    }
}
