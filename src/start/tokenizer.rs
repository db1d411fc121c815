//! The text side of a small Qwen2-VL folder: a byte-level BPE trained on given texts, the chat template, and the
//! picture and generation settings, in the files and forms of the published checkpoints. It knows no weights.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tokenizers::Tokenizer;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use crate::system::files::{self, Existing};

/// Qwen2's rule of where words end: digits one by one, letters with one leading character.
const WORD: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Qwen2-VL's special tokens in the order of their ids, after all learned tokens.
const SPECIAL_TOKENS: [&str; 14] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
];

/// Single bytes, which every text can be written in.
const BYTES: usize = 256;

/// The ids a model configuration needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenizerIds {
    /// Ids in all, special tokens included.
    pub vocabulary: usize,
    /// `<|endoftext|>`, also the padding.
    pub end_of_text: u32,
    /// `<|im_end|>`, the end of a turn.
    pub turn_end: u32,
    /// `<|vision_start|>`.
    pub vision_start: u32,
    /// `<|vision_end|>`.
    pub vision_end: u32,
    /// `<|vision_pad|>`.
    pub vision_pad: u32,
    /// `<|image_pad|>`.
    pub image_pad: u32,
    /// `<|video_pad|>`.
    pub video_pad: u32,
}

/// Why the files were not written.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// Fewer ids asked for than bytes and special tokens need.
    #[error(
        "a vocabulary of {found} ids, expected at least {least}\nhint: 256 single bytes and 14 special tokens are always in it"
    )]
    Vocabulary {
        /// Ids asked for.
        found: usize,
        /// Ids that are always there.
        least: usize,
    },
    /// The tokenizer library refuses.
    #[error(
        "the tokenizer cannot be trained: {0}\nhint: this is a fault of the program; please report it"
    )]
    Library(String),
    /// A file cannot be written.
    #[error("{}: cannot write: {source}\nhint: the folder must be writable and the disk not full", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Trains a tokenizer on `texts` (prompts, reasoning and answers, without chat marks) and writes
/// `tokenizer.json`, `tokenizer_config.json`, `vocab.json`, `merges.txt`, `chat_template.json`,
/// `preprocessor_config.json` and `generation_config.json`.
///
/// `system_turn` comes first where a conversation has no system turn. The result has at most `vocabulary` ids, fewer if every word of the texts is one token before that; it
/// depends on nothing but the arguments.
///
/// # Errors
/// `vocabulary` is too small, or a file cannot be written.
pub fn write_tokenizer(
    dir: &Path,
    vocabulary: usize,
    texts: &[String],
    system_turn: &str,
) -> Result<TokenizerIds, TokenizerError> {
    let least = BYTES + SPECIAL_TOKENS.len();
    if vocabulary < least {
        return Err(TokenizerError::Vocabulary {
            found: vocabulary,
            least,
        });
    }
    let (vocab, merges) = train(vocabulary - SPECIAL_TOKENS.len(), texts, system_turn)?;
    let first_special = vocab.len();
    fs::create_dir_all(dir).map_err(|source| TokenizerError::Write {
        path: dir.into(),
        source,
    })?;
    let lines: String = merges.iter().map(|merge| format!("{merge}\n")).collect();
    write(dir, "merges.txt", format!("#version: 0.2\n{lines}"))?;
    for (name, content) in [
        ("tokenizer.json", tokenizer_json(&vocab, &merges)),
        (
            "tokenizer_config.json",
            tokenizer_config(first_special, system_turn),
        ),
        ("vocab.json", Value::Object(vocab)),
        (
            "chat_template.json",
            json!({ "chat_template": chat_template(system_turn) }),
        ),
        ("preprocessor_config.json", preprocessor_config()),
        ("generation_config.json", generation_config(first_special)),
    ] {
        write(dir, name, format!("{content:#}\n"))?;
    }
    Ok(TokenizerIds {
        vocabulary: first_special + SPECIAL_TOKENS.len(),
        end_of_text: special_id(first_special, "<|endoftext|>"),
        turn_end: special_id(first_special, "<|im_end|>"),
        vision_start: special_id(first_special, "<|vision_start|>"),
        vision_end: special_id(first_special, "<|vision_end|>"),
        vision_pad: special_id(first_special, "<|vision_pad|>"),
        image_pad: special_id(first_special, "<|image_pad|>"),
        video_pad: special_id(first_special, "<|video_pad|>"),
    })
}

