//! The image processor's settings: patch sizes, area limits and normalisation, read from the model folder.
//!
//! Absent keys have the defaults of transformers' `Qwen2VLImageProcessor`. Knows nothing of pixels that are being
//! processed; it refuses settings that nobody downstream implements, and sources that disagree.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::PromptOptions;
use super::error::PromptError;
use crate::data::model_folder::{ModelConfig, ModelFileError, ModelFolder, Section, kind_of};
use crate::record::ImagePatches;

const PREPROCESSOR: &str = "preprocessor_config.json";
const PROCESSOR: &str = "processor_config.json";
const EXPECTED: &str = "the settings of a Qwen2-VL image processor";
/// Keys of the two area limits, and their names inside `size`, the newer one first.
const MIN: (&str, [&str; 2]) = ("min_pixels", ["shortest_edge", "min_pixels"]);
const MAX: (&str, [&str; 2]) = ("max_pixels", ["longest_edge", "max_pixels"]);

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

/// One file's settings as they stand in it.
struct Source {
    path: PathBuf,
    prefix: &'static str,
    map: Map<String, Value>,
}

/// What transformers fills in where a key is absent or null.
fn defaults() -> &'static Map<String, Value> {
    static DEFAULTS: LazyLock<Map<String, Value>> = LazyLock::new(|| {
        let defaults = json!({
            "patch_size": 14,
            "merge_size": 2,
            "temporal_patch_size": 2,
            "do_resize": true,
            "resample": 3,
            "do_rescale": true,
            "rescale_factor": 1.0 / 255.0,
            "do_normalize": true,
            "image_mean": [0.481_454_66, 0.457_827_5, 0.408_210_73],
            "image_std": [0.268_629_54, 0.261_302_58, 0.275_777_11],
            "shortest_edge": 56 * 56,
            "longest_edge": 28 * 28 * 1280,
        });
        defaults.as_object().cloned().unwrap_or_default()
    });
    &DEFAULTS
}

impl ImageSettings {
    /// Reads `image_processor` of processor_config.json, else preprocessor_config.json, as transformers 5 does; area
    /// limits of `options` win.
    ///
    /// # Errors
    /// [`PromptError::File`]: a missing or broken file, a setting that is not implemented or makes no sense, two that
    /// disagree, one that contradicts config.json.
    pub(super) fn open(
        folder: &ModelFolder,
        config: &ModelConfig,
        options: &PromptOptions,
    ) -> Result<Self, PromptError> {
        let sources = sources(folder)?;
        let read = |source: &Source| {
            source
                .section()
                .and_then(|section| read(&section, config, options))
        };
        let settings = read(&sources[0])?;
        if let Some(other) = sources.get(1) {
            let found = read(other)?;
            settings.agree(&sources[0].path, &found, &other.path)?;
        }
        Ok(settings)
    }

    /// Pixels per side of the area that becomes one token.
    pub(super) fn factor(&self) -> usize {
        self.patch_size * self.merge_size
    }

    /// Two files of one folder must say the same: older programs read the one, newer ones the other.
    fn agree(&self, path: &Path, other: &Self, other_path: &Path) -> Result<(), ModelFileError> {
        let numbers = [
            ("min_pixels", self.min_pixels, other.min_pixels),
            ("max_pixels", self.max_pixels, other.max_pixels),
        ];
        let differs = numbers.iter().find(|(_, own, found)| own != found);
        let (key, own, found) = match differs {
            Some((key, own, found)) => (*key, own.to_string(), found.to_string()),
            None if self.normalised != other.normalised => {
                let words = |table: &[[f32; 256]; 3]| {
                    format!(
                        "such that black becomes {:?}",
                        table.map(|levels| levels[0])
                    )
                };
                (
                    "image_mean",
                    words(&self.normalised),
                    words(&other.normalised),
                )
            }
            None => return Ok(()),
        };
        Err(ModelFileError::Key {
            path: other_path.to_owned(),
            key: key.to_owned(),
            found,
            expected: format!("{own}, as {} says", path.display()),
            hint: "transformers 5 reads processor_config.json, older ones preprocessor_config.json; make both say the same, or remove one".to_owned(),
        })
    }
}

