//! Work of somebody else's code whose panics are errors.
//!
//! Knows nothing of the work. A panic inside says nothing on standard error: the error does.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// Whether this thread's panics are being turned into errors.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; a panic in it becomes its message.
///
/// # Errors
/// The message of the panic.
pub(super) fn without_panic<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !CAUGHT.get() {
                usual(panic);
            }
        }));
    });
    let outer = CAUGHT.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    CAUGHT.set(outer);
    result.map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        format!(
            "what the tokenizers crate gives up at: {}",
            text.unwrap_or("a panic")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_words() {
        assert_eq!(without_panic(|| 3), Ok(3));
        let failed = without_panic(|| panic!("index {} of {}", 3, 2));
        assert!(failed.expect_err("a panic").ends_with("index 3 of 2"));
        let inner = without_panic(|| without_panic(|| panic!("deep")).is_err());
        assert_eq!(inner, Ok(true));
    }
}
