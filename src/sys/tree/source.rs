//! A tree that is read entry by entry, for a backup: a cursor that its caller moves, and handles on what it meets.
//!
//! The caller decides what is worth opening; here it is done safely, while a container may be changing the tree. An entry
//! that is gone is `None`, everything else that cannot be read is an error with its path.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::fcntl::readlinkat;

use super::descent::{Descent, Names};
use super::{copy, fingerprint, origin, xattrs};
use crate::sys::error::{Context, Result, SysError};
use crate::sys::handle::{self, FileTime, Stat};

const OP: &str = "read";

/// The cursor: at one directory of the tree, the root at first.
pub struct Source {
    way: Descent,
    root: Stat,
    /// Files are told by what they were cloned from, see [`origin`].
    origins: bool,
}

/// An entry whose inode stays the same whatever happens to its name.
#[derive(Debug)]
pub struct Pinned {
    node: OwnedFd,
    origins: bool,
    /// What it was when it was pinned.
    pub stat: Stat,
    /// For messages.
    pub path: PathBuf,
}

/// A regular file's content.
#[derive(Debug)]
pub struct SourceFile {
    file: File,
    path: PathBuf,
    /// When it was opened.
    pub stat: Stat,
}

impl Source {
    /// At the root of the tree; a symbolic link in the last place is refused.
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        let path = root.as_ref();
        let dir = handle::open_dir_path(path).during(OP, path)?;
        let root = Stat::of(&dir).during(OP, path)?;
        Ok(Self {
            origins: origin::has_notes(&dir),
            way: Descent::new(dir, path, OP)?,
            root,
        })
    }

    /// The directory's path, for messages.
    pub fn path(&self) -> &Path {
        self.way.path()
    }

    /// The names in the directory, sorted by their bytes.
    pub fn names(&self) -> Result<Vec<OsString>> {
        let mut names: Vec<_> = Names::read(self.way.dir()).during(OP, self.way.path())?.collect();
        names.sort_unstable();
        Ok(names)
    }

    /// What the entry is, at the cost of one call, or two where files are told by what they were cloned from.
    pub fn look(&self, name: &OsStr) -> Result<Option<Stat>> {
        let stat = present(Stat::at(self.way.dir(), name)).map_err(|error| self.way.error(name, error))?;
        Ok(stat.map(|stat| match self.origins {
            true => origin::of_entry(self.way.dir(), name, stat),
            false => stat,
        }))
    }

    /// Takes hold of the entry.
    pub fn pin(&self, name: &OsStr) -> Result<Option<Pinned>> {
        let pin = || -> io::Result<_> {
            let Some(node) = present(handle::open_path(self.way.dir(), name))? else {
                return Ok(None);
            };
            let stat = state(&node, self.origins)?;
            let path = self.way.path_of(name);
            Ok(Some(Pinned {
                node,
                origins: self.origins,
                stat,
                path,
            }))
        };
        pin().map_err(|error| self.way.error(name, error))
    }

    /// Takes hold of the directory itself.
    pub fn pin_here(&self) -> Result<Pinned> {
        let path = self.way.path().to_owned();
        let node = handle::open_path(self.way.dir(), OsStr::new(".")).during(OP, &path)?;
        let stat = Stat::fresh(&node).during(OP, &path)?;
        Ok(Pinned {
            node,
            origins: self.origins,
            stat,
            path,
        })
    }

    /// Whether something else is mounted there.
    pub fn is_other_mount(&self, stat: &Stat) -> bool {
        !stat.same_mount(&self.root)
    }

    /// Goes down into a directory that was pinned here. False where it was removed meanwhile.
    pub fn enter(&mut self, name: &OsStr, pinned: &Pinned) -> Result<bool> {
        let opened = present(handle::open_dir(&pinned.node, OsStr::new(".")));
        match opened.map_err(|error| self.way.error(name, error))? {
            None => Ok(false),
            Some(dir) => self.way.enter(dir, name).map(|()| true),
        }
    }

    /// Goes back up; at the root it stays.
    pub fn leave(&mut self) -> Result<()> {
        self.way.leave().map(drop)
    }
}

impl Stat {
    /// Whether a later change is sure to have another ctime, when this was learnt at or after `looked_at`.
    ///
    /// The kernel stamps from a clock that stands still for a tick, and some filesystems keep whole seconds.
    pub fn is_settled(&self, looked_at: FileTime) -> bool {
        fingerprint::settles_in(self.ctime, looked_at).is_none()
    }
}

impl Pinned {
    /// Its extended attributes, in the kernel's order.
    pub fn xattrs(&self) -> Result<Vec<(OsString, Vec<u8>)>> {
        let op = "read the extended attributes of";
        xattrs::read(&self.node).map_err(|(_, error)| SysError::io(op, &self.path, error))
    }

    /// Where the symbolic link leads.
    pub fn link_target(&self) -> Result<OsString> {
        readlinkat(&self.node, "").during(OP, &self.path)
    }

    /// Opens the regular file.
    pub fn open(&self) -> Result<SourceFile> {
        let file = handle::reopen_for_reading(&self.node).during(OP, &self.path)?;
        let stat = state(&file, self.origins).during(OP, &self.path)?;
        Ok(SourceFile {
            file: file.into(),
            path: self.path.clone(),
            stat,
        })
    }
}

impl SourceFile {
    /// For messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends up to `want` bytes from `at` on; how many there were. None only at the end.
    pub fn read_at(&self, buffer: &mut Vec<u8>, want: usize, at: u64) -> Result<usize> {
        let start = buffer.len();
        buffer.resize(start + want, 0);
        let got = loop {
            match self.file.read_at(&mut buffer[start..], at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        buffer.truncate(start + got.as_ref().map_or(0, |got| *got));
        got.during(OP, &self.path)
    }

    /// The next stretch of data at or after `at` and below `end`; None where only a hole is left.
    pub fn next_data(&self, at: u64, end: u64) -> Result<Option<(u64, u64)>> {
        copy::next_data(&self.file, at, end).during(OP, &self.path)
    }

    /// How long it is now.
    pub fn size(&self) -> Result<u64> {
        Ok(Stat::of(&self.file).during(OP, &self.path)?.size)
    }
}

fn state(node: impl AsFd, origins: bool) -> io::Result<Stat> {
    let stat = Stat::fresh(&node)?;
    Ok(if origins {
        origin::of_node(node, stat)
    } else {
        stat
    })
}

/// None for what is gone, or whose directory is.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
