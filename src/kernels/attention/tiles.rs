//! The tiles in which the kernels walk over queries and keys, so that they compute little that nobody sees.
//!
//! Plain numbers: knows no tensor and no kernel; how many queries or keys a tile has at most is theirs to say.

use std::ops::Range;

use super::visible::Visible;

/// Scores that may be computed for nothing where a union of ranges is wider than they are, beside twice their own number:
/// small products cost more by their number than by their size.
const SLACK: usize = 1024;
/// Rows of a workgroup of all shaders but the merging one, four invocations each.
pub(super) const ROWS: usize = 32;
/// Keys between two rows that are walked together.
const GAP: usize = 32;

/// Keys that some queries of a tile see, at least in part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub keys: Range<usize>,
    pub queries: Range<usize>,
    /// Whether these are prefixes; own ranges otherwise.
    pub prefix: bool,
}

/// Consecutive queries with one prefix, and the keys that they see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueryTile {
    pub queries: Range<usize>,
    pub segments: Vec<Segment>,
}

/// Consecutive keys and a range that holds every query that sees one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyTile {
    pub keys: Range<usize>,
    pub queries: Range<usize>,
}

pub(super) fn wide(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

/// The smallest range that holds both; an empty one adds nothing.
fn union(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    if a.is_empty() {
        return b.clone();
    }
    if b.is_empty() {
        return a.clone();
    }
    a.start.min(b.start)..a.end.max(b.end)
}

/// Tiles of at most `most` queries.
pub(super) fn query_tiles(visible: &[Visible], most: usize) -> Vec<QueryTile> {
    let mut tiles = Vec::new();
    let mut start = 0;
    while start < visible.len() {
        let prefix = &visible[start].prefix;
        let same = |seen: &&Visible| {
            seen.prefix == *prefix || (seen.prefix.is_empty() && prefix.is_empty())
        };
        let count = visible[start..].iter().take(most).take_while(same).count();
        let queries = start..start + count;
        let mut segments = own_segments(visible, queries.clone());
        if !prefix.is_empty() {
            segments.push(Segment {
                keys: wide(prefix),
                queries: queries.clone(),
                prefix: true,
            });
        }
        tiles.push(QueryTile { queries, segments });
        start += count;
    }
    tiles
}

/// The own ranges of some queries, those of neighbours together where that wastes little.
fn own_segments(visible: &[Visible], queries: Range<usize>) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut own_scores = 0;
    for query in queries {
        let own = wide(&visible[query].own);
        if let Some(last) = segments.last_mut() {
            let both = union(&last.keys, &own);
            let area = both.len() * (last.queries.len() + 1);
            // Rows of a cache lie far apart; those of one batch follow each other.
            let near = both.len() <= last.keys.len() + own.len() + GAP;
            if near && area <= 2 * (own_scores + own.len()) + SLACK {
                last.keys = both;
                last.queries.end = query + 1;
                own_scores += own.len();
                continue;
            }
        }
        own_scores = own.len();
        segments.push(Segment {
            keys: own,
            queries: query..query + 1,
            prefix: false,
        });
    }
    segments
}

/// For each key the first query, in the order of `queries`, that sees it.
fn first_seen(
    visible: &[Visible],
    keys: usize,
    queries: impl Iterator<Item = usize>,
) -> Vec<Option<usize>> {
    let mut first = vec![None; keys];
    // Of each key the next one that nobody has seen yet.
    let mut next: Vec<usize> = (0..=keys).collect();
    for query in queries {
        for range in [&visible[query].prefix, &visible[query].own] {
            let range = wide(range);
            let mut key = unseen(&mut next, range.start.min(keys));
            while key < range.end {
                first[key] = Some(query);
                next[key] = key + 1;
                key = unseen(&mut next, key + 1);
            }
        }
    }
    first
}

/// The next unseen key from `key` on; shortens the way for later calls.
fn unseen(next: &mut [usize], mut key: usize) -> usize {
    while next[key] != key {
        next[key] = next[next[key]];
        key = next[key];
    }
    key
}

/// Tiles of at most `most` of `keys` keys; a key that nobody sees is in none.
pub(super) fn key_tiles(visible: &[Visible], keys: usize, most: usize) -> Vec<KeyTile> {
    let first = first_seen(visible, keys, 0..visible.len());
    let last = first_seen(visible, keys, (0..visible.len()).rev());
    let mut tiles: Vec<KeyTile> = Vec::new();
    let mut seen_scores = 0;
    for key in 0..keys {
        let (Some(from), Some(to)) = (first[key], last[key]) else {
            continue;
        };
        let seen = from..to + 1;
        if let Some(tile) = tiles.last_mut()
            && tile.keys.end == key
            && tile.keys.len() < most
        {
            let both = union(&tile.queries, &seen);
            if both.len() * (tile.keys.len() + 1) <= 2 * (seen_scores + seen.len()) + SLACK {
                tile.keys.end = key + 1;
                tile.queries = both;
                seen_scores += seen.len();
                continue;
            }
        }
        seen_scores = seen.len();
        tiles.push(KeyTile {
            keys: key..key + 1,
            queries: seen,
        });
    }
    tiles
}

