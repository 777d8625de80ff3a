//! The one table from kinds of failure to HTTP statuses.

use warp::http::StatusCode;

use super::types::{Failure, Kind};
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

/// A failure as the admin API tells it.
pub fn failure(error: &ServiceError) -> Failure {
    Failure {
        kind: error.kind(),
        message: error.one_line(),
        hint: error.hint(),
    }
}

/// A failure in one line with its remedy, as Docker shows it.
pub fn sentence(error: &ServiceError) -> String {
    let (message, hint) = (error.one_line(), error.hint());
    if hint.is_empty() {
        message
    } else {
        format!("{message}; {hint}")
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
