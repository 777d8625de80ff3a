//! A tree that is written entry by entry, for a restore: a cursor that its caller moves, and what it makes on the way.
//!
//! Names come from whoever wrote the backup. Every step is one name, relative to an open directory, and follows no link;
//! a name with a slash in it is refused by the caller, who knows what names are.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{geteuid, linkat, symlinkat};
use uuid::Uuid;

use super::descent::{Descent, Names};
use super::entry::{self, Failure};
use super::remove::remove_at;
use super::xattrs;
use crate::sys::error::{Context, Result, SysError};
use crate::sys::handle::{self, FileTime, Stat};

const OP: &str = "write";

/// The cursor: at one directory of the tree, the root at first.
pub struct Target {
    way: Descent,
    root: OwnedFd,
    /// Where inodes with several names are kept for linking: made at first need, and its name in the root.
    links: Option<OwnedFd>,
    links_name: OsString,
    next_link: u64,
}

/// A directory of the tree in which files can be made from any thread, wherever the cursor is.
pub struct Place {
    dir: OwnedFd,
    path: PathBuf,
}

/// An entry that more names can be given to.
#[derive(Debug, Clone, Copy)]
pub struct Kept {
    number: u64,
    id: ((u32, u32), u64),
}

/// What an entry has beyond its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// 12 bits; a symbolic link has none.
    pub mode: Option<u32>,
    /// When it was read.
    pub atime: FileTime,
    /// When its content changed.
    pub mtime: FileTime,
    /// All of them; others are removed.
    pub xattrs: Vec<(OsString, Vec<u8>)>,
}

impl Target {
    /// At the root, which is made where it is absent; for nobody else until it gets its own mode.
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        let path = root.as_ref();
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result.during(OP, path)?,
        }
        let root = handle::open_dir_path(path).during(OP, path)?;
        Ok(Self {
            way: Descent::new(root.try_clone().during(OP, path)?, path, OP)?,
            root,
            links: None,
            links_name: format!(".tmp-{}", Uuid::new_v4()).into(),
            next_link: 0,
        })
    }

    /// The directory's path, for messages.
    pub fn path(&self) -> &Path {
        self.way.path()
    }

    /// The path of an entry, for messages.
    pub fn path_of(&self, name: &OsStr) -> PathBuf {
        self.way.path_of(name)
    }

    /// The names in the directory, but for what is there for the work only.
    pub fn names(&self) -> Result<Vec<OsString>> {
        let names = Names::read(self.way.dir()).during(OP, self.way.path())?;
        Ok(names.filter(|name| *name != self.links_name).collect())
    }

    /// What is there of that name.
    pub fn look(&self, name: &OsStr) -> Result<Option<Stat>> {
        match Stat::at(self.way.dir(), name) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.way.error(name, error)),
        }
    }

    /// Removes the entry with all that is in it; what is mounted in it is an error.
    pub fn remove(&self, name: &OsStr) -> Result<()> {
        remove_at(self.way.dir(), name, &self.way.path_of(name))
    }

    /// Makes a directory, for nobody else until it gets its own mode.
    pub fn create_dir(&self, name: &OsStr) -> Result<()> {
        self.made(name, entry::create_dir(self.way.dir(), name))
    }

    /// Goes down into a directory.
    pub fn enter(&mut self, name: &OsStr) -> Result<()> {
        let dir = handle::open_dir(self.way.dir(), name).map_err(|error| self.way.error(name, error))?;
        self.way.enter(dir, name)
    }

    /// Goes back up; at the root it stays.
    pub fn leave(&mut self) -> Result<()> {
        self.way.leave().map(drop)
    }

    /// Makes a file, for nobody else until it gets its own mode.
    pub fn create_file(&self, name: &OsStr) -> Result<File> {
        self.made(name, entry::create_file(self.way.dir(), name))
    }

    /// Opens a file that is there, for reading and writing.
    pub fn open_file(&self, name: &OsStr) -> Result<File> {
        let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let opened = openat(self.way.dir(), name, flags, Mode::empty());
        self.made(name, opened.map(File::from))
    }

    /// Makes a symbolic link.
    pub fn create_symlink(&self, name: &OsStr, target: &OsStr) -> Result<()> {
        self.made(name, symlinkat(target, self.way.dir(), name))
    }

    /// Makes a device node, FIFO or socket: `S_IFBLK` and so on, with its device numbers.
    pub fn create_special(&self, name: &OsStr, file_type: u32, device: (u32, u32)) -> Result<()> {
        self.made(
            name,
            entry::create_special(self.way.dir(), name, file_type, device),
        )
    }

    fn made<T>(&self, name: &OsStr, result: std::result::Result<T, Errno>) -> Result<T> {
        result.map_err(|error| self.way.error(name, error))
    }

    /// Keeps the entry, so that it can be linked to whatever becomes of its name.
    pub fn keep(&mut self, name: &OsStr) -> Result<Kept> {
        if self.links.is_none() {
            self.made(name, entry::create_dir(self.root.as_fd(), &self.links_name))?;
            let dir = handle::open_dir(&self.root, &self.links_name);
            self.links = Some(dir.map_err(|error| self.way.error(name, error))?);
        }
        let links = self.links.as_ref().expect("made above");
        let number = self.next_link;
        let staged = OsString::from(number.to_string());
        let linked = linkat(self.way.dir(), name, links, staged.as_os_str(), AtFlags::empty());
        self.made(name, linked)?;
        let stat = Stat::at(links, &staged).map_err(|error| self.way.error(name, error))?;
        self.next_link += 1;
        Ok(Kept {
            number,
            id: stat.id(),
        })
    }

    /// Gives a kept entry a further name; replaces nothing.
    pub fn link(&self, kept: Kept, name: &OsStr) -> Result<()> {
        let links = self.links.as_ref().expect("what is kept is kept there");
        let staged = OsString::from(kept.number.to_string());
        let linked = linkat(links, staged.as_os_str(), self.way.dir(), name, AtFlags::empty());
        self.made(name, linked)
    }

    /// Gives the entry its owner, attributes, mode and times, as far as they differ; how many attributes it cannot have.
    ///
    /// Without privileges, owners stay as they are, and attributes that only root may set count as refused.
    pub fn apply(&self, name: &OsStr, wanted: &Metadata) -> Result<u64> {
        let node = handle::open_path(self.way.dir(), name).map_err(|error| self.way.error(name, error))?;
        set(&node, wanted, || self.way.path_of(name))
    }

    /// The same for the directory itself.
    pub fn apply_here(&self, wanted: &Metadata) -> Result<u64> {
        set(self.way.dir(), wanted, || self.way.path().to_owned())
    }

    /// The directory, for as long as that is kept.
    pub fn place(&self) -> Result<Place> {
        let dir = self.way.dir().try_clone_to_owned();
        Ok(Place {
            dir: dir.during(OP, self.way.path())?,
            path: self.way.path().to_owned(),
        })
    }

    /// Removes what was only there for the work. The root gets its attributes after it.
    pub fn finish(&mut self) -> Result<()> {
        if self.links.take().is_some() {
            remove_at(self.root.as_fd(), &self.links_name, self.way.path())?;
        }
        Ok(())
    }
}

