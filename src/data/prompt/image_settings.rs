//! The image processor's settings: patch sizes, area limits and normalisation, read from the model folder.
//!
//! Knows nothing of pixels that are being processed; it only refuses settings that nobody downstream implements.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::PromptOptions;
use super::error::PromptError;
use super::model_files::{ModelConfig, ModelFolder};

const PREPROCESSOR: &str = "preprocessor_config.json";
const PROCESSOR: &str = "processor_config.json";
const EXPECTED: &str = "the settings of a Qwen2-VL image processor";
const RESTORE: &str = "restore the file from the model's original folder";
/// Pillow's number for bicubic.
const BICUBIC: u64 = 3;
const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const CLIP_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// How pictures become patches.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ImageSettings {
    /// Pixels per side of a patch.
    pub(super) patch_size: usize,
    /// Patches per side of a block that becomes one token.
    pub(super) merge_size: usize,
    /// Frames per patch.
    pub(super) temporal_patch_size: usize,
    /// Least area after resizing, in pixels.
    pub(super) min_pixels: usize,
    /// Largest area after resizing, in pixels.
    pub(super) max_pixels: usize,
    /// What each 8-bit level of red, green and blue becomes.
    pub(super) normalised: [[f32; 256]; 3],
}

/// The file's keys; an absent one takes the default of transformers' `Qwen2VLImageProcessor`.
#[derive(Debug, Deserialize)]
struct ProcessorFile {
    image_processor_type: Option<String>,
    patch_size: Option<usize>,
    merge_size: Option<usize>,
    temporal_patch_size: Option<usize>,
    min_pixels: Option<usize>,
    max_pixels: Option<usize>,
    size: Option<SizeFile>,
    do_resize: Option<bool>,
    resample: Option<u64>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
}

#[derive(Debug, Default, Deserialize)]
struct SizeFile {
    #[serde(alias = "min_pixels")]
    shortest_edge: Option<usize>,
    #[serde(alias = "max_pixels")]
    longest_edge: Option<usize>,
}

impl ImageSettings {
    /// Reads `image_processor` of processor_config.json, else preprocessor_config.json, as transformers 5 does; area
    /// limits of `options` win.
    ///
    /// # Errors
    /// A missing or broken file, a setting that is not implemented, one that contradicts config.json.
    pub(super) fn open(
        folder: &ModelFolder,
        config: &ModelConfig,
        options: &PromptOptions,
    ) -> Result<Self, PromptError> {
        let (path, value) = processor_value(folder)?;
        let file: ProcessorFile =
            serde_json::from_value(value).map_err(|error| PromptError::BrokenFile {
                path: path.clone(),
                expected: EXPECTED,
                found: error.to_string(),
                hint: RESTORE,
            })?;
        refuse_other_processors(&path, &file)?;
        let size = file.size.as_ref();
        let from_size = |edge: fn(&SizeFile) -> Option<usize>| size.and_then(edge);
        let settings = Self {
            patch_size: file.patch_size.unwrap_or(14),
            merge_size: file.merge_size.unwrap_or(2),
            temporal_patch_size: file.temporal_patch_size.unwrap_or(2),
            min_pixels: (options.min_pixels)
                .or(file.min_pixels)
                .or(from_size(|size| size.shortest_edge))
                .unwrap_or(56 * 56),
            max_pixels: (options.max_pixels)
                .or(file.max_pixels)
                .or(from_size(|size| size.longest_edge))
                .unwrap_or(28 * 28 * 1280),
            normalised: normalisation(&path, &file)?,
        };
        settings.check_sizes(&path, config)?;
        Ok(settings)
    }

    /// Pixels per side of the area that becomes one token.
    pub(super) fn factor(&self) -> usize {
        self.patch_size * self.merge_size
    }

