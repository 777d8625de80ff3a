//! A directory tree, built entry by entry from names that may be hostile: nothing outside the root is ever touched.
//!
//! Every step down is an `openat` that refuses symbolic links, so an entry that was built as a link leads nowhere later
//! on. Attributes of directories are applied at the end, the deepest first: until then the root is closed to others,
//! and a directory that is read-only can still be filled. Nothing is synced.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, makedev, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};

use super::descent::Names;
use super::entry;
use crate::sys::error::{Context, Result, SysError};
use crate::sys::handle::{self, proc_path};

const OP: &str = "build";

/// How many directories on the way to the current one stay open.
const OPEN_LEVELS: usize = 64;

/// How many bytes the waiting attributes of directories may take; millions of ordinary directories fit.
const WAITING_BYTES: usize = 512 << 20;

/// A path below a tree's root: no component is empty, `.` or `..`. None at all is the root itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InsidePath(Vec<u8>);

impl InsidePath {
    /// Takes a relative path apart; empty and `.` components go. None where it is absolute, goes up, has a zero byte,
    /// or a component longer than Linux takes.
    pub fn parse(path: &[u8]) -> Option<Self> {
        if path.first() == Some(&b'/') || path.contains(&0) {
            return None;
        }
        let mut inside = Vec::with_capacity(path.len());
        for part in path.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => continue,
                b".." => return None,
                part if part.len() > libc::NAME_MAX as usize => return None,
                part => {
                    if !inside.is_empty() {
                        inside.push(b'/');
                    }
                    inside.extend_from_slice(part);
                }
            }
        }
        Some(Self(inside))
    }

    /// Whether it is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    fn parts(&self) -> impl Iterator<Item = &OsStr> {
        self.0
            .split(|byte| *byte == b'/')
            .filter(|part| !part.is_empty())
            .map(OsStr::from_bytes)
    }

    /// The directory's components, and the last one. None of the root.
    fn split(&self) -> Option<(Vec<OsString>, OsString)> {
        let mut parts: Vec<OsString> = self.parts().map(OsStr::to_owned).collect();
        let last = parts.pop()?;
        Some((parts, last))
    }
}

/// What an entry is given when it is made.
#[derive(Debug, Clone, Default)]
pub struct Attributes {
    /// Permissions with setuid, setgid and sticky bits; of a symbolic link nothing.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// Seconds since 1970, which may be negative, and nanoseconds.
    pub modified: (i64, u32),
    /// The same, where it is known.
    pub accessed: Option<(i64, u32)>,
    /// Extended attributes.
    pub extended: Vec<(OsString, Vec<u8>)>,
}

/// Entries that have no content of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// A named pipe.
    Fifo,
    /// A character device: major and minor number.
    Character(u32, u32),
    /// A block device: major and minor number.
    Block(u32, u32),
}

/// See the module.
#[derive(Debug)]
pub struct TreeBuilder {
    path: PathBuf,
    root: OwnedFd,
    /// The way to the directory that was used last; each opened from the one before.
    chain: Vec<(OsString, OwnedFd)>,
    /// Directories' attributes, which wait for the end.
    waiting: BTreeMap<InsidePath, Attributes>,
    waiting_bytes: usize,
    refused: u64,
}

impl TreeBuilder {
    /// Begins in an existing empty directory, which is closed to others until [`TreeBuilder::finish`].
    pub fn new(target: &Path) -> Result<Self> {
        let root = handle::open_dir_path(target).during(OP, target)?;
        if Names::read(&root).during(OP, target)?.next().is_some() {
            return Err(SysError::WrongType {
                op: OP,
                path: target.to_owned(),
                found: "a directory that is not empty",
            });
        }
        fchmod(&root, Mode::S_IRWXU).during(OP, target)?;
        Ok(Self {
            path: target.to_owned(),
            root,
            chain: Vec::new(),
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            refused: 0,
        })
    }

