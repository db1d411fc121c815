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
struct Token { key: u32, id: u32 }
struct Threshold { key: u32, below: f32 }
struct Range { start: u32, end: u32 }

var<workgroup> lanes_highest: array<Token, WORKGROUP>;
var<workgroup> spans_highest: array<Token, SPANS>;

fn key_at(row: Row, id: u32) -> u32 {
    let blocked = suppressed[min(id, params.last_suppressed)] > 0.5;
    return select(key_of(logits[row.start + id]), NO_VALUE, blocked);
}

// exp((logit - highest) * scale); exactly 1 for scale 0, so that sums of weights then count tokens.
fn weight_of(row: Row, key: u32) -> f32 {
    return select(exp((value_of(key) - row.highest) * row.scale), 1.0, row.scale == 0.0);
}

// Ascending order of tokens.
fn is_below(a: Token, b: Token) -> bool {
    return a.key < b.key || (a.key == b.key && a.id < b.id);
}

// The more likely token, the lower id among equals.
fn more_likely(a: Token, b: Token) -> Token {
    if b.key > a.key || (b.key == a.key && b.id < a.id) {
        return b;
    }
    return a;
}

// The most likely token of the row; lanes_highest keeps that of every lane.
fn find_highest(lane: u32, row: Row) -> Token {
    var highest = Token(NO_VALUE, lane);
    for (var id = lane; id < params.vocabulary; id += WORKGROUP) {
        highest = more_likely(highest, Token(key_at(row, id), id));
    }
    lanes_highest[lane] = highest;
    workgroupBarrier();
    if lane < SPANS {
        for (var other = lane * SPAN; other < (lane + 1u) * SPAN; other++) {
            highest = more_likely(highest, lanes_highest[other]);
        }
        spans_highest[lane] = highest;
    }
    workgroupBarrier();
    highest = spans_highest[0];
    for (var span = 1u; span < SPANS; span++) {
        highest = more_likely(highest, spans_highest[span]);
    }
    return highest;
}

// Sum of weights and number of the tokens from row.threshold up.
fn measure(lane: u32, row: Row) -> vec2<f32> {
    var sum = vec4<f32>(0.0);
    for (var id = lane; id < params.vocabulary; id += WORKGROUP) {
        let key = key_at(row, id);
        if key != NO_VALUE && key >= row.threshold {
            sum += vec4<f32>(weight_of(row, key), 1.0, 0.0, 0.0);
        }
    }
    return sum_octet(lane, Octet(sum, vec4<f32>(0.0))).low.xy;
}

// The part of `whole` that a lane walks through alone; parts are in id order.
fn part_of(whole: Range, lane: u32) -> Range {
    let length = (whole.end - whole.start + WORKGROUP - 1u) / WORKGROUP;
    let start = min(whole.start + lane * length, whole.end);
    return Range(start, min(start + length, whole.end));
}

// The row with the threshold of top-k and top-p. With top-k the list holds all that can be kept; without, three
// quarters of the lanes' highest tokens are a guess at what top-p keeps.
fn filtered(lane: u32, unfiltered: Row, top: u32, eligible: f32) -> Row {
    var row = unfiltered;
    var total = 0.0;
    var wanted = params.top_k;
    if params.top_k == 0u {
        total = measure(lane, row).x;
        wanted = WORKGROUP / 4u * 3u;
    }
    var first = NOWHERE;
    if wanted <= WORKGROUP {
        first = short_search(lane, row, wanted, total);
    }
    if first == NOWHERE {
        return long_search(lane, row, top, eligible);
    }
    row.threshold = list[first].key;
    row.tie = list[first].id;
    return row;
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
    let unfiltered = measure(lane, row);
    var token = top.id;
    if params.temperature > 0.0 {
        row.scale = 1.0 / params.temperature;
        if params.top_k > 0u || params.drop_share > 0.0 {
            row = filtered(lane, row, top.key, unfiltered.y);
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
