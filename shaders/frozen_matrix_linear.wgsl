// Products of rows with the rows of a stored matrix: y[t, first + r] = sum_k x[t, k] * W[row + r, k].
// Shapes: x [n, in], W `rows` rows of the part in `weights`, y [n, columns] of which the part fills its own columns.
// One workgroup = 64 rows of x and 64 rows of W; one invocation = 4 x 4 results, every sixteenth of both. Needs shared: index, one of frozen_*.

const WORKGROUP: u32 = 256u;
const TILE: u32 = 64u;
const DEPTH: u32 = 16u;
// One more than the rows, so that values along k lie in different banks of the memory.
const STRIDE: u32 = TILE + 1u;

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

// Values k..k + 4 of row i are at k / 4 * STRIDE + i.
var<workgroup> x_tile: array<vec4<f32>, STRIDE * DEPTH / 4u>;
var<workgroup> weight_tile: array<vec4<f32>, STRIDE * DEPTH / 4u>;

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
    let four = lane % (DEPTH / 4u);
    let column = start + four * 4u;
    var weight_values = vec4<f32>(0.0);
    if (first_row + row < params.rows && column < params.width) {
        weight_values = weight_four(params.row + first_row + row, column, params.width);
    }
    x_tile[four * STRIDE + row] = x_four(first_x + row, column);
    weight_tile[four * STRIDE + row] = weight_values;
}

// Results of one row of x with rows first, first + 16, first + 32 and first + 48 of the part.
fn store(token: u32, first: u32, sums: vec4<f32>) {
    for (var item = 0u; item < 4u; item++) {
        let row = first + item * 16u;
        if (token < params.count && row < params.rows) {
            y[token * params.columns + params.first + row] = sums[item];
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
    // Neighbouring invocations have neighbouring rows of W: they read and write neighbouring words.
    let own_x = lane / 16u;
    let own_row = lane % 16u;
    var sums: array<vec4<f32>, 4>;
    for (var start = 0u; start < params.width; start += DEPTH) {
        workgroupBarrier();
        load(first_x, first_row, start, lane);
        workgroupBarrier();
        for (var four = 0u; four < DEPTH / 4u; four++) {
            let at = four * STRIDE;
            let a = weight_tile[at + own_row];
            let b = weight_tile[at + own_row + 16u];
            let c = weight_tile[at + own_row + 32u];
            let d = weight_tile[at + own_row + 48u];
            let x0 = x_tile[at + own_x];
            let x1 = x_tile[at + own_x + 16u];
            let x2 = x_tile[at + own_x + 32u];
            let x3 = x_tile[at + own_x + 48u];
            sums[0] += vec4<f32>(dot(x0, a), dot(x0, b), dot(x0, c), dot(x0, d));
            sums[1] += vec4<f32>(dot(x1, a), dot(x1, b), dot(x1, c), dot(x1, d));
            sums[2] += vec4<f32>(dot(x2, a), dot(x2, b), dot(x2, c), dot(x2, d));
            sums[3] += vec4<f32>(dot(x3, a), dot(x3, b), dot(x3, c), dot(x3, d));
        }
    }
    store(first_x + own_x, first_row + own_row, sums[0]);
    store(first_x + own_x + 16u, first_row + own_row, sums[1]);
    store(first_x + own_x + 32u, first_row + own_row, sums[2]);
    store(first_x + own_x + 48u, first_row + own_row, sums[3]);
}
