// Rows of a cache replaced in place: cache[places[i]] = rows[i].
// Shapes: rows [n, W], places [n], cache [m, W]. One invocation = one value. Needs shared: index.

const WORKGROUP: u32 = 64u;

struct Params {
    values: u32,
    width: u32,
}

@group(0) @binding(0) var<storage, read_write> rows: array<f32>;
@group(0) @binding(1) var<storage, read_write> places: array<u32>;
@group(0) @binding(2) var<storage, read_write> cache: array<f32>;
@group(0) @binding(3) var<storage, read> params: Params;

@compute @workgroup_size(64, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_group(group, groups) * WORKGROUP + lane;
    if (index >= params.values) {
        return;
    }
    cache[places[index / params.width] * params.width + index % params.width] = rows[index];
}
