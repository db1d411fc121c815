// An f16 by its bits, in whole-number arithmetic: `unpack2x16float` may flush small values, and not every adapter has it.

// 2^-14, where subnormal halves begin.
const SMALLEST_NORMAL_HALF: u32 = 0x38800000u;

// The value of the lower half of a word.
fn half_value(word: u32) -> f32 {
    let shifted = (word & 0x7fffu) << 13u;
    let normal = shifted + 0x38000000u;
    let subnormal = bitcast<f32>(shifted + SMALLEST_NORMAL_HALF) - bitcast<f32>(SMALLEST_NORMAL_HALF);
    var bits = select(normal, bitcast<u32>(subnormal), shifted < 0x00800000u);
    bits = select(bits, shifted | 0x7f800000u, shifted >= 0x0f800000u);
    return bitcast<f32>(bits | ((word & 0x8000u) << 16u));
}
