//! Vision-EKIPL: reinforcement learning of vision-language models with external actions, on any GPU.
//!
//! ```text
//!  rows ──► dataset ──► prompt ──────────────┬──────────────► teacher ─────────┐ external actions [Q][M]
//!  files    Example     Prompt               │  recorded, local, endpoint      │
//!                       ids, patches         ▼                                 ▼
//!                                         rollout ──► reward ──► selection ◄─ reward
//!                                         own actions [Q][N]        │ best G of the pool
//!                                            ▲                      ▼
//!                                         model ◄── optimizer ◄── learner ◄── batch ◄── advantage
//!                                         weights    AdamW         loss, backward       per-token streams
//! ```
//!
//! # Shape letters
//! `B` batch row · `T` token · `D` hidden · `H` query head · `K` key/value head · `E` head size · `V` vocabulary ·
//! `P` image patch or prompt token · `Q` prompt of the step · `N` policy action of a prompt · `M` external model ·
//! `G` action kept per prompt · `R` row of a loss or of an advantage.
//!
//! # Invariants (`tests/tidy` enforces them)
//! - Host stages (`dataset` to `batch`) never name `burn`, `cubecl` or `wgpu`, and never import one another: they share
//!   [`record`] and reach models through [`generator::Generate`] only.
//! - Only `kernels` includes WGSL; every kernel has a CPU twin and appears in the parity tests.
//! - Randomness enters as an explicit seed; no stage reads a clock.
//! - Only `commands` and `metrics` print; everything else logs.

// The run: what it is told, how its stages are built, the loop.
pub mod cli;
pub mod commands;
pub mod config;
pub mod setup;
pub mod sft;
pub mod train;
pub mod trainer;

// What travels, and how host code reaches a model that writes.
pub mod generator;
pub mod record;

// Rows -> prompts -> actions.
pub mod dataset;
pub mod prompt;
pub mod rollout;
pub mod rollout_file;
pub mod teacher;

// Actions -> rewards -> groups -> token batches.
pub mod advantage;
pub mod batch;
pub mod external_ratio;
pub mod reward;
pub mod selection;

// Token batches -> weights, on the device.
pub mod device;
pub mod kernels;
pub mod learner;
pub mod likelihood;
pub mod model;
pub mod optimizer;

// What a run writes and how it is judged.
pub mod checkpoint;
pub mod evaluation;
pub mod metrics;
pub mod run_folder;
pub mod step_report;

// Data and a model from nothing, and what is shown with them.
pub mod demo;
pub mod start;
pub mod synthetic;

// Many runs: planned and made, then compared.
pub mod experiment;
pub mod study;
