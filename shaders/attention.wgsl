// Attention over two visible ranges of keys per query, with an online softmax; no buffer of scores.
//   s[i, h, j] = q[i, h] . k[j, h / (H/K)] * scale over the keys j that query i sees
//   lse[i, h]  = ln sum_j exp(s[i, h, j]); LOWEST if it sees none
//   out[i, h]  = sum_j exp(s[i, h, j] - lse[i, h]) v[j, h / (H/K)]; 0 if it sees none
// Shapes: q, out [n, H, E], k, v [m, K, E], lse [n, H]. Table: per query prefix start, prefix end, own start, own end;
// then per tile its first query, its number of queries, and the same four of the whole tile.
// One workgroup = one tile of at most ROWS queries and one head. Needs shared: index, attention.

struct Params {
    heads: u32,
    groups: u32,
    width: u32,
    tiles: u32,
    tile_table: u32,
    scale: f32,
}

@group(0) @binding(0) var<storage, read_write> queries: array<f32>;
@group(0) @binding(1) var<storage, read_write> keys: array<f32>;
@group(0) @binding(2) var<storage, read_write> values: array<f32>;
@group(0) @binding(3) var<storage, read_write> table: array<u32>;
@group(0) @binding(4) var<storage, read_write> result: array<f32>;
@group(0) @binding(5) var<storage, read_write> lse: array<f32>;
@group(0) @binding(6) var<storage, read> params: Params;

var<workgroup> tile_queries: vec2<u32>;
var<workgroup> tile_keys: vec4<u32>;
var<workgroup> key_block: array<vec4<f32>, BLOCK * HEAD_WORDS>;
var<workgroup> value_block: array<vec4<f32>, BLOCK * HEAD_WORDS>;
var<workgroup> partial: array<f32, ROWS * BLOCK * PARTS>;

// Four values of a head that begins at `start`; zero past the head's size.
fn query_word(start: u32, word: u32) -> vec4<f32> {
    var four = vec4<f32>(0.0);
    for (var index = 0u; index < 4u; index++) {
        let place = word * 4u + index;
        if (place < params.width) {
            four[index] = queries[start + place];
        }
    }
    return four;
}

fn load_block(start: u32, end: u32, head: u32, lane: u32) {
    for (var item = lane; item < BLOCK * HEAD_WORDS; item += WORKGROUP) {
        let key = start + item / HEAD_WORDS;
        var key_word = vec4<f32>(0.0);
        var value_word = vec4<f32>(0.0);
        if (key < end) {
            let base = (key * params.groups + head) * params.width;
            for (var index = 0u; index < 4u; index++) {
                let place = (item % HEAD_WORDS) * 4u + index;
                if (place < params.width) {
                    key_word[index] = keys[base + place];
                    value_word[index] = values[base + place];
                }
            }
        }
        key_block[item] = key_word;
        value_block[item] = value_word;
    }
}

@compute @workgroup_size(128, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_group(group, groups);
    if (index >= params.tiles * params.heads) {
        return;
    }
    let head = index % params.heads;
    let entry = params.tile_table + index / params.heads * 6u;
    if (lane == 0u) {
        tile_queries = vec2<u32>(table[entry], table[entry + 1u]);
        tile_keys = vec4<u32>(table[entry + 2u], table[entry + 3u], table[entry + 4u], table[entry + 5u]);
    }
    let asked = workgroupUniformLoad(&tile_queries);
    let bounds = workgroupUniformLoad(&tile_keys);
    let row = lane / PARTS;
    let part = lane % PARTS;
    let query = asked.x + min(row, asked.y - 1u);
    let seen = vec4<u32>(table[query * 4u], table[query * 4u + 1u], table[query * 4u + 2u], table[query * 4u + 3u]);
    let place = query * params.heads + head;
    var own: array<vec4<f32>, OWN_WORDS>;
    var sums: array<vec4<f32>, OWN_WORDS>;
    for (var word = 0u; word < OWN_WORDS; word++) {
        own[word] = query_word(place * params.width, word * PARTS + part) * params.scale;
        sums[word] = vec4<f32>(0.0);
    }
    var highest = LOWEST;
    var total = 0.0;
    for (var side = 0u; side < 2u; side++) {
        let first = select(bounds.x, bounds.z, side == 1u);
        let end = select(bounds.y, bounds.w, side == 1u);
        for (var start = first; start < end; start += BLOCK) {
            workgroupBarrier();
            load_block(start, end, head / (params.heads / params.groups), lane);
            workgroupBarrier();
            for (var key = 0u; key < BLOCK; key++) {
                var product = 0.0;
                for (var word = 0u; word < OWN_WORDS; word++) {
                    product += dot(own[word], key_block[key * HEAD_WORDS + word * PARTS + part]);
                }
                partial[(row * BLOCK + key) * PARTS + part] = product;
            }
            workgroupBarrier();
            var scores: array<f32, BLOCK>;
            var block_highest = highest;
            for (var key = 0u; key < BLOCK; key++) {
                let at = (row * BLOCK + key) * PARTS;
                let score = partial[at] + partial[at + 1u] + partial[at + 2u] + partial[at + 3u];
                scores[key] = select(LOWEST, score, start + key < end && sees(seen, start + key));
                block_highest = max(block_highest, scores[key]);
            }
            let factor = exp(highest - block_highest);
            highest = block_highest;
            total *= factor;
            for (var word = 0u; word < OWN_WORDS; word++) {
                sums[word] *= factor;
            }
            for (var key = 0u; key < BLOCK; key++) {
                let weight = select(exp(scores[key] - highest), 0.0, scores[key] <= LOWEST);
                total += weight;
                for (var word = 0u; word < OWN_WORDS; word++) {
                    sums[word] += weight * value_block[key * HEAD_WORDS + word * PARTS + part];
                }
            }
        }
    }
    if (row >= asked.y) {
        return;
    }
    let factor = select(0.0, 1.0 / total, total > 0.0);
    for (var word = 0u; word < OWN_WORDS; word++) {
        for (var item = 0u; item < 4u; item++) {
            let offset = (word * PARTS + part) * 4u + item;
            if (offset < params.width) {
                result[place * params.width + offset] = sums[word][item] * factor;
            }
        }
    }
    if (part == 0u) {
        lse[place] = select(LOWEST, highest + log(total), total > 0.0);
    }
}
