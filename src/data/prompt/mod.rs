//! Examples to prompts: chat template, tokens, pictures cut into patches, rotary positions.
//!
//! Everything is read from the model's own folder, in the hub's layout or transformers 5's, for Qwen2-VL and
//! Qwen2.5-VL. Knows nothing of weights, devices, rewards or where examples come from; keeps no cache.

mod chat_template;
mod error;
mod extent;
#[cfg(test)]
mod golden;
mod image_patches;
mod image_settings;
mod model_files;
mod options;
mod prompt_length;
mod resample;
mod rope_positions;
mod smart_resize;
mod special_tokens;
mod template_functions;
mod tokenizer;
mod tokenizer_check;
mod without_panic;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::picture::{self, ImageProblem};
use crate::record::{Example, ImagePatches, ImageSource, Message, Prompt};

use crate::data::model_folder::{ModelConfig, ModelFolder};

use chat_template::ChatTemplate;
use image_settings::ImageSettings;
use model_files::TokenizerConfig;
use prompt_length::PromptSize;
use tokenizer::PromptTokenizer;

pub use error::PromptError;
pub use extent::PromptExtent;
pub use options::PromptOptions;
pub use special_tokens::SpecialTokens;

/// Turns conversations with pictures into what the policy reads, and completions into tokens and back.
///
/// Shared between threads: encoding one example changes nothing.
#[derive(Debug)]
pub struct PromptEncoder {
    tokenizer: PromptTokenizer,
    template: ChatTemplate,
    images: ImageSettings,
    special: SpecialTokens,
    options: PromptOptions,
    /// Whether a prompt with many picture tokens was noted; one note says it for all.
    noted: AtomicBool,
}

/// Picture tokens of a prompt from which on a note says what they come from.
const MANY_IMAGE_TOKENS: usize = 2048;

impl PromptEncoder {
    /// Reads tokenizer.json, tokenizer_config.json, the chat template, the image processor's settings, config.json and
    /// generation_config.json of a model folder.
    ///
    /// # Errors
    /// A file that is missing, broken, of another kind of model, or that contradicts another one.
    pub fn open(model_dir: &Path, options: &PromptOptions) -> Result<Self, PromptError> {
        let folder = ModelFolder::open(model_dir)?;
        let config = ModelConfig::read(&folder)?;
        let settings = TokenizerConfig::open(&folder)?;
        let tokenizer = PromptTokenizer::open(&folder)?;
        let special = SpecialTokens::open(&folder, &tokenizer, &config, &settings)?;
        tokenizer.agree(&folder, &settings)?;
        let rows = config.text.vocab_size;
        if rows < tokenizer.size() {
            return Err(PromptError::TokenIdMismatch {
                path: folder.path("config.json"),
                key: "vocab_size".to_owned(),
                found: rows.to_string(),
                expected: format!("ids up to {}", tokenizer.size() - 1),
            });
        }
        Ok(Self {
            template: ChatTemplate::open(&folder, &settings)?,
            images: ImageSettings::open(&folder, &config, options)?,
            tokenizer,
            special,
            options: options.clone(),
            noted: AtomicBool::new(false),
        })
    }

    /// The example as the policy reads it, up to the place where its own turn begins.
    ///
    /// # Errors
    /// See [`Self::encode_conversation`].
    pub fn encode(&self, example: &Example) -> Result<Prompt, PromptError> {
        self.encode_conversation(&example.id, &example.messages, &example.images)
    }

    /// A conversation as the policy reads it; each image part takes the next of `images`.
    ///
    /// # Errors
    /// Placeholders and images that do not pair up, an image that cannot be used, a prompt that is too long, a template
    /// that refuses the conversation. Each message names the row.
    pub fn encode_conversation(
        &self,
        id: &str,
        messages: &[Message],
        images: &[ImageSource],
    ) -> Result<Prompt, PromptError> {
        let (rendered, ids, _) = self.measure(id, messages, images)?;
        let images = for_each_image(id, images, |image| self.encode_image(image))?;
        let grids: Vec<_> = images.iter().map(|image| self.merged_grid(image)).collect();
        let tokens = rope_positions::expand_placeholders(&ids, self.special.image_pad, &grids);
        Ok(Prompt {
            id: id.to_owned(),
            rendered,
            input_ids: tokens.input_ids,
            positions: tokens.positions,
            rope_delta: tokens.rope_delta,
            images,
        })
    }

