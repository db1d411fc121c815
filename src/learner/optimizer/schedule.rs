//! Learning rate by step, as transformers' `get_scheduler` computes it.

/// How the learning rate changes over the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleKind {
    /// Down to zero in a straight line.
    Linear,
    /// Half a cosine down to zero.
    Cosine,
    /// No change, no warm-up either unless asked for.
    Constant,
}

/// A schedule: warm-up from zero, then the curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The curve.
    pub kind: ScheduleKind,
    /// Rate after warm-up.
    pub learning_rate: f64,
    /// Steps of warm-up.
    pub warmup_steps: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
}

impl Schedule {
    /// The rate of optimizer step `step`, counted from 0.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "step counts are far below 2^52")]
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.learning_rate * step as f64 / self.warmup_steps.max(1) as f64;
        }
        let span = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let progress = ((step - self.warmup_steps) as f64 / span).min(1.0);
        let factor = match self.kind {
            ScheduleKind::Linear => 1.0 - progress,
            ScheduleKind::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            ScheduleKind::Constant => 1.0,
        };
        self.learning_rate * factor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(kind: ScheduleKind, warmup_steps: u64, step: u64) -> f64 {
        Schedule {
            kind,
            learning_rate: 1.0,
            warmup_steps,
            total_steps: 10,
        }
        .at(step)
    }

    /// Worked out by hand from transformers' lambdas.
    #[test]
    fn curves_match_hand_numbers() {
        let close = |found: f64, expected: f64| {
            assert!(
                (found - expected).abs() < 1e-12,
                "{found} is not {expected}"
            )
        };
        close(at(ScheduleKind::Linear, 0, 0), 1.0);
        close(at(ScheduleKind::Linear, 0, 4), 0.6);
        close(at(ScheduleKind::Linear, 2, 0), 0.0);
        close(at(ScheduleKind::Linear, 2, 1), 0.5);
        close(at(ScheduleKind::Linear, 2, 6), 0.5);
        close(at(ScheduleKind::Linear, 2, 12), 0.0);
        close(at(ScheduleKind::Cosine, 2, 6), 0.5);
        close(at(ScheduleKind::Cosine, 0, 10), 0.0);
        close(at(ScheduleKind::Constant, 0, 9), 1.0);
        close(at(ScheduleKind::Constant, 4, 1), 0.25);
    }
}
