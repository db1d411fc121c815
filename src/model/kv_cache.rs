//! Keys and values of everything that rows in decoding may see: the prompts, each once, then a stretch for every row.
//!
//! Knows nothing of sampling, of layers beyond their number, or of which row is still alive.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use super::packing::number;
use crate::kernels::write_rows;

/// The cache of a batch of completions.
#[derive(Debug)]
pub(crate) struct KvCache {
    /// Per layer [m, K, E] keys and values; taken out while they are written, so that the write is in place.
    layers: Vec<Option<[Tensor<3>; 2]>>,
    prompt_tokens: usize,
    rows: usize,
    capacity: usize,
}

impl KvCache {
    /// Room for `prompt_tokens` tokens and `capacity` more of each of `rows` rows: `shape` = [K, E].
    pub fn new(
        layers: usize,
        shape: [usize; 2],
        [prompt_tokens, rows, capacity]: [usize; 3],
        device: &Device,
    ) -> Self {
        let stored = prompt_tokens + rows * capacity;
        let empty = || Tensor::<3>::zeros([stored, shape[0], shape[1]], device);
        Self {
            layers: (0..layers).map(|_| Some([empty(), empty()])).collect(),
            prompt_tokens,
            rows,
            capacity,
        }
    }

    /// Places in all: m.
    pub const fn places(&self) -> usize {
        self.prompt_tokens + self.rows * self.capacity
    }

    /// The places of one row.
    pub fn of_row(&self, row: usize) -> Range<u32> {
        let start = self.prompt_tokens + row * self.capacity;
        number(start)..number(start + self.capacity)
    }

    /// Writes keys and values [n, K, E] at `places` and returns the whole cache of the layer.
    pub fn write(
        &mut self,
        layer: usize,
        [keys, values]: [Tensor<3>; 2],
        places: &Arc<[u32]>,
    ) -> [Tensor<3>; 2] {
        let slot = &mut self.layers[layer];
        let [old_keys, old_values] = slot.take().expect("the slot is refilled below");
        let written = [
            write_rows(old_keys, keys, places),
            write_rows(old_values, values, places),
        ];
        *slot = Some(written.clone());
        written
    }
}
