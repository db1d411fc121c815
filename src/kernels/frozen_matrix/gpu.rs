//! Launches the shaders on a stored matrix that is on the GPU, part by part. It knows buffers and variants.

use std::ops::Range;
use std::sync::Arc;

use burn::backend::ops::IntTensorOps;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::cubecl::prelude::BufferIOAttr::{ReadOnly, ReadWrite};
use burn::tensor::{DType, Device, IntDType, Tensor};

use super::upload::Part;
use super::{FrozenMatrix, Storage};
use crate::kernels::assemble::Shader;
use crate::kernels::launch::{contiguous, empty, launch};

/// Rows and columns of a tile of results.
const TILE: usize = 64;
/// Most rows of x for which the weights are read once, without tiles; each is a variant.
const COUNTS: [usize; 3] = [1, 4, 16];
/// Rows of W of a workgroup of the form for few rows.
const ROWS: usize = 4;
/// Invocations per workgroup of the gathering.
const GATHER_WORKGROUP: usize = 64;

/// The passes over a matrix.
#[derive(Debug, Clone, Copy)]
enum Pass {
    Linear,
    /// With the number of rows of x of the variant.
    FewRows(usize),
    Backward,
    Gather,
}

/// Every pass for every storage.
pub(crate) fn shaders() -> Vec<Shader> {
    let passes = [Pass::Linear, Pass::Backward, Pass::Gather];
    let passes = passes.into_iter().chain(COUNTS.map(Pass::FewRows));
    passes
        .flat_map(|pass| Storage::ALL.map(|storage| shader(pass, storage)))
        .collect()
}

fn shader(pass: Pass, storage: Storage) -> Shader {
    let (name, source, workgroup, tunables) = match pass {
        Pass::Linear => (
            "frozen_matrix_linear",
            include_str!("../../../shaders/frozen_matrix_linear.wgsl"),
            256,
            vec![],
        ),
        Pass::FewRows(count) => (
            "frozen_matrix_few_rows",
            include_str!("../../../shaders/frozen_matrix_few_rows.wgsl"),
            64,
            vec![("COUNT", format!("{count}u"))],
        ),
        Pass::Backward => (
            "frozen_matrix_backward",
            include_str!("../../../shaders/frozen_matrix_backward.wgsl"),
            256,
            vec![],
        ),
        Pass::Gather => (
            "frozen_matrix_gather",
            include_str!("../../../shaders/frozen_matrix_gather.wgsl"),
            GATHER_WORKGROUP as u32,
            vec![],
        ),
    };
    Shader {
        name,
        source,
        shared: shared(storage),
        tunables,
        workgroup,
    }
}

const INDEX: &str = include_str!("../../../shaders/shared/index.wgsl");
const HALF: &str = include_str!("../../../shaders/shared/half.wgsl");
const F32: &str = include_str!("../../../shaders/shared/frozen_f32.wgsl");
const BF16: &str = include_str!("../../../shaders/shared/frozen_bf16.wgsl");
const F16: &str = include_str!("../../../shaders/shared/frozen_f16.wgsl");
const Q8: &str = include_str!("../../../shaders/shared/frozen_q8.wgsl");
const Q4: &str = include_str!("../../../shaders/shared/frozen_q4.wgsl");

/// How the words of a storage are read.
fn shared(storage: Storage) -> &'static [&'static str] {
    match storage {
        Storage::F32 => &[INDEX, F32],
        Storage::Bf16 => &[INDEX, BF16],
        Storage::F16 => &[INDEX, HALF, F16],
        Storage::Q8 => &[INDEX, HALF, Q8],
        Storage::Q4 => &[INDEX, HALF, Q4],
    }
}

impl FrozenMatrix {
    /// Uploads the matrix if `device` is a GPU that has not got it yet; the first product would.
    pub fn prepare(&self, device: &Device) {
        let probe = Tensor::<1>::zeros([1], &device.clone().inner());
        if let Ok(probe) = probe.try_into_primitive::<CubeBackend>() {
            self.parts(&probe);
        }
    }

