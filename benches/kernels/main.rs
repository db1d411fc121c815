//! Checks, then times every kernel against the same computation from Burn's own operations, on the same device in
//! the same run. `cargo bench --bench kernels -- [--quick] [NAME]`: one repetition instead of five; only matching cases.

mod case;
mod frozen_matrix;
mod group_advantage;
mod policy_loss;
mod sample_token;
mod token_logprob;

use burn::tensor::Device;

use case::{Bench, copy_rate};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let repetitions = if arguments.iter().any(|argument| argument == "--quick") {
        1
    } else {
        5
    };
    let filter = arguments
        .iter()
        .find(|argument| !argument.starts_with("--"))
        .cloned()
        .unwrap_or_default();
    let gpu = Device::wgpu_options().init();
    if let Err(error) = &gpu {
        println!("no GPU adapter ({error}): the CPU device alone");
    }
    for device in [Some(Device::flex()), gpu.ok()].into_iter().flatten() {
        let name = device
            .identity()
            .map_or_else(|| "CPU, Burn's flex backend".to_owned(), |found| found.name);
        let rate = copy_rate(&device, repetitions);
        println!("\n{name}: copies {:.1} GB/s", rate / 1e9);
        println!(
            "{:<52} {:>10} {:>10} {:>7} {:>7} {:>8} {:>12}",
            "case", "stock ms", "ours ms", "ratio", "GB/s", "of copy", "worst error"
        );
        let bench = Bench {
            device,
            repetitions,
            copy_rate: rate,
            filter: filter.clone(),
        };
        token_logprob::run(&bench);
        sample_token::run(&bench);
        group_advantage::run(&bench);
        policy_loss::run(&bench);
        frozen_matrix::run(&bench);
    }
}
