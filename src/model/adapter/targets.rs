//! Whether a module is one that PEFT's settings name.
//!
//! A list names modules by their whole name or by its end after a dot, a text is a regular expression for the whole name.
//! Names are those of transformers' classes. Knows nothing of which modules exist.

use fancy_regex::Regex;

use super::config::AdapterConfig;
use super::error::AdapterError;
use crate::options::TargetModules;

/// Modules that a setting names.
#[derive(Debug)]
pub(super) enum Matcher {
    All,
    Names(Vec<String>),
    Pattern(Box<Regex>),
}

impl Matcher {
    /// The matcher of `key`.
    pub(super) fn new(key: &'static str, targets: &TargetModules) -> Result<Self, AdapterError> {
        Ok(match targets {
            TargetModules::AllLinear => Self::All,
            TargetModules::Names(names) => Self::Names(names.clone()),
            TargetModules::Pattern(pattern) => {
                let whole = Regex::new(&format!(r"\A(?:{pattern})\z"));
                Self::Pattern(Box::new(whole.map_err(|error| unusable(key, &error))?))
            }
        })
    }

    /// Whether it names `module`, a name of transformers.
    pub(super) fn names(&self, key: &'static str, module: &str) -> Result<bool, AdapterError> {
        match self {
            Self::All => Ok(true),
            Self::Names(names) => Ok(names.iter().any(|name| is_end(module, name))),
            Self::Pattern(pattern) => pattern
                .is_match(module)
                .map_err(|error| unusable(key, &error)),
        }
    }
}

fn unusable(key: &'static str, error: &fancy_regex::Error) -> AdapterError {
    AdapterError::Targets {
        key,
        problem: format!("is no regular expression that can be used: {error}"),
        hint: "name the layers instead, for example [q_proj, v_proj]".to_owned(),
    }
}

/// Whether `name` is the whole of `module` or its end after a dot.
pub(super) fn is_end(module: &str, name: &str) -> bool {
    module
        .strip_suffix(name)
        .is_some_and(|rest| !name.is_empty() && (rest.is_empty() || rest.ends_with('.')))
}

impl AdapterConfig {
    /// The name in `modules_to_save` that this module, or one around it, has; the end of a name counts, as in PEFT.
    pub(super) fn saves(&self, module: &str) -> Option<&str> {
        let mut around = vec![module];
        while let Some((outer, _)) = around.last().and_then(|name| name.rsplit_once('.')) {
            around.push(outer);
        }
        let named = |name: &&String| !name.is_empty() && around.iter().any(|m| is_end(m, name));
        self.modules_to_save.iter().find(named).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::tests::settings;
    use super::*;

    const Q_PROJ: &str = "model.language_model.layers.0.self_attn.q_proj";

    fn named(targets: TargetModules, module: &str) -> bool {
        let matcher = Matcher::new("lora_target_modules", &targets).expect("usable");
        matcher.names("lora_target_modules", module).expect("ends")
    }

    #[test]
    fn lists_match_ends_and_texts_match_whole_names() {
        let list = |names: &[&str]| {
            TargetModules::Names(names.iter().map(|name| (*name).to_owned()).collect())
        };
        let text = |pattern: &str| TargetModules::Pattern(pattern.to_owned());
        for (targets, expected) in [
            (list(&["q_proj"]), true),
            (list(&["self_attn.q_proj", "x"]), true),
            (list(&[Q_PROJ]), true),
            (list(&["proj"]), false),
            (list(&[".q_proj"]), false),
            (list(&[""]), false),
            (text("q_proj"), false),
            (text(".*q_proj"), true),
            (text(".*q_pro"), false),
            (text("x|.*q_proj"), true),
            (text(r"^(?!.*visual).*(q_proj|v_proj)$"), true),
            (text(r"^(?!.*language_model).*proj$"), false),
        ] {
            assert_eq!(named(targets.clone(), Q_PROJ), expected, "{targets:?}");
        }
    }

    /// A folder of somebody else's may hold any expression.
    #[test]
    fn an_expression_that_never_ends_is_refused() {
        let pattern = TargetModules::Pattern(r"(?:(?=(a+))a+)+b".to_owned());
        let matcher = Matcher::new("target_modules", &pattern).expect("a valid expression");
        let found = matcher.names("target_modules", &"a".repeat(60));
        assert!(found.is_err(), "{found:?}");
        let broken = TargetModules::Pattern("(".to_owned());
        let text = Matcher::new("target_modules", &broken)
            .expect_err("broken")
            .to_string();
        assert!(text.contains("no regular expression") && text.contains("\nhint: "));
    }

    #[test]
    fn modules_that_are_saved_hold_all_below_them() {
        let config = AdapterConfig {
            modules_to_save: vec!["merger".to_owned(), "lm_head".to_owned()],
            ..settings(TargetModules::AllLinear)
        };
        assert_eq!(config.saves("model.visual.merger.mlp.0"), Some("merger"));
        assert_eq!(config.saves("lm_head"), Some("lm_head"));
        assert_eq!(config.saves(Q_PROJ), None);
    }
}
