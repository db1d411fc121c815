// Bit patterns of f32 arranged so that unsigned order is numeric order: comparisons of keys are exact, equal values
// included, and a threshold can be found bit by bit.

const NO_VALUE: u32 = 0u; // lower than every key; negative infinity counts as no value
const NOT_FINITE: u32 = 0xffffffffu; // higher than every key: NaN or positive infinity
const NEGATIVE_INFINITY: u32 = 0xff800000u;

fn key_of(bits: u32) -> u32 {
    var key = select(bits | 0x80000000u, ~bits, bits > 0x80000000u); // -0 equals 0
    key = select(key, NOT_FINITE, (bits & 0x7f800000u) == 0x7f800000u);
    return select(key, NO_VALUE, bits == NEGATIVE_INFINITY);
}

fn value_of(key: u32) -> f32 {
    return bitcast<f32>(select(~key, key & 0x7fffffffu, (key >> 31u) == 1u));
}
