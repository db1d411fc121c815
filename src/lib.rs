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
//! - Host stages (`data`, `actions` and `learner::batch`) never name `burn`, `cubecl` or `wgpu`, and never import one another: they share
//!   [`record`], [`json_lines`] and [`picture`], and reach models through [`actions::generator::Generate`] only.
//! - Only `kernels` includes WGSL; every kernel has a CPU twin and appears in the parity tests.
//! - Randomness enters as an explicit seed; no stage reads a clock.
//! - Only `commands` and `run::metrics` print; everything else logs.

// What a person types.
pub mod cli;
pub mod commands;
pub mod config;

// What can be chosen, what travels and the files it travels in, how text of others is shown, what is drawn from, and
// the arithmetic that several stages share.
pub mod json_lines;
pub mod options;
pub mod picture;
pub mod printable;
pub mod record;
pub mod seed;
pub mod statistics;

// What only the operating system can do.
pub mod system;

// Files -> prompts -> groups with credit (host).
pub mod actions;
pub mod data;

// Token batches -> weights (device).
pub mod device;
pub mod kernels;
pub mod learner;
pub mod model;

// One run, and many.
pub mod run;
pub mod study;

// Data and a model from nothing, and what is shown with them.
pub mod demo;
pub mod start;
pub mod synthetic;
