// Gradient of token_logprob with respect to the logits of a tile of the vocabulary, which it may overwrite.
//   gradient[t, j] = upstream[t] * ((j == targets[t]) - p[j]) * inverse_temperature
//   p[j]           = exp(logits[t, j] * inverse_temperature - logsumexp[t])
//   0 where suppressed[j] > 0, and for the whole row if its target is suppressed or not in 0..V
// With ENTROPY also that of the entropies H, whatever the target:
//   gradient[t, j] -= entropy_upstream[t] * p[j] * (ln p[j] + H[t]) * inverse_temperature
// Shapes: logits, gradient [rows, columns]; targets, logsumexp [T], of which rows from first_row on; suppressed [V] (unread
// unless SUPPRESS), of which columns from first_column on; upstream [T], or [3, T] = upstream, H, entropy_upstream with
// ENTROPY.
// With IN_PLACE the logits are read from `gradient` and binding 0 is not accessed.
// One workgroup = WORDS words of one row; one invocation = every WORKGROUP-th of them.
// Needs shared: index, words_of_one or (if every tile begins and ends at a multiple of four) words_of_four.

const WORKGROUP: u32 = 256u;
const WORDS: u32 = 2048u;
const SUPPRESS: bool = false;
const IN_PLACE: bool = false;
const ENTROPY: bool = false;
const LOWEST: f32 = -1.0e30; // finite stand-in for the logarithm of 0

struct Params {
    rows: u32,
    columns: u32,
    inverse_temperature: f32,
    first_row: u32,
    first_column: u32,
    all_rows: u32, // T
    vocabulary: u32, // V
}

@group(0) @binding(0) var<storage, read_write> logits: array<Word>;
@group(0) @binding(1) var<storage, read_write> targets: array<i32>;
@group(0) @binding(2) var<storage, read_write> suppressed: array<Word>;
@group(0) @binding(3) var<storage, read_write> logsumexp: array<f32>;
@group(0) @binding(4) var<storage, read_write> upstream: array<f32>;
@group(0) @binding(5) var<storage, read_write> gradient: array<Word>;
@group(0) @binding(6) var<storage, read> params: Params;

fn is_suppressed(word: u32) -> vec4<bool> {
    if (SUPPRESS) {
        return unpack(suppressed[word]) > vec4<f32>(0.0);
    }
    return vec4<bool>(false);
}

fn scaled_logits(index: u32) -> vec4<f32> {
    if (IN_PLACE) {
        return unpack(gradient[index]) * params.inverse_temperature;
    }
    return unpack(logits[index]) * params.inverse_temperature;
}

// upstream[t] / temperature, or 0 for a row without a usable target.
fn row_factor(row: u32, target_token: u32) -> f32 {
    if (target_token >= params.vocabulary) {
        return 0.0;
    }
    if (is_suppressed(target_token / WIDTH)[target_token % WIDTH]) {
        return 0.0;
    }
    return upstream[row] * params.inverse_temperature;
}

@compute @workgroup_size(256, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let words = params.columns / WIDTH;
    let parts = (words + WORDS - 1u) / WORDS;
    let row = flat_group(group, groups) / parts;
    if (row >= params.rows) {
        return;
    }
    let first = (flat_group(group, groups) % parts) * WORDS;
    let end = min(first + WORDS, words);
    let all_row = params.first_row + row;
    // A negative target becomes a token far past the end, one before this tile a column far past the end.
    let target_token = u32(targets[all_row]);
    let target_column = target_token - params.first_column;
    let factor = row_factor(all_row, target_token);
    let normaliser = logsumexp[all_row];
    var entropy = 0.0;
    var pull = 0.0;
    if (ENTROPY) {
        entropy = upstream[params.all_rows + all_row];
        pull = upstream[2u * params.all_rows + all_row] * params.inverse_temperature;
    }
    for (var word = first + lane; word < end; word += WORKGROUP) {
        let columns = vec4<u32>(word * WIDTH) + vec4<u32>(0u, 1u, 2u, 3u);
        let hit = select(vec4<f32>(0.0), vec4<f32>(1.0), columns == vec4<u32>(target_column));
        let index = row * words + word;
        let shifted = scaled_logits(index) - normaliser;
        let p = exp(shifted);
        var values = factor * (hit - p);
        if (ENTROPY) {
            values -= pull * p * (max(shifted, vec4<f32>(LOWEST)) + entropy);
        }
        gradient[index] = pack(select(values, vec4<f32>(0.0), is_suppressed(params.first_column / WIDTH + word)));
    }
}