    fn check_sizes(&self, path: &Path, config: &ModelConfig) -> Result<(), PromptError> {
        let vision = &config.vision_config;
        let sizes = [
            ("patch_size", self.patch_size, vision.patch_size),
            ("merge_size", self.merge_size, vision.spatial_merge_size),
            (
                "temporal_patch_size",
                self.temporal_patch_size,
                vision.temporal_patch_size,
            ),
        ];
        for (key, found, of_model) in sizes {
            let expected = match of_model {
                Some(size) if size != found => {
                    format!("{size}, as vision_config in config.json says")
                }
                _ if found == 0 => "at least 1".to_owned(),
                _ => continue,
            };
            return Err(setting(path, key, found.to_string(), expected, RESTORE));
        }
        if self.min_pixels > self.max_pixels {
            let expected = format!("at most max_pixels, {}", self.max_pixels);
            let hint = "lower min_pixels or raise max_pixels";
            return Err(setting(
                path,
                "min_pixels",
                self.min_pixels.to_string(),
                expected,
                hint,
            ));
        }
        Ok(())
    }
}

/// The object with the image processor's settings, and the file it is in.
fn processor_value(folder: &ModelFolder) -> Result<(PathBuf, Value), PromptError> {
    if let Some(mut processor) = folder.optional_json::<Value>(PROCESSOR, EXPECTED)?
        && let Some(nested) = processor.get_mut("image_processor")
    {
        return Ok((folder.path(PROCESSOR), nested.take()));
    }
    let hint = "copy preprocessor_config.json (or transformers 5's processor_config.json) from the model's original folder";
    let value = folder.required_json(PREPROCESSOR, EXPECTED, hint)?;
    Ok((folder.path(PREPROCESSOR), value))
}

fn refuse_other_processors(path: &Path, file: &ProcessorFile) -> Result<(), PromptError> {
    let hint = "use a Qwen2-VL or Qwen2.5-VL folder with its own processor files";
    if let Some(kind) = &file.image_processor_type
        && !kind.starts_with("Qwen2")
    {
        let expected = "Qwen2VLImageProcessor".to_owned();
        return Err(setting(
            path,
            "image_processor_type",
            kind.clone(),
            expected,
            hint,
        ));
    }
    if file.do_resize == Some(false) {
        return Err(setting(
            path,
            "do_resize",
            "false".to_owned(),
            "true".to_owned(),
            hint,
        ));
    }
    match file.resample {
        Some(filter) if filter != BICUBIC => {
            let expected = format!("{BICUBIC} (bicubic)");
            Err(setting(
                path,
                "resample",
                filter.to_string(),
                expected,
                hint,
            ))
        }
        _ => Ok(()),
    }
}

/// What each level becomes: rescaling is folded into mean and deviation, in f32, as transformers' torchvision backend
/// does it (`_fuse_mean_std_and_rescale_factor`).
fn normalisation(path: &Path, file: &ProcessorFile) -> Result<[[f32; 256]; 3], PromptError> {
    let rescale = file.do_rescale.unwrap_or(true);
    let normalise = file.do_normalize.unwrap_or(true);
    let factor = file.rescale_factor.unwrap_or(1.0 / 255.0);
    let mean = file.image_mean.unwrap_or(CLIP_MEAN);
    let deviation = file.image_std.unwrap_or(CLIP_STD);
    let scale = if rescale { (1.0 / factor) as f32 } else { 1.0 };
    let table = std::array::from_fn(|channel| {
        std::array::from_fn(|level| {
            let level = level as f32;
            match (normalise, rescale) {
                (true, _) => (level - mean[channel] * scale) / (deviation[channel] * scale),
                (false, true) => level * factor as f32,
                (false, false) => level,
            }
        })
    });
    let values: &[[f32; 256]; 3] = &table;
    if values.iter().flatten().all(|value| value.is_finite()) {
        return Ok(table);
    }
    let found = format!("{deviation:?} with rescale_factor {factor}");
    Err(setting(
        path,
        "image_std",
        found,
        "values that keep pixels finite".to_owned(),
        RESTORE,
    ))
}

