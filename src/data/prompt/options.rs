//! What the run decides about prompts.
//!
//! Knows nothing of the model folder, which decides the rest.

/// What the run decides about prompts; `None` leaves it to the model's files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PromptOptions {
    /// Least area of a picture after resizing, in pixels.
    pub min_pixels: Option<usize>,
    /// Largest area of a picture after resizing, in pixels.
    pub max_pixels: Option<usize>,
    /// Most tokens of a prompt; longer ones are refused, never cut.
    pub max_prompt_length: Option<usize>,
    /// Most tokens that the model can read, prompt and completion together.
    pub context_length: Option<usize>,
    /// Most tokens of a completion, which must find room in the context.
    pub max_completion_length: usize,
}
