// Gradient of the root-mean-square norm to its input: with g = upstream * weight,
//   dx[i] = scale[i] g[i] - x[i] scale[i]^3 mean(g[i] x[i])
// Shapes: x, upstream, gradient [n, D], weight [D], scale [n]. One workgroup = one row. Needs shared: index.

const WORKGROUP: u32 = 64u;

struct Params {
    rows: u32,
    width: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> scale: array<f32>;
@group(0) @binding(3) var<storage, read_write> upstream: array<f32>;
@group(0) @binding(4) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(5) var<storage, read> params: Params;

var<workgroup> partial: array<f32, WORKGROUP>;

@compute @workgroup_size(64, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = flat_group(group, groups);
    if (row >= params.rows) {
        return;
    }
    let start = row * params.width;
    var sum = 0.0;
    for (var column = lane; column < params.width; column += WORKGROUP) {
        sum += upstream[start + column] * weight[column] * x[start + column];
    }
    partial[lane] = sum;
    for (var stride = WORKGROUP / 2u; stride > 0u; stride /= 2u) {
        workgroupBarrier();
        if (lane < stride) {
            partial[lane] += partial[lane + stride];
        }
    }
    workgroupBarrier();
    let factor = scale[row];
    let along = partial[0] * factor * factor * factor / f32(params.width);
    for (var column = lane; column < params.width; column += WORKGROUP) {
        gradient[start + column] =
            upstream[start + column] * weight[column] * factor - x[start + column] * along;
    }
}
