//! Which tensors an adapter has on a given model.
//!
//! Looks at the names and shapes of the model's parameters only.

use std::collections::BTreeSet;

use super::config::AdapterConfig;
use super::error::AdapterError;
use super::names::{self, FACTORS, Naming};
use super::targets::{Matcher, is_end};
use crate::options::TargetModules;

/// The key of a configuration that an error stands at.
const TARGETS: &str = "lora_target_modules";
const SAVE: &str = "lora_modules_to_save";
/// Tables that are looked up: the output head serves as one where it is tied.
const EMBEDDING: &str = "model.embed_tokens";
const HEAD: &str = "lm_head";
/// A convolution whose weight some files hold flattened.
const PATCHES: &str = "visual.patch_embed.proj";

/// A linear layer with an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adapted {
    /// Hub name of the layer.
    pub module: String,
    /// [out, in] of its weight.
    pub shape: [usize; 2],
}

/// A parameter that trains whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Hub name of the parameter.
    pub parameter: String,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// The tensors of an adapter on one model, in the order of its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterLayout {
    /// Layers with a low-rank adapter.
    pub adapted: Vec<Adapted>,
    /// Parameters that train whole. `lm_head.weight` may be among them where the model has no such parameter because its
    /// head is tied: then the head becomes a table of its own.
    pub saved: Vec<Saved>,
    rank: usize,
}

impl AdapterConfig {
    /// The tensors that these settings ask for on a model with these parameters (hub names and shapes).
    ///
    /// # Errors
    /// If a table is to get a low-rank adapter, a module that is to train whole does not exist, or nothing would train.
    pub fn lay_out<'a>(
        &self,
        parameters: impl IntoIterator<Item = (&'a str, &'a [usize])>,
    ) -> Result<AdapterLayout, AdapterError> {
        let parameters: Vec<(&str, &[usize])> = parameters.into_iter().collect();
        let model = Model::new(&parameters, self.naming);
        let excluded = match &self.exclude_modules {
            Some(modules) => Some(Matcher::new("exclude_modules", modules)?),
            None => None,
        };
        let is_excluded = |module: &str| match &excluded {
            Some(matcher) => matcher.names("exclude_modules", module),
            None => Ok(false),
        };
        let targets = Matcher::new(TARGETS, &self.target_modules)?;
        let mut adapted = Vec::new();
        for (layer, name) in &model.layers {
            let may = self.saves(name).is_none() && !is_excluded(name)?;
            if may && targets.names(TARGETS, name)? {
                adapted.push(layer.clone());
            }
        }
        for table in [EMBEDDING, HEAD] {
            let name = self.naming.transformers(table);
            let is_named = !matches!(targets, Matcher::All) && targets.names(TARGETS, &name)?;
            if is_named && self.saves(&name).is_none() && !is_excluded(&name)? {
                return Err(table_named(&name));
            }
        }
        let saved = self.saved(&parameters, &is_excluded)?;
        if adapted.is_empty() && saved.is_empty() {
            return Err(model.nothing("matches no layer that may have an adapter".to_owned()));
        }
        Ok(AdapterLayout {
            adapted,
            saved,
            rank: self.r,
        })
    }

    fn saved(
        &self,
        parameters: &[(&str, &[usize])],
        is_excluded: &dyn Fn(&str) -> Result<bool, AdapterError>,
    ) -> Result<Vec<Saved>, AdapterError> {
        let mut found = BTreeSet::new();
        let mut saved = Vec::new();
        let head = format!("{HEAD}.weight");
        let embedding = format!("{EMBEDDING}.weight");
        let has_head = parameters.iter().any(|(name, _)| *name == head);
        let tied = parameters
            .iter()
            .filter(|(name, _)| !has_head && *name == embedding)
            .map(|(_, shape)| (head.as_str(), *shape));
        for (parameter, shape) in parameters.iter().copied().chain(tied) {
            let Some((module, _)) = parameter.rsplit_once('.') else {
                continue;
            };
            let module = self.naming.transformers(module);
            let Some(name) = self.saves(&module) else {
                continue;
            };
            if is_excluded(&module)? {
                return Err(AdapterError::Targets {
                    key: SAVE,
                    problem: format!(
                        "names `{name}`, which holds `{module}`, but that is to stay as it is"
                    ),
                    hint: "leave it out, or set freeze_vision_modules: false".to_owned(),
                });
            }
            found.insert(name.to_owned());
            saved.push(Saved {
                parameter: parameter.to_owned(),
                shape: shape.to_vec(),
            });
        }
        match self
            .modules_to_save
            .iter()
            .find(|name| !found.contains(*name))
        {
            None => Ok(saved),
            Some(name) => Err(AdapterError::Targets {
                key: SAVE,
                problem: format!("names `{}`, which is no module of the model", name.escape_debug()),
                hint: "modules are named as in transformers, for example lm_head, embed_tokens, merger".to_owned(),
            }),
        }
    }

    /// Refuses target names that are those of no layer: in settings that somebody has just written they are slips of the pen.
    /// Settings that PEFT saved may hold names of layers that they exclude.
    ///
    /// # Errors
    /// With the first such name and the names that there are.
    pub fn check_names<'a>(
        &self,
        parameters: impl IntoIterator<Item = (&'a str, &'a [usize])>,
    ) -> Result<(), AdapterError> {
        let parameters: Vec<(&str, &[usize])> = parameters.into_iter().collect();
        let model = Model::new(&parameters, self.naming);
        let TargetModules::Names(targets) = &self.target_modules else {
            return Ok(());
        };
        let is_table = |target: &str| {
            let names = [EMBEDDING, HEAD].map(|table| self.naming.transformers(table));
            names.iter().any(|name| is_end(name, target))
        };
        let is_lost = |target: &&String| {
            !is_table(target) && !model.layers.iter().any(|(_, name)| is_end(name, target))
        };
        match targets.iter().find(is_lost) {
            None => Ok(()),
            Some(target) => Err(model.nothing(format!(
                "names `{}`, which is no linear layer of the model",
                target.escape_debug()
            ))),
        }
    }
}

