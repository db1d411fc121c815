// Policy loss, its statistics and its gradient in one pass (TRL's grpo, bnpo, dr_grpo, dapo, cispo and sapo).
//
//   r  = exp(logprob - old), or per row exp(mean over the mask of logprob - old)          (sequence level)
//   s  = min(min(r, delta) A, clamp(r, 1 - epsilon_low, 1 + epsilon_high) A)                 (surrogate 0)
//        min(r, epsilon_high) A logprob, the minimum fixed                                      (surrogate 1, CISPO)
//        4 / tau sigmoid(tau (r - 1)) A, tau by the sign of A                                   (surrogate 2, SAPO)
//   k3 = exp(clamp(d, -20, 20)) - d - 1 with d = reference - logprob; times r if bias-corrected
//   l  = -surrogate_weight s + beta kl_weight k3;  row_loss[R] = sum over T of weight mask l
//   gradient = d(sum of row_loss) / d logprob
//
// logprobs [R, T]; streams [7, R, T] = old, reference, advantage, mask, weight, kl_weight, surrogate_weight;
// terms [5, R, T] = l, r, k3, 1 where clipped below (r < 1 - epsilon_low and A < 0), 1 where clipped above
// (r > 1 + epsilon_high, or epsilon_high for CISPO, and A > 0).
// Where the mask is 0 every output is 0 and no input is used. A number that is not finite, or a ratio that
// overflows, makes the row's loss and gradients NaN. One workgroup = one row.

const WORKGROUP: u32 = 64u;
const LARGEST_LOG_RATIO: f32 = 88.0; // exp overflows above it
const LARGEST_LOG_REFERENCE_RATIO: f32 = 20.0;
const CISPO: u32 = 1u;
const SAPO: u32 = 2u;

struct Params {
    rows: u32,
    tokens: u32,
    surrogate: u32, // CLIPPED, CISPO or SAPO
    sapo_positive: f32, // tau where A > 0
    sapo_negative: f32, // tau everywhere else
    sequence_level: u32, // 1 = one ratio per row
    has_reference: u32, // 0 = no k3
    bias_corrected_kl: u32, // 1 = k3 times r
    epsilon_low: f32,
    epsilon_high: f32,
    delta: f32, // the largest f32 = no cap
    beta: f32,
    not_a_number: u32, // bits of a NaN: WGSL cannot write one
}

@group(0) @binding(0) var<storage, read_write> logprobs: array<f32>;
@group(0) @binding(1) var<storage, read_write> streams: array<f32>;
@group(0) @binding(2) var<storage, read_write> terms: array<f32>;
@group(0) @binding(3) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(4) var<storage, read_write> row_loss: array<f32>;
@group(0) @binding(5) var<storage, read> params: Params;

struct Token {
    logprob: f32,
    log_ratio: f32,
    reference_log_ratio: f32,
    advantage: f32,
    mask: f32,
    weight: f32,
    kl_weight: f32,
    surrogate_weight: f32,
    broken: bool, // some number is not finite
}

// What one token adds: `ratio_slope` is d(l)/d(ln r), `own_slope` is the part of d(l)/d(logprob) beside it.
struct Term {
    loss: f32,
    k3: f32,
    low: f32,
    high: f32,
    ratio_slope: f32,
    own_slope: f32,
}

// A surrogate, its slopes as in Term, and where the ratio was clipped.
struct Gain {
    value: f32,
    ratio_slope: f32,
    own_slope: f32,
    low: f32,
    high: f32,
}

var<workgroup> lanes: array<vec4<f32>, WORKGROUP>;

fn not_finite(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7f800000u) == 0x7f800000u;
}

// The token at flat index `index`; a masked token is all zeros.
fn token_at(index: u32) -> Token {
    let plane = params.rows * params.tokens;
    let mask = streams[3u * plane + index];
    if mask == 0.0 {
        return Token(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, false);
    }
    let logprob = logprobs[index];
    let old = streams[index];
    let advantage = streams[2u * plane + index];
    let weight = streams[4u * plane + index];
    var reference = logprob;
    if params.has_reference == 1u {
        reference = streams[plane + index];
    }
    let broken = not_finite(logprob) || not_finite(old) || not_finite(reference) || not_finite(advantage)
        || not_finite(weight);
    return Token(logprob, logprob - old, reference - logprob, advantage, mask, weight, streams[5u * plane + index],
        streams[6u * plane + index], broken);
}

fn clipped_gain(advantage: f32, ratio: f32) -> Gain {
    let lowest = 1.0 - params.epsilon_low;
    let largest = 1.0 + params.epsilon_high;
    let capped = min(ratio, params.delta);
    let plain = capped * advantage;
    let clipped = clamp(ratio, lowest, largest) * advantage;
    // Slopes of both arguments of the minimum; equal arguments share it, as in PyTorch.
    let plain_slope = select(0.0, 1.0, ratio <= params.delta);
    let clipped_slope = select(0.0, 1.0, ratio >= lowest && ratio <= largest);
    var slope = 0.5 * (plain_slope + clipped_slope);
    slope = select(slope, plain_slope, plain < clipped);
    slope = select(slope, clipped_slope, clipped < plain);
    let low = select(0.0, 1.0, capped < lowest && advantage < 0.0);
    let high = select(0.0, 1.0, capped > largest && advantage > 0.0);
    return Gain(min(plain, clipped), advantage * ratio * slope, 0.0, low, high);
}

