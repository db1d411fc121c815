// One update of AdamW in place: torch.optim.AdamW with the bias corrections in the scalars.
//   m' = beta1 m + own1 g            v' = beta2 v + own2 g g
//   p' = decay p - rate m' / (sqrt(v') / root_correction + epsilon)
// Shapes: all [elements]. One invocation = one element. Needs shared: index.

const WORKGROUP: u32 = 256u;

struct Params {
    elements: u32,
    decay: f32,
    beta1: f32,
    own1: f32,
    beta2: f32,
    own2: f32,
    rate: f32,
    root_correction: f32,
    epsilon: f32,
}

@group(0) @binding(0) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(1) var<storage, read_write> parameter: array<f32>;
@group(0) @binding(2) var<storage, read_write> exp_avg: array<f32>;
@group(0) @binding(3) var<storage, read_write> exp_avg_sq: array<f32>;
@group(0) @binding(4) var<storage, read> params: Params;

@compute @workgroup_size(256, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_group(group, groups) * WORKGROUP + lane;
    if (index >= params.elements) {
        return;
    }
    let g = gradient[index];
    let mean = params.beta1 * exp_avg[index] + params.own1 * g;
    let square = params.beta2 * exp_avg_sq[index] + params.own2 * (g * g);
    let denominator = sqrt(square) / params.root_correction + params.epsilon;
    parameter[index] = params.decay * parameter[index] - params.rate * (mean / denominator);
    exp_avg[index] = mean;
    exp_avg_sq[index] = square;
}
