//! A directory as a store: local, or any filesystem that is mounted there.
//!
//! An object is written under a temporary name beside its place, synced, renamed, and the directory synced: a power cut
//! leaves it whole or not at all, and no reader sees a part. Directories are made, and made durable, when the first object
//! goes into them, and go with the last one. Everything is reached from the descriptor of the destination itself and no
//! symbolic link below it is followed, so that what is mounted over the path later, or a link that somebody put there,
//! changes nothing. It does not remove what it did not write, but for temporary files of writers that died.

mod listing;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};
use uuid::Uuid;

use super::{Destination, Object, Result, Spare, Store, StoreError, path};
use crate::sys::{SysError, direct, durable, fault};

/// Objects are their owner's alone: what is in them may be encrypted with an empty password.
const FILE_MODE: Mode = Mode::from_bits_truncate(0o600);
const DIRECTORY_MODE: Mode = Mode::from_bits_truncate(0o700);

const OPEN_DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// How often a write looks again when its directory was removed under it by one who deleted the last object there.
const ATTEMPTS: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct DirectoryStore {
    root: OwnedFd,
    location: String,
    /// Directories whose names are known to be durable; held for a look-up or an insertion. It has some hundred entries
    /// for a repository.
    durable: Mutex<HashSet<String>>,
    /// What is read into.
    spare: Spare,
}

impl DirectoryStore {
    /// Opens the directory, which must exist: an unmounted filesystem must not look like an empty destination.
    ///
    /// # Errors
    /// [`StoreError::Failed`] where it is missing or not a directory; [`StoreError::Denied`].
    pub fn open(directory: &Path) -> Result<Self> {
        let location = Destination::Directory {
            path: directory.to_owned(),
        }
        .url();
        // Links in the destination's own path are the administrator's.
        let flags = OPEN_DIRECTORY.difference(OFlag::O_NOFOLLOW);
        match nix::fcntl::open(directory, flags, Mode::empty()) {
            Ok(root) => Ok(Self {
                root,
                location,
                durable: Mutex::default(),
                spare: Spare::default(),
            }),
            Err(Errno::ENOENT) => Err(StoreError::Failed {
                location,
                doing: "open it".to_owned(),
                why: "there is no such directory; make it, or mount what belongs there".to_owned(),
            }),
            Err(errno) => Err(failure(&location, "open it", errno)),
        }
    }

    /// Writes the object's bytes beside its place and calls `place` with the directory, the temporary name and the
    /// object's name. All is done again where the directory vanished meanwhile.
    fn write(
        &self,
        path: &str,
        bytes: &[u8],
        place: impl Fn(&OwnedFd, &str, &str) -> Result<(), Errno>,
    ) -> Result<()> {
        path::check(path)?;
        let (parent, name) = split(path);
        let mut last = Errno::ENOENT;
        for _ in 0..ATTEMPTS {
            let done = self.make(parent).and_then(|directory| {
                let staged = Staged::write(&directory, bytes)?;
                fault::point("store.put.staged");
                place(&directory, &staged.name, name)?;
                fault::point("store.put.placed");
                drop(staged);
                sync(&directory)
            });
            match done {
                Err(Errno::ENOENT | Errno::ESTALE) => last = Errno::ENOENT,
                Err(Errno::EEXIST) => {
                    return Err(StoreError::AlreadyExists {
                        location: self.location.clone(),
                        path: path.to_owned(),
                    });
                }
                Err(errno) => return Err(self.failure("write", path, errno)),
                Ok(()) => return Ok(()),
            }
        }
        Err(self.failure("write", path, last))
    }