fn gain_of(token: Token, ratio: f32) -> Gain {
    let advantage = token.advantage;
    if params.surrogate == CISPO {
        let capped = min(ratio, params.epsilon_high) * advantage;
        let high = select(0.0, 1.0, ratio > params.epsilon_high && advantage > 0.0);
        return Gain(capped * token.logprob, 0.0, capped, 0.0, high);
    }
    if params.surrogate == SAPO {
        let sharpness = select(params.sapo_negative, params.sapo_positive, advantage > 0.0);
        let gate = 1.0 / (1.0 + exp(-sharpness * (ratio - 1.0)));
        return Gain(gate * 4.0 / sharpness * advantage, 4.0 * gate * (1.0 - gate) * ratio * advantage, 0.0, 0.0, 0.0);
    }
    return clipped_gain(advantage, ratio);
}

fn term_of(token: Token, ratio: f32) -> Term {
    let gain = gain_of(token, ratio);
    let d = token.reference_log_ratio;
    let exponential = exp(clamp(d, -LARGEST_LOG_REFERENCE_RATIO, LARGEST_LOG_REFERENCE_RATIO));
    let correction = select(1.0, ratio, params.bias_corrected_kl == 1u);
    let k3 = (exponential - d - 1.0) * correction;
    let beta = params.beta * token.kl_weight;
    let share = token.surrogate_weight;

    var term: Term;
    term.loss = -share * gain.value + beta * k3;
    term.k3 = k3;
    term.low = gain.low;
    term.high = gain.high;
    term.ratio_slope = select(0.0, beta * k3, params.bias_corrected_kl == 1u) - share * gain.ratio_slope;
    term.own_slope = beta * correction * (1.0 - exponential) - share * gain.own_slope;
    return term;
}

// Sum over all lanes, the same in every lane.
fn sum_lanes(lane: u32, value: vec4<f32>) -> vec4<f32> {
    lanes[lane] = value;
    workgroupBarrier();
    for (var stride = WORKGROUP / 2u; stride > 0u; stride /= 2u) {
        if lane < stride {
            lanes[lane] += lanes[lane + stride];
        }
        workgroupBarrier();
    }
    let total = lanes[0];
    workgroupBarrier();
    return total;
}

@compute @workgroup_size(64, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = flat_group(group, groups);
    if row >= params.rows {
        return;
    }
    let plane = params.rows * params.tokens;
    let start = row * params.tokens;
    let not_a_number = bitcast<f32>(params.not_a_number);

    // x: sum of log ratios, y: tokens of the mask, z: broken tokens.
    var sums = vec4<f32>(0.0);
    if params.sequence_level == 1u {
        for (var index = start + lane; index < start + params.tokens; index += WORKGROUP) {
            let token = token_at(index);
            sums += vec4<f32>(token.mask * token.log_ratio, token.mask, select(0.0, 1.0, token.broken), 0.0);
        }
        sums = sum_lanes(lane, sums);
    }
    let tokens_of_row = max(sums.y, 1.0);
    let row_broken = sums.z > 0.0;

    // x: loss, y: d(loss) / d(ln r of the row), z: broken tokens.
    var totals = vec4<f32>(0.0);
    for (var index = start + lane; index < start + params.tokens; index += WORKGROUP) {
        let token = token_at(index);
        let log_ratio = select(token.log_ratio, sums.x / tokens_of_row, params.sequence_level == 1u);
        let broken = token.broken || row_broken || log_ratio > LARGEST_LOG_RATIO;
        let ratio = exp(min(log_ratio, LARGEST_LOG_RATIO));
        let term = term_of(token, ratio);
        let weight = token.weight * token.mask;
        let inside = token.mask != 0.0;
        terms[index] = select(0.0, select(term.loss, not_a_number, broken), inside);
        terms[plane + index] = select(0.0, select(ratio, not_a_number, broken), inside);
        terms[2u * plane + index] = select(0.0, term.k3, inside);
        terms[3u * plane + index] = select(0.0, term.low, inside);
        terms[4u * plane + index] = select(0.0, term.high, inside);
        let token_slope = select(term.ratio_slope, 0.0, params.sequence_level == 1u) + term.own_slope;
        gradient[index] = select(0.0, select(weight * token_slope, not_a_number, broken), inside);
        if inside {
            totals += vec4<f32>(weight * term.loss, weight * term.ratio_slope, select(0.0, 1.0, broken), 0.0);
        }
    }
    totals = sum_lanes(lane, totals);

    if params.sequence_level == 1u {
        let share = totals.y / tokens_of_row;
        for (var index = start + lane; index < start + params.tokens; index += WORKGROUP) {
            let mask = streams[3u * plane + index];
            if mask != 0.0 && totals.z == 0.0 {
                gradient[index] += mask * share;
            }
        }
    }
    if lane == 0u {
        row_loss[row] = select(totals.x, not_a_number, totals.z > 0.0);
    }
}
