//! Embeddings of pictures, computed once: a frozen tower gives the same ones to sampling, reference and update.
//!
//! A picture's embeddings live as long as somebody else holds the picture. Knows nothing of the tower.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Tensor;

use crate::record::ImagePatches;

/// The embeddings of pictures that are in use.
#[derive(Debug, Clone, Default)]
pub struct Features(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// Pictures with their embeddings [P/4, D].
    pictures: Vec<(Arc<ImagePatches>, Tensor<2>)>,
    computed: usize,
}

impl Features {
    /// Embeddings of pictures one after the other, [sum of P/4, D]; `compute` is asked for those of pictures that are new,
    /// one after the other too. `None` without pictures.
    pub fn of(
        &self,
        pictures: &[Arc<ImagePatches>],
        compute: impl FnOnce(&[&ImagePatches]) -> Option<Tensor<2>>,
    ) -> Option<Tensor<2>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.pictures
            .retain(|(picture, _)| Arc::strong_count(picture) > 1);
        let mut new: Vec<Arc<ImagePatches>> = Vec::new();
        for picture in pictures {
            let is = |other: &Arc<ImagePatches>| Arc::ptr_eq(other, picture);
            if !new.iter().any(is) && !kept.pictures.iter().any(|(other, _)| is(other)) {
                new.push(Arc::clone(picture));
            }
        }
        let borrowed: Vec<&ImagePatches> = new.iter().map(Arc::as_ref).collect();
        if let Some(embeddings) = compute(&borrowed) {
            let total: usize = borrowed.iter().map(|picture| patches(picture)).sum();
            let unit = total / embeddings.dims()[0].max(1);
            let mut start = 0;
            for picture in new {
                let count = patches(&picture) / unit;
                let own = embeddings.clone().narrow(0, start, count);
                kept.pictures.push((picture, own));
                kept.computed += 1;
                start += count;
            }
        }
        let find = |picture: &Arc<ImagePatches>| {
            let mut known = kept.pictures.iter();
            let found = known.find(|(other, _)| Arc::ptr_eq(other, picture));
            found
                .map(|(_, embeddings)| embeddings.clone())
                .expect("it was added above")
        };
        let parts: Vec<Tensor<2>> = pictures.iter().map(find).collect();
        (!parts.is_empty()).then(|| Tensor::cat(parts, 0))
    }

    /// Pictures that went through the tower so far.
    #[must_use]
    pub fn computed(&self) -> usize {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.computed
    }
}

fn patches(picture: &ImagePatches) -> usize {
    picture.grid.iter().product()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn picture(rows: usize) -> Arc<ImagePatches> {
        Arc::new(ImagePatches {
            pixel_values: vec![0.0; rows * 2],
            grid: [1, rows, 2],
        })
    }

    /// [patches / 2, 1] of each picture's rows.
    fn tower(pictures: &[&ImagePatches]) -> Option<Tensor<2>> {
        let parts = pictures.iter().map(|picture| {
            let rows = picture.grid[1];
            Tensor::<2>::ones([rows, 1], &Device::flex()).mul_scalar(rows as f32)
        });
        let parts: Vec<_> = parts.collect();
        (!parts.is_empty()).then(|| Tensor::cat(parts, 0))
    }

    #[test]
    fn a_picture_is_computed_once_while_it_is_in_use() {
        let features = Features::default();
        let (first, second) = (picture(2), picture(4));
        let both = [&first, &second, &first].map(Arc::clone);
        for _ in 0..3 {
            let found = features.of(&both, tower).expect("pictures");
            let values: Vec<f32> = found.into_data().try_into_vec().expect("f32");
            assert_eq!(values, [2.0, 2.0, 4.0, 4.0, 4.0, 4.0, 2.0, 2.0]);
        }
        assert_eq!(features.computed(), 2);
        drop(both);
        drop(second);
        assert!(features.of(&[], tower).is_none());
        features.of(&[first], tower);
        assert_eq!(features.computed(), 2, "the first was still in use");
        features.of(&[picture(2)], tower);
        assert_eq!(features.computed(), 3, "an equal picture is another one");
    }
}
