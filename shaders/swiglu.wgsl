// The gated unit, value by value: y = gate * up / (1 + exp(-gate)).
// Shapes: gate, up, y [n]. One invocation = one value. Needs shared: index.

const WORKGROUP: u32 = 256u;

struct Params {
    values: u32,
}

@group(0) @binding(0) var<storage, read_write> gate: array<f32>;
@group(0) @binding(1) var<storage, read_write> up: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read> params: Params;

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
    // Below -80 the sigmoid is 0 in f32; exp of more could be infinite, which WGSL need not handle.
    y[index] = value * up[index] / (1.0 + exp(min(-value, 80.0)));
}