fn write(dir: &Path, name: &str, content: String) -> Result<(), TokenizerError> {
    let path = dir.join(name);
    files::write(&path, content, Existing::Replace)
        .map_err(|source| TokenizerError::Write { path, source })
}

fn special_id(first_special: usize, token: &str) -> u32 {
    let index = SPECIAL_TOKENS
        .iter()
        .position(|special| *special == token)
        .expect("the token is in the table");
    (first_special + index) as u32
}

/// Learned tokens with their ids (bytes first, as GPT-2 orders them, then merges) and the merges, `"a b"`.
fn train(
    size: usize,
    texts: &[String],
    system_turn: &str,
) -> Result<(Map<String, Value>, Vec<String>), TokenizerError> {
    let library = |error: &dyn std::fmt::Display| TokenizerError::Library(error.to_string());
    let empty = tokenizer_json(&Map::new(), &[]).to_string();
    let mut tokenizer: Tokenizer = empty
        .parse()
        .map_err(|error: tokenizers::Error| library(&error))?;
    let trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(size)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let chat = [
        format!("system\n{system_turn}"),
        "user\n".into(),
        "assistant\n".into(),
    ];
    let sequences = texts.iter().chain(&chat).map(String::as_str);
    tokenizer
        .train(&mut TrainerWrapper::from(trainer), sequences)
        .map_err(|error| library(&error))?;
    let mut model = serde_json::to_value(tokenizer.get_model()).map_err(|error| library(&error))?;
    let Value::Object(vocab) = model["vocab"].take() else {
        return Err(library(&"the model has no vocabulary"));
    };
    let merges = model["merges"].as_array().into_iter().flatten();
    let joined = |pair: &Value| {
        Some(format!(
            "{} {}",
            pair.get(0)?.as_str()?,
            pair.get(1)?.as_str()?
        ))
    };
    Ok((vocab, merges.filter_map(joined).collect()))
}

fn tokenizer_json(vocab: &Map<String, Value>, merges: &[String]) -> Value {
    // Before training there is nothing for the special tokens to come after.
    let special: &[&str] = if vocab.is_empty() {
        &[]
    } else {
        &SPECIAL_TOKENS
    };
    let added: Vec<_> = special
        .iter()
        .enumerate()
        .map(|(index, token)| {
            json!({"id": vocab.len() + index, "content": token, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    let byte_level = |add_prefix_space: bool, trim_offsets: bool, use_regex: bool| {
        json!({"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": trim_offsets,
               "use_regex": use_regex})
    };
    let split = json!({"type": "Split", "pattern": {"Regex": WORD}, "behavior": "Isolated", "invert": false});
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level(false, true, false)]},
        "post_processor": byte_level(false, false, false),
        "decoder": byte_level(true, true, true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges,
        },
    })
}

fn tokenizer_config(first_special: usize, system_turn: &str) -> Value {
    let content = |token: &str| {
        json!({"content": token, "lstrip": false, "normalized": false, "rstrip": false, "single_word": false,
               "special": true})
    };
    let added: Map<_, _> = SPECIAL_TOKENS
        .iter()
        .enumerate()
        .map(|(index, token)| ((first_special + index).to_string(), content(token)))
        .collect();
    json!({
        "add_prefix_space": false,
        "added_tokens_decoder": added,
        "additional_special_tokens": SPECIAL_TOKENS[1..],
        "bos_token": null,
        "chat_template": chat_template(system_turn),
        "clean_up_tokenization_spaces": false,
        "eos_token": "<|im_end|>",
        "padding_side": "left",
        "errors": "replace",
        "model_max_length": 32768,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": false,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": null,
    })
}

