//! The operation on a GPU and on the CPU: which code runs where.

use burn::backend::Flex;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::wgpu::CubeBackend;
use burn_flex::FlexTensor;

use super::super::flex_slices::{floats, from_floats, integers};
use super::{PerRow, Settings, Statistics, Suppression, TokenLogprobOps, chunks, gpu, twin};

impl TokenLogprobOps for CubeBackend {
    fn token_logprob(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        suppression: Suppression<Self>,
        settings: Settings,
    ) -> Statistics<Self> {
        chunks::forward::<Self>(&hidden, &weight, &targets, suppression.mask(), settings)
    }

    fn logits_logprob(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        suppression: Suppression<Self>,
        settings: Settings,
    ) -> Statistics<Self> {
        gpu::statistics(logits, targets, suppression.mask(), settings)
    }

    fn logits_gradient(
        logits: FloatTensor<Self>,
        per_row: PerRow<Self>,
        suppression: Suppression<Self>,
        settings: Settings,
    ) -> FloatTensor<Self> {
        gpu::gradient(logits, per_row, suppression.mask(), settings)
    }
}

impl TokenLogprobOps for Flex {
    fn token_logprob(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        suppression: Suppression<Self>,
        settings: Settings,
    ) -> Statistics<Self> {
        chunks::forward::<Self>(&hidden, &weight, &targets, suppression.mask(), settings)
    }

    fn logits_logprob(
        logits: FlexTensor,
        targets: FlexTensor,
        suppression: Suppression<Self>,
        settings: Settings,
    ) -> Statistics<Self> {
        let mask = suppression.mask();
        let mask = mask.as_ref().map(floats);
        let softmax = twin::Softmax {
            suppressed: mask.as_deref(),
            settings,
        };
        let [rows, vocabulary] = logits.layout().shape().dims();
        let results = softmax.statistics(&floats(&logits), vocabulary, &integers(&targets));
        let tensor = |values| from_floats(values, [rows]);
        (
            tensor(results.logprobs),
            tensor(results.entropies),
            tensor(results.logsumexp),
        )
    }

    fn logits_gradient(
        logits: FlexTensor,
        per_row: PerRow<Self>,
        suppression: Suppression<Self>,
        settings: Settings,
    ) -> FlexTensor {
        let mask = suppression.mask();
        let mask = mask.as_ref().map(floats);
        let softmax = twin::Softmax {
            suppressed: mask.as_deref(),
            settings,
        };
        let [_, vocabulary] = logits.layout().shape().dims::<2>();
        let per_row = twin::PerRow {
            targets: &integers(&per_row.targets),
            logsumexp: &floats(&per_row.logsumexp),
            upstream: &floats(&per_row.upstream),
            entropies: &floats(&per_row.entropies),
            entropy_upstream: &floats(&per_row.entropy_upstream),
        };
        let mut gradient = logits.to_contiguous();
        drop(logits);
        // Copies the logits only if somebody else still holds them.
        let values = gradient.storage_mut::<f32>();
        softmax.gradient(values, vocabulary, &per_row);
        gradient
    }
}