    /// Tokens of the prompt that [`Self::encode`] makes of the example, if it will accept it as far as the headers of its
    /// pictures tell: none is decoded.
    ///
    /// # Errors
    /// See [`Self::encode_conversation`].
    pub fn check(&self, example: &Example) -> Result<usize, PromptError> {
        self.measure(&example.id, &example.messages, &example.images)
            .map(|(_, _, tokens)| tokens)
    }

    /// The rendered conversation, its ids with one placeholder a picture, and the tokens of the whole prompt, after
    /// everything that can be told without decoding a picture was checked.
    fn measure(
        &self,
        id: &str,
        messages: &[Message],
        images: &[ImageSource],
    ) -> Result<(String, Vec<u32>, usize), PromptError> {
        let rendered = self
            .template
            .render(messages)
            .map_err(|e| of_example(id, e))?;
        let ids = self.tokenizer.encode_prompt(&rendered);
        let ids = ids.map_err(|problem| of_example(id, problem))?;
        self.check_placeholders(id, &ids, images.len())?;
        let sizes = for_each_image(id, images, |image| {
            let header = picture::header(image)?;
            smart_resize::check_shape(header.height, header.width)?;
            Ok((header.height, header.width))
        })?;
        let size = PromptSize {
            text_tokens: ids.len() - images.len(),
            images: &sizes,
        };
        let tokens = prompt_length::check_length(id, &size, &self.images, &self.options)?;
        let image_tokens = tokens - size.text_tokens;
        if image_tokens > MANY_IMAGE_TOKENS && !self.noted.swap(true, Ordering::Relaxed) {
            let limit = self.images.max_pixels;
            log::info!(
                "example `{id}`: its pictures are {image_tokens} tokens of the prompt; `max_pixels`, here {limit}, makes them smaller"
            );
        }
        Ok((rendered, ids, tokens))
    }

    /// Tokens of a completion that was given as text. A control token spelled out in it stays plain characters, and no
    /// end token is added.
    ///
    /// # Errors
    /// [`PromptError::Unencodable`] for a text with a byte that the vocabulary lacks.
    pub fn encode_completion(&self, text: &str) -> Result<Vec<u32>, PromptError> {
        self.tokenizer.encode_literal(text)
    }

    /// Text of tokens; ids that the tokenizer does not know give nothing.
    #[must_use]
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> String {
        self.tokenizer.decode(ids, skip_special_tokens)
    }

    /// Tokens with a meaning of their own.
    #[must_use]
    pub fn special(&self) -> &SpecialTokens {
        &self.special
    }

    /// [V] which ids the policy must never sample: picture markers, which only prompts hold, and ids without a token.
    #[must_use]
    pub fn suppressed_tokens(&self, vocabulary_size: usize) -> Vec<bool> {
        let mut suppressed: Vec<bool> = (0..vocabulary_size)
            .map(|id| !self.tokenizer.knows(id))
            .collect();
        for id in self.special.vision_tokens() {
            if let Some(entry) = suppressed.get_mut(id as usize) {
                *entry = true;
            }
        }
        suppressed
    }

    fn check_placeholders(&self, id: &str, ids: &[u32], images: usize) -> Result<(), PromptError> {
        let count = |token| ids.iter().filter(|&&id| id == token).count();
        let (placeholders, videos) = (count(self.special.image_pad), count(self.special.video_pad));
        let id = id.to_owned();
        if videos > 0 {
            return Err(PromptError::VideoPlaceholder {
                id,
                placeholders: videos,
            });
        }
        if placeholders != images {
            return Err(PromptError::PlaceholderCount {
                id,
                placeholders,
                images,
            });
        }
        if ids.is_empty() {
            return Err(PromptError::EmptyPrompt { id });
        }
        Ok(())
    }

    /// One picture as patches. Those so large that several at once would fill the memory wait for one another, in a thread
    /// of their own: a thread that waited here for a lock could be the one that holds it, since it does other work of its
    /// pool meanwhile.
    fn encode_image(&self, source: &ImageSource) -> Result<Arc<ImagePatches>, ImageProblem> {
        static LARGE: LazyLock<Option<ThreadPool>> =
            LazyLock::new(|| ThreadPoolBuilder::new().num_threads(1).build().ok());
        match LARGE
            .as_ref()
            .filter(|_| picture::header(source).is_ok_and(|header| header.is_large()))
        {
            Some(alone) => alone.install(|| self.cut_image(source)),
            None => self.cut_image(source),
        }
    }

