// Gradients of attention to keys and values; every key gathers from the queries that see it, so nothing is added atomically.
//   dk[j] = sum_{i, h} ds[i, h, j] q[i, h],  dv[j] = sum_{i, h} p[i, h, j] u[i, h] over the query heads h of j's head;
//   p and ds as in attention_backward_queries.wgsl.
// Shapes: q, u [n, H, E], k, v [m, K, E], statistics [n, H, 2], gradients [2, m, K, E]: dk, then dv.
// Table: per query prefix start, prefix end, own start, own end; then per tile its first key, its number of keys, the first
// query that sees one of them, and the end of those queries. A key outside every tile keeps what the buffer holds.
// One workgroup = one tile of at most ROWS keys and one key head. Needs shared: index, attention.

struct Params {
    heads: u32,
    groups: u32,
    width: u32,
    tiles: u32,
    tile_table: u32,
    scale: f32,
    keys: u32,
}

@group(0) @binding(0) var<storage, read_write> queries: array<f32>;
@group(0) @binding(1) var<storage, read_write> keys: array<f32>;
@group(0) @binding(2) var<storage, read_write> values: array<f32>;
@group(0) @binding(3) var<storage, read_write> upstream: array<f32>;
@group(0) @binding(4) var<storage, read_write> statistics: array<f32>;
@group(0) @binding(5) var<storage, read_write> table: array<u32>;
@group(0) @binding(6) var<storage, read_write> gradients: array<f32>;
@group(0) @binding(7) var<storage, read> params: Params;

var<workgroup> tile: vec4<u32>;
var<workgroup> query_block: array<vec4<f32>, BLOCK * HEAD_WORDS>;
var<workgroup> upstream_block: array<vec4<f32>, BLOCK * HEAD_WORDS>;
// Parts of k . q and of v . u.
var<workgroup> partial: array<vec2<f32>, ROWS * BLOCK * PARTS>;

fn load_block(start: u32, end: u32, head: u32, lane: u32) {
    for (var item = lane; item < BLOCK * HEAD_WORDS; item += WORKGROUP) {
        let query = start + item / HEAD_WORDS;
        var query_word = vec4<f32>(0.0);
        var upstream_word = vec4<f32>(0.0);
        if (query < end) {
            let base = (query * params.heads + head) * params.width;
            for (var index = 0u; index < 4u; index++) {
                let place = (item % HEAD_WORDS) * 4u + index;
                if (place < params.width) {
                    query_word[index] = queries[base + place];
                    upstream_word[index] = upstream[base + place];
                }
            }
        }
        query_block[item] = query_word;
        upstream_block[item] = upstream_word;
    }
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
    let head = index % params.groups;
    let entry = params.tile_table + index / params.groups * 4u;
    if (lane == 0u) {
        tile = vec4<u32>(table[entry], table[entry + 1u], table[entry + 2u], table[entry + 3u]);
    }
    let bounds = workgroupUniformLoad(&tile);
    let row = lane / PARTS;
    let part = lane % PARTS;
    let key = bounds.x + min(row, bounds.y - 1u);
    let place = (key * params.groups + head) * params.width;
    var own: array<vec4<f32>, OWN_WORDS>;
    var own_value: array<vec4<f32>, OWN_WORDS>;
    var to_key: array<vec4<f32>, OWN_WORDS>;
    var to_value: array<vec4<f32>, OWN_WORDS>;
    for (var word = 0u; word < OWN_WORDS; word++) {
        var key_word = vec4<f32>(0.0);
        var value_word = vec4<f32>(0.0);
        for (var item = 0u; item < 4u; item++) {
            let offset = (word * PARTS + part) * 4u + item;
            if (offset < params.width) {
                key_word[item] = keys[place + offset];
                value_word[item] = values[place + offset];
            }
        }
        own[word] = key_word * params.scale;
        own_value[word] = value_word;
        to_key[word] = vec4<f32>(0.0);
        to_value[word] = vec4<f32>(0.0);
    }
    let share = params.heads / params.groups;
    for (var query_head = head * share; query_head < (head + 1u) * share; query_head++) {
        for (var start = bounds.z; start < bounds.w; start += BLOCK) {
            workgroupBarrier();
            load_block(start, bounds.w, query_head, lane);
            workgroupBarrier();
            for (var item = 0u; item < BLOCK; item++) {
                var products = vec2<f32>(0.0);
                for (var word = 0u; word < OWN_WORDS; word++) {
                    let at = item * HEAD_WORDS + word * PARTS + part;
                    products += vec2<f32>(dot(own[word], query_block[at]), dot(own_value[word], upstream_block[at]));
                }
                partial[(row * BLOCK + item) * PARTS + part] = products;
            }
            workgroupBarrier();
            for (var item = 0u; item < BLOCK; item++) {
                let query = min(start + item, bounds.w - 1u);
                let at = (row * BLOCK + item) * PARTS;
                let products = partial[at] + partial[at + 1u] + partial[at + 2u] + partial[at + 3u];
                let seen = vec4<u32>(
                    table[query * 4u],
                    table[query * 4u + 1u],
                    table[query * 4u + 2u],
                    table[query * 4u + 3u],
                );
                let statistic = (query * params.heads + query_head) * 2u;
                let visible = start + item < bounds.w && sees(seen, key);
                let weight = select(0.0, exp(min(products.x - statistics[statistic], 0.5)), visible);
                let slope = weight * (products.y - statistics[statistic + 1u]) * params.scale;
                for (var word = 0u; word < OWN_WORDS; word++) {
                    let block_word = item * HEAD_WORDS + word * PARTS + part;
                    to_key[word] += slope * query_block[block_word];
                    to_value[word] += weight * upstream_block[block_word];
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
