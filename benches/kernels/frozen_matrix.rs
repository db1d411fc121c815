//! Products with stored weights of the size of Qwen2-VL-2B's feed-forward layer, against Burn's product of the same
//! values as f32.

use std::sync::Arc;

use burn::tensor::{Distribution, Tensor};
use vision_ekipl::kernels::{FrozenMatrix, Storage, WeightMatrix};

use crate::case::{Bench, Case};

/// `[out, in]`
const SHAPE: [usize; 2] = [8960, 1536];

/// Runs every case of the operation.
pub fn run(bench: &Bench) {
    if !"frozen_matrix".contains(&bench.filter) && !bench.filter.contains("frozen_matrix") {
        return;
    }
    let [rows, columns] = SHAPE;
    let values = |index: usize| (index.wrapping_mul(0x9e37_79b9) >> 8 & 0xffff) as f32;
    let bytes: Vec<u8> = (0..rows * columns)
        .flat_map(|index| (values(index) * 1e-6 - 0.03).to_le_bytes())
        .collect();
    let source = FrozenMatrix::new(SHAPE, Storage::F32, bytes.into());
    for storage in Storage::ALL {
        let matrix = Arc::new(source.stored_as(storage));
        for count in [1, 8, 256] {
            products(bench, &matrix, count);
        }
    }
}

fn products(bench: &Bench, matrix: &Arc<FrozenMatrix>, count: usize) {
    let (device, [rows, columns]) = (&bench.device, SHAPE);
    let storage = matrix.storage();
    let frozen = WeightMatrix::Frozen(Arc::clone(matrix));
    let single = Arc::new(matrix.stored_as(Storage::F32));
    let mut values = vec![0.0; rows * columns];
    single.copy_rows(0..rows, &mut values);
    let dense = Tensor::<1>::from_floats(values.as_slice(), device).reshape(SHAPE);
    let random = |width| Tensor::<2>::random([count, width], Distribution::Default, device);
    let (x, upstream) = (random(columns), random(rows));
    let bytes = FrozenMatrix::byte_count(SHAPE, storage) + count * (rows + columns) * 4;
    bench.run(Case {
        name: format!("frozen_matrix {storage:?}, {count} rows"),
        bytes,
        tolerance: 1e-2,
        ours: || frozen.linear(x.clone()),
        stock: || x.clone().matmul(dense.clone().transpose()),
    });
    bench.run(Case {
        name: format!("frozen_matrix {storage:?}, {count} rows, to x"),
        bytes,
        tolerance: 1e-2,
        ours: || frozen.linear_rows_backward(upstream.clone(), 0..rows),
        stock: || upstream.clone().matmul(dense.clone()),
    });
}
