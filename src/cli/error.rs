//! Why a command failed, as one line on stderr and one exit code.

use std::fmt;
use std::io;

use super::exit::{INTERRUPTED, USAGE, exit_code};
use super::screen::one_line;
use crate::api::types::{Failure, Kind};
use crate::client::ClientError;

/// Why a command failed.
#[derive(Debug)]
pub enum Error {
    /// The daemon refused, failed, or could not be asked.
    Client(ClientError),
    /// A repository could not be worked on, or is not as it must be.
    Repository(Failure),
    /// The user, or whoever ends processes, wanted it to end.
    Interrupted {
        /// What was left unfinished, as a sentence without its full stop; may be empty.
        left: String,
    },
    /// The arguments contradict each other, beyond what clap can tell.
    Usage {
        /// What is wrong with them.
        message: String,
    },
    /// stdout could not be written to, e.g. because its disk is full.
    Output {
        /// The kernel's reason.
        source: io::Error,
    },
    /// The reader of stdout has left; nobody is told.
    StdoutClosed,
    /// The client's runtime could not be started.
    Runtime {
        /// The kernel's reason.
        source: io::Error,
    },
    /// A job was cancelled, by this process or another.
    Cancelled {
        /// Its number.
        job: i64,
    },
    /// The daemon went away before a job had ended.
    Unfinished {
        /// Its number.
        job: i64,
    },
    /// So many things are not done as policies ask for.
    Unwell(usize),
    /// The daemon did not start, or ended.
    Daemon {
        /// Why.
        source: Box<crate::daemon::DaemonError>,
    },
}

impl Error {
    /// The status to exit with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Client(error) => exit_code(error.kind()),
            Self::Repository(failure) => exit_code(failure.kind),
            Self::Interrupted { .. } => INTERRUPTED,
            Self::Usage { .. } => USAGE,
            Self::StdoutClosed => 0,
            Self::Unfinished { .. } => exit_code(Kind::Unavailable),
            Self::Output { .. }
            | Self::Cancelled { .. }
            | Self::Runtime { .. }
            | Self::Unwell(_)
            | Self::Daemon { .. } => 1,
        }
    }
}

/// One line: what failed, on which object, why, and after a semicolon what to do.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(error) => with_hint(f, &error.to_string(), error.hint()),
            Self::Repository(failure) => with_hint(f, &failure.message, &failure.hint),
            Self::Interrupted { left } => with_hint(f, "interrupted", left),
            Self::Usage { message } => write!(f, "{}; see 'windlass --help'", one_line(message)),
            Self::Output { source } => write!(f, "cannot write to stdout: {source}"),
            Self::Cancelled { job } => write!(f, "job {job} was cancelled"),
            Self::Unfinished { job } => write!(
                f,
                "the daemon went away; its next start goes on with job {job}; 'windlass job wait {job}' waits for it"
            ),
            Self::Unwell(1) => f.write_str("one task of a policy is not done as it should be"),
            Self::Unwell(count) => write!(f, "{count} tasks of policies are not done as they should be"),
            Self::StdoutClosed => f.write_str("nobody reads stdout any more"),
            Self::Runtime { source } => write!(f, "cannot start the client's runtime: {source}"),
            Self::Daemon { source } => f.write_str(&one_line(&source.to_string())),
        }
    }
}

fn with_hint(f: &mut fmt::Formatter<'_>, message: &str, hint: &str) -> fmt::Result {
    f.write_str(&one_line(message))?;
    match one_line(hint) {
        hint if hint.is_empty() => Ok(()),
        hint => write!(f, "; {hint}"),
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Client(error) => Some(error),
            Self::Output { source } | Self::Runtime { source } => Some(source),
            Self::Daemon { source } => Some(source),
            Self::Repository(_)
            | Self::Interrupted { .. }
            | Self::Usage { .. }
            | Self::StdoutClosed
            | Self::Unwell(_)
            | Self::Cancelled { .. }
            | Self::Unfinished { .. } => None,
        }
    }
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<io::Error> for Error {
    /// For writes to stdout, the only I/O that commands do themselves.
    fn from(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::BrokenPipe => Self::StdoutClosed,
            _ => Self::Output { source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_with_its_hint() {
        let failure = |message: &str, hint: &str| {
            Error::Client(ClientError::Failure(Failure {
                kind: Kind::NotFound,
                message: message.to_owned(),
                hint: hint.to_owned(),
            }))
        };
        let error = failure("volume pgdata does not exist", "see 'windlass list'");
        assert_eq!(
            error.to_string(),
            "volume pgdata does not exist; see 'windlass list'"
        );
        assert_eq!(error.exit_code(), 3);
        assert_eq!(
            failure("two\nlines\u{1b}[31m", "").to_string(),
            "two lines\u{fffd}[31m"
        );
    }

    #[test]
    fn no_daemon_is_unavailable_and_says_where_it_looked() {
        let error = Error::from(ClientError::NoDaemon {
            tried: vec!["/a.sock".into(), "/p/*/b.sock".into()],
        });
        assert!(
            error
                .to_string()
                .starts_with("no daemon answers at /a.sock or /p/*/b.sock; start it with "),
            "{error}"
        );
        assert_eq!(error.exit_code(), 9);
    }

    #[test]
    fn a_closed_stdout_is_told_apart_from_a_full_disk() {
        let closed = Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(matches!(closed, Error::StdoutClosed) && closed.exit_code() == 0);
        let full = Error::from(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(full.exit_code(), 1);
    }
}
