//! The gradient of every differentiable kernel against finite differences in double precision, and against Burn's
//! autodiff of the same computation from stock operations where the sizes are larger.

mod entropy;
mod token_logprob;
