// Puts together what attention_split.wgsl gave for the parts p of each query's ranges.
//   lse[i, h] = ln sum_p exp(lse_p[i, h]); LOWEST if there are none
//   out[i, h] = sum_p exp(lse_p[i, h] - lse[i, h]) part_p[i, h]; 0 if there are none
// Shapes: parts [slots, H, E], their log-sum-exp [slots, H], out [n, H, E], lse [n, H]. Table: per query the slot of the
// first part of its prefix, the distance to the next one, their number, the slot of the first part of its own range, and
// their number; those follow each other. One invocation = one value of the result. Needs shared: index.

const WORKGROUP: u32 = 64u;
const LOWEST: f32 = -1.0e30;

struct Params {
    values: u32,
    heads: u32,
    width: u32,
}

@group(0) @binding(0) var<storage, read_write> parts: array<f32>;
@group(0) @binding(1) var<storage, read_write> part_lse: array<f32>;
@group(0) @binding(2) var<storage, read_write> table: array<u32>;
@group(0) @binding(3) var<storage, read_write> result: array<f32>;
@group(0) @binding(4) var<storage, read_write> lse: array<f32>;
@group(0) @binding(5) var<storage, read> params: Params;

// Row of parts and of part_lse.
fn part_row(entry: u32, part: u32, head: u32) -> u32 {
    let prefixes = table[entry + 2u];
    let own = table[entry + 3u] + part - min(part, prefixes);
    let slot = select(own, table[entry] + part * table[entry + 1u], part < prefixes);
    return slot * params.heads + head;
}

@compute @workgroup_size(64, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_group(group, groups) * WORKGROUP + lane;
    if (index >= params.values) {
        return;
    }
    let place = index / params.width;
    let offset = index % params.width;
    let head = place % params.heads;
    let entry = place / params.heads * 5u;
    let count = table[entry + 2u] + table[entry + 4u];
    var highest = LOWEST;
    for (var part = 0u; part < count; part++) {
        highest = max(highest, part_lse[part_row(entry, part, head)]);
    }
    var total = 0.0;
    var sum = 0.0;
    for (var part = 0u; part < count; part++) {
        let row = part_row(entry, part, head);
        let weight = exp(part_lse[row] - highest);
        total += weight;
        sum += weight * parts[row * params.width + offset];
    }
    result[index] = select(0.0, sum / total, count > 0u);
    if (offset == 0u) {
        lse[place] = select(LOWEST, highest + log(total), count > 0u);
    }
}
