//! YAML text and values, one into the other: the only place that knows YAML.

use serde_json::Value;

/// Parses YAML text, with YAML 1.2's booleans (`no` stays text) and no duplicate keys.
///
/// # Errors
/// What the parser says, with line and column.
pub fn parse_yaml(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
}

/// A value as YAML text.
pub(super) fn yaml_text(value: &Value) -> Result<String, String> {
    serde_saphyr::to_string(value).map_err(|error| error.to_string())
}
