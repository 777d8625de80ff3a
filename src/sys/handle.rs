//! Handles on directory entries that pin what they were opened on, and what `statx` says about them.
//!
//! A handle is opened with `O_PATH|O_NOFOLLOW` from a directory's descriptor: it triggers no device, follows no link, and
//! everything learnt or done through it concerns the same inode, whatever a container does to the name meanwhile. Calls
//! that refuse such descriptors (xattrs, chmod, a real open) go through `/proc/self/fd`, which leads to the inode itself.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

/// A point in time as filesystems keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileTime {
    /// Since 1970, and before it where negative.
    pub secs: i64,
    /// Onwards from there; below a thousand million.
    pub nanos: u32,
}

impl FileTime {
    /// By the clock that filesystems stamp with, which stands still for a tick of up to 10 ms.
    pub fn now() -> Self {
        let mut now = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the kernel fills the structure, which lives through the call.
        let result = unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &mut now) };
        assert_eq!(result, 0, "every Linux has this clock, and the address is valid");
        Self {
            secs: now.tv_sec,
            nanos: now.tv_nsec as u32,
        }
    }
}

/// What the kernel says about one inode.
#[derive(Debug, Clone, Copy)]
pub struct Stat {
    /// Device and inode: the identity of the inode while it exists.
    pub dev: (u32, u32),
    /// The inode's number on its device.
    pub ino: u64,
    /// Type and permissions, as `st_mode`.
    pub mode: u32,
    /// How many names it has.
    pub nlink: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// In bytes, holes included.
    pub size: u64,
    /// Allocated space in units of 512 bytes.
    pub blocks: u64,
    /// Of a device node: major and minor number.
    pub rdev: (u32, u32),
    /// When it was read.
    pub atime: FileTime,
    /// When its content changed.
    pub mtime: FileTime,
    /// When anything of it changed.
    pub ctime: FileTime,
    /// The mount that it was reached through; None before Linux 5.8.
    pub(super) mount_id: Option<u64>,
}

impl Stat {
    /// Of an open descriptor, `O_PATH` ones included.
    pub(super) fn of(fd: impl AsFd) -> io::Result<Self> {
        Self::ask(fd, c"", libc::AT_EMPTY_PATH)
    }

    /// The same, with a network filesystem made to ask its server.
    pub(super) fn fresh(fd: impl AsFd) -> io::Result<Self> {
        Self::ask(fd, c"", libc::AT_EMPTY_PATH | libc::AT_STATX_FORCE_SYNC)
    }

    /// Of an entry in a directory, a link itself and not what it leads to.
    pub(super) fn at(dir: impl AsFd, name: &OsStr) -> io::Result<Self> {
        Self::ask(dir, &CString::new(name.as_bytes())?, 0)
    }