impl Source {
    fn section(&self) -> Result<Section<'_>, ModelFileError> {
        Ok(Section {
            path: &self.path,
            prefix: self.prefix.to_owned(),
            map: &self.map,
            defaults: defaults(),
        })
    }
}

/// The files with the image processor's settings, the one that counts first.
fn sources(folder: &ModelFolder) -> Result<Vec<Source>, ModelFileError> {
    let processor = folder.json::<Value>(PROCESSOR, EXPECTED)?;
    let nested = processor.and_then(|mut file| Some(file.get_mut("image_processor")?.take()));
    let flat = folder.json::<Value>(PREPROCESSOR, EXPECTED)?;
    let both = [
        (nested, PROCESSOR, "image_processor."),
        (flat, PREPROCESSOR, ""),
    ];
    let mut sources = Vec::new();
    for (value, name, prefix) in both {
        let Some(value) = value else { continue };
        let path = folder.path(name);
        let Value::Object(mut map) = value else {
            return Err(ModelFileError::broken(
                &path,
                EXPECTED,
                kind_of(&value).to_owned(),
            ));
        };
        // transformers takes null for absent.
        map.retain(|_, value| !value.is_null());
        sources.push(Source { path, prefix, map });
    }
    if sources.is_empty() {
        return Err(ModelFileError::Missing {
            path: folder.path(PREPROCESSOR),
            expected: EXPECTED,
            hint: "copy preprocessor_config.json (or transformers 5's processor_config.json) from the model's original folder".to_owned(),
        });
    }
    Ok(sources)
}

fn read(
    section: &Section<'_>,
    config: &ModelConfig,
    options: &PromptOptions,
) -> Result<ImageSettings, ModelFileError> {
    refuse_other_processors(section)?;
    let vision = &config.vision;
    let of_model = |key: &str, size: usize| match section.size(key, 1..=256)? {
        found if found == size => Ok(size),
        _ => Err(section.wrong(key, format!("{size}, as vision_config in config.json says"))),
    };
    let settings = ImageSettings {
        patch_size: of_model("patch_size", vision.patch_size)?,
        merge_size: of_model("merge_size", vision.spatial_merge_size)?,
        temporal_patch_size: of_model("temporal_patch_size", vision.temporal_patch_size)?,
        min_pixels: area(
            section,
            MIN,
            options.min_pixels,
            ImagePatches::MOST_MIN_PIXELS,
        )?,
        max_pixels: area(
            section,
            MAX,
            options.max_pixels,
            ImagePatches::MOST_MAX_PIXELS,
        )?,
        normalised: normalisation(section)?,
    };
    if settings.min_pixels <= settings.max_pixels {
        return Ok(settings);
    }
    let by = |own: Option<usize>| if own.is_some() { " by the run" } else { "" };
    Err(ModelFileError::Key {
        path: section.path.to_owned(),
        key: "min_pixels".to_owned(),
        found: format!("{}{}", settings.min_pixels, by(options.min_pixels)),
        expected: format!(
            "at most `max_pixels`, {}{}",
            settings.max_pixels,
            by(options.max_pixels)
        ),
        hint: "lower `min_pixels` or raise `max_pixels`".to_owned(),
    })
}

