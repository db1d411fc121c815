//! Which machine part computes: finds adapters, chooses one, and opens it for Burn.
//!
//! Knows nothing of models, nor of kernels but that they are WGSL source.

mod choice;
mod error;
mod failure;
mod memory;
mod survey;

use std::sync::Mutex;

use burn::backend::wgpu::CubeBackend;
use burn::tensor::wgpu::{WgpuBackend, wgpu};
use burn::tensor::{Device, DeviceKind, Tensor};

pub use crate::options::{DeviceApi, DeviceChoice};
pub use choice::is_software;
use choice::{Picked, pick};
pub use error::DeviceError;
pub(crate) use error::WGSL_CLIENT;
pub use failure::{DeviceFailure, guard, read_back};
pub use memory::{MemoryPeaks, MemoryWatch};
pub use survey::{Surveyed, survey};

/// Checks that our kernels run on `device`: it is the CPU device, or a GPU whose compiler takes WGSL source.
///
/// # Errors
/// [`DeviceError::Language`] with the language found and the remedy.
pub fn check_device(device: &Device) -> Result<(), DeviceError> {
    let probe = Tensor::<1>::zeros([1], &device.clone().inner());
    match probe.try_into_primitive::<CubeBackend>() {
        Ok(tensor) if tensor.client.name() != WGSL_CLIENT => {
            Err(DeviceError::Language(tensor.client.name().to_owned()))
        }
        _ => Ok(()),
    }
}

/// A device that is ready to compute.
#[derive(Debug, Clone)]
pub struct OpenDevice {
    /// Burn's handle.
    pub device: Device,
    /// One line for a person: name, API, driver.
    pub description: String,
    /// Largest buffer a kernel may bind, in bytes.
    pub max_buffer_bytes: u64,
    /// Whether a graphics driver computes on the CPU.
    pub is_software: bool,
    /// Who turns shaders into machine code.
    pub compiler: &'static str,
    /// Why this device was taken, where there was a choice.
    pub reason: Option<&'static str>,
}

/// The adapters of this machine.
///
/// # Errors
/// If a driver gives up, for example because the host is out of memory: the graphics library panics then.
pub fn adapters() -> Result<Vec<wgpu::Adapter>, DeviceFailure> {
    guard("the search for adapters", || {
        let descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        let instance = wgpu::Instance::new(descriptor);
        pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY))
    })
}

/// For each adapter the word that names it alone: its API with its number there, as in `vulkan:1`.
#[must_use]
pub fn selectors(infos: &[wgpu::AdapterInfo]) -> Vec<String> {
    let number = |index: usize| {
        let earlier = infos[..index].iter();
        earlier
            .filter(|info| info.backend == infos[index].backend)
            .count()
    };
    let selector = |index: usize| {
        let api = format!("{:?}", infos[index].backend).to_lowercase();
        format!("{api}:{}", number(index))
    };
    (0..infos.len()).map(selector).collect()
}