    fn ask(fd: impl AsFd, path: &CStr, flags: libc::c_int) -> io::Result<Self> {
        let fd = fd.as_fd();
        let flags = flags | libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT;
        let mask = libc::STATX_BASIC_STATS | libc::STATX_MNT_ID;
        let mut raw = MaybeUninit::<libc::statx>::zeroed();
        // SAFETY: the descriptor is open for the call, the path is a C string, and `raw` has room for the answer.
        let result = unsafe { libc::statx(fd.as_raw_fd(), path.as_ptr(), flags, mask, raw.as_mut_ptr()) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: zeroed before the call and filled by it; every bit pattern is valid for its integers.
        let raw = unsafe { raw.assume_init() };
        let time = |t: libc::statx_timestamp| FileTime {
            secs: t.tv_sec,
            nanos: t.tv_nsec,
        };
        Ok(Self {
            dev: (raw.stx_dev_major, raw.stx_dev_minor),
            ino: raw.stx_ino,
            mode: u32::from(raw.stx_mode),
            nlink: raw.stx_nlink,
            uid: raw.stx_uid,
            gid: raw.stx_gid,
            size: raw.stx_size,
            blocks: raw.stx_blocks,
            rdev: (raw.stx_rdev_major, raw.stx_rdev_minor),
            atime: time(raw.stx_atime),
            mtime: time(raw.stx_mtime),
            ctime: time(raw.stx_ctime),
            mount_id: (raw.stx_mask & libc::STATX_MNT_ID != 0).then_some(raw.stx_mnt_id),
        })
    }

    /// The type bits, `S_IFREG` and so on.
    pub fn file_type(&self) -> u32 {
        self.mode & libc::S_IFMT
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.file_type() == libc::S_IFDIR
    }

    /// Whether this inode was reached through the same mount as `other`.
    pub(super) fn same_mount(&self, other: &Self) -> bool {
        match (self.mount_id, other.mount_id) {
            (Some(a), Some(b)) => a == b,
            // Before Linux 5.8 only the device can tell; it differs between btrfs subvolumes too, whose roots all have
            // this inode number, as hardly any other filesystem's has.
            _ => self.dev == other.dev || (self.is_dir() && self.ino == 256),
        }
    }

    /// The identity of the inode.
    pub fn id(&self) -> ((u32, u32), u64) {
        (self.dev, self.ino)
    }
}

/// Opens `name` below `dir` without following a link and without any effect on what it is.
pub(super) fn open_path(dir: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    Ok(openat(
        dir,
        name,
        OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?)
}

/// Opens the directory `name` below `dir` for reading; a symbolic link is refused with ELOOP or ENOTDIR.
///
/// Reading it leaves its access time alone where that is permitted.
pub(super) fn open_dir(dir: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    match openat(&dir, name, DIRECTORY | OFlag::O_NOATIME, Mode::empty()) {
        Err(nix::errno::Errno::EPERM) => Ok(openat(&dir, name, DIRECTORY, Mode::empty())?),
        result => Ok(result?),
    }
}

/// Opens a directory by its path; links above the last component are followed, the last one is not.
pub(super) fn open_dir_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(nix::fcntl::open(path, DIRECTORY, Mode::empty())?)
}

/// Opens a directory by its path, following links: for places that an administrator chose.
pub(super) fn open_dir_following(path: &Path) -> io::Result<OwnedFd> {
    Ok(nix::fcntl::open(
        path,
        DIRECTORY.difference(OFlag::O_NOFOLLOW),
        Mode::empty(),
    )?)
}

/// Flags for a directory that is to be read: never a link.
const DIRECTORY: OFlag = OFlag::O_DIRECTORY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Opens for reading the very inode that `node` pins, leaving its access time alone where that is permitted.
pub(super) fn reopen_for_reading(node: impl AsFd) -> io::Result<OwnedFd> {
    let path = proc_path(node);
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    match nix::fcntl::open(&path, flags | OFlag::O_NOATIME, Mode::empty()) {
        Err(nix::errno::Errno::EPERM) => Ok(nix::fcntl::open(&path, flags, Mode::empty())?),
        result => Ok(result?),
    }
}

/// A path that leads to the descriptor's inode itself; valid while the descriptor is open.
pub(super) fn proc_path(fd: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

/// The directory that holds `path`, and the last component. None where there is no such component ("/", "..").
pub(super) fn split(path: &Path) -> Option<(&Path, &OsStr)> {
    let name = path.file_name()?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    Some((parent, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_the_last_place_is_opened_itself_and_never_as_a_directory() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        std::os::unix::fs::symlink("/etc", dir.path().join("link")).expect("a link");
        let root = open_dir_path(dir.path()).expect("the directory opens");
        let node = open_path(&root, OsStr::new("link")).expect("the link opens");
        assert_eq!(Stat::of(&node).expect("statx").file_type(), libc::S_IFLNK);
        assert!(open_dir(&root, OsStr::new("link")).is_err());
        assert!(open_dir_path(&dir.path().join("link")).is_err());
    }

    #[test]
    fn a_handle_stays_with_its_inode_when_the_name_moves_on() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let path = dir.path().join("f");
        std::fs::write(&path, "old").expect("a file");
        let root = open_dir_path(dir.path()).expect("the directory opens");
        let node = open_path(&root, OsStr::new("f")).expect("the file opens");
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(&path, "newer").expect("another file");
        let file = std::fs::File::from(reopen_for_reading(&node).expect("reopened"));
        assert_eq!(io::read_to_string(file).expect("read"), "old");
    }

    #[test]
    fn splitting_a_path() {
        assert_eq!(split(Path::new("a")), Some((Path::new("."), OsStr::new("a"))));
        assert_eq!(
            split(Path::new("/a/b/")),
            Some((Path::new("/a"), OsStr::new("b")))
        );
        assert_eq!(split(Path::new("/")), None);
        assert_eq!(split(Path::new("a/..")), None);
    }
}
