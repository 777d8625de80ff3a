//! Directory trees as wholes: cloned with everything that a filesystem keeps, removed, and measured.
//!
//! The trees are volumes, and containers may be writing to them meanwhile, with names and links made to lead us astray. So
//! every step is relative to an open directory and follows no symbolic link, an entry is learnt about and read through a
//! handle that pins its inode, and no walk leaves the mount that it began on. Depth is bounded by memory only: few
//! directories are kept open, and the others are found again through `..` and checked to be the same.

mod build;
mod clone;
mod copy;
mod descent;
mod entry;
mod fingerprint;
mod leaf;
mod links;
mod origin;
mod remove;
mod report;
mod source;
mod target;
#[cfg(test)]
mod tests;
mod usage;
mod walk;
mod xattrs;

use std::path::Path;

pub use build::{Attributes, InsidePath, Special, TreeBuilder};
pub use remove::remove_tree;
pub use report::{CloneReport, Consistency, Note, Totals};
pub use source::{Pinned, Source, SourceFile};
pub use target::{Kept, Metadata, Place, Target};
pub use usage::{Usage, disk_usage};
pub(super) use walk::walk;

use super::error::Result;
pub use super::handle::{FileTime, Stat};

/// How the data of files get into a clone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Shared with the source until one of the two is written to; on one filesystem that can do it.
    Reflink,
    /// Read and written; holes stay holes.
    Copy,
}

/// Watches long work, and can end it. The unit value watches nothing.
pub trait Monitor: Sync {
    /// So much was done since the last call.
    fn progress(&self, entries: u64, bytes: u64) {
        let _ = (entries, bytes);
    }

    /// Asked at every entry and every buffer; true ends the work with [`super::SysError::Cancelled`].
    fn cancelled(&self) -> bool {
        false
    }
}

impl Monitor for () {}

/// Copies the tree at `source` to `target`, which is absent or an empty directory, in one pass.
///
/// What is kept: modes with setuid, setgid and sticky bits, owners, access and modification times in nanoseconds,
/// extended attributes and with them ACLs and capabilities, symbolic links, hard links within the tree, holes, device
/// nodes, FIFOs, sockets, names of any bytes, and on btrfs the no-copy-on-write flag. What is not: creation times,
/// inode flags such as immutable, preallocated space, a project id (new files take that of `target`), and windlass's own
/// attributes.
///
/// - An attribute that the target's filesystem does not support at all is left out and noted; any other failure with an
///   attribute is an error.
/// - A mount point inside the tree becomes an empty directory or file, and is noted. btrfs subvolumes become directories.
/// - In [`How::Reflink`], a file that its filesystem will not clone (a swap file, or a btrfs file with other checksum
///   settings) is copied and noted; a filesystem that cannot clone at all is an error.
/// - Entries that vanish meanwhile are left out.
///
/// Nothing is synced: call [`super::durable::sync_filesystem`]. After an error an unfinished copy is left at `target`.
pub fn clone_tree(
    source: impl AsRef<Path>,
    target: impl AsRef<Path>,
    how: How,
    monitor: &dyn Monitor,
) -> Result<CloneReport> {
    clone::run(source.as_ref(), target.as_ref(), how, 1, monitor)
}

/// Copies like [`clone_tree`], then looks at every entry again and copies what changed, up to `passes` passes in all.
///
/// If a pass finds nothing changed, the copy shows the tree as it was at the moment between that pass and the one
/// before: [`Consistency::PointInTime`]. Otherwise each file is as it was at some time during the last pass that
/// found it changed: [`Consistency::PerFile`].
///
/// An entry has changed when its inode, type, owner, mode, size, times or ctime differ from what they were before it was
/// read. The kernel stamps ctime from a clock that stands still for a tick (up to 10 ms) before Linux 6.13, so a
/// second write in the same tick leaves no trace: an entry whose ctime is that close to the time of looking, or within
/// the same second where the filesystem keeps whole seconds, counts as changed, and is copied once more. Three
/// limits: writes through a memory mapping leave no ctime on tmpfs; a server's clock that is off by less than its
/// resolution can hide a change on NFS; and a program that sets the machine's clock back can too.
pub fn clone_tree_stable(
    source: impl AsRef<Path>,
    target: impl AsRef<Path>,
    how: How,
    passes: u32,
    monitor: &dyn Monitor,
) -> Result<CloneReport> {
    clone::run(source.as_ref(), target.as_ref(), how, passes.max(1), monitor)
}
