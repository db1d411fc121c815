// Gradient of the root-mean-square norm to its weight: dw[j] = sum_i upstream[i, j] x[i, j] scale[i].
// Shapes: x, upstream [n, D], scale [n], gradient [D]. One invocation = one column. Needs shared: index.

const WORKGROUP: u32 = 64u;

struct Params {
    rows: u32,
    width: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> scale: array<f32>;
@group(0) @binding(2) var<storage, read_write> upstream: array<f32>;
@group(0) @binding(3) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(4) var<storage, read> params: Params;

@compute @workgroup_size(64, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let column = flat_group(group, groups) * WORKGROUP + lane;
    if (column >= params.width) {
        return;
    }
    var sum = 0.0;
    for (var row = 0u; row < params.rows; row++) {
        let place = row * params.width + column;
        sum += upstream[place] * x[place] * scale[row];
    }
    gradient[column] = sum;
}
