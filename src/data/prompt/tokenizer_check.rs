//! What a tokenizer.json must be before the tokenizers crate gets it: byte-level BPE whose parts neither lose a character,
//! nor draw lots, nor grow without bounds.
//!
//! The file is not trusted. The crate panics at some files, takes gigabytes for others, and drops what a vocabulary lacks
//! without a word; all of them look like byte-level BPE to it. Knows nothing of texts.

use std::collections::HashMap;

use fancy_regex::RegexBuilder;
use serde_json::{Map, Value};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use crate::data::model_folder::{kind_of, shown};

/// Largest token id; published vocabularies have 262,144.
const LARGEST_ID: u64 = (1 << 24) - 1;
/// Unicode normal forms in a row.
const MOST_NORMALIZERS: usize = 4;
/// Rules that cut a text, in a row.
const MOST_PRE_TOKENIZERS: usize = 16;
/// Steps that one match of a cutting pattern may take in [`PROBE`]; published patterns take a few dozen.
const PATTERN_STEPS: usize = 20_000;
const LONGEST_PATTERN: usize = 10_000;
/// Text that patterns are tried on: words, numbers, marks, white space, other scripts, and long runs of each.
const PROBE: &str = "How many red cubes are left of the big sphere? It's 3,141.59 (or 2e10)!\r\n\r\n\
    aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
    the quick brown fox jumps over the lazy dog and then runs along the river bank all day long\n\
    0000000000000000000000000000000000000000000000000000000000000000\
    \t                                                                x\
    ................................................................----------------\
    \u{e9}\u{e8}\u{fc} \u{4f60}\u{597d}\u{4e16}\u{754c} \u{440}\u{443}\u{441}\u{441}\u{43a}\u{438}\u{439} \u{1f642}\u{1f642} AAAA BBBB CamelCaseWords_and_snakes";

/// What is wrong with the file, in words that follow "expected a byte-level BPE tokenizer, found".
type Check = Result<(), String>;

/// Checks a parsed tokenizer.json.
///
/// # Errors
/// What it has instead.
pub(super) fn check(file: &Value) -> Check {
    let Some(file) = file.as_object() else {
        return Err(kind_of(file).to_owned());
    };
    let part = |key: &str| file.get(key).filter(|value| !value.is_null());
    let model = part("model")
        .and_then(Value::as_object)
        .ok_or("no `model`")?;
    check_model(model)?;
    check_ids(model, part("added_tokens"))?;
    if let Some(normalizer) = part("normalizer") {
        check_normalizer(normalizer)?;
    }
    check_pre_tokenizer(part("pre_tokenizer"))?;
    if let Some(processor) = part("post_processor") {
        check_post_processor(processor)?;
    }
    match part("decoder").map(kind) {
        Some("ByteLevel") => Ok(()),
        Some(_) => Err("a decoder that is not ByteLevel".to_owned()),
        None => Err("no decoder".to_owned()),
    }
}

/// The bytes that no token stands for. GPT-2's vocabularies have all 256; trained ones lack those that never occur.
pub(super) fn missing_bytes(knows: impl Fn(&str) -> bool) -> Vec<u8> {
    let mut letters: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    letters.sort_unstable();
    let lacking = letters
        .into_iter()
        .filter(|letter| !knows(&letter.to_string()));
    lacking.filter_map(byte_of).collect()
}

/// The byte that a letter of the byte-level alphabet stands for.
///
/// Source: `bytes_to_unicode` of GPT-2: printable bytes stand for themselves, the others for U+0100 on, in their order.
fn byte_of(letter: char) -> Option<u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let code = u32::from(letter);
    match u8::try_from(code) {
        Ok(byte) => printable(byte).then_some(byte),
        Err(_) => (0..=u8::MAX)
            .filter(|byte| !printable(*byte))
            .nth(code.checked_sub(0x100)? as usize),
    }
}

fn kind(value: &Value) -> &str {
    value
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or("nothing")
}

fn named(what: &str, value: &Value) -> String {
    format!("{what} `{}`", kind(value).escape_debug())
}

