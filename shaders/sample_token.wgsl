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
// logits [B, V], uniforms [B], suppressed [V] (> 0.5 = never), chosen [B, 2] = id, logprob.
// id -1: a logit is NaN or +infinity; -2: no token may be drawn. One workgroup = one row, read WIDTH
// values at a time. Keys: shared/float_key.wgsl.

const WORKGROUP: u32 = 256u;
const MASKED: bool = true; // false: `suppressed` holds nothing
const PLACES: vec4<u32> = vec4<u32>(0u, 1u, 2u, 3u);

struct Params {
    rows: u32,
    vocabulary: u32,
    top_k: u32, // 0 = off
    temperature: f32, // 0 = greedy
    drop_share: f32, // 0 = off
    min_p: f32, // 0 = off
    logprob_temperature: f32,
}

@group(0) @binding(0) var<storage, read_write> logits: array<Word>;
@group(0) @binding(1) var<storage, read_write> uniforms: array<f32>;
@group(0) @binding(2) var<storage, read_write> suppressed: array<Word>;
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
struct Summary { top: Token, total: f32 }
struct Threshold { key: u32, below: f32 }
struct Range { start: u32, end: u32 }

var<workgroup> lanes_highest: array<Token, WORKGROUP>;
var<workgroup> spans_highest: array<Token, SPANS>;

// Keys of the WIDTH tokens from `first` on, a multiple of WIDTH; NO_VALUE where suppressed and beyond WIDTH.
fn keys_at(row: Row, first: u32) -> vec4<u32> {
    let keys = keys_of(bitcast<vec4<u32>>(unpack(logits[(row.start + first) / WIDTH])));
    var usable = PLACES < vec4<u32>(WIDTH);
    if MASKED {
        usable &= unpack(suppressed[first / WIDTH]) <= vec4<f32>(0.5);
    }
    return select(vec4<u32>(NO_VALUE), keys, usable);
}

// exp((logit - highest) * scale), exactly 1 for scale 0, so that sums of weights then count tokens; 0 for NO_VALUE.
fn weights_of(row: Row, keys: vec4<u32>) -> vec4<f32> {
    let weights = exp((values_of(keys) - row.highest) * row.scale);
    let counted = select(weights, vec4<f32>(1.0), vec4<bool>(row.scale == 0.0));
    return select(vec4<f32>(0.0), counted, keys > vec4<u32>(NO_VALUE));
}

