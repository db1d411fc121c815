//! Which machine part computes: finds adapters, chooses one, and opens it for Burn.
//!
//! Knows nothing of models or kernels beyond the question whether the device takes WGSL source.

use std::str::FromStr;
use std::sync::Mutex;

use burn::tensor::wgpu::{WgpuBackend, wgpu};
use burn::tensor::{Device, DeviceKind};

pub use crate::options::DeviceChoice;

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        Self::from_name(text).ok_or_else(|| DeviceError::Unknown(text.to_owned()))
    }
}

/// Why no device can be opened.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// A word that is no device.
    #[error(
        "device `{0}` is unknown; expected auto, gpu, vulkan, metal, dx12 or cpu\nhint: `vision-ekipl doctor` lists what this machine has"
    )]
    Unknown(String),
    /// Nothing answers on that API.
    #[error(
        "no adapter was found for `--device {choice}`\nhint: install a driver (software Vulkan on Debian: apt-get install libvulkan1 mesa-vulkan-drivers), or run with --device cpu"
    )]
    NoAdapter {
        /// What was asked for.
        choice: &'static str,
    },
    /// The adapter cannot be initialised.
    #[error(
        "{adapter}: cannot be opened: {problem}\nhint: update the graphics driver, or run with --device cpu"
    )]
    Open {
        /// Its name.
        adapter: String,
        /// What the runtime said.
        problem: String,
    },
    /// The device compiles another language.
    #[error(transparent)]
    Language(#[from] crate::kernels::DeviceError),
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

/// The adapter's own description of itself.
#[must_use]
pub fn adapters() -> Vec<wgpu::Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY))
}

/// Whether an adapter computes on the CPU.
#[must_use]
pub fn is_software(info: &wgpu::AdapterInfo) -> bool {
    info.device_type == wgpu::DeviceType::Cpu
}

/// Opens what was asked for. `auto` takes a hardware GPU if there is one, else the CPU backend, which is many times
/// faster than software Vulkan (its matrix product: 76 against 2 GFLOP/s on two cores).
///
/// # Errors
/// If there is no such adapter, it cannot be opened, or it does not run WGSL source.
pub fn open(choice: DeviceChoice) -> Result<OpenDevice, DeviceError> {
    if choice == DeviceChoice::Cpu {
        return Ok(cpu(None));
    }
    let api = match choice {
        DeviceChoice::Vulkan => Some(wgpu::Backend::Vulkan),
        DeviceChoice::Metal => Some(wgpu::Backend::Metal),
        DeviceChoice::Dx12 => Some(wgpu::Backend::Dx12),
        _ => None,
    };
    let infos = adapters().into_iter().map(|adapter| adapter.get_info());
    let best = infos
        .filter(|info| api.is_none_or(|api| info.backend == api))
        .min_by_key(|info| rank(info.device_type));
    match best {
        Some(info) if choice != DeviceChoice::Auto || !is_software(&info) => {
            let reason = (choice == DeviceChoice::Auto).then_some("a hardware GPU was found");
            open_adapter(&info, reason)
        }
        Some(_) => Ok(cpu(Some(
            "only software Vulkan was found, and the CPU backend is faster",
        ))),
        None if choice == DeviceChoice::Auto => Ok(cpu(Some("no GPU adapter was found"))),
        None => Err(DeviceError::NoAdapter {
            choice: choice.name(),
        }),
    }
}

/// The best adapter that is not the CPU backend, software Vulkan included; for tests and benches.
#[must_use]
pub fn first_gpu() -> Option<Device> {
    open(DeviceChoice::Gpu).ok().map(|open| open.device)
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

/// Smaller is better.
const fn rank(kind: wgpu::DeviceType) -> u8 {
    match kind {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}

/// Adapters opened by this process: Burn's runtime can be set up once per adapter only.
static OPENED: Mutex<Vec<(String, OpenDevice)>> = Mutex::new(Vec::new());

fn open_adapter(
    info: &wgpu::AdapterInfo,
    reason: Option<&'static str>,
) -> Result<OpenDevice, DeviceError> {
    let description = format!(
        "{}, {:?}, {} {}",
        info.name, info.backend, info.driver, info.driver_info
    );
    let mut opened = OPENED
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((_, open)) = opened.iter().find(|(key, _)| *key == description) {
        return Ok(OpenDevice {
            reason,
            ..open.clone()
        });
    }
    let api = match info.backend {
        wgpu::Backend::Vulkan => WgpuBackend::Vulkan,
        wgpu::Backend::Metal => WgpuBackend::Metal,
        wgpu::Backend::Dx12 => WgpuBackend::Dx12,
        _ => WgpuBackend::Auto,
    };
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => DeviceKind::DiscreteGpu(0),
        wgpu::DeviceType::IntegratedGpu => DeviceKind::IntegratedGpu(0),
        wgpu::DeviceType::VirtualGpu => DeviceKind::VirtualGpu(0),
        wgpu::DeviceType::Cpu => DeviceKind::Cpu,
        wgpu::DeviceType::Other => DeviceKind::DefaultDevice,
    };
    let options = Device::wgpu_options().device_kind(kind).graphics_api(api);
    let (device, setup) = options
        .init_with_setup()
        .map_err(|error| DeviceError::Open {
            adapter: description.clone(),
            problem: error.to_string(),
        })?;
    crate::kernels::check_device(&device)?;
    let limits = setup.device.limits();
    let max_buffer_bytes = limits
        .max_storage_buffer_binding_size
        .min(limits.max_buffer_size);
    let open = OpenDevice {
        device,
        description: description.clone(),
        max_buffer_bytes,
        is_software: is_software(info),
        compiler: "wgpu<wgsl> (WGSL source through naga)",
        reason,
    };
    opened.push((description, open.clone()));
    Ok(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_devices_are_named() {
        let error = "cuda"
            .parse::<DeviceChoice>()
            .expect_err("cuda is none of ours");
        assert!(
            error
                .to_string()
                .contains("device `cuda` is unknown; expected auto, gpu"),
            "{error}"
        );
    }

    #[test]
    fn the_cpu_is_always_there() {
        let open = open(DeviceChoice::Cpu).expect("no adapter is needed");
        assert!(open.description.contains("flex"), "{}", open.description);
    }

    #[test]
    fn an_api_of_another_system_has_no_adapter() {
        let foreign = if cfg!(target_os = "macos") {
            DeviceChoice::Dx12
        } else {
            DeviceChoice::Metal
        };
        let error = open(foreign).expect_err("no such API here");
        assert!(
            error
                .to_string()
                .contains("no adapter was found for `--device"),
            "{error}"
        );
    }
}
