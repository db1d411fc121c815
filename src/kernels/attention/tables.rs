//! What the shaders must know of the spans: worked out and uploaded by the first launch that needs it, kept for the others.
//!
//! Plain numbers; knows no pass beyond the table that it reads.

use std::sync::OnceLock;

use burn::backend::ops::IntTensorOps;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::tensor::TensorData;

use super::split::Plan;
use super::tiles::{KeyTile, ROWS, key_tiles, query_rows};
use super::visible::Visible;
use crate::kernels::launch::contiguous;

/// The tables of some spans.
#[derive(Debug, Default)]
pub(super) struct Tables {
    queries: OnceLock<Table>,
    keys: OnceLock<Table>,
    split: OnceLock<Option<Split>>,
}

/// Words on the GPU, of which the last are entries of tiles.
#[derive(Debug)]
pub(super) struct Table {
    pub words: CubeTensor,
    pub tiles: usize,
}

/// The table of the decoding form.
#[derive(Debug)]
pub(super) struct Split {
    pub table: Table,
    /// Rows of results of parts.
    pub slots: usize,
}

impl Tables {
    /// What every query sees, then the tiles of the passes over queries.
    pub(super) fn queries(&self, visible: &[Visible], like: &CubeTensor) -> &Table {
        self.queries.get_or_init(|| {
            let rows = query_rows(visible);
            Table::new(seen(visible), rows.as_flattened(), rows.len(), like)
        })
    }

    /// What every query sees, then the tiles of the pass over keys.
    pub(super) fn keys(&self, (visible, keys): (&[Visible], usize), like: &CubeTensor) -> &Table {
        let row = |tile: &KeyTile| {
            let KeyTile { keys, queries } = tile;
            [keys.start, keys.len(), queries.start, queries.end].map(|value| value as u32)
        };
        self.keys.get_or_init(|| {
            let tiles = key_tiles(visible, keys, ROWS);
            let rows: Vec<[u32; 4]> = tiles.iter().map(row).collect();
            Table::new(seen(visible), rows.as_flattened(), rows.len(), like)
        })
    }

    /// The table of the decoding form for `share` query heads per key head, where that form is the better one.
    pub(super) fn split(
        &self,
        visible: &[Visible],
        share: usize,
        like: &CubeTensor,
    ) -> Option<&Split> {
        let upload = || {
            let Plan {
                merges,
                parts,
                slots,
            } = Plan::new(visible, share)?;
            let merges = merges.as_flattened().to_vec();
            let table = Table::new(merges, parts.as_flattened(), parts.len(), like);
            Some(Split { table, slots })
        };
        self.split.get_or_init(upload).as_ref()
    }
}

impl Table {
    fn new(mut words: Vec<u32>, rows: &[u32], tiles: usize, like: &CubeTensor) -> Self {
        words.extend_from_slice(rows);
        // No buffer is empty.
        words.resize(words.len().max(1), 0);
        let words: Vec<i32> = words.into_iter().map(|word| word as i32).collect();
        let count = words.len();
        let data = TensorData::new(words, [count]);
        Self {
            words: contiguous(CubeBackend::int_from_data(data, &like.device)),
            tiles,
        }
    }
}

fn seen(visible: &[Visible]) -> Vec<u32> {
    let words = visible.iter().flat_map(|seen| {
        let (prefix, own) = (&seen.prefix, &seen.own);
        [prefix.start, prefix.end, own.start, own.end]
    });
    words.collect()
}
