//! One entry of a clone: made, filled, and given what it had.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, futimens, makedev, mkdirat, mknodat,
    utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

use super::xattrs;
use crate::sys::handle::{self, FileTime, Stat, proc_path};
use crate::sys::ioctl::Request;

/// A new file, for nobody else until it has its own mode.
pub(super) fn create_file(dir: BorrowedFd<'_>, name: &OsStr) -> Result<File, Errno> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?.into())
}

/// A new directory, for nobody else until it has its own mode.
pub(super) fn create_dir(dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    mkdirat(dir, name, Mode::S_IRWXU)
}

/// A new entry of the same type as `node`, which is neither file nor directory.
pub(super) fn create_other(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    node: &OwnedFd,
    stat: &Stat,
) -> Result<(), Errno> {
    if stat.file_type() == libc::S_IFLNK {
        return symlinkat(readlinkat(node, "")?.as_os_str(), dir, name);
    }
    create_special(dir, name, stat.file_type(), stat.rdev)
}

/// A new device node, FIFO or socket: `S_IFBLK` and so on, with its device numbers.
pub(super) fn create_special(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    file_type: u32,
    (major, minor): (u32, u32),
) -> Result<(), Errno> {
    let kind = SFlag::from_bits_truncate(file_type);
    let device = makedev(major.into(), minor.into());
    mknodat(dir, name, kind, Mode::S_IRUSR | Mode::S_IWUSR, device)
}

/// Why metadata could not be applied.
pub(super) enum Failure {
    Io(io::Error),
    /// With the attribute's name.
    Attribute(OsString, io::Error),
}

/// Gives the target the source's owner, attributes, mode and times; returns the attributes that it cannot have.
pub(super) fn apply(source: impl AsFd, target: impl AsFd, stat: &Stat) -> Result<Vec<OsString>, Failure> {
    set_owner(&target, stat.uid, stat.gid).map_err(Failure::Io)?;
    let refused = xattrs::sync(source, &target).map_err(|(name, error)| Failure::Attribute(name, error))?;
    let mode = (stat.file_type() != libc::S_IFLNK).then_some(stat.mode);
    set_mode_and_times(&target, mode, stat.atime, stat.mtime)?;
    Ok(refused)
}

/// The first of three steps, whose order matters: a change of owner takes away setuid bits and capabilities, and the
/// mode is the last word over what an ACL says of the group. Times come last, as all else changes them.
pub(super) fn set_owner(target: impl AsFd, uid: u32, gid: u32) -> io::Result<()> {
    let (owner, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    Ok(fchownat(
        &target,
        "",
        Some(owner),
        Some(group),
        AtFlags::AT_EMPTY_PATH,
    )?)
}

/// The last of the three; a symbolic link has no mode.
pub(super) fn set_mode_and_times(
    target: impl AsFd,
    mode: Option<u32>,
    atime: FileTime,
    mtime: FileTime,
) -> Result<(), Failure> {
    let io = |error: Errno| Failure::Io(error.into());
    let path = proc_path(&target);
    if let Some(mode) = mode {
        let mode = Mode::from_bits_truncate(mode & 0o7777);
        fchmodat(nix::fcntl::AT_FDCWD, &path, mode, FchmodatFlags::FollowSymlink).map_err(io)?;
    }
    // The link of procfs leads to the inode itself, and goes no further where that is a symbolic link.
    let (atime, mtime) = (time_spec(atime), time_spec(mtime));
    utimensat(
        nix::fcntl::AT_FDCWD,
        &path,
        &atime,
        &mtime,
        UtimensatFlags::FollowSymlink,
    )
    .map_err(io)
}

/// The same for an open file, whose descriptor needs no way through procfs.
pub(super) fn set_file_mode_and_times(
    file: &File,
    mode: Option<u32>,
    atime: FileTime,
    mtime: FileTime,
) -> io::Result<()> {
    if let Some(mode) = mode {
        fchmod(file, Mode::from_bits_truncate(mode & 0o7777))?;
    }
    Ok(futimens(file, &time_spec(atime), &time_spec(mtime))?)
}

/// FS_NOCOW_FL of linux/fs.h.
const NO_COPY_ON_WRITE: u32 = 0x0080_0000;

/// The ioctls are numbered by a long and read or write an int (ioctl_iflags(2)).
#[repr(C)]
struct InodeFlags {
    flags: u32,
    unused: [u8; size_of::<libc::c_long>() - size_of::<u32>()],
}

// SAFETY: as long as a long, integers only; the kernel touches the first four bytes.
const GET_FLAGS: Request<InodeFlags> = unsafe { Request::read(b'f' as u32, 1) };
// SAFETY: as above.
const SET_FLAGS: Request<InodeFlags> = unsafe { Request::write(b'f' as u32, 2) };

/// Gives an empty btrfs file or directory the source's no-copy-on-write flag.
///
/// It must come before the data: files with and without share none.
pub(super) fn copy_no_cow(source: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let mut of = InodeFlags {
        flags: 0,
        unused: Default::default(),
    };
    GET_FLAGS.call(source, &mut of)?;
    let wanted = of.flags & NO_COPY_ON_WRITE;
    GET_FLAGS.call(&target, &mut of)?;
    if of.flags & NO_COPY_ON_WRITE != wanted {
        of.flags ^= NO_COPY_ON_WRITE;
        SET_FLAGS.call(&target, &mut of)?;
    }
    Ok(())
}

/// Opens what was just made, to apply metadata to it.
pub(super) fn open_made(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    handle::open_path(dir, name)
}

fn time_spec(time: FileTime) -> TimeSpec {
    TimeSpec::new(time.secs, time.nanos.into())
}
