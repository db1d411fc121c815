// Rows of a stored matrix by number: out[i] = W[ids[i]], NaN where W has no such row.
// Shapes: ids [n], out [n, in] as the bits of f32, W `rows` rows from number `start` on in `weights`; rows of other parts
// are left alone. One invocation = four values of a row. Needs shared: index, one of frozen_*.

const WORKGROUP: u32 = 64u;
const NOT_A_NUMBER: u32 = 0x7fc00000u;

struct Params {
    count: u32,
    width: u32,
    // Numbers of the rows of this part.
    start: u32,
    rows: u32,
    // Rows of the whole matrix.
    all_rows: u32,
}

@group(0) @binding(0) var<storage, read_write> ids: array<i32>;
@group(0) @binding(1) var<storage, read_write> weights: array<u32>;
// Bit patterns of f32: WGSL arithmetic need not keep a NaN, a stored word does.
@group(0) @binding(2) var<storage, read_write> out: array<u32>;
@group(0) @binding(3) var<storage, read> params: Params;

@compute @workgroup_size(64, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let fours = (params.width + 3u) / 4u;
    let index = flat_group(group, groups) * WORKGROUP + lane;
    if (index >= params.count * fours) {
        return;
    }
    let column = index % fours * 4u;
    let place = index / fours;
    // A negative number is a large one.
    let id = bitcast<u32>(ids[place]);
    let missing = id >= params.all_rows;
    let inside = id >= params.start && id - params.start < params.rows;
    if (!missing && !inside) {
        return;
    }
    var words = vec4<u32>(NOT_A_NUMBER);
    if (inside) {
        words = bitcast<vec4<u32>>(weight_four(id - params.start, column, params.width));
    }
    for (var item = 0u; item < 4u; item++) {
        if (column + item < params.width) {
            out[place * params.width + column + item] = words[item];
        }
    }
}
