// Softmax statistics gathered in one pass: a running maximum, the sum of exp(x - maximum), and the same sum
// weighted by (x - maximum), from which the entropy follows.

// Finite stand-in for minus infinity: WGSL has no infinity, and exp(LOWEST - anything ordinary) is exactly 0.
const LOWEST: f32 = -1.0e30;

struct Softmax {
    highest: f32,
    total: f32,
    weighted: f32,
}

fn softmax_empty() -> Softmax {
    return Softmax(LOWEST, 0.0, 0.0);
}

// The same statistics relative to a maximum that is not lower.
fn softmax_rescale(state: Softmax, highest: f32) -> Softmax {
    let shift = state.highest - highest;
    let factor = exp(shift);
    return Softmax(highest, state.total * factor, (state.weighted + shift * state.total) * factor);
}

// Adds four values; LOWEST adds nothing.
fn softmax_add(state: Softmax, values: vec4<f32>) -> Softmax {
    let highest = max(state.highest, max(max(values.x, values.y), max(values.z, values.w)));
    let shifted = values - highest;
    let terms = exp(shifted);
    let old = softmax_rescale(state, highest);
    return Softmax(highest, old.total + dot(terms, vec4<f32>(1.0)), old.weighted + dot(terms, shifted));
}

fn softmax_merge(left: Softmax, right: Softmax) -> Softmax {
    let highest = max(left.highest, right.highest);
    let a = softmax_rescale(left, highest);
    let b = softmax_rescale(right, highest);
    return Softmax(highest, a.total + b.total, a.weighted + b.weighted);
}
