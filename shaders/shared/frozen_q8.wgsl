// Four values of a row of 8-bit blocks. The shader declares `weights: array<u32>`; a row is the codes of its blocks of 32,
// four a word with the sign, then one f16 scale per block, two a word. Needs shared: half.

// Values column..column + 4 of a row of `width` values, `column` a multiple of four; padding past the end.
fn weight_four(row: u32, column: u32, width: u32) -> vec4<f32> {
    let blocks = (width + 31u) / 32u;
    let start = row * (blocks * 8u + (blocks + 1u) / 2u);
    let block = column / 32u;
    let codes = bitcast<i32>(weights[start + column / 4u]);
    let scale = half_value(weights[start + blocks * 8u + block / 2u] >> (block % 2u * 16u));
    return vec4<f32>((vec4<i32>(codes) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u)) * scale;
}
