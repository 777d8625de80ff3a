//! btrfs subvolumes and their snapshots, through the kernel's own ioctls (linux/btrfs.h); no btrfs program is needed.
//!
//! Creating and snapshotting commit the transaction, so they are durable when they return; deleting is not, and gives its
//! space back some time later. A snapshot shows subvolumes nested in its source as empty directories: [`nested`] tells.

mod qgroup;
mod raw;

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

pub use qgroup::{QgroupUsage, enable_quota, quota_enabled, set_limit, usage};

use super::error::{Context, Result, SysError};
use super::handle::{self, Stat};
use super::mount::Access;

/// The inode number of every subvolume's root directory.
const ROOT_INODE: u64 = 256;

/// Whether `path` is the root of a subvolume (or of the whole btrfs).
pub fn is_subvolume(path: impl AsRef<Path>) -> Result<bool> {
    let path = path.as_ref();
    let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_CLOEXEC;
    let fd = nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty()).during("open", path)?;
    let stat = Stat::of(&fd).during("read the status of", path)?;
    is_subvolume_root(&fd, &stat).during("read the filesystem of", path)
}

/// Makes an empty subvolume at `path`, where nothing is yet.
pub fn create(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let (parent, name) = open_parent(path, "create subvolume")?;
    raw::create(&parent, name).during("create subvolume", path)
}

/// Freezes the subvolume `source` as a new one at `target`, on the same btrfs, in an instant.
///
/// Data that programs have handed to the kernel is in it; what they still hold is not.
pub fn snapshot(source: impl AsRef<Path>, target: impl AsRef<Path>, access: Access) -> Result<()> {
    let (source, target) = (source.as_ref(), target.as_ref());
    let subvolume = open(source, "snapshot")?;
    let (parent, name) = open_parent(target, "create snapshot")?;
    raw::snapshot(&parent, name, &subvolume, access == Access::ReadOnly).during("create snapshot", target)
}

/// Deletes the subvolume or snapshot at `path` with all its files, a read-only one too.
///
/// One that holds other subvolumes is refused with [`SysError::NestedSubvolumes`]; see [`delete_with_nested`].
pub fn delete(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let inside = nested(path)?;
    if !inside.is_empty() {
        return Err(SysError::NestedSubvolumes {
            path: path.to_owned(),
            nested: inside,
        });
    }
    let (parent, name) = open_parent(path, "delete subvolume")?;
    raw::destroy(&parent, name).during("delete subvolume", path)
}

/// Deletes the subvolume at `path` and all subvolumes inside it.
pub fn delete_with_nested(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let (parent, name) = open_parent(path, "delete subvolume")?;
    delete_at(parent, name, path)
}

/// The subvolumes inside `path` at any depth, as paths from it, the deepest first.
pub fn nested(path: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let path = path.as_ref();
    let subvolume = open(path, "look for subvolumes in")?;
    nested_of(&subvolume).during("look for subvolumes in", path)
}

/// Whether the subvolume refuses writes.
pub fn is_read_only(path: impl AsRef<Path>) -> Result<bool> {
    let path = path.as_ref();
    raw::is_read_only(open(path, "read the flags of")?).during("read the flags of", path)
}

/// Makes the subvolume refuse writes, or accept them again. Busy while a file in it is open for writing.
pub fn set_read_only(path: impl AsRef<Path>, read_only: bool) -> Result<()> {
    let path = path.as_ref();
    raw::set_read_only(open(path, "set the flags of")?, read_only).during("set the flags of", path)
}

/// Commits the filesystem's current transaction and waits for it: all that was done before is durable.
pub fn commit(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let dir = handle::open_dir_following(path).during("open", path)?;
    raw::commit(dir).during("commit the filesystem of", path)
}