    /// The directory `path`, made if need be; its name and those above are durable.
    fn make(&self, path: &str) -> Result<OwnedFd, Errno> {
        let mut at = self.root.try_clone().map_err(errno_of)?;
        let mut upto = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            upto.push_str(part);
            let below = match openat(&at, part, OPEN_DIRECTORY, Mode::empty()) {
                Err(Errno::ENOENT) => {
                    self.known().remove(&upto);
                    match mkdirat(&at, part, DIRECTORY_MODE) {
                        Ok(()) | Err(Errno::EEXIST) => {}
                        Err(errno) => return Err(errno),
                    }
                    openat(&at, part, OPEN_DIRECTORY, Mode::empty())?
                }
                found => found?,
            };
            // Also one that was there: who made it may have died before it was durable.
            if !self.known().contains(&upto) {
                sync(&at)?;
                self.known().insert(upto.clone());
            }
            at = below;
            upto.push('/');
        }
        Ok(at)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory `path`, if it is there.
    fn directory(&self, path: &str) -> Result<Option<OwnedFd>, Errno> {
        let mut at = self.root.try_clone().map_err(errno_of)?;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            at = match openat(&at, part, OPEN_DIRECTORY, Mode::empty()) {
                Err(Errno::ENOENT) => return Ok(None),
                found => found?,
            };
        }
        Ok(Some(at))
    }

    /// The object's file and its size.
    fn open_object(&self, path: &str) -> Result<(File, u64)> {
        path::check(path)?;
        let (parent, name) = split(path);
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let opened = self.directory(parent).and_then(|parent| {
            let file = parent.map(|parent| openat(&parent, name, flags, Mode::empty()));
            file.transpose()
        });
        let file = match opened {
            Ok(Some(file)) => File::from(file),
            Ok(None) | Err(Errno::ENOENT) => {
                return Err(StoreError::NotFound {
                    location: self.location.clone(),
                    path: path.to_owned(),
                });
            }
            Err(errno) => return Err(self.failure("read", path, errno)),
        };
        let meta = file
            .metadata()
            .map_err(|error| self.failure("read", path, errno_of(error)))?;
        if !meta.is_file() {
            return Err(self.failure("read", path, Errno::EISDIR));
        }
        Ok((file, meta.size()))
    }

    fn failure(&self, verb: &str, path: &str, errno: Errno) -> StoreError {
        failure(&self.location, &format!("{verb} {path}"), errno)
    }
}

impl Store for DirectoryStore {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.write(path, &bytes, |directory, staged, name| {
            renameat(directory, staged, directory, name)
        })
    }

    fn put_new(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.write(path, &bytes, |directory, staged, name| {
            match linkat(directory, staged, directory, name, AtFlags::empty()) {
                Err(Errno::EPERM | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EMLINK) => {
                    rename_new(directory, staged, name)
                }
                // NFS may have linked, lost the answer, and been refused when it asked again (link(2), BUGS).
                Err(Errno::EEXIST) if look(directory, staged)?.st_nlink == 2 => Ok(()),
                result => result,
            }
        })
    }

    fn get(&self, path: &str, limit: u64) -> Result<Bytes> {
        let (file, size) = self.open_object(path)?;
        if size > limit {
            return Err(StoreError::TooLarge {
                location: self.location.clone(),
                path: path.to_owned(),
                size,
                limit,
            });
        }
        let mut bytes = Vec::with_capacity(size as usize);
        file.take(size)
            .read_to_end(&mut bytes)
            .map_err(|error| self.failure("read", path, errno_of(error)))?;
        Ok(Bytes::from(bytes))
    }

    fn get_range(&self, path: &str, offset: u64, length: u64) -> Result<Bytes> {
        let (file, size) = self.open_object(path)?;
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(StoreError::too_short(&self.location, path, offset, length, size));
        }
        let mut buffer = self.spare.lend();
        buffer.resize(length as usize);
        match file.read_exact_at(buffer.as_mut(), offset) {
            Ok(()) => Ok(Bytes::from_owner(buffer)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let size = file.metadata().map_or(0, |meta| meta.size());
                Err(StoreError::too_short(&self.location, path, offset, length, size))
            }
            Err(error) => Err(self.failure("read", path, errno_of(error))),
        }
    }

    fn stat(&self, path: &str) -> Result<Option<Object>> {
        path::check(path)?;
        let (parent, name) = split(path);
        let found = self
            .directory(parent)
            .and_then(|parent| parent.map(|parent| look(&parent, name)).transpose());
        match found {
            Ok(Some(stat)) if kind(&stat) == SFlag::S_IFREG => Ok(Some(object(path.to_owned(), &stat))),
            Ok(Some(stat)) if kind(&stat) == SFlag::S_IFLNK => {
                Err(self.failure("look at", path, Errno::ELOOP))
            }
            // A directory is no object, and neither is anything else.
            Ok(_) | Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.failure("look at", path, errno)),
        }
    }

    fn list(&self, below: &str) -> Result<Vec<Object>> {
        path::check_directory(below)?;
        let mut found = Vec::new();
        match self.directory(below) {
            Ok(Some(directory)) => self.walk(directory, below, 0, &mut found)?,
            Ok(None) => {}
            Err(errno) => return Err(self.failure("list", below, errno)),
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    fn directories(&self, below: &str) -> Result<Vec<String>> {
        path::check_directory(below)?;
        match self.directory(below) {
            Ok(Some(directory)) => self.directories_in(directory, below),
            Ok(None) => Ok(Vec::new()),
            Err(errno) => Err(self.failure("list", below, errno)),
        }
    }

    fn delete(&self, path: &str) -> Result<()> {
        path::check(path)?;
        let (parent, name) = split(path);
        let deleted = self.directory(parent).and_then(|directory| {
            let Some(directory) = directory else { return Ok(()) };
            match unlinkat(&directory, name, UnlinkatFlags::NoRemoveDir) {
                Err(Errno::ENOENT) => Ok(()),
                // Durable before the next one goes, since callers delete what refers to things before the things.
                result => result.and_then(|()| sync(&directory)),
            }
        });
        deleted.map_err(|errno| self.failure("delete", path, errno))?;
        self.prune(parent);
        Ok(())
    }
}

impl DirectoryStore {
    /// Removes directories that became empty, from the inside; the store's own stays.
    fn prune(&self, mut directory: &str) {
        while !directory.is_empty() {
            let (parent, name) = split(directory);
            let removed = self.directory(parent).and_then(|parent| {
                parent
                    .map(|parent| unlinkat(&parent, name, UnlinkatFlags::RemoveDir))
                    .transpose()
            });
            if removed.is_err() {
                return; // others' objects are in it, as a rule
            }
            self.known().remove(directory);
            directory = parent;
        }
    }
}

/// A complete and synced file under a temporary name; removed on drop unless it was renamed away.
struct Staged<'a> {
    directory: &'a OwnedFd,
    name: String,
}