/// `up_proj`, `mlp.up_proj`, ..., the whole name.
fn ends_of(name: &str) -> impl Iterator<Item = &str> {
    name.rmatch_indices('.')
        .map(|(place, _)| &name[place + 1..])
        .chain(std::iter::once(name))
}

fn table_named(name: &str) -> AdapterError {
    AdapterError::Targets {
        key: TARGETS,
        problem: format!("names `{name}`, a table, which gets no low-rank adapter in this version"),
        hint: format!(
            "train it whole: lora_modules_to_save: [{}]",
            name.rsplit('.').next().unwrap_or(name)
        ),
    }
}

/// The linear layers of a model, each with its name in transformers.
struct Model {
    layers: Vec<(Adapted, String)>,
}

impl Model {
    fn new(parameters: &[(&str, &[usize])], naming: Naming) -> Self {
        let layer = |(parameter, shape): &(&str, &[usize])| {
            let module = parameter.strip_suffix(".weight")?;
            let shape = <[usize; 2]>::try_from(*shape).ok()?;
            let is_layer = ![EMBEDDING, HEAD, PATCHES].contains(&module);
            let name = naming.transformers(module);
            let module = module.to_owned();
            is_layer.then_some((Adapted { module, shape }, name))
        };
        Self {
            layers: parameters.iter().filter_map(layer).collect(),
        }
    }

    fn nothing(&self, problem: String) -> AdapterError {
        AdapterError::Targets {
            key: TARGETS,
            problem,
            hint: format!("the model's layers are {}", self.ends().join(", ")),
        }
    }

    /// The last parts of the layers' names, two of them where the last says little.
    fn ends(&self) -> Vec<&str> {
        let says_little = |end: &str| end == "proj" || end.chars().all(|c| c.is_ascii_digit());
        let mut ends = Vec::new();
        for (_, name) in &self.layers {
            let end = ends_of(name).find(|end| !says_little(end)).unwrap_or(name);
            if !ends.contains(&end) {
                ends.push(end);
            }
        }
        ends
    }
}

impl AdapterLayout {
    /// Names and shapes of all tensors.
    pub fn tensors(&self) -> impl Iterator<Item = (String, Vec<usize>)> {
        let [a, b] = FACTORS;
        let factors = self.adapted.iter().flat_map(move |layer| {
            let [out, inputs] = layer.shape;
            [
                (
                    format!("{}.{a}.weight", layer.module),
                    vec![self.rank, inputs],
                ),
                (format!("{}.{b}.weight", layer.module), vec![out, self.rank]),
            ]
        });
        let saved = self
            .saved
            .iter()
            .map(|saved| (names::saved(&saved.parameter), saved.shape.clone()));
        factors.chain(saved)
    }