    fn cut_image(&self, source: &ImageSource) -> Result<Arc<ImagePatches>, ImageProblem> {
        let image = picture::decode(source)?;
        let size = (image.height, image.width);
        let [_, rows, columns] =
            prompt_length::merged_grid(size, &self.images, self.images.max_pixels)?;
        let factor = self.images.factor();
        let image = resample::resize(image, columns * factor, rows * factor);
        Ok(Arc::new(image_patches::cut_patches(&image, &self.images)))
    }

    fn merged_grid(&self, image: &ImagePatches) -> [usize; 3] {
        let [frames, rows, columns] = image.grid;
        let merge = self.images.merge_size;
        [frames, rows / merge, columns / merge]
    }
}

/// Applies `work` to every picture, in parallel, and says of which row and picture a failure is.
fn for_each_image<T: Send>(
    id: &str,
    images: &[ImageSource],
    work: impl Fn(&ImageSource) -> Result<T, ImageProblem> + Send + Sync,
) -> Result<Vec<T>, PromptError> {
    let total = images.len();
    let results: Vec<Result<T, ImageProblem>> = images.par_iter().map(work).collect();
    let numbered = images.iter().zip(results).enumerate();
    numbered
        .map(|(index, (source, result))| {
            result.map_err(|problem| {
                let path = picture::place(source);
                let place = format!("image {} of {total} ({path})", index + 1);
                of_example(id, PromptError::Image { place, problem })
            })
        })
        .collect()
}

