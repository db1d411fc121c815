// Gradient of attention to the queries, from the log-sum-exp of the forward pass.
//   p[i, h, j]  = exp(s[i, h, j] - lse[i, h]) over the keys j that query i sees
//   ds[i, h, j] = p[i, h, j] (u[i, h] . v[j] - delta[i, h]) * scale
//   dq[i, h]    = sum_j ds[i, h, j] k[j]
// Shapes: q, u (gradient to the output), dq [n, H, E], k, v [m, K, E], statistics [n, H, 2]: lse and delta = u . out.
// Table and workgroups as in attention.wgsl. Needs shared: index, attention, attention_backward.

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

fn walked(start: u32, word: u32) -> Words {
    return key_and_value(start, word);
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
    let seen = seen_by(query);
    let place = query * params.heads + head;
    let statistic = vec2<f32>(statistics[place * 2u], statistics[place * 2u + 1u]);
    var sums: array<vec4<f32>, OWN_WORDS>;
    for (var word = 0u; word < OWN_WORDS; word++) {
        own[word] = query_and_upstream(place * params.width, word * PARTS + part);
        sums[word] = vec4<f32>(0.0);
    }
    for (var side = 0u; side < 2u; side++) {
        let first = select(bounds.x, bounds.z, side == 1u);
        let end = select(bounds.y, bounds.w, side == 1u);
        for (var start = first; start < end; start += BLOCK) {
            load_block(start, end, params.groups, head / (params.heads / params.groups), lane);
            multiply_block(lane);
            for (var key = 0u; key < BLOCK; key++) {
                let visible = start + key < end && sees(seen, start + key);
                let slope = weight_and_slope(lane, key, statistic, visible).y;
                for (var word = 0u; word < OWN_WORDS; word++) {
                    sums[word] += slope * first_block[key * HEAD_WORDS + word * PARTS + part];
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
