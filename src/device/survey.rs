//! What a device is and how much memory it has, without opening it.

use burn::tensor::wgpu::wgpu;

use super::choice::{Picked, is_software, pick};
use super::{DeviceApi, DeviceChoice, DeviceError, adapters};
use crate::system::memory::machine_bytes;

/// A device that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surveyed {
    /// Its name for a person.
    pub name: String,
    /// Whether tensors lie on an adapter, software or not.
    pub is_gpu: bool,
    /// Bytes that it may fill, where the system tells: the adapter's own, else those it shares with the processor.
    pub memory_bytes: Option<u64>,
    /// Largest buffer a kernel may bind, in bytes.
    pub max_buffer_bytes: u64,
}

/// Looks at the device that [`open`](super::open) would open.
///
/// # Errors
/// If there is no such adapter.
pub fn survey(choice: &DeviceChoice) -> Result<Surveyed, DeviceError> {
    if choice.api == DeviceApi::Cpu {
        return Ok(processor());
    }
    let adapters = adapters()?;
    let infos: Vec<wgpu::AdapterInfo> = adapters.iter().map(wgpu::Adapter::get_info).collect();
    Ok(match pick(choice, &infos)? {
        Picked::Cpu(_) => processor(),
        Picked::Adapter(index, _) => of_adapter(&adapters[index], &infos[index]),
    })
}

fn processor() -> Surveyed {
    Surveyed {
        name: "CPU".to_owned(),
        is_gpu: false,
        memory_bytes: machine_bytes(),
        max_buffer_bytes: u64::MAX,
    }
}

fn of_adapter(adapter: &wgpu::Adapter, info: &wgpu::AdapterInfo) -> Surveyed {
    let limits = adapter.limits();
    let memory_bytes = if is_software(info) {
        machine_bytes()
    } else {
        memory_of(adapter, info)
    };
    Surveyed {
        name: format!("{}, {:?}", info.name, info.backend),
        is_gpu: true,
        memory_bytes,
        max_buffer_bytes: limits
            .max_storage_buffer_binding_size
            .min(limits.max_buffer_size),
    }
}

fn memory_of(adapter: &wgpu::Adapter, info: &wgpu::AdapterInfo) -> Option<u64> {
    match info.backend {
        // Metal's working set on a machine whose memory is one: three quarters of it.
        wgpu::Backend::Metal => machine_bytes().map(|bytes| bytes / 4 * 3),
        _ => largest_vulkan_heap(adapter),
    }
}

/// Bytes of the largest memory that lies on the adapter itself.
#[cfg(not(target_os = "macos"))]
fn largest_vulkan_heap(adapter: &wgpu::Adapter) -> Option<u64> {
    const DEVICE_LOCAL: u32 = 1;
    // SAFETY: the adapter of the graphics library stays alive and unchanged; it is only asked for a property.
    let adapter = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    let device = adapter.raw_physical_device();
    let instance = adapter.shared_instance().raw_instance();
    // SAFETY: both handles are those of a living adapter.
    let memory = unsafe { instance.get_physical_device_memory_properties(device) };
    let heaps = memory
        .memory_heaps
        .iter()
        .take(memory.memory_heap_count as usize);
    let own = heaps.filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0);
    own.map(|heap| heap.size).max()
}

#[cfg(target_os = "macos")]
fn largest_vulkan_heap(_: &wgpu::Adapter) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_has_the_memory_of_the_machine() {
        let found = survey(&DeviceApi::Cpu.into()).expect("always there");
        assert_eq!((found.is_gpu, found.memory_bytes), (false, machine_bytes()));
    }

    #[test]
    fn an_adapter_says_its_memory() {
        let Ok(found) = survey(&DeviceApi::Vulkan.into()) else {
            println!("SKIPPED: no Vulkan adapter was found");
            return;
        };
        assert!(
            found.is_gpu && found.memory_bytes > Some(1 << 27),
            "{found:?}"
        );
        let adapters = adapters().expect("drivers that answer");
        for adapter in &adapters {
            let heap = largest_vulkan_heap(adapter);
            assert!(heap.is_none() || heap > Some(1 << 27), "{heap:?}");
        }
    }
}