    fn parts(&self, like: &CubeTensor) -> Arc<[Part]> {
        self.uploads.parts(self.stored(), like)
    }
}

/// A matrix on a device: its format, its shape and its parts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    pub storage: Storage,
    pub shape: [usize; 2],
    pub parts: &'a [Part],
}

/// `x [n, in] · W[rows]ᵀ`, `[n, rows]`.
pub(super) fn linear(x: CubeTensor, weight: &FrozenMatrix, rows: Range<usize>) -> CubeTensor {
    let parts = weight.parts(&x);
    Parts::new(weight, &parts).linear(x, rows)
}

/// `upstream [n, rows] · W[rows]`, `[n, in]`.
pub(super) fn linear_backward(
    upstream: CubeTensor,
    weight: &FrozenMatrix,
    rows: Range<usize>,
) -> CubeTensor {
    let parts = weight.parts(&upstream);
    Parts::new(weight, &parts).linear_backward(upstream, rows)
}

/// Row `ids[i]` of W as row i; NaN where there is no such row.
pub(super) fn gather(ids: CubeTensor, weight: &FrozenMatrix) -> CubeTensor {
    let parts = weight.parts(&ids);
    Parts::new(weight, &parts).gather(ids)
}

impl<'a> Parts<'a> {
    pub fn new(weight: &FrozenMatrix, parts: &'a [Part]) -> Self {
        Self {
            storage: weight.storage(),
            shape: weight.shape(),
            parts,
        }
    }

