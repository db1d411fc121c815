// Bit patterns of f32 arranged so that unsigned order is numeric order: comparisons of keys are exact, equal values
// included, and a threshold can be found bit by bit.

const NO_VALUE: u32 = 0u; // lower than every key; negative infinity counts as no value
const NOT_FINITE: u32 = 0xffffffffu; // higher than every key: NaN or positive infinity
const NEGATIVE_INFINITY: u32 = 0xff800000u;

fn keys_of(bits: vec4<u32>) -> vec4<u32> {
    let sign = vec4<u32>(0x80000000u);
    let infinity = vec4<u32>(0x7f800000u);
    var keys = select(bits | sign, ~bits, bits > sign); // -0 equals 0
    keys = select(keys, vec4<u32>(NOT_FINITE), (bits & infinity) == infinity);
    return select(keys, vec4<u32>(NO_VALUE), bits == vec4<u32>(NEGATIVE_INFINITY));
}

fn values_of(keys: vec4<u32>) -> vec4<f32> {
    let sign = vec4<u32>(0x80000000u);
    return bitcast<vec4<f32>>(select(~keys, keys ^ sign, keys >= sign));
}