    /// A directory, or new attributes for one that is there; those of the root too.
    pub fn directory(&mut self, path: &InsidePath, attributes: Attributes) -> Result<()> {
        if let Some((parents, name)) = path.split() {
            let at = self.full(path);
            let parent = self.reach(&parents, true)?;
            match mkdirat(&parent, name.as_os_str(), Mode::S_IRWXU) {
                Ok(()) => {}
                Err(Errno::EEXIST) => match handle::open_dir(&parent, &name) {
                    Ok(_) => {}
                    // A later entry of an archive replaces an earlier one.
                    Err(_) => replace(parent.as_fd(), &name, |dir, name| {
                        mkdirat(dir, name, Mode::S_IRWXU)
                    })
                    .during(OP, &at)?,
                },
                Err(error) => return Err(SysError::io(OP, at, error)),
            }
        }
        let extended = attributes.extended.iter();
        self.waiting_bytes += 200 + path.0.len();
        self.waiting_bytes += extended
            .map(|(name, value)| name.len() + value.len())
            .sum::<usize>();
        if self.waiting_bytes > WAITING_BYTES {
            return Err(SysError::Unsupported {
                op: OP,
                path: self.path.clone(),
                reason: "it has too many directories for the memory that is meant for them".to_owned(),
            });
        }
        self.waiting.insert(path.clone(), attributes);
        Ok(())
    }

    /// A new empty file, to be filled and then given its attributes by [`TreeBuilder::seal`].
    pub fn file(&mut self, path: &InsidePath) -> Result<File> {
        let file = self.make(path, entry::create_file)?;
        Ok(file)
    }

    /// Gives a filled file its attributes.
    pub fn seal(&mut self, path: &InsidePath, file: &File, attributes: &Attributes) -> Result<()> {
        self.apply(file, path, attributes, false)
    }

    /// A symbolic link to `to`, whatever that is: it is not followed.
    pub fn symlink(&mut self, path: &InsidePath, to: &OsStr, attributes: &Attributes) -> Result<()> {
        let made = self.make(path, |dir, name| {
            symlinkat(to, dir, name)?;
            open_made(dir, name)
        })?;
        self.apply(&made, path, attributes, true)
    }

    /// A further name of an entry that is there.
    pub fn hard_link(&mut self, path: &InsidePath, to: &InsidePath) -> Result<()> {
        let at = self.full(path);
        let Some((parents, source)) = to.split() else {
            return Err(SysError::io(OP, at, Errno::EPERM));
        };
        let from = self.reach(&parents, false)?;
        if path == to {
            // Such an entry adds nothing, but what it names has to be there.
            handle::open_path(&from, &source).during(OP, &at)?;
            return Ok(());
        }
        self.make(path, |dir, name| {
            linkat(&from, source.as_os_str(), dir, name, AtFlags::empty())
        })
    }

    /// A device node or a pipe.
    pub fn special(&mut self, path: &InsidePath, kind: Special, attributes: &Attributes) -> Result<()> {
        let (kind, device) = match kind {
            Special::Fifo => (SFlag::S_IFIFO, 0),
            Special::Character(major, minor) => (SFlag::S_IFCHR, makedev(major.into(), minor.into())),
            Special::Block(major, minor) => (SFlag::S_IFBLK, makedev(major.into(), minor.into())),
        };
        let made = self.make(path, |dir, name| {
            mknodat(dir, name, kind, Mode::S_IRUSR | Mode::S_IWUSR, device)?;
            open_made(dir, name)
        })?;
        self.apply(&made, path, attributes, false)
    }

    /// Gives the directories their attributes; how many extended attributes the filesystem does not support at all.
    pub fn finish(mut self) -> Result<u64> {
        let waiting = std::mem::take(&mut self.waiting);
        // What is in a directory comes after it in this order.
        for (path, attributes) in waiting.iter().rev() {
            let parts: Vec<OsString> = path.parts().map(OsStr::to_owned).collect();
            let dir = self.reach(&parts, false)?;
            self.apply(&dir, path, attributes, false)?;
        }
        Ok(self.refused)
    }

