// Attention of few queries over long ranges, as in decoding: the ranges are cut into parts, which attention_merge.wgsl puts
// together. What one part gives is what attention.wgsl would if a query saw nothing else.
// Shapes: q [n, H, E], k, v [m, K, E], parts [slots, H, E], their log-sum-exp [slots, H]. Table from `tile_table` on: per
// part its first query, its number of queries, its first key, the end of its keys, and the slot of its first query.
// One workgroup = one part and one key head; its rows are the queries with every head that reads this key head, so that
// keys and values are read once for all of them. Needs shared: index, attention, attention_softmax.

@group(0) @binding(0) var<storage, read_write> queries: array<f32>;
@group(0) @binding(1) var<storage, read_write> keys: array<f32>;
@group(0) @binding(2) var<storage, read_write> values: array<f32>;
@group(0) @binding(3) var<storage, read_write> table: array<u32>;
@group(0) @binding(4) var<storage, read_write> result: array<f32>;
@group(0) @binding(5) var<storage, read_write> lse: array<f32>;
@group(0) @binding(6) var<storage, read> params: Params;

var<workgroup> work: vec4<u32>;

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
    let entry = params.tile_table + index / params.groups * 5u;
    if (lane == 0u) {
        work = vec4<u32>(table[entry], table[entry + 1u], table[entry + 2u], table[entry + 3u]);
    }
    let bounds = workgroupUniformLoad(&work);
    let share = params.heads / params.groups;
    let row = lane / PARTS;
    let part = lane % PARTS;
    let real = min(row, bounds.y * share - 1u);
    let query = real / share;
    let head = key_head * share + real % share;
    begin_row((bounds.x + query) * params.heads + head, part);
    walk(bounds.z, bounds.w, key_head, vec4<u32>(bounds.zw, 0u, 0u), lane);
    if (row < bounds.y * share) {
        end_row((table[entry + 4u] + query) * params.heads + head, part);
    }
}
