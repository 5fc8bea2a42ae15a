//! Keeps panics of other crates away from the rest of the program.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Arc;

/// Calls a function, and returns the message of a panic in it as an error.
///
/// The panic is not printed. Nothing that the function changed may be used after a panic.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let thread = std::thread::current().id();
    let hook = Arc::new(take_hook());
    let other_threads = Arc::clone(&hook);
    set_hook(Box::new(move |panic| {
        if std::thread::current().id() != thread {
            other_threads(panic);
        }
    }));
    let outcome = catch_unwind(AssertUnwindSafe(work));
    set_hook(Box::new(move |panic| hook(panic)));
    outcome.map_err(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        message.unwrap_or("no details").to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(caught(|| 7), Ok(7));
        let empty: Vec<u8> = Vec::new();
        let error = caught(|| empty[0]).unwrap_err();
        assert!(error.contains("out of bounds"), "{error}");
    }
}
