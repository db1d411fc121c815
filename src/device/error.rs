//! Why no device can be opened, in words with a remedy.
//!
//! Knows nothing of how devices are opened.

use super::failure::DeviceFailure;
use crate::options::DeviceChoice;

/// Name of a CubeCL client whose compiler takes WGSL source.
pub(crate) const WGSL_CLIENT: &str = "wgpu<wgsl>";

/// Why no device can be opened.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum DeviceError {
    /// Nothing answers on that API.
    #[error(
        "no adapter was found for `--device {choice}`\nhint: install a driver (software Vulkan on Debian: apt-get install libvulkan1 mesa-vulkan-drivers), or run with --device cpu"
    )]
    NoAdapter {
        /// What was asked for.
        choice: DeviceChoice,
    },
    /// Only software answers, and hardware was asked for.
    #[error(
        "no hardware GPU was found for `--device {choice}`: {found} computes on the CPU\nhint: install the graphics card's driver, run with --device cpu, or take software Vulkan, which is slower, with --device vulkan"
    )]
    SoftwareOnly {
        /// What was asked for.
        choice: DeviceChoice,
        /// The software adapter.
        found: String,
    },
    /// No adapter, or more than one, goes by that number or name.
    #[error(
        "`--device {choice}` names {matches} of the adapters {listed}\nhint: give one of these numbers, or a part of a name that only one of them has"
    )]
    Ambiguous {
        /// What was asked for.
        choice: DeviceChoice,
        /// How many it names.
        matches: usize,
        /// The adapters with their numbers.
        listed: String,
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
    /// A driver gave up.
    #[error(transparent)]
    Failed(#[from] DeviceFailure),
    /// The device compiles another language than WGSL.
    #[error(
        "expected a device that runs WGSL source ({WGSL_CLIENT}), found `{0}`\nhint: rebuild without the `vulkan`, `metal` and `cuda` features of the `burn` crate, or run with --device cpu"
    )]
    Language(String),
}
