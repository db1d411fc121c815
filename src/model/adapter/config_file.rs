//! `adapter_config.json`: PEFT's settings read with care, and written as PEFT writes them.
//!
//! What would change the numbers and is not computed here is refused by name. Knows nothing of tensors.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::config::{AdapterConfig, MOST_RANK};
use super::error::AdapterError;
use super::names::Naming;
use crate::data::model_folder::{ModelFolder, Section, shown};
use crate::options::TargetModules;

/// The file's name.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// The version of PEFT whose settings are written.
const PEFT_VERSION: &str = "0.21.2";

/// Settings of other kinds of adapters, with what they ask for. All are off as null, false, an empty list or table.
const NOT_HERE: [(&str, &str); 20] = [
    ("use_dora", "weight-decomposed adapters (DoRA)"),
    ("lora_bias", "biases of low-rank factors"),
    ("layers_to_transform", "adapters in some of the blocks"),
    ("layers_pattern", "adapters in some of the blocks"),
    ("layer_replication", "layers that stand several times"),
    ("rank_pattern", "ranks that differ between layers"),
    ("alpha_pattern", "scales that differ between layers"),
    ("target_parameters", "adapters of bare parameters"),
    ("trainable_token_indices", "training of single tokens"),
    ("alora_invocation_tokens", "activated adapters (aLoRA)"),
    ("use_qalora", "grouped adapters (QA-LoRA)"),
    ("use_bdlora", "block-diagonal adapters (BD-LoRA)"),
    ("arrow_config", "routing between adapters (Arrow)"),
    ("kasa_config", "adapters of singular values (KaSA)"),
    ("monteclora_config", "MonteCLoRA"),
    ("velora_config", "VeLoRA"),
    ("loftq_config", "a base model that LoftQ changed"),
    ("corda_config", "a base model that CorDA changed"),
    ("lora_ga_config", "a base model that LoRA-GA changed"),
    (
        "ensure_weight_tying",
        "tables that stay tied while one trains",
    ),
];
/// Ways to begin that leave the base model as it is, so that they matter no more.
const HARMLESS_STARTS: [&str; 3] = ["gaussian", "orthogonal", "eva"];
const WITHOUT: &str = "merge it into its base model with PEFT, and give the merged folder";

/// Reads the settings in a folder; names of modules count as those of current transformers.
pub(super) fn read(folder: &Path) -> Result<AdapterConfig, AdapterError> {
    let folder = ModelFolder::open_adapter(folder)?;
    let path = folder.path(ADAPTER_CONFIG);
    let expected = "the settings of an adapter";
    let map: Map<String, Value> =
        folder
            .json(ADAPTER_CONFIG, expected)?
            .ok_or_else(|| AdapterError::Tensors {
                path: path.display().to_string(),
                problem: "not found; expected the settings of an adapter".to_owned(),
                hint: "give the folder that PEFT or a run with `use_peft` saved",
            })?;
    let defaults = defaults();
    let section = Section {
        path: &path,
        prefix: String::new(),
        map: &map,
        defaults: &defaults,
    };
    refuse(&section)?;
    let flag = |key: &str| section.flag(key);
    Ok(AdapterConfig {
        r: section.size("r", 1..=MOST_RANK)?,
        lora_alpha: section.number_above("lora_alpha", 0.0, 1e9)?,
        lora_dropout: dropout(&section)?,
        use_rslora: flag("use_rslora")?,
        target_modules: modules(&section, "target_modules")?
            .unwrap_or(TargetModules::Names(Vec::new())),
        exclude_modules: modules(&section, "exclude_modules")?,
        modules_to_save: match modules(&section, "modules_to_save")? {
            Some(TargetModules::Names(names)) => names,
            None => Vec::new(),
            Some(_) => {
                return Err(section
                    .wrong("modules_to_save", "a list of names".to_owned())
                    .into());
            }
        },
        base_model_name_or_path: section
            .value("base_model_name_or_path")
            .as_str()
            .map(str::to_owned),
        naming: Naming::Current,
    })
}

/// What PEFT's class says where the file is silent.
fn defaults() -> Map<String, Value> {
    let defaults = json!({
        "r": 8, "lora_alpha": 8, "lora_dropout": 0.0, "bias": "none", "init_lora_weights": true,
    });
    defaults.as_object().cloned().unwrap_or_default()
}

fn refuse(section: &Section<'_>) -> Result<(), AdapterError> {
    let kind = section.value("peft_type");
    if kind != "LORA" {
        return Err(not_here(
            section,
            "peft_type",
            "LoRA is the only kind of adapter here",
        ));
    }
    for (key, what) in NOT_HERE {
        if !is_off(section.value(key)) {
            return Err(not_here(section, key, what));
        }
    }
    if section.value("bias") != "none" {
        return Err(not_here(
            section,
            "bias",
            "biases do not train beside adapters",
        ));
    }
    if section.flag("fan_in_fan_out")? {
        return Err(not_here(
            section,
            "fan_in_fan_out",
            "weights are [out, in] here",
        ));
    }
    let start = section.value("init_lora_weights");
    let is_harmless = start.is_boolean()
        || start.is_null()
        || start
            .as_str()
            .is_some_and(|word| HARMLESS_STARTS.contains(&word));
    if is_harmless {
        return Ok(());
    }
    Err(not_here(
        section,
        "init_lora_weights",
        "such a start changes the base model, too",
    ))
}

fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        _ => false,
    }
}

fn not_here(section: &Section<'_>, key: &str, problem: &'static str) -> AdapterError {
    AdapterError::NotHere {
        path: section.path.display().to_string(),
        key: key.to_owned(),
        found: shown(section.value(key)),
        problem,
        hint: WITHOUT,
    }
}

