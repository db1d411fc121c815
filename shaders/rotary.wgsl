// Pairs of values turned by an angle per token: with h = E/2, for e < h,
//   y[e] = x[e] cos[e] - x[e + h] sin[e],  y[e + h] = x[e + h] cos[e] + x[e] sin[e]; sin times `sign`.
// Shapes: x, y [n, H, E], cosines, sines [n, E/2]. One invocation = one pair. Needs shared: index.

const WORKGROUP: u32 = 256u;

struct Params {
    pairs: u32,
    heads: u32,
    half_width: u32,
    sign: f32,
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> cosines: array<f32>;
@group(0) @binding(2) var<storage, read_write> sines: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read> params: Params;

@compute @workgroup_size(256, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_group(group, groups) * WORKGROUP + lane;
    if (index >= params.pairs) {
        return;
    }
    let pair = index % params.half_width;
    let head = index / params.half_width;
    let angle = head / params.heads * params.half_width + pair;
    let low = head * 2u * params.half_width + pair;
    let high = low + params.half_width;
    let cosine = cosines[angle];
    let sine = sines[angle] * params.sign;
    y[low] = x[low] * cosine - x[high] * sine;
    y[high] = x[high] * cosine + x[low] * sine;
}
