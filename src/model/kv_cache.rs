//! Keys and values of the tokens sampled so far, preallocated and appended to in place.
//!
//! The prompt's keys are not here: a group shares them. Knows nothing of sampling or of the model's layers beyond their
//! number.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};

use super::attention::{KeyBlock, MASKED};

/// The visible part of the cache grows in steps of this many tokens, so that few tensor shapes occur.
const STEP: usize = 32;

/// One layer's preallocated keys and values; taken out while they are written, so that the write is in place.
#[derive(Debug)]
struct LayerCache {
    keys: Option<Tensor<4>>,
    values: Option<Tensor<4>>,
}

/// The cache of a batch of completions.
#[derive(Debug)]
pub(crate) struct KvCache {
    layers: Vec<LayerCache>,
    capacity: usize,
    device: Device,
}

impl KvCache {
    /// Room for `capacity` tokens of each row: `shape` = [B, K, E] per layer.
    pub fn new(
        layers: usize,
        [rows, groups, width]: [usize; 3],
        capacity: usize,
        device: &Device,
    ) -> Self {
        let capacity = capacity.next_multiple_of(STEP);
        let empty = || Some(Tensor::<4>::zeros([rows, groups, capacity, width], device));
        let layers = (0..layers)
            .map(|_| LayerCache {
                keys: empty(),
                values: empty(),
            })
            .collect();
        Self {
            layers,
            capacity,
            device: device.clone(),
        }
    }

    /// Writes one token's keys and values [B, K, 1, E] at `place` and returns all that the token may see.
    pub fn append(
        &mut self,
        layer: usize,
        place: usize,
        keys: Tensor<4>,
        values: Tensor<4>,
        mask: &Tensor<4>,
    ) -> KeyBlock {
        let visible = mask.dims()[3];
        let cache = &mut self.layers[layer];
        KeyBlock {
            keys: write(&mut cache.keys, place, keys, visible, self.capacity),
            values: write(&mut cache.values, place, values, visible, self.capacity),
            mask: Some(mask.clone()),
            share: 1,
        }
    }

    /// [1, 1, 1, S]: hides the places after `place`; S is the part of the cache that is read.
    pub fn mask(&self, place: usize) -> Tensor<4> {
        let visible = (place + 1).next_multiple_of(STEP).min(self.capacity);
        let values: Vec<f32> = (0..visible)
            .map(|index| if index <= place { 0.0 } else { MASKED })
            .collect();
        Tensor::from_data(TensorData::new(values, [1, 1, 1, visible]), &self.device)
    }
}

/// Assigns a slice of a tensor that nobody else holds, which Burn does in place, and returns the visible part.
fn write(
    slot: &mut Option<Tensor<4>>,
    place: usize,
    token: Tensor<4>,
    visible: usize,
    capacity: usize,
) -> Tensor<4> {
    let [rows, groups, _, width] = token.dims();
    let at: [Range<usize>; 4] = [0..rows, 0..groups, place..place + 1, 0..width];
    let whole = slot
        .take()
        .expect("the slot is refilled below")
        .slice_assign(at, token);
    *slot = Some(whole.clone());
    if visible == capacity {
        whole
    } else {
        whole.narrow(2, 0, visible)
    }
}
