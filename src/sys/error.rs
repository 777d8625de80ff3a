//! What can go wrong in this room: one enum, with the errno within reach.
//!
//! The messages say what failed and on which object; why it failed is the source, so print the whole chain
//! (`std::error::Error::source`). Callers decide by [`SysError::io_kind`] and the `is_…` methods, never by the text.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// The result of everything in this room.
pub type Result<T> = std::result::Result<T, SysError>;

/// A failed action on the kernel or on a command.
#[derive(Debug, thiserror::Error)]
pub enum SysError {
    /// A system call failed.
    #[error("cannot {op} {}", path.display())]
    Io {
        /// What was tried, as a phrase that follows "cannot".
        op: &'static str,
        /// The object it was tried on.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel or the filesystem has no such ability, for a reason that is known better than its errno says.
    #[error("cannot {op} {}: {reason}", path.display())]
    Unsupported {
        /// What was tried, as a phrase that follows "cannot".
        op: &'static str,
        /// The object it was tried on.
        path: PathBuf,
        /// Why it cannot work here, and what would make it work.
        reason: String,
    },
    /// An extended attribute could not be copied.
    #[error("cannot clone {}: its extended attribute {} cannot be copied", path.display(), name.display())]
    Attribute {
        /// The entry that has it.
        path: PathBuf,
        /// The attribute's name.
        name: OsString,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel's text could not be understood.
    #[error("cannot read {}: line {line} makes no sense: {content:?}", path.display())]
    Malformed {
        /// The file that was read.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// The line, cut to a readable length.
        content: String,
    },
    /// An object is not of the type that the action needs.
    #[error("cannot {op} {}: it is {found}", path.display())]
    WrongType {
        /// What was tried, as a phrase that follows "cannot".
        op: &'static str,
        /// The object it was tried on.
        path: PathBuf,
        /// What is there, with its article: "a symbolic link", "a directory that is not empty".
        found: &'static str,
    },
    /// A tree contains a mount point, and the action must not reach into another filesystem.
    #[error("cannot {op} {}: something is mounted there; unmount it first", path.display())]
    MountPoint {
        /// What was tried, as a phrase that follows "cannot".
        op: &'static str,
        /// The mount point.
        path: PathBuf,
    },
    /// A directory was moved elsewhere while it was being walked.
    #[error("cannot {op} {}: it was moved meanwhile", path.display())]
    Moved {
        /// What was tried, as a phrase that follows "cannot".
        op: &'static str,
        /// Where it was first found.
        path: PathBuf,
    },
    /// A subvolume holds other subvolumes, which the action would have to destroy as well.
    #[error("cannot delete subvolume {}: it contains {} other subvolumes, {} among them", path.display(), nested.len(), first(nested))]
    NestedSubvolumes {
        /// The subvolume.
        path: PathBuf,
        /// The ones inside it, as paths from it.
        nested: Vec<PathBuf>,
    },
    /// Another process holds the lock.
    #[error("cannot lock {}: {} holds it", path.display(), process(*pid))]
    LockHeld {
        /// The lock's file.
        path: PathBuf,
        /// The holder, where it could be read.
        pid: Option<i32>,
    },
    /// Another process answers on the socket.
    #[error("cannot listen on {}: another process answers there", path.display())]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// The caller's monitor asked to stop.
    #[error("{op} of {} was cancelled", path.display())]
    Cancelled {
        /// What was being done, as a noun.
        op: &'static str,
        /// The object it was done to.
        path: PathBuf,
    },
    /// A command ended, and not well.
    #[error("command `{command}` failed ({status}){}", tail(last_line))]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The last line that it wrote to stderr; may be empty.
        last_line: String,
    },
    /// A command did not end in time; it and all of its children in its process group were killed.
    #[error("command `{command}` did not end within {} s and was killed{}", limit.as_secs_f32(), tail(last_line))]
    CommandTimeout {
        /// The command line.
        command: String,
        /// How long it was allowed to run.
        limit: Duration,
        /// The last line that it wrote to stderr; may be empty.
        last_line: String,
    },
}

impl SysError {
    pub(super) fn io(op: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self::Io {
            op,
            path: path.as_ref().to_owned(),
            source: source.into(),
        }
    }

