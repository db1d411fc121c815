// Gradients of the gated unit: with s = 1 / (1 + exp(-gate)),
//   to_up = upstream * gate * s,  to_gate = upstream * up * s * (1 + gate * (1 - s))
// Shapes: all [n]. One invocation = one value. Needs shared: index.

const WORKGROUP: u32 = 256u;

struct Params {
    values: u32,
}

@group(0) @binding(0) var<storage, read_write> gate: array<f32>;
@group(0) @binding(1) var<storage, read_write> up: array<f32>;
@group(0) @binding(2) var<storage, read_write> upstream: array<f32>;
@group(0) @binding(3) var<storage, read_write> to_gate: array<f32>;
@group(0) @binding(4) var<storage, read_write> to_up: array<f32>;
@group(0) @binding(5) var<storage, read> params: Params;

@compute @workgroup_size(256, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_group(group, groups) * WORKGROUP + lane;
    if (index >= params.values) {
        return;
    }
    let value = gate[index];
    // As in swiglu.wgsl.
    let sigmoid = 1.0 / (1.0 + exp(min(-value, 80.0)));
    to_up[index] = upstream[index] * value * sigmoid;
    to_gate[index] = upstream[index] * up[index] * sigmoid * (1.0 + value * (1.0 - sigmoid));
}
