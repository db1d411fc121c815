//! A device that stops answering becomes an error that says what was running.
//!
//! Burn reports a failed launch where its result is read: as an error, or as a panic of its own or of the graphics library.
//! Work on the device runs inside [`guard`], which turns both into a [`DeviceFailure`]. Knows nothing of the work.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use burn::tensor::Tensor;

/// Longest text of another library that is shown.
const LONGEST_PROBLEM: usize = 400;

/// What a device said, or did not say, while something ran on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the device failed during {during}: {problem}\nhint: {hint}")]
pub struct DeviceFailure {
    during: String,
    problem: String,
    hint: &'static str,
}

impl DeviceFailure {
    /// A failure of what the innermost [`guard`] of this thread runs.
    #[must_use]
    pub fn new(problem: &str) -> Self {
        let running = RUNNING.with_borrow(|running| running.last().cloned());
        let during = running.unwrap_or_else(|| "a computation".to_owned());
        let mut lines: Vec<&str> = problem.lines().map(str::trim).collect();
        lines.retain(|line| !line.is_empty());
        let problem: String = lines.join("; ").chars().take(LONGEST_PROBLEM).collect();
        Self {
            during,
            hint: remedy(&problem),
            problem,
        }
    }
}

fn remedy(problem: &str) -> &'static str {
    let problem = problem.to_ascii_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| problem.contains(word));
    if any(&["lost", "timeout", "timed out"]) {
        "the driver gave up, often because one launch took too long or memory ran out: lower per_device_train_batch_size or \
         max_pixels, update the graphics driver, and continue with --resume_from_checkpoint true"
    } else if any(&["memory", "buffer", "alloc", "binding", "too large", "limit"]) {
        "lower per_device_train_batch_size, max_pixels or max_completion_length, or run with --device cpu"
    } else {
        "run `vision-ekipl doctor`, update the graphics driver, or run with --device cpu; if it happens there too, report it"
    }
}

thread_local! {
    /// What the guards of this thread run, the innermost last.
    static RUNNING: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Runs work on a device; `during` completes "the device failed during".
///
/// # Errors
/// If anything in it panics, also in other threads that it waits for.
pub fn guard<T>(during: &str, work: impl FnOnce() -> T) -> Result<T, DeviceFailure> {
    hush_guarded_panics();
    RUNNING.with_borrow_mut(|running| running.push(during.to_owned()));
    let result = catch_unwind(AssertUnwindSafe(work));
    let result = result.map_err(|panic| {
        let known = panic.downcast_ref::<DeviceFailure>().cloned();
        known.unwrap_or_else(|| DeviceFailure::new(&said(panic.as_ref())))
    });
    RUNNING.with_borrow_mut(Vec::pop);
    result
}

/// The values of a tensor, f32 whatever it holds, without the graph behind it.
///
/// # Errors
/// If anything failed on the device since values were last read.
pub fn read_back<const D: usize>(tensor: &Tensor<D>) -> Result<Vec<f32>, DeviceFailure> {
    let values = tensor.clone().without_autodiff().try_into_vec_as::<f32>();
    values.map_err(|error| DeviceFailure::new(&error.to_string()))
}

/// The text of a panic.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no reason was given".to_owned())
}

/// A panic that becomes an error is not printed beside it; all others are printed as ever.
fn hush_guarded_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = take_hook();
        set_hook(Box::new(move |panic| {
            if RUNNING.with_borrow(Vec::is_empty) {
                print(panic);
            } else {
                log::debug!("{panic}");
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_that_says_what_was_running() {
        let failure = guard("the backward pass", || -> usize {
            panic!(
                "wgpu error: Validation Error\n\n  Buffer size 276889600 is greater than the limit\n"
            )
        });
        let text = failure.expect_err("it panicked").to_string();
        assert!(
            text.starts_with(
                "the device failed during the backward pass: wgpu error: Validation Error; Buffer size 276889600 is"
            ),
            "{text}"
        );
        assert!(
            text.contains("\nhint: lower per_device_train_batch_size"),
            "{text}"
        );
        assert_eq!(guard("addition", || 1 + 1), Ok(2));
    }

    #[test]
    fn the_innermost_guard_is_named_and_forgotten_afterwards() {
        let inner = guard("a step", || {
            guard("sampling", || DeviceFailure::new("device lost"))
        });
        let text = inner.expect("no panic").expect("no panic").to_string();
        assert!(
            text.starts_with(
                "the device failed during sampling: device lost\nhint: the driver gave up"
            ),
            "{text}"
        );
        let outside = DeviceFailure::new("odd").to_string();
        assert!(outside.starts_with(
            "the device failed during a computation: odd\nhint: run `vision-ekipl doctor`"
        ));
    }
}