/// Keeps a library below the graphics library from printing that `XDG_RUNTIME_DIR` is not set, which means nothing where
/// nothing is drawn: Mesa's device-selection layer looks for a display through it. Without that variable there is no
/// display, so the layer has nothing to select by; it stays on where its own variable asks for it.
///
/// # Safety
/// No other thread may exist yet: the environment is written.
pub unsafe fn hush_display_search() {
    let absolute = std::env::var_os("XDG_RUNTIME_DIR")
        .is_some_and(|folder| std::path::Path::new(&folder).is_absolute());
    if cfg!(target_os = "linux") && !absolute && std::env::var_os("MESA_VK_DEVICE_SELECT").is_none()
    {
        // SAFETY: the caller vouches that this is the only thread.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}

/// Opens what was asked for. `auto` takes a hardware GPU if there is one, else the CPU backend, which is many times
/// faster than software Vulkan (its matrix product: 76 against 2 GFLOP/s on two cores). `gpu` takes hardware only.
///
/// # Errors
/// If there is no such adapter, it cannot be opened, or it does not run WGSL source.
pub fn open(choice: &DeviceChoice) -> Result<OpenDevice, DeviceError> {
    if choice.api == DeviceApi::Cpu {
        return Ok(cpu(None));
    }
    let infos: Vec<wgpu::AdapterInfo> = adapters()?.iter().map(wgpu::Adapter::get_info).collect();
    match pick(choice, &infos)? {
        Picked::Adapter(index, reason) => open_adapter(&infos, index, reason),
        Picked::Cpu(reason) => Ok(cpu(Some(reason))),
    }
}

/// The best adapter that is not the CPU backend, software Vulkan included; for tests and benches.
#[must_use]
pub fn first_gpu() -> Option<Device> {
    let apis = [DeviceApi::Gpu, DeviceApi::Vulkan, DeviceApi::Dx12];
    let mut opened = apis.into_iter().filter_map(|api| open(&api.into()).ok());
    opened.next().map(|open| open.device)
}

fn cpu(reason: Option<&'static str>) -> OpenDevice {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    OpenDevice {
        device: Device::flex(),
        description: format!("CPU, {cores} threads (Burn flex)"),
        max_buffer_bytes: u64::MAX,
        is_software: false,
        compiler: "none: the CPU twins of the kernels are compiled into the program",
        reason,
    }
}

/// Adapters opened by this process: Burn's runtime can be set up once per adapter only.
static OPENED: Mutex<Vec<(String, OpenDevice)>> = Mutex::new(Vec::new());

fn open_adapter(
    infos: &[wgpu::AdapterInfo],
    index: usize,
    reason: Option<&'static str>,
) -> Result<OpenDevice, DeviceError> {
    let key = selectors(infos).swap_remove(index);
    let mut opened = OPENED
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let open = match opened.iter().find(|(opened, _)| *opened == key) {
        Some((_, open)) => open.clone(),
        None => {
            let open = guard("the opening of the device", || set_up(infos, index))??;
            opened.push((key, open.clone()));
            open
        }
    };
    Ok(OpenDevice { reason, ..open })
}

/// Sets Burn's runtime up on one adapter; Burn counts the adapters of each kind on an API by themselves.
fn set_up(infos: &[wgpu::AdapterInfo], index: usize) -> Result<OpenDevice, DeviceError> {
    let info = &infos[index];
    let description = format!(
        "{}, {:?}, {} {}",
        info.name, info.backend, info.driver, info.driver_info
    );
    let failed = |problem: String| DeviceError::Open {
        adapter: description.clone(),
        problem,
    };
    let api = match info.backend {
        wgpu::Backend::Vulkan => WgpuBackend::Vulkan,
        wgpu::Backend::Metal => WgpuBackend::Metal,
        wgpu::Backend::Dx12 => WgpuBackend::Dx12,
        _ => WgpuBackend::Auto,
    };
    let alike = |other: &&wgpu::AdapterInfo| {
        other.backend == info.backend && other.device_type == info.device_type
    };
    let number = infos[..index].iter().filter(alike).count();
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => DeviceKind::DiscreteGpu(number),
        wgpu::DeviceType::IntegratedGpu => DeviceKind::IntegratedGpu(number),
        wgpu::DeviceType::VirtualGpu => DeviceKind::VirtualGpu(number),
        wgpu::DeviceType::Cpu => DeviceKind::Cpu,
        wgpu::DeviceType::Other => DeviceKind::DefaultDevice,
    };
    let options = Device::wgpu_options().device_kind(kind).graphics_api(api);
    let (device, setup) = options
        .init_with_setup()
        .map_err(|error| failed(error.to_string()))?;
    // Kinds without a number have one adapter that Burn can open.
    let found = setup.adapter.get_info();
    if (&found.name, found.device) != (&info.name, info.device) {
        return Err(failed(format!("{} was opened in its place", found.name)));
    }
    check_device(&device)?;
    let limits = setup.device.limits();
    Ok(OpenDevice {
        device,
        description,
        max_buffer_bytes: limits
            .max_storage_buffer_binding_size
            .min(limits.max_buffer_size),
        is_software: is_software(info),
        compiler: "wgpu<wgsl> (WGSL source through naga)",
        reason: None,
    })
}

/// Whether a device is a GPU, software or not.
#[must_use]
pub fn is_gpu(device: &Device) -> bool {
    let probe = Tensor::<1>::zeros([1], &device.clone().inner());
    probe.try_into_primitive::<CubeBackend>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_always_there() {
        let open = open(&DeviceApi::Cpu.into()).expect("no adapter is needed");
        assert!(open.description.contains("flex"), "{}", open.description);
        assert_eq!(check_device(&open.device), Ok(()));
    }

    #[test]
    fn an_api_of_another_system_has_no_adapter() {
        let foreign = if cfg!(target_os = "macos") {
            DeviceApi::Dx12
        } else {
            DeviceApi::Metal
        };
        let error = open(&foreign.into()).expect_err("no such API here");
        assert!(
            error
                .to_string()
                .contains("no adapter was found for `--device"),
            "{error}"
        );
    }

    /// On a machine with software Vulkan alone the second adapter is asked for in vain, and the message lists the first.
    #[test]
    fn a_number_without_an_adapter_lists_those_that_there_are() {
        let infos = adapters().expect("drivers that answer");
        let infos: Vec<_> = infos.iter().map(wgpu::Adapter::get_info).collect();
        if infos.is_empty() {
            println!("SKIPPED: no Vulkan, Metal or DX12 adapter was found");
            return;
        }
        let api = format!("{:?}", infos[0].backend).to_lowercase();
        let choice: DeviceChoice = format!("{api}:99").parse().expect("a device");
        let text = open(&choice)
            .expect_err("nobody has 100 adapters")
            .to_string();
        assert!(
            text.contains(&format!("`--device {api}:99` names 0 of the adapters 0: ")),
            "{text}"
        );
        let first: DeviceChoice = selectors(&infos)[0].parse().expect("a device");
        assert!(
            open(&first)
                .expect("it opens")
                .description
                .starts_with(&infos[0].name)
        );
    }
}
