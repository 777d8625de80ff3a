//! A plain walk over a tree, for work on entries one by one.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use super::descent::{Descent, Names};
use crate::sys::error::{Context, Result, SysError};
use crate::sys::handle::{self, Stat};

/// An entry met on a walk.
pub(in crate::sys) struct Entry<'a> {
    way: &'a Descent,
    /// Its name in the directory.
    pub(in crate::sys) name: &'a OsStr,
    /// What it is.
    pub(in crate::sys) stat: Stat,
    /// Opened where it is a directory.
    pub(in crate::sys) dir: Option<&'a OwnedFd>,
}

impl Entry<'_> {
    /// The directory that it is in.
    pub(in crate::sys) fn parent(&self) -> BorrowedFd<'_> {
        self.way.dir()
    }

    /// An error about it.
    pub(in crate::sys) fn error(&self, source: impl Into<io::Error>) -> SysError {
        self.way.error(self.name, source)
    }
}

/// Shows each entry below `root` to `visit`, a directory before what is in it; `path` and `op` are for errors.
///
/// What is mounted in the tree is passed over, and so are entries that vanish meanwhile.
pub(in crate::sys) fn walk(
    root: OwnedFd,
    path: &Path,
    op: &'static str,
    mut visit: impl FnMut(&Entry<'_>) -> Result<()>,
) -> Result<()> {
    let mount = Stat::of(&root).during(op, path)?;
    let mut names = vec![Names::read(&root).during(op, path)?];
    let mut way = Descent::new(root, path, op)?;
    while let Some(list) = names.last_mut() {
        let Some(name) = list.next() else {
            names.pop();
            way.leave()?;
            continue;
        };
        let mut stat = match Stat::at(way.dir(), &name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            result => result.map_err(|error| way.error(&name, error))?,
        };
        if !stat.same_mount(&mount) {
            continue;
        }
        if !stat.is_dir() {
            visit(&Entry {
                way: &way,
                name: &name,
                stat,
                dir: None,
            })?;
            continue;
        }
        let dir = match handle::open_dir(way.dir(), &name) {
            Err(error) if is_gone(&error) => continue,
            result => result.map_err(|error| way.error(&name, error))?,
        };
        // Of what was opened: the name may lead elsewhere by now.
        stat = Stat::of(&dir).map_err(|error| way.error(&name, error))?;
        if !stat.same_mount(&mount) {
            continue;
        }
        visit(&Entry {
            way: &way,
            name: &name,
            stat,
            dir: Some(&dir),
        })?;
        names.push(Names::read(&dir).map_err(|error| way.error(&name, error))?);
        way.enter(dir, &name)?;
    }
    Ok(())
}

/// Gone, or no directory any more.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)
    )
}
