//! Builds the final WGSL text of a kernel: shared functions first, then the shader with its tunables replaced.
//! It knows text only: no device, no tensor, no launch.

/// A WGSL kernel before assembly: its file, the shared files put in front of it and its tunables.
///
/// The name, the shared parts and the tunables identify the assembled text, so they are the kernel id of the launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shader {
    /// Stem of the file in `shaders/`.
    pub name: &'static str,
    /// Text of `shaders/<name>.wgsl`: valid WGSL on its own once the shared parts stand before it.
    pub source: &'static str,
    /// Texts of `shaders/shared/*.wgsl` that the kernel calls, in order.
    pub shared: &'static [&'static str],
    /// `(constant, value)`: the line `const constant: type = ...;` gets this value (`"128u"`, `"0.5"`).
    pub tunables: Vec<(&'static str, String)>,
    /// Invocations per workgroup, equal to the shader's `@workgroup_size`.
    pub workgroup: u32,
}

/// Why a kernel's text cannot be built.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AssembleError {
    /// The shader has no line that declares the tunable.
    #[error(
        "shaders/{shader}.wgsl: expected one line `const {constant}: <type> = <value>;`, found {found}\nhint: \
         declare the tunable once, at the start of a line"
    )]
    Tunable {
        /// Stem of the shader file.
        shader: &'static str,
        /// Name of the constant that was to be replaced.
        constant: &'static str,
        /// How many such lines there are.
        found: usize,
    },
}

/// The complete WGSL text of a kernel.
///
/// # Errors
/// [`AssembleError::Tunable`] if a tunable is not declared on exactly one line.
pub fn assemble(shader: &Shader) -> Result<String, AssembleError> {
    let mut text = shader.shared.concat();
    text.push_str(shader.source);
    for (constant, value) in &shader.tunables {
        text =
            replace_constant(&text, constant, value).map_err(|found| AssembleError::Tunable {
                shader: shader.name,
                constant,
                found,
            })?;
    }
    Ok(text)
}

/// Replaces the value of the one line `const name: type = value;`, or says how many such lines there are.
fn replace_constant(text: &str, constant: &str, value: &str) -> Result<String, usize> {
    let start = format!("const {constant}:");
    let found = text.lines().filter(|line| line.starts_with(&start)).count();
    if found != 1 {
        return Err(found);
    }
    let replaced = text.lines().map(|line| match line.split_once('=') {
        Some((declaration, _)) if line.starts_with(&start) => format!("{declaration}= {value};\n"),
        _ => format!("{line}\n"),
    });
    Ok(replaced.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shader(tunables: Vec<(&'static str, String)>) -> Shader {
        Shader {
            name: "example",
            source: "const WORKGROUP: u32 = 256u; // invocations\nfn f() -> u32 { return WORKGROUP; }\n",
            shared: &["const LOWEST: f32 = -3.4e38;\n"],
            tunables,
            workgroup: 64,
        }
    }

    #[test]
    fn shared_parts_come_first_and_tunables_are_replaced() {
        let text =
            assemble(&shader(vec![("WORKGROUP", "64u".to_owned())])).expect("the line exists");
        assert_eq!(
            text,
            "const LOWEST: f32 = -3.4e38;\nconst WORKGROUP: u32 = 64u;\nfn f() -> u32 { return WORKGROUP; }\n"
        );
    }

    #[test]
    fn a_missing_tunable_is_an_error_that_names_it() {
        let error =
            assemble(&shader(vec![("TILE", "4u".to_owned())])).expect_err("there is no such line");
        assert!(
            error
                .to_string()
                .contains("const TILE: <type> = <value>;`, found 0"),
            "{error}"
        );
    }

    #[test]
    fn a_tunable_must_be_declared_once() {
        let mut twice = shader(vec![("WORKGROUP", "64u".to_owned())]);
        twice.shared = &["const WORKGROUP: u32 = 1u;\n"];
        assert!(assemble(&twice).is_err());
    }
}
