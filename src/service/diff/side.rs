//! One of the two trees that are compared: on disk, or in the repository of a stored snapshot.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use nix::sys::stat::makedev;

use super::super::{Found, Inner, Result};
use super::Key;
use crate::driver::{Driver, DriverError, Files};
use crate::engine::tree::{Node, NodeKind, Tree};
use crate::engine::{Id, Lock, Progress, Repository, compare};
use crate::model::Volume;
use crate::sys::tree::{FileTime, Source, Stat};

/// One of the two trees, at one of its directories.
pub(super) enum Side {
    Here {
        source: Source,
        _files: Files,
    },
    Stored {
        repository: Repository,
        levels: Vec<Tree>,
        _lock: Option<Lock>,
    },
}

/// An entry of a directory.
pub(super) struct Entry {
    /// As `S_IFMT` has it.
    pub file_type: u32,
    pub mode: u32,
    pub owner: (u32, u32),
    pub size: u64,
    ino: u64,
    mtime: FileTime,
    ctime: FileTime,
    pub device: u64,
    other_mount: bool,
    pub node: Option<Box<Node>>,
}

impl Side {
    pub fn open(
        inner: &Inner,
        driver: &dyn Driver,
        volume: &Volume,
        of: Option<&Found>,
        progress: &Arc<Progress>,
    ) -> Result<Self> {
        if let Some(found) = of.filter(|found| found.snapshot.stored.is_some()) {
            let stored = inner.stored_backup(driver, volume, &found.snapshot)?;
            let (repository, backup, lock) = stored.read(progress)?;
            let root = compare::directory(&repository, &compare::root(&repository, &backup)?)?;
            return Ok(Self::Stored {
                repository,
                levels: vec![root],
                _lock: lock,
            });
        }
        let files = driver.files(volume, of.map(|found| &found.snapshot))?;
        let source = Source::open(&files.path).map_err(DriverError::from)?;
        Ok(Self::Here {
            source,
            _files: files,
        })
    }

    pub fn names(&self) -> Result<Vec<OsString>> {
        match self {
            Self::Here { source, .. } => Ok(source.names().map_err(DriverError::from)?),
            Self::Stored { levels, .. } => {
                let tree = levels.last().expect("the root is never left");
                Ok(tree.nodes.iter().map(|node| node.name.clone()).collect())
            }
        }
    }

    pub fn look(&self, name: &OsStr) -> Result<Option<Entry>> {
        match self {
            Self::Here { source, .. } => {
                let stat = source.look(name).map_err(DriverError::from)?;
                Ok(stat.map(|stat| Entry::of(&stat, source.is_other_mount(&stat))))
            }
            Self::Stored { levels, .. } => {
                let tree = levels.last().expect("the root is never left");
                Ok(tree.find(name).map(Entry::of_node))
            }
        }
    }

    /// False where it has gone, or is not this tree's.
    pub fn enter(&mut self, name: &OsStr, entry: &Entry) -> Result<bool> {
        match self {
            Self::Here { source, .. } => {
                if entry.other_mount {
                    return Ok(false);
                }
                let Some(pinned) = source.pin(name).map_err(DriverError::from)? else {
                    return Ok(false);
                };
                Ok(source.enter(name, &pinned).map_err(DriverError::from)?)
            }
            Self::Stored {
                repository, levels, ..
            } => {
                let Some(subtree) = entry.subtree() else {
                    return Ok(false);
                };
                levels.push(compare::directory(repository, subtree)?);
                Ok(true)
            }
        }
    }

    pub fn leave(&mut self) -> Result<()> {
        match self {
            Self::Here { source, .. } => Ok(source.leave().map_err(DriverError::from)?),
            Self::Stored { levels, .. } => {
                levels.pop();
                Ok(())
            }
        }
    }

