"""Numbers of TRL 1.16's `GRPOTrainer` that the other golden files lack: losses `cispo` and `sapo` with their gradients, the
entropy bonus, the mask of the most uncertain tokens, `normalize_then_sum`; and transformers' repetition penalty.

Written from `_compute_loss`, `get_high_entropy_mask`, `_generate_and_score_completions` and
`RepetitionPenaltyLogitsProcessor`, in plain Python with double precision; gradients by complex steps, exact to rounding.
Run: python3 losses.py > losses.json
"""
import cmath
import json
import math
import random

draw = random.Random(20260211)


def numbers(count, low, high):
    return [round(draw.uniform(low, high), 4) for _ in range(count)]


def smaller(a, b):
    return a if complex(a).real <= complex(b).real else b


ROWS, TOKENS = 4, 5
LENGTHS = [5, 3, 4, 1]
logps = [numbers(TOKENS, -3, -0.1) for _ in range(ROWS)]
old = [[value + shift for value, shift in zip(row, numbers(TOKENS, -0.7, 0.7))] for row in logps]
reference = [[value + shift for value, shift in zip(row, numbers(TOKENS, -0.5, 0.5))] for row in logps]
advantages = [1.3, -0.8, 0.4, -1.1]
mask = [[1.0 if t < length else 0.0 for t in range(TOKENS)] for length in LENGTHS]


def loss(logps, s):
    """The loss of one micro-batch that is the whole step."""
    total, normaliser = 0, sum(map(sum, mask))
    for r in range(ROWS):
        ratio = [logps[r][t] - old[r][t] for t in range(TOKENS)]
        if s["importance_sampling_level"] == "sequence":
            mean = sum(x * m for x, m in zip(ratio, mask[r])) / max(sum(mask[r]), 1.0)
            ratio = [mean] * TOKENS
        row = 0
        for t in range(TOKENS):
            coef, a = cmath.exp(ratio[t]), advantages[r]
            if s["loss_type"] == "cispo":
                # detached: the real part alone
                value = -complex(smaller(coef, s["epsilon_high"])).real * a * logps[r][t]
            else:
                tau = s["sapo_temperature_pos"] if a > 0 else s["sapo_temperature_neg"]
                value = -(1 / (1 + cmath.exp(-tau * (coef - 1)))) * 4 / tau * a
            if s["beta"] != 0:
                d = reference[r][t] - logps[r][t]
                kl = cmath.exp(d) - d - 1
                value = value + s["beta"] * (kl * coef if s["use_bias_correction_kl"] else kl)
            row += value * mask[r][t]
        total += row / max(sum(mask[r]), 1.0) / ROWS if s["loss_type"] == "sapo" else row / normaliser
    return total


def derivatives(function, table, step=1e-30):
    result = []
    for r in range(len(table)):
        for t in range(len(table[r])):
            moved = [list(map(complex, row)) for row in table]
            moved[r][t] += 1j * step
            result.append(complex(function(moved)).imag / step)
    return result


def clip_share(s):
    """`cispo_clip_ratio`."""
    hits, count = 0.0, 0.0
    for r in range(ROWS):
        ratio = [logps[r][t] - old[r][t] for t in range(TOKENS)]
        if s["importance_sampling_level"] == "sequence":
            mean = sum(x * m for x, m in zip(ratio, mask[r])) / sum(mask[r])
            hits, count = hits + (math.exp(mean) > s["epsilon_high"] and advantages[r] > 0), count + 1
            continue
        for t in range(TOKENS):
            hits += mask[r][t] * (math.exp(ratio[t]) > s["epsilon_high"] and advantages[r] > 0)
            count += mask[r][t]
    return hits / count


losses = []
for loss_type in ("cispo", "sapo"):
    for level in ("token", "sequence"):
        for beta, corrected in ((0.0, False), (0.05, False), (0.05, True)):
            settings = {
                "loss_type": loss_type, "importance_sampling_level": level, "beta": beta,
                "use_bias_correction_kl": corrected, "epsilon": 0.2, "epsilon_high": 1.1,
                "sapo_temperature_pos": 1.0, "sapo_temperature_neg": 1.05,
            }
            entry = dict(settings, loss=complex(loss(logps, settings)).real,
                         gradient=derivatives(lambda table: loss(table, settings), logps))
            if loss_type == "cispo":
                entry["cispo_clip_ratio"] = clip_share(settings)
            losses.append(entry)