/// `[first query, queries, prefix start, prefix end, own start, own end]` per workgroup of the passes over queries: rows
/// of a cache that lie far apart are walked separately.
pub(super) fn query_rows(visible: &[Visible]) -> Vec<[u32; 6]> {
    let row = |tile: &QueryTile, queries: std::ops::Range<usize>, own: &std::ops::Range<usize>| {
        let prefix = &visible[tile.queries.start].prefix;
        [
            queries.start as u32,
            queries.len() as u32,
            prefix.start,
            prefix.end,
            own.start as u32,
            own.end as u32,
        ]
    };
    let tiles = query_tiles(visible, ROWS);
    let rows = tiles.iter().flat_map(|tile| {
        let own = tile.segments.iter().filter(|segment| !segment.prefix);
        own.map(move |segment| row(tile, segment.queries.clone(), &segment.keys))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visible(ranges: &[[u32; 4]]) -> Vec<Visible> {
        let one = |[a, b, c, d]: &[u32; 4]| Visible {
            prefix: *a..*b,
            own: *c..*d,
        };
        ranges.iter().map(one).collect()
    }

    /// A prompt of three tokens, two completions of two and one.
    fn group() -> Vec<Visible> {
        visible(&[
            [0, 0, 0, 1],
            [0, 0, 0, 2],
            [0, 0, 0, 3],
            [0, 3, 3, 4],
            [0, 3, 3, 5],
            [0, 3, 5, 6],
        ])
    }

    /// Every visible pair lies in exactly one segment of the query tiles and in exactly one key tile.
    #[test]
    fn tiles_hold_every_visible_pair_once() {
        let scattered = visible(&[
            [0, 4, 4, 6],
            [0, 4, 900, 903],
            [0, 4, 5000, 5001],
            [7, 9, 0, 0],
            [0, 0, 0, 0],
        ]);
        for (visible, keys) in [(group(), 6), (scattered, 6000), (vec![], 3)] {
            let (query_tiles, key_tiles) =
                (query_tiles(&visible, 32), key_tiles(&visible, keys, 32));
            for (query, seen) in visible.iter().enumerate() {
                for (prefix, range) in [(true, &seen.prefix), (false, &seen.own)] {
                    for key in wide(range) {
                        let segments =
                            query_tiles
                                .iter()
                                .flat_map(|tile| &tile.segments)
                                .filter(|segment| {
                                    segment.prefix == prefix
                                        && segment.queries.contains(&query)
                                        && segment.keys.contains(&key)
                                });
                        assert_eq!(segments.count(), 1, "query {query}, key {key}");
                        let tiles = key_tiles.iter().filter(|tile| {
                            tile.keys.contains(&key) && tile.queries.contains(&query)
                        });
                        assert_eq!(tiles.count(), 1, "query {query}, key {key}");
                    }
                }
            }
        }
    }

    #[test]
    fn no_tile_is_larger_than_asked_for() {
        let row: Vec<[u32; 4]> = (0..100).map(|token| [0, 0, 0, token + 1]).collect();
        for most in [1, 7, 64] {
            let (queries, keys) = (
                query_tiles(&visible(&row), most),
                key_tiles(&visible(&row), 100, most),
            );
            assert_eq!(queries.len(), 100usize.div_ceil(most));
            assert!(queries.iter().all(|tile| tile.queries.len() <= most));
            assert!(keys.iter().all(|tile| tile.keys.len() <= most));
        }
    }

    #[test]
    fn far_rows_of_a_cache_are_not_joined() {
        let rows: Vec<[u32; 4]> = (0..8)
            .map(|row| [0, 100, 100 + row * 512, 110 + row * 512])
            .collect();
        let tiles = query_tiles(&visible(&rows), 32);
        let [tile] = tiles.as_slice() else {
            panic!("one prompt, one tile")
        };
        let scores: usize = tile
            .segments
            .iter()
            .map(|segment| segment.keys.len() * segment.queries.len())
            .sum();
        assert!(scores < 8 * 110 * 2 + 2 * SLACK, "{scores}");
    }
}
