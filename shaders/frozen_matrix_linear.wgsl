// Products of rows with the rows of a stored matrix: y[t, first + r] = sum_k x[t, k] * W[row + r, k].
// Shapes: x [n, in], W `rows` rows of the part in `weights`, y [n, columns] of which the part fills its own columns.
// One workgroup = 64 rows of x and 64 rows of W; one invocation = 4 x 4 results. Needs shared: index, one of frozen_*.

const WORKGROUP: u32 = 256u;
const TILE: u32 = 64u;
const DEPTH: u32 = 16u;

struct Params {
    count: u32,
    width: u32,
    // First row of W within the part, and how many.
    row: u32,
    rows: u32,
    // Where they go in y.
    first: u32,
    columns: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> weights: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read> params: Params;

// Value k of row i is at k * TILE + i.
var<workgroup> x_tile: array<f32, TILE * DEPTH>;
var<workgroup> weight_tile: array<f32, TILE * DEPTH>;

// Zero past the end of the rows and of the row.
fn x_four(row: u32, column: u32) -> vec4<f32> {
    var four = vec4<f32>(0.0);
    if (row < params.count) {
        for (var item = 0u; item < 4u; item++) {
            if (column + item < params.width) {
                four[item] = x[row * params.width + column + item];
            }
        }
    }
    return four;
}

fn load(first_x: u32, first_row: u32, start: u32, lane: u32) {
    let row = lane / (DEPTH / 4u);
    let depth = lane % (DEPTH / 4u) * 4u;
    let x_values = x_four(first_x + row, start + depth);
    var weight_values = vec4<f32>(0.0);
    if (first_row + row < params.rows && start + depth < params.width) {
        weight_values = weight_four(params.row + first_row + row, start + depth, params.width);
    }
    for (var item = 0u; item < 4u; item++) {
        x_tile[(depth + item) * TILE + row] = x_values[item];
        weight_tile[(depth + item) * TILE + row] = weight_values[item];
    }
}

fn store(token: u32, row: u32, sums: vec4<f32>) {
    for (var item = 0u; item < 4u; item++) {
        if (token < params.count && row + item < params.rows) {
            y[token * params.columns + params.first + row + item] = sums[item];
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
    let row_tiles = (params.rows + TILE - 1u) / TILE;
    if (index >= row_tiles * ((params.count + TILE - 1u) / TILE)) {
        return;
    }
    // Neighbouring groups share rows of W, the larger of the two factors.
    let x_tiles = (params.count + TILE - 1u) / TILE;
    let first_x = index % x_tiles * TILE;
    let first_row = index / x_tiles * TILE;
    let own_x = lane / 16u * 4u;
    let own_row = lane % 16u * 4u;
    var sums: array<vec4<f32>, 4>;
    for (var start = 0u; start < params.width; start += DEPTH) {
        workgroupBarrier();
        load(first_x, first_row, start, lane);
        workgroupBarrier();
        for (var depth = 0u; depth < DEPTH; depth++) {
            let at = depth * TILE;
            let four = vec4<f32>(
                weight_tile[at + own_row],
                weight_tile[at + own_row + 1u],
                weight_tile[at + own_row + 2u],
                weight_tile[at + own_row + 3u],
            );
            sums[0] += x_tile[at + own_x] * four;
            sums[1] += x_tile[at + own_x + 1u] * four;
            sums[2] += x_tile[at + own_x + 2u] * four;
            sums[3] += x_tile[at + own_x + 3u] * four;
        }
    }
    store(first_x + own_x, first_row + own_row, sums[0]);
    store(first_x + own_x + 1u, first_row + own_row, sums[1]);
    store(first_x + own_x + 2u, first_row + own_row, sums[2]);
    store(first_x + own_x + 3u, first_row + own_row, sums[3]);
}
