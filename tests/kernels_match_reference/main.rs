//! Every kernel against a plain reference in double precision, on the CPU device and on the GPU if there is one,
//! with awkward sizes and with device memory full of NaN beforehand.

mod devices;
mod token_logprob;
