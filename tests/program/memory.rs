//! What a run says of the memory that it takes.

use vision_ekipl::system::memory::machine_bytes;

use crate::support::program::{program, text};
use crate::support::run::{Workspace, metric};

const GIB: f64 = (1_u64 << 30) as f64;

/// On the CPU device the peak is that of the process: more than the weights with gradients and moments, less than the
/// machine has, and never falling.
#[test]
fn every_step_logs_the_largest_memory_so_far() {
    let work = Workspace::new();
    let run = work.train("run", &[("device", "cpu")]);
    let peaks = metric(&run, "perf/max_memory_allocated_gb");
    assert!(peaks.len() > 1 && peaks.is_sorted(), "{peaks:?}");
    let machine = machine_bytes().map_or(f64::INFINITY, |bytes| bytes as f64 / GIB);
    let parameters = 1e5 * 4.0 * 4.0 / GIB;
    assert!(peaks[0] > parameters && peaks[0] < machine, "{peaks:?}");
    assert_eq!(
        peaks,
        metric(&run, "perf/cpu_memory_used_gb"),
        "one process"
    );
    assert!(
        metric(&run, "perf/max_memory_reserved_gb").is_empty(),
        "the CPU has no pool"
    );

    let tuned = work.config("tuned", &[("device", "cpu"), ("max_steps", "1")]);
    program(&["sft", text(&tuned)]).done();
    let tuned = metric(&work.path("tuned"), "perf/max_memory_allocated_gb");
    assert!(tuned[0] > parameters, "{tuned:?}");
}

/// A pool holds at least what its tensors take.
#[test]
fn a_gpu_logs_its_pool() {
    if vision_ekipl::device::first_gpu().is_none() {
        println!("SKIPPED: no adapter was found");
        return;
    }
    let work = Workspace::new();
    let keys = [
        ("device", "vulkan"),
        ("max_steps", "1"),
        ("max_completion_length", "4"),
    ];
    let run = work.train("run", &keys);
    let of = |name: &str| metric(&run, name)[0];
    let allocated = of("perf/max_memory_allocated_gb");
    assert!(allocated > 1e5 * 4.0 * 4.0 / GIB, "{allocated}");
    assert!(of("perf/max_memory_reserved_gb") >= allocated);
    assert!(of("perf/cpu_memory_used_gb") > 0.0);
}