# Entropy bonus: -coef x mean entropy of the tokens that count, in two micro-batches of unequal size.
VOCABULARY = 7
logits = [numbers(VOCABULARY, -3, 3) for _ in range(6)]


def entropies(logits):
    result = []
    for row in logits:
        total = sum(cmath.exp(x) for x in row)
        logs = [x - cmath.log(total) for x in row]
        result.append(-sum(cmath.exp(x) * x for x in logs))
    return result


bonus = {
    "logits": logits,
    "entropies": [value.real for value in entropies(logits)],
    "mean": sum(entropies(logits)).real / 6,
    "gradient_of_mean": derivatives(lambda table: sum(entropies(table)) / 6, logits),
}


def quantile(values, q):
    """torch.quantile, linear: in single precision as there, up to the rounding of the inputs."""
    values = sorted(values)
    rank = q * (len(values) - 1)
    below = math.floor(rank)
    above = min(below + 1, len(values) - 1)
    return values[below] + (rank - below) * (values[above] - values[below])


token_entropies = [numbers(TOKENS, 0, 3) for _ in range(ROWS)]
flat = [e for row, m in zip(token_entropies, mask) for e, inside in zip(row, m) if inside]
uncertain = []
for share in (0.0, 0.2, 0.35, 0.5, 0.8, 0.99):
    threshold = quantile(flat, 1 - share)
    kept = [[float(e >= threshold and m > 0) for e, m in zip(row, ms)] for row, ms in zip(token_entropies, mask)]
    uncertain.append({"top_entropy_quantile": share, "mask": kept})


def mean(values):
    values = [v for v in values if v is not None]
    return sum(values) / len(values) if values else None


def deviation(values):
    values = [v for v in values if v is not None]
    if not values:
        return None
    m = sum(values) / len(values)
    return math.sqrt(sum((v - m) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else 0.0


def normalize_then_sum(rewards, weights, group):
    columns = len(weights)
    total = []
    for start in range(0, len(rewards), group):
        rows = rewards[start:start + group]
        stats = [(mean([r[k] for r in rows]), deviation([r[k] for r in rows])) for k in range(columns)]
        for r in rows:
            parts = [w * (r[k] - stats[k][0]) / (stats[k][1] + 1e-4) for k, w in enumerate(weights) if r[k] is not None]
            total.append(sum(parts) if parts else None)
    m, s = mean(total), deviation(total)
    return [0.0 if value is None else (value - m) / (s + 1e-4) for value in total]


objectives = []
for weights, rewards in (
    ([1.0, 1.0], [[1, 0], [0, 1], [1, 1], [0, 0], [1, 0.5], [1, 0.25], [0, 0.5], [0, 1]]),
    ([1.0, 0.2], [[2, 0], [2, 1], [2, 0], [2, 1], [0.5, 1], [0.1, 1], [0.9, 1], [0.3, 1]]),
    ([2.0, 1.0, -0.5], [[1, None, 3], [0, 1, 9], [1, 0, 4], [None, None, None],
                        [1, 1, 2], [0, 1, 2.5], [0, None, 8], [0.5, 0, 1]]),
):
    objectives.append({"reward_weights": weights, "rewards": rewards, "num_generations": 4,
                       "advantages": normalize_then_sum(rewards, weights, 4)})


def penalised(row, ids, penalty):
    return [(x * penalty if x < 0 else x / penalty) if token in ids else x for token, x in enumerate(row)]


scores = [numbers(9, -4, 4) for _ in range(3)]
seen = [[0, 3, 3, 8], [5], [1, 2, 4, 4, 4, 6]]
repetition = [{"repetition_penalty": penalty,
               "scores": [penalised(row, set(ids), penalty) for row, ids in zip(scores, seen)]}
              for penalty in (1.2, 0.8, 5.0)]

print(json.dumps({
    "logps": logps, "old_logps": old, "ref_logps": reference, "advantages": advantages, "mask": mask, "losses": losses,
    "entropy_bonus": bonus, "token_entropies": token_entropies, "high_entropy_masks": uncertain,
    "normalize_then_sum": objectives, "logits": scores, "seen": seen, "repetition_penalty": repetition,
}, indent=1))
