// Log-probability of the target token, entropy and log-sum-exp of each row of logits, in one pass over the row. The
// vocabulary may come in tiles, one launch each.
//   x[j]         = logits[t, j] * inverse_temperature, LOWEST where suppressed[j] > 0
//   logsumexp[t] = ln sum_j exp(x[j])
//   logprobs[t]  = x[targets[t]] - logsumexp[t]; NaN if the target is not in 0..V, LOWEST if it is suppressed
//   entropies[t] = -sum_j p[j] ln p[j] with p[j] = exp(x[j] - logsumexp[t]); 0 unless ENTROPY
// Between the tiles the results hold the state: logsumexp the highest x, totals the sum of exp(x - highest), entropies the
// same weighted by (x - highest), logprobs the x of the target, NaN until its tile has come.
// Shapes: logits [rows, columns]; targets, results and totals [T], of which rows from first_row on; suppressed [V] (unread
// unless SUPPRESS), of which columns from first_column on.
// One workgroup = one row; one invocation = every WORKGROUP-th word of it.
// Needs shared: index, online_softmax, words_of_one or (if every tile begins and ends at a multiple of four) words_of_four.

const WORKGROUP: u32 = 256u;
const SUPPRESS: bool = false;
const ENTROPY: bool = true;
const NOT_A_NUMBER: u32 = 0x7fc00000u;

const FIRST: u32 = 1u; // there is no state yet
const LAST: u32 = 2u; // the state becomes the results

struct Params {
    rows: u32,
    columns: u32,
    inverse_temperature: f32,
    first_row: u32,
    first_column: u32,
    place: u32, // FIRST, LAST, both or none
}

@group(0) @binding(0) var<storage, read_write> logits: array<Word>;
@group(0) @binding(1) var<storage, read_write> targets: array<i32>;
@group(0) @binding(2) var<storage, read_write> suppressed: array<Word>;
// Bit patterns of f32: WGSL arithmetic need not keep a NaN, a stored word does.
@group(0) @binding(3) var<storage, read_write> logprobs: array<u32>;
@group(0) @binding(4) var<storage, read_write> entropies: array<f32>;
@group(0) @binding(5) var<storage, read_write> logsumexp: array<f32>;
@group(0) @binding(6) var<storage, read_write> totals: array<f32>;
@group(0) @binding(7) var<storage, read> params: Params;

var<workgroup> partial: array<Softmax, WORKGROUP>;

// The scaled logits of one word; `row_start` and `word` count words.
fn scaled_logits(row_start: u32, word: u32) -> vec4<f32> {
    let x = unpack(logits[row_start + word]) * params.inverse_temperature;
    let finite = select(x, vec4<f32>(LOWEST), x < vec4<f32>(LOWEST));
    if (SUPPRESS) {
        return select(finite, vec4<f32>(LOWEST), unpack(suppressed[params.first_column / WIDTH + word]) > vec4<f32>(0.0));
    }
    return finite;
}

// A word past the end counts as LOWEST; its load is redirected to the last word.
fn guarded_logits(row_start: u32, word: u32, words: u32) -> vec4<f32> {
    let x = scaled_logits(row_start, min(word, words - 1u));
    return select(vec4<f32>(LOWEST), x, word < words);
}

fn add_words(state: Softmax, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> Softmax {
    if (WIDTH == 1u) {
        return softmax_add(state, vec4<f32>(a.x, b.x, c.x, d.x));
    }
    return softmax_add(softmax_add(softmax_add(softmax_add(state, a), b), c), d);
}

fn row_part(row_start: u32, words: u32, lane: u32) -> Softmax {
    var state = softmax_empty();
    let whole = words - words % (4u * WORKGROUP);
    for (var word = lane; word < whole; word += 4u * WORKGROUP) {
        state = add_words(
            state,
            scaled_logits(row_start, word),
            scaled_logits(row_start, word + WORKGROUP),
            scaled_logits(row_start, word + 2u * WORKGROUP),
            scaled_logits(row_start, word + 3u * WORKGROUP),
        );
    }
    let word = whole + lane;
    return add_words(
        state,
        guarded_logits(row_start, word, words),
        guarded_logits(row_start, word + WORKGROUP, words),
        guarded_logits(row_start, word + 2u * WORKGROUP, words),
        guarded_logits(row_start, word + 3u * WORKGROUP, words),
    );
}

// Bits of the scaled logit of the target, or what is known of it so far if it is in another tile.
fn target_logit(row: u32, row_start: u32) -> u32 {
    // A target before this tile, or a negative one, becomes a column far past the end.
    let column = u32(targets[params.first_row + row]) - params.first_column;
    if (column < params.columns) {
        return bitcast<u32>(scaled_logits(row_start, column / WIDTH)[column % WIDTH]);
    }
    if ((params.place & FIRST) != 0u) {
        return NOT_A_NUMBER;
    }
    return logprobs[params.first_row + row];
}

fn state_so_far(result: u32) -> Softmax {
    if ((params.place & FIRST) != 0u) {
        return softmax_empty();
    }
    return Softmax(logsumexp[result], totals[result], entropies[result]);
}

fn target_logprob(target_bits: u32, state: Softmax) -> u32 {
    if ((target_bits & 0x7fffffffu) > 0x7f800000u) {
        return NOT_A_NUMBER;
    }
    let x = bitcast<f32>(target_bits);
    if (x <= LOWEST) {
        return bitcast<u32>(LOWEST);
    }
    return bitcast<u32>((x - state.highest) - log(state.total));
}

@compute @workgroup_size(256, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = flat_group(group, groups);
    if (row >= params.rows) {
        return;
    }
    let words = params.columns / WIDTH;
    let row_start = row * words;
    partial[lane] = row_part(row_start, words, lane);
    for (var stride = WORKGROUP / 2u; stride > 0u; stride /= 2u) {
        workgroupBarrier();
        if (lane < stride) {
            partial[lane] = softmax_merge(partial[lane], partial[lane + stride]);
        }
    }
    if (lane == 0u) {
        let result = params.first_row + row;
        let state = softmax_merge(state_so_far(result), partial[0]);
        let target_bits = target_logit(row, row_start);
        if ((params.place & LAST) != 0u) {
            let log_total = log(state.total);
            logsumexp[result] = state.highest + log_total;
            logprobs[result] = target_logprob(target_bits, state);
            entropies[result] = select(0.0, log_total - state.weighted / state.total, ENTROPY);
        } else {
            logsumexp[result] = state.highest;
            logprobs[result] = target_bits;
            entropies[result] = state.weighted;
            totals[result] = state.total;
        }
    }
}
