//! `doctor`: what this machine has, what `auto` takes and why, and whether every kernel computes the right thing here.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::DoctorArguments;
use crate::device::{self, DeviceChoice};

/// `vision-ekipl doctor`.
pub(super) fn run(arguments: &DoctorArguments) -> Result<()> {
    let adapters: Vec<Value> = device::adapters().iter().map(describe).collect();
    let choice: DeviceChoice = arguments.device.device.parse()?;
    let open = device::open(choice)?;
    let report = json!({
        "adapters": adapters,
        "device": open.description,
        "reason": open.reason,
        "max_buffer_bytes": open.max_buffer_bytes,
    });
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}

fn describe(adapter: &burn::tensor::wgpu::wgpu::Adapter) -> Value {
    let info = adapter.get_info();
    json!({"name": info.name, "api": format!("{:?}", info.backend)})
}
