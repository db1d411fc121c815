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

#[cfg(test)]
mod tests {
    use super::*;

    fn values(tensor: &Tensor<3>) -> Vec<f32> {
        tensor.clone().into_data().try_into_vec().expect("f32")
    }

    /// Keys [n, 1, 2] that say which place they are for.
    fn tokens(places: &[u32], layer: f32) -> Tensor<3> {
        let keys = places.iter().map(|place| [[*place as f32, layer]]);
        let keys: Vec<Tensor<3>> = keys
            .map(|key| Tensor::from_floats([key], &Device::flex()))
            .collect();
        Tensor::cat(keys, 0)
    }

    #[test]
    fn each_row_has_places_of_its_own_after_the_prompts() {
        let cache = KvCache::new(1, [1, 2], [10, 3, 4], &Device::flex());
        assert_eq!(cache.places(), 22);
        assert_eq!((cache.of_row(0), cache.of_row(2)), (10..14, 18..22));
        let none = KvCache::new(1, [1, 2], [10, 0, 4], &Device::flex());
        assert_eq!(none.places(), 10);
    }

    #[test]
    fn tokens_stay_where_they_were_written() {
        let mut cache = KvCache::new(2, [1, 2], [3, 2, 2], &Device::flex());
        let mut write = |layer: usize, places: &[u32]| {
            let keys = tokens(places, layer as f32);
            cache.write(layer, [keys.clone(), -keys], &places.into())
        };
        write(0, &[0, 1, 2]);
        // Rows end at different times: the second is written alone, and out of order.
        write(0, &[5, 3]);
        write(1, &[4]);
        let [keys, negated] = write(0, &[6]);
        let expected: Vec<f32> = [0.0, 1.0, 2.0, 3.0, 0.0, 5.0, 6.0]
            .iter()
            .flat_map(|place| [*place, 0.0])
            .collect();
        assert_eq!(
            values(&keys),
            expected,
            "place 4 was never written in this layer"
        );
        let negative: Vec<f32> = expected.iter().map(|value| -value).collect();
        assert_eq!(values(&negated), negative);
        let [other, _] = write(1, &[0]);
        assert_eq!(values(&other)[8..10], [4.0, 1.0], "layers share no memory");
    }
}
