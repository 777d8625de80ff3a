//! What a use case says when it cannot.

use crate::driver::DriverError;
use crate::model::{InvalidValue, Name};
use crate::state::StateError;

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
    /// No such object.
    #[error("{what} {name} does not exist")]
    NotFound {
        /// `volume`, `snapshot`, `removed volume`, `driver`.
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