    /// Number of values in all tensors.
    #[must_use]
    pub fn count(&self) -> usize {
        self.tensors()
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::tests::settings;
    use super::*;

    /// Parameters of a small model with one block each, its head tied.
    fn parameters() -> Vec<(&'static str, Vec<usize>)> {
        vec![
            ("model.embed_tokens.weight", vec![32, 8]),
            ("model.layers.0.input_layernorm.weight", vec![8]),
            ("model.layers.0.self_attn.q_proj.weight", vec![8, 8]),
            ("model.layers.0.self_attn.q_proj.bias", vec![8]),
            ("model.layers.0.self_attn.v_proj.weight", vec![4, 8]),
            ("model.layers.0.mlp.gate_proj.weight", vec![12, 8]),
            ("visual.patch_embed.proj.weight", vec![6, 3, 2, 2, 2]),
            ("visual.blocks.0.attn.proj.weight", vec![6, 6]),
            ("visual.blocks.0.mlp.gate_proj.weight", vec![10, 6]),
            ("visual.merger.ln_q.weight", vec![6]),
            ("visual.merger.mlp.0.weight", vec![24, 24]),
            ("visual.merger.mlp.0.bias", vec![24]),
        ]
    }

    fn lay_out(config: &AdapterConfig) -> Result<AdapterLayout, AdapterError> {
        let parameters = parameters();
        config.lay_out(
            parameters
                .iter()
                .map(|(name, shape)| (*name, shape.as_slice())),
        )
    }

    fn list(names: &[&str]) -> TargetModules {
        TargetModules::Names(names.iter().map(|name| (*name).to_owned()).collect())
    }

    fn adapted(config: &AdapterConfig) -> Vec<String> {
        let layout = lay_out(config).unwrap_or_else(|error| panic!("{error}"));
        layout
            .adapted
            .into_iter()
            .map(|layer| layer.module)
            .collect()
    }

    #[test]
    fn layers_are_those_that_peft_would_adapt() {
        let everything = [
            "model.layers.0.self_attn.q_proj",
            "model.layers.0.self_attn.v_proj",
            "model.layers.0.mlp.gate_proj",
            "visual.blocks.0.attn.proj",
            "visual.blocks.0.mlp.gate_proj",
            "visual.merger.mlp.0",
        ];
        let all = settings(TargetModules::AllLinear);
        assert_eq!(adapted(&all), everything);
        assert_eq!(
            adapted(&all.clone().without_vision_tower()),
            everything[..3]
        );
        let gate = settings(list(&["gate_proj"]));
        assert_eq!(adapted(&gate), [everything[2], everything[4]]);
        assert_eq!(adapted(&gate.without_vision_tower()), everything[2..3]);
        let text = settings(TargetModules::Pattern(
            r".*language_model.*_proj".to_owned(),
        ));
        assert_eq!(adapted(&text), everything[..3]);
        let earlier = AdapterConfig {
            naming: Naming::Earlier,
            ..settings(TargetModules::Pattern(r"model\.layers.*_proj".to_owned()))
        };
        assert_eq!(adapted(&earlier), everything[..3]);
        let merger = AdapterConfig {
            modules_to_save: vec!["merger".to_owned()],
            ..all
        };
        let layout = lay_out(&merger).expect("fits");
        assert_eq!(layout.adapted.len(), 5, "what trains whole has no adapter");
        let names: Vec<&str> = layout.saved.iter().map(|s| s.parameter.as_str()).collect();
        let below = [
            "visual.merger.ln_q.weight",
            "visual.merger.mlp.0.weight",
            "visual.merger.mlp.0.bias",
        ];
        assert_eq!(names, below);
    }

    #[test]
    fn tensors_have_pefts_shapes() {
        let config = AdapterConfig {
            modules_to_save: vec!["lm_head".to_owned()],
            ..settings(list(&["v_proj"]))
        };
        let layout = lay_out(&config).expect("fits");
        let tensors: Vec<_> = layout.tensors().collect();
        let expected = [
            ("model.layers.0.self_attn.v_proj.lora_A.weight", vec![4, 8]),
            ("model.layers.0.self_attn.v_proj.lora_B.weight", vec![4, 4]),
            ("lm_head.modules_to_save.weight", vec![32, 8]),
        ];
        let expected = expected.map(|(name, shape)| (name.to_owned(), shape));
        assert_eq!(tensors, expected, "a tied head becomes a table of its own");
        assert_eq!(layout.count(), 32 + 16 + 256);
    }

    #[test]
    fn names_that_match_nothing_are_refused_with_those_that_exist() {
        let frozen = settings(list(&["attn.proj"])).without_vision_tower();
        let saved = |name: &str| AdapterConfig {
            modules_to_save: vec![name.to_owned()],
            ..settings(list(&["q_proj"]))
        };
        for (config, problem, hint) in [
            (
                settings(list(&["q_proj", "query"])),
                "`lora_target_modules` names `query`, which is no linear layer",
                "the model's layers are q_proj, v_proj, gate_proj, attn.proj, mlp.0",
            ),
            (
                settings(TargetModules::Pattern("q_proj|v_proj".to_owned())),
                "matches no layer that may have an adapter",
                "the model's layers are q_proj",
            ),
            (
                frozen,
                "matches no layer that may have an adapter",
                "the model's layers are",
            ),
            (
                settings(TargetModules::Pattern(".*".to_owned())),
                "names `model.language_model.embed_tokens`, a table",
                "lora_modules_to_save: [embed_tokens]",
            ),
            (
                settings(list(&["q_proj", "lm_head"])),
                "names `lm_head`, a table",
                "lora_modules_to_save: [lm_head]",
            ),
            (
                saved("head"),
                "`lora_modules_to_save` names `head`",
                "lm_head, embed_tokens",
            ),
            (
                saved("merger").without_vision_tower(),
                "names `merger`, which holds `model.visual.merger",
                "freeze_vision_modules: false",
            ),
        ] {
            let parameters = parameters();
            let named = parameters.iter().map(|(name, shape)| (*name, &shape[..]));
            let checked = config.check_names(named).map(|()| lay_out(&config));
            let text = checked
                .and_then(|found| found)
                .expect_err(problem)
                .to_string();
            assert!(text.contains(problem) && text.contains(hint), "{text}");
        }
        let partly = settings(list(&["q_proj", "attn.proj"])).without_vision_tower();
        assert_eq!(adapted(&partly), ["model.layers.0.self_attn.q_proj"]);
        assert!(lay_out(&saved("lm_head")).is_ok());
    }
}
