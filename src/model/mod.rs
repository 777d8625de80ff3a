//! The nouns of windlass: names, identities, sizes, times, options. No I/O, no other room of the house.

pub mod duty;
pub mod failure;
pub mod hook;
pub mod id;
pub mod job;
pub mod moment;
pub mod name;
pub mod options;
pub mod policy;
pub mod removal;
pub mod retention;
pub mod schedule;
pub mod settings;
pub mod size;
pub mod span;
pub mod task;
pub mod template;
pub mod time;
pub mod verification;
pub mod volume;

pub use duty::{Duty, PostHook};
pub use failure::FailureKind;
pub use hook::{HookOutcome, OnHookError};
pub use id::{SnapshotId, VolumeId};
pub use job::{Job, JobFailure, JobId, JobState, Reads, Work};
pub use moment::Moment;
pub use name::{Name, SnapshotRef};
pub use options::{CreateOptions, RootDirectory};
pub use policy::{POLICIES, Policy};
pub use removal::OnRemove;
pub use retention::Keep;
pub use schedule::Schedule;
pub use settings::{BackupSettings, Secret, Settings};
pub use size::Bytes;
pub use span::Span;
pub use task::{Past, Task, Tasks};
pub use template::{EventFilter, UrlTemplate};
pub use time::Time;
pub use verification::Verification;
pub use volume::{
    BeganAs, Consistency, InCheckpoint, RestoredFrom, Restoring, Simultaneity, Snapshot, Stored, Trashed,
    Volume,
};

/// A value that a person gave and that windlass cannot accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValue {
    /// A name that is empty.
    #[error("a {what} name is needed, and this one is empty")]
    EmptyName {
        /// `volume` or `snapshot`.
        what: &'static str,
    },
    /// A name longer than a directory entry can be.
    #[error(
        "the {what} name is {length} bytes long; at most {} are allowed",
        Name::MAX_BYTES
    )]
    LongName {
        /// `volume` or `snapshot`.
        what: &'static str,
        /// How long it is, in bytes.
        length: usize,
    },
    /// A name with a byte outside the alphabet.
    #[error(
        "{what} name {name:?}: {found:?} at byte {at} is not allowed; use letters, digits, '_', '.' and '-', beginning with a letter or digit"
    )]
    NameAlphabet {
        /// `volume` or `snapshot`.
        what: &'static str,
        /// The whole name, as given (cut to 80 characters).
        name: String,
        /// The first character that is not allowed.
        found: char,
        /// Its offset in bytes.
        at: usize,
    },
    /// An option that no driver knows.
    #[error("unknown option {name:?}{}; valid options: {valid}", nearest.as_ref().map(|n| format!(", did you mean {n:?}?")).unwrap_or_default())]
    UnknownOption {
        /// The option as given.
        name: String,
        /// The valid name that it resembles most, if any is near.
        nearest: Option<String>,
        /// All valid names, comma separated.
        valid: String,
    },
    /// A value that its option cannot take.
    #[error("option {option}: {value:?} is not {expected}")]
    Value {
        /// The option's name.
        option: String,
        /// The value as given.
        value: String,
        /// What it should be, e.g. `a size such as 512M or 20G`.
        expected: String,
    },
    /// Two options that contradict each other.
    #[error("options {first} and {second} cannot be given together: {why}")]
    Conflict {
        /// One option.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// Why not both.
        why: &'static str,
    },
}

/// The valid word nearest to `given`, if one is near enough to be what was meant.
pub fn nearest<'a>(given: &str, valid: impl IntoIterator<Item = &'a str>) -> Option<String> {
    valid
        .into_iter()
        .map(|v| (strsim::damerau_levenshtein(given, v), v))
        .filter(|(distance, v)| *distance <= 1 + v.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, v)| v.to_owned())
}
