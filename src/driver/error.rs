//! What a driver says when it cannot.

use std::path::PathBuf;

use crate::model::{Time, Volume};
use crate::sys::SysError;

/// Every failure names the object, the cause and, where there is one, the remedy.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The thing is not in the driver's records.
    #[error("{what} does not exist")]
    NotFound {
        /// e.g. `volume pgdata`, `snapshot pgdata@monday`.
        what: String,
    },
    /// Something of that name is there.
    #[error("{what} exists already{}", remedy_clause(.remedy))]
    AlreadyExists {
        /// e.g. `volume pgdata`, `the directory /srv/volumes/pgdata`.
        what: String,
        /// What to do about it; may be empty.
        remedy: String,
    },
    /// Somebody uses it.
    #[error("{what} is in use by {by}{}", remedy_clause(.remedy))]
    Busy {
        /// The object.
        what: String,
        /// Its users.
        by: String,
        /// What to do about it; may be empty.
        remedy: String,
    },
    /// A volume that waits for its data.
    #[error(
        "{what}: the data are not there yet, they are being restored from {from} since {since}; wait for that, or remove \
         the volume"
    )]
    Restoring {
        /// e.g. `mount of volume pgdata`.
        what: String,
        /// Where its data come from.
        from: String,
        /// Since when.
        since: Time,
    },
    /// A request that this driver cannot honour with these values.
    #[error("{0}")]
    Invalid(#[from] crate::model::InvalidValue),
    /// A thing that cannot be done here.
    #[error("{what}: {because}")]
    Unsupported {
        /// e.g. `snapshot of volume pgdata`.
        what: String,
        /// The reason, with the remedy.
        because: String,
    },
    /// A record or a directory that is not what it must be.
    #[error("{path} is damaged: {why}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The driver's storage is not there (not mounted, another one).
    #[error("driver {driver}: {why}")]
    Unavailable {
        /// The driver.
        driver: &'static str,
        /// The reason, with the remedy.
        why: String,
    },
    /// The kernel refused.
    #[error("{doing}: {source}")]
    System {
        /// What was being done, to which object.
        doing: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

impl DriverError {
    /// Refuses to do something to a volume that waits for its data: `refuse_restoring(&volume, "mount")`.
    ///
    /// # Errors
    /// [`DriverError::Restoring`], if it does.
    pub fn refuse_restoring(volume: &Volume, doing: &str) -> Result<(), Self> {
        match &volume.restoring {
            None => Ok(()),
            Some(restoring) => Err(Self::Restoring {
                what: format!("{doing} of volume {}", volume.name),
                from: restoring.from.clone(),
                since: restoring.since,
            }),
        }
    }
}

impl From<SysError> for DriverError {
    fn from(error: SysError) -> Self {
        match error {
            SysError::Io { op, path, source } => Self::System {
                doing: format!("cannot {op} {}", path.display()),
                source,
            },
            SysError::Unsupported { op, path, reason } => Self::Unsupported {
                what: format!("cannot {op} {}", path.display()),
                because: reason,
            },
            other => {
                let kind = other.io_kind();
                Self::System {
                    doing: other.to_string(),
                    source: kind.into(),
                }
            }
        }
    }
}

fn remedy_clause(remedy: &str) -> String {
    if remedy.is_empty() {
        String::new()
    } else {
        format!("; {remedy}")
    }
}
