// Attention over two visible ranges of keys per query, with an online softmax; no buffer of scores.
//   s[i, h, j] = q[i, h] . k[j, h / (H/K)] * scale over the keys j that query i sees
//   lse[i, h]  = ln sum_j exp(s[i, h, j]); LOWEST if it sees none
//   out[i, h]  = sum_j exp(s[i, h, j] - lse[i, h]) v[j, h / (H/K)]; 0 if it sees none
// Shapes: q, out [n, H, E], k, v [m, K, E], lse [n, H]. Table: per query prefix start, prefix end, own start, own end;
// then per tile its first query, its number of queries, and the same four of the whole tile.
// One workgroup = one tile of at most ROWS queries and one head. Needs shared: index, attention, attention_softmax.

@group(0) @binding(0) var<storage, read_write> queries: array<f32>;
@group(0) @binding(1) var<storage, read_write> keys: array<f32>;
@group(0) @binding(2) var<storage, read_write> values: array<f32>;
@group(0) @binding(3) var<storage, read_write> table: array<u32>;
@group(0) @binding(4) var<storage, read_write> result: array<f32>;
@group(0) @binding(5) var<storage, read_write> lse: array<f32>;
@group(0) @binding(6) var<storage, read> params: Params;

var<workgroup> tile_queries: vec2<u32>;
var<workgroup> tile_keys: vec4<u32>;

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
    let key_head = head / (params.heads / params.groups);
    begin_row(place, part);
    walk(bounds.x, bounds.y, key_head, seen, lane);
    walk(bounds.z, bounds.w, key_head, seen, lane);
    if (row < asked.y) {
        end_row(place, part);
    }
}
