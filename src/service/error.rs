//! What a use case says when it cannot.

use crate::driver::DriverError;
use crate::engine::EngineError;
use crate::model::{FailureKind, InvalidValue, Name};
use crate::state::StateError;
use crate::store::StoreError;

/// The result of a use case.
pub type Result<T> = std::result::Result<T, ServiceError>;

/// Every failure names the object, the cause and, where there is one, the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A value that a person gave is not acceptable.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// A driver could not.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The records could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// A repository, or the way to it, could not.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// No such object.
    #[error("{what} {name} does not exist")]
    NotFound {
        /// `volume`, `snapshot`, `removed volume`, `driver`, `job`.
        what: &'static str,
        /// As it was given.
        name: String,
    },
    /// No such driver here.
    #[error("there is no driver {driver}; the daemon's drivers: {drivers}")]
    NoSuchDriver {
        /// As it was given, with the nearest.
        driver: String,
        /// Those that there are.
        drivers: String,
    },
    /// What a new volume is to begin as is not there.
    #[error("{from}: {why}")]
    NoSuchState {
        /// As it was given.
        from: String,
        /// Why not, and what there is instead.
        why: String,
    },
    /// The name is taken.
    #[error("{what} {name} exists already{why}")]
    AlreadyExists {
        /// `volume` or `snapshot`.
        what: &'static str,
        /// The name.
        name: String,
        /// ` with other options: …`, or empty.
        why: String,
    },
    /// Several objects fit.
    #[error("{what} {name} is ambiguous: {candidates}")]
    Ambiguous {
        /// `volume` or `snapshot`.
        what: &'static str,
        /// As it was given.
        name: String,
        /// What it could mean, comma separated.
        candidates: String,
    },
    /// Somebody uses the volume.
    #[error("volume {volume} is in use by {by}")]
    InUse {
        /// The volume.
        volume: Name,
        /// Its users.
        by: String,
        /// Whether the users are only recorded mount ids, which may be stale.
        recorded: bool,
    },
    /// The volume's owner forbade removal.
    #[error("volume {volume} is protected against removal")]
    Protected {
        /// The volume.
        volume: Name,
    },
    /// The volume's data are not there yet.
    #[error("volume {volume}: {how}")]
    Restoring {
        /// The volume.
        volume: Name,
        /// e.g. `restoring, 43 %, about 2 min left`.
        how: String,
    },
    /// A job reads what would be taken away.
    #[error("{what} is read by {by}")]
    Read {
        /// e.g. `snapshot pg@monday`.
        what: String,
        /// e.g. `job 7, a backup of pg@monday`.
        by: String,
    },
    /// A verification found that something cannot be restored.
    #[error("{first}{}", match more { 0 => String::new(), n => format!("; and {n} more, see the job's log") })]
    Damaged {
        /// The first damage.
        first: String,
        /// How many others.
        more: usize,
    },
    /// A job that something waited for did not do its work.
    #[error("{0}")]
    JobFailed(String),
    /// What was to make a volume's application ready for a snapshot did not.
    #[error("{what}: the hook before it failed for volume {volume}: {why}; nothing was taken")]
    Hook {
        /// e.g. `snapshot pg@monday`.
        what: String,
        /// The volume whose hook it is.
        volume: Name,
        /// Where, and what the hook said.
        why: String,
    },
    /// The driver's storage is not there.
    #[error("{0}")]
    Unavailable(String),
    /// The daemon is about to end.
    #[error("the daemon is stopping")]
    Stopping,
    /// A blocking thread ended by a panic; its message is in the log.
    #[error("an internal error ended this operation; the daemon's log tells more")]
    Panicked,
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        EngineError::from(error).into()
    }
}

impl ServiceError {
    /// What kind of failure this is: the one table from failures to kinds.
    pub fn kind(&self) -> FailureKind {
        use FailureKind as Kind;
        match self {
            Self::NotFound { .. } | Self::NoSuchDriver { .. } | Self::NoSuchState { .. } => Kind::NotFound,
            Self::AlreadyExists { .. } => Kind::AlreadyExists,
            Self::InUse { .. } | Self::Protected { .. } | Self::Restoring { .. } | Self::Read { .. } => {
                Kind::Busy
            }
            Self::Invalid(_) | Self::Ambiguous { .. } => Kind::Invalid,
            Self::Unavailable(_) | Self::Stopping | Self::Hook { .. } => Kind::Unavailable,
            Self::State(_) | Self::Panicked => Kind::Internal,
            Self::Driver(error) => match error {
                DriverError::NotFound { .. } => Kind::NotFound,
                DriverError::AlreadyExists { .. } => Kind::AlreadyExists,
                DriverError::Busy { .. } | DriverError::Restoring { .. } => Kind::Busy,
                DriverError::Invalid(_) => Kind::Invalid,
                DriverError::Unsupported { .. } => Kind::Unsupported,
                DriverError::Corrupt { .. } => Kind::Corrupt,
                DriverError::Unavailable { .. } => Kind::Unavailable,
                DriverError::System { .. } => Kind::Internal,
            },
            Self::Damaged { .. } => Kind::Corrupt,
            Self::JobFailed(_) => Kind::Internal,
            Self::Engine(error) => error.kind(),
        }
    }

    /// The message on one line.
    pub fn one_line(&self) -> String {
        self.to_string().replace(['\n', '\r'], " ")
    }

    /// Whether the same may succeed later without anybody doing anything about it here.
    pub(super) fn is_temporary(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Driver(DriverError::Unavailable { .. }) => true,
            Self::Engine(error) => engine_is_temporary(error),
            _ => false,
        }
    }

    /// What to do about it; may be empty.
    pub fn hint(&self) -> String {
        match self {
            Self::NotFound { what: "volume", .. } => "'windlass list' shows the volumes".to_owned(),
            Self::NotFound { what: "snapshot", .. } => {
                "'windlass snapshot list' shows the snapshots".to_owned()
            }
            Self::NotFound {
                what: "checkpoint", ..
            } => "'windlass checkpoint list' shows the checkpoints".to_owned(),
            Self::NotFound { what: "job", .. } => "'windlass job list' shows the jobs".to_owned(),
            Self::NotFound {
                what: "removed volume",
                ..
            } => "'windlass trash list' shows what can be brought back".to_owned(),
            Self::Ambiguous { what: "snapshot", .. } => "write <volume>@<snapshot>".to_owned(),
            Self::Ambiguous { .. } => "write the whole name".to_owned(),
            Self::InUse {
                volume,
                recorded: true,
                ..
            } => {
                format!("if that is stale, 'windlass umount --force {volume}' forgets it")
            }
            Self::InUse { .. } => "stop its users first".to_owned(),
            Self::Protected { volume } => format!("'windlass unprotect {volume}' allows it"),
            Self::Read { .. } => "wait for its end, or cancel it with 'windlass job cancel'".to_owned(),
            Self::Stopping => "try again in a moment".to_owned(),
            Self::Hook { .. } => {
                "'--no-hooks' takes it without, and hook.on-error=continue does so always".to_owned()
            }
            _ => String::new(),
        }
    }
}

fn engine_is_temporary(error: &EngineError) -> bool {
    match error {
        EngineError::Store(error) => error.is_temporary(),
        EngineError::Locked { .. } | EngineError::LockLost { .. } => true,
        EngineError::Entry { source, .. } => engine_is_temporary(source),
        _ => false,
    }
}