/// Qwen2-VL's turns: a system turn of our own unless there is one, and each picture's place between its marks.
fn chat_template(system_turn: &str) -> String {
    let system = format!("{{{{ {} }}}}", Value::from(system_turn));
    [
        "{% if messages[0]['role'] != 'system' %}<|im_start|>system\n",
        &system,
        "<|im_end|>\n{% endif %}{% for message in messages %}<|im_start|>{{ message['role'] }}\n",
        "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}",
        "{% if part['type'] == 'image' or 'image' in part or 'image_url' in part %}",
        "<|vision_start|><|image_pad|><|vision_end|>",
        "{% elif part['type'] == 'video' or 'video' in part %}<|vision_start|><|video_pad|><|vision_end|>",
        "{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}",
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    ]
    .concat()
}

/// Qwen2-VL's pictures: CLIP's mean and deviation, 14-pixel patches merged 2 x 2, 4 to 512 merged patches.
fn preprocessor_config() -> Value {
    json!({
        "min_pixels": 3136,
        "max_pixels": 401_408,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.481_454_66, 0.457_827_5, 0.408_210_73],
        "image_std": [0.268_629_54, 0.261_302_58, 0.275_777_11],
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2VLProcessor",
    })
}

fn generation_config(first_special: usize) -> Value {
    let [end_of_text, turn_end] =
        ["<|endoftext|>", "<|im_end|>"].map(|token| special_id(first_special, token));
    json!({
        "bos_token_id": end_of_text,
        "pad_token_id": end_of_text,
        "do_sample": true,
        "eos_token_id": [turn_end, end_of_text],
        "repetition_penalty": 1.0,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Vec<String> {
        let colors = ["red", "blue", "green", "yellow"];
        let one = |color| {
            [
                format!("How many {color} objects are there?"),
                format!(
                    "<think>\nred blue {color} {color}: 2 {color}\n</think>\n<answer>\n2\n</answer>"
                ),
            ]
        };
        colors.into_iter().flat_map(one).collect()
    }

    fn written(vocabulary: usize) -> (tempfile::TempDir, TokenizerIds, Tokenizer) {
        let folder = tempfile::tempdir().unwrap();
        let ids = write_tokenizer(
            folder.path(),
            vocabulary,
            &texts(),
            "You {% count %} \"objects\".",
        )
        .unwrap();
        let tokenizer = Tokenizer::from_file(folder.path().join("tokenizer.json")).unwrap();
        (folder, ids, tokenizer)
    }

    fn read(dir: &Path, name: &str) -> Value {
        serde_json::from_slice(&fs::read(dir.join(name)).unwrap()).unwrap()
    }

    #[test]
    fn words_become_single_tokens_and_bytes_stay_possible() {
        let (_folder, ids, tokenizer) = written(600);
        let tokens = |text: &str| tokenizer.encode(text, false).unwrap().get_tokens().to_vec();
        let question = ["How", "Ġmany", "Ġblue", "Ġobjects", "Ġare", "Ġthere", "?"];
        assert_eq!(tokens("How many blue objects are there?"), question);
        assert_eq!(
            tokens("<think>\nred blue: 2 red\n</think>"),
            [
                "<think", ">Ċ", "red", "Ġblue", ":", "Ġ", "2", "Ġred", "Ċ", "</", "think", ">"
            ]
        );
        assert!(
            ids.vocabulary < 600,
            "every word was one token before the limit: {ids:?}"
        );
        for text in [
            "naïve 猫 🐈\t\u{0}\n\n x",
            "Ångström",
            "<|im_start|>user\nred<|im_end|>",
        ] {
            let encoding = tokenizer.encode(text, false).unwrap();
            assert_eq!(tokenizer.decode(encoding.get_ids(), false).unwrap(), text);
        }
    }

    #[test]
    fn special_tokens_come_last_and_match_the_settings() {
        let (folder, ids, tokenizer) = written(300);
        assert_eq!((ids.vocabulary, tokenizer.get_vocab_size(true)), (300, 300));
        assert_eq!(
            (ids.end_of_text, ids.turn_end, ids.video_pad),
            (286, 288, 299)
        );
        for (token, id) in [
            ("<|image_pad|>", ids.image_pad),
            ("<|vision_start|>", ids.vision_start),
        ] {
            assert_eq!(tokenizer.token_to_id(token), Some(id));
            assert_eq!(tokenizer.encode(token, false).unwrap().get_ids(), [id]);
        }
        let generation = read(folder.path(), "generation_config.json");
        assert_eq!(
            generation["eos_token_id"],
            json!([ids.turn_end, ids.end_of_text])
        );
        let config = read(folder.path(), "tokenizer_config.json");
        assert_eq!(
            config["added_tokens_decoder"]["298"]["content"],
            "<|image_pad|>"
        );
        assert_eq!(
            config["chat_template"],
            read(folder.path(), "chat_template.json")["chat_template"]
        );
    }

    #[test]
    fn the_files_have_the_published_form() {
        let (folder, ids, _) = written(400);
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/public/qwen2vl-tiny");
        let (ours, published) = (
            read(folder.path(), "tokenizer.json"),
            read(&golden, "tokenizer.json"),
        );
        for part in [
            "normalizer",
            "pre_tokenizer",
            "decoder",
            "post_processor",
            "truncation",
            "padding",
            "version",
        ] {
            assert_eq!(ours[part], published[part], "{part}");
        }
        let keys = |value: &Value| {
            value
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(keys(&ours["model"]), keys(&published["model"]));
        assert!(
            ours["model"]["merges"][0].is_string() && published["model"]["merges"][0].is_string()
        );
        for (index, token) in published["added_tokens"]
            .as_array()
            .unwrap()
            .iter()
            .enumerate()
        {
            assert_eq!(ours["added_tokens"][index]["content"], token["content"]);
        }
        for name in [
            "tokenizer_config.json",
            "preprocessor_config.json",
            "chat_template.json",
        ] {
            assert_eq!(
                keys(&read(folder.path(), name)),
                keys(&read(&golden, name)),
                "{name}"
            );
        }
        let bytes = |vocab: Value| {
            (0..256)
                .map(|id| {
                    vocab
                        .as_object()
                        .unwrap()
                        .iter()
                        .find(|(_, value)| **value == id)
                        .unwrap()
                        .0
                        .clone()
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(
            bytes(read(folder.path(), "vocab.json")),
            bytes(read(&golden, "vocab.json"))
        );
        let merges = fs::read_to_string(folder.path().join("merges.txt")).unwrap();
        assert_eq!(merges.lines().count() - 1, ids.vocabulary - 256 - 14);
    }

    #[test]
    fn the_same_texts_give_the_same_files() {
        let ((first, ..), (second, ..)) = (written(420), written(420));
        for entry in fs::read_dir(first.path()).unwrap() {
            let name = entry.unwrap().file_name();
            assert_eq!(
                fs::read(first.path().join(&name)).unwrap(),
                fs::read(second.path().join(&name)).unwrap()
            );
        }
        assert_eq!(fs::read_dir(first.path()).unwrap().count(), 7);
    }

    #[test]
    fn too_small_a_vocabulary_is_refused() {
        let text = write_tokenizer(Path::new("unused"), 269, &[], "")
            .unwrap_err()
            .to_string();
        assert!(
            text.starts_with("a vocabulary of 269 ids, expected at least 270\nhint: "),
            "{text}"
        );
    }
}
