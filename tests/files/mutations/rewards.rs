//! Answers of models against gold answers: whatever a model writes gets a number between 0 and 1, at once.

use vision_ekipl::actions::reward::{
    Credit, accuracy_reward, equivalent, format_reward, full_caption_format_reward,
    function_sequence_reward, math_accuracy_reward, reason_reward, tagged_answer,
    think_format_reward,
};

use super::each_case;

const TEXTS: [&str; 10] = [
    "<think>\nThere are 3 things.\n</think>\n<answer>\n3\n</answer>",
    "<answer> $\\frac{1}{2} + 3.5\\%$ </answer>",
    "The answer is \\boxed{\\sqrt{2} \\times 10^{3}}",
    "change_size(0, 'small'), change_color(2, 'red')",
    "<answer>change_position(1, 'front_left')</answer>",
    "First, step 1: 1,234.5 cm^2. Therefore (B) 12\u{b0}",
    "<summary>a</summary><caption>b</caption><think>c</think><answer>d</answer>",
    "((((1+2)*3)^4)/5)",
    "2 1/2 = 5/2 = 250%",
    "- 1e308 * 1e308",
];

#[test]
fn answers() {
    let mut seeds: Vec<Vec<u8>> = TEXTS.iter().map(|text| text.as_bytes().to_vec()).collect();
    // Long ones of the same: what is not linear in them would not end.
    seeds.extend(TEXTS.iter().map(|text| text.repeat(300).into_bytes()));
    for mark in [
        "<answer>",
        "<think>",
        "(",
        "{",
        "$",
        "\\frac{",
        "^",
        "1 ",
        "change_size(0, '",
        "-",
        "\n",
    ] {
        seeds.push(mark.repeat(20_000 / mark.len()).into_bytes());
    }
    each_case("answers", 150, &seeds, |input| {
        let text = String::from_utf8_lossy(input);
        for gold in TEXTS {
            let scores = [
                accuracy_reward(&text, gold),
                math_accuracy_reward(&text, gold),
                function_sequence_reward(&text, gold, Credit::PARTIAL),
            ];
            for score in scores {
                assert!((0.0..=1.0).contains(&score), "{score}");
            }
        }
        // A gold answer of a row of others.
        assert!((0.0..=1.0).contains(&accuracy_reward("3", &text)));
        let _ = equivalent("3", &text);
        for score in [
            format_reward(&text),
            full_caption_format_reward(&text),
            think_format_reward(&text),
            reason_reward(&text),
        ] {
            assert!((0.0..=1.0).contains(&score), "{score}");
        }
        assert!(tagged_answer(&text).is_none_or(|answer| answer.len() <= text.len()));
    });
}
