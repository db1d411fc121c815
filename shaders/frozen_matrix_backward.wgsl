// Gradient of the products with the rows of a stored matrix: to_x[t, c] (+)= sum_r upstream[t, first + r] * W[row + r, c].
// Shapes: to_x [n, in], W `rows` rows of the part in `weights`, upstream [n, columns] of which the part reads its own
// columns. One workgroup = 64 rows and 64 columns of to_x; one invocation = four columns of every sixteenth row.
// Needs shared: index, one of frozen_*.

const WORKGROUP: u32 = 256u;
const TILE: u32 = 64u;
const DEPTH: u32 = 16u;
// One more than the tokens, so that values of a token lie in different banks of the memory.
const STRIDE: u32 = TILE + 1u;

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

// Values r..r + 4 of token i are at r / 4 * STRIDE + i.
var<workgroup> upstream_tile: array<vec4<f32>, STRIDE * DEPTH / 4u>;
// Columns c..c + 4 of row r are at r * TILE / 4 + c / 4.
var<workgroup> weight_tile: array<vec4<f32>, TILE * DEPTH / 4u>;

// Zero past the end of the tokens and of the rows of the part.
fn upstream_four(token: u32, row: u32) -> vec4<f32> {
    var four = vec4<f32>(0.0);
    if (token < params.count) {
        for (var item = 0u; item < 4u; item++) {
            if (row + item < params.rows) {
                four[item] = upstream[token * params.columns + params.first + row + item];
            }
        }
    }
    return four;
}

fn load(first_x: u32, first_column: u32, start: u32, lane: u32) {
    let token = lane / (DEPTH / 4u);
    let four = lane % (DEPTH / 4u);
    upstream_tile[four * STRIDE + token] = upstream_four(first_x + token, start + four * 4u);
    let row = lane / (TILE / 4u);
    let column = lane % (TILE / 4u) * 4u;
    var weight_values = vec4<f32>(0.0);
    if (start + row < params.rows && first_column + column < params.width) {
        weight_values = weight_four(params.row + start + row, first_column + column, params.width);
    }
    weight_tile[lane] = weight_values;
}

fn store(token: u32, column: u32, sums: vec4<f32>) {
    for (var item = 0u; item < 4u; item++) {
        if (token < params.count && column + item < params.width) {
            let place = token * params.width + column + item;
            to_x[place] = select(0.0, to_x[place], params.adds == 1u) + sums[item];
        }
    }
}

// What four rows of W add to four columns.
fn products(values: vec4<f32>, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> vec4<f32> {
    return values.x * a + values.y * b + values.z * c + values.w * d;
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
    let own_x = lane / 16u;
    let own_four = lane % 16u;
    var sums: array<vec4<f32>, 4>;
    for (var start = 0u; start < params.rows; start += DEPTH) {
        workgroupBarrier();
        load(first_x, first_column, start, lane);
        workgroupBarrier();
        for (var four = 0u; four < DEPTH / 4u; four++) {
            let row = four * TILE + own_four;
            let a = weight_tile[row];
            let b = weight_tile[row + TILE / 4u];
            let c = weight_tile[row + TILE / 2u];
            let d = weight_tile[row + TILE / 4u * 3u];
            let at = four * STRIDE + own_x;
            sums[0] += products(upstream_tile[at], a, b, c, d);
            sums[1] += products(upstream_tile[at + 16u], a, b, c, d);
            sums[2] += products(upstream_tile[at + 32u], a, b, c, d);
            sums[3] += products(upstream_tile[at + 48u], a, b, c, d);
        }
    }
    let column = first_column + own_four * 4u;
    store(first_x + own_x, column, sums[0]);
    store(first_x + own_x + 16u, column, sums[1]);
    store(first_x + own_x + 32u, column, sums[2]);
    store(first_x + own_x + 48u, column, sums[3]);
}