fn of_example(id: &str, problem: PromptError) -> PromptError {
    PromptError::Example {
        id: id.to_owned(),
        problem: Box::new(problem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ContentPart;

    fn encoder(options: &PromptOptions) -> PromptEncoder {
        PromptEncoder::open(&golden::path("qwen2vl-tiny"), options).expect("an encoder")
    }

    fn question(images: usize, text: &str) -> Vec<Message> {
        let mut content = vec![ContentPart::Image; images];
        content.push(ContentPart::Text {
            text: text.to_owned(),
        });
        vec![Message {
            role: "user".to_owned(),
            content,
        }]
    }

    fn circles() -> ImageSource {
        ImageSource::Path(golden::path("images/circles.png"))
    }

    fn message(messages: &[Message], images: &[ImageSource]) -> String {
        let encoder = encoder(&PromptOptions::default());
        let result = encoder.encode_conversation("train-7", messages, images);
        result.expect_err("unusable").to_string()
    }

    #[test]
    fn the_encoder_is_shared_between_threads() {
        fn shared<T: Send + Sync>(_: &T) {}
        shared(&encoder(&PromptOptions::default()));
    }

    #[test]
    fn placeholders_and_images_must_pair_up() {
        let text = message(&question(2, "?"), &[circles()]);
        let expected = "example `train-7`: the prompt has 2 image placeholder(s), the row has 1 image(s)\nhint: ";
        assert!(text.starts_with(expected), "{text}");
        let text = message(&question(0, "?"), &[circles()]);
        assert!(
            text.contains("0 image placeholder(s), the row has 1 image(s)"),
            "{text}"
        );
        let text = message(&question(1, "what is <|image_pad|>?"), &[circles()]);
        assert!(
            text.contains("2 image placeholder(s), the row has 1 image(s)"),
            "{text}"
        );
        let text = message(&question(0, "<|video_pad|>"), &[]);
        assert!(text.contains("1 video placeholder(s)"), "{text}");
    }

    #[test]
    fn an_unusable_image_is_named_with_its_row_and_number() {
        let absent = ImageSource::Path("no/such.png".into());
        let text = message(&question(2, "?"), &[circles(), absent]);
        let expected =
            "example `train-7`: image 2 of 2 (no/such.png): the image file does not exist\nhint: ";
        assert!(text.starts_with(expected), "{text}");
        let empty = ImageSource::Bytes(Arc::from([]));
        let text = message(&question(1, "?"), &[empty]);
        assert!(
            text.contains("image 1 of 1 (image of 0 bytes in the row): the image has 0 bytes"),
            "{text}"
        );
    }

    #[test]
    fn a_prompt_that_is_too_long_is_refused_before_its_images_are_decoded() {
        let options = PromptOptions {
            max_prompt_length: Some(20),
            ..PromptOptions::default()
        };
        // Its header and its end are there, decoding it would fail.
        let mut bytes = std::fs::read(golden::path("images/photo.png")).expect("a file");
        let middle = bytes.len() / 2;
        bytes[middle..middle + 9].fill(0);
        let broken = ImageSource::Bytes(Arc::from(bytes));
        let result = encoder(&options).encode_conversation("r", &question(1, "?"), &[broken]);
        let text = result.expect_err("too long").to_string();
        assert!(text.contains("more than max_prompt_length 20"), "{text}");
    }

    #[test]
    fn the_length_told_from_headers_is_that_of_the_prompt() {
        let encoder = encoder(&PromptOptions::default());
        for images in 0..3 {
            let names = ["circles.png", "photo.png", "jpeg.jpg"];
            let images: Vec<_> = names[..images]
                .iter()
                .map(|name| ImageSource::Path(golden::path("images").join(name)))
                .collect();
            let messages = question(images.len(), "How many?");
            let (_, _, tokens) = encoder.measure("r", &messages, &images).expect("fits");
            let prompt = encoder.encode_conversation("r", &messages, &images);
            assert_eq!(tokens, prompt.expect("a prompt").input_ids.len());
        }
    }

    #[test]
    fn smaller_max_pixels_make_shorter_prompts() {
        let images = [ImageSource::Path(golden::path("images/photo.png"))];
        let tokens = |max_pixels| {
            let options = PromptOptions {
                max_pixels,
                ..PromptOptions::default()
            };
            let prompt = encoder(&options).encode_conversation("r", &question(1, "?"), &images);
            let prompt = prompt.expect("a prompt");
            let pad = encoder(&options).special().image_pad;
            prompt.input_ids.iter().filter(|&&id| id == pad).count()
        };
        assert_eq!(tokens(None), 12);
        assert_eq!(tokens(Some(4 * 28 * 28)), 2);
    }

    #[test]
    fn suppressed_are_vision_tokens_and_the_unassigned_tail() {
        let suppressed = encoder(&PromptOptions::default()).suppressed_tokens(928);
        let ids: Vec<usize> = (0..928).filter(|&id| suppressed[id]).collect();
        let expected: Vec<usize> = (905..928).collect();
        assert_eq!(ids, expected);
    }

    #[test]
    fn a_folder_that_is_not_whole_names_the_file() {
        for file in ["config.json", "tokenizer.json", "preprocessor_config.json"] {
            let folder = golden::copy_of("qwen2vl-tiny");
            std::fs::remove_file(folder.path().join(file)).expect("removed");
            let error = PromptEncoder::open(folder.path(), &PromptOptions::default());
            let text = error.expect_err("not whole").to_string();
            assert!(
                text.contains(&format!("{file}: not found; expected ")),
                "{text}"
            );
            assert!(text.contains("\nhint: copy "), "{text}");
        }
    }

    #[test]
    fn an_empty_prompt_is_refused() {
        let folder = golden::copy_of("qwen2vl-tiny");
        std::fs::write(folder.path().join("chat_template.jinja"), "{# nothing #}").expect("a file");
        let encoder = PromptEncoder::open(folder.path(), &PromptOptions::default());
        let result = encoder
            .expect("an encoder")
            .encode_conversation("r", &[], &[]);
        let text = result.expect_err("empty").to_string();
        assert!(
            text.contains("example `r`: the chat template rendered an empty prompt"),
            "{text}"
        );
    }

    #[test]
    fn a_vocabulary_smaller_than_the_tokenizer_is_refused() {
        let folder = golden::copy_of("qwen2vl-tiny");
        golden::edit(&folder, "config.json", |file| {
            file["vocab_size"] = 909.into()
        });
        let error = PromptEncoder::open(folder.path(), &PromptOptions::default());
        let text = error.expect_err("too small").to_string();
        assert!(
            text.contains("`vocab_size` is 909, but the tokenizer has ids up to 909"),
            "{text}"
        );
    }
}
