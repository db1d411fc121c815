// Four values of a row of f16. The shader declares `weights: array<u32>`: two values a word, the lower half first, the
// rows one after the other, so that every other row of odd width begins in the middle of a word. Needs shared: half.

// Value `index` of the matrix.
fn weight_at(index: u32) -> f32 {
    return half_value(weights[index / 2u] >> (index % 2u * 16u));
}

// Values column..column + 4 of a row of `width` values, `column` a multiple of four; zero past the end.
fn weight_four(row: u32, column: u32, width: u32) -> vec4<f32> {
    let start = row * width + column;
    if (start % 2u == 0u && column + 4u <= width) {
        let low = weights[start / 2u];
        let high = weights[start / 2u + 1u];
        return vec4<f32>(half_value(low), half_value(low >> 16u), half_value(high), half_value(high >> 16u));
    }
    var four = vec4<f32>(0.0);
    for (var item = 0u; item < 4u; item++) {
        if (column + item < width) {
            four[item] = weight_at(start + item);
        }
    }
    return four;
}
