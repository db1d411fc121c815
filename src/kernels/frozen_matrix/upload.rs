//! A stored matrix in a GPU's memory: parts by rows, each no larger than one binding, uploaded once.
//! It knows bytes and buffers, not what is computed with them.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::wgpu::CubeTensor;
use burn::tensor::{Bytes, DType};

use super::storage::Stored;
use crate::kernels::launch::empty;

/// Bytes that are copied at a time: what an upload takes of the host's memory.
const CHUNK_BYTES: usize = 8 << 20;

/// Some rows of a matrix in one buffer of u32 words.
#[derive(Debug)]
pub(super) struct Part {
    pub rows: Range<usize>,
    pub words: CubeTensor,
}

impl Part {
    /// The rows of this part among `rows`, counted in the matrix.
    pub fn among(&self, rows: &Range<usize>) -> Range<usize> {
        let start = self.rows.start.max(rows.start);
        start..self.rows.end.min(rows.end).max(start)
    }
}

/// The parts of a matrix on each device that used it.
#[derive(Default)]
pub(super) struct Uploads(Mutex<Vec<Arc<[Part]>>>);

impl Uploads {
    /// The parts on the device of `like`; the first call uploads them.
    pub fn parts(&self, matrix: Stored<'_>, like: &CubeTensor) -> Arc<[Part]> {
        let mut uploads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let here = |parts: &&Arc<[Part]>| parts[0].words.device == like.device;
        if let Some(parts) = uploads.iter().find(here) {
            return Arc::clone(parts);
        }
        let limit = like.client.properties().memory.max_page_size;
        let parts: Arc<[Part]> = upload(matrix, like, usize::try_from(limit).unwrap_or(usize::MAX));
        uploads.push(Arc::clone(&parts));
        parts
    }
}

/// The matrix in parts of at most `limit` bytes; at least one part, of at least one row if there is one.
///
/// # Panics
/// If one row alone is larger.
pub(super) fn upload(matrix: Stored<'_>, like: &CubeTensor, limit: usize) -> Arc<[Part]> {
    let [rows, columns] = matrix.shape;
    let row_bytes = matrix.storage.row_bytes(columns).max(1);
    let at_a_time = limit / row_bytes;
    assert!(
        at_a_time > 0,
        "one row of a matrix {:?} has {row_bytes} bytes, and the adapter binds {limit} at most",
        matrix.shape
    );
    (0..rows.max(1))
        .step_by(at_a_time)
        .map(|start| {
            let rows = start..(start + at_a_time).min(rows);
            let words = words(matrix.rows(rows.clone()), like);
            Part { rows, words }
        })
        .collect()
}

/// A buffer of whole words that begins with `bytes`, copied chunk by chunk.
fn words(bytes: &[u8], like: &CubeTensor) -> CubeTensor {
    let client = like.client.clone();
    let count = bytes.len().div_ceil(4);
    // Exact in size and never moved: what lives as long as the run stays out of the pools.
    let tensor = client.memory_persistent_allocation((), |()| empty(like, [count], DType::U32));
    let size = tensor.handle.size_in_used();
    for (index, chunk) in bytes.chunks(CHUNK_BYTES).enumerate() {
        let mut chunk = chunk.to_vec();
        chunk.resize(chunk.len().next_multiple_of(4), 0);
        let start = (index * CHUNK_BYTES) as u64;
        let place = tensor.handle.clone().offset_start(start);
        let place = place.offset_end(size - start - chunk.len() as u64);
        client.write(&place, Bytes::from_bytes_vec(chunk));
    }
    tensor
}
