//! What the last stop tells a managed plugin about the engine, and what the next start makes of it.
//!
//! Docker's engine unmounts all below a plugin's directory when it hears that the plugin has ended (moby,
//! plugin/manager.go, `HandleExitEvent`). An engine that was itself killed finds the old plugin running, ends it, and starts the
//! new one while it still unmounts for the old one. If that takes the directory's own mount away before the new plugin's namespace is
//! made, nothing that the new one mounts is seen outside, for as long as it runs, and the kernel gives it no sign. (20.10,
//! measured: one start in three on a busy machine.)
//!
//! But an engine that stops well unmounts every volume before it ends a plugin. So a plugin that is ended while volumes are
//! mounted waits at its next start until the old one has been cleaned up, and ends once more: what the engine starts then, it
//! starts anew, with no cleaning up beside.

use std::time::Duration;

use super::{Result, Service};
use crate::state::State;

/// Where the state remembers it.
const KEY: &str = "stopped-with-mounts";
/// What is remembered then, before the boot's identity.
const STOPPED: &str = "stopped ";
/// What is remembered once the daemon has ended a second time.
const AGAIN: &str = "again ";
/// How long the engine takes to clean up, with room to spare; it gives up on a plugin that does not answer after 10 s.
pub const CLEANING: Duration = Duration::from_secs(1);

/// How a daemon that is a managed plugin begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aftermath {
    /// As always.
    None,
    /// It ends after [`CLEANING`], having called [`Aftermath::ends`], to be started anew.
    StartAgain,
    /// It has been started anew. Should the engine still be cleaning up, mounts wait for that.
    Settle,
}

impl Aftermath {
    /// Of the last stop in this boot of the machine; of others nothing is mounted any more.
    pub fn of(state: &State, boot: &str) -> Result<Self> {
        let remembered = state.setting(KEY)?.unwrap_or_default();
        Ok(match remembered.strip_suffix(boot) {
            Some(STOPPED) => Self::StartAgain,
            Some(AGAIN) => {
                state.remember(KEY, "")?;
                Self::Settle
            }
            _ => Self::None,
        })
    }

    /// Remembers that the next start is the one that stays.
    pub fn ends(state: &State, boot: &str) -> Result<()> {
        Ok(state.remember(KEY, &format!("{AGAIN}{boot}"))?)
    }
}

impl Service {
    /// Remembers, at the end of a stop, whether Docker has left volumes mounted.
    pub fn remember_stop(&self) -> Result<()> {
        let held = self.catalog().entries().any(|entry| !entry.holds.is_empty());
        if held {
            let boot = &self.0.boot;
            self.0.state.remember(KEY, &format!("{STOPPED}{boot}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_started_anew_once_and_only_in_the_same_boot() {
        let root = tempfile::tempdir().expect("a directory");
        let state = State::open(root.path()).expect("opens");
        let of = |boot| Aftermath::of(&state, boot).expect("read");
        assert_eq!(of("b1"), Aftermath::None);
        state.remember(KEY, "stopped b1").expect("written");
        assert_eq!(of("b2"), Aftermath::None, "nothing is mounted after a reboot");
        assert_eq!(of("b1"), Aftermath::StartAgain);
        assert_eq!(of("b1"), Aftermath::StartAgain, "killed while it waited");
        Aftermath::ends(&state, "b1").expect("written");
        assert_eq!(of("b1"), Aftermath::Settle);
        assert_eq!(of("b1"), Aftermath::None);
    }
}
