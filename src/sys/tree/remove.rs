//! Removing a tree, whatever its owner does to it meanwhile.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::descent::{Descent, Names};
use crate::sys::btrfs;
use crate::sys::error::{Context, Result, SysError};
use crate::sys::handle::{self, Stat};

const OP: &str = "remove";

/// How often a directory that is filled again while it is emptied is emptied again.
const ROUNDS: u32 = 8;

/// Removes whatever is at `path`: a tree, a file, or a symbolic link (and never what that leads to). Absent is fine.
///
/// btrfs subvolumes in it are deleted. A mount point in it, or at it, is an error ([`SysError::MountPoint`]), and so is an
/// immutable file (EPERM); what had its turn before that is gone. Nothing is synced.
pub fn remove_tree(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let Some((parent, name)) = handle::split(path) else {
        return Err(SysError::io(
            OP,
            path,
            io::Error::from(io::ErrorKind::InvalidInput),
        ));
    };
    match handle::open_dir_following(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => remove_at(result.during(OP, path)?.as_fd(), name, path),
    }
}

/// The same for an entry of an open directory; `path` is for errors.
pub(super) fn remove_at(parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<()> {
    let mount = Stat::of(parent).during(OP, path)?;
    let Some(dir) = remove_or_open(parent, name, &mount, path)? else {
        return Ok(());
    };
    let mut remover = Remover {
        way: Descent::new(dir, path, OP)?,
        mount,
        names: Vec::new(),
        visits: Vec::new(),
    };
    remover.list()?;
    remover.run()?;
    // Only the empty root is left.
    for _ in 0..ROUNDS {
        match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {
                remover.list()?;
                remover.run()?;
            }
            Err(error) => return Err(SysError::io(OP, path, error)),
        }
    }
    Err(SysError::io(OP, path, Errno::ENOTEMPTY))
}

/// Removes the entry, or opens it where it is a directory. None: it is gone.
fn remove_or_open(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    mount: &Stat,
    path: &Path,
) -> Result<Option<OwnedFd>> {
    // Whoever keeps swapping a directory and a file only makes us try again.
    for _ in 0..ROUNDS {
        let refusal = match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(None),
            // EISDIR on Linux, EPERM by POSIX; that can also be an immutable file.
            Err(error @ (Errno::EISDIR | Errno::EPERM)) => error,
            Err(Errno::EBUSY) => {
                return Err(SysError::MountPoint {
                    op: OP,
                    path: path.to_owned(),
                });
            }
            Err(error) => return Err(SysError::io(OP, path, error)),
        };
        let dir = match handle::open_dir(parent, name) {
            Ok(dir) => dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP)) => {
                if refusal == Errno::EPERM {
                    return Err(SysError::io(OP, path, refusal));
                }
                continue;
            }
            Err(error) => return Err(SysError::io(OP, path, error)),
        };
        let stat = Stat::of(&dir).during(OP, path)?;
        if !stat.same_mount(mount) {
            return Err(SysError::MountPoint {
                op: OP,
                path: path.to_owned(),
            });
        }
        if btrfs::is_subvolume_root(&dir, &stat).during(OP, path)? {
            drop(dir);
            return btrfs::delete_at(parent, name, path).map(|()| None);
        }
        return Ok(Some(dir));
    }
    Err(SysError::io(OP, path, Errno::EAGAIN))
}

struct Remover {
    way: Descent,
    /// The mount that must not be left.
    mount: Stat,
    /// What is left to do in each directory on the way.
    names: Vec<Names>,
    /// The name of each directory on the way but the root, and how often it was emptied.
    visits: Vec<(OsString, u32)>,
}

impl Remover {
    /// Empties the root.
    fn run(&mut self) -> Result<()> {
        while let Some(names) = self.names.last_mut() {
            match names.next() {
                Some(name) => self.descend(name, 1)?,
                None => {
                    self.names.pop();
                    self.ascend()?;
                }
            }
        }
        Ok(())
    }

    /// Removes an entry of the current directory, or goes into it.
    fn descend(&mut self, name: OsString, round: u32) -> Result<()> {
        if let Some(dir) = remove_or_open(self.way.dir(), &name, &self.mount, &self.way.path_of(&name))? {
            self.way.enter(dir, &name)?;
            self.visits.push((name, round));
            self.list()?;
        }
        Ok(())
    }

    fn list(&mut self) -> Result<()> {
        self.names
            .push(Names::read(self.way.dir()).during(OP, self.way.path())?);
        Ok(())
    }

    /// Leaves the emptied directory and removes it.
    fn ascend(&mut self) -> Result<()> {
        let Some((name, round)) = self.visits.pop() else {
            return Ok(());
        };
        self.way.leave()?;
        match unlinkat(self.way.dir(), name.as_os_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            // Somebody put something into it, or something else in its place.
            Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) if round < ROUNDS => {
                self.descend(name, round + 1)
            }
            Err(error) => Err(self.way.error(&name, error)),
        }
    }
}
