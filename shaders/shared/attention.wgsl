// What the attention shaders share: the shape of a workgroup, how rows are read, and which keys a query sees.
// A workgroup holds ROWS rows (queries with a head, or keys), four invocations each; an invocation holds a quarter of a
// head, every fourth word of four values. All of them walk along the rows of two tensors, BLOCK at a time.
// Needs of the shader: keys, values, table, params, and `walked`, two words of the tensors it walks along.

// Size of a head rounded up to a multiple of 16; values past the true size are zero.
const HEAD: u32 = 64u;
// Rows that are read together.
const BLOCK: u32 = 8u;
const PARTS: u32 = 4u;
const ROWS: u32 = 32u;
const WORKGROUP: u32 = 128u;
// Words of four values of a whole head and of one invocation's part.
const HEAD_WORDS: u32 = HEAD / 4u;
const OWN_WORDS: u32 = HEAD / 16u;

// Finite stand-in for minus infinity.
const LOWEST: f32 = -1.0e30;

struct Params {
    heads: u32,
    groups: u32,
    width: u32,
    // Entries of the table of tiles, and where it begins.
    tiles: u32,
    tile_table: u32,
    scale: f32,
    keys: u32,
}

// Four values of a row of each of two tensors.
struct Words {
    first: vec4<f32>,
    second: vec4<f32>,
}

var<workgroup> first_block: array<vec4<f32>, BLOCK * HEAD_WORDS>;
var<workgroup> second_block: array<vec4<f32>, BLOCK * HEAD_WORDS>;

// Word of a key and of its value, which begin at `start`; zero past the head's size.
fn key_and_value(start: u32, word: u32) -> Words {
    var key = vec4<f32>(0.0);
    var value = vec4<f32>(0.0);
    for (var index = 0u; index < 4u; index++) {
        let offset = word * 4u + index;
        if (offset < params.width) {
            key[index] = keys[start + offset];
            value[index] = values[start + offset];
        }
    }
    return Words(key, value);
}

// Brings at most BLOCK rows, from `start` to before `end`, of one of `heads` heads into the two blocks.
fn load_block(start: u32, end: u32, heads: u32, head: u32, lane: u32) {
    workgroupBarrier();
    for (var item = lane; item < BLOCK * HEAD_WORDS; item += WORKGROUP) {
        let row = start + item / HEAD_WORDS;
        var words = Words(vec4<f32>(0.0), vec4<f32>(0.0));
        if (row < end) {
            words = walked((row * heads + head) * params.width, item % HEAD_WORDS);
        }
        first_block[item] = words.first;
        second_block[item] = words.second;
    }
    workgroupBarrier();
}

// The four integers of the table that say what a query sees.
fn seen_by(query: u32) -> vec4<u32> {
    let entry = query * 4u;
    return vec4<u32>(table[entry], table[entry + 1u], table[entry + 2u], table[entry + 3u]);
}

// Whether `key` is in the prefix `seen.xy` or in the own range `seen.zw`.
fn sees(seen: vec4<u32>, key: u32) -> bool {
    return (key >= seen.x && key < seen.y) || (key >= seen.z && key < seen.w);
}
