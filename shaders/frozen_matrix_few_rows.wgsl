// Products of up to COUNT rows with the rows of a stored matrix, whose words are read once for all of them:
// y[t, first + r] = sum_k x[t, k] * W[row + r, k].
// Shapes: x [n, in], n at most COUNT, W `rows` rows of the part in `weights`, y [n, columns] of which the part fills its
// own columns. One workgroup = ROWS rows of W; one invocation = every WORKGROUP-th four of their values.
// Needs shared: index, one of frozen_*.

const WORKGROUP: u32 = 64u;
const ROWS: u32 = 4u;
const COUNT: u32 = 16u;

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

// The sum of lane l for result i is at i * WORKGROUP + l.
var<workgroup> partial: array<f32, ROWS * COUNT * WORKGROUP>;

// Zero past the end of the row.
fn x_four(row: u32, column: u32) -> vec4<f32> {
    var four = vec4<f32>(0.0);
    for (var item = 0u; item < 4u; item++) {
        if (column + item < params.width) {
            four[item] = x[row * params.width + column + item];
        }
    }
    return four;
}

@compute @workgroup_size(64, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first_row = flat_group(group, groups) * ROWS;
    if (first_row >= params.rows) {
        return;
    }
    var sums: array<f32, ROWS * COUNT>;
    for (var column = lane * 4u; column < params.width; column += WORKGROUP * 4u) {
        var fours: array<vec4<f32>, ROWS>;
        for (var row = 0u; row < ROWS; row++) {
            fours[row] = weight_four(params.row + min(first_row + row, params.rows - 1u), column, params.width);
        }
        for (var token = 0u; token < COUNT; token++) {
            let four = x_four(min(token, params.count - 1u), column);
            for (var row = 0u; row < ROWS; row++) {
                sums[token * ROWS + row] += dot(four, fours[row]);
            }
        }
    }
    for (var result = 0u; result < ROWS * COUNT; result++) {
        partial[result * WORKGROUP + lane] = sums[result];
    }
    workgroupBarrier();
    for (var result = lane; result < ROWS * COUNT; result += WORKGROUP) {
        var sum = 0.0;
        for (var other = 0u; other < WORKGROUP; other++) {
            sum += partial[result * WORKGROUP + (other + lane) % WORKGROUP];
        }
        let token = result / ROWS;
        let row = first_row + result % ROWS;
        if (token < params.count && row < params.rows) {
            y[token * params.columns + params.first + row] = sum;
        }
    }
}