    /// Each part with those of its rows that are asked for: first row in the part, number, place among `rows`.
    fn with_rows(
        self,
        rows: &Range<usize>,
    ) -> impl Iterator<Item = (&'a Part, [u32; 3])> + use<'a> {
        let rows = rows.clone();
        self.parts.iter().filter_map(move |part| {
            let own = part.among(&rows);
            let numbers = [
                own.start - part.rows.start,
                own.len(),
                own.start - rows.start,
            ];
            (!own.is_empty()).then(|| (part, numbers.map(|number| number as u32)))
        })
    }

    pub fn linear(self, x: CubeTensor, rows: Range<usize>) -> CubeTensor {
        let x = contiguous(x);
        let [count, width] = x.meta.shape().dims();
        let y = empty(&x, [count, rows.len()], DType::F32);
        let few = COUNTS.into_iter().find(|most| count <= *most);
        for (part, [row, part_rows, first]) in self.with_rows(&rows) {
            let (pass, groups) = match few {
                Some(most) => (Pass::FewRows(most), (part_rows as usize).div_ceil(ROWS)),
                None => {
                    let tiles = count.div_ceil(TILE) * (part_rows as usize).div_ceil(TILE);
                    (Pass::Linear, tiles)
                }
            };
            launch(
                shader(pass, self.storage),
                &[(&x, ReadOnly), (&part.words, ReadOnly), (&y, ReadWrite)],
                &[
                    count as u32,
                    width as u32,
                    row,
                    part_rows,
                    first,
                    rows.len() as u32,
                ],
                if count == 0 { 0 } else { groups as u32 },
            );
        }
        y
    }

    pub fn linear_backward(self, upstream: CubeTensor, rows: Range<usize>) -> CubeTensor {
        let upstream = contiguous(upstream);
        let [count, columns] = upstream.meta.shape().dims::<2>();
        let [_, width] = self.shape;
        let to_x = empty(&upstream, [count, width], DType::F32);
        for (index, (part, [row, part_rows, first])) in self.with_rows(&rows).enumerate() {
            launch(
                shader(Pass::Backward, self.storage),
                &[
                    (&upstream, ReadOnly),
                    (&part.words, ReadOnly),
                    (&to_x, ReadWrite),
                ],
                &[
                    count as u32,
                    width as u32,
                    row,
                    part_rows,
                    first,
                    columns as u32,
                    u32::from(index > 0),
                ],
                (count.div_ceil(TILE) * width.div_ceil(TILE)) as u32,
            );
        }
        to_x
    }

    pub fn gather(self, ids: CubeTensor) -> CubeTensor {
        let ids = contiguous(CubeBackend::int_cast(ids, IntDType::I32));
        let [count] = ids.meta.shape().dims();
        let [all_rows, width] = self.shape;
        let out = empty(&ids, [count, width], DType::F32);
        for part in self.parts {
            launch(
                shader(Pass::Gather, self.storage),
                &[(&ids, ReadOnly), (&part.words, ReadOnly), (&out, ReadWrite)],
                &[
                    count as u32,
                    width as u32,
                    part.rows.start as u32,
                    part.rows.len() as u32,
                    all_rows as u32,
                ],
                (count * width.div_ceil(4)).div_ceil(GATHER_WORKGROUP) as u32,
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Int, TensorData};

    use super::super::twin;
    use super::super::upload::upload;
    use super::*;
    use crate::device::first_gpu;

    fn values(tensor: CubeTensor) -> Vec<f32> {
        let tensor = Tensor::<2>::from_primitive::<CubeBackend>(tensor);
        tensor.into_data().try_into_vec().expect("an f32 tensor")
    }

    fn close(found: &[f32], expected: &[f32]) -> bool {
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-4 || a.is_nan() && b.is_nan();
        found.len() == expected.len() && found.iter().zip(expected).all(near)
    }

    /// A matrix that is larger than what the adapter binds at a time.
    #[test]
    fn a_matrix_in_parts_gives_what_the_whole_gives() {
        let Some(device) = first_gpu() else {
            println!("SKIPPED: no GPU adapter was found");
            return;
        };
        let (all, width, rows) = (23, 35, 2..20);
        let value = |index: usize| ((index * 37 + 11) % 64) as f32 / 32.0 - 1.0;
        let bytes: Vec<u8> = (0..all * width)
            .flat_map(|index| value(index).to_le_bytes())
            .collect();
        let source = FrozenMatrix::new([all, width], Storage::F32, bytes.into());
        let on_gpu = |values: &[f32], shape: [usize; 2]| {
            let data = TensorData::new(values.to_vec(), shape);
            let tensor = Tensor::<2>::from_data(data, &device);
            tensor
                .try_into_primitive::<CubeBackend>()
                .expect("a GPU tensor")
        };
        let ids = [0i64, 22, 7, 19, 23, -1, 4];
        let id_tensor = Tensor::<1, Int>::from_data(TensorData::new(ids.to_vec(), [7]), &device);
        let id_tensor = id_tensor
            .try_into_primitive::<CubeBackend>()
            .expect("a GPU tensor");
        for storage in [Storage::Bf16, Storage::Q4] {
            let matrix = source.stored_as(storage);
            let limit = storage.row_bytes(width) * 5 + 3;
            for count in [3, 17] {
                let x: Vec<f32> = (0..count * width).map(|index| value(index + 5)).collect();
                let upstream: Vec<f32> = (0..count * rows.len()).map(value).collect();
                let x_tensor = on_gpu(&x, [count, width]);
                let uploaded = upload(matrix.stored(), &x_tensor, limit);
                assert_eq!(uploaded.len(), 5, "parts of five rows");
                let parts = Parts::new(&matrix, &uploaded);
                let y = values(parts.linear(x_tensor, rows.clone()));
                assert!(
                    close(&y, &twin::linear(&x, &matrix, rows.clone())),
                    "{storage:?}"
                );
                let upstream_tensor = on_gpu(&upstream, [count, rows.len()]);
                let to_x = values(parts.linear_backward(upstream_tensor, rows.clone()));
                let expected = twin::linear_backward(&upstream, &matrix, rows.clone());
                assert!(close(&to_x, &expected), "{storage:?}");
                let gathered = values(parts.gather(id_tensor.clone()));
                assert!(
                    close(&gathered, &twin::gather(&ids, &matrix)),
                    "{storage:?}"
                );
            }
        }
    }
}
