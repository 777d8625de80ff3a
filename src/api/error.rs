//! The one table from failures to kinds and from kinds to HTTP statuses, and what to do about each.

use warp::http::StatusCode;

use super::types::{Failure, Kind};
use crate::driver::DriverError;
use crate::service::ServiceError;

/// The HTTP status of a kind of failure.
pub fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::AlreadyExists | Kind::Busy => StatusCode::CONFLICT,
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Unsupported => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::Corrupt | Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// What kind of failure this is.
pub fn kind(error: &ServiceError) -> Kind {
    use ServiceError as E;
    match error {
        E::NotFound { .. } | E::NoSuchDriver { .. } => Kind::NotFound,
        E::AlreadyExists { .. } => Kind::AlreadyExists,
        E::InUse { .. } | E::Protected { .. } => Kind::Busy,
        E::Invalid(_) | E::Ambiguous { .. } => Kind::Invalid,
        E::Unavailable(_) | E::Stopping => Kind::Unavailable,
        E::State(_) | E::Panicked => Kind::Internal,
        E::Driver(error) => match error {
            DriverError::NotFound { .. } => Kind::NotFound,
            DriverError::AlreadyExists { .. } => Kind::AlreadyExists,
            DriverError::Busy { .. } => Kind::Busy,
            DriverError::Invalid(_) => Kind::Invalid,
            DriverError::Unsupported { .. } => Kind::Unsupported,
            DriverError::Corrupt { .. } => Kind::Corrupt,
            DriverError::Unavailable { .. } => Kind::Unavailable,
            DriverError::System { .. } => Kind::Internal,
        },
    }
}

/// A failure as the admin API tells it.
pub fn failure(error: &ServiceError) -> Failure {
    Failure {
        kind: kind(error),
        message: one_line(error),
        hint: hint(error),
    }
}

/// A failure in one line with its remedy, as Docker shows it.
pub fn sentence(error: &ServiceError) -> String {
    let (message, hint) = (one_line(error), hint(error));
    if hint.is_empty() {
        message
    } else {
        format!("{message}; {hint}")
    }
}

fn one_line(error: &ServiceError) -> String {
    error.to_string().replace(['\n', '\r'], " ")
}

fn hint(error: &ServiceError) -> String {
    use ServiceError as E;
    match error {
        E::NotFound { what: "volume", .. } => "'windlass list' shows the volumes".to_owned(),
        E::NotFound { what: "snapshot", .. } => "'windlass snapshot list' shows the snapshots".to_owned(),
        E::NotFound {
            what: "removed volume",
            ..
        } => "'windlass trash list' shows what can be brought back".to_owned(),
        E::Ambiguous { what: "snapshot", .. } => "write <volume>@<snapshot>".to_owned(),
        E::Ambiguous { .. } => "write the whole name".to_owned(),
        E::InUse {
            volume,
            recorded: true,
            ..
        } => {
            format!("if that is stale, 'windlass umount --force {volume}' forgets it")
        }
        E::InUse { .. } => "stop its users first".to_owned(),
        E::Protected { volume } => format!("'windlass unprotect {volume}' allows it"),
        E::Stopping => "try again in a moment".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_status_that_a_client_understands_as_a_failure() {
        for kind in [
            Kind::NotFound,
            Kind::AlreadyExists,
            Kind::Busy,
            Kind::Invalid,
            Kind::Unsupported,
            Kind::Corrupt,
            Kind::Unavailable,
            Kind::Internal,
        ] {
            let status = status(kind);
            assert!(
                status.is_client_error() || status.is_server_error(),
                "{kind:?}: {status}"
            );
        }
    }

    #[test]
    fn a_sentence_is_one_line_with_the_remedy() {
        let error = ServiceError::NotFound {
            what: "volume",
            name: "a\nb".to_owned(),
        };
        assert_eq!(
            sentence(&error),
            "volume a b does not exist; 'windlass list' shows the volumes"
        );
    }
}
