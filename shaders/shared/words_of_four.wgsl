// A row whose length is a multiple of four is read four values at a time: fewer, wider memory accesses.
alias Word = vec4<f32>;
const WIDTH: u32 = 4u;

fn unpack(word: Word) -> vec4<f32> {
    return word;
}

fn pack(values: vec4<f32>) -> Word {
    return values;
}
