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
// id -1: a logit is NaN or +infinity; -2: no token may be drawn. One workgroup = one row.
//
// A "key" is a logit's bit pattern arranged so that unsigned order is numeric order: thresholds on it are exact,
// equal logits included. Key 0 = not eligible (suppressed or -infinity), NOT_FINITE = NaN or +infinity.

const WORKGROUP: u32 = 256u;
const SPAN: u32 = 16u; // lanes whose values one lane adds up
const SPANS: u32 = WORKGROUP / SPAN;
const NOT_FINITE: u32 = 0xffffffffu;
const NEGATIVE_INFINITY: u32 = 0xff800000u;
const DIGITS: u32 = 11u; // a 32-bit key is found in 11 steps of 3 bits

struct Params {
    rows: u32,
    vocabulary: u32,
    last_suppressed: u32, // last index of `suppressed`
    top_k: u32, // 0 = off
    temperature: f32, // 0 = greedy
    drop_share: f32, // 1 - top_p; 0 = off
    min_p: f32, // 0 = off
    logprob_temperature: f32,
}

@group(0) @binding(0) var<storage, read_write> logits: array<u32>;
@group(0) @binding(1) var<storage, read_write> uniforms: array<f32>;
@group(0) @binding(2) var<storage, read_write> suppressed: array<f32>;
@group(0) @binding(3) var<storage, read_write> chosen: array<f32>;
@group(0) @binding(4) var<storage, read> params: Params;

// Sums below seven thresholds at once; the eighth is the upper end of the interval.
struct Octet { low: vec4<f32>, high: vec4<f32> }
struct Threshold { key: u32, below: f32 }
struct Range { start: u32, end: u32 }
struct Place { index: u32, before: f32 }
struct Highest { key: u32, id: u32 }

var<workgroup> lanes_low: array<vec4<f32>, WORKGROUP>;
var<workgroup> lanes_high: array<vec4<f32>, WORKGROUP>;
var<workgroup> spans_low: array<vec4<f32>, SPANS>;
var<workgroup> spans_high: array<vec4<f32>, SPANS>;
var<workgroup> lanes_highest: array<Highest, WORKGROUP>;
var<workgroup> spans_highest: array<Highest, SPANS>;
var<workgroup> lanes_count: array<u32, WORKGROUP>;
var<workgroup> place: Place;
var<workgroup> first_tie: u32;

fn key_at(start: u32, id: u32) -> u32 {
    let bits = logits[start + id];
    var key = select(bits | 0x80000000u, ~bits, bits > 0x80000000u); // -0 equals 0
    key = select(key, NOT_FINITE, (bits & 0x7f800000u) == 0x7f800000u);
    let blocked = suppressed[min(id, params.last_suppressed)] > 0.5;
    return select(key, 0u, blocked || bits == NEGATIVE_INFINITY);
}

fn value_of(key: u32) -> f32 {
    return bitcast<f32>(select(~key, key & 0x7fffffffu, (key >> 31u) == 1u));
}

// exp((logit - highest) * scale); exactly 1 for scale 0, so that sums of weights then count tokens.
fn weight_of(key: u32, highest: f32, scale: f32) -> f32 {
    return select(exp((value_of(key) - highest) * scale), 1.0, scale == 0.0);
}

// Sum over all lanes, the same in every lane.
fn sum_octet(lane: u32, value: Octet) -> Octet {
    lanes_low[lane] = value.low;
    lanes_high[lane] = value.high;
    workgroupBarrier();
    if lane < SPANS {
        var span = Octet(vec4<f32>(0.0), vec4<f32>(0.0));
        for (var other = lane * SPAN; other < (lane + 1u) * SPAN; other++) {
            span.low += lanes_low[other];
            span.high += lanes_high[other];
        }
        spans_low[lane] = span.low;
        spans_high[lane] = span.high;
    }
    workgroupBarrier(); // the next call writes the spans only after its own first barrier
    var total = Octet(vec4<f32>(0.0), vec4<f32>(0.0));
    for (var span = 0u; span < SPANS; span++) {
        total.low += spans_low[span];
        total.high += spans_high[span];
    }
    return total;
}

fn sum_scalar(lane: u32, value: f32) -> f32 {
    return sum_octet(lane, Octet(vec4<f32>(value, 0.0, 0.0, 0.0), vec4<f32>(0.0))).low.x;
}