fn check_model(model: &Map<String, Value>) -> Check {
    match model.get("type").map(|kind| kind.as_str()) {
        // Files of older versions of the crate name no type.
        Some(Some("BPE")) => {}
        None if model.contains_key("merges") => {}
        _ => return Err("a model that is not BPE".to_owned()),
    }
    let set = |key: &str| model.get(key).filter(|value| !value.is_null());
    if let Some(dropout) = set("dropout").filter(|value| value.as_f64() != Some(0.0)) {
        return Err(format!(
            "`dropout` {}, which tokenises by lot",
            shown(dropout)
        ));
    }
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if let Some(value) = set(key).filter(|value| value.as_str() != Some("")) {
            return Err(format!(
                "`{key}` {}, which is no part of a text's bytes",
                shown(value)
            ));
        }
    }
    let vocabulary = model
        .get("vocab")
        .and_then(Value::as_object)
        .ok_or("no `model.vocab`")?;
    match set("unk_token").map(Value::as_str) {
        None => Ok(()),
        Some(Some(token)) if vocabulary.contains_key(token) => Ok(()),
        Some(token) => {
            let token = token.unwrap_or_default().escape_debug();
            Err(format!("`unk_token` `{token}`, which its vocabulary lacks"))
        }
    }
}

/// Ids that a vocabulary can have, each of one token.
fn check_ids(model: &Map<String, Value>, added: Option<&Value>) -> Check {
    let empty = Vec::new();
    let added = match added {
        None => &empty,
        Some(value) => value.as_array().ok_or("`added_tokens` that are no list")?,
    };
    let base = model
        .get("vocab")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    let base = base.map(|(token, id)| (token.as_str(), id));
    let added = added.iter().map(|token| {
        let content = token.get("content").and_then(Value::as_str);
        (
            content.unwrap_or_default(),
            token.get("id").unwrap_or(&Value::Null),
        )
    });
    let mut owners: HashMap<u64, &str> = HashMap::new();
    for (token, id) in base.chain(added) {
        let shown_token = || {
            token
                .chars()
                .take(40)
                .collect::<String>()
                .escape_debug()
                .to_string()
        };
        if token.is_empty() {
            return Err(format!("a token without text at id {}", shown(id)));
        }
        let Some(number) = id.as_u64().filter(|id| *id <= LARGEST_ID) else {
            return Err(format!("the id {} of token `{}`", shown(id), shown_token()));
        };
        match owners.insert(number, token) {
            Some(other) if other != token => {
                return Err(format!(
                    "two tokens with the id {number}, one of them `{}`",
                    shown_token()
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Unicode normal forms only: other rules drop characters, or multiply them.
fn check_normalizer(normalizer: &Value) -> Check {
    match kind(normalizer) {
        "NFC" | "NFD" | "NFKC" | "NFKD" => Ok(()),
        "Sequence" => {
            let parts = normalizer.get("normalizers").and_then(Value::as_array);
            let parts = parts.ok_or("a normalizer without its parts")?;
            if parts.len() > MOST_NORMALIZERS {
                return Err(format!("{} normalizers in a row", parts.len()));
            }
            // A sequence in a sequence would hide its length.
            match parts.iter().find(|part| kind(part) == "Sequence") {
                Some(_) => Err("normalizers inside normalizers".to_owned()),
                None => parts.iter().try_for_each(check_normalizer),
            }
        }
        _ => Err(named("the normalizer", normalizer)),
    }
}

/// Cuts that keep every character, then bytes.
fn check_pre_tokenizer(pre_tokenizer: Option<&Value>) -> Check {
    let pre_tokenizer =
        pre_tokenizer.ok_or("no pre-tokenizer, so its vocabulary's bytes are never met")?;
    let one = [pre_tokenizer.clone()];
    let parts = match kind(pre_tokenizer) {
        "Sequence" => {
            let parts = pre_tokenizer.get("pretokenizers").and_then(Value::as_array);
            parts.ok_or("a pre-tokenizer without its parts")?.as_slice()
        }
        _ => &one,
    };
    let (last, cuts) = parts.split_last().ok_or("an empty pre-tokenizer")?;
    if parts.len() > MOST_PRE_TOKENIZERS {
        return Err(format!("{} pre-tokenizers in a row", parts.len()));
    }
    cuts.iter().try_for_each(check_cut)?;
    if kind(last) != "ByteLevel" {
        return Err(format!(
            "{}, where bytes are expected last",
            named("the pre-tokenizer", last)
        ));
    }
    // The crate's own default is true.
    match last.get("add_prefix_space") {
        Some(Value::Bool(false)) => Ok(()),
        _ => Err("`add_prefix_space` true, which puts a space before every text".to_owned()),
    }
}

fn check_cut(cut: &Value) -> Check {
    let keeps = cut.get("behavior").and_then(Value::as_str) != Some("Removed");
    match kind(cut) {
        "Digits" => Ok(()),
        "Punctuation" if keeps => Ok(()),
        "Split" if keeps => match cut.get("pattern") {
            Some(pattern) => match pattern.get("Regex").and_then(Value::as_str) {
                Some(pattern) => check_pattern(pattern),
                None if pattern.get("String").is_some_and(Value::is_string) => Ok(()),
                None => Err("a pre-tokenizer `Split` without a pattern".to_owned()),
            },
            None => Err("a pre-tokenizer `Split` without a pattern".to_owned()),
        },
        "Split" | "Punctuation" => Err(format!(
            "{} that removes characters",
            named("the pre-tokenizer", cut)
        )),
        _ => Err(named("the pre-tokenizer", cut)),
    }
}

/// A pattern that ends: some need more steps for a line of text than there are atoms.
fn check_pattern(pattern: &str) -> Check {
    if pattern.len() > LONGEST_PATTERN {
        return Err(format!("a pattern of {} bytes", pattern.len()));
    }
    if repeats_repetition(pattern) {
        return Err("a pattern that may not end: a repetition inside a repetition".to_owned());
    }
    let compiled = RegexBuilder::new(pattern)
        .backtrack_limit(PATTERN_STEPS)
        .build();
    let compiled = compiled.map_err(|error| format!("a pattern that is none: {error}"))?;
    match compiled.find_iter(PROBE).find_map(Result::err) {
        None => Ok(()),
        Some(error) => Err(format!(
            "a pattern that does not end on ordinary text ({error})"
        )),
    }
}

/// Whether a group without a limit to its repetitions stands inside another one, as in `(a+)+`: the number of ways to read
/// a text then doubles with each letter. No published pattern has that.
fn repeats_repetition(pattern: &str) -> bool {
    // Of each open group: whether it holds a repetition without a limit.
    let mut groups = vec![false];
    let mut rest = pattern;
    while let Some(letter) = rest.chars().next() {
        rest = &rest[letter.len_utf8()..];
        let unlimited = match letter {
            '\\' => {
                rest = rest.strip_prefix(|_: char| true).unwrap_or(rest);
                continue;
            }
            '[' => {
                rest = after_class(rest);
                continue;
            }
            '(' => {
                groups.push(false);
                continue;
            }
            ')' => {
                let inner = groups.pop().unwrap_or(false);
                if inner && is_unlimited(rest) {
                    return true;
                }
                inner
            }
            '+' | '*' => true,
            '{' => is_unlimited(&format!("{{{rest}")),
            _ => false,
        };
        if let Some(open) = groups.last_mut() {
            *open |= unlimited;
        }
    }
    false
}

/// Whether a pattern goes on with `+`, `*` or `{n,}`.
fn is_unlimited(rest: &str) -> bool {
    let bounds = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
    rest.starts_with(['+', '*']) || bounds.is_some_and(|(bounds, _)| bounds.trim().ends_with(','))
}

/// What follows a character class, whose opening bracket was read.
fn after_class(inside: &str) -> &str {
    let mut depth = 1;
    let mut escaped = false;
    for (place, letter) in inside.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => depth += 1,
            // A bracket that comes first stands for itself.
            ']' if place > 0 && &inside[..place] != "^" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &inside[place + 1..];
        }
    }
    ""
}

/// A processor that adds no token: prompts hold what the chat template wrote, and nothing else.
fn check_post_processor(processor: &Value) -> Check {
    match kind(processor) {
        "ByteLevel" => Ok(()),
        "TemplateProcessing" => {
            let single = processor.get("single").and_then(Value::as_array);
            let single = single.ok_or("a post-processor without its template")?;
            match single
                .iter()
                .any(|piece| piece.get("SpecialToken").is_some())
            {
                false => Ok(()),
                true => Err("a post-processor that adds tokens to every text".to_owned()),
            }
        }
        "Sequence" => {
            let parts = processor.get("processors").and_then(Value::as_array);
            let parts = parts.ok_or("a post-processor without its parts")?;
            match parts.iter().find(|part| kind(part) == "Sequence") {
                Some(_) => Err("post-processors inside post-processors".to_owned()),
                None => parts.iter().try_for_each(check_post_processor),
            }
        }
        _ => Err(named("the post-processor", processor)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::data::prompt::golden;

    type Change = fn(&mut Value);

    fn changed(change: Change) -> Check {
        let mut file = golden::json("qwen2vl-tiny/tokenizer.json");
        change(&mut file);
        check(&file)
    }

    #[test]
    fn published_forms_pass() {
        let forms: [Change; 9] = [
            |_| {},
            |f| f["normalizer"] = Value::Null,
            |f| f["normalizer"] = json!({"type": "Sequence", "normalizers": [{"type": "NFC"}]}),
            // SmolLM2
            |f| {
                f["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
                {"type": "Digits", "individual_digits": true},
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]})
            },
            // GPT-2
            |f| {
                f["pre_tokenizer"] =
                    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true})
            },
            |f| f["post_processor"] = Value::Null,
            // Written by transformers 5.
            |f| f["post_processor"] = json!({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {}}),
            |f| f["model"]["dropout"] = 0.0.into(),
            |f| f["model"]["unk_token"] = "a".into(),
        ];
        for (number, form) in forms.into_iter().enumerate() {
            assert_eq!(changed(form), Ok(()), "form {number}");
        }
    }

    #[test]
    fn what_loses_multiplies_or_draws_lots_is_named() {
        let refused: &[(Change, &str)] = &[
            (|f| *f = json!([]), "a list"),
            (
                |f| f["model"]["type"] = "Unigram".into(),
                "a model that is not BPE",
            ),
            (|f| f["model"]["dropout"] = 0.5.into(), "`dropout` 0.5"),
            (
                |f| f["model"]["unk_token"] = "<zzz>".into(),
                "`unk_token` `<zzz>`, which its vocabulary lacks",
            ),
            (
                |f| f["model"]["end_of_word_suffix"] = "</w>".into(),
                "`end_of_word_suffix` \"</w>\"",
            ),
            (|f| f["model"]["vocab"] = json!([]), "no `model.vocab`"),
            (
                |f| f["model"]["vocab"]["zzzz"] = 4_294_967_294_u64.into(),
                "the id 4294967294 of token `zzzz`",
            ),
            (
                |f| f["model"]["vocab"]["zzzz"] = (-1).into(),
                "the id -1 of token `zzzz`",
            ),
            (
                |f| f["model"]["vocab"]["zzzz"] = 5.into(),
                "two tokens with the id 5",
            ),
            (
                |f| f["added_tokens"][13]["id"] = 4_294_967_295_u64.into(),
                "the id 4294967295 of token `<|video_pad|>`",
            ),
            (
                |f| f["added_tokens"][13]["id"] = 908.into(),
                "two tokens with the id 908",
            ),
            (
                |f| f["added_tokens"][13]["content"] = "".into(),
                "a token without text at id 909",
            ),
            (
                |f| f["added_tokens"] = json!({}),
                "`added_tokens` that are no list",
            ),
            (
                |f| f["normalizer"] = json!({"type": "Lowercase"}),
                "the normalizer `Lowercase`",
            ),
            (
                |f| f["normalizer"] = json!({"type": "Sequence", "normalizers": vec![json!({"type": "Replace", "pattern": {"String": "e"}, "content": "ee"}); 40]}),
                "40 normalizers",
            ),
            (
                |f| {
                    f["normalizer"] =
                        json!({"type": "Replace", "pattern": {"String": "e"}, "content": ""})
                },
                "the normalizer `Replace`",
            ),
            (|f| f["pre_tokenizer"] = Value::Null, "no pre-tokenizer"),
            (
                |f| f["pre_tokenizer"] = json!({"type": "Whitespace"}),
                "the pre-tokenizer `Whitespace`, where bytes",
            ),
            (
                |f| f["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "Removed".into(),
                "the pre-tokenizer `Split` that removes characters",
            ),
            (
                |f| f["pre_tokenizer"]["pretokenizers"][0] = json!({"type": "Whitespace"}),
                "the pre-tokenizer `Whitespace`",
            ),
            (
                |f| f["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = true.into(),
                "`add_prefix_space` true",
            ),
            (
                |f| {
                    f["pre_tokenizer"]["pretokenizers"][0]["pattern"] =
                        json!({"Regex": "(?:(?:a|[a-z ]+)+)+(?=Q)"})
                },
                "a pattern that may not end",
            ),
            (
                |f| {
                    f["pre_tokenizer"]["pretokenizers"][0]["pattern"] =
                        json!({"Regex": "(?:((a{1000}){1000}){1000})"})
                },
                "a pattern that is none",
            ),
            (
                |f| f["pre_tokenizer"]["pretokenizers"][0]["pattern"] = json!({"Regex": "("}),
                "a pattern that is none",
            ),
            (
                |f| f["post_processor"] = json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]}),
                "adds tokens",
            ),
            (
                |f| f["post_processor"] = json!({"type": "BertProcessing"}),
                "the post-processor `BertProcessing`",
            ),
            (
                |f| f["decoder"] = json!({"type": "Metaspace"}),
                "a decoder that is not ByteLevel",
            ),
            (|f| f["decoder"] = Value::Null, "no decoder"),
        ];
        for (change, words) in refused {
            let found = changed(*change).expect_err(words);
            assert!(found.contains(words), "{words}: {found}");
        }
    }

    #[test]
    fn repetitions_of_repetitions_are_seen() {
        for pattern in [
            "(a+)+",
            "(?:x(?:a|[a-z ]+)+)*",
            "(a*){2,}",
            "((ab?)+c)*",
            "(\\(+)+",
            "([)]+)+",
            "([]a]+x)*",
            "(a{3,})+",
        ] {
            assert!(repeats_repetition(pattern), "{pattern}");
        }
        // Of Qwen2, GPT-4o and SmolLM2, and what only looks alike.
        for pattern in [
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}]*[\p{Ll}\p{M}]+(?i:'s|'t|'re)?|\p{N}{1,3}| ?[^\s\p{L}]+[\r\n/]*",
            r" ?\p{L}+| ?\p{N}+",
            "(a+)",
            "(ab)+",
            "(a+){1,3}",
            "(a+)?",
            r"(\+)+",
            "([+*]x)+",
            "a+b*",
            "(a{2,3})+",
            "",
        ] {
            assert!(!repeats_repetition(pattern), "{pattern}");
        }
    }

    #[test]
    fn bytes_and_letters_are_gpt2_s() {
        for (letter, byte) in [
            ('!', 33),
            ('~', 126),
            ('\u{100}', 0),
            ('\u{120}', 32),
            ('\u{10a}', 10),
            ('\u{143}', 0xAD),
            ('\u{ff}', 0xFF),
        ] {
            assert_eq!(byte_of(letter), Some(byte), "{letter}");
        }
        let mut bytes: Vec<u8> = ByteLevel::alphabet()
            .into_iter()
            .filter_map(byte_of)
            .collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!(missing_bytes(|_| true), Vec::<u8>::new());
        assert_eq!(missing_bytes(|letter| letter != "\u{100}"), [0]);
    }
}
