//! What a file in a snapshot of reflinks is a clone of: the original's inode number and ctime, in an attribute of the clone.
//!
//! Every snapshot of reflinks is made of new inodes with new ctimes, so that by these alone a backup would take each of its files
//! for a changed one and read it. With them, a file that is the same in two snapshots is seen to be so. It is written only
//! where the clone is known to be what the original was at that ctime, and not for files with several names, whose inode
//! numbers say which names belong together.
//!
//! Attributes of this prefix are windlass's own: they are in no copy and no backup. Containers without CAP_SYS_ADMIN neither
//! see nor change `trusted` attributes (xattr(7)).

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use crate::sys::handle::{FileTime, Stat, proc_path};

/// What the names of windlass's own attributes begin with.
const OWN: &[u8] = b"trusted.windlass.";
const ORIGIN: &str = "trusted.windlass.origin";

/// Whether it is an attribute of windlass's own.
pub(super) fn is_own(name: &OsStr) -> bool {
    name.as_bytes().starts_with(OWN)
}

/// Whether a file's origin is worth a note, or a look.
pub(super) fn concerns(stat: &Stat) -> bool {
    stat.file_type() == libc::S_IFREG && stat.nlink == 1
}

/// Notes what the file, or the tree below the directory, was cloned from. A filesystem that takes no note is none the worse.
pub(super) fn write(clone: impl AsFd, original: &Stat) {
    let Stat { ino, ctime, .. } = original;
    let note = format!("{ino} {} {}", ctime.secs, ctime.nanos);
    if let Err(error) = xattr::set_deref(proc_path(clone), ORIGIN, note.as_bytes()) {
        log::debug!("the origin of a clone is not noted: {error}");
    }
}

/// Whether the tree below this directory has such notes.
pub(super) fn has_notes(root: impl AsFd) -> bool {
    parse(xattr::get_deref(proc_path(root), ORIGIN)).is_some()
}

/// The state of an entry of a directory, as that of what it is a clone of.
pub(super) fn of_entry(dir: impl AsFd, name: &OsStr, stat: Stat) -> Stat {
    if concerns(&stat) {
        with(stat, xattr::get(proc_path(dir).join(name), ORIGIN))
    } else {
        stat
    }
}

/// The same of an open descriptor.
pub(super) fn of_node(node: impl AsFd, stat: Stat) -> Stat {
    if concerns(&stat) {
        with(stat, xattr::get_deref(proc_path(node), ORIGIN))
    } else {
        stat
    }
}

fn with(stat: Stat, note: io::Result<Option<Vec<u8>>>) -> Stat {
    match parse(note) {
        Some((ino, ctime)) => Stat { ino, ctime, ..stat },
        None => stat,
    }
}

/// Inode number and ctime. What cannot be read is as good as not there: the file is then read.
fn parse(note: io::Result<Option<Vec<u8>>>) -> Option<(u64, FileTime)> {
    let note = note.ok()??;
    let mut words = std::str::from_utf8(&note).ok()?.split(' ');
    let ino = words.next()?.parse().ok()?;
    let secs = words.next()?.parse().ok()?;
    let nanos = words.next()?.parse().ok()?;
    Some((ino, FileTime { secs, nanos }))
}