fn weight_of(row: Row, key: u32) -> f32 {
    return weights_of(row, vec4<u32>(key)).x;
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

// Scales logits and leaves out what is no value.
fn scaled(keys: vec4<u32>, scale: f32) -> vec4<f32> {
    return select(vec4<f32>(LOWEST), values_of(keys) * scale, keys > vec4<u32>(NO_VALUE));
}

fn softmax_of(stored: vec4<f32>) -> Softmax {
    return Softmax(stored.x, stored.y, 0.0);
}

// The most likely token of the row and the sum of exp((logit - highest) * row.scale), in one pass over the row;
// lanes_highest keeps the most likely token of every lane.
fn summary_of(lane: u32, row: Row) -> Summary {
    var highest = Token(NO_VALUE, lane);
    var softmax = softmax_empty();
    for (var id = WIDTH * lane; id < params.vocabulary; id += WIDTH * WORKGROUP) {
        let keys = keys_at(row, id);
        for (var next = 0u; next < WIDTH; next++) {
            highest = more_likely(highest, Token(keys[next], id + next));
        }
        softmax = softmax_add(softmax, scaled(keys, row.scale));
    }
    lanes_highest[lane] = highest;
    lanes_octet[lane].low = vec4<f32>(softmax.highest, softmax.total, 0.0, 0.0);
    workgroupBarrier();
    if lane < SPANS {
        for (var other = lane + SPANS; other < WORKGROUP; other += SPANS) {
            highest = more_likely(highest, lanes_highest[other]);
            softmax = softmax_merge(softmax, softmax_of(lanes_octet[other].low));
        }
        spans_highest[lane] = highest;
        spans_octet[lane].low = vec4<f32>(softmax.highest, softmax.total, 0.0, 0.0);
    }
    workgroupBarrier();
    highest = spans_highest[0];
    softmax = softmax_of(spans_octet[0].low);
    for (var span = 1u; span < SPANS; span++) {
        highest = more_likely(highest, spans_highest[span]);
        softmax = softmax_merge(softmax, softmax_of(spans_octet[span].low));
    }
    return Summary(highest, softmax.total);
}

// Sum of weights and number of the tokens from row.threshold up.
fn measure(lane: u32, row: Row) -> vec2<f32> {
    var sum = Octet(vec4<f32>(0.0), vec4<f32>(0.0));
    for (var id = WIDTH * lane; id < params.vocabulary; id += WIDTH * WORKGROUP) {
        let keys = keys_at(row, id);
        let counted = keys >= vec4<u32>(max(row.threshold, NO_VALUE + 1u));
        sum.low += select(vec4<f32>(0.0), weights_of(row, keys), counted);
        sum.high += select(vec4<f32>(0.0), vec4<f32>(1.0), counted);
    }
    sum = sum_octet(lane, sum);
    return vec2<f32>(dot(sum.low, vec4<f32>(1.0)), dot(sum.high, vec4<f32>(1.0)));
}

// The part of `whole` that a lane walks through alone; parts are in id order and start at multiples of WIDTH.
fn part_of(whole: Range, lane: u32) -> Range {
    let share = WIDTH * WORKGROUP;
    let length = (whole.end - whole.start + share - 1u) / share * WIDTH;
    let start = min(whole.start + lane * length, whole.end);
    return Range(start, min(start + length, whole.end));
}

// The row with the threshold of top-k and top-p. With top-k the list holds all that can be kept; without, three
// quarters of the lanes' highest tokens are a guess at what top-p keeps.
fn filtered(lane: u32, unfiltered: Row, top: u32) -> Row {
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
        return long_search(lane, row, top);
    }
    row.threshold = list[first].key;
    row.tie = list[first].id;
    return row;
}

// Weights of the WIDTH tokens from `first` on; 0 for those that a filter dropped.
fn survivors(row: Row, first: u32) -> vec4<f32> {
    let keys = keys_at(row, first);
    let tied = (keys == vec4<u32>(row.threshold)) & (vec4<u32>(first) + PLACES >= vec4<u32>(row.tie));
    let weights = weights_of(row, keys);
    let kept = (tied | (keys > vec4<u32>(row.threshold))) & (weights >= vec4<f32>(params.min_p));
    return select(vec4<f32>(0.0), weights, kept);
}

fn survivor_weights(row: Row, part: Range) -> f32 {
    var sum = vec4<f32>(0.0);
    for (var id = part.start; id < part.end; id += WIDTH) {
        sum += survivors(row, id);
    }
    return dot(sum, vec4<f32>(1.0));
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
    for (var id = part.start; id < part.end; id += WIDTH) {
        let weights = survivors(row, id);
        for (var next = 0u; next < WIDTH && running <= goal; next++) {
            token = select(token, id + next, weights[next] > 0.0);
            running += weights[next];
        }
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
    let found = summary_of(lane, row);
    row.highest = values_of(vec4<u32>(found.top.key)).x;
    var token = found.top.id;
    if params.temperature > 0.0 {
        row.scale = 1.0 / params.temperature;
        if params.top_k > 0u || params.drop_share > 0.0 {
            row = filtered(lane, row, found.top.key);
        }
        token = draw(lane, row, uniforms[index]);
    }
    if lane == 0u {
        let key = found.top.key;
        let drawable = key != NOT_FINITE && key != NO_VALUE;
        let logit = values_of(keys_at(row, token / WIDTH * WIDTH))[token % WIDTH];
        let logprob = (logit - row.highest) / params.logprob_temperature - log(found.total);
        chosen[2u * index] = select(select(-2.0, -1.0, key == NOT_FINITE), f32(token), drawable);
        chosen[2u * index + 1u] = select(0.0, logprob, drawable);
    }
}
