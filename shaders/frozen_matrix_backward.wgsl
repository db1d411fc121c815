// Gradient of the products with the rows of a stored matrix: to_x[t, c] (+)= sum_r upstream[t, first + r] * W[row + r, c].
// Shapes: to_x [n, in], W `rows` rows of the part in `weights`, upstream [n, columns] of which the part reads its own
// columns. One workgroup = 64 rows and 64 columns of to_x; one invocation = 4 x 4 results.
// Needs shared: index, one of frozen_*.

const WORKGROUP: u32 = 256u;
const TILE: u32 = 64u;
const DEPTH: u32 = 16u;

struct Params {
    count: u32,
    width: u32,
    // First row of W within the part, and how many.
    row: u32,
    rows: u32,
    // Where they are in upstream.
    first: u32,
    columns: u32,
    // Whether another part has written to_x already.
    adds: u32,
}

@group(0) @binding(0) var<storage, read_write> upstream: array<f32>;
@group(0) @binding(1) var<storage, read_write> weights: array<u32>;
@group(0) @binding(2) var<storage, read_write> to_x: array<f32>;
@group(0) @binding(3) var<storage, read> params: Params;

// Value r of token i is at r * TILE + i; value r of column c is at r * TILE + c.
var<workgroup> upstream_tile: array<f32, TILE * DEPTH>;
var<workgroup> weight_tile: array<f32, TILE * DEPTH>;

fn load(first_x: u32, first_column: u32, start: u32, lane: u32) {
    for (var item = lane; item < TILE * DEPTH; item += WORKGROUP) {
        let token = first_x + item / DEPTH;
        let row = start + item % DEPTH;
        var value = 0.0;
        if (token < params.count && row < params.rows) {
            value = upstream[token * params.columns + params.first + row];
        }
        upstream_tile[item % DEPTH * TILE + item / DEPTH] = value;
    }
    let row = lane / (TILE / 4u);
    let column = lane % (TILE / 4u) * 4u;
    var four = vec4<f32>(0.0);
    if (start + row < params.rows && first_column + column < params.width) {
        four = weight_four(params.row + start + row, first_column + column, params.width);
    }
    for (var item = 0u; item < 4u; item++) {
        weight_tile[row * TILE + column + item] = four[item];
    }
}

fn store(token: u32, column: u32, sums: vec4<f32>) {
    for (var item = 0u; item < 4u; item++) {
        if (token < params.count && column + item < params.width) {
            let place = token * params.width + column + item;
            to_x[place] = select(0.0, to_x[place], params.adds == 1u) + sums[item];
        }
    }
}

@compute @workgroup_size(256, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_group(group, groups);
    let x_tiles = (params.count + TILE - 1u) / TILE;
    if (index >= x_tiles * ((params.width + TILE - 1u) / TILE)) {
        return;
    }
    let first_x = index % x_tiles * TILE;
    let first_column = index / x_tiles * TILE;
    let own_x = lane / 16u * 4u;
    let own_column = lane % 16u * 4u;
    var sums: array<vec4<f32>, 4>;
    for (var start = 0u; start < params.rows; start += DEPTH) {
        workgroupBarrier();
        load(first_x, first_column, start, lane);
        workgroupBarrier();
        for (var depth = 0u; depth < DEPTH; depth++) {
            let at = depth * TILE;
            let four = vec4<f32>(
                weight_tile[at + own_column],
                weight_tile[at + own_column + 1u],
                weight_tile[at + own_column + 2u],
                weight_tile[at + own_column + 3u],
            );
            sums[0] += upstream_tile[at + own_x] * four;
            sums[1] += upstream_tile[at + own_x + 1u] * four;
            sums[2] += upstream_tile[at + own_x + 2u] * four;
            sums[3] += upstream_tile[at + own_x + 3u] * four;
        }
    }
    store(first_x + own_x, first_column + own_column, sums[0]);
    store(first_x + own_x + 1u, first_column + own_column, sums[1]);
    store(first_x + own_x + 2u, first_column + own_column, sums[2]);
    store(first_x + own_x + 3u, first_column + own_column, sums[3]);
}
