//! Wall-clock seconds of the parts of a step, under verl's names.
//!
//! Does not wait for a device: a phase's work must be read back before its lap ends.

use std::time::Instant;

use super::step_metrics::StepMetrics;

/// A part of a training step, in the order of the data flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Sampling the policy's own actions.
    Gen,
    /// External actions.
    External,
    /// Reward functions.
    Reward,
    /// Log-probabilities of the policy at rollout time.
    Old,
    /// Log-probabilities of the reference model.
    Ref,
    /// Selection and advantages.
    Adv,
    /// Forward, backward and optimizer.
    UpdateActor,
}

impl Phase {
    const ALL: [Self; 7] = [
        Self::Gen,
        Self::External,
        Self::Reward,
        Self::Old,
        Self::Ref,
        Self::Adv,
        Self::UpdateActor,
    ];

    const fn metric(self) -> &'static str {
        match self {
            Self::Gen => "timing_s/gen",
            Self::External => "timing_s/external",
            Self::Reward => "timing_s/reward",
            Self::Old => "timing_s/old",
            Self::Ref => "timing_s/ref",
            Self::Adv => "timing_s/adv",
            Self::UpdateActor => "timing_s/update_actor",
        }
    }
}

/// A stop watch for one step: call [`PhaseTimer::lap`] at the end of each phase.
#[derive(Debug, Clone)]
pub struct PhaseTimer {
    started: Instant,
    lap_started: Instant,
    seconds: [Option<f64>; Phase::ALL.len()],
}

impl PhaseTimer {
    /// Starts the step and its first phase.
    #[must_use]
    pub fn start() -> Self {
        let now = Instant::now();
        Self {
            started: now,
            lap_started: now,
            seconds: [None; Phase::ALL.len()],
        }
    }

    /// The time since the last lap belonged to `phase`; repeated laps of a phase add up.
    pub fn lap(&mut self, phase: Phase) {
        let now = Instant::now();
        let seconds = now.duration_since(self.lap_started).as_secs_f64();
        *self.seconds[phase as usize].get_or_insert(0.0) += seconds;
        self.lap_started = now;
    }

    /// Inserts `timing_s/*` of the phases that ran, `timing_s/step`, and TRL's `step_time` of the same value.
    pub fn record(&self, metrics: &mut StepMetrics) {
        for phase in Phase::ALL {
            if let Some(seconds) = self.seconds[phase as usize] {
                metrics.insert(phase.metric(), seconds);
            }
        }
        let step = self.started.elapsed().as_secs_f64();
        metrics.insert("timing_s/step", step);
        metrics.insert("step_time", step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laps_add_up_and_phases_that_did_not_run_are_absent() {
        let mut timer = PhaseTimer::start();
        for phase in [Phase::Gen, Phase::UpdateActor, Phase::Gen] {
            std::thread::sleep(std::time::Duration::from_millis(5));
            timer.lap(phase);
        }
        let mut metrics = StepMetrics::new();
        timer.record(&mut metrics);
        let names: Vec<&str> = metrics.iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            [
                "timing_s/gen",
                "timing_s/update_actor",
                "timing_s/step",
                "step_time"
            ]
        );
        let value = |name| metrics.get(name).unwrap();
        assert!(
            value("timing_s/gen") >= 0.010,
            "two laps of 5 ms: {metrics:?}"
        );
        assert!(value("timing_s/step") >= value("timing_s/gen") + value("timing_s/update_actor"));
    }
}
