//! Names of modules and tensors: the hub's, which this program uses, and PEFT's, which are those of transformers' classes.
//!
//! ```text
//! hub                              transformers from 4.52 on                        transformers before
//! model.layers.0.mlp.up_proj       model.language_model.layers.0.mlp.up_proj        as on the hub
//! visual.blocks.0.attn.qkv         model.visual.blocks.0.attn.qkv                   as on the hub
//! lm_head                          lm_head                                          lm_head
//! ```
//! Knows nothing of which names exist.

/// What stands before every name in an adapter's file.
const FRONT: &str = "base_model.model.";
/// The name that PEFT gives an adapter when nobody names it; files leave it out, but not all that were ever written.
const UNNAMED: &str = "default";
/// The two factors of an adapter.
pub const FACTORS: [&str; 2] = ["lora_A", "lora_B"];
/// What marks a tensor that trains whole, before its last part.
pub const SAVED: &str = "modules_to_save";

/// Whose names a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Naming {
    /// Those of transformers from 4.52 on.
    #[default]
    Current,
    /// Those before, which are the hub's.
    Earlier,
}

impl Naming {
    /// The name that transformers has for a module or tensor of the hub's.
    #[must_use]
    pub fn transformers(self, hub: &str) -> String {
        if self == Self::Earlier {
            return hub.to_owned();
        }
        match hub.strip_prefix("model.") {
            Some(rest) => format!("model.language_model.{rest}"),
            None if hub.starts_with("visual.") || hub == "visual" => format!("model.{hub}"),
            None => hub.to_owned(),
        }
    }

    /// The key of one of this program's adapter tensors in PEFT's file.
    #[must_use]
    pub fn key(self, tensor: &str) -> String {
        let hub = tensor.replacen(&format!(".{SAVED}."), ".", 1);
        format!("{FRONT}{}", self.transformers(&hub))
    }
}

/// The hub's name of a module or tensor in either naming, and which naming shows in it, if one does.
#[must_use]
pub fn hub(name: &str) -> (String, Option<Naming>) {
    let current = [
        ("model.language_model.", "model."),
        ("model.visual.", "visual."),
    ];
    for (from, to) in current {
        if let Some(rest) = name.strip_prefix(from) {
            return (format!("{to}{rest}"), Some(Naming::Current));
        }
    }
    let is_earlier = name.starts_with("visual.") || name.starts_with("model.");
    (name.to_owned(), is_earlier.then_some(Naming::Earlier))
}

/// This program's name of a tensor in PEFT's file, and the naming that shows in it.
///
/// # Errors
/// With what the tensor is, if it is none of LoRA's.
pub fn tensor(key: &str) -> Result<(String, Option<Naming>), &'static str> {
    let inner = key
        .strip_prefix(FRONT)
        .ok_or("begins with another module than `base_model.model`")?;
    let (name, naming) = hub(inner);
    let parts: Vec<&str> = name.split('.').collect();
    let has = |part: &str| parts.contains(&part);
    if parts
        .iter()
        .any(|part| part.starts_with("lora_magnitude_vector"))
    {
        return Err("belongs to DoRA, which is not in this version");
    }
    if has("lora_embedding_A") || has("lora_embedding_B") {
        return Err("adapts an embedding table, which is not in this version");
    }
    if has("base_layer") || has("original_module") {
        return Err("is a weight of the base model");
    }
    let Some((last, modules)) = parts
        .split_last()
        .filter(|(_, modules)| !modules.is_empty())
    else {
        return Err("has no module");
    };
    let factor = modules.iter().position(|part| FACTORS.contains(part));
    let name = match factor {
        Some(place) => {
            let named = &modules[place + 1..];
            if *last != "weight" || named.len() > 1 {
                return Err("is no weight of a low-rank factor");
            }
            format!("{}.weight", modules[..=place].join("."))
        }
        None => {
            let saved = modules.iter().position(|part| *part == SAVED);
            let is_mark = |place: &usize| {
                saved == Some(*place)
                    || (saved == place.checked_sub(1) && modules[*place] == UNNAMED)
            };
            let module: Vec<&str> = (0..modules.len())
                .filter(|place| !is_mark(place))
                .map(|place| modules[place])
                .collect();
            format!("{}.{SAVED}.{last}", module.join("."))
        }
    };
    Ok((name, naming))
}

