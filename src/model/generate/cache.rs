//! Keys and values of everything that rows in decoding may see, and which stretches of it are free.
//!
//! Knows nothing of sampling, of layers beyond their number, or of what lies in a stretch.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use crate::kernels::{Places, write_rows};

/// A tensor [m, K, E] whose rows are replaced in place.
#[derive(Debug)]
pub(super) struct Table(Option<Tensor<3>>);

impl Table {
    pub fn zeros(shape: [usize; 3], device: &Device) -> Self {
        Self(Some(Tensor::zeros(shape, device)))
    }

    /// Writes rows [n, K, E] at `places` and returns the whole table.
    pub fn write(&mut self, rows: Tensor<3>, places: &Arc<Places>) -> Tensor<3> {
        // Taken out while it is written, so that nobody else holds it.
        let old = self.0.take().expect("it is put back below");
        let written = write_rows(old, rows, places);
        self.0 = Some(written.clone());
        written
    }

    pub fn whole(&self) -> Tensor<3> {
        self.0.clone().expect("`write` puts it back")
    }
}

/// Keys and values of every layer.
#[derive(Debug)]
pub(super) struct KvCache {
    layers: Vec<[Table; 2]>,
    places: usize,
}

impl KvCache {
    /// Room for `places` tokens: `shape` = [K, E].
    pub fn new(layers: usize, shape: [usize; 2], places: usize, device: &Device) -> Self {
        let table = || Table::zeros([places, shape[0], shape[1]], device);
        Self {
            layers: (0..layers).map(|_| [table(), table()]).collect(),
            places,
        }
    }

    /// Places in all: m.
    pub const fn places(&self) -> usize {
        self.places
    }

    /// Writes keys and values [n, K, E] at `places` and returns the whole cache of the layer.
    pub fn write(
        &mut self,
        layer: usize,
        [keys, values]: [Tensor<3>; 2],
        places: &Arc<Places>,
    ) -> [Tensor<3>; 2] {
        let [old_keys, old_values] = &mut self.layers[layer];
        [
            old_keys.write(keys, places),
            old_values.write(values, places),
        ]
    }
}

/// Places that are taken and given back in stretches; the first free one that is long enough is taken.
#[derive(Debug)]
pub(super) struct Stretches {
    /// In order; two that touch are one.
    free: Vec<Range<u32>>,
}

impl Stretches {
    /// All of `places` are free.
    pub fn new(places: Range<u32>) -> Self {
        Self { free: vec![places] }
    }

    /// A free stretch of this length, if there is one.
    pub fn take(&mut self, length: u32) -> Option<Range<u32>> {
        let fits = |free: &Range<u32>| free.end - free.start >= length;
        let index = self.free.iter().position(fits)?;
        let found = &mut self.free[index];
        let taken = found.start..found.start + length;
        found.start = taken.end;
        if found.start == found.end {
            self.free.remove(index);
        }
        Some(taken)
    }

    /// Gives back what [`Stretches::take`] gave.
    pub fn give(&mut self, mut stretch: Range<u32>) {
        let next = self.free.partition_point(|free| free.start < stretch.start);
        let mut replaced = next..next;
        if next > 0 && self.free[next - 1].end == stretch.start {
            stretch.start = self.free[next - 1].start;
            replaced.start -= 1;
        }
        if self
            .free
            .get(next)
            .is_some_and(|free| free.start == stretch.end)
        {
            stretch.end = self.free[next].end;
            replaced.end += 1;
        }
        self.free.splice(replaced, [stretch]);
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
    fn tokens_stay_where_they_were_written() {
        let mut cache = KvCache::new(2, [1, 2], 7, &Device::flex());
        let mut write = |layer: usize, places: &[u32]| {
            let keys = tokens(places, layer as f32);
            let places = Arc::new(Places::new(places.to_vec()));
            cache.write(layer, [keys.clone(), -keys], &places)
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

    #[test]
    fn what_is_given_back_is_taken_again_and_neighbours_grow_together() {
        let mut stretches = Stretches::new(10..31);
        let taken: Vec<_> = (0..3).map(|_| stretches.take(7)).collect();
        assert_eq!(taken, [Some(10..17), Some(17..24), Some(24..31)]);
        assert_eq!(stretches.take(1), None);
        stretches.give(17..24);
        assert_eq!(stretches.take(8), None);
        assert_eq!(stretches.take(3), Some(17..20), "the first that is free");
        stretches.give(24..31);
        assert_eq!(stretches.free, vec![20..31]);
        stretches.give(10..17);
        assert_eq!(stretches.free, [10..17, 20..31]);
        stretches.give(17..20);
        assert_eq!(stretches.free, vec![10..31]);
        assert_eq!(stretches.take(21), Some(10..31));
        stretches.give(10..31);
        assert_eq!(stretches.free, vec![10..31]);
    }
}
