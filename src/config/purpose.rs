//! What a configuration is read for.

/// The command that a configuration is read for; some checks hold for training by GRPO only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// `train`.
    Train,
    /// `sft`.
    Sft,
    /// `eval`.
    Eval,
}