/// One of the two area limits: the run's, else the file's, which may hold it under up to three names.
///
/// Source: `Qwen2VLImageProcessor.__init__`: a key beside `size` wins over the one inside it. Where they disagree,
/// different programs would read different limits, so that is refused.
fn area(
    section: &Section<'_>,
    (key, inside): (&'static str, [&'static str; 2]),
    of_run: Option<usize>,
    most: usize,
) -> Result<usize, ModelFileError> {
    if let Some(limit) = of_run {
        return Ok(limit);
    }
    let empty = Map::new();
    let size = match section.written("size") {
        None => &empty,
        Some(Value::Object(map)) => map,
        Some(_) => {
            return Err(section.wrong(
                "size",
                "an object with shortest_edge and longest_edge".to_owned(),
            ));
        }
    };
    let known = |name: &str| MIN.1.contains(&name) || MAX.1.contains(&name);
    if let Some(name) = size.keys().find(|name| !known(name)) {
        let expected =
            "no such key: the sides follow from the picture and the area limits".to_owned();
        return Err(section.wrong(&format!("size.{}", name.escape_debug()), expected));
    }
    let inner = Section {
        path: section.path,
        prefix: format!("{}size.", section.prefix),
        map: size,
        defaults: defaults(),
    };
    let mut found: Vec<(String, usize)> = Vec::new();
    if section.written(key).is_some() {
        found.push((
            format!("{}{key}", section.prefix),
            section.size(key, 1..=most)?,
        ));
    }
    for name in inside {
        if inner.written(name).is_some_and(|value| !value.is_null()) {
            found.push((
                format!("{}{name}", inner.prefix),
                inner.size(name, 1..=most)?,
            ));
        }
    }
    match found.as_slice() {
        [] if size.is_empty() => inner.size(inside[0], 1..=most),
        [] => Err(section.wrong("size", format!("an object that holds `{}` too", inside[0]))),
        [(name, limit), rest @ ..] => match rest.iter().find(|(_, other)| other != limit) {
            None => Ok(*limit),
            Some((other_name, other)) => Err(ModelFileError::Key {
                path: section.path.to_owned(),
                key: other_name.clone(),
                found: other.to_string(),
                expected: format!("{limit}, as `{name}` says"),
                hint: format!(
                    "two keys set one limit; remove the wrong one, or set `{key}` for the run"
                ),
            }),
        },
    }
}

fn refuse_other_processors(section: &Section<'_>) -> Result<(), ModelFileError> {
    let hint = "use a Qwen2-VL or Qwen2.5-VL folder with its own processor files";
    if let Some(kind) = section.written("image_processor_type")
        && !kind.as_str().is_some_and(|kind| kind.starts_with("Qwen2"))
    {
        let expected = "Qwen2VLImageProcessor".to_owned();
        return Err(section.refused("image_processor_type", expected, hint));
    }
    if !section.flag("do_resize")? {
        return Err(section.refused("do_resize", "true".to_owned(), hint));
    }
    // Pillow's number for bicubic.
    if section.value("resample").as_f64() != Some(3.0) {
        return Err(section.refused("resample", "3 (bicubic)".to_owned(), hint));
    }
    Ok(())
}

/// What each level becomes: rescaling is folded into mean and deviation, in f32, as transformers' torchvision backend
/// does it (`_fuse_mean_std_and_rescale_factor`).
fn normalisation(section: &Section<'_>) -> Result<[[f32; 256]; 3], ModelFileError> {
    let (rescale, normalise) = (section.flag("do_rescale")?, section.flag("do_normalize")?);
    let factor = section.number_above("rescale_factor", 0.0, 1e6)?;
    let mean = channels(section, "image_mean", -1e6)?;
    let deviation = channels(section, "image_std", 0.0)?;
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
    match values.iter().flatten().all(|value| value.is_finite()) {
        true => Ok(table),
        false => Err(section.wrong("image_std", "values that keep pixels finite".to_owned())),
    }
}

