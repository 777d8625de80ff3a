//! Directories to mount volumes on.
//!
//! A mount point is an ordinary directory. When its mount is lost, whoever uses the path writes into the directory, beside the
//! data, and nothing tells. Guarded mount points are therefore directories of a filesystem in memory that is mounted read-only:
//! with the mount on them lost, a write fails; with the filesystem itself lost, the path is not there at all. They are made and
//! removed through a handle that may write and that no path leads to.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::error::{Context, Result};
use super::mount::{self, Access};
use super::mountinfo;

/// What the filesystem in memory is called in the table of mounts.
const SOURCE: &str = "windlass";

/// A directory, and in it one directory for each mount.
#[derive(Debug)]
pub struct MountPoints {
    dir: PathBuf,
    guard: Option<Guard>,
}

#[derive(Debug)]
struct Guard {
    /// A path that is free, for moments.
    scratch: PathBuf,
    /// The filesystem's own directory, writable.
    handle: Mutex<Option<OwnedFd>>,
}

impl MountPoints {
    /// Ordinary directories below `dir`.
    pub fn plain(dir: PathBuf) -> Self {
        Self { dir, guard: None }
    }

    /// On a read-only filesystem at `dir`, whose mount is propagated as those below it will be. `scratch` is a path that is
    /// free, on another filesystem; something is mounted there for a moment.
    pub fn guarded(dir: PathBuf, scratch: PathBuf) -> Self {
        let handle = Mutex::default();
        let guard = Some(Guard { scratch, handle });
        Self { dir, guard }
    }

    /// The mount point that is called `name`.
    pub fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    /// The directory of them all.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether the path is one of them.
    pub fn contain(&self, path: &Path) -> bool {
        path.starts_with(&self.dir)
    }

    /// Whether they are on a filesystem of their own.
    pub fn are_guarded(&self) -> bool {
        self.guard.is_some()
    }

    /// Those on which something is mounted.
    pub fn mounted(&self) -> Result<BTreeSet<PathBuf>> {
        let dir = self.dir.canonicalize().during("resolve", &self.dir)?;
        let mounts = mountinfo::read_self()?;
        let below = mounts
            .iter()
            .filter_map(|mount| mount.mount_point.strip_prefix(&dir).ok());
        Ok(below.map(|name| self.at(name)).collect())
    }

    /// Makes sure that there is a place for mount points. True if there was none: then the mounts that were there are lost too.
    pub fn ensure(&self) -> Result<bool> {
        match &self.guard {
            None => {
                make_dir(&self.dir)?;
                Ok(false)
            }
            Some(guard) => guard.ensure(&self.dir, &mut guard.lock()),
        }
    }

    /// Makes the mount point that is called `name`; one that is there is kept.
    pub fn make(&self, name: &str) -> Result<PathBuf> {
        let path = self.at(name);
        match &self.guard {
            None => make_dir(&path)?,
            Some(guard) => {
                let mut handle = guard.lock();
                guard.ensure(&self.dir, &mut handle)?;
                let handle = handle.as_ref().expect("it is there now");
                match mkdirat(handle, name, Mode::S_IRWXU) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    failed => failed.during("make the mount point", &path)?,
                }
            }
        }
        Ok(path)
    }

    /// Removes the mount point that is called `name`, unless something is mounted there or in it.
    pub fn remove(&self, name: &str) {
        let removed = match &self.guard {
            None => std::fs::remove_dir(self.at(name)).map_err(|error| error.to_string()),
            Some(guard) => match &*guard.lock() {
                Some(handle) => {
                    unlinkat(handle, name, UnlinkatFlags::RemoveDir).map_err(|error| error.to_string())
                }
                None => Ok(()),
            },
        };
        if let Err(error) = removed {
            log::debug!("the mount point {} stays: {error}", self.at(name).display());
        }
    }
}

impl Guard {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<OwnedFd>> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ensure(&self, dir: &Path, handle: &mut Option<OwnedFd>) -> Result<bool> {
        make_dir(dir)?;
        let dir = &dir.canonicalize().during("resolve", dir)?;
        let mounts = mountinfo::read_self()?;
        let there = mountinfo::find_at(&mounts, dir)
            .map(|stack| stack.top)
            .filter(|top| top.fs_type == "tmpfs" && top.source == SOURCE);
        if let (Some(there), Some(handle)) = (there, &*handle) {
            let device = fstat(handle).during("read the status of", dir)?.st_dev;
            if there.device == (libc::major(device), libc::minor(device)) {
                return Ok(false);
            }
        }
        let fresh = there.is_none();
        make_dir(&self.scratch)?;
        let made = if fresh { self.show_new(dir) } else { Ok(()) };
        let opened = made.and_then(|()| self.open_writable(dir));
        let _ = std::fs::remove_dir(&self.scratch);
        *handle = Some(opened?);
        Ok(fresh)
    }

