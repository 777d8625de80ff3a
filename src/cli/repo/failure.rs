//! What the engine and the store say, as the command line says it: a kind, which has its exit code, one line, and a hint.

use super::access::Place;
use crate::api::types::{Failure, Kind};
use crate::cli::Error;
use crate::engine::EngineError;
use crate::store::StoreError;

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Cancelled => Self::Interrupted { left: String::new() },
            error => Self::Repository(Failure {
                kind: error.kind(),
                message: error.to_string(),
                hint: hint(&error).to_owned(),
            }),
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        EngineError::from(error).into()
    }
}

/// There is no repository where one was looked for.
pub(super) fn no_repository(place: &Place) -> Error {
    let whole = place.url(None);
    let destination = place.destination.url();
    let hint = match &place.volume {
        Some(_) => format!("'windlass repo list {destination}' shows those that there are"),
        None => format!(
            "name its volume with --volume; 'windlass repo list {destination}' shows those that there are"
        ),
    };
    Error::Repository(Failure {
        kind: Kind::NotFound,
        message: format!("{whole}: there is no repository"),
        hint,
    })
}

/// A request that cannot be honoured with these values.
pub(super) fn invalid(message: String, hint: &str) -> Error {
    Error::Repository(Failure {
        kind: Kind::Invalid,
        message,
        hint: hint.to_owned(),
    })
}

/// It cannot be done with a backup of Convoy's.
pub(super) fn not_with_convoy(what: &str) -> Error {
    Error::Repository(Failure {
        kind: Kind::Unsupported,
        message: format!("{what} does not work with Convoy's backups"),
        hint: "'windlass repo restore' brings them back".to_owned(),
    })
}

/// Something is damaged, which is what was to be found out.
pub(super) fn damaged(message: String, hint: &str) -> Error {
    Error::Repository(Failure {
        kind: Kind::Corrupt,
        message,
        hint: hint.to_owned(),
    })
}

/// What an unfinished restore leaves, said with a failure that came while it was under way.
pub(super) fn leaves(error: Error, left: &str) -> Error {
    match error {
        Error::Interrupted { .. } => Error::Interrupted {
            left: left.to_owned(),
        },
        Error::Repository(failure)
            if matches!(failure.kind, Kind::Internal | Kind::Corrupt | Kind::Unavailable) =>
        {
            let hint = match failure.hint.as_str() {
                "" => left.to_owned(),
                hint => format!("{hint}; {left}"),
            };
            Error::Repository(Failure { hint, ..failure })
        }
        other => other,
    }
}

/// What to do about it, where the error itself does not say.
fn hint(error: &EngineError) -> &'static str {
    match error {
        EngineError::WrongPassword { .. } => {
            "give another with --password-file, or say --encrypt none where the repository has none"
        }
        EngineError::NoBackup { remedy, .. } if remedy.is_empty() => {
            "'windlass repo list' shows those that there are"
        }
        EngineError::Entry { source, .. } => hint(source),
        EngineError::Ambiguous { .. } => "write more of its digits",
        EngineError::NoPath { .. } => "'windlass repo ls' shows what the backup has",
        EngineError::Corrupt { .. } => "'windlass repo verify' says which backups are affected",
        EngineError::Target { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            "free some space there, or choose another target"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_exit_codes_and_say_what_to_do() {
        let location = || "vfs:///b/v".to_owned();
        let wrong = Error::from(EngineError::WrongPassword {
            location: location(),
            keys: 2,
        });
        assert_eq!(wrong.exit_code(), 6);
        assert!(
            wrong.to_string().contains("; give another with --password-file"),
            "{wrong}"
        );
        let corrupt = Error::from(EngineError::Corrupt {
            location: location(),
            object: "index/01".to_owned(),
            why: "two\nlines".to_owned(),
        });
        assert_eq!(corrupt.exit_code(), 8);
        assert!(
            corrupt
                .to_string()
                .starts_with("vfs:///b/v: index/01 is damaged: two lines; "),
            "{corrupt}"
        );
        assert_eq!(Error::from(EngineError::Cancelled).exit_code(), 130);
        let gone = StoreError::Unavailable {
            location: location(),
            doing: "read x".to_owned(),
            why: "timeout".to_owned(),
        };
        assert_eq!(Error::from(gone).exit_code(), 9);
    }
}
