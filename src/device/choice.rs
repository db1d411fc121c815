//! Which adapter a `--device` means; looks at descriptions only and opens nothing.

use burn::tensor::wgpu::wgpu::{AdapterInfo, Backend, DeviceType};

use super::error::DeviceError;
use crate::options::{DeviceApi, DeviceChoice};

/// Whether an adapter computes on the CPU.
#[must_use]
pub fn is_software(info: &wgpu::AdapterInfo) -> bool {
    info.device_type == wgpu::DeviceType::Cpu
}

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Picked {
    /// The adapter at this place of the list, and why where there was a choice.
    Adapter(usize, Option<&'static str>),
    /// The CPU backend, and why.
    Cpu(&'static str),
}

/// The adapter that a choice names: by its number among those that it may mean, by a part of its name, or the best.
///
/// # Errors
/// If there is none, only software where hardware was asked for, or several of that name.
pub(super) fn pick(choice: &DeviceChoice, infos: &[AdapterInfo]) -> Result<Picked, DeviceError> {
    let api = match choice.api {
        DeviceApi::Vulkan => Some(Backend::Vulkan),
        DeviceApi::Metal => Some(Backend::Metal),
        DeviceApi::Dx12 => Some(Backend::Dx12),
        DeviceApi::Auto | DeviceApi::Gpu | DeviceApi::Cpu => None,
    };
    let hardware_only = api.is_none();
    let of_api = |index: &usize| api.is_none_or(|api| infos[*index].backend == api);
    let all: Vec<usize> = (0..infos.len()).filter(of_api).collect();
    let usable = |index: &usize| !(hardware_only && is_software(&infos[*index]));
    let candidates: Vec<usize> = all.iter().copied().filter(usable).collect();
    let best = candidates
        .iter()
        .min_by_key(|index| rank(infos[**index].device_type));
    let Some(&best) = best else {
        return match (choice.api, all.first()) {
            (DeviceApi::Auto, Some(_)) => Ok(Picked::Cpu(
                "only software Vulkan was found, and the CPU backend is faster",
            )),
            (DeviceApi::Auto, None) => Ok(Picked::Cpu("no GPU adapter was found")),
            (_, Some(software)) => Err(DeviceError::SoftwareOnly {
                choice: choice.clone(),
                found: infos[*software].name.clone(),
            }),
            (_, None) => Err(DeviceError::NoAdapter {
                choice: choice.clone(),
            }),
        };
    };
    match &choice.adapter {
        Some(wanted) => named(choice, wanted, &candidates, infos),
        None => {
            let reason = (choice.api == DeviceApi::Auto).then_some("a hardware GPU was found");
            Ok(Picked::Adapter(best, reason))
        }
    }
}

fn named(
    choice: &DeviceChoice,
    wanted: &str,
    candidates: &[usize],
    infos: &[AdapterInfo],
) -> Result<Picked, DeviceError> {
    let lower = wanted.to_lowercase();
    let holds = |index: &&usize| infos[**index].name.to_lowercase().contains(&lower);
    let matches: Vec<&usize> = match wanted.parse::<usize>() {
        Ok(number) => candidates.get(number).into_iter().collect(),
        Err(_) => candidates.iter().filter(holds).collect(),
    };
    if let [&index] = matches[..] {
        return Ok(Picked::Adapter(index, None));
    }
    let listed: Vec<String> = candidates
        .iter()
        .enumerate()
        .map(|(number, index)| format!("{number}: {}", infos[*index].name))
        .collect();
    Err(DeviceError::Ambiguous {
        choice: choice.clone(),
        matches: matches.len(),
        listed: listed.join(", "),
    })
}

/// Smaller is better.
const fn rank(kind: DeviceType) -> u8 {
    match kind {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, backend: Backend, kind: DeviceType) -> AdapterInfo {
        let mut info = AdapterInfo::new(kind, backend);
        info.name = name.to_owned();
        info
    }

    fn laptop() -> Vec<AdapterInfo> {
        vec![
            adapter(
                "Intel Arc Graphics",
                Backend::Vulkan,
                DeviceType::IntegratedGpu,
            ),
            adapter(
                "AMD Radeon RX 7900",
                Backend::Vulkan,
                DeviceType::DiscreteGpu,
            ),
            adapter("AMD Radeon RX 7900", Backend::Dx12, DeviceType::DiscreteGpu),
            adapter("llvmpipe (LLVM 15.0.6)", Backend::Vulkan, DeviceType::Cpu),
        ]
    }

    fn picked(choice: &str, infos: &[AdapterInfo]) -> String {
        match pick(&choice.parse().expect("a device"), infos) {
            Ok(Picked::Adapter(index, _)) => index.to_string(),
            Ok(Picked::Cpu(reason)) => reason.to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn each_choice_takes_the_adapter_that_it_names() {
        for (choice, index) in [
            ("auto", "1"),
            ("gpu", "1"),
            ("vulkan", "1"),
            ("dx12", "2"),
            ("vulkan:0", "0"),
            ("vulkan:1", "1"),
            ("vulkan:2", "3"),
            ("vulkan:arc", "0"),
            ("vulkan:RADEON", "1"),
            ("vulkan:rx 7900", "1"),
            ("vulkan:llvmpipe", "3"),
            ("gpu:2", "2"),
            ("gpu:intel", "0"),
            ("auto:intel", "0"),
        ] {
            assert_eq!(picked(choice, &laptop()), index, "{choice}");
        }
    }

    #[test]
    fn hardware_means_hardware() {
        let software = &laptop()[3..];
        let text = picked("gpu", software);
        assert!(
            text.starts_with(
                "no hardware GPU was found for `--device gpu`: llvmpipe (LLVM 15.0.6) computes on the CPU\nhint: "
            ),
            "{text}"
        );
        assert!(picked("gpu:llvmpipe", software).starts_with("no hardware GPU"));
        assert_eq!(picked("vulkan", software), "0");
        assert!(picked("auto", software).contains("the CPU backend is faster"));
        assert_eq!(picked("auto", &[]), "no GPU adapter was found");
        assert!(picked("gpu", &[]).starts_with("no adapter was found for `--device gpu`"));
        assert!(
            picked("metal", &laptop()).starts_with("no adapter was found for `--device metal`")
        );
    }

    #[test]
    fn a_name_of_none_or_of_several_lists_them_all() {
        let text = picked("gpu:radeon", &laptop());
        assert!(
            text.starts_with(
                "`--device gpu:radeon` names 2 of the adapters 0: Intel Arc Graphics, 1: AMD Radeon RX 7900, 2: AMD Radeon RX 7900\nhint: "
            ),
            "{text}"
        );
        assert!(picked("vulkan:nvidia", &laptop()).contains("names 0 of the adapters"));
        let text = picked("vulkan:7900", &laptop());
        assert!(
            text.contains("names 0 of the adapters"),
            "digits are a number: {text}"
        );
    }
}