/// The same test for an open directory.
pub(super) fn is_subvolume_root(fd: impl AsFd, stat: &Stat) -> io::Result<bool> {
    Ok(stat.is_dir()
        && stat.ino == ROOT_INODE
        && nix::sys::statfs::fstatfs(fd)?.filesystem_type() == nix::sys::statfs::BTRFS_SUPER_MAGIC)
}

/// Deletes the subvolume `name` in `parent` with those inside it, never through a symbolic link; `path` is for errors.
pub(super) fn delete_at(parent: impl AsFd, name: &OsStr, path: &Path) -> Result<()> {
    let op = "delete subvolume";
    let subvolume = handle::open_dir(&parent, name).during(op, path)?;
    check_subvolume(&subvolume, path, op)?;
    for inner in nested_of(&subvolume).during(op, path)? {
        let shown = path.join(&inner);
        let (directories, last) = handle::split(&inner).expect("a nested path has a name");
        // Read-only ones let nothing be removed from them, not even a subvolume.
        let mut dir = subvolume.try_clone().during(op, &shown)?;
        writable(&dir).during(op, &shown)?;
        for component in directories.iter().filter(|component| *component != ".") {
            dir = handle::open_dir(&dir, component).during(op, &shown)?;
            writable(&dir).during(op, &shown)?;
        }
        raw::destroy(&dir, last).during(op, &shown)?;
    }
    drop(subvolume);
    raw::destroy(&parent, name).during(op, path)
}

/// Clears the read-only flag where the directory is the root of a subvolume that has it.
fn writable(dir: impl AsFd) -> io::Result<()> {
    let dir = dir.as_fd();
    if is_subvolume_root(dir, &Stat::of(dir)?)? && raw::is_read_only(dir)? {
        raw::set_read_only(dir, false)?;
    }
    Ok(())
}

/// Follows the tree of roots; ids are unique in a filesystem and never used again, so this ends.
fn nested_of(subvolume: impl AsFd) -> io::Result<Vec<PathBuf>> {
    let fd = subvolume.as_fd();
    let mut pending = vec![(raw::subvolume_id(fd)?, PathBuf::new())];
    let mut found = Vec::new();
    while let Some((id, path)) = pending.pop() {
        for (child, inner) in raw::children(fd, id)? {
            let path = path.join(inner);
            found.push(path.clone());
            pending.push((child, path));
        }
    }
    found.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    Ok(found)
}

/// Opens a directory that must be the root of a subvolume.
fn open(path: &Path, op: &'static str) -> Result<OwnedFd> {
    let fd = handle::open_dir_path(path).during(op, path)?;
    check_subvolume(&fd, path, op)?;
    Ok(fd)
}

fn check_subvolume(fd: &OwnedFd, path: &Path, op: &'static str) -> Result<()> {
    let stat = Stat::of(fd).during(op, path)?;
    if is_subvolume_root(fd, &stat).during(op, path)? {
        Ok(())
    } else {
        Err(SysError::WrongType {
            op,
            path: path.to_owned(),
            found: "not a btrfs subvolume",
        })
    }
}