    /// Read-only from the first moment: a bind, and what is propagated of it, has the flags of its source at that time.
    fn show_new(&self, dir: &Path) -> Result<()> {
        mount::mount(
            SOURCE,
            &self.scratch,
            "tmpfs",
            "mode=0700,size=1m,nosuid,nodev,noexec",
        )?;
        let shown = mount::remount(&self.scratch, Access::ReadOnly)
            .and_then(|()| mount::bind(&self.scratch, dir, Access::ReadWrite));
        mount::unmount_lazy(&self.scratch)?;
        shown
    }

    /// A mount that is detached lives as long as it is open.
    fn open_writable(&self, dir: &Path) -> Result<OwnedFd> {
        mount::bind(dir, &self.scratch, Access::ReadWrite)?;
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let opened = mount::remount(&self.scratch, Access::ReadWrite)
            .and_then(|()| open(&self.scratch, flags, Mode::empty()).during("open", &self.scratch));
        mount::unmount_lazy(&self.scratch)?;
        opened
    }
}

fn make_dir(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .during("make the directory", path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{Kind, TestFs};
    use std::fs;

    /// A scene on a filesystem whose mounts are private to it.
    fn scene() -> Option<(TestFs, MountPoints)> {
        let fs = TestFs::new(Kind::Tmpfs)?;
        let points = again(&fs);
        Some((fs, points))
    }

    fn again(fs: &TestFs) -> MountPoints {
        MountPoints::guarded(fs.path().join("points"), fs.path().join("scratch"))
    }

    fn errno(result: std::io::Result<()>) -> Option<i32> {
        result.expect_err("refused").raw_os_error()
    }

    #[test]
    fn nothing_can_be_written_beside_a_volume_whose_mount_is_lost() {
        let Some((fs, points)) = scene() else { return };
        let data = fs.path().join("data");
        fs::create_dir(&data).expect("a directory");
        let at = points.make("v").expect("made");
        mount::bind(&data, &at, Access::ReadWrite).expect("bound");
        fs::write(at.join("f"), "x").expect("into the volume");
        assert_eq!(points.make("v").expect("there already"), at);

        mount::unmount(&at).expect("lost");
        assert_eq!(errno(fs::write(at.join("f"), "y")), Some(libc::EROFS));
        assert!(!points.ensure().expect("they are there"));
        mount::unmount(fs.path().join("points")).expect("lost too");
        assert_eq!(errno(fs::write(at.join("f"), "y")), Some(libc::ENOENT));
        assert!(points.ensure().expect("made anew"), "and it says so");
        assert_eq!(errno(fs::create_dir(&at)), Some(libc::EROFS));
        mount::bind(&data, points.make("v").expect("made"), Access::ReadWrite).expect("bound");
        assert_eq!(fs::read_to_string(at.join("f")).expect("the volume's"), "x");
    }

    #[test]
    fn the_next_run_finds_them_and_takes_them_away() {
        let Some((fs, points)) = scene() else { return };
        let at = points.make("v").expect("made");
        drop(points);
        let points = again(&fs);
        assert!(!points.ensure().expect("they are there"));
        assert!(at.is_dir());
        points.make("w").expect("made");
        points.remove("v");
        assert!(!at.exists());
        let mut left = fs::read_dir(points.dir()).expect("readable");
        assert_eq!(left.next().expect("one").expect("readable").file_name(), "w");
        assert!(left.next().is_none());
        let table = mountinfo::read_self().expect("a table");
        let stack = mountinfo::find_at(&table, points.dir()).expect("mounted");
        assert_eq!(stack.count, 1);
        assert!(!fs.path().join("scratch").exists());
    }

    #[test]
    fn a_mount_point_in_use_stays() {
        let Some((fs, points)) = scene() else { return };
        let at = points.make("v").expect("made");
        mount::bind(fs.path(), &at, Access::ReadOnly).expect("bound");
        points.remove("v");
        assert!(mountinfo::find_at(&mountinfo::read_self().expect("a table"), &at).is_some());
    }
}