    /// Makes an entry, in place of what is there unless that is a directory.
    fn make<T>(
        &mut self,
        path: &InsidePath,
        create: impl Fn(BorrowedFd<'_>, &OsStr) -> nix::Result<T>,
    ) -> Result<T> {
        let at = self.full(path);
        let Some((parents, name)) = path.split() else {
            return Err(SysError::WrongType {
                op: "build a file at",
                path: at,
                found: "the tree's root",
            });
        };
        let parent = self.reach(&parents, true)?;
        match create(parent.as_fd(), &name) {
            Err(Errno::EEXIST) => replace(parent.as_fd(), &name, create),
            result => result,
        }
        .during(OP, at)
    }

    /// Opens a directory of the tree, from the root and over no link; missing ones are made if asked for.
    fn reach(&mut self, parts: &[OsString], make: bool) -> Result<OwnedFd> {
        let same = self
            .chain
            .iter()
            .zip(parts)
            .take_while(|((name, _), part)| name == *part)
            .count();
        self.chain.truncate(same);
        let from = self.chain.last().map_or(&self.root, |(_, dir)| dir);
        let mut dir = from.try_clone().during(OP, &self.path)?;
        for (depth, part) in parts.iter().enumerate().skip(same) {
            let next = match handle::open_dir(&dir, part) {
                Err(error) if make && error.kind() == std::io::ErrorKind::NotFound => {
                    let mode = Mode::from_bits_truncate(0o755);
                    mkdirat(&dir, part.as_os_str(), mode)
                        .map_err(std::io::Error::from)
                        .and_then(|()| handle::open_dir(&dir, part))
                }
                result => result,
            };
            let path = || self.path.join(parts[..=depth].iter().collect::<PathBuf>());
            dir = next.map_err(|error| match error.raw_os_error() {
                Some(libc::ELOOP | libc::ENOTDIR) => SysError::WrongType {
                    op: "go into",
                    path: path(),
                    found: "no directory but a link or a file",
                },
                _ => SysError::io(OP, path(), error),
            })?;
            if depth < OPEN_LEVELS {
                self.chain
                    .push((part.clone(), dir.try_clone().during(OP, &self.path)?));
            }
        }
        Ok(dir)
    }

    /// Owner, extended attributes, mode, times, in this order: see [`entry::apply`].
    fn apply(&mut self, made: impl AsFd, path: &InsidePath, wanted: &Attributes, link: bool) -> Result<()> {
        let at = || self.full(path);
        let (user, group) = (Uid::from_raw(wanted.owner.0), Gid::from_raw(wanted.owner.1));
        fchownat(&made, "", Some(user), Some(group), AtFlags::AT_EMPTY_PATH)
            .during("set the owner of", at())?;
        let inode = proc_path(&made);
        let mut refused = 0;
        for (name, value) in &wanted.extended {
            match xattr::set_deref(&inode, name, value) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => refused += 1,
                Err(error) => return Err(SysError::io("set an extended attribute of", at(), error)),
            }
        }
        if !link {
            let mode = Mode::from_bits_truncate(wanted.mode & 0o7777);
            fchmodat(nix::fcntl::AT_FDCWD, &inode, mode, FchmodatFlags::FollowSymlink)
                .during("set the mode of", at())?;
        }
        let time = |(secs, nanos): (i64, u32)| TimeSpec::new(secs, nanos.into());
        let modified = time(wanted.modified);
        let accessed = wanted.accessed.map_or(modified, time);
        utimensat(
            nix::fcntl::AT_FDCWD,
            &inode,
            &accessed,
            &modified,
            UtimensatFlags::FollowSymlink,
        )
        .during("set the times of", at())?;
        self.refused += refused;
        Ok(())
    }

    /// For messages only.
    fn full(&self, path: &InsidePath) -> PathBuf {
        self.path.join(OsString::from_vec(path.0.clone()))
    }
}

