//! The operation on a GPU and on the CPU: which code runs where.

use std::borrow::Cow;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Flex, TensorMetadata};
use burn_flex::FlexTensor;

use super::backward::{Saved, TokenLogprobBackward, Upstream, Wanted};
use super::tiles::Tiles;
use super::{
    Head, PerRow, Settings, Statistics, Suppression, TokenLogprobOps, cpu, gpu, products, tiles_of,
    twin,
};
use crate::kernels::flex_slices::{floats, from_floats, integers};

impl TokenLogprobOps for CubeBackend {
    fn token_logprob(
        hidden: FloatTensor<Self>,
        head: Head<Self>,
        targets: IntTensor<Self>,
        suppression: Suppression<Self>,
        settings: Settings,
    ) -> Statistics<Self> {
        let tiles = tiles_of::<Self>(&hidden, &head, settings);
        let call = gpu::Call::new(targets, suppression.mask(), tiles.vocabulary(), settings);
        products::forward(&hidden, &head, call, tiles)
    }

    fn logits_logprob(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        suppression: Suppression<Self>,
        settings: Settings,
    ) -> Statistics<Self> {
        let [rows, vocabulary] = logits.shape().dims();
        let call = gpu::Call::new(targets, suppression.mask(), vocabulary, settings);
        let running = gpu::Running::new(call);
        running.add(logits, &(0..rows), &(0..vocabulary));
        running.results()
    }

    fn logits_gradient(
        logits: FloatTensor<Self>,
        per_row: PerRow<Self>,
        suppression: Suppression<Self>,
        settings: Settings,
    ) -> FloatTensor<Self> {
        let [rows, vocabulary] = logits.shape().dims();
        let gradient = gpu::Gradient::new(per_row, suppression.mask(), vocabulary, settings);
        gradient.of(logits, &(0..rows), &(0..vocabulary))
    }
}

impl TokenLogprobBackward for CubeBackend {
    fn backward(
        saved: Saved<Self>,
        upstream: Upstream<Self>,
        wanted: Wanted,
    ) -> (Option<CubeTensor>, Option<CubeTensor>) {
        products::backward(&saved, upstream, wanted)
    }
}

impl TokenLogprobOps for Flex {
    fn token_logprob(
        hidden: FloatTensor<Self>,
        head: Head<Self>,
        targets: IntTensor<Self>,
        suppression: Suppression<Self>,
        settings: Settings,
    ) -> Statistics<Self> {
        let mask = suppression.mask();
        let tiles = tiles_of::<Self>(&hidden, &head, settings);
        let slices = Slices::new(&hidden, &head, mask.as_ref());
        let results = slices.inputs(tiles, settings).forward(&integers(&targets));
        statistics(results)
    }

    fn logits_logprob(
        logits: FlexTensor,
        targets: FlexTensor,
        suppression: Suppression<Self>,
        settings: Settings,
    ) -> Statistics<Self> {
        let [rows, vocabulary] = logits.layout().shape().dims();
        let mask = suppression.mask();
        let mask = mask.as_ref().map(floats);
        let softmax = twin::Softmax {
            vocabulary,
            suppressed: mask.as_deref(),
            settings,
        };
        let mut states = vec![twin::RowState::NEW; rows];
        let targets = integers(&targets);
        softmax.add(&mut states, &floats(&logits), &(0..vocabulary), &targets);
        statistics(softmax.results(&states))
    }

    fn logits_gradient(
        logits: FlexTensor,
        per_row: PerRow<Self>,
        suppression: Suppression<Self>,
        settings: Settings,
    ) -> FlexTensor {
        let [_, vocabulary] = logits.layout().shape().dims::<2>();
        let mask = suppression.mask();
        let mask = mask.as_ref().map(floats);
        let softmax = twin::Softmax {
            vocabulary,
            suppressed: mask.as_deref(),
            settings,
        };
        let mut gradient = logits.to_contiguous();
        drop(logits);
        // Copies the logits only if somebody else still holds them.
        let values = gradient.storage_mut::<f32>();
        with_slices(&per_row, |per_row| {
            softmax.gradient(values, &(0..vocabulary), per_row);
        });
        gradient
    }
}

impl TokenLogprobBackward for Flex {
    fn backward(
        saved: Saved<Self>,
        upstream: Upstream<Self>,
        wanted: Wanted,
    ) -> (Option<FlexTensor>, Option<FlexTensor>) {
        let (tiles, width) = (saved.tiles(), saved.hidden.shape()[1]);
        let [rows, vocabulary] = [tiles.row_count(), tiles.vocabulary()];
        let slices = Slices::new(&saved.hidden, &saved.head, saved.mask.as_ref());
        let mut to_hidden = wanted.hidden.then(|| vec![0.0; rows * width]);
        let mut to_head = wanted.head.then(|| vec![0.0; vocabulary * width]);
        with_slices(&saved.per_row(upstream), |per_row| {
            slices.inputs(tiles, saved.settings).backward(
                per_row,
                to_hidden.as_deref_mut(),
                to_head.as_deref_mut(),
            );
        });
        let matrix = |values, rows| from_floats(values, [rows, width]);
        (
            to_hidden.map(|values| matrix(values, rows)),
            to_head.map(|values| matrix(values, vocabulary)),
        )
    }
}

/// The inputs as slices, borrowed unless a tensor is a strided view.
struct Slices<'a> {
    hidden: Cow<'a, [f32]>,
    width: usize,
    head: cpu::HeadRows<'a>,
    mask: Option<Cow<'a, [f32]>>,
}

impl<'a> Slices<'a> {
    fn new(hidden: &'a FlexTensor, head: &'a Head<Flex>, mask: Option<&'a FlexTensor>) -> Self {
        Self {
            hidden: floats(hidden),
            width: hidden.shape()[1],
            head: match head {
                Head::Dense(weight) => cpu::HeadRows::Dense(floats(weight)),
                Head::Frozen(weight) => cpu::HeadRows::Frozen(weight),
            },
            mask: mask.map(floats),
        }
    }

    fn inputs(&self, tiles: Tiles, settings: Settings) -> cpu::Inputs<'_> {
        cpu::Inputs {
            hidden: &self.hidden,
            width: self.width,
            head: &self.head,
            softmax: twin::Softmax {
                vocabulary: tiles.vocabulary(),
                suppressed: self.mask.as_deref(),
                settings,
            },
            tiles,
        }
    }
}

/// Calls with what the gradient needs per row as slices.
fn with_slices(per_row: &PerRow<Flex>, call: impl FnOnce(&twin::PerRow)) {
    call(&twin::PerRow {
        targets: &integers(&per_row.targets),
        logsumexp: &floats(&per_row.logsumexp),
        upstream: &floats(&per_row.upstream),
        entropies: &floats(&per_row.entropies),
        entropy_upstream: &floats(&per_row.entropy_upstream),
    });
}

fn statistics(results: twin::RowResults) -> Statistics<Flex> {
    let tensor = |values: Vec<f32>| {
        let rows = values.len();
        from_floats(values, [rows])
    };
    (
        tensor(results.logprobs),
        tensor(results.entropies),
        tensor(results.logsumexp),
    )
}
