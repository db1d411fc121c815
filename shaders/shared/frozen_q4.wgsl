// Four values of a row of 4-bit blocks. The shader declares `weights: array<u32>`; a row is the codes of its blocks of 32,
// four words a block, then one word per block: its step and its lowest value as f16. Byte i of a block holds the code of
// value i in its low half and that of value 16 + i in its high half. Needs shared: half.

// Values column..column + 4 of a row of `width` values, `column` a multiple of four; padding past the end.
fn weight_four(row: u32, column: u32, width: u32) -> vec4<f32> {
    let blocks = (width + 31u) / 32u;
    let start = row * blocks * 5u;
    let block = column / 32u;
    let shift = (column % 32u) / 16u * 4u;
    let codes = weights[start + block * 4u + (column % 16u) / 4u] >> shift;
    let line = weights[start + blocks * 4u + block];
    let four = (vec4<u32>(codes) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(15u);
    return vec4<f32>(four) * half_value(line) + half_value(line >> 16u);
}
