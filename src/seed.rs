//! Numbers from numbers: how seeds, texts and counters become unrelated streams, the same on every platform and in every
//! version, as resumed and repeated runs need. Knows nothing of what is drawn.

/// FNV-1a, 64 bits: unlike the standard library's hash it stays the same between versions.
pub fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The `index`-th number of `SplitMix64` from `seed`: neighbours share nothing.
#[must_use]
pub const fn split_mix(seed: u64, index: u64) -> u64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let value = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN));
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_and_stream_are_the_published_ones() {
        assert_eq!(fnv1a([]), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("foobar".bytes()), 0x8594_4171_f739_67e8);
        // The first numbers of Vigna's splitmix64.c from the state 1234567.
        let first = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        for (index, number) in first.into_iter().enumerate() {
            assert_eq!(split_mix(1_234_567, index as u64), number);
        }
    }
}
