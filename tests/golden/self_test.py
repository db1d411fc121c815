"""Values that `vision-ekipl doctor` compares every kernel with, on every device: worked out in double precision from the
formulas, in plain Python, without a line of the program. Inputs are the same single-precision numbers on both sides.

Run: python3 self_test.py > ../../src/kernels/self_test.json
"""
import math
import struct

WORD = 0xFFFFFFFF


def single(x):
    return struct.unpack("f", struct.pack("f", x))[0]


def values(count, stream):
    """Reproducible numbers in -2..2, exact in single precision; `self_test.rs` has the same function."""
    result = []
    for index in range(count):
        mixed = ((index ^ (stream * 0x9E3779B9 & WORD)) * 0x85EBCA6B) & WORD
        mixed = ((mixed ^ (mixed >> 13)) * 0xC2B2AE35) & WORD
        result.append((mixed >> 8) / (1 << 22) - 2.0)
    return result


def scaled(count, stream, factor):
    return [single(x * single(factor)) for x in values(count, stream)]


def rows(flat, width):
    return [flat[start:start + width] for start in range(0, len(flat), width)]


def token_logprob(tokens, width, vocabulary, temperature, masked, entropy_gradient, kept_rows):
    hidden, head = rows(values(tokens * width, 1), width), rows(values(vocabulary * width, 2), width)
    targets = [token * 31 % vocabulary // 5 * 5 for token in range(tokens)]
    allowed = [not (masked and column % 5 == 4) for column in range(vocabulary)]
    to_logprob = values(tokens, 9)
    to_entropy = values(tokens, 10) if entropy_gradient else [0.0] * tokens
    logprobs, entropies = [], []
    to_hidden = [[0.0] * width for _ in range(tokens)]
    to_head = [[0.0] * width for _ in range(vocabulary)]
    temperature = single(temperature)
    for t in range(tokens):
        x = [sum(a * b for a, b in zip(hidden[t], row)) / temperature for row in head]
        highest = max(x[j] for j in range(vocabulary) if allowed[j])
        total = math.fsum(math.exp(x[j] - highest) for j in range(vocabulary) if allowed[j])
        normaliser = highest + math.log(total)
        log = [x[j] - normaliser for j in range(vocabulary)]
        p = [math.exp(log[j]) if allowed[j] else 0.0 for j in range(vocabulary)]
        entropy = -math.fsum(p[j] * log[j] for j in range(vocabulary))
        logprobs.append(log[targets[t]])
        entropies.append(entropy)
        for j in range(vocabulary):
            if not allowed[j]:
                continue
            slope = to_logprob[t] * ((j == targets[t]) - p[j]) - to_entropy[t] * p[j] * (log[j] + entropy)
            slope /= temperature
            for d in range(width):
                to_hidden[t][d] += slope * head[j][d]
                to_head[j][d] += slope * hidden[t][d]
    gradient = sum(to_hidden, []) + sum((to_head[j] for j in range(0, vocabulary, kept_rows)), [])
    return logprobs + entropies, gradient


def sample_token(tokens, vocabulary):
    """Temperature 0.9, top-k 50, top-p 0.9, min-p 0.01, in transformers' order; the draw is the inverse CDF in id order."""
    logits = rows(values(tokens * vocabulary, 3), vocabulary)
    uniforms = [single(single(x + 2.0) / single(4.001)) for x in values(tokens, 4)]
    result = []
    for row, uniform in zip(logits, uniforms):
        x = [value / single(0.9) for value in row]
        kth = sorted(x)[-50]
        kept = [j for j in range(vocabulary) if x[j] >= kth]
        kept.sort(key=lambda j: (x[j], j))
        weight = {j: math.exp(x[j] - max(x)) for j in kept}
        total, below = sum(weight.values()), 0.0
        survivors = []
        for j in kept:
            below += weight[j] / total
            assert abs(below - 0.1) > 1e-5, "too near the edge of top-p"
            if below > 0.1:
                survivors.append(j)
        survivors = sorted(j for j in survivors if weight[j] >= 0.01)
        assert all(abs(weight[j] - 0.01) > 1e-5 for j in kept), "too near the edge of min-p"
        goal, running = uniform * sum(weight[j] for j in survivors), 0.0
        for j in survivors:
            running += weight[j]
            assert abs(running - goal) > 1e-4, "too near the edge of a draw"
            if running > goal:
                break
        highest = max(row)
        normaliser = highest + math.log(math.fsum(math.exp(value - highest) for value in row))
        result += [float(j), row[j] - normaliser]
    return result


def policy_loss(surrogate, sequence_level, bias_corrected_kl, delta):
    count, tokens = 7 * 31, 31
    logprobs, old, reference = scaled(count, 5, 0.2), scaled(count, 6, 0.2), scaled(count, 7, 0.2)
    advantages = values(count, 8)
    mask = [0.0 if index % 7 == 3 else 1.0 for index in range(count)]
    low, high, beta = single(0.2), single(0.28), single(0.04)
    positive, negative = 1.0, single(1.05)
    weight = single(1.0 / 217.0)
    loss, gradient = 0.0, [0.0] * count
    for start in range(0, count, tokens):
        inside = [i for i in range(start, start + tokens) if mask[i]]
        mean = sum(logprobs[i] - old[i] for i in inside) / max(len(inside), 1)
        shared = 0.0
        for i in inside:
            log_ratio = mean if sequence_level else logprobs[i] - old[i]
            r, a = math.exp(log_ratio), advantages[i]
            of_ratio = own = 0.0
            if surrogate == "clipped":
                plain, clipped = min(r, delta) * a, min(max(r, 1 - low), 1 + high) * a
                value = min(plain, clipped)
                inner = r <= delta if plain < clipped else 1 - low <= r <= 1 + high
                slope = (r <= delta) * 0.5 + (1 - low <= r <= 1 + high) * 0.5 if plain == clipped else float(inner)
                of_ratio = a * r * slope
            elif surrogate == "cispo":
                value = min(r, high) * a * logprobs[i]
                own = min(r, high) * a
            else:
                tau = positive if a > 0 else negative
                gate = 1 / (1 + math.exp(-tau * (r - 1)))
                value, of_ratio = 4 / tau * gate * a, 4 * gate * (1 - gate) * r * a
            d = reference[i] - logprobs[i]
            factor = r if bias_corrected_kl else 1.0
            k3 = (math.exp(d) - d - 1) * factor
            loss += weight * (beta * k3 - value)
            ratio_slope = -of_ratio + (beta * k3 if bias_corrected_kl else 0.0)
            gradient[i] = weight * (beta * factor * (1 - math.exp(d)) - own)
            if sequence_level:
                shared += weight * ratio_slope
            else:
                gradient[i] += weight * ratio_slope
        for i in inside:
            if sequence_level:
                gradient[i] += shared / len(inside)
    return [loss] + gradient


def group_advantage(scale):
    """Groups of nine of which the last never counts in the baseline; row 5 has no reward, group 2 no spread."""
    count = 9 * 33
    reward = [None if row == 5 else 1.0 if row // 9 == 2 else float(row * 7 % 3) for row in range(count)]

    def statistics(known):
        mean = sum(known) / len(known)
        if all(value == known[0] for value in known):
            return mean, 1.0
        return mean, math.sqrt(sum((value - mean) ** 2 for value in known) / (len(known) - 1)) + 1e-4

    whole = statistics([value for value in reward if value is not None])[1]
    result = []
    for row in range(count):
        start = row // 9 * 9
        mean, own = statistics([reward[i] for i in range(start, start + 8) if reward[i] is not None])
        divisor = {"group": own, "batch": whole, "none": 1.0}[scale]
        result.append(0.0 if reward[row] is None else (reward[row] - mean) / divisor)
    return result


def attention():
    """A prompt of 5 tokens and its completions of 4 and 3; 4 query heads, 2 key heads of width 8; out and gradients."""
    count, heads, groups, width = 12, 4, 2, 8
    queries, keys, stored = values(count * heads * width, 11), values(count * groups * width, 12), \
        values(count * groups * width, 13)
    factors = values(count * heads * width, 14)
    out, to_queries = [0.0] * len(queries), [0.0] * len(queries)
    to_keys, to_values = [0.0] * len(keys), [0.0] * len(stored)
    for token in range(count):
        start = 0 if token < 5 else 5 if token < 9 else 9
        seen = sorted(set(range(5 if token >= 5 else 0)) | set(range(start, token + 1)))
        for head in range(heads):
            at = (token * heads + head) * width
            place = {j: (j * groups + head // (heads // groups)) * width for j in seen}
            dot = lambda a, x, b, y: sum(a[x + e] * b[y + e] for e in range(width))
            score = {j: dot(queries, at, keys, place[j]) / math.sqrt(width) for j in seen}
            highest = max(score.values())
            total = math.fsum(math.exp(s - highest) for s in score.values())
            p = {j: math.exp(score[j] - highest) / total for j in seen}
            slope = {j: dot(factors, at, stored, place[j]) for j in seen}
            mean = math.fsum(p[j] * slope[j] for j in seen)
            for e in range(width):
                out[at + e] = math.fsum(p[j] * stored[place[j] + e] for j in seen)
            for j in seen:
                pull = p[j] * (slope[j] - mean) / math.sqrt(width)
                for e in range(width):
                    to_values[place[j] + e] += p[j] * factors[at + e]
                    to_queries[at + e] += pull * keys[place[j] + e]
                    to_keys[place[j] + e] += pull * queries[at + e]
    return out, to_queries + to_keys + to_values


def decoding():
    """3 queries over a prompt of 150 tokens and 3 of their own rows; 4 query heads, 2 key heads of width 8."""
    count, stored, heads, groups, width = 3, 180, 4, 2, 8
    queries, keys, kept = values(count * heads * width, 27), values(stored * groups * width, 28), \
        values(stored * groups * width, 29)
    out = []
    for row in range(count):
        seen = list(range(150)) + list(range(150 + row * 10, 153 + row * 10))
        for head in range(heads):
            at = (row * heads + head) * width
            place = [(j * groups + head // (heads // groups)) * width for j in seen]
            score = [sum(queries[at + e] * keys[j + e] for e in range(width)) / math.sqrt(width) for j in place]
            total = math.fsum(math.exp(s - max(score)) for s in score)
            p = [math.exp(s - max(score)) / total for s in score]
            out += [math.fsum(a * kept[j + e] for a, j in zip(p, place)) for e in range(width)]
    return out


def rms_norm():
    """The norm of 3 rows of 40 values; gradients to rows and weight."""
    count, size = 3, 40
    x, weight, factors = values(count * size, 17), values(size, 18), values(count * size, 19)
    out, to_x, to_weight = [], [], [0.0] * size
    for row in range(count):
        part, pull = x[row * size:(row + 1) * size], factors[row * size:(row + 1) * size]
        inverse = 1 / math.sqrt(sum(value * value for value in part) / size + 1e-6)
        mean = sum(a * b * c for a, b, c in zip(part, weight, pull)) / size
        for i in range(size):
            out.append(part[i] * inverse * weight[i])
            to_x.append(inverse * (weight[i] * pull[i] - part[i] * inverse * inverse * mean))
            to_weight[i] += pull[i] * part[i] * inverse
    return out + to_x + to_weight


def swiglu():
    """silu(gate) up of [3, 21]; gradients to both."""
    gate, up, factors = values(63, 20), values(63, 21), values(63, 22)
    logistic = [1 / (1 + math.exp(-value)) for value in gate]
    out = [g * s * u for g, s, u in zip(gate, logistic, up)]
    to_gate = [f * u * s * (1 + g * (1 - s)) for f, u, s, g in zip(factors, up, logistic, gate)]
    to_up = [f * g * s for f, g, s in zip(factors, gate, logistic)]
    return out + to_gate + to_up


def rotary():
    """3 tokens with 2 heads of width 8, each half of a head turned with the other; gradient to the heads."""
    count, heads, half = 3, 2, 4
    x, factors = values(count * heads * 2 * half, 23), values(count * heads * 2 * half, 24)
    cosines, sines = values(count * half, 25), values(count * half, 26)
    out, to_x = [0.0] * len(x), [0.0] * len(x)
    for row in range(count * heads):
        for i in range(half):
            a, b = row * 2 * half + i, row * 2 * half + half + i
            c, s = cosines[row // heads * half + i], sines[row // heads * half + i]
            out[a], out[b] = x[a] * c - x[b] * s, x[b] * c + x[a] * s
            to_x[a], to_x[b] = factors[a] * c + factors[b] * s, factors[b] * c - factors[a] * s
    return out + to_x


def write_rows():
    cache, rows = values(24, 15), values(8, 16)
    cache[16:20], cache[4:8] = rows[:4], rows[4:]
    return cache


def adamw():
    """The third update of 300 values with beta 0.9 and 0.95, rate 0.01, decay 0.1: parameters, then both moments."""
    beta1, beta2, rate = 0.9, 0.95, 0.01
    parameters, means, squares = [], [], []
    for p, m, root, g in zip(*(values(300, stream) for stream in (27, 28, 29, 30))):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * root * root + (1 - beta2) * g * g
        denominator = math.sqrt(v) / math.sqrt(1 - beta2 ** 3) + 1e-8
        parameters.append(p * (1 - rate * 0.1) - rate / (1 - beta1 ** 3) * m / denominator)
        means.append(m)
        squares.append(v)
    return parameters + means + squares


def mixed(word):
    word = (word ^ (word >> 16)) * 0x85EBCA6B & WORD
    word = (word ^ (word >> 13)) * 0xC2B2AE35 & WORD
    return word ^ (word >> 16)


def dropout():
    """A third of 39 values zeroed by the hash of their place; the gradient has the same mask."""
    long = 0xFFFFFFFFFFFFFFFF
    probability = single(1 / 3)
    key = 0x0123456789ABCDEF + 0x9E3779B97F4A7C15 & long
    key = (key ^ (key >> 30)) * 0xBF58476D1CE4E5B9 & long
    key = (key ^ (key >> 27)) * 0x94D049BB133111EB & long
    key ^= key >> 31
    threshold = round(probability * WORD)
    kept = [mixed(mixed(index + key & WORD) ^ (key >> 32)) >= threshold for index in range(39)]
    of = lambda column: [value / (1 - probability) if keep else 0.0 for value, keep in zip(column, kept)]
    return of(values(39, 27)) + of(values(39, 28))


def stored_matrix(storage, all_rows, width):
    """The bytes of `stored_bytes` in self_test.rs, read by the definition of each storage."""
    floats = [value / 4 for value in values(all_rows * width, 29)]
    half = lambda value: struct.unpack("e", struct.pack("e", value))[0]
    if storage == "f32":
        return rows(floats, width)
    if storage == "bf16":
        bits = [struct.unpack("I", struct.pack("f", value))[0] for value in floats]
        bits = [word + 0x7FFF + (word >> 16 & 1) & 0xFFFF0000 for word in bits]
        return rows([struct.unpack("f", struct.pack("I", word))[0] for word in bits], width)
    if storage == "f16":
        return rows([half(value) for value in floats], width)
    blocks, matrix = (width + 31) // 32, []
    for row in range(all_rows):
        if storage == "q8":
            codes = [int(value * 64) for value in values(32 * blocks, 33 + row)]
            scales = [half(value / 32) for value in values(blocks + blocks % 2, 43 + row)]
            matrix.append([codes[i] * scales[i // 32] for i in range(width)])
        else:
            codes = [int(value * 64) & 255 for value in values(16 * blocks, 33 + row)]
            lines = [half(value / 32) for value in values(2 * blocks, 43 + row)]
            nibble = lambda i: codes[i // 32 * 16 + i % 16] >> (4 if i % 32 >= 16 else 0) & 15
            matrix.append([nibble(i) * lines[i // 32 * 2] + lines[i // 32 * 2 + 1] for i in range(width)])
    return matrix


def frozen_matrix():
    """In every storage: products of 17 and of 3 rows with rows 1 to 5 of 7, the gradient to the latter, rows 6, 0 and 3."""
    width, result = 33, []
    for storage in ("f32", "bf16", "f16", "q8", "q4"):
        matrix = stored_matrix(storage, 7, width)
        for count, stream in ((17, 30), (3, 31)):
            for x in rows(values(count * width, stream), width):
                result += [math.fsum(a * b for a, b in zip(x, matrix[row])) for row in range(1, 6)]
        for upstream in rows(values(15, 32), 5):
            result += [math.fsum(upstream[r] * matrix[1 + r][c] for r in range(5)) for c in range(width)]
        result += matrix[6] + matrix[0] + matrix[3]
    return result


small = token_logprob(5, 8, 261, 0.7, True, True, 1)
large = token_logprob(3, 8, 5000, 1.0, False, False, 125)
results = {
    "attention": attention()[0] + decoding(),
    "attention_backward": attention()[1],
    "rms_norm": rms_norm(),
    "swiglu": swiglu(),
    "rotary": rotary(),
    "dropout": dropout(),
    "frozen_matrix": frozen_matrix(),
    "write_rows": write_rows(),
    "token_logprob": small[0] + large[0],
    "token_logprob_backward": small[1] + large[1],
    "sample_token": sample_token(33, 1023) + sample_token(5, 5000),
    "policy_loss": policy_loss("clipped", False, False, 4.0) + policy_loss("cispo", False, True, 4.0)
    + policy_loss("sapo", True, False, 4.0),
    "adamw": adamw(),
    "group_advantage": sum((group_advantage(scale) for scale in ("group", "batch", "none")), []),
}
lines = [f'"{name}": [' + ", ".join(f"{value:.9g}" for value in column) + "]" for name, column in results.items()]
print("{\n" + ",\n".join(lines) + "\n}")
