//! Pairs of spellings of one answer, and pairs that must stay different, as data sets write them (GeoQA, Geometry3K,
//! MathVista, ChartQA, GSM8K, CLEVR-Math, formula OCR, tables written by pandas).

use super::{accuracy_reward, equivalent, math_accuracy_reward, same_answer};

#[rustfmt::skip] // One kind a line: this is a table.
const SAME: &[(&str, &str)] = &[
    // Whole numbers and decimals.
    ("4", "4.0"), ("4", "4."), ("4", "4.00"), ("4", "04"), ("4", "+4"), ("4", " 4\n"), ("-4", "−4"), ("-4", "- 4"), ("-4", "–4"),
    ("0", "-0"), ("0.5", ".5"), ("0.50", "0.5"), ("1000", "1e3"), ("1500", "1.5 \\times 10^{3}"), ("1500", "1.5×10³"),
    ("1500", "1.5 x 10^3"), ("0.001", "10^{-3}"), ("4", "４"), ("4", "$4$"), ("4", "\\(4\\)"), ("4", "\\[ 4 \\]"), ("4", "\\boxed{4}"),
    ("4", "\\text{4}"), ("4", "\\mathbf{4}"), ("4", "**4**"), ("4", "`4`"), ("4", "{4}"), ("4", "(4)"), ("4", "x = 4"), ("4", "x=4.0"),
    ("18", "So 9 * 2 = 18\n#### 18"), ("3.14", "≈ 3.14"), ("3.14", "\\approx 3.14"),
    ("12345678901234567890", "12,345,678,901,234,567,890"),
    // Thousands.
    ("1234", "1,234"), ("1234", "1{,}234"), ("1234", "1\\,234"), ("1234", "1\u{a0}234"), ("1234", "1 234"), ("1234567.5", "1,234,567.5"),
    ("1234", "１，２３４"),
    // Fractions and roots.
    ("1/2", "0.5"), ("1/2", "\\frac{1}{2}"), ("1/2", "\\dfrac{1}{2}"), ("1/2", "\\tfrac 1 2"), ("1/2", "\\frac12"), ("1/2", "½"),
    ("1/2", "1 / 2"), ("1/2", "\\frac { 1 } { 2 }"), ("1/2", "2/4"), ("-1/2", "-\\frac{1}{2}"), ("-1/2", "\\frac{-1}{2}"), ("3/2", "1 1/2"),
    ("3/2", "1\\frac{1}{2}"), ("3/2", "1½"), ("3/2", "1.5"), ("2\\sqrt{3}", "2 \\sqrt { 3 }"), ("2\\sqrt{3}", "2√3"),
    ("2\\sqrt{3}", "\\sqrt{12}"), ("\\frac{\\sqrt{2}}{2}", "\\sqrt{2}/2"), ("2\\pi", "2π"), ("5", "√25"),
    // Angles.
    ("120", "120 ^ { \\circ }"), ("120", "120^\\circ"), ("120", "120{}^{\\circ}"), ("120", "120^{\\circ }"), ("120", "120°"),
    ("120", "120º"), ("120", "120˚"), ("120", "120∘"), ("120", "120^\\text{o}"), ("120", "120^{\\text{o}}"), ("120", "120^{\\mathrm{o}}"),
    ("120", "120^o"), ("120", "120^{o}"), ("120", "120^{°}"), ("120", "120 degrees"), ("120", "120 deg"), ("120", "120\\degree"),
    ("120", "120\\textdegree{}"), ("120", "120&deg;"), ("120", "120度"), ("120°", "120 \\text{ degrees}"), ("120", "\\angle ABC = 120^\\circ"),
    ("25°C", "25 ^{\\circ}\\mathrm{C}"), ("25℃", "25^\\circ C"),
    // Percentages.
    ("50%", "50\\%"), ("50%", "50 %"), ("50%", "50％"), ("50%", "50 percent"), ("50%", "50"), ("50%", "0.5"), ("50%", "1/2"), ("12.5%", "0.125"),
    // Units and money.
    ("12", "12 cm"), ("12", "12cm"), ("12 cm", "12 \\text{ cm}"), ("12 cm", "12 \\mathrm{~cm}"), ("12 cm", "12 \\, \\mathrm { c m }"),
    ("12 cm", "12 centimeters"), ("12 cm^2", "12 cm²"), ("12 cm^2", "12 \\text{cm}^{2}"), ("12 cm^2", "12 square centimeters"),
    ("12 cm^2", "12 sq cm"), ("12 cm^2", "12 cm2"), ("12 cm^2", "12 square units"), ("12", "12 units"), ("12 km/h", "12 kilometers per hour"),
    ("12 km/h", "12 km h^{-1}"), ("12 mph", "12 miles per hour"), ("12 m/s", "12\\text{ m/s}"), ("5", "$5"), ("5", "\\$5"), ("$5", "5 dollars"),
    ("$5.00", "\\$5"), ("€5", "5 euros"), ("1234.5", "$1,234.50"), ("3000000", "3 million"), ("12\\text{ apples}", "12 \\text{ apple}"), ("12", "12\\text{ apples}"), ("12 cm", "\\boxed{12 \\text{ cm}}"), ("12 cm", "\\text{12 cm}"),
    // No numbers.
    ("B", "B"), ("(3, 4)", "(3,4)"), ("x + 1", "$x+1$"), ("x^2", "x ^ 2"), ("1:2", "1 : 2"), ("red cube", "red  cube"),
];