impl Place {
    /// The path of an entry, for messages.
    pub fn path_of(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    /// Makes a file, for nobody else until it gets its own mode.
    pub fn create_file(&self, name: &OsStr) -> Result<File> {
        entry::create_file(self.dir.as_fd(), name)
            .map_err(|error| SysError::io(OP, self.path_of(name), error))
    }

    /// Gives a file that was just made what [`Target::apply`] gives an entry.
    pub fn complete(&self, name: &OsStr, file: &File, wanted: &Metadata) -> Result<u64> {
        if !xattrs::has_none(file) || !wanted.xattrs.is_empty() {
            return set(file, wanted, || self.path_of(name));
        }
        let failed = |op| move |error: io::Error| SysError::io(op, self.path_of(name), error);
        let stat = Stat::of(file).map_err(failed("look at"))?;
        set_owner(file, wanted, &stat).map_err(failed("set the owner of"))?;
        let mode = wanted.mode.filter(|mode| *mode != stat.mode & 0o7777);
        entry::set_file_mode_and_times(file, mode, wanted.atime, wanted.mtime)
            .map_err(failed("set the mode and times of"))?;
        Ok(0)
    }

    /// The same for the directory itself.
    pub fn apply(&self, wanted: &Metadata) -> Result<u64> {
        set(&self.dir, wanted, || self.path.clone())
    }
}

impl Kept {
    /// Whether that is what was kept.
    pub fn is(&self, stat: &Stat) -> bool {
        self.id == stat.id()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            log::warn!("{error}: {}", self.links_name.display());
        }
    }
}

/// Sets the owner where it is another; whether it did. Without privileges it stays as it is.
fn set_owner(node: impl AsFd, wanted: &Metadata, stat: &Stat) -> io::Result<bool> {
    if (stat.uid, stat.gid) == (wanted.uid, wanted.gid) {
        return Ok(false);
    }
    match entry::set_owner(node, wanted.uid, wanted.gid) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) && !geteuid().is_root() => Ok(false),
        Err(error) => Err(error),
    }
}

fn set(node: impl AsFd, wanted: &Metadata, path: impl Fn() -> PathBuf) -> Result<u64> {
    let failed = |op| {
        let path = &path;
        move |error| SysError::io(op, path(), error)
    };
    let plain = |op| {
        let failed = failed(op);
        move |failure| match failure {
            Failure::Io(error) | Failure::Attribute(_, error) => failed(error),
        }
    };
    let stat = Stat::of(&node).map_err(failed("look at"))?;
    let root = geteuid().is_root();
    let owned = set_owner(&node, wanted, &stat).map_err(failed("set the owner of"))?;
    let mut wanted_xattrs = std::borrow::Cow::from(&wanted.xattrs);
    let refused = loop {
        match xattrs::set(&node, &wanted_xattrs) {
            Ok(refused) => break refused.len() + wanted.xattrs.len() - wanted_xattrs.len(),
            Err((name, error)) if !root && error.raw_os_error() == Some(libc::EPERM) => {
                let before = wanted_xattrs.len();
                wanted_xattrs.to_mut().retain(|(other, _)| *other != name);
                if wanted_xattrs.len() == before {
                    // One that is there and must not be removed.
                    break wanted.xattrs.len() - wanted_xattrs.len() + 1;
                }
            }
            Err((_, error)) => return Err(failed("set the extended attributes of")(error)),
        }
    };
    let now = Stat::of(&node).map_err(failed("look at"))?;
    let same = |mode| now.mode & 0o7777 == mode;
    if owned || now.mtime != wanted.mtime || now.atime != wanted.atime || !wanted.mode.is_none_or(same) {
        entry::set_mode_and_times(&node, wanted.mode, wanted.atime, wanted.mtime)
            .map_err(plain("set the mode and times of"))?;
    }
    Ok(refused as u64)
}
