//! `external` becomes teachers.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{frozen_model, open_encoder, picture_folder};
use crate::actions::generator::{Generate, GenerateError, Sampled, SamplingParameters};
use crate::actions::teacher::endpoint::{
    Budget, EndpointOptions, EndpointTeacher, Patience, RecordFile, RecordMode,
};
use crate::actions::teacher::{
    ColumnTeacher, LoadModel, LocalOptions, LocalTeacher, NeededLogprobs, RecordedOptions,
    RecordedTeacher, Roster, Teacher,
};
use crate::config::{Endpoint, External, ExternalSource, Local, Run};
use crate::device::OpenDevice;
use crate::json_lines;
use crate::model::Qwen2Vl;
use crate::model::config::ModelConfig;
use crate::model::open::ModelPlace;
use crate::options::{ExternalImagePaths, ExternalRatio, WeightFormat, WeightLevel};
use crate::record::{Example, Prompt};
use crate::run::stop::STOP;

/// The external models of the run, ready to act. Entries that name one folder share its weights.
///
/// # Errors
/// If a file, folder or endpoint does not serve, or a recorded file lacks an example of the data set.
pub fn roster(run: &Run, open: &OpenDevice, examples: &[Arc<Example>]) -> Result<Roster> {
    let mut shared = Shared::new(run)?;
    let mut teachers = Vec::new();
    for external in &run.group.external {
        teachers.push(teacher_with(
            run,
            external,
            examples,
            &|| Ok(open.clone()),
            &mut shared,
        )?);
    }
    Ok(Roster::new(teachers)?.needing(needed_logprobs(run)))
}

/// What importance weights need to know of an action; other ways of learning need nothing.
fn needed_logprobs(run: &Run) -> NeededLogprobs {
    let group = &run.group;
    match (group.external_ratio, group.external_is_level) {
        (ExternalRatio::Is, WeightLevel::Token) => NeededLogprobs::OfTokens,
        (ExternalRatio::Is | ExternalRatio::Snis, _) => NeededLogprobs::OfText,
        _ => NeededLogprobs::None,
    }
}

/// One external model by itself; `open` gives the device, if it needs one.
///
/// # Errors
/// As [`roster`].
pub fn teacher_of(
    run: &Run,
    external: &External,
    examples: &[Arc<Example>],
    open: &dyn Fn() -> Result<OpenDevice>,
) -> Result<Box<dyn Teacher>> {
    teacher_with(run, external, examples, open, &mut Shared::new(run)?)
}

/// What the external models of a run have in common.
struct Shared {
    /// Only runs with an endpoint keep a record.
    record: Option<Arc<RecordFile>>,
    folders: LocalFolders,
}

impl Shared {
    fn new(run: &Run) -> Result<Self> {
        let is_endpoint =
            |external: &External| matches!(external.source, ExternalSource::Endpoint(_));
        let has_endpoint = run.group.external.iter().any(is_endpoint);
        Ok(Self {
            record: has_endpoint.then(|| record_file(run)).transpose()?,
            folders: LocalFolders::default(),
        })
    }
}

fn teacher_with(
    run: &Run,
    external: &External,
    examples: &[Arc<Example>],
    open: &dyn Fn() -> Result<OpenDevice>,
    shared: &mut Shared,
) -> Result<Box<dyn Teacher>> {
    let (name, num_actions) = (external.name.clone(), external.num_actions);
    Ok(match &external.source {
        ExternalSource::Recorded { path } => {
            let path = path.clone();
            let teacher = RecordedTeacher::open(RecordedOptions {
                name,
                path,
                num_actions,
            })?;
            teacher.check(examples)?;
            Box::new(teacher)
        }
        ExternalSource::Column { column } => {
            let teacher = ColumnTeacher::new(&name, column, num_actions);
            teacher.check(examples)?;
            Box::new(teacher)
        }
        ExternalSource::Endpoint(endpoint) => {
            let record = shared
                .record
                .clone()
                .expect("a run with an endpoint has a record");
            Box::new(endpoint_teacher(run, external, endpoint, record, None)?)
        }
        ExternalSource::Local(local) => Box::new(local_teacher(
            run,
            &open()?,
            external,
            local,
            &mut shared.folders,
        )?),
    })
}

/// The record of endpoint answers: `external_cache`, or `external_cache.jsonl` in `output_dir`.
///
/// # Errors
/// If it cannot be opened, or a line is no entry.
pub fn record_file(run: &Run) -> Result<Arc<RecordFile>> {
    let mode = run.group.external_cache_mode;
    let path = super::external_cache(run);
    if let (Some(folder), false) = (path.parent(), mode == RecordMode::Replay) {
        std::fs::create_dir_all(folder).with_context(|| {
            format!(
                "{}: cannot be created\nhint: check `external_cache`",
                folder.display()
            )
        })?;
    }
    Ok(Arc::new(RecordFile::open(Some(&path), mode)?))
}