// Largest key of the row and the lowest id that has it.
fn find_highest(lane: u32, start: u32) -> Highest {
    var highest = Highest(0u, lane);
    for (var id = lane; id < params.vocabulary; id += WORKGROUP) {
        let key = key_at(start, id);
        if key > highest.key {
            highest = Highest(key, id);
        }
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

// Smallest key whose measure (sum of weights of eligible keys from `lowest` up to it) exceeds `limit`, and the
// measure below it. Three bits of the key per step, most significant first.
fn search(lane: u32, start: u32, lowest: u32, limit: f32, highest: f32, scale: f32) -> Threshold {
    var low = 0u;
    var below = 0.0;
    for (var step = 0u; step < DIGITS; step++) {
        let shift = 30u - 3u * step;
        let room = (NOT_FINITE - low) >> shift;
        let first = vec4<u32>(1u, 2u, 3u, 4u);
        let second = vec4<u32>(5u, 6u, 7u, 8u);
        let ends_low = select(vec4<u32>(NOT_FINITE), vec4<u32>(low) + (first << vec4<u32>(shift)), first <= vec4<u32>(room));
        let ends_high = select(vec4<u32>(NOT_FINITE), vec4<u32>(low) + (second << vec4<u32>(shift)), second <= vec4<u32>(room));
        var sum = Octet(vec4<f32>(0.0), vec4<f32>(0.0));
        for (var id = lane; id < params.vocabulary; id += WORKGROUP) {
            let key = key_at(start, id);
            if key >= max(max(low, lowest), 1u) && key < ends_high.w {
                let weight = vec4<f32>(weight_of(key, highest, scale));
                sum.low += select(vec4<f32>(0.0), weight, vec4<u32>(key) < ends_low);
                sum.high += select(vec4<f32>(0.0), weight, vec4<u32>(key) < ends_high);
            }
        }
        sum = sum_octet(lane, sum);
        var digit = 0u;
        var reached = 0.0;
        if below + sum.low.x <= limit { digit = 1u; reached = sum.low.x; }
        if below + sum.low.y <= limit { digit = 2u; reached = sum.low.y; }
        if below + sum.low.z <= limit { digit = 3u; reached = sum.low.z; }
        if below + sum.low.w <= limit { digit = 4u; reached = sum.low.w; }
        if below + sum.high.x <= limit { digit = 5u; reached = sum.high.x; }
        if below + sum.high.y <= limit { digit = 6u; reached = sum.high.y; }
        if below + sum.high.z <= limit { digit = 7u; reached = sum.high.z; }
        low += min(digit, room) << shift;
        below += reached;
    }
    return Threshold(low, below);
}

// The part of `whole` that a lane walks through alone; parts are in id order.
fn part_of(whole: Range, lane: u32) -> Range {
    let length = (whole.end - whole.start + WORKGROUP - 1u) / WORKGROUP;
    let start = min(whole.start + lane * length, whole.end);
    return Range(start, min(start + length, whole.end));
}

// Lowest id among the tokens of key `key` that top-p keeps: the first `wanted` of them, in id order, are dropped,
// but never all.
fn first_kept_tie(lane: u32, start: u32, key: u32, wanted: u32) -> u32 {
    let part = part_of(Range(0u, params.vocabulary), lane);
    var count = 0u;
    for (var id = part.start; id < part.end; id++) {
        count += select(0u, 1u, key_at(start, id) == key);
    }
    lanes_count[lane] = count;
    if lane == 0u {
        first_tie = 0u;
    }
    workgroupBarrier();
    var before = 0u;
    var total = 0u;
    for (var other = 0u; other < WORKGROUP; other++) {
        before += select(0u, lanes_count[other], other < lane);
        total += lanes_count[other];
    }
    let dropped = min(wanted, max(total, 1u) - 1u);
    if before <= dropped && dropped < before + count {
        var rank = before;
        for (var id = part.start; id < part.end; id++) {
            if key_at(start, id) == key {
                if rank == dropped {
                    first_tie = id;
                }
                rank += 1u;
            }
        }
    }
    workgroupBarrier();
    return first_tie;
}

// First lane whose running value exceeds `goal`, or the last lane with a value if rounding keeps all below it.
// `place` receives it and the running value before it.
fn locate(lane: u32, value: f32, before: f32, goal: f32) -> Place {
    lanes_low[lane] = vec4<f32>(value);
    workgroupBarrier();
    if lane < SPANS {
        var span = 0.0;
        for (var other = 0u; other < SPAN; other++) {
            span += lanes_low[lane * SPAN + other].x;
        }
        spans_low[lane] = vec4<f32>(span);
    }
    workgroupBarrier();
    if lane == 0u {
        var found = Place(0u, before);
        var running = before;
        for (var span = 0u; span < SPANS && running <= goal; span++) {
            if spans_low[span].x > 0.0 {
                found = Place(span * SPAN, running);
            }
            running += spans_low[span].x;
        }
        running = found.before;
        let first = found.index;
        for (var other = first; other < first + SPAN && running <= goal; other++) {
            if lanes_low[other].x > 0.0 {
                found = Place(other, running);
            }
            running += lanes_low[other].x;
        }
        place = found;
    }
    workgroupBarrier();
    let found = place;
    workgroupBarrier();
    return found;
}

// Weight of a token, 0 if a filter dropped it.
fn survivor_weight(start: u32, id: u32, threshold: u32, tie: u32, highest: f32, scale: f32) -> f32 {
    let key = key_at(start, id);
    if key == 0u || key < threshold || (key == threshold && id < tie) {
        return 0.0;
    }
    let weight = weight_of(key, highest, scale);
    return select(0.0, weight, weight >= params.min_p);
}

// The id drawn by inverse CDF: the lane's part of the vocabulary, then the lane's part of that, then one by one.
fn draw(lane: u32, start: u32, uniform_value: f32, threshold: u32, tie: u32, highest: f32, scale: f32) -> u32 {
    var part = part_of(Range(0u, params.vocabulary), lane);
    var sum = 0.0;
    for (var id = part.start; id < part.end; id++) {
        sum += survivor_weight(start, id, threshold, tie, highest, scale);
    }
    let goal = uniform_value * sum_scalar(lane, sum);
    let outer = locate(lane, sum, 0.0, goal);
    let whole = part_of(Range(0u, params.vocabulary), outer.index);
    part = part_of(whole, lane);
    sum = 0.0;
    for (var id = part.start; id < part.end; id++) {
        sum += survivor_weight(start, id, threshold, tie, highest, scale);
    }
    let inner = locate(lane, sum, outer.before, goal);
    part = part_of(whole, inner.index);
    var token = part.start;
    var running = inner.before;
    for (var id = part.start; id < part.end && running <= goal; id++) {
        let weight = survivor_weight(start, id, threshold, tie, highest, scale);
        if weight > 0.0 {
            token = id;
        }
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
    let row = flat_group(group, groups);
    if row >= params.rows {
        return;
    }
    let start = row * params.vocabulary;
    let top = find_highest(lane, start);
    let highest = value_of(top.key);
    var token = top.id;

    var sums = Octet(vec4<f32>(0.0), vec4<f32>(0.0));
    let logprob_scale = 1.0 / params.logprob_temperature;
    for (var id = lane; id < params.vocabulary; id += WORKGROUP) {
        let key = key_at(start, id);
        if key != 0u {
            sums.low += vec4<f32>(weight_of(key, highest, logprob_scale), 1.0, 0.0, 0.0);
        }
    }
    sums = sum_octet(lane, sums);

    if params.temperature > 0.0 {
        let scale = 1.0 / params.temperature;
        var threshold = 0u;
        var tie = 0u;
        if params.top_k > 0u {
            let left_out = sums.low.y - f32(params.top_k);
            threshold = search(lane, start, 0u, left_out, highest, 0.0).key;
        }
        if params.drop_share > 0.0 {
            var sum = 0.0;
            for (var id = lane; id < params.vocabulary; id += WORKGROUP) {
                let key = key_at(start, id);
                if key != 0u && key >= threshold {
                    sum += weight_of(key, highest, scale);
                }
            }
            let limit = params.drop_share * sum_scalar(lane, sum);
            let found = search(lane, start, threshold, limit, highest, scale);
            threshold = min(found.key, top.key);
            let share = weight_of(threshold, highest, scale);
            let wanted = select(0.0, max(limit - found.below, 0.0) / share, share > 0.0);
            tie = first_kept_tie(lane, start, threshold, u32(min(wanted, f32(params.vocabulary))));
        }
        token = draw(lane, start, uniforms[row], threshold, tie, highest, scale);
    }

    if lane == 0u {
        if top.key == NOT_FINITE || top.key == 0u {
            chosen[2u * row] = select(-2.0, -1.0, top.key == NOT_FINITE);
            chosen[2u * row + 1u] = 0.0;
        } else {
            let logit = value_of(key_at(start, token));
            chosen[2u * row] = f32(token);
            chosen[2u * row + 1u] = (logit - highest) * logprob_scale - log(sums.low.x);
        }
    }
}
