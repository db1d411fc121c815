// Gradients of attention to keys and values; every key gathers from the queries that see it, so nothing is added atomically.
//   dk[j] = sum_{i, h} ds[i, h, j] q[i, h],  dv[j] = sum_{i, h} p[i, h, j] u[i, h] over the query heads h of j's head;
//   p and ds as in attention_backward_queries.wgsl.
// Shapes: q, u [n, H, E], k, v [m, K, E], statistics [n, H, 2], gradients [2, m, K, E]: dk, then dv.
// Table: per query prefix start, prefix end, own start, own end; then per tile its first key, its number of keys, the first
// query that sees one of them, and the end of those queries. A key outside every tile keeps what the buffer holds.
// One workgroup = one tile of at most ROWS keys and one key head. Needs shared: index, attention, attention_backward.

@group(0) @binding(0) var<storage, read_write> queries: array<f32>;
@group(0) @binding(1) var<storage, read_write> keys: array<f32>;
@group(0) @binding(2) var<storage, read_write> values: array<f32>;
@group(0) @binding(3) var<storage, read_write> upstream: array<f32>;
@group(0) @binding(4) var<storage, read_write> statistics: array<f32>;
@group(0) @binding(5) var<storage, read_write> table: array<u32>;
@group(0) @binding(6) var<storage, read_write> gradients: array<f32>;
@group(0) @binding(7) var<storage, read> params: Params;

var<workgroup> tile: vec4<u32>;

fn walked(start: u32, word: u32) -> Words {
    return query_and_upstream(start, word);
}

@compute @workgroup_size(128, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_group(group, groups);
    if (index >= params.tiles * params.groups) {
        return;
    }
    let key_head = index % params.groups;
    let entry = params.tile_table + index / params.groups * 4u;
    if (lane == 0u) {
        tile = vec4<u32>(table[entry], table[entry + 1u], table[entry + 2u], table[entry + 3u]);
    }
    let bounds = workgroupUniformLoad(&tile);
    let row = lane / PARTS;
    let part = lane % PARTS;
    let key = bounds.x + min(row, bounds.y - 1u);
    let place = (key * params.groups + key_head) * params.width;
    var to_key: array<vec4<f32>, OWN_WORDS>;
    var to_value: array<vec4<f32>, OWN_WORDS>;
    for (var word = 0u; word < OWN_WORDS; word++) {
        own[word] = key_and_value(place, word * PARTS + part);
        to_key[word] = vec4<f32>(0.0);
        to_value[word] = vec4<f32>(0.0);
    }
    let share = params.heads / params.groups;
    for (var head = key_head * share; head < (key_head + 1u) * share; head++) {
        for (var start = bounds.z; start < bounds.w; start += BLOCK) {
            load_block(start, bounds.w, params.heads, head, lane);
            multiply_block(lane);
            for (var item = 0u; item < BLOCK; item++) {
                let query = min(start + item, bounds.w - 1u);
                let at = (query * params.heads + head) * 2u;
                let statistic = vec2<f32>(statistics[at], statistics[at + 1u]);
                let visible = start + item < bounds.w && sees(seen_by(query), key);
                let both = weight_and_slope(lane, item, statistic, visible);
                for (var word = 0u; word < OWN_WORDS; word++) {
                    let block_word = item * HEAD_WORDS + word * PARTS + part;
                    to_key[word] += both.y * first_block[block_word];
                    to_value[word] += both.x * second_block[block_word];
                }
            }
        }
    }
    if (row >= bounds.y) {
        return;
    }
    let values_start = params.keys * params.groups * params.width;
    for (var word = 0u; word < OWN_WORDS; word++) {
        for (var item = 0u; item < 4u; item++) {
            let offset = (word * PARTS + part) * 4u + item;
            if (offset < params.width) {
                gradients[place + offset] = to_key[word][item];
                gradients[values_start + place + offset] = to_value[word][item];
            }
        }
    }
}
