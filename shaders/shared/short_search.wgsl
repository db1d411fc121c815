// The filters' threshold when it lies among the few most likely tokens: one pass over the row collects them, the rest
// works on a sorted list. The kernel declares WORKGROUP, WIDTH, params, Row, Token, keys_at, weight_of, is_below and
// lanes_highest, which must hold each lane's highest token.

const LIST: u32 = 256u; // most tokens of the list
const NOWHERE: u32 = LIST;

var<workgroup> candidates: array<Token, LIST>;
var<workgroup> candidate_count: atomic<u32>;
var<workgroup> lower_bound: u32;
var<workgroup> list: array<Token, LIST>; // the candidates in ascending order of (key, id)
var<workgroup> list_weights: array<f32, LIST>;
var<workgroup> list_length: u32;
var<workgroup> first_kept: u32; // index into the list, or NOWHERE

// Collects every token at least as likely as the `wanted`-th of the lanes' highest, so at least `wanted` tokens if
// there are so many. The number of them, 0 if there are more than LIST.
fn collect(lane: u32, row: Row, wanted: u32) -> u32 {
    let own = lanes_highest[lane];
    var rank = 0u;
    for (var other = 0u; other < WORKGROUP; other++) {
        rank += select(0u, 1u, is_below(own, lanes_highest[other]));
    }
    if rank + 1u == wanted { // true in one lane
        lower_bound = max(own.key, NO_VALUE + 1u);
    }
    if lane == 0u {
        atomicStore(&candidate_count, 0u);
    }
    workgroupBarrier();
    let lowest = lower_bound;
    for (var id = WIDTH * lane; id < params.vocabulary; id += WIDTH * WORKGROUP) {
        let keys = keys_at(row, id);
        for (var next = 0u; next < WIDTH; next++) {
            if keys[next] >= lowest {
                candidates[min(atomicAdd(&candidate_count, 1u), LIST - 1u)] = Token(keys[next], id + next);
            }
        }
    }
    workgroupBarrier();
    if lane == 0u {
        let count = atomicLoad(&candidate_count);
        list_length = select(count, 0u, count > LIST);
    }
    return workgroupUniformLoad(&list_length);
}

// Sorts the candidates, whose order is that of chance, so that sums over them are the same on every run.
fn sort_candidates(lane: u32, row: Row, length: u32) {
    for (var index = lane; index < length; index += WORKGROUP) {
        let own = candidates[index];
        var rank = 0u;
        for (var other = 0u; other < length; other++) {
            rank += select(0u, 1u, is_below(candidates[other], own));
        }
        list[rank] = own;
        list_weights[rank] = weight_of(row, own.key);
    }
    workgroupBarrier();
}

// Index of the first token of the list that top-k and top-p keep; NOWHERE if that token may not be in the list.
// `total` is the weight of all tokens, used without top-k.
fn short_search(lane: u32, row: Row, wanted: u32, total: f32) -> u32 {
    let length = collect(lane, row, wanted);
    sort_candidates(lane, row, length);
    if lane == 0u {
        first_kept = first_in_list(length, total);
    }
    return workgroupUniformLoad(&first_kept);
}

fn first_in_list(length: u32, total: f32) -> u32 {
    var start = 0u;
    if params.top_k > 0u {
        start = length - min(params.top_k, length);
        while start > 0u && start < length && list[start - 1u].key == list[start].key {
            start -= 1u;
        }
    }
    var listed = 0.0;
    for (var index = start; index < length; index++) {
        listed += list_weights[index];
    }
    let outside = select(max(total - listed, 0.0), 0.0, params.top_k > 0u);
    let limit = params.drop_share * (outside + listed);
    var running = outside;
    var kept = start;
    while params.drop_share > 0.0 && kept + 1u < length && running + list_weights[kept] <= limit {
        running += list_weights[kept];
        kept += 1u;
    }
    return select(kept, NOWHERE, length == 0u || outside > limit);
}
