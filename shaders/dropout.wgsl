// Values kept at random: y[i] = x[i] * scale if the hash of the key and i is at least `threshold`, else 0.
// Shapes: x, y `count` values. One invocation = one value. Needs shared: index.

const WORKGROUP: u32 = 256u;

struct Params {
    count: u32,
    // The seed, spread over two words.
    low: u32,
    high: u32,
    // The part of all hashes that are below it is dropped.
    threshold: u32,
    scale: f32,
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> params: Params;

// The finaliser of MurmurHash3: each bit of the result depends on each bit of the word.
fn mixed(word: u32) -> u32 {
    let first = (word ^ (word >> 16u)) * 0x85ebca6bu;
    let second = (first ^ (first >> 13u)) * 0xc2b2ae35u;
    return second ^ (second >> 16u);
}

@compute @workgroup_size(256, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_group(group, groups) * WORKGROUP + lane;
    if (index >= params.count) {
        return;
    }
    let hash = mixed(mixed(index + params.low) ^ params.high);
    y[index] = select(0.0, x[index] * params.scale, hash >= params.threshold);
}
