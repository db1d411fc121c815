// What both backward shaders of attention share. A row is a query with its upstream gradient that walks along keys and
// values, or a key with its value that walks along queries and upstream gradients: the same two products either way.
// Needs shared: attention. Needs of the shader: queries, upstream.

// Parts of q . k and of u . v.
var<workgroup> partial: array<vec2<f32>, ROWS * BLOCK * PARTS>;

// This invocation's part of its row.
var<private> own: array<Words, OWN_WORDS>;

// As key_and_value, of a query and the gradient to its output.
fn query_and_upstream(start: u32, word: u32) -> Words {
    var query = vec4<f32>(0.0);
    var gradient = vec4<f32>(0.0);
    for (var index = 0u; index < 4u; index++) {
        let offset = word * 4u + index;
        if (offset < params.width) {
            query[index] = queries[start + offset];
            gradient[index] = upstream[start + offset];
        }
    }
    return Words(query, gradient);
}

// The products of this invocation's row with the rows of the block, each invocation its part.
fn multiply_block(lane: u32) {
    let part = lane % PARTS;
    for (var item = 0u; item < BLOCK; item++) {
        var products = vec2<f32>(0.0);
        for (var word = 0u; word < OWN_WORDS; word++) {
            let at = item * HEAD_WORDS + word * PARTS + part;
            let words = own[word];
            products += vec2<f32>(dot(words.first, first_block[at]), dot(words.second, second_block[at]));
        }
        partial[(lane / PARTS * BLOCK + item) * PARTS + part] = products;
    }
    workgroupBarrier();
}

// The weight p of a key for a query, and the gradient to their score; `statistic` is the query's lse and delta.
fn weight_and_slope(lane: u32, item: u32, statistic: vec2<f32>, visible: bool) -> vec2<f32> {
    let at = (lane / PARTS * BLOCK + item) * PARTS;
    let products = partial[at] + partial[at + 1u] + partial[at + 2u] + partial[at + 3u];
    let weight = exp(min(products.x * params.scale - statistic.x, 0.5));
    let slope = weight * (products.y - statistic.y) * params.scale;
    return select(vec2<f32>(0.0), vec2<f32>(weight, slope), visible);
}
