//! Which boot of the machine this is, and which run of the program.
//!
//! Facts that live as long as the kernel (mounts, mount ids) are recorded together with these, so that a later start can
//! tell what it must not believe any more.

use std::path::Path;
use std::sync::OnceLock;

use uuid::Uuid;

use super::error::{Context, Result, SysError};

/// The identity of this boot of the kernel. Containers see that of their host.
pub fn boot_id() -> Result<Uuid> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = std::fs::read_to_string(path).during("read", path)?;
    Uuid::try_parse(text.trim()).map_err(|_| SysError::Malformed {
        path: path.to_owned(),
        line: 1,
        content: text,
    })
}

/// The identity of this process: a new one at every start, the same until it ends.
pub fn process_id() -> Uuid {
    static ID: OnceLock<Uuid> = OnceLock::new();
    *ID.get_or_init(Uuid::new_v4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_stable_within_a_run_and_distinct() {
        assert_eq!(boot_id().expect("a boot id"), boot_id().expect("a boot id"));
        assert_eq!(process_id(), process_id());
        assert_ne!(boot_id().expect("a boot id"), process_id());
    }
}
