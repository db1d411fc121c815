//! How time and memory of forward and backward grow with the number of tokens of one row, on the CPU device: attention
//! alone, and one block of the language model. Ends with an error where memory grows faster than tokens.
//! `cargo bench --bench growth -- [TOKENS...]`

mod allocations;
mod block;

use std::time::Instant;

use burn::tensor::Device;

use allocations::Counting;

#[global_allocator]
static ALLOCATIONS: Counting = Counting::new();

/// Largest exponent of the peak that still is linear growth.
const LINEAR: f64 = 1.1;

/// One line of the table.
struct Measured {
    tokens: usize,
    seconds: f64,
    bytes: usize,
}

fn main() {
    let arguments = std::env::args().skip(1);
    let mut sizes: Vec<usize> = arguments.filter_map(|word| word.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![256, 1024, 4096, 8192];
    }
    let device = Device::flex().autodiff();
    let works: [(&str, fn(usize, &Device)); 2] = [
        ("attention", block::attention_alone),
        ("block", block::one_block),
    ];
    println!("{}", block::SIZES);
    println!("\n| what | tokens | seconds | peak MB |\n|---|---|---|---|");
    let mut exponents = Vec::new();
    for (name, work) in works {
        work(64, &device);
        let measured: Vec<Measured> = sizes
            .iter()
            .map(|tokens| measure(*tokens, || work(*tokens, &device)))
            .collect();
        for one in &measured {
            let megabytes = one.bytes as f64 / 1e6;
            println!(
                "| {name} | {} | {:.3} | {megabytes:.1} |",
                one.tokens, one.seconds
            );
        }
        let of = |value: fn(&Measured) -> f64| exponent(&measured, value);
        let time = of(|one| one.seconds);
        let memory = of(|one| one.bytes as f64);
        exponents.push((name, time, memory));
    }
    println!("\n| what | exponent of time | exponent of the peak |\n|---|---|---|");
    for (name, time, memory) in &exponents {
        println!("| {name} | {time:.2} | {memory:.2} |");
    }
    if let Some((name, _, memory)) = exponents.iter().find(|one| one.2 > LINEAR) {
        eprintln!(
            "error: the memory of {name} grows by the power {memory:.2} of the tokens, expected at most {LINEAR}"
        );
        std::process::exit(1);
    }
}

/// The quickest of three runs, and the most bytes that were alive beside those that were before.
fn measure(tokens: usize, work: impl Fn()) -> Measured {
    let before = ALLOCATIONS.restart();
    let mut seconds = f64::INFINITY;
    for _ in 0..3 {
        let start = Instant::now();
        work();
        seconds = seconds.min(start.elapsed().as_secs_f64());
    }
    Measured {
        tokens,
        seconds,
        bytes: ALLOCATIONS.peak() - before,
    }
}

/// The power of the tokens by which a value grows: the slope of a straight line through the logarithms.
fn exponent(measured: &[Measured], value: impl Fn(&Measured) -> f64) -> f64 {
    let points: Vec<(f64, f64)> = measured
        .iter()
        .map(|one| ((one.tokens as f64).ln(), value(one).ln()))
        .collect();
    let count = points.len() as f64;
    let mean_x = points.iter().map(|point| point.0).sum::<f64>() / count;
    let mean_y = points.iter().map(|point| point.1).sum::<f64>() / count;
    let together: f64 = points
        .iter()
        .map(|(x, y)| (x - mean_x) * (y - mean_y))
        .sum();
    let alone: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    together / alone
}