    pub fn target(&self, name: &OsStr, entry: &Entry) -> Result<Option<OsString>> {
        match (self, entry.node.as_deref().map(|node| &node.kind)) {
            (_, Some(NodeKind::Symlink { target })) => Ok(Some(target.clone())),
            (Self::Here { source, .. }, None) => {
                let pinned = source.pin(name).map_err(DriverError::from)?;
                Ok(pinned
                    .map(|pinned| pinned.link_target())
                    .transpose()
                    .map_err(DriverError::from)?)
            }
            _ => Ok(None),
        }
    }

    /// Sorted by name.
    pub fn attributes(&self, name: &OsStr, entry: &Entry) -> Result<Vec<(OsString, Vec<u8>)>> {
        let mut all = match (self, entry.node.as_deref()) {
            (_, Some(node)) => node
                .xattrs
                .iter()
                .map(|x| (OsString::from(&x.name), x.value.clone()))
                .collect(),
            (Self::Here { source, .. }, None) => match source.pin(name).map_err(DriverError::from)? {
                Some(pinned) => pinned.xattrs().map_err(DriverError::from)?,
                None => Vec::new(),
            },
            _ => Vec::new(),
        };
        all.sort_unstable();
        Ok(all)
    }
}

impl Entry {
    pub fn of(stat: &Stat, other_mount: bool) -> Self {
        let (major, minor) = stat.rdev;
        Self {
            file_type: stat.file_type(),
            mode: stat.mode & 0o7777,
            owner: (stat.uid, stat.gid),
            size: stat.size,
            ino: stat.ino,
            mtime: stat.mtime,
            ctime: stat.ctime,
            device: makedev(major.into(), minor.into()),
            other_mount,
            node: None,
        }
    }

    pub fn of_node(node: &Node) -> Self {
        let (file_type, size, device) = match &node.kind {
            NodeKind::File { size, .. } => (libc::S_IFREG, *size, 0),
            NodeKind::Dir { .. } => (libc::S_IFDIR, 0, 0),
            NodeKind::Symlink { .. } => (libc::S_IFLNK, 0, 0),
            NodeKind::BlockDevice { device } => (libc::S_IFBLK, 0, *device),
            NodeKind::CharDevice { device } => (libc::S_IFCHR, 0, *device),
            NodeKind::Fifo => (libc::S_IFIFO, 0, 0),
            NodeKind::Socket => (libc::S_IFSOCK, 0, 0),
            NodeKind::Irregular => (0, 0, 0),
        };
        Self {
            file_type,
            mode: node.mode,
            owner: (node.uid, node.gid),
            size,
            ino: node.inode,
            mtime: node.mtime,
            ctime: node.ctime,
            device,
            other_mount: false,
            node: Some(Box::new(node.clone())),
        }
    }

    pub fn subtree(&self) -> Option<&Id> {
        match &self.node.as_deref()?.kind {
            NodeKind::Dir { subtree } => Some(subtree),
            _ => None,
        }
    }

    pub fn is_dir(&self) -> bool {
        self.file_type == libc::S_IFDIR
    }

    /// Of files alone.
    pub fn bytes(&self) -> u64 {
        match self.file_type {
            libc::S_IFREG => self.size,
            _ => 0,
        }
    }

    pub fn word(&self) -> &'static str {
        match self.file_type {
            libc::S_IFREG => "file",
            libc::S_IFDIR => "directory",
            libc::S_IFLNK => "symlink",
            libc::S_IFBLK => "block device",
            libc::S_IFCHR => "character device",
            libc::S_IFIFO => "fifo",
            libc::S_IFSOCK => "socket",
            _ => "other",
        }
    }

    /// Nothing has happened to it: any change moves ctime.
    pub fn is_untouched(&self, before: &Self) -> bool {
        let all = |of: &Self| {
            (
                of.ino,
                of.ctime,
                of.mtime,
                of.bytes(),
                of.file_type,
                of.mode,
                of.owner,
            )
        };
        all(self) == all(before)
    }

    /// By which it is known under another name. Inode numbers are given out again, times hardly.
    pub fn key(&self) -> Option<Key> {
        let FileTime { secs, nanos } = self.mtime;
        (self.ino != 0).then(|| (self.ino, self.file_type, self.bytes(), secs, i64::from(nanos)))
    }
}
