//! Which paths objects can have: one rule for all stores, so that what one takes no other refuses.

use std::ffi::OsStr;

use super::{Result, StoreError};
use crate::sys::durable;

/// S3's longest key; the destination's own path counts towards it there.
const MAX_BYTES: usize = 1024;

/// A directory's longest name on Linux.
const MAX_PART_BYTES: usize = 255;

/// # Errors
/// [`StoreError::Invalid`] where the path cannot name an object.
pub(super) fn check(path: &str) -> Result<()> {
    let fault = if path.is_empty() {
        Some("it is empty")
    } else if path.len() > MAX_BYTES {
        Some("it has more than 1024 bytes")
    } else {
        path.split('/').find_map(fault_of_part)
    };
    match fault {
        None => Ok(()),
        Some(why) => Err(StoreError::Invalid(format!(
            "{path:?} cannot be the path of an object: {why}"
        ))),
    }
}

/// The same for a directory to list below; `""` is the whole store.
pub(super) fn check_directory(path: &str) -> Result<()> {
    if path.is_empty() { Ok(()) } else { check(path) }
}

/// The prefix that all objects below a directory have.
pub(super) fn prefix(directory: &str) -> String {
    if directory.is_empty() {
        String::new()
    } else {
        format!("{directory}/")
    }
}

fn fault_of_part(part: &str) -> Option<&'static str> {
    if part.is_empty() {
        Some("one of its parts is empty")
    } else if part == "." || part == ".." {
        Some("no part may be . or ..")
    } else if part.trim() != part {
        Some("no part may begin or end with a blank")
    } else if part.len() > MAX_PART_BYTES {
        Some("one of its parts has more than 255 bytes")
    } else if part.chars().any(char::is_control) || part.contains('\\') {
        Some("control characters and backslashes are not allowed")
    } else if durable::is_temporary(OsStr::new(part)) {
        Some("that is how temporary files are called")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_could_leave_the_store_or_name_nothing_are_refused() {
        let long = "x".repeat(256);
        let deep = "x/".repeat(512) + "x";
        for bad in [
            "",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "../a",
            "a/../b",
            "a/./b",
            "a\0b",
            "a\nb",
            "a\\b",
            " a",
            "a /b",
            ".tmp-67e55044-10b1-426f-9247-bb680e5fe0c8",
            &long,
            &deep,
        ] {
            assert!(check(bad).is_err(), "{bad:?} was accepted");
        }
        for good in ["a", "data/3f/3fa9", "...", "a b", "ä", ".hidden", "volume.cfg"] {
            assert!(check(good).is_ok(), "{good:?} was refused");
        }
        assert!(check_directory("").is_ok() && check_directory("..").is_err());
    }
}
