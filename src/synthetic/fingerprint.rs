//! A number for what can be seen, by which scenes are kept apart. It knows no scene.

use crate::seed::fnv1a;

/// FNV-1a over the values; the same on every platform and for every seed.
pub(crate) fn fingerprint(values: impl IntoIterator<Item = u32>) -> u64 {
    let hash = fnv1a(values.into_iter().flat_map(u32::to_le_bytes));
    // The last steps of FNV barely reach the low bits that the split is chosen by.
    hash ^ (hash >> 32)
}

/// A coordinate in thousandths: what a picture can show of it.
pub(crate) fn thousandths(value: f32) -> u32 {
    (value * 1000.0).round() as i32 as u32
}

/// A text as values.
pub(crate) fn letters(text: &str) -> impl Iterator<Item = u32> {
    text.chars().map(u32::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_their_order_count() {
        let prints = [
            fingerprint([]),
            fingerprint([1]),
            fingerprint([1, 2]),
            fingerprint([2, 1]),
        ];
        for (index, print) in prints.iter().enumerate() {
            assert!(!prints[..index].contains(print));
        }
        assert_eq!(fingerprint(letters("ab")), fingerprint([97, 98]));
    }

    #[test]
    fn coordinates_differ_by_a_thousandth() {
        assert_eq!([0.0011, 0.0014, -0.001].map(thousandths), [1, 1, u32::MAX]);
    }

    #[test]
    fn one_in_five_is_divisible_by_five() {
        let test = (0..10_000)
            .filter(|value| fingerprint([*value]) % 5 == 0)
            .count();
        assert!((1800..2200).contains(&test), "{test}");
    }
}