    /// The kernel's error number, where a system call failed.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } | Self::Attribute { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// The nearest kind of I/O error; the variants that no system call caused are mapped to their likeness.
    pub fn io_kind(&self) -> io::ErrorKind {
        match self {
            Self::Io { source, .. } | Self::Attribute { source, .. } => source.kind(),
            Self::Unsupported { .. } => io::ErrorKind::Unsupported,
            Self::Malformed { .. } => io::ErrorKind::InvalidData,
            Self::WrongType { .. } => io::ErrorKind::InvalidInput,
            Self::MountPoint { .. }
            | Self::NestedSubvolumes { .. }
            | Self::LockHeld { .. }
            | Self::SocketInUse { .. } => io::ErrorKind::ResourceBusy,
            Self::Moved { .. } | Self::Cancelled { .. } => io::ErrorKind::Interrupted,
            Self::Command { .. } => io::ErrorKind::Other,
            Self::CommandTimeout { .. } => io::ErrorKind::TimedOut,
        }
    }

    /// The object is held: mounted, locked, served or open elsewhere.
    pub fn is_busy(&self) -> bool {
        self.io_kind() == io::ErrorKind::ResourceBusy || self.io_kind() == io::ErrorKind::ExecutableFileBusy
    }

    /// The object is absent.
    pub fn is_not_found(&self) -> bool {
        self.io_kind() == io::ErrorKind::NotFound
    }

    /// Something of that name is there already.
    pub fn is_already_exists(&self) -> bool {
        self.io_kind() == io::ErrorKind::AlreadyExists
    }

    /// The filesystem or a quota is full.
    pub fn is_no_space(&self) -> bool {
        matches!(
            self.io_kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }

    /// The kernel or the filesystem cannot do this at all, so that trying again is no use.
    pub fn is_unsupported(&self) -> bool {
        self.io_kind() == io::ErrorKind::Unsupported
            || matches!(self.errno(), Some(libc::ENOTTY | libc::ENOSYS | libc::EOPNOTSUPP))
    }
}

/// Turns the bare errors of std and nix into this room's, with the object's name.
pub(super) trait Context<T> {
    /// `op` is a phrase that follows "cannot".
    fn during(self, op: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn during(self, op: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| SysError::io(op, path, source))
    }
}

/// The result of a raw system call that answers -1 and sets errno.
pub(super) fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn first(nested: &[PathBuf]) -> String {
    nested
        .first()
        .map(|path| path.display().to_string())
        .unwrap_or_default()
}

fn process(pid: Option<i32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

fn tail(last_line: &str) -> String {
    if last_line.is_empty() {
        String::new()
    } else {
        format!(": {last_line}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(errno: i32) -> SysError {
        SysError::io("unmount", "/v", io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn errno_decides_what_an_error_is() {
        assert!(io(libc::EBUSY).is_busy());
        assert!(io(libc::ENOENT).is_not_found());
        assert!(io(libc::EEXIST).is_already_exists());
        assert!(io(libc::ENOSPC).is_no_space() && io(libc::EDQUOT).is_no_space());
        assert!(io(libc::EOPNOTSUPP).is_unsupported() && io(libc::ENOTTY).is_unsupported());
        assert!(!io(libc::EINVAL).is_unsupported() && !io(libc::EPERM).is_busy());
        assert_eq!(io(libc::EXDEV).errno(), Some(libc::EXDEV));
    }

    #[test]
    fn message_names_action_and_object_and_the_source_says_why() {
        let error = io(libc::EBUSY);
        assert_eq!(error.to_string(), "cannot unmount /v");
        let source = std::error::Error::source(&error).expect("a source").to_string();
        assert!(source.contains("busy"), "{source}");
        let held = SysError::LockHeld {
            path: "/s/lock".into(),
            pid: Some(7),
        };
        assert_eq!(held.to_string(), "cannot lock /s/lock: process 7 holds it");
        assert!(held.is_busy());
    }
}