/// One number for each of red, green and blue, or one for all.
fn channels(section: &Section<'_>, key: &str, above: f64) -> Result<[f32; 3], ModelFileError> {
    let number = |value: &Value| {
        value
            .as_f64()
            .filter(|number| *number > above && *number <= 1e6)
    };
    let found = match section.value(key) {
        Value::Array(list) => {
            let numbers: Option<Vec<f32>> = list
                .iter()
                .map(|value| Some(number(value)? as f32))
                .collect();
            numbers.and_then(|numbers| numbers.try_into().ok())
        }
        value => number(value).map(|number| [number as f32; 3]),
    };
    found.ok_or_else(|| section.wrong(key, format!("three numbers above {above}, at most 1000000")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::prompt::golden;

    fn config() -> ModelConfig {
        ModelConfig::open(&golden::path("qwen2vl-tiny")).expect("a configuration")
    }

    fn opened(preprocessor: &str, options: &PromptOptions) -> Result<ImageSettings, PromptError> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(PREPROCESSOR), preprocessor).expect("a file");
        let folder = ModelFolder::open(folder.path())?;
        ImageSettings::open(&folder, &config(), options)
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
            text.contains("`image_processor_type` is \"SmolVLMImageProcessor\""),
            "{text}"
        );
    }

    #[test]
    fn senseless_settings_are_named() {
        for (file, words) in [
            (
                r#"{"min_pixels": 9000, "max_pixels": 5000}"#,
                "`min_pixels` is 9000; expected at most `max_pixels`, 5000\nhint: lower",
            ),
            (
                r#"{"patch_size": 0}"#,
                "`patch_size` is 0; expected a whole number from 1 to 256",
            ),
            (
                r#"{"patch_size": 9223372036854775808}"#,
                "`patch_size` is 9223372036854775808; expected a whole",
            ),
            (
                r#"{"merge_size": 3}"#,
                "`merge_size` is 3; expected 2, as vision_config in config.json says",
            ),
            (
                r#"{"temporal_patch_size": 1.5}"#,
                "`temporal_patch_size` is 1.5",
            ),
            (
                r#"{"image_std": [1, 0, 1]}"#,
                "`image_std` is [1,0,1]; expected three numbers above 0",
            ),
            (r#"{"image_std": -1}"#, "`image_std` is -1"),
            (r#"{"image_std": [1, 1]}"#, "`image_std` is [1,1]"),
            (
                r#"{"image_std": 1e-44}"#,
                "expected values that keep pixels finite",
            ),
            (r#"{"image_mean": "clip"}"#, "`image_mean` is \"clip\""),
            (
                r#"{"rescale_factor": 0}"#,
                "`rescale_factor` is 0; expected a number above 0",
            ),
            (
                r#"{"do_rescale": "yes"}"#,
                "`do_rescale` is \"yes\"; expected true or false",
            ),
            (
                r#"{"min_pixels": 1000000000000000000}"#,
                "`min_pixels` is 1000000000000000000; expected a whole number from 1 to 16777216",
            ),
            (
                r#"{"size": {"shortest_edge": 4, "longest_edge": 1e12}}"#,
                "`size.longest_edge` is 1000000000000.0; expected a whole",
            ),
            (r#"{"size": {"height": 4, "width": 4}}"#, "`size.height` is"),
            (
                r#"{"size": {"longest_edge": 4000}}"#,
                "`size` is {\"longest_edge\":4000}; expected an object that holds `shortest_edge` too",
            ),
            (r#"{"size": 448}"#, "`size` is 448; expected an object"),
            (
                r#"{"patch_size": 14, "patch_size": 14}"#,
                "the key `patch_size` stands twice",
            ),
            (
                "[]",
                "expected the settings of a Qwen2-VL image processor, found a list",
            ),
        ] {
            let text = message(file);
            assert!(text.contains(words), "{file}: {text}");
            assert!(
                text.contains("preprocessor_config.json: ") && text.contains("\nhint: "),
                "{text}"
            );
        }
    }

    #[test]
    fn several_names_of_one_limit_must_agree() {
        let limits = |file: &str| {
            opened(file, &PromptOptions::default())
                .map(|found| (found.min_pixels, found.max_pixels))
        };
        for file in [
            r#"{"size": {"longest_edge": 12544, "shortest_edge": 3136, "min_pixels": 3136, "max_pixels": 12544}}"#,
            r#"{"size": {"longest_edge": 12544, "shortest_edge": 3136}, "min_pixels": 3136, "max_pixels": 12544}"#,
            r#"{"size": {"longest_edge": 12544, "min_pixels": 3136}, "max_pixels": null}"#,
            r#"{"max_pixels": 12544}"#,
            r#"{"size": {"longest_edge": 12544}, "min_pixels": 3136}"#,
        ] {
            assert_eq!(limits(file).expect("agreeing"), (3136, 12_544), "{file}");
        }
        for (file, words) in [
            (
                r#"{"size": {"longest_edge": 12544, "shortest_edge": 3136}, "max_pixels": 1000}"#,
                "`size.longest_edge` is 12544; expected 1000, as `max_pixels` says",
            ),
            (
                r#"{"size": {"longest_edge": 12544, "shortest_edge": 3136, "min_pixels": 1}}"#,
                "`size.min_pixels` is 1; expected 3136, as `size.shortest_edge` says",
            ),
        ] {
            let text = message(file);
            assert!(text.contains(words), "{text}");
            // A run that sets the limits itself is not stopped by what it does not use.
            let options = PromptOptions {
                min_pixels: Some(10),
                max_pixels: Some(20),
                ..PromptOptions::default()
            };
            let settings = opened(file, &options).expect("the run's");
            assert_eq!((settings.min_pixels, settings.max_pixels), (10, 20));
        }
        let options = PromptOptions {
            max_pixels: Some(100),
            ..PromptOptions::default()
        };
        let text = opened("{}", &options)
            .expect_err("below the file's least")
            .to_string();
        assert!(
            text.contains("`min_pixels` is 3136; expected at most `max_pixels`, 100 by the run"),
            "{text}"
        );
    }

    #[test]
    fn two_files_of_a_folder_must_agree() {
        let folder = golden::copy_of("qwen25vl-tiny");
        let open = || {
            let opened = ModelFolder::open(folder.path())?;
            let config = ModelConfig::read(&opened)?;
            ImageSettings::open(&opened, &config, &PromptOptions::default())
        };
        open().expect("the recorded files agree");
        golden::edit(&folder, PREPROCESSOR, |file| {
            file["size"]["longest_edge"] = 99_999.into()
        });
        let text = open().expect_err("two limits").to_string();
        assert!(
            text.contains("preprocessor_config.json: `max_pixels` is 99999; expected 12544, as "),
            "{text}"
        );
        assert!(text.contains("processor_config.json says"), "{text}");
        golden::edit(&folder, PREPROCESSOR, |file| {
            file["size"]["longest_edge"] = 12_544.into();
            file["image_std"] = 0.5.into();
        });
        let text = open().expect_err("two deviations").to_string();
        assert!(
            text.contains("`image_mean` is such that black becomes"),
            "{text}"
        );
    }

    #[test]
    fn one_number_stands_for_three_channels() {
        let one = opened(
            r#"{"image_mean": 0.5, "image_std": 0.25}"#,
            &PromptOptions::default(),
        );
        let three = opened(
            r#"{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}"#,
            &PromptOptions::default(),
        );
        assert_eq!(one.expect("read"), three.expect("read"));
    }

    #[test]
    fn missing_and_broken_files_are_named() {
        let text = message("{\"patch_size\": \"big\"}");
        assert!(
            text.contains(
                "preprocessor_config.json: `patch_size` is \"big\"; expected a whole number"
            ),
            "{text}"
        );
        let text = message("{");
        assert!(
            text.contains("preprocessor_config.json: expected the settings"),
            "{text}"
        );
        let folder = tempfile::tempdir().expect("a folder");
        let folder = ModelFolder::open(folder.path()).expect("an empty folder");
        let result = ImageSettings::open(&folder, &config(), &PromptOptions::default());
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
