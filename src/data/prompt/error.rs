//! What can be wrong with a model folder, a picture or a prompt, in words that name the place and a remedy.
//!
//! Knows nothing of how the files are read or the pictures are cut.

use std::path::PathBuf;

use crate::data::model_folder::ModelFileError;
use crate::picture::ImageProblem;

/// An example that cannot become a prompt, or a model folder that cannot make prompts.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// A file of the model folder that is absent, broken, or says what cannot be.
    #[error(transparent)]
    File(#[from] ModelFileError),
    /// The tokenizer lacks one of the tokens that mark pictures.
    #[error(
        "{}: the tokenizer has no token `{token}`, which marks pictures in a Qwen2-VL prompt\n\
         hint: take tokenizer.json from a Qwen2-VL or Qwen2.5-VL folder; text-only Qwen2 folders lack the vision tokens",
        path.display()
    )]
    MissingToken {
        /// The tokenizer's file.
        path: PathBuf,
        /// The token's text.
        token: &'static str,
    },
    /// `config.json` and `tokenizer.json` disagree.
    #[error(
        "{}: `{key}` is {found}, but the tokenizer has {expected}\n\
         hint: this file and tokenizer.json come from different models; copy both from the same folder",
        path.display()
    )]
    TokenIdMismatch {
        /// `config.json` or `generation_config.json`.
        path: PathBuf,
        /// The key in it.
        key: String,
        /// Its value.
        found: String,
        /// What the tokenizer has.
        expected: String,
    },
    /// The chat template does not compile.
    #[error("{}: the chat template is not valid Jinja: {reason}\nhint: restore the file from the model's original folder", path.display())]
    BrokenTemplate {
        /// The file that holds it.
        path: PathBuf,
        /// The engine's words, with the line.
        reason: String,
    },
    /// The chat template refused the conversation.
    #[error(
        "{}: the chat template failed: {reason}\n\
         hint: check the roles and their order in the row; some templates accept only user and assistant in turn",
        path.display()
    )]
    TemplateFailed {
        /// The file that holds the template.
        path: PathBuf,
        /// The engine's words, with the line.
        reason: String,
    },
    /// A text that this tokenizer cannot say.
    #[error("{}: a text cannot be encoded: {reason}\nhint: leave the row out, or change its text", path.display())]
    Unencodable {
        /// tokenizer.json.
        path: PathBuf,
        /// The missing byte, or the tokenizers crate's words.
        reason: String,
    },
    /// Something about one row; the inner error says what.
    #[error("example `{id}`: {problem}")]
    Example {
        /// The row's id.
        id: String,
        /// What is wrong with it.
        problem: Box<PromptError>,
    },
    /// Placeholders and pictures do not pair up.
    #[error(
        "example `{id}`: the prompt has {placeholders} image placeholder(s), the row has {images} image(s)\n\
         hint: give one image per image part, in the same order; a literal `<|image_pad|>` in the text counts as a placeholder too"
    )]
    PlaceholderCount {
        /// The row's id.
        id: String,
        /// `<|image_pad|>` tokens in the rendered prompt.
        placeholders: usize,
        /// Pictures of the row.
        images: usize,
    },
    /// The text holds a placeholder for a video.
    #[error(
        "example `{id}`: the prompt has {placeholders} video placeholder(s), but rows carry images only\n\
         hint: remove `<|video_pad|>` from the text, or give frames as images"
    )]
    VideoPlaceholder {
        /// The row's id.
        id: String,
        /// `<|video_pad|>` tokens in the rendered prompt.
        placeholders: usize,
    },
    /// Nothing to read.
    #[error(
        "example `{id}`: the chat template rendered an empty prompt\nhint: give the row at least one message with text or an image"
    )]
    EmptyPrompt {
        /// The row's id.
        id: String,
    },
    /// The prompt exceeds a length limit; it is never cut.
    #[error(
        "example `{id}`: the prompt has {tokens} tokens ({image_tokens} of them for images), more than {limit}\nhint: {hint}"
    )]
    PromptTooLong {
        /// The row's id.
        id: String,
        /// Tokens of the whole prompt.
        tokens: usize,
        /// Those that stand for pictures.
        image_tokens: usize,
        /// Which limit, and its value.
        limit: String,
        /// The remedy, with numbers.
        hint: String,
    },
    /// A picture that cannot be used.
    #[error("{place}: {problem}")]
    Image {
        /// Where it is: `image 2 of 3 (/data/a.png)`.
        place: String,
        /// What is wrong with it.
        problem: ImageProblem,
    },
}
