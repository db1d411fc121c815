//! The largest memory that a run has taken so far: of the device's pool where it has one, and of this process.
//!
//! No pool remembers its largest use, so a thread looks every few milliseconds. Knows nothing of what fills the memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use burn::tensor::Device;

use super::{OpenDevice, guard};
use crate::system::memory::peak_resident_bytes;

const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Looks at the memory from its start to its end.
#[derive(Debug)]
pub struct MemoryWatch {
    device: Device,
    peaks: Arc<Peaks>,
    /// The thread ends when this end of the channel is dropped.
    _running: Option<Sender<()>>,
}

/// The largest memory so far, in bytes; what cannot be measured is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPeaks {
    /// What tensors held in the device's pool, padding included; absent on the CPU device, which has none.
    pub pool_allocated: Option<u64>,
    /// What the pool held of the device, free parts included.
    pub pool_reserved: Option<u64>,
    /// Resident memory of this process.
    pub resident: Option<u64>,
}

#[derive(Debug, Default)]
struct Peaks {
    allocated: AtomicU64,
    reserved: AtomicU64,
    resident: AtomicU64,
}

impl MemoryWatch {
    /// Begins to look.
    #[must_use]
    pub fn start(open: &OpenDevice) -> Self {
        let device = open.device.clone();
        let peaks = Arc::new(Peaks::default());
        let has_pool = peaks.look(&device);
        // Linux remembers the largest resident memory by itself.
        let needs_thread = has_pool || cfg!(not(target_os = "linux"));
        Self {
            _running: needs_thread.then(|| keep_looking(device.clone(), Arc::clone(&peaks))),
            device,
            peaks,
        }
    }

    /// The largest memory up to now.
    #[must_use]
    pub fn peaks(&self) -> MemoryPeaks {
        let _ = guard("a look at its memory", || self.peaks.look(&self.device));
        let found =
            |value: &AtomicU64| Some(value.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0);
        MemoryPeaks {
            pool_allocated: found(&self.peaks.allocated),
            pool_reserved: found(&self.peaks.reserved),
            resident: found(&self.peaks.resident),
        }
    }
}

fn keep_looking(device: Device, peaks: Arc<Peaks>) -> Sender<()> {
    let (running, stopped) = channel();
    thread::spawn(move || {
        while stopped.recv_timeout(BETWEEN_LOOKS) == Err(RecvTimeoutError::Timeout) {
            // Whoever computes on a device that fails says so.
            if guard("a look at its memory", || peaks.look(&device)).is_err() {
                break;
            }
        }
    });
    running
}

impl Peaks {
    /// Whether there is a pool.
    fn look(&self, device: &Device) -> bool {
        let raise = |peak: &AtomicU64, bytes: u64| peak.fetch_max(bytes, Ordering::Relaxed);
        if let Some(bytes) = peak_resident_bytes() {
            raise(&self.resident, bytes);
        }
        let Some(usage) = device.memory_pool_usage() else {
            return false;
        };
        raise(&self.allocated, usage.bytes_in_use + usage.bytes_padding);
        raise(&self.reserved, usage.bytes_reserved);
        true
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;

    use super::*;
    use crate::device::{DeviceApi, open};

    #[test]
    fn the_cpu_has_no_pool_and_the_process_has_memory() {
        let open = open(&DeviceApi::Cpu.into()).expect("always there");
        let peaks = MemoryWatch::start(&open).peaks();
        assert_eq!((peaks.pool_allocated, peaks.pool_reserved), (None, None));
        assert!(peaks.resident > Some(1 << 20), "{peaks:?}");
    }

    #[test]
    fn a_pool_is_seen_at_its_largest() {
        let Ok(open) = open(&DeviceApi::Vulkan.into()) else {
            println!("SKIPPED: no Vulkan adapter was found");
            return;
        };
        let watch = MemoryWatch::start(&open);
        let bytes = 24 << 20;
        let tensor = Tensor::<1>::ones([bytes / 4], &open.device);
        crate::device::read_back(&tensor.clone().narrow(0, 0, 1)).expect("it computes");
        let held = watch.peaks();
        assert!(held.pool_allocated >= Some(bytes as u64), "{held:?}");
        assert!(held.pool_reserved >= held.pool_allocated, "{held:?}");
        drop(tensor);
        let after = watch.peaks();
        assert!(after.pool_allocated >= held.pool_allocated, "{after:?}");
    }
}
