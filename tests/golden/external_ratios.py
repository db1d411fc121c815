"""Losses of the golden group under each `external_ratio`, worked out with numpy from the golden log-probabilities.

Rows 0 and 1 are the policy's, rows 2 and 3 external. Aggregation `grpo`, temperature 1, epsilon 0.2, beta 0.04.
Run beside the golden files: python3 external_ratios.py > external_ratios.json
"""
import json

import numpy as np
from safetensors.numpy import load_file

golden = {k: v.astype(np.float64) for k, v in load_file("public/golden-grpo-qwen2vl-tiny.safetensors").items()}
mask = golden["completion_mask"]
new, old, ref = (golden[f"{kind}_t1.0"] for kind in ("logps", "old_logps", "ref_logps"))
advantage = golden["advantages"].reshape(-1)[:, None]
tokens = mask.sum(1, keepdims=True)
external = np.array([False, False, True, True])[:, None]
p, p_old = np.exp(new), np.exp(old)
k3 = np.exp(ref - new) - (ref - new) - 1


def surrogate(a):
    r = np.exp(new - old)
    return np.minimum(r * a, np.clip(r, 0.8, 1.2) * a)


def mean_of(rows, values):
    return float((values * mask / tokens)[rows].sum() / rows.sum())


def mixed(term, kl=True):
    """Mean over sequences of the policy's surrogate and `term` on external tokens, with the KL term."""
    value = np.where(external, term, surrogate(advantage)) - 0.04 * k3 * (1.0 if kl else ~external)
    return -mean_of(np.ones(4, bool), value)


q = old + np.where(np.arange(mask.shape[1]) % 2 == 0, 0.3, -0.2)
weight = np.minimum(np.exp(((old - q) * mask).sum(1, keepdims=True)), 3.0)
token_weight = np.minimum(np.exp(old - q), 3.0)
w = np.where(external, weight, 1.0)
normalised = 4 * w / w.sum()
own, other = ~external[:, 0], external[:, 0]
nll = lambda factor: float((-factor * new * mask)[other].sum() / mask[other].sum())
policy_only = -mean_of(own, surrogate(advantage) - 0.04 * k3)
print(json.dumps({
    "same": mixed(surrogate(advantage)),
    "luffy": mixed(advantage * p / (p + 0.1)),
    "luffy unshaped": mixed(advantage * p),
    "rl_plus": mixed(advantage * np.sqrt(1 - p) * 2 * p / (p_old + 0.5 * (p_old + 1))),
    "unit": mixed(advantage * new),
    "is": mixed(surrogate(advantage * weight)),
    "is token": mixed(surrogate(advantage * token_weight)),
    "snis": -mean_of(np.ones(4, bool), surrogate(advantage * normalised) - 0.04 * k3),
    "chord": 0.75 * policy_only + 0.25 * nll(p * (1 - p)),
    "chord without phi": 0.75 * policy_only + 0.25 * nll(1.0),
    "hpt": policy_only + nll(1.0),
}, indent=1))
