//! The gradient of every differentiable kernel against finite differences in double precision, and against Burn's
//! autodiff of the same computation from stock operations where the sizes are larger.

#[path = "../kernels_match_reference/devices.rs"]
mod devices;
mod token_logprob;