fn open_parent<'a>(path: &'a Path, op: &'static str) -> Result<(OwnedFd, &'a OsStr)> {
    let (parent, name) = handle::split(path)
        .ok_or_else(|| SysError::io(op, path, io::Error::from(io::ErrorKind::InvalidInput)))?;
    Ok((handle::open_dir_following(parent).during(op, path)?, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{Kind, TestFs, sh};
    use std::fs;

    #[test]
    fn snapshots_freeze_and_only_the_read_only_ones_refuse_writes() {
        let Some(btrfs) = TestFs::new(Kind::Btrfs) else {
            return;
        };
        let at = |name: &str| btrfs.path().join(name);
        create(at("v")).expect("created");
        assert!(create(at("v")).expect_err("taken").is_already_exists());
        assert!(is_subvolume(at("v")).expect("known") && is_subvolume(btrfs.path()).expect("known"));
        fs::create_dir(at("v/d")).expect("a directory");
        assert!(!is_subvolume(at("v/d")).expect("known"));
        fs::write(at("v/f"), "one").expect("written");
        snapshot(at("v"), at("frozen"), Access::ReadOnly).expect("snapshot");
        snapshot(at("frozen"), at("clone"), Access::ReadWrite).expect("snapshot of a snapshot");
        fs::write(at("v/f"), "two").expect("written");
        assert_eq!(fs::read_to_string(at("frozen/f")).expect("read"), "one");
        assert_eq!(
            fs::write(at("frozen/f"), "x").expect_err("frozen").raw_os_error(),
            Some(libc::EROFS)
        );
        fs::write(at("clone/f"), "three").expect("a clone is writable");
        assert!(is_read_only(at("frozen")).expect("known") && !is_read_only(at("clone")).expect("known"));
        set_read_only(at("frozen"), false).expect("cleared");
        fs::write(at("frozen/f"), "x").expect("writable now");
        commit(at("v")).expect("committed");
        let listed = sh(&format!(
            "btrfs subvolume list -o {} | awk '{{print $NF}}' | sort",
            btrfs.path().display()
        ));
        assert_eq!(listed, "clone\nfrozen\nv\n");
    }

    #[test]
    fn delete_takes_read_only_ones_and_nothing_that_is_no_subvolume() {
        let Some(btrfs) = TestFs::new(Kind::Btrfs) else {
            return;
        };
        let at = |name: &str| btrfs.path().join(name);
        create(at("v")).expect("created");
        snapshot(at("v"), at("s"), Access::ReadOnly).expect("snapshot");
        delete(at("s")).expect("deleted");
        assert!(!at("s").exists());
        assert!(delete(at("s")).expect_err("absent").is_not_found());
        fs::create_dir(at("plain")).expect("a directory");
        std::os::unix::fs::symlink("v", at("link")).expect("a link");
        assert!(matches!(delete(at("plain")), Err(SysError::WrongType { .. })));
        assert!(delete(at("link")).is_err() && at("v").exists());
    }

    #[test]
    fn nested_subvolumes_are_named_and_deleted_only_on_demand() {
        let Some(btrfs) = TestFs::new(Kind::Btrfs) else {
            return;
        };
        let at = |name: &str| btrfs.path().join(name);
        create(at("v")).expect("created");
        fs::create_dir_all(at("v/a/b")).expect("directories");
        create(at("v/a/b/inner")).expect("created");
        create(at("v/a/b/inner/most")).expect("created");
        create(at("v/top")).expect("created");
        fs::write(at("v/a/b/inner/most/f"), "x").expect("written");
        set_read_only(at("v/a/b/inner"), true).expect("set");
        assert_eq!(
            nested(at("v")).expect("a list"),
            ["a/b/inner/most", "a/b/inner", "top"].map(PathBuf::from),
            "the deepest first"
        );
        match delete(at("v")) {
            Err(SysError::NestedSubvolumes { nested, .. }) => assert_eq!(nested.len(), 3),
            other => panic!("expected a refusal, got {other:?}"),
        }
        assert!(at("v/a/b/inner/most/f").exists());
        set_read_only(at("v"), true).expect("set");
        delete_with_nested(at("v")).expect("deleted");
        assert!(!at("v").exists());
        assert_eq!(
            sh(&format!("btrfs subvolume list -o {}", btrfs.path().display())),
            ""
        );
    }

    #[test]
    fn many_children_need_more_than_one_search() {
        let Some(btrfs) = TestFs::new(Kind::Btrfs) else {
            return;
        };
        create(btrfs.path().join("v")).expect("created");
        for n in 0..120 {
            create(
                btrfs
                    .path()
                    .join(format!("v/child-with-a-name-of-some-length-{n:03}")),
            )
            .expect("created");
        }
        assert_eq!(nested(btrfs.path().join("v")).expect("a list").len(), 120);
    }
}
