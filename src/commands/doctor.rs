//! `doctor`: what this machine has, what `auto` takes and why, and whether every kernel computes the right thing here.

use anyhow::{Result, bail};
use burn::tensor::wgpu::wgpu::{Adapter, AdapterInfo, Features};
use serde_json::{Value, json};

use super::say::{say, say_line};
use crate::cli::DoctorArguments;
use crate::device::{self, OpenDevice};
use crate::kernels::{SelfTest, self_test};
use crate::run::metrics::table;

/// `vision-ekipl doctor`.
pub(super) fn run(arguments: &DoctorArguments) -> Result<()> {
    let adapters = device::adapters()?;
    let infos: Vec<AdapterInfo> = adapters.iter().map(Adapter::get_info).collect();
    let names = device::selectors(&infos);
    let adapters: Vec<Value> = adapters.iter().zip(names).map(describe).collect();
    let open = device::open(&arguments.device.device)?;
    let tests = self_test(&open.device);
    if arguments.json {
        say_line(&format!("{:#}", report(&adapters, &open, &tests)))?;
    } else {
        say(&text(&adapters, &open, &tests))?;
    }
    match tests.iter().find(|test| !test.passed()) {
        None => Ok(()),
        Some(test) => bail!(
            "the kernel `{}` is off by {:e} on this device, at most {:e} is right\nhint: update the graphics driver, or run with --device cpu; if the CPU is off, report it",
            test.kernel,
            test.worst,
            test.tolerance
        ),
    }
}

/// `selector` is what `--device` takes for this adapter.
fn describe((adapter, selector): (&Adapter, String)) -> Value {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    json!({
        "name": info.name,
        "device": selector,
        "api": format!("{:?}", info.backend),
        "type": format!("{:?}", info.device_type),
        "driver": format!("{} {}", info.driver, info.driver_info),
        "software": device::is_software(&info),
        "max_storage_buffer_bytes": limits.max_storage_buffer_binding_size,
        "max_buffer_bytes": limits.max_buffer_size,
        "max_storage_buffers": limits.max_storage_buffers_per_shader_stage,
        "max_workgroup_invocations": limits.max_compute_invocations_per_workgroup,
        "workgroup_memory_bytes": limits.max_compute_workgroup_storage_size,
        "f16": features.contains(Features::SHADER_F16),
        "subgroups": features.contains(Features::SUBGROUP),
    })
}

fn report(adapters: &[Value], open: &OpenDevice, tests: &[SelfTest]) -> Value {
    let test = |test: &SelfTest| json!({"kernel": test.kernel, "worst": test.worst, "tolerance": test.tolerance, "passed": test.passed()});
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "adapters": adapters,
        "device": {
            "description": open.description,
            "compiler": open.compiler,
            "reason": open.reason,
            "max_buffer_bytes": open.max_buffer_bytes,
        },
        "self_test": tests.iter().map(test).collect::<Vec<_>>(),
    })
}

fn text(adapters: &[Value], open: &OpenDevice, tests: &[SelfTest]) -> String {
    let mut lines = Vec::new();
    if adapters.is_empty() {
        lines.push("adapters: none (no Vulkan, Metal or DX12 driver was found)".to_owned());
    }
    for adapter in adapters {
        let name = adapter["name"].as_str().unwrap_or("unnamed");
        lines.push(format!("adapter: {name}"));
        for (key, value) in adapter
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| *key != "name")
        {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            lines.push(format!("  {key}: {value}"));
        }
    }
    let reason = open
        .reason
        .map_or_else(String::new, |reason| format!(" ({reason})"));
    lines.push(format!(
        "device: {}{reason}\ncompiler: {}\n",
        open.description, open.compiler
    ));
    let row = |test: &SelfTest| {
        let verdict = if test.passed() { "ok" } else { "WRONG" };
        vec![
            test.kernel.to_owned(),
            format!("{:.1e}", test.worst),
            format!("{:.0e}", test.tolerance),
            verdict.to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = tests.iter().map(row).collect();
    lines.push(table(
        &[
            "kernel against double precision",
            "worst",
            "allowed",
            "verdict",
        ],
        &rows,
    ));
    lines.join("\n")
}