/// Makes an entry where another is, which goes; a directory stays, and is an error.
fn replace<T>(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    create: impl Fn(BorrowedFd<'_>, &OsStr) -> nix::Result<T>,
) -> nix::Result<T> {
    unlinkat(dir, name, UnlinkatFlags::NoRemoveDir)?;
    create(dir, name)
}

fn open_made(dir: BorrowedFd<'_>, name: &OsStr) -> nix::Result<OwnedFd> {
    openat(
        dir,
        name,
        OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(path: &str) -> InsidePath {
        InsidePath::parse(path.as_bytes()).expect("an inside path")
    }

    fn plain(mode: u32) -> Attributes {
        Attributes {
            mode,
            owner: (Uid::effective().as_raw(), Gid::effective().as_raw()),
            ..Attributes::default()
        }
    }

    #[test]
    fn paths_stay_inside() {
        for bad in ["/", "/etc", "..", "a/..", "a/../b", "a\0", &"x".repeat(256)] {
            assert_eq!(InsidePath::parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert!(inside("./").is_root() && inside("").is_root());
        assert_eq!(inside("./a//b/./c/"), inside("a/b/c"));
        assert_eq!(inside("..a/..."), InsidePath(b"..a/...".to_vec()));
    }

    #[test]
    fn a_link_that_was_built_leads_no_later_entry_out() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        std::fs::create_dir(&root).expect("made");
        std::fs::create_dir(&outside).expect("made");
        std::fs::write(outside.join("secret"), "s").expect("written");
        let mut tree = TreeBuilder::new(&root).expect("begun");
        let to = outside.as_os_str();
        tree.symlink(&inside("way"), to, &plain(0)).expect("a link");
        assert!(tree.file(&inside("way/f")).is_err());
        assert!(tree.directory(&inside("way/d"), plain(0o755)).is_err());
        assert!(tree.hard_link(&inside("h"), &inside("way/secret")).is_err());
        assert!(
            tree.special(&inside("way/p"), Special::Fifo, &plain(0o600))
                .is_err()
        );
        // In the last place the link itself is replaced.
        drop(tree.file(&inside("way")).expect("a file in its place"));
        tree.finish().expect("finished");
        assert_eq!(std::fs::read_dir(&outside).expect("read").count(), 1);
        assert!(root.join("way").symlink_metadata().expect("there").is_file());
    }

    #[test]
    fn a_read_only_directory_is_filled_and_then_closed() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().expect("a scratch directory");
        let mut tree = TreeBuilder::new(dir.path()).expect("begun");
        let mut attributes = plain(0o555);
        attributes.modified = (-5, 7);
        tree.directory(&inside("a"), attributes).expect("made");
        tree.directory(&inside("."), plain(0o711)).expect("the root's");
        let file = tree.file(&inside("a/b/f")).expect("made with its directory");
        tree.seal(&inside("a/b/f"), &file, &plain(0o4640))
            .expect("sealed");
        tree.hard_link(&inside("a/g"), &inside("a/b/f")).expect("linked");
        tree.finish().expect("finished");
        let a = dir.path().join("a").metadata().expect("there");
        assert_eq!((a.mode() & 0o7777, a.mtime(), a.mtime_nsec()), (0o555, -5, 7));
        let g = dir.path().join("a/g").metadata().expect("there");
        assert_eq!((g.mode() & 0o7777, g.nlink()), (0o4640, 2));
        assert_eq!(dir.path().metadata().expect("there").mode() & 0o7777, 0o711);
    }

    #[test]
    fn deeper_than_directories_may_be_open() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let mut tree = TreeBuilder::new(dir.path()).expect("begun");
        let deep = inside(&"d/".repeat(1500));
        tree.directory(&deep, plain(0o700)).expect("made");
        tree.finish().expect("finished");
        crate::sys::tree::remove_tree(dir.path().join("d")).expect("removed");
    }
}
