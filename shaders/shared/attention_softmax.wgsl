// Online softmax of the rows of a workgroup over the keys that it walks along. Needs shared: attention.
// Needs of the shader: queries, result, lse.

var<workgroup> partial: array<f32, ROWS * BLOCK * PARTS>;

// This invocation's part of its row: the scaled query, the weighted sum of values; the highest score and the sum of weights
// are those of the whole row.
var<private> own: array<vec4<f32>, OWN_WORDS>;
var<private> sums: array<vec4<f32>, OWN_WORDS>;
var<private> highest: f32;
var<private> total: f32;

fn walked(start: u32, word: u32) -> Words {
    return key_and_value(start, word);
}

// Begins with the query head at this place.
fn begin_row(place: u32, part: u32) {
    highest = LOWEST;
    total = 0.0;
    for (var word = 0u; word < OWN_WORDS; word++) {
        var four = vec4<f32>(0.0);
        for (var item = 0u; item < 4u; item++) {
            let offset = (word * PARTS + part) * 4u + item;
            if (offset < params.width) {
                four[item] = queries[place * params.width + offset];
            }
        }
        own[word] = four * params.scale;
        sums[word] = vec4<f32>(0.0);
    }
}

// Adds the keys from `first` to before `end`, of one key head, that the row sees.
fn walk(first: u32, end: u32, head: u32, seen: vec4<u32>, lane: u32) {
    let row = lane / PARTS;
    let part = lane % PARTS;
    for (var start = first; start < end; start += BLOCK) {
        load_block(start, end, params.groups, head, lane);
        for (var key = 0u; key < BLOCK; key++) {
            var product = 0.0;
            for (var word = 0u; word < OWN_WORDS; word++) {
                product += dot(own[word], first_block[key * HEAD_WORDS + word * PARTS + part]);
            }
            partial[(row * BLOCK + key) * PARTS + part] = product;
        }
        workgroupBarrier();
        var scores: array<f32, BLOCK>;
        var block_highest = highest;
        for (var key = 0u; key < BLOCK; key++) {
            let at = (row * BLOCK + key) * PARTS;
            let score = partial[at] + partial[at + 1u] + partial[at + 2u] + partial[at + 3u];
            scores[key] = select(LOWEST, score, start + key < end && sees(seen, start + key));
            block_highest = max(block_highest, scores[key]);
        }
        let factor = exp(highest - block_highest);
        highest = block_highest;
        total *= factor;
        for (var word = 0u; word < OWN_WORDS; word++) {
            sums[word] *= factor;
        }
        for (var key = 0u; key < BLOCK; key++) {
            let weight = select(exp(scores[key] - highest), 0.0, scores[key] <= LOWEST);
            total += weight;
            for (var word = 0u; word < OWN_WORDS; word++) {
                sums[word] += weight * second_block[key * HEAD_WORDS + word * PARTS + part];
            }
        }
    }
}

// Writes the result and the log-sum-exp of the row; zeros and LOWEST if it saw nothing.
fn end_row(place: u32, part: u32) {
    let factor = select(0.0, 1.0 / total, total > 0.0);
    for (var word = 0u; word < OWN_WORDS; word++) {
        for (var item = 0u; item < 4u; item++) {
            let offset = (word * PARTS + part) * 4u + item;
            if (offset < params.width) {
                result[place * params.width + offset] = sums[word][item] * factor;
            }
        }
    }
    if (part == 0u) {
        lse[place] = select(LOWEST, highest + log(total), total > 0.0);
    }
}
