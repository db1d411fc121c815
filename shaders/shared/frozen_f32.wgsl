// Four values of a row of f32. The shader declares `weights: array<u32>`, the rows one after the other.

// Values column..column + 4 of a row of `width` values, `column` a multiple of four; zero past the end.
fn weight_four(row: u32, column: u32, width: u32) -> vec4<f32> {
    let start = row * width + column;
    var four = vec4<f32>(0.0);
    for (var item = 0u; item < 4u; item++) {
        if (column + item < width) {
            four[item] = bitcast<f32>(weights[start + item]);
        }
    }
    return four;
}
