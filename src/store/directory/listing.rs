//! What is below a directory: strictly, since a listing that hides an object lets others delete what it refers to.
//!
//! Temporary files are not objects. Those that are older than a day are of writers that died, and are removed as they are
//! met; that is all the housekeeping there is.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, openat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{DirectoryStore, OPEN_DIRECTORY, kind, look, object};
use crate::store::{Object, Result, path};
use crate::sys::durable;

/// How old a temporary file must be before it counts as abandoned. No write of one object takes that long.
const ABANDONED_AFTER_SECONDS: i64 = 24 * 60 * 60;

/// Deeper than any repository; what is deeper is a loop of mounts, or not ours.
const MAX_DEPTH: usize = 64;

/// What a name in a directory turned out to be.
enum Found {
    Directory(String),
    Object(Object),
    Nothing,
}

impl DirectoryStore {
    /// Adds all objects in and below `directory`, whose path is `at`.
    pub(super) fn walk(
        &self,
        directory: OwnedFd,
        at: &str,
        depth: usize,
        found: &mut Vec<Object>,
    ) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(self.failure("list", at, Errno::ENAMETOOLONG));
        }
        for (name, kind) in self.names(&directory, at)? {
            match self.look_at(&directory, at, &name, kind)? {
                Found::Object(object) => found.push(object),
                Found::Nothing => {}
                Found::Directory(below) => {
                    match openat(&directory, name.as_str(), OPEN_DIRECTORY, Mode::empty()) {
                        Ok(inner) => self.walk(inner, &below, depth + 1, found)?,
                        Err(Errno::ENOENT) => {} // it went with its last object
                        Err(errno) => return Err(self.failure("list", &below, errno)),
                    }
                }
            }
        }
        Ok(())
    }

    /// The names of the directories right in `directory`, whose path is `at`.
    pub(super) fn directories_in(&self, directory: OwnedFd, at: &str) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for (name, kind) in self.names(&directory, at)? {
            let is_directory = match kind {
                Some(Type::Directory) => true,
                Some(Type::Symlink) | None => self.leads_to_directory(&directory, at, &name)?,
                Some(_) => false,
            };
            if is_directory {
                found.push(name);
            }
        }
        found.sort();
        Ok(found)
    }

    /// The names in a directory and, where the filesystem says, what they are. Without temporary files.
    fn names(&self, directory: &OwnedFd, at: &str) -> Result<Vec<(String, Option<Type>)>> {
        let fail = |errno| self.failure("list", at, errno);
        // A descriptor of its own, since reading moves it.
        let own = openat(directory, ".", OPEN_DIRECTORY, Mode::empty());
        let mut stream = match own.and_then(Dir::from_fd) {
            Ok(stream) => stream,
            Err(Errno::ENOENT) => return Ok(Vec::new()), // removed, so nothing is in it
            Err(errno) => return Err(fail(errno)),
        };
        let mut names = Vec::new();
        for entry in stream.iter() {
            let entry = entry.map_err(fail)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." || is_silly(name) {
                continue;
            }
            if durable::is_temporary(name) {
                sweep(directory, name);
                continue;
            }
            let name = name
                .to_owned()
                .into_string()
                .map_err(|name| self.failure("list", &name.to_string_lossy(), Errno::EILSEQ))?;
            names.push((name, entry.file_type()));
        }
        Ok(names)
    }

    fn look_at(&self, directory: &OwnedFd, at: &str, name: &str, known: Option<Type>) -> Result<Found> {
        let full = format!("{}{name}", path::prefix(at));
        if known == Some(Type::Directory) {
            return Ok(Found::Directory(full));
        }
        match look(directory, name) {
            Ok(stat) => match kind(&stat) {
                SFlag::S_IFREG => Ok(Found::Object(object(full, &stat))),
                SFlag::S_IFDIR => Ok(Found::Directory(full)),
                SFlag::S_IFLNK => Err(self.failure("list", &full, Errno::ELOOP)),
                // Sockets, pipes and devices hide nothing.
                _ => Ok(Found::Nothing),
            },
            Err(Errno::ENOENT) => Ok(Found::Nothing), // deleted since
            Err(errno) => Err(self.failure("list", &full, errno)),
        }
    }

    /// Whether a name of unknown kind is a directory. A link to one is an error: it would hide what is behind it.
    fn leads_to_directory(&self, directory: &OwnedFd, at: &str, name: &str) -> Result<bool> {
        let full = format!("{}{name}", path::prefix(at));
        let fail = |errno| self.failure("list", &full, errno);
        match look(directory, name).map(|stat| kind(&stat)) {
            Ok(SFlag::S_IFDIR) => Ok(true),
            Ok(SFlag::S_IFLNK) => match fstatat(directory, name, AtFlags::empty()) {
                Ok(behind) if kind(&behind) == SFlag::S_IFDIR => Err(fail(Errno::ELOOP)),
                Ok(_) | Err(Errno::ENOENT | Errno::ELOOP) => Ok(false),
                Err(errno) => Err(fail(errno)),
            },
            Ok(_) | Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(fail(errno)),
        }
    }
}

/// Removes a temporary file of a writer that is long dead. What does not succeed is tried at the next listing.
fn sweep(directory: &OwnedFd, name: &OsStr) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() as i64);
    let removed = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).and_then(|stat| {
        let abandoned = kind(&stat) == SFlag::S_IFREG && now - stat.st_mtime > ABANDONED_AFTER_SECONDS;
        if abandoned {
            unlinkat(directory, name, UnlinkatFlags::NoRemoveDir)?;
        }
        Ok(abandoned)
    });
    match removed {
        Ok(true) => log::info!("removed the abandoned temporary file {}", name.to_string_lossy()),
        Ok(false) | Err(Errno::ENOENT) => {}
        Err(errno) => log::debug!("cannot remove {}: {errno}", name.to_string_lossy()),
    }
}

/// Whether NFS made this name for a file that was deleted while somebody had it open.
fn is_silly(name: &OsStr) -> bool {
    name.as_bytes()
        .strip_prefix(b".nfs")
        .is_some_and(|rest| rest.len() >= 16 && rest.iter().all(u8::is_ascii_hexdigit))
}
