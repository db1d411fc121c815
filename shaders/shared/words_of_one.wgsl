// A row whose length is not a multiple of four is read one value at a time.
alias Word = f32;
const WIDTH: u32 = 1u;

fn unpack(word: Word) -> vec4<f32> {
    return vec4<f32>(word);
}

fn pack(values: vec4<f32>) -> Word {
    return values.x;
}