/// Whether a tensor is a low-rank factor.
#[must_use]
pub fn is_factor(tensor: &str) -> bool {
    let module = tensor.strip_suffix(".weight").unwrap_or(tensor);
    FACTORS.iter().any(|factor| module.ends_with(factor))
}

/// The model's parameter that a tensor of [`SAVED`] takes the place of.
#[must_use]
pub fn replaced(tensor: &str) -> Option<String> {
    let (module, last) = tensor.split_once(&format!(".{SAVED}."))?;
    Some(format!("{module}.{last}"))
}

/// A parameter's tensor that trains whole: `lm_head.weight` as `lm_head.modules_to_save.weight`.
#[must_use]
pub fn saved(parameter: &str) -> String {
    match parameter.rsplit_once('.') {
        Some((module, last)) => format!("{module}.{SAVED}.{last}"),
        None => format!("{SAVED}.{parameter}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_have_two_names_and_come_back() {
        for (name, current) in [
            (
                "model.layers.0.mlp.up_proj",
                "model.language_model.layers.0.mlp.up_proj",
            ),
            ("visual.blocks.3.attn.qkv", "model.visual.blocks.3.attn.qkv"),
            ("visual.merger.mlp.0", "model.visual.merger.mlp.0"),
            ("lm_head", "lm_head"),
            ("model.embed_tokens", "model.language_model.embed_tokens"),
        ] {
            assert_eq!(Naming::Current.transformers(name), current);
            assert_eq!(Naming::Earlier.transformers(name), name);
            assert_eq!(hub(current).0, name);
            assert_eq!(hub(name).0, name);
        }
    }

    #[test]
    fn keys_of_every_generation_name_the_same_tensor() {
        let q_proj = "model.layers.1.self_attn.q_proj.lora_A.weight";
        let head = "lm_head.modules_to_save.weight";
        let merger = "visual.merger.mlp.0.modules_to_save.bias";
        for (key, own, naming) in [
            (
                "base_model.model.model.language_model.layers.1.self_attn.q_proj.lora_A.weight",
                q_proj,
                Some(Naming::Current),
            ),
            (
                "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight",
                q_proj,
                Some(Naming::Earlier),
            ),
            (
                "base_model.model.model.layers.1.self_attn.q_proj.lora_A.default.weight",
                q_proj,
                Some(Naming::Earlier),
            ),
            ("base_model.model.lm_head.weight", head, None),
            (
                "base_model.model.lm_head.modules_to_save.default.weight",
                head,
                None,
            ),
            (
                "base_model.model.lm_head.modules_to_save.weight",
                head,
                None,
            ),
            (
                "base_model.model.model.visual.merger.mlp.0.bias",
                merger,
                Some(Naming::Current),
            ),
            (
                "base_model.model.visual.merger.modules_to_save.default.mlp.0.bias",
                merger,
                Some(Naming::Earlier),
            ),
        ] {
            assert_eq!(tensor(key), Ok((own.to_owned(), naming)), "{key}");
        }
        let current =
            "base_model.model.model.language_model.layers.1.self_attn.q_proj.lora_A.weight";
        assert_eq!(Naming::Current.key(q_proj), current);
        assert_eq!(Naming::Current.key(head), "base_model.model.lm_head.weight");
        assert_eq!(
            Naming::Earlier.key(merger),
            "base_model.model.visual.merger.mlp.0.bias"
        );
        assert_eq!(
            replaced(merger).as_deref(),
            Some("visual.merger.mlp.0.bias")
        );
        assert_eq!(saved("visual.merger.mlp.0.bias"), merger);
        assert_eq!(replaced(q_proj), None);
    }

    #[test]
    fn tensors_of_other_kinds_are_told_apart() {
        let module = "base_model.model.model.layers.0.mlp.up_proj";
        for (end, what) in [
            (".lora_magnitude_vector.weight", "DoRA"),
            (".lora_embedding_A", "an embedding table"),
            (".base_layer.weight", "a weight of the base model"),
            (".lora_A.a.b.weight", "no weight of a low-rank factor"),
            (".lora_B.bias", "no weight of a low-rank factor"),
        ] {
            let found = tensor(&format!("{module}{end}")).expect_err(end);
            assert!(found.contains(what), "{end}: {found}");
        }
        assert!(tensor("model.layers.0.lora_A.weight").is_err());
        assert!(tensor("base_model.model.weight").is_err());
    }
}
