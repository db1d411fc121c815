//! What several integration tests need: golden files, devices, and prompts made of golden tensors.
#![allow(dead_code, reason = "each test binary uses a part")]

pub mod program;
pub mod run;
pub mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use safetensors::SafeTensors;
use vision_ekipl::record::{ImagePatches, Prompt};

/// `tests/golden/public/<name>`.
pub fn golden_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/public")
        .join(name)
}

/// A golden safetensors file, read whole.
pub struct Golden {
    tensors: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
}

impl Golden {
    pub fn open(name: &str) -> Self {
        let bytes = std::fs::read(golden_path(name)).expect("a golden file");
        let file = SafeTensors::deserialize(&bytes).expect("safetensors");
        let tensors = file.tensors().into_iter().map(|(name, view)| {
            let data = view.data();
            let values = match view.dtype() {
                safetensors::Dtype::F32 => data
                    .chunks_exact(4)
                    .map(|word| f64::from(f32::from_le_bytes(word.try_into().expect("4 bytes"))))
                    .collect(),
                safetensors::Dtype::I64 => data
                    .chunks_exact(8)
                    .map(|word| i64::from_le_bytes(word.try_into().expect("8 bytes")) as f64)
                    .collect(),
                _ => data.iter().map(|byte| f64::from(*byte)).collect(),
            };
            (name, (view.shape().to_vec(), values))
        });
        Self {
            tensors: tensors.collect(),
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub fn shape(&self, name: &str) -> &[usize] {
        &self
            .tensors
            .get(name)
            .unwrap_or_else(|| panic!("no golden tensor {name}"))
            .0
    }

    pub fn f64(&self, name: &str) -> &[f64] {
        &self
            .tensors
            .get(name)
            .unwrap_or_else(|| panic!("no golden tensor {name}"))
            .1
    }

    pub fn f32(&self, name: &str) -> Vec<f32> {
        self.f64(name).iter().map(|value| *value as f32).collect()
    }

    pub fn ids(&self, name: &str) -> Vec<u32> {
        self.f64(name).iter().map(|value| *value as u32).collect()
    }

    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.tensors.keys()
    }

    /// The prompt `p0`..`p4`; pictures come from `pixels`, because one golden file leaves them out.
    pub fn prompt(&self, id: &str, pixels: &Golden) -> Arc<Prompt> {
        let input_ids = self.ids(&format!("{id}.input_ids"));
        let tokens = input_ids.len();
        let axes = self.ids(&format!("{id}.position_ids"));
        let positions = (0..tokens)
            .map(|token| [axes[token], axes[tokens + token], axes[2 * tokens + token]])
            .collect();
        let mut images = Vec::new();
        if self.has(&format!("{id}.image_grid_thw")) {
            let grids = self.ids(&format!("{id}.image_grid_thw"));
            let values = pixels.f32(&format!("{id}.pixel_values"));
            let mut rest = values.as_slice();
            for grid in grids.chunks_exact(3) {
                let grid = [grid[0] as usize, grid[1] as usize, grid[2] as usize];
                let (picture, tail) = rest.split_at(grid.iter().product::<usize>() * 1176);
                rest = tail;
                images.push(Arc::new(ImagePatches {
                    grid,
                    pixel_values: picture.to_vec(),
                }));
            }
        }
        let rope_delta = self.f64(&format!("{id}.rope_delta"))[0] as i64;
        Arc::new(Prompt {
            id: id.to_owned(),
            rendered: String::new(),
            input_ids,
            positions,
            rope_delta,
            images,
        })
    }
}

/// Largest absolute difference.
pub fn worst(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len(), "as many values");
    found
        .iter()
        .zip(expected)
        .map(|(found, expected)| (f64::from(*found) - expected).abs())
        .fold(0.0, f64::max)
}

/// Panics with a name and both numbers if the largest difference is above the tolerance or not a number.
pub fn assert_close(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    let worst = worst(found, expected);
    println!("{what}: largest difference {worst:.2e} (at most {tolerance:.0e})");
    assert!(
        worst <= tolerance,
        "{what}: largest difference {worst:e}, at most {tolerance:e} is right"
    );
}

/// The CPU device, and the GPU (software or not) if there is an adapter; says so if there is none.
pub fn devices() -> Vec<(&'static str, Device)> {
    let mut devices = vec![("cpu", Device::flex())];
    match vision_ekipl::device::first_gpu() {
        Some(device) => devices.push(("gpu", device)),
        None => println!("SKIPPED on the GPU: no Vulkan, Metal or DX12 adapter was found"),
    }
    devices
}
