// Rewards of groups -> advantages: A = (r - mean) / divisor.
//
//   mean, std over the group's baseline rewards; std unbiased (n - 1)
//   divisor = 1 (scale NONE), std + 1e-4 (GROUP), or the batch's std + 1e-4 over all wanted rows (BATCH);
//   1 wherever all rewards that give the std are equal, compared as they are
//   A = 0 for rows that are not wanted and for groups without a baseline
//
// rewards [R] and marks [R] (1 = in the baseline, 2 = wanted, 3 = both) sorted by group; starts [G + 1] = first row of
// each group, then R (whole numbers, exact as f32); batch_divisor [1]; advantages [R]. LANES threads = one group, either
// one thread or the whole workgroup; with MEASURE they compute batch_divisor from all rows instead. Sums run over
// rewards minus the lowest one, so that rewards that differ little keep their differences.

const WORKGROUP: u32 = 64u;
const LANES: u32 = 1u; // threads per group: 1 or WORKGROUP
const EPSILON: f32 = 1e-4;
const HIGHEST: f32 = 3.0e38; // beyond every reward: WGSL has no infinity

const BASELINE: u32 = 1u;
const WANTED: u32 = 2u;

const GROUP: u32 = 1u;
const BATCH: u32 = 2u;
const MEASURE: u32 = 3u;

struct Params {
    groups: u32,
    rows: u32,
    scale: u32, // 0 = NONE
}

@group(0) @binding(0) var<storage, read_write> rewards: array<f32>;
@group(0) @binding(1) var<storage, read_write> marks: array<f32>;
@group(0) @binding(2) var<storage, read_write> starts: array<f32>;
@group(0) @binding(3) var<storage, read_write> batch_divisor: array<f32>;
@group(0) @binding(4) var<storage, read_write> advantages: array<f32>;
@group(0) @binding(5) var<storage, read> params: Params;

// The mean is lowest + shift.
struct Statistics {
    count: f32,
    lowest: f32,
    shift: f32,
    divisor: f32,
}

var<workgroup> lanes: array<vec4<f32>, WORKGROUP>;

fn has(row: u32, mark: u32) -> bool {
    return (u32(marks[row]) & mark) != 0u;
}

// Sum of x and y, minimum of z, maximum of w over the lanes of a group, the same in each of them.
fn combine(lane: u32, value: vec4<f32>) -> vec4<f32> {
    if LANES == 1u {
        return value;
    }
    lanes[lane] = value;
    workgroupBarrier();
    for (var stride = LANES / 2u; stride > 0u; stride /= 2u) {
        if lane < stride {
            let a = lanes[lane];
            let b = lanes[lane + stride];
            lanes[lane] = vec4<f32>(a.x + b.x, a.y + b.y, min(a.z, b.z), max(a.w, b.w));
        }
        workgroupBarrier();
    }
    let result = lanes[0];
    workgroupBarrier();
    return result;
}

// Statistics of the rows of start..end that carry `mark`.
fn statistics_of(lane: u32, start: u32, end: u32, mark: u32) -> Statistics {
    var extremes = vec4<f32>(0.0, 0.0, HIGHEST, -HIGHEST); // y: count
    for (var row = start + lane; row < end; row += LANES) {
        if has(row, mark) {
            extremes += vec4<f32>(0.0, 1.0, 0.0, 0.0);
            extremes.z = min(extremes.z, rewards[row]);
            extremes.w = max(extremes.w, rewards[row]);
        }
    }
    extremes = combine(lane, extremes);
    let count = max(extremes.y, 1.0);
    let lowest = extremes.z;

    var sum = 0.0;
    for (var row = start + lane; row < end; row += LANES) {
        sum += select(0.0, rewards[row] - lowest, has(row, mark));
    }
    let shift = combine(lane, vec4<f32>(sum, 0.0, 0.0, 0.0)).x / count;

    var squares = 0.0;
    for (var row = start + lane; row < end; row += LANES) {
        let deviation = rewards[row] - lowest - shift;
        squares += select(0.0, deviation * deviation, has(row, mark));
    }
    squares = combine(lane, vec4<f32>(squares, 0.0, 0.0, 0.0)).x;
    let spread = extremes.z < extremes.w;
    let divisor = select(1.0, sqrt(squares / max(count - 1.0, 1.0)) + EPSILON, spread);
    return Statistics(extremes.y, lowest, shift, divisor);
}

@compute @workgroup_size(WORKGROUP, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let lane = invocation % LANES;
    if params.scale == MEASURE {
        let batch = statistics_of(lane, 0u, params.rows, WANTED);
        if invocation == 0u {
            batch_divisor[0] = batch.divisor;
        }
        return;
    }
    // Past the last group start and end are equal: barriers must be met by every thread.
    let index = flat_group(group, groups) * (WORKGROUP / LANES) + invocation / LANES;
    let start = u32(starts[min(index, params.groups)]);
    let end = u32(starts[min(index + 1u, params.groups)]);
    let baseline = statistics_of(lane, start, end, BASELINE);
    var divisor = select(1.0, baseline.divisor, params.scale == GROUP);
    divisor = select(divisor, batch_divisor[0], params.scale == BATCH);
    for (var row = start + lane; row < end; row += LANES) {
        let counts = has(row, WANTED) && baseline.count > 0.0;
        advantages[row] = select(0.0, (rewards[row] - baseline.lowest - baseline.shift) / divisor, counts);
    }
}
