//! How large prompts are, from the headers of their pictures alone.
//!
//! Knows nothing of what the sizes are good for.

use super::error::PromptError;
use super::{PromptEncoder, for_each_image, of_example, prompt_length};
use crate::picture;
use crate::record::Example;

/// Sizes of one prompt, or of the largest in each respect of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PromptExtent {
    /// Tokens, those of pictures included.
    pub tokens: usize,
    /// Pictures.
    pub pictures: usize,
    /// Patches of the largest picture, before they are merged.
    pub picture_patches: usize,
}

impl PromptExtent {
    /// The larger of both in each respect.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.max(other.tokens),
            pictures: self.pictures.max(other.pictures),
            picture_patches: self.picture_patches.max(other.picture_patches),
        }
    }
}

impl PromptEncoder {
    /// The size of an example's prompt.
    ///
    /// # Errors
    /// A template that refuses the conversation, or a picture whose header cannot be read.
    pub fn extent(&self, example: &Example) -> Result<PromptExtent, PromptError> {
        let id = &example.id;
        let rendered = self.template.render(&example.messages);
        let rendered = rendered.map_err(|problem| of_example(id, problem))?;
        let ids = self.tokenizer.encode_prompt(&rendered);
        let text_tokens = ids.map_err(|problem| of_example(id, problem))?.len();
        let tokens_of = for_each_image(id, &example.images, |image| {
            let header = picture::header(image)?;
            let size = (header.height, header.width);
            let limit = self.images.max_pixels;
            let grid = prompt_length::merged_grid(size, &self.images, limit)?;
            Ok(grid.iter().product::<usize>())
        })?;
        let largest = tokens_of.iter().copied().max().unwrap_or(0);
        let pictures = tokens_of.len();
        Ok(PromptExtent {
            // Each picture's placeholder is one of the text's tokens.
            tokens: text_tokens.saturating_sub(pictures) + tokens_of.iter().sum::<usize>(),
            pictures,
            picture_patches: largest * self.images.merge_size * self.images.merge_size,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{PromptOptions, golden};
    use super::*;
    use crate::record::{ContentPart, ImageSource, Message};

    /// What the header says is what the encoded prompt has.
    #[test]
    fn the_extent_is_that_of_the_encoded_prompt() {
        let encoder = PromptEncoder::open(&golden::path("qwen2vl-tiny"), &PromptOptions::default())
            .expect("an encoder");
        let mut largest = PromptExtent::default();
        for pictures in [&[][..], &["circles.png"], &["photo.png", "circles.png"]] {
            let images: Vec<ImageSource> = pictures
                .iter()
                .map(|name| ImageSource::Path(golden::path("images").join(name)))
                .collect();
            let mut content = vec![ContentPart::Image; images.len()];
            content.push(ContentPart::Text {
                text: "How many?".to_owned(),
            });
            let example = Example {
                id: "a".to_owned(),
                task: None,
                messages: vec![Message {
                    role: "user".to_owned(),
                    content,
                }],
                images,
                solution: String::new(),
                cot: None,
                target: None,
                columns: serde_json::Map::new(),
                origin: "rows.jsonl:1".to_owned(),
            };
            let prompt = encoder.encode(&example).expect("usable");
            let patches = prompt
                .images
                .iter()
                .map(|image| image.grid.iter().product());
            let found = encoder.extent(&example).expect("usable");
            let expected = PromptExtent {
                tokens: prompt.input_ids.len(),
                pictures: pictures.len(),
                picture_patches: patches.max().unwrap_or(0),
            };
            assert_eq!(found, expected, "{pictures:?}");
            largest = largest.max(found);
        }
        assert_eq!(largest.pictures, 2);
    }
}
