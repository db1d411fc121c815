//! Rows of a cache replaced in place: the keys and values of new tokens while decoding.
//! It knows tensors and row numbers, not what a row is.

use std::sync::{Arc, OnceLock};

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::ops::IntTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{AutodiffBackend, Backend, Dispatch, Flex, backend_extension};
use burn::cubecl::prelude::BufferIOAttr::{ReadOnly, ReadWrite};
use burn::tensor::{Tensor, TensorData};
use burn_flex::FlexTensor;

use super::assemble::Shader;
use super::flex_slices::floats;
use super::launch::{contiguous, launch, owned};
use super::shape_check::ShapeCheck;

/// Numbers of rows; uploaded once, however many caches of one device are written at them.
#[derive(Debug)]
pub struct Places {
    rows: Vec<u32>,
    table: OnceLock<CubeTensor>,
}

impl Places {
    /// Each number once.
    #[must_use]
    pub const fn new(rows: Vec<u32>) -> Self {
        Self {
            rows,
            table: OnceLock::new(),
        }
    }

    fn table(&self, like: &CubeTensor) -> CubeTensor {
        let upload = || {
            let words: Vec<i32> = self.rows.iter().map(|row| *row as i32).collect();
            let data = TensorData::new(words, [self.rows.len()]);
            contiguous(CubeBackend::int_from_data(data, &like.device))
        };
        self.table.get_or_init(upload).clone()
    }
}

/// `cache` with row `places[i]` replaced by row i of `rows`; in the memory of `cache` if nobody else holds it.
///
/// # Shapes
/// `cache` `[m, K, E]`, `rows` `[n, K, E]`, `places` `[n]` below m, each once. Not differentiable.
///
/// # Panics
/// If the shapes disagree or a place is outside the cache.
pub fn write_rows(cache: Tensor<3>, rows: Tensor<3>, places: &Arc<Places>) -> Tensor<3> {
    ShapeCheck::new("write_rows")
        .tensor("cache", "mKE", &cache.dims())
        .tensor("rows", "nKE", &rows.dims())
        .tensor("places", "n", &[places.rows.len()]);
    let stored = cache.dims()[0];
    let outside = places.rows.iter().find(|place| **place as usize >= stored);
    assert!(
        outside.is_none(),
        "write_rows: row {outside:?} of a cache of {stored}"
    );
    Tensor::from_dispatch(Dispatch::write_rows(
        cache.into_dispatch(),
        rows.into_dispatch(),
        Arc::clone(places),
    ))
}

#[backend_extension(Cube, Flex, Autodiff)]
pub(crate) trait WriteRowsOps: Backend {
    fn write_rows(
        cache: FloatTensor<Self>,
        rows: FloatTensor<Self>,
        places: Arc<Places>,
    ) -> FloatTensor<Self>;
}

impl WriteRowsOps for Flex {
    fn write_rows(mut cache: FlexTensor, rows: FlexTensor, places: Arc<Places>) -> FlexTensor {
        let rows = floats(&rows);
        if !cache.is_contiguous() {
            cache = cache.to_contiguous();
        }
        let size = rows.len() / places.rows.len().max(1);
        // Copies only if somebody else still holds the cache.
        let values = cache.storage_mut::<f32>();
        for (row, place) in rows.chunks_exact(size.max(1)).zip(&places.rows) {
            let start = *place as usize * size;
            values[start..start + size].copy_from_slice(row);
        }
        cache
    }
}

impl WriteRowsOps for CubeBackend {
    fn write_rows(cache: CubeTensor, rows: CubeTensor, places: Arc<Places>) -> CubeTensor {
        let rows = contiguous(rows);
        let cache = owned(cache);
        let count = places.rows.len();
        let [_, groups, width] = cache.meta.shape().dims();
        let places = places.table(&cache);
        let values = count * groups * width;
        launch(
            shader(),
            &[(&rows, ReadOnly), (&places, ReadOnly), (&cache, ReadWrite)],
            &[values as u32, (groups * width) as u32],
            values.div_ceil(WORKGROUP as usize) as u32,
        );
        cache
    }
}

impl<B: WriteRowsOps, C: CheckpointStrategy> WriteRowsOps for Autodiff<B, C> {
    fn write_rows(
        cache: FloatTensor<Self>,
        rows: FloatTensor<Self>,
        places: Arc<Places>,
    ) -> FloatTensor<Self> {
        // Decoding has no gradient.
        Self::from_inner(B::write_rows(
            cache.into_primitive(),
            rows.into_primitive(),
            places,
        ))
    }
}

/// Invocations per workgroup.
const WORKGROUP: u32 = 64;

/// The only variant.
pub(crate) fn shaders() -> Vec<Shader> {
    vec![shader()]
}

fn shader() -> Shader {
    Shader {
        name: "write_rows",
        source: include_str!("../../shaders/write_rows.wgsl"),
        shared: &[include_str!("../../shaders/shared/index.wgsl")],
        tunables: vec![],
        workgroup: WORKGROUP,
    }
}