impl<'a> Staged<'a> {
    fn write(directory: &'a OwnedFd, bytes: &[u8]) -> Result<Self, Errno> {
        let name = format!(".tmp-{}", Uuid::new_v4());
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(directory, name.as_str(), flags, FILE_MODE)?;
        let staged = Self { directory, name };
        // The umask may have taken from it; an ACL of the directory may have added to it.
        fchmod(&file, FILE_MODE)?;
        let file = File::from(file);
        direct::write_new(&file, bytes).map_err(errno_of)?;
        file.sync_all().map_err(errno_of)?;
        Ok(staged)
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        match unlinkat(self.directory, self.name.as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => log::warn!("temporary file {} stays behind: {errno}", self.name),
        }
    }
}

/// For filesystems without hard links.
fn rename_new(directory: &OwnedFd, staged: &str, name: &str) -> Result<(), Errno> {
    let at = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    match durable::rename_new(at.join(staged), at.join(name)) {
        Ok(()) => Ok(()),
        Err(SysError::Unsupported { .. }) => match look(directory, name) {
            Ok(_) => Err(Errno::EEXIST),
            Err(Errno::ENOENT) => renameat(directory, staged, directory, name),
            Err(errno) => Err(errno),
        },
        Err(error) if error.is_already_exists() => Err(Errno::EEXIST),
        Err(error) => Err(errno_of(io::Error::from(error.io_kind()))),
    }
}

fn sync(directory: impl AsFd) -> Result<(), Errno> {
    match nix::unistd::fsync(directory) {
        // Some network and FUSE filesystems have no such call for directories, and no way to do better.
        Err(Errno::EINVAL) => Ok(()),
        result => result,
    }
}

fn look(directory: &OwnedFd, name: &str) -> Result<FileStat, Errno> {
    fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

fn object(path: String, stat: &FileStat) -> Object {
    Object {
        path,
        size: stat.st_size as u64,
        modified: Some(stat.st_mtime),
    }
}

/// The directory of an object, `""` for the store's own, and its name there.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn errno_of(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// What the kernel's answer means to a store's user.
fn failure(location: &str, doing: &str, errno: Errno) -> StoreError {
    let (location, doing) = (location.to_owned(), doing.to_owned());
    let said = errno.desc();
    match errno {
        Errno::EACCES | Errno::EPERM => StoreError::Denied {
            location,
            why: format!(
                "cannot {doing}: {said}; user {} needs the permission to read and write there",
                nix::unistd::geteuid()
            ),
        },
        Errno::ENOSPC | Errno::EDQUOT => StoreError::Failed {
            location,
            doing,
            why: format!("{said}; nothing of it was kept, free some space there and try again"),
        },
        Errno::ELOOP | Errno::ENOTDIR => StoreError::Failed {
            location,
            doing,
            why: format!("{said} (symbolic links inside a destination are not followed)"),
        },
        Errno::ESTALE
        | Errno::ETIMEDOUT
        | Errno::EAGAIN
        | Errno::EINTR
        | Errno::EHOSTDOWN
        | Errno::EHOSTUNREACH
        | Errno::ENETUNREACH
        | Errno::ENOTCONN
        | Errno::EREMOTEIO
        | Errno::EMFILE
        | Errno::ENFILE
        | Errno::ENOENT => StoreError::Unavailable {
            location,
            doing,
            why: said.to_owned(),
        },
        _ => StoreError::Failed {
            location,
            doing,
            why: said.to_owned(),
        },
    }
}
