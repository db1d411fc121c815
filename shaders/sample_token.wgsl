// Draws one token per row: temperature, top-k, top-p, min-p in the order of Hugging Face's warpers, then the draw.
//
//   weight v = exp((logit v - highest) / temperature)
//   top-k  keeps key v >= the k-th largest key
//   top-p  drops, in ascending order of (key, id), every token whose running weight, itself included, is
//          <= drop_share * total, where drop_share = 1 - top_p; the last one always stays
//   min-p  keeps weight v >= min_p
//   token  = first survivor in id order whose running weight exceeds uniform * total
//   logprob = (logit token - highest) / logprob_temperature - ln sum v exp((logit v - highest) / logprob_temperature)
//
// logits [B, V] as bits, uniforms [B], suppressed [V] or [1] (> 0.5 = never), chosen [B, 2] = id, logprob.
// id -1: a logit is NaN or +infinity; -2: no token may be drawn. One workgroup = one row. Keys: shared/float_key.wgsl.

const WORKGROUP: u32 = 256u;
const DIGITS: u32 = 11u; // a 32-bit key is found in 11 steps of 3 bits

struct Params {
    rows: u32,
    vocabulary: u32,
    last_suppressed: u32, // last index of `suppressed`
    top_k: u32, // 0 = off
    temperature: f32, // 0 = greedy
    drop_share: f32, // 0 = off
    min_p: f32, // 0 = off
    logprob_temperature: f32,
}

@group(0) @binding(0) var<storage, read_write> logits: array<u32>;
@group(0) @binding(1) var<storage, read_write> uniforms: array<f32>;
@group(0) @binding(2) var<storage, read_write> suppressed: array<f32>;
@group(0) @binding(3) var<storage, read_write> chosen: array<f32>;
@group(0) @binding(4) var<storage, read> params: Params;

// The row of this workgroup and what the filters keep of it: key > threshold, and key == threshold from id `tie` on.
struct Row {
    start: u32,
    highest: f32,
    scale: f32,
    threshold: u32,
    tie: u32,
}
struct Highest { key: u32, id: u32 }
struct Threshold { key: u32, below: f32 }
struct Range { start: u32, end: u32 }
var<workgroup> lanes_highest: array<Highest, WORKGROUP>;
var<workgroup> spans_highest: array<Highest, SPANS>;
var<workgroup> lanes_count: array<u32, WORKGROUP>;
var<workgroup> first_tie: u32;

fn key_at(row: Row, id: u32) -> u32 {
    let blocked = suppressed[min(id, params.last_suppressed)] > 0.5;
    return select(key_of(logits[row.start + id]), NO_VALUE, blocked);
}

// exp((logit - highest) * scale); exactly 1 for scale 0, so that sums of weights then count tokens.
fn weight_of(row: Row, key: u32) -> f32 {
    return select(exp((value_of(key) - row.highest) * row.scale), 1.0, row.scale == 0.0);
}

// Largest key of the row and the lowest id that has it.
fn find_highest(lane: u32, row: Row) -> Highest {
    var highest = Highest(NO_VALUE, lane);
    for (var id = lane; id < params.vocabulary; id += WORKGROUP) {
        highest = higher(highest, Highest(key_at(row, id), id));
    }
    lanes_highest[lane] = highest;
    workgroupBarrier();
    if lane < SPANS {
        for (var other = lane * SPAN; other < (lane + 1u) * SPAN; other++) {
            highest = higher(highest, lanes_highest[other]);
        }
        spans_highest[lane] = highest;
    }
    workgroupBarrier();
    highest = spans_highest[0];
    for (var span = 1u; span < SPANS; span++) {
        highest = higher(highest, spans_highest[span]);
    }
    return highest;
}

fn higher(a: Highest, b: Highest) -> Highest {
    if b.key > a.key || (b.key == a.key && b.id < a.id) {
        return b;
    }
    return a;
}

