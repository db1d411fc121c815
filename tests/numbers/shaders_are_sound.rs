//! Every variant of every shader is valid portable WGSL; checked with naga, without a GPU.

use std::collections::BTreeSet;

use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, StorageAccess};
use vision_ekipl::kernels::{Shader, assemble, shaders};

/// Storage buffers per shader that every WebGPU adapter offers.
const MAX_BUFFERS: usize = 8;
/// Bytes of workgroup memory that every WebGPU adapter offers.
const MAX_WORKGROUP_BYTES: u32 = 16 * 1024;

struct Variant {
    label: String,
    shader: Shader,
    module: Module,
    info: ModuleInfo,
}

/// Parses and validates every variant with the capabilities of plain WebGPU.
fn variants() -> Vec<Variant> {
    shaders().into_iter().map(variant).collect()
}

fn variant(shader: Shader) -> Variant {
    let label = format!("{} {:?}", shader.name, shader.tunables);
    let text = assemble(&shader).unwrap_or_else(|error| panic!("{label}: {error}"));
    assert!(
        !text.contains("{{"),
        "{label}: the launcher would take `{{{{` for a placeholder"
    );
    let module = naga::front::wgsl::parse_str(&text)
        .unwrap_or_else(|error| panic!("{label}: {}", error.emit_to_string(&text)));
    let info = Validator::new(ValidationFlags::all(), Capabilities::empty())
        .validate(&module)
        .unwrap_or_else(|error| panic!("{label}: {}", error.emit_to_string(&text)));
    Variant {
        label,
        shader,
        module,
        info,
    }
}

#[test]
fn every_variant_parses_and_validates() {
    assert!(!variants().is_empty());
}

#[test]
fn the_only_entry_is_main_with_the_workgroup_size_of_the_launch() {
    for Variant {
        label,
        shader,
        module,
        ..
    } in variants()
    {
        let [entry] = module.entry_points.as_slice() else {
            panic!("{label}: expected one entry point")
        };
        assert_eq!(entry.name, "main", "{label}");
        assert_eq!(entry.workgroup_size, [shader.workgroup, 1, 1], "{label}");
        assert!(
            shader.workgroup <= 256,
            "{label}: portable workgroups have at most 256 invocations"
        );
    }
}

#[test]
fn bindings_are_few_consecutive_used_and_writable_except_the_parameters() {
    for Variant {
        label,
        module,
        info,
        ..
    } in variants()
    {
        let mut accesses = Vec::new();
        for (handle, variable) in module.global_variables.iter() {
            let Some(binding) = &variable.binding else {
                continue;
            };
            let name = variable.name.as_deref().unwrap_or("?");
            assert_eq!(binding.group, 0, "{label}: `{name}`");
            assert!(
                !info.get_entry_point(0)[handle].is_empty(),
                "{label}: `{name}` is never used"
            );
            let AddressSpace::Storage { access } = variable.space else {
                panic!("{label}: `{name}` is not a storage buffer")
            };
            accesses.push((binding.binding, access.contains(StorageAccess::STORE)));
        }
        accesses.sort_unstable();
        let last = accesses.len() - 1;
        let expected: Vec<_> = (0..=last)
            .map(|index| (index as u32, index != last))
            .collect();
        assert_eq!(accesses, expected, "{label}: (binding, writable)");
        assert!(
            accesses.len() <= MAX_BUFFERS,
            "{label}: {} storage buffers",
            accesses.len()
        );
    }
}

#[test]
fn workgroup_memory_is_portable() {
    for Variant { label, module, .. } in variants() {
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).expect("validated");
        let workgroup = module
            .global_variables
            .iter()
            .filter(|(_, v)| v.space == AddressSpace::WorkGroup);
        let bytes: u32 = workgroup
            .map(|(_, variable)| layouter[variable.ty].size)
            .sum();
        assert!(
            bytes <= MAX_WORKGROUP_BYTES,
            "{label}: {bytes} bytes of workgroup memory"
        );
    }
}

#[test]
fn every_shader_file_is_launched_and_every_variant_is_listed_once() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/shaders");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .expect("the shader folder")
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| path.is_file())
        .map(|path| {
            path.file_stem()
                .expect("a stem")
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    let shaders = shaders();
    let names: BTreeSet<String> = shaders
        .iter()
        .map(|shader| shader.name.to_owned())
        .collect();
    assert_eq!(files, names);
    let unique: BTreeSet<_> = shaders
        .iter()
        .map(|shader| (shader.name, shader.shared, &shader.tunables))
        .collect();
    assert_eq!(unique.len(), shaders.len());
}
