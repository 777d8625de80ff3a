//! The kinds of failure: what scripts, HTTP clients and jobs tell apart.

use serde::{Deserialize, Serialize};

/// The kinds of failure. One table in `api::error` turns them into HTTP statuses, one in `cli` into exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FailureKind {
    /// No such object.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// Somebody uses it, or another operation on it is under way.
    Busy,
    /// The request cannot be honoured with these values.
    Invalid,
    /// It cannot be done here.
    Unsupported,
    /// A record or data is not what it must be.
    Corrupt,
    /// The storage or the daemon is not there.
    Unavailable,
    /// The daemon's own fault, or the kernel's.
    Internal,
}
