// Gradient of attention to the queries, from the log-sum-exp of the forward pass.
//   p[i, h, j]  = exp(s[i, h, j] - lse[i, h]) over the keys j that query i sees
//   ds[i, h, j] = p[i, h, j] (u[i, h] . v[j] - delta[i, h]) * scale
//   dq[i, h]    = sum_j ds[i, h, j] k[j]
// Shapes: q, u (gradient to the output), dq [n, H, E], k, v [m, K, E], statistics [n, H, 2]: lse and delta = u . out.
// Table and workgroups as in attention.wgsl. Needs shared: index, attention.

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
@group(0) @binding(3) var<storage, read_write> upstream: array<f32>;
@group(0) @binding(4) var<storage, read_write> statistics: array<f32>;
@group(0) @binding(5) var<storage, read_write> table: array<u32>;
@group(0) @binding(6) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(7) var<storage, read> params: Params;

var<workgroup> tile_queries: vec2<u32>;
var<workgroup> tile_keys: vec4<u32>;
var<workgroup> key_block: array<vec4<f32>, BLOCK * HEAD_WORDS>;
var<workgroup> value_block: array<vec4<f32>, BLOCK * HEAD_WORDS>;
// Parts of q . k and of u . v.
var<workgroup> partial: array<vec2<f32>, ROWS * BLOCK * PARTS>;

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
    let query_lse = statistics[place * 2u];
    let delta = statistics[place * 2u + 1u];
    var own: array<vec4<f32>, OWN_WORDS>;
    var above: array<vec4<f32>, OWN_WORDS>;
    var sums: array<vec4<f32>, OWN_WORDS>;
    for (var word = 0u; word < OWN_WORDS; word++) {
        var query_word = vec4<f32>(0.0);
        var upstream_word = vec4<f32>(0.0);
        for (var item = 0u; item < 4u; item++) {
            let offset = (word * PARTS + part) * 4u + item;
            if (offset < params.width) {
                query_word[item] = queries[place * params.width + offset];
                upstream_word[item] = upstream[place * params.width + offset];
            }
        }
        own[word] = query_word * params.scale;
        above[word] = upstream_word;
        sums[word] = vec4<f32>(0.0);
    }
    for (var side = 0u; side < 2u; side++) {
        let first = select(bounds.x, bounds.z, side == 1u);
        let end = select(bounds.y, bounds.w, side == 1u);
        for (var start = first; start < end; start += BLOCK) {
            workgroupBarrier();
            load_block(start, end, head / (params.heads / params.groups), lane);
            workgroupBarrier();
            for (var key = 0u; key < BLOCK; key++) {
                var products = vec2<f32>(0.0);
                for (var word = 0u; word < OWN_WORDS; word++) {
                    let at = key * HEAD_WORDS + word * PARTS + part;
                    products += vec2<f32>(dot(own[word], key_block[at]), dot(above[word], value_block[at]));
                }
                partial[(row * BLOCK + key) * PARTS + part] = products;
            }
            workgroupBarrier();
            for (var key = 0u; key < BLOCK; key++) {
                let at = (row * BLOCK + key) * PARTS;
                let products = partial[at] + partial[at + 1u] + partial[at + 2u] + partial[at + 3u];
                let visible = start + key < end && sees(seen, start + key);
                let weight = exp(min(products.x - query_lse, 0.5));
                let slope = select(0.0, weight * (products.y - delta) * params.scale, visible);
                for (var word = 0u; word < OWN_WORDS; word++) {
                    sums[word] += slope * key_block[key * HEAD_WORDS + word * PARTS + part];
                }
            }
        }
    }
    if (row >= asked.y) {
        return;
    }
    for (var word = 0u; word < OWN_WORDS; word++) {
        for (var item = 0u; item < 4u; item++) {
            let offset = (word * PARTS + part) * 4u + item;
            if (offset < params.width) {
                gradient[place * params.width + offset] = sums[word][item];
            }
        }
    }
}
