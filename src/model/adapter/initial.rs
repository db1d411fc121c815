//! What an adapter starts from: PEFT's initialisation, drawn from a seed.
//!
//! Knows nothing of where the tensors go.

use super::names::FACTORS;
use crate::seed::{fnv1a, split_mix};

/// The first values of a low-rank factor: A uniform within ±1/sqrt(in) (PEFT: `kaiming_uniform_(a=sqrt(5))`), B zeros, so
/// that the adapted model starts as the model. The same for one seed and name, whatever other tensors there are. `None` for
/// a tensor that starts as the model's own.
#[must_use]
pub fn initial_values(tensor: &str, shape: &[usize], seed: u64) -> Option<Vec<f32>> {
    let module = tensor.strip_suffix(".weight").unwrap_or(tensor);
    let factor = module.rsplit('.').next().unwrap_or(module);
    let count = shape.iter().product::<usize>();
    let [a, b] = FACTORS;
    if factor == b {
        return Some(vec![0.0; count]);
    }
    if factor != a {
        return None;
    }
    let bound = 1.0 / (shape.last().copied().unwrap_or(1).max(1) as f64).sqrt();
    let stream = split_mix(seed, fnv1a(tensor.bytes()));
    let draw = |index: usize| {
        let share = (split_mix(stream, index as u64) >> 11) as f64 / (1_u64 << 53) as f64;
        ((2.0 * share - 1.0) * bound) as f32
    };
    Some((0..count).map(draw).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_is_uniform_within_its_bound_and_b_is_zero() {
        let name = "model.layers.0.mlp.up_proj.lora_A.weight";
        let values = initial_values(name, &[16, 100], 7).expect("a factor");
        let bound = 0.1_f32;
        assert!(values.iter().all(|value| value.abs() <= bound));
        let mean = values.iter().sum::<f32>() / 1600.0;
        let variance = values.iter().map(|value| value * value).sum::<f32>() / 1600.0;
        assert!(mean.abs() < 0.006, "{mean}");
        // A uniform number within ±b has the variance b² / 3.
        assert!(
            (variance / (bound * bound / 3.0) - 1.0).abs() < 0.08,
            "{variance}"
        );
        assert_eq!(initial_values(name, &[16, 100], 7), Some(values.clone()));
        assert_ne!(initial_values(name, &[16, 100], 8), Some(values.clone()));
        let other = initial_values("model.layers.1.mlp.up_proj.lora_A.weight", &[16, 100], 7);
        assert_ne!(other, Some(values));
        let zeros = initial_values("model.layers.0.mlp.up_proj.lora_B.weight", &[3, 16], 7);
        assert_eq!(zeros, Some(vec![0.0; 48]));
        assert_eq!(
            initial_values("lm_head.modules_to_save.weight", &[3, 4], 7),
            None
        );
    }
}