fn dropout(section: &Section<'_>) -> Result<f64, AdapterError> {
    let number = section.value("lora_dropout").as_f64();
    number
        .filter(|number| (0.0..1.0).contains(number))
        .ok_or_else(|| {
            let expected = "a number from 0 to below 1".to_owned();
            section.wrong("lora_dropout", expected).into()
        })
}

/// Null, a text or a list of texts.
fn modules(section: &Section<'_>, key: &str) -> Result<Option<TargetModules>, AdapterError> {
    let value = section.value(key);
    if value.is_null() {
        return Ok(None);
    }
    serde_json::from_value(value.clone())
        .map(Some)
        .map_err(|_| {
            section
                .wrong(key, "a list of names, or a text".to_owned())
                .into()
        })
}

/// The settings as PEFT's `save_pretrained` writes them.
pub(super) fn written(config: &AdapterConfig) -> Value {
    let modules = |modules: &Option<TargetModules>| json!(modules);
    let saved = (!config.modules_to_save.is_empty()).then_some(&config.modules_to_save);
    // A whole number stays one: PEFT's field is an integer.
    let alpha = if config.lora_alpha.fract() == 0.0 {
        json!(config.lora_alpha as i64)
    } else {
        json!(config.lora_alpha)
    };
    json!({
        "alpha_pattern": {},
        "auto_mapping": null,
        "base_model_name_or_path": config.base_model_name_or_path,
        "bias": "none",
        "exclude_modules": modules(&config.exclude_modules),
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "layer_replication": null,
        "layers_pattern": null,
        "layers_to_transform": null,
        "lora_alpha": alpha,
        "lora_bias": false,
        "lora_dropout": config.lora_dropout,
        "modules_to_save": saved,
        "peft_type": "LORA",
        "peft_version": PEFT_VERSION,
        "r": config.r,
        "rank_pattern": {},
        "revision": null,
        "target_modules": config.target_modules,
        "target_parameters": null,
        "task_type": "CAUSAL_LM",
        "trainable_token_indices": null,
        "use_dora": false,
        "use_qalora": false,
        "use_rslora": config.use_rslora,
    })
}

#[cfg(test)]
mod tests {
    use super::super::config::tests::settings;
    use super::*;

    fn read_text(text: &str) -> Result<AdapterConfig, AdapterError> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(ADAPTER_CONFIG), text).expect("written");
        read(folder.path())
    }

    #[test]
    fn settings_are_read_as_they_were_written() {
        let pattern = TargetModules::Pattern(r".*layers\.(0|1)\..*_proj".to_owned());
        let names = TargetModules::Names(vec!["q_proj".to_owned(), "attn.proj".to_owned()]);
        let saved = AdapterConfig {
            lora_alpha: 2.5,
            lora_dropout: 0.05,
            use_rslora: true,
            modules_to_save: vec!["lm_head".to_owned()],
            base_model_name_or_path: Some("models/Qwen2-VL-2B".to_owned()),
            ..settings(names).without_vision_tower()
        };
        for config in [settings(pattern), settings(TargetModules::AllLinear), saved] {
            let text = written(&config).to_string();
            assert_eq!(read_text(&text).expect("readable"), config);
        }
    }

    /// PEFT's own defaults, where a file has little in it.
    #[test]
    fn a_short_file_has_pefts_defaults() {
        let config = read_text(r#"{"peft_type": "LORA", "target_modules": ["q_proj"]}"#);
        let config = config.expect("readable");
        assert_eq!(
            (config.r, config.lora_alpha, config.lora_dropout),
            (8, 8.0, 0.0)
        );
        assert_eq!(
            config.target_modules,
            TargetModules::Names(vec!["q_proj".to_owned()])
        );
    }

    #[test]
    fn what_would_change_the_numbers_is_refused_by_name() {
        let with = |key: &str, value: Value| {
            let mut settings = written(&settings(TargetModules::AllLinear));
            settings[key] = value;
            read_text(&settings.to_string())
        };
        for (key, value) in [
            ("peft_type", json!("IA3")),
            ("use_dora", json!(true)),
            ("bias", json!("all")),
            ("fan_in_fan_out", json!(true)),
            ("rank_pattern", json!({"q_proj": 8})),
            ("alpha_pattern", json!({"q_proj": 8})),
            ("layers_to_transform", json!([0])),
            ("layers_to_transform", json!(0)),
            ("init_lora_weights", json!("pissa")),
            ("trainable_token_indices", json!([1])),
            ("r", json!(0)),
            ("r", json!(1e9)),
            ("lora_alpha", json!("16")),
            ("lora_alpha", json!(-1)),
            ("lora_dropout", json!(1.0)),
            ("target_modules", json!(3)),
            ("target_modules", json!([["q_proj"]])),
            ("modules_to_save", json!("lm_head.*")),
            ("use_rslora", json!("yes")),
        ] {
            let text = with(key, value.clone()).expect_err(key).to_string();
            let named = text.contains(&format!("`{key}`")) && text.contains("\nhint: ");
            assert!(named, "{key} {value}: {text}");
        }
        for (key, value) in [
            ("init_lora_weights", json!("gaussian")),
            ("rank_pattern", json!({})),
            ("layers_pattern", json!(null)),
            ("a_setting_of_tomorrow", json!(null)),
        ] {
            assert!(with(key, value).is_ok(), "{key}");
        }
        assert!(read_text("[]").is_err());
        let empty = tempfile::tempdir().expect("a folder");
        let text = read(empty.path()).expect_err("nothing there").to_string();
        assert!(text.contains("adapter_config.json: not found"), "{text}");
    }
}
