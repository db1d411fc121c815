// The filters' threshold when it lies anywhere among all tokens: found bit by bit, with one pass over the row per three
// bits. The kernel declares WORKGROUP, WIDTH, params, Row, Threshold, Range, keys_at, weights_of, measure, part_of
// and lanes_highest, which is overwritten here.

const DIGITS: u32 = 11u; // a 32-bit key is found in 11 steps of 3 bits

var<workgroup> first_tie: u32;

// Ends of the digits' intervals, saturated at the highest key.
fn ends_of(low: u32, digits: vec4<u32>, shift: u32) -> vec4<u32> {
    let fits = digits <= vec4<u32>((NOT_FINITE - low) >> shift);
    return select(vec4<u32>(NOT_FINITE), vec4<u32>(low) + (digits << vec4<u32>(shift)), fits);
}

// Smallest key up to which the weights from row.threshold on add up to more than `limit`, and the sum below it.
// Three bits of the key per step, most significant first.
fn search(lane: u32, row: Row, limit: f32) -> Threshold {
    var low = 0u;
    var below = 0.0;
    for (var step = 0u; step < DIGITS; step++) {
        let shift = 30u - 3u * step;
        let ends_low = ends_of(low, vec4<u32>(1u, 2u, 3u, 4u), shift);
        let ends_high = ends_of(low, vec4<u32>(5u, 6u, 7u, 8u), shift);
        let lowest = vec4<u32>(max(low, row.threshold));
        var sum = Octet(vec4<f32>(0.0), vec4<f32>(0.0));
        for (var id = WIDTH * lane; id < params.vocabulary; id += WIDTH * WORKGROUP) {
            let keys = keys_at(row, id);
            let weights = select(vec4<f32>(0.0), weights_of(row, keys), keys >= lowest);
            for (var next = 0u; next < WIDTH; next++) {
                let weight = vec4<f32>(weights[next]);
                sum.low += select(vec4<f32>(0.0), weight, vec4<u32>(keys[next]) < ends_low);
                sum.high += select(vec4<f32>(0.0), weight, vec4<u32>(keys[next]) < ends_high);
            }
        }
        sum = sum_octet(lane, sum);
        var reached = array<f32, 8>(0.0, sum.low.x, sum.low.y, sum.low.z, sum.low.w, sum.high.x, sum.high.y, sum.high.z);
        var digit = 0u;
        for (var next = 1u; next < 8u && below + reached[next] <= limit; next++) {
            digit = next;
        }
        below += reached[digit];
        low += min(digit, (NOT_FINITE - low) >> shift) << shift;
    }
    return Threshold(low, below);
}

// Lowest id of the threshold's key that top-p keeps: the first `wanted` ids are dropped, but never all.
fn first_kept_tie(lane: u32, row: Row, wanted: u32) -> u32 {
    let part = part_of(Range(0u, params.vocabulary), lane);
    var count = 0u;
    for (var id = part.start; id < part.end; id += WIDTH) {
        let tied = select(vec4<u32>(0u), vec4<u32>(1u), keys_at(row, id) == vec4<u32>(row.threshold));
        count += tied.x + tied.y + tied.z + tied.w;
    }
    lanes_highest[lane].id = count;
    workgroupBarrier();
    var before = 0u;
    var total = 0u;
    for (var other = 0u; other < WORKGROUP; other++) {
        before += select(0u, lanes_highest[other].id, other < lane);
        total += lanes_highest[other].id;
    }
    let dropped = min(wanted, max(total, 1u) - 1u);
    var rank = before;
    for (var id = part.start; id < part.end && dropped < before + count; id += WIDTH) {
        let keys = keys_at(row, id);
        for (var next = 0u; next < WIDTH; next++) {
            if keys[next] == row.threshold {
                if rank == dropped {
                    first_tie = id + next; // true in one lane
                }
                rank += 1u;
            }
        }
    }
    workgroupBarrier();
    return first_tie;
}

// The row with the threshold of top-k and top-p, `top` being its highest key.
fn long_search(lane: u32, start: Row, top: u32) -> Row {
    var row = start;
    if params.top_k > 0u {
        row.scale = 0.0; // weights are counts
        row.threshold = search(lane, row, measure(lane, row).y - f32(params.top_k)).key;
        row.scale = start.scale;
    }
    if params.drop_share > 0.0 {
        let limit = params.drop_share * measure(lane, row).x;
        let found = search(lane, row, limit);
        row.threshold = min(found.key, top);
        let share = max(weight_of(row, row.threshold), 1e-37);
        let wanted = clamp((limit - found.below) / share, 0.0, f32(params.vocabulary));
        row.tie = first_kept_tie(lane, row, u32(wanted));
    }
    return row;
}