#[rustfmt::skip] // One kind a line: this is a table.
const DIFFERENT: &[(&str, &str)] = &[
    ("4", "5"), ("4", "-4"), ("4", "40"), ("4", "4.1"), ("4", "4.00001"), ("4", "0.4"), ("4", "four"), ("4", ""), ("4", "4 or 5"), ("4", "4, 5"),
    ("4", "3 + 1"), ("6", "5 + 1 = 6"), ("6", "2 * 3"), ("4", "x > 4"), ("4", "±4"), ("4", "\\pm 4"), ("4", "4x"), ("4", "[4, 5]"), ("4", "4!"),
    ("12345678901234567890", "12345678901234567891"), ("1000000000001", "1000000000000"), ("1e3", "1e4"), ("10^{-3}", "10^{3}"),
    ("1234", "1,23,4"), ("123", "1,23"), ("1.234", "1,234"), ("34", "3 4"), ("34", "3,4"), ("1234", "1.234"),
    ("1/2", "1/3"), ("1/2", "2/1"), ("1/3", "0.33"), ("1/2", "-1/2"), ("1/2", "1:2"), ("11/2", "1 1/2"), ("\\sqrt{2}", "2"), ("2\\pi", "2"), ("\\sqrt{2}", "1.41"),
    ("120°", "120 rad"), ("120°", "12°"), ("120°", "60°"), ("30°", "30°15'"), ("25°C", "25°F"), ("120", "120^{2}"),
    ("50%", "5%"), ("50%", "5"), ("0.5%", "50%"), ("0.5%", "0.5%%"), ("50%", "50% off"),
    ("12 cm", "12 mm"), ("12 cm", "12 m"), ("12 cm", "12 cm^2"), ("12 cm^2", "12 cm^3"), ("5 m", "5 min"), ("5 s", "5 min"), ("12 km/h", "12 m/s"),
    ("12 km/h", "12 mph"), ("$5", "5 cents"), ("$5", "€5"), ("12\\text{ apples}", "12\\text{ pears}"), ("3 million", "3"), ("3 million", "3 billion"),
    ("A", "a"), ("A", "B"), ("A", "A."), ("a b", "ab"), ("(3,4)", "(4,3)"), ("x+1", "x-1"), ("nan", "NaN"), ("3", "B"), ("1:2", "2:1"),
];

#[test]
fn one_answer_in_many_spellings_is_one_answer() {
    assert!(SAME.len() >= 60);
    let mut wrong = Vec::new();
    for (left, right) in SAME {
        let tagged = |answer: &str| format!("<think>t</think><answer>{answer}</answer>");
        for (answer, gold) in [(left, right), (right, left)] {
            let rewards = [
                accuracy_reward(&tagged(answer), gold),
                accuracy_reward(&tagged(answer), &format!("<answer> {gold} </answer>")),
                math_accuracy_reward(&tagged(answer), gold),
            ];
            if !same_answer(answer, gold) || rewards != [1.0; 3] {
                wrong.push(format!("{answer:?} for {gold:?}: {rewards:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn different_answers_stay_different() {
    assert!(DIFFERENT.len() >= 60);
    let mut wrong = Vec::new();
    for (left, right) in DIFFERENT {
        for (answer, gold) in [(left, right), (right, left)] {
            let reward = accuracy_reward(&format!("<answer>{answer}</answer>"), gold);
            if same_answer(answer, gold) || reward != 0.0 {
                wrong.push(format!("{answer:?} for {gold:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn untagged_texts_reach_the_gold_answer_in_any_spelling() {
    for (text, gold) in [
        ("So the angle is \\boxed{120^{\\circ}}", "120 ^ { \\circ }"),
        ("So the angle is \\boxed{60}", "60{}^{\\circ}"),
        ("So the angle is 145", "145º"),
        ("\\boxed{72^{°}}", "72^{\\circ}"),
        ("\\boxed{35^\\circ}", "35^\\text{o}"),
        ("The answer is 90 degrees", "90^{\\circ }"),
        ("It is 145º", "145"),
        ("The total is $1,234.50.", "1234.5"),
        ("That makes 1 1/2 cups", "3/2"),
        ("about 3 million people", "3,000,000"),
        ("The probability is 50%", "\\frac{1}{2}"),
        ("Answer: 12 \\text{ cm}^2", "12 square centimeters"),
    ] {
        assert!(equivalent(text, gold), "{text:?} for {gold:?}");
        assert_eq!(accuracy_reward(text, gold), 1.0, "{text:?} for {gold:?}");
    }
    for (text, gold) in [
        ("about 3 million people", "3"),
        ("\\boxed{12 mm}", "12 cm"),
        ("\\boxed{12345678901234567891}", "12345678901234567890"),
        ("So the angle is 45 or 60", "45"),
    ] {
        assert!(!equivalent(text, gold), "{text:?} for {gold:?}");
    }
}
