//! What the engine says when it cannot.

use std::path::PathBuf;

use super::Id;
use crate::model::FailureKind;
use crate::store::StoreError;
use crate::sys::SysError;

/// The result of the engine's work.
pub type Result<T> = std::result::Result<T, EngineError>;

/// Every failure names the object, the cause and, where there is one, the remedy.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The destination's storage could not.
    #[error(transparent)]
    Store(StoreError),
    /// The kernel refused.
    #[error(transparent)]
    System(#[from] SysError),
    /// There is no repository.
    #[error("{location}: there is no repository{remedy}")]
    NoRepository {
        /// Where it was looked for.
        location: String,
        /// What to do about it, with its punctuation; may be empty.
        remedy: String,
    },
    /// There is a repository already.
    #[error("{location}: there is a repository already")]
    RepositoryExists {
        /// Where.
        location: String,
    },
    /// None of the repository's keys opens with this password.
    #[error("{location}: the password is wrong, or none of the {keys} keys is for it")]
    WrongPassword {
        /// The repository.
        location: String,
        /// How many keys were tried.
        keys: usize,
    },
    /// No password where one is needed, or one where none can be.
    #[error("{0}")]
    Password(String),
    /// No such backup.
    #[error("{location}: there is no backup {id}{remedy}")]
    NoBackup {
        /// The repository.
        location: String,
        /// As it was given.
        id: String,
        /// What to do about it, with its punctuation; may be empty.
        remedy: String,
    },
    /// No such path in the backup.
    #[error("backup {backup} has no {path}")]
    NoPath {
        /// The backup.
        backup: String,
        /// The path.
        path: String,
    },
    /// Several backups fit.
    #[error("{location}: backup {id} is ambiguous: {candidates}")]
    Ambiguous {
        /// The repository.
        location: String,
        /// As it was given.
        id: String,
        /// What it could mean, comma separated.
        candidates: String,
    },
    /// The repository belongs to another volume.
    #[error("{location}: the repository belongs to {owner}; {remedy}")]
    Foreign {
        /// The repository.
        location: String,
        /// The volume and the host that it belongs to.
        owner: String,
        /// What to do about it.
        remedy: String,
    },
    /// Somebody works in the repository.
    #[error("{location}: the repository is locked {by}")]
    Locked {
        /// The repository.
        location: String,
        /// By whom, since when, and what to do about it.
        by: String,
    },
    /// Our own lock is gone or too old, so that somebody may have deleted what we rely on.
    #[error("{location}: our lock on the repository was lost ({why}); nothing was finished, run it again")]
    LockLost {
        /// The repository.
        location: String,
        /// What happened to it.
        why: String,
    },
    /// An object of the repository is not what it must be.
    #[error("{location}: {object} is damaged: {why}")]
    Corrupt {
        /// The repository.
        location: String,
        /// e.g. `data/3f/3fa9…`, `the tree 0123abcd`.
        object: String,
        /// What is wrong with it.
        why: String,
    },
    /// A blob that something refers to is in no pack that the index knows.
    #[error(
        "{location}: {what} {id} is missing from the repository; `windlass repo repair` looks for it in all packs"
    )]
    MissingBlob {
        /// The repository.
        location: String,
        /// `data` or `tree`.
        what: &'static str,
        /// The blob.
        id: Id,
    },
    /// The repository is of a version or kind that this program does not know.
    #[error("{location}: {why}")]
    Unsupported {
        /// The repository.
        location: String,
        /// What is not known, with the remedy.
        why: String,
    },
    /// The source could not be read. The backup fails; nothing is skipped.
    #[error("cannot read {}: {source}", path.display())]
    Source {
        /// The file or device.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The target could not be written.
    #[error("cannot {doing} {}: {source}", path.display())]
    Target {
        /// e.g. `write`, `set the owner of`.
        doing: &'static str,
        /// The file or device.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// An entry of a tree could not be restored.
    #[error("cannot restore {}: {source}", path.display())]
    Entry {
        /// Where it was to go.
        path: PathBuf,
        /// What stood in the way.
        source: Box<EngineError>,
    },
    /// A request that cannot be honoured with these values.
    #[error("{0}")]
    Invalid(String),
    /// The work was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Stopped { .. } => Self::Cancelled,
            other => Self::Store(other),
        }
    }
}

impl EngineError {
    /// What scripts, HTTP clients and jobs tell apart.
    pub fn kind(&self) -> FailureKind {
        use FailureKind as Kind;
        match self {
            Self::Entry { source, .. } => source.kind(),
            Self::Store(error) => match error {
                StoreError::NotFound { .. } => Kind::NotFound,
                StoreError::AlreadyExists { .. } => Kind::AlreadyExists,
                StoreError::TooShort { .. } | StoreError::TooLarge { .. } => Kind::Corrupt,
                StoreError::Invalid(_) | StoreError::Denied { .. } => Kind::Invalid,
                StoreError::Unavailable { .. } => Kind::Unavailable,
                StoreError::Failed { .. } | StoreError::Stopped { .. } => Kind::Internal,
            },
            Self::NoRepository { .. } | Self::NoBackup { .. } | Self::NoPath { .. } => Kind::NotFound,
            Self::RepositoryExists { .. } => Kind::AlreadyExists,
            Self::WrongPassword { .. } | Self::Password(_) | Self::Ambiguous { .. } | Self::Invalid(_) => {
                Kind::Invalid
            }
            Self::Foreign { .. } | Self::Locked { .. } | Self::LockLost { .. } => Kind::Busy,
            Self::Corrupt { .. } | Self::MissingBlob { .. } => Kind::Corrupt,
            Self::Unsupported { .. } => Kind::Unsupported,
            Self::System(_) | Self::Source { .. } | Self::Target { .. } | Self::Cancelled => Kind::Internal,
        }
    }
}
