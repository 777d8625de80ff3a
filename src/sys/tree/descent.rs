//! The way from a tree's root to the directory that is being worked on, with few descriptors open.
//!
//! A tree can be deeper than a process may have files open, and a path longer than the kernel takes. Only the deepest
//! levels stay open; on the way back up, a closed one is reopened as `..` and must be the inode that it was.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::sys::error::{Context, Result, SysError};
use crate::sys::handle::{self, Stat};

/// How many levels stay open. A clone has two such ways, so this keeps far below the usual limit of 1024.
const OPEN_LEVELS: usize = 64;

pub(super) struct Descent {
    levels: Vec<Level>,
    path: PathBuf,
    op: &'static str,
}

struct Level {
    /// None where it was closed for being too far up.
    dir: Option<OwnedFd>,
    id: ((u32, u32), u64),
}

impl Descent {
    /// At the root; `path` and `op` are for errors.
    pub(super) fn new(root: OwnedFd, path: &Path, op: &'static str) -> Result<Self> {
        let id = Stat::of(&root).during(op, path)?.id();
        Ok(Self {
            levels: vec![Level { dir: Some(root), id }],
            path: path.to_owned(),
            op,
        })
    }

    /// The directory reached.
    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        let level = self.levels.last().expect("the root is never left");
        level.dir.as_ref().expect("the deepest level is open").as_fd()
    }

    /// Its path, for messages only.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of an entry in it, for messages only.
    pub(super) fn path_of(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    /// An error about an entry in it.
    pub(super) fn error(&self, name: &OsStr, source: impl Into<io::Error>) -> SysError {
        SysError::io(self.op, self.path_of(name), source)
    }

    /// Goes down into `dir`, which was opened as `name`.
    pub(super) fn enter(&mut self, dir: OwnedFd, name: &OsStr) -> Result<()> {
        let id = Stat::of(&dir).map_err(|error| self.error(name, error))?.id();
        self.levels.push(Level { dir: Some(dir), id });
        self.path.push(name);
        if let Some(far) = self.levels.len().checked_sub(OPEN_LEVELS + 1) {
            self.levels[far].dir = None;
        }
        Ok(())
    }

    /// Goes back up. False at the root, which is never left.
    pub(super) fn leave(&mut self) -> Result<bool> {
        if self.levels.len() == 1 {
            return Ok(false);
        }
        let left = self.levels.pop().expect("more than one level");
        let parent = self.levels.last_mut().expect("one level at least");
        if parent.dir.is_none() {
            let below = left.dir.expect("the deepest level is open");
            let dir = handle::open_dir(&below, OsStr::new("..")).during(self.op, &self.path)?;
            if Stat::of(&dir).during(self.op, &self.path)?.id() != parent.id {
                return Err(SysError::Moved {
                    op: self.op,
                    path: self.path.clone(),
                });
            }
            parent.dir = Some(dir);
        }
        self.path.pop();
        Ok(true)
    }
}

/// The names in a directory, read at once, so that what is done to it does not disturb the reading.
///
/// One block of memory for all: directories with millions of entries exist.
#[derive(Clone)]
pub(super) struct Names {
    /// Each ended by a zero byte.
    bytes: Vec<u8>,
    at: usize,
}

impl Names {
    pub(super) fn read(dir: impl AsFd) -> io::Result<Self> {
        // Through a descriptor of its own: the position in the directory belongs to the open file.
        let mut dir = nix::dir::Dir::from_fd(handle::open_dir(dir, OsStr::new("."))?)?;
        let mut bytes = Vec::new();
        for entry in dir.iter() {
            let name = entry?;
            let name = name.file_name().to_bytes_with_nul();
            if name != b".\0" && name != b"..\0" {
                bytes.extend_from_slice(name);
            }
        }
        Ok(Self { bytes, at: 0 })
    }
}

impl Iterator for Names {
    type Item = OsString;

    fn next(&mut self) -> Option<OsString> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        let end = rest
            .iter()
            .position(|byte| *byte == 0)
            .expect("every name is ended");
        self.at += end + 1;
        Some(OsStr::from_bytes(&rest[..end]).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn names_of_any_bytes_and_without_the_dots() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let strange = OsStr::from_bytes(b"\xff\n\\ ");
        fs::write(dir.path().join(strange), "").expect("written");
        fs::write(dir.path().join("..."), "").expect("written");
        let opened = handle::open_dir_path(dir.path()).expect("opened");
        for _ in 0..2 {
            let mut names: Vec<_> = Names::read(&opened).expect("read").collect();
            names.sort();
            assert_eq!(names, [OsStr::new("..."), strange]);
        }
    }

    #[test]
    fn way_down_and_up_keeps_few_open_and_notices_a_move() {
        const DEPTH: usize = OPEN_LEVELS + 20;
        let dir = tempfile::tempdir().expect("a scratch directory");
        fs::create_dir_all(dir.path().join(["d"; DEPTH].join("/"))).expect("directories");
        let mut way = Descent::new(
            handle::open_dir_path(dir.path()).expect("opened"),
            dir.path(),
            "walk",
        )
        .expect("begun");
        let down = |way: &mut Descent| {
            for _ in 0..DEPTH {
                let next = handle::open_dir(way.dir(), OsStr::new("d")).expect("opened");
                way.enter(next, OsStr::new("d")).expect("entered");
            }
        };
        down(&mut way);
        assert_eq!(
            way.levels.iter().filter(|level| level.dir.is_some()).count(),
            OPEN_LEVELS
        );
        let mut up = 0;
        while way.leave().expect("the way back") {
            up += 1;
        }
        assert_eq!((up, way.path()), (DEPTH, dir.path()));
        down(&mut way);
        let outer = dir.path().join(["d"; 10].join("/"));
        fs::create_dir(dir.path().join("elsewhere")).expect("a directory");
        fs::rename(&outer, dir.path().join("elsewhere/d")).expect("moved");
        let error = loop {
            match way.leave() {
                Ok(true) => {}
                other => break other,
            }
        };
        assert!(matches!(error, Err(SysError::Moved { .. })), "{error:?}");
    }
}
