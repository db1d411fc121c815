// What the three attention shaders share: the shape of a workgroup and which keys a query sees.
// A workgroup holds ROWS queries (or keys), four invocations each; an invocation holds a quarter of a head, every fourth
// word of four values.

// Size of a head rounded up to a multiple of 16; values past the true size are zero.
const HEAD: u32 = 64u;
// Keys (or queries) that are read together.
const BLOCK: u32 = 8u;
const PARTS: u32 = 4u;
const ROWS: u32 = 32u;
const WORKGROUP: u32 = 128u;
// Words of four values of a whole head and of one invocation's part.
const HEAD_WORDS: u32 = HEAD / 4u;
const OWN_WORDS: u32 = HEAD / 16u;

// Finite stand-in for minus infinity.
const LOWEST: f32 = -1.0e30;

// Whether `key` is in the prefix `seen.xy` or in the own range `seen.zw`.
fn sees(seen: vec4<u32>, key: u32) -> bool {
    return (key >= seen.x && key < seen.y) || (key >= seen.z && key < seen.w);
}
