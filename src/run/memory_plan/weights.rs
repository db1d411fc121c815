//! Bytes of parameters: frozen as they are held, trained in f32, adapters.

use super::bytes::{F32, times};
use super::settings::{Formats, Settings};
use crate::kernels::FrozenMatrix;
use crate::model::config::ModelConfig;
use crate::model::parameters::spec::{ParameterSpec, Role, specs};

/// Bytes of a model's parameters by what happens to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct WeightBytes {
    /// Never change.
    pub frozen: u64,
    /// Train, as f32; without adapters.
    pub trained: u64,
    /// Adapters, and what trains whole beside them, as f32.
    pub adapters: u64,
    /// The largest trained tensor.
    pub largest_trained: u64,
    /// Trained weights of the largest block, or of what lies outside of the blocks.
    pub largest_block: u64,
}

/// The policy's.
pub(super) fn of_policy(settings: &Settings) -> WeightBytes {
    let mut found = WeightBytes::default();
    let mut blocks = std::collections::BTreeMap::<String, u64>::new();
    for spec in specs(&settings.model) {
        let bytes = (spec.count() as u64).saturating_mul(F32);
        let trained = if settings.trains(&spec) {
            found.trained += bytes;
            bytes
        } else {
            found.frozen += frozen_bytes(&spec, settings.formats);
            let beside = beside(settings, &spec);
            found.adapters += beside;
            beside
        };
        found.largest_trained = found.largest_trained.max(trained);
        *blocks.entry(block_of(&spec.name)).or_default() += trained;
    }
    for (name, values) in settings
        .adapters()
        .iter()
        .flat_map(|adapters| &adapters.whole)
    {
        let bytes = (*values as u64).saturating_mul(F32);
        found.adapters += bytes;
        found.largest_trained = found.largest_trained.max(bytes);
        *blocks.entry(block_of(name)).or_default() += bytes;
    }
    found.largest_block = blocks.into_values().max().unwrap_or(0);
    found
}

/// A model of which nothing trains.
pub(super) fn frozen(model: &ModelConfig, formats: Formats) -> u64 {
    let all = specs(model);
    all.iter().map(|spec| frozen_bytes(spec, formats)).sum()
}

/// Vectors are always f32: they are small.
fn frozen_bytes(spec: &ParameterSpec, formats: Formats) -> u64 {
    let storage = match spec.role {
        Role::Matrix => formats.matrices,
        Role::Table => formats.tables,
        Role::Bias | Role::Norm => return (spec.count() as u64).saturating_mul(F32),
    };
    FrozenMatrix::byte_count(spec.matrix(), storage) as u64
}

/// The two matrices of an adapter beside a frozen one.
fn beside(settings: &Settings, spec: &ParameterSpec) -> u64 {
    let Some(adapters) = settings.adapters() else {
        return 0;
    };
    if !spec
        .linear_module()
        .is_some_and(|module| adapters.modules.contains(module))
    {
        return 0;
    }
    let [rows, columns] = spec.matrix();
    times([adapters.rank, rows + columns]).saturating_mul(F32)
}

/// `model.layers.3`, `visual.blocks.0`, or a parameter's own name outside of the blocks.
fn block_of(name: &str) -> String {
    let words: Vec<&str> = name.split('.').collect();
    let number = words.iter().position(|word| word.parse::<usize>().is_ok());
    match number {
        Some(place) if !name.starts_with("visual.merger") => words[..=place].join("."),
        _ => name.to_owned(),
    }
}