fn setting(
    path: &Path,
    key: &'static str,
    found: String,
    expected: String,
    hint: &'static str,
) -> PromptError {
    PromptError::ProcessorSetting {
        path: path.to_owned(),
        key,
        found,
        expected,
        hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::prompt::golden;

    fn opened(preprocessor: &str, options: &PromptOptions) -> Result<ImageSettings, PromptError> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(PREPROCESSOR), preprocessor).expect("a file");
        let folder = ModelFolder::open(folder.path())?;
        ImageSettings::open(&folder, &ModelConfig::default(), options)
    }

    fn message(preprocessor: &str) -> String {
        let result = opened(preprocessor, &PromptOptions::default());
        result.expect_err("a bad setting").to_string()
    }

    #[test]
    fn the_hub_layout_and_the_one_of_transformers_5_agree() {
        let hub = golden::image_settings("qwen2vl-tiny");
        assert_eq!((hub.min_pixels, hub.max_pixels), (3136, 12544));
        assert_eq!(hub, golden::image_settings("qwen2vl-tiny-v5-sharded-bf16"));
        assert_eq!(hub, golden::image_settings("qwen25vl-tiny"));
    }

    #[test]
    fn absent_keys_take_the_processor_s_defaults_and_options_win() {
        let settings = opened("{}", &PromptOptions::default()).expect("defaults");
        assert_eq!(
            (settings.min_pixels, settings.max_pixels),
            (3136, 1_003_520)
        );
        assert_eq!(settings.factor(), 28);
        let options = PromptOptions {
            max_pixels: Some(6272),
            ..PromptOptions::default()
        };
        let settings = opened(
            r#"{"size": {"min_pixels": 784, "max_pixels": 99999}}"#,
            &options,
        );
        let settings = settings.expect("older names");
        assert_eq!((settings.min_pixels, settings.max_pixels), (784, 6272));
    }

    #[test]
    fn unimplemented_settings_are_named() {
        let text = message(r#"{"resample": 1}"#);
        assert!(
            text.contains(
                "preprocessor_config.json: `resample` is 1; expected 3 (bicubic)\nhint: "
            ),
            "{text}"
        );
        let text = message(r#"{"do_resize": false}"#);
        assert!(text.contains("`do_resize` is false"), "{text}");
        let text = message(r#"{"image_processor_type": "SmolVLMImageProcessor"}"#);
        assert!(
            text.contains("`image_processor_type` is SmolVLMImageProcessor"),
            "{text}"
        );
    }

    #[test]
    fn senseless_settings_are_named() {
        let text = message(r#"{"min_pixels": 9000, "max_pixels": 5000}"#);
        assert!(
            text.contains(
                "`min_pixels` is 9000; expected at most max_pixels, 5000\nhint: lower min_pixels"
            ),
            "{text}"
        );
        let text = message(r#"{"patch_size": 0}"#);
        assert!(
            text.contains("`patch_size` is 0; expected at least 1"),
            "{text}"
        );
        let text = message(r#"{"image_std": [1, 0, 1]}"#);
        assert!(text.contains("`image_std` is [1.0, 0.0, 1.0]"), "{text}");
    }

    #[test]
    fn missing_and_broken_files_are_named() {
        let text = message("{\"patch_size\": \"big\"}");
        assert!(
            text.contains("preprocessor_config.json: expected the settings"),
            "{text}"
        );
        assert!(text.contains("\"big\""), "{text}");
        let text = message("{");
        assert!(
            text.contains("preprocessor_config.json: expected the settings"),
            "{text}"
        );
        let folder = tempfile::tempdir().expect("a folder");
        let folder = ModelFolder::open(folder.path()).expect("an empty folder");
        let result =
            ImageSettings::open(&folder, &ModelConfig::default(), &PromptOptions::default());
        let text = result.expect_err("no file").to_string();
        assert!(
            text.contains("preprocessor_config.json: not found"),
            "{text}"
        );
    }

    #[test]
    fn levels_without_normalisation_are_only_rescaled() {
        let settings = opened(r#"{"do_normalize": false}"#, &PromptOptions::default());
        let table = settings.expect("settings").normalised;
        assert!((table[0][255] - 1.0).abs() < 1e-6);
        let settings = opened(
            r#"{"do_rescale": false, "do_normalize": false}"#,
            &PromptOptions::default(),
        );
        assert_eq!(settings.expect("settings").normalised[2][200], 200.0);
    }
}
