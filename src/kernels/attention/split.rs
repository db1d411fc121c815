//! The decoding form: few queries over long ranges, which are cut into parts for workgroups of their own.
//!
//! Plain numbers: which part gives which row of results, and which rows a query's result is made of.

use std::ops::Range;

use super::tiles::{ROWS, query_rows};
use super::visible::Visible;

/// Keys of one part.
const PART_KEYS: usize = 128;

/// The parts of a call.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Per query the slot of the first part of its prefix, the distance to the next, their number; the slot of the first
    /// part of its own range, and their number.
    pub merges: Vec<[u32; 5]>,
    /// Per part its first query, its number of queries, its first key, the end of its keys, the slot of its first query.
    pub parts: Vec<[u32; 5]>,
    pub slots: usize,
}

impl Plan {
    /// `None` where the other form is better: many queries share what they see, or all ranges are short.
    pub fn new(visible: &[Visible], share: usize) -> Option<Self> {
        let length = |seen: &Visible| seen.prefix.len().max(seen.own.len());
        let longest = visible.iter().map(length).max().unwrap_or(0);
        let few = || visible.len() <= ROWS / 8 * query_rows(visible).len();
        (share <= ROWS && longest > PART_KEYS && few()).then(|| Self::of(visible, share))
    }

    fn of(visible: &[Visible], share: usize) -> Self {
        let mut plan = Self::default();
        let mut first = 0;
        while first < visible.len() {
            let prefix = &visible[first].prefix;
            let rest = visible[first..].iter().take(ROWS / share);
            let count = rest.take_while(|seen| seen.prefix == *prefix).count();
            let base = plan.slots as u32;
            let prefixes = plan.cut(first, count, prefix);
            for (index, seen) in visible[first..first + count].iter().enumerate() {
                let own = plan.slots as u32;
                let owns = plan.cut(first + index, 1, &seen.own);
                plan.merges
                    .push([base + index as u32, count as u32, prefixes, own, owns]);
            }
            first += count;
        }
        plan
    }

    /// Adds the parts of a range that `count` queries see and says how many they are.
    fn cut(&mut self, first: usize, count: usize, range: &Range<u32>) -> u32 {
        let before = self.parts.len();
        for start in range.clone().step_by(PART_KEYS) {
            let end = (start + PART_KEYS as u32).min(range.end);
            let slot = self.slots as u32;
            self.parts
                .push([first as u32, count as u32, start, end, slot]);
            self.slots += count;
        }
        (self.parts.len() - before) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(prefix: Range<u32>, own: Range<u32>) -> Visible {
        Visible { prefix, own }
    }

    /// Every key that a query sees lies in exactly one of the parts that its result is made of.
    #[test]
    fn parts_hold_what_each_query_sees_once() {
        let mut rows: Vec<Visible> = (0..13)
            .map(|index| row(0..300, 300 + index * 200..301 + index * 211))
            .collect();
        rows.push(row(7..20, 4000..4001));
        rows.push(row(0..0, 0..0));
        for share in [1, 6, 7, 32] {
            let plan = Plan::new(&rows, share).expect("few queries, long ranges");
            assert_eq!(plan.merges.len(), rows.len());
            for (query, (seen, merge)) in rows.iter().zip(&plan.merges).enumerate() {
                let [prefix, stride, prefixes, own, owns] = *merge;
                let slots = (0..prefixes).map(|part| prefix + part * stride);
                let slots = slots.chain(own..own + owns);
                let mut keys: Vec<u32> = slots
                    .flat_map(|slot| {
                        let owner = plan.parts.iter().filter(|part| {
                            let [first, count, _, _, base] = **part;
                            let index = (query as u32).wrapping_sub(first);
                            index < count && base + index == slot
                        });
                        let [part] = owner.collect::<Vec<_>>()[..] else {
                            panic!("query {query}: slot {slot}")
                        };
                        part[2]..part[3]
                    })
                    .collect();
                keys.sort_unstable();
                let mut expected: Vec<u32> = seen.prefix.clone().chain(seen.own.clone()).collect();
                expected.sort_unstable();
                assert_eq!(keys, expected, "query {query}, {share} heads");
            }
            let rows_of_a_part = |part: &[u32; 5]| part[1] as usize * share;
            assert!(plan.parts.iter().all(|part| rows_of_a_part(part) <= ROWS));
        }
    }

    #[test]
    fn packed_tokens_and_short_ranges_take_the_other_form() {
        let packed: Vec<Visible> = (0..400).map(|token| row(0..0, 0..token + 1)).collect();
        assert_eq!(Plan::new(&packed, 6), None);
        let short: Vec<Visible> = (0..9)
            .map(|index| row(0..90, 90 + index * 40..100 + index * 40))
            .collect();
        assert_eq!(Plan::new(&short, 6), None);
        let long = [row(0..0, 0..1000)];
        assert_eq!(
            Plan::new(&long, 33),
            None,
            "more heads than a workgroup has rows"
        );
        assert!(Plan::new(&long, 6).is_some());
    }
}