/// An entry with a `base_url`; `max_cost` takes the place of its own.
///
/// # Errors
/// If a value cannot be used, or the key is not in the environment.
pub fn endpoint_teacher(
    run: &Run,
    external: &External,
    endpoint: &Endpoint,
    record: Arc<RecordFile>,
    max_cost: Option<f64>,
) -> Result<EndpointTeacher> {
    let template = endpoint.prompt_template.as_ref().map(|path| {
        json_lines::read_text(path).with_context(|| {
            format!(
                "{}: cannot be read\nhint: check `prompt_template` of `{}` in `external`",
                path.display(),
                external.name
            )
        })
    });
    let options = EndpointOptions {
        api_key_env: endpoint.api_key_env.clone(),
        num_actions: external.num_actions,
        temperature: Some(endpoint.temperature),
        // 1 is what servers do without it, and some refuse the key.
        top_p: (endpoint.top_p < 1.0).then_some(endpoint.top_p),
        max_tokens: endpoint.max_tokens,
        seed: Some(endpoint.seed.unwrap_or(run.runtime.seed)),
        logprobs: endpoint.logprobs,
        reasoning: endpoint.reasoning,
        prompt_template: template.transpose()?,
        max_pixels: run.data.max_pixels.unwrap_or(EndpointOptions::MAX_PIXELS),
        image_folder: sendable_images(run)?,
        patience: Patience {
            timeout: Duration::try_from_secs_f64(endpoint.timeout_s).unwrap_or(Duration::MAX),
            max_retries: endpoint.max_retries,
            max_consecutive_failures: endpoint.max_consecutive_failures,
            ..Patience::default()
        },
        budget: Budget {
            max_concurrency: endpoint.max_concurrency,
            requests_per_minute: endpoint.requests_per_minute,
            price_per_million_input_tokens: endpoint.price_per_million_input_tokens,
            price_per_million_output_tokens: endpoint.price_per_million_output_tokens,
            max_cost: max_cost.or(endpoint.max_cost),
        },
        on_teacher_failure: endpoint.on_teacher_failure,
        stop: Some(&STOP),
        ..EndpointOptions::new(&external.name, &endpoint.base_url, &endpoint.model)
    };
    Ok(EndpointTeacher::open(options, record)?)
}

/// The folder whose pictures an endpoint may be sent; `None` = any file that a row names.
fn sendable_images(run: &Run) -> Result<Option<PathBuf>> {
    match run.group.external_image_paths {
        ExternalImagePaths::Any => Ok(None),
        ExternalImagePaths::Inside => picture_folder(run).map(Some),
    }
}

/// The models of local teachers by folder and how they are held, shared while any teacher has them in memory.
type LocalFolders = Rc<RefCell<Vec<(PathBuf, WeightFormat, Weak<Qwen2Vl>)>>>;

fn local_teacher(
    run: &Run,
    open: &OpenDevice,
    external: &External,
    local: &Local,
    folders: &mut LocalFolders,
) -> Result<LocalTeacher> {
    let folder = local.model_name_or_path.clone();
    refuse_the_policy(run, external, &folder)?;
    let place = ModelPlace::of(&folder)?;
    let config = ModelConfig::open(&place.base)?;
    let encoder = open_encoder(run, &place.base, config.text.max_position_embeddings)?;
    let suppressed = encoder.suppressed_tokens(config.text.vocab_size);
    let options = LocalOptions {
        name: external.name.clone(),
        num_actions: external.num_actions,
        parameters: SamplingParameters {
            temperature: local.temperature as f32,
            top_k: local.top_k,
            top_p: local.top_p as f32,
            min_p: 0.0,
            repetition_penalty: 1.0,
            max_new_tokens: local.max_tokens.min(run.sampling.max_completion_length),
            // Importance weights need the probability with which it was drawn; greedy decoding has none.
            logprob_temperature: if local.temperature > 0.0 {
                local.temperature as f32
            } else {
                1.0
            },
            end_tokens: encoder.special().end_tokens.clone(),
            suppressed: Some(suppressed.into()),
            generation_rows: run.sampling.generation_rows,
            seed: run.runtime.seed,
        },
        unload_between_phases: run.group.unload_between_phases,
    };
    let (open, format) = (open.clone(), local.format);
    let (folders, name) = (Rc::clone(folders), external.name.clone());
    let load: LoadModel = Box::new(move || {
        let mut known = folders.borrow_mut();
        known.retain(|(.., model)| model.strong_count() > 0);
        let mut same = known
            .iter()
            .filter(|(path, held, _)| *path == folder && *held == format);
        if let Some(model) = same.find_map(|(.., model)| model.upgrade()) {
            return Ok(Box::new(SharedModel(model)));
        }
        let (model, weights) = frozen_model(&place, format, &open)?;
        let megabytes = weights.bytes() as f64 / 1e6;
        log::debug!("external source `{name}`: {megabytes:.1} MB of weights on the device");
        let model = Rc::new(model);
        known.push((folder.clone(), format, Rc::downgrade(&model)));
        Ok(Box::new(SharedModel(model)))
    });
    Ok(LocalTeacher::open(options, load, encoder)?)
}

/// An external model cannot be the policy in training, whatever links lead to its folder.
fn refuse_the_policy(run: &Run, external: &External, folder: &Path) -> Result<()> {
    let output = &run.output.output_dir;
    if let (Ok(real), Ok(output)) = (folder.canonicalize(), output.canonicalize()) {
        ensure!(
            !real.starts_with(&output),
            "`external`: \"{}\" is {}, a folder of `output_dir`: an external model cannot be the policy in training\nhint: \
             copy the checkpoint elsewhere, or use another model",
            external.name,
            real.display()
        );
    }
    Ok(())
}

/// A model that other teachers of the same folder use too.
struct SharedModel(Rc<Qwen2Vl>);

impl Generate for SharedModel {
    fn generate(
        &self,
        prompts: &[Arc<Prompt>],
        count: usize,
        parameters: &SamplingParameters,
    ) -> Result<Vec<Vec<Sampled>>, GenerateError> {
        self.0.generate(prompts, count, parameters)
    }
}