// Sum of weights and number of the tokens from `lowest` up.
fn measure(lane: u32, row: Row, lowest: u32) -> vec2<f32> {
    var sum = vec4<f32>(0.0);
    for (var id = lane; id < params.vocabulary; id += WORKGROUP) {
        let key = key_at(row, id);
        if key != NO_VALUE && key >= lowest {
            sum += vec4<f32>(weight_of(row, key), 1.0, 0.0, 0.0);
        }
    }
    return sum_octet(lane, Octet(sum, vec4<f32>(0.0))).low.xy;
}

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
        let lowest = max(max(low, row.threshold), NO_VALUE + 1u);
        var sum = Octet(vec4<f32>(0.0), vec4<f32>(0.0));
        for (var id = lane; id < params.vocabulary; id += WORKGROUP) {
            let key = key_at(row, id);
            if key >= lowest && key < ends_high.w {
                let weight = vec4<f32>(weight_of(row, key));
                sum.low += select(vec4<f32>(0.0), weight, vec4<u32>(key) < ends_low);
                sum.high += select(vec4<f32>(0.0), weight, vec4<u32>(key) < ends_high);
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

// The part of `whole` that a lane walks through alone; parts are in id order.
fn part_of(whole: Range, lane: u32) -> Range {
    let length = (whole.end - whole.start + WORKGROUP - 1u) / WORKGROUP;
    let start = min(whole.start + lane * length, whole.end);
    return Range(start, min(start + length, whole.end));
}

// Lowest id of the threshold's key that top-p keeps: the first `wanted` ids are dropped, but never all.
fn first_kept_tie(lane: u32, row: Row, wanted: u32) -> u32 {
    let part = part_of(Range(0u, params.vocabulary), lane);
    var count = 0u;
    for (var id = part.start; id < part.end; id++) {
        count += select(0u, 1u, key_at(row, id) == row.threshold);
    }
    lanes_count[lane] = count;
    workgroupBarrier();
    var before = 0u;
    var total = 0u;
    for (var other = 0u; other < WORKGROUP; other++) {
        before += select(0u, lanes_count[other], other < lane);
        total += lanes_count[other];
    }
    let dropped = min(wanted, max(total, 1u) - 1u);
    var rank = before;
    for (var id = part.start; id < part.end && dropped < before + count; id++) {
        if key_at(row, id) == row.threshold {
            if rank == dropped {
                first_tie = id; // true in one lane
            }
            rank += 1u;
        }
    }
    workgroupBarrier();
    return first_tie;
}

// Weight of a token, 0 if a filter dropped it.
fn survivor_weight(row: Row, id: u32) -> f32 {
    let key = key_at(row, id);
    if key == NO_VALUE || key < row.threshold || (key == row.threshold && id < row.tie) {
        return 0.0;
    }
    let weight = weight_of(row, key);
    return select(0.0, weight, weight >= params.min_p);
}

fn survivor_weights(row: Row, part: Range) -> f32 {
    var sum = 0.0;
    for (var id = part.start; id < part.end; id++) {
        sum += survivor_weight(row, id);
    }
    return sum;
}

// The id drawn by inverse CDF: the lane's part of the vocabulary, then the lane's part of that, then one by one.
fn draw(lane: u32, row: Row, uniform_value: f32) -> u32 {
    let all = Range(0u, params.vocabulary);
    var sum = survivor_weights(row, part_of(all, lane));
    let goal = uniform_value * sum_scalar(lane, sum);
    let outer = locate(lane, sum, 0.0, goal);
    let whole = part_of(all, outer.index);
    sum = survivor_weights(row, part_of(whole, lane));
    let inner = locate(lane, sum, outer.before, goal);
    let part = part_of(whole, inner.index);
    var token = part.start;
    var running = inner.before;
    for (var id = part.start; id < part.end && running <= goal; id++) {
        let weight = survivor_weight(row, id);
        token = select(token, id, weight > 0.0);
        running += weight;
    }
    return token;
}

@compute @workgroup_size(WORKGROUP, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_group(group, groups);
    if index >= params.rows {
        return;
    }
    var row = Row(index * params.vocabulary, 0.0, 1.0 / params.logprob_temperature, NO_VALUE, 0u);
    let top = find_highest(lane, row);
    row.highest = value_of(top.key);
    let unfiltered = measure(lane, row, NO_VALUE);
    var token = top.id;
    if params.temperature > 0.0 {
        if params.top_k > 0u {
            row.scale = 0.0;
            row.threshold = search(lane, row, unfiltered.y - f32(params.top_k)).key;
        }
        row.scale = 1.0 / params.temperature;
        if params.drop_share > 0.0 {
            let limit = params.drop_share * measure(lane, row, row.threshold).x;
            let found = search(lane, row, limit);
            row.threshold = min(found.key, top.key);
            let share = max(weight_of(row, row.threshold), 1e-37);
            let wanted = clamp((limit - found.below) / share, 0.0, f32(params.vocabulary));
            row.tie = first_kept_tie(lane, row, u32(wanted));
        }
        token = draw(lane, row, uniforms[index]);
    }
    if lane == 0u {
        let drawable = top.key != NOT_FINITE && top.key != NO_VALUE;
        let below_highest = value_of(key_of(logits[row.start + token])) - row.highest;
        let logprob = below_highest / params.logprob_temperature - log(unfiltered.x);
        chosen[2u * index] = select(select(-2.0, -1.0, top.key == NOT_FINITE), f32(token), drawable);
        chosen[2u * index + 1u] = select(0.0, logprob, drawable);
    }
}
