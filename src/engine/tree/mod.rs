//! Directories as the repository keeps them: restic's tree blobs, read strictly and written byte for byte as restic does.
//!
//! A tree is the list of a directory's entries, sorted by name; a subdirectory's is named by its id, a file's content by
//! the ids of its chunks. The fields and their order are facts of restic's design document and of what restic writes. This
//! module turns trees into bytes and back; it reads no repository and no filesystem.

mod decode;
mod encode;
mod quote;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::Id;
pub use crate::sys::tree::FileTime;

/// A directory's entries, sorted by the bytes of their names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// No two have the same name.
    pub nodes: Vec<Node>,
}

/// What is wrong with the bytes of a tree: a phrase that follows "the tree …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

impl Tree {
    /// Longer trees are refused: a directory of some millions of entries, or a file of some terabytes, stays below.
    pub const MAX_BYTES: usize = 1 << 30;

    /// The blob's bytes. The nodes must be sorted.
    pub fn encode(&self) -> Vec<u8> {
        encode::tree(self)
    }

    /// The tree of a blob.
    ///
    /// # Errors
    /// Whatever no program writes: names that are no names of directory entries, entries out of order or twice, types
    /// that are unknown or lack what belongs to them. Fields that are unknown are passed over.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        decode::tree(bytes)
    }

    /// The entry of this name.
    pub fn find(&self, name: &OsStr) -> Option<&Node> {
        let name = name.as_bytes();
        let at = self.nodes.binary_search_by(|node| node.name.as_bytes().cmp(name));
        at.ok().map(|at| &self.nodes[at])
    }
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name: any bytes but NUL and the slash, and neither `.` nor `..`.
    pub name: OsString,
    /// What it is, with what only such an entry has.
    pub kind: NodeKind,
    /// Permissions with setuid, setgid and sticky bits, as in `st_mode`; 12 bits.
    pub mode: u32,
    /// When its content changed.
    pub mtime: FileTime,
    /// When it was read.
    pub atime: FileTime,
    /// When anything of it changed.
    pub ctime: FileTime,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The owner's name where it was backed up; empty if unknown.
    pub user: String,
    /// The group's name; empty if unknown.
    pub group: String,
    /// The inode's number.
    pub inode: u64,
    /// The number of the device that the inode is on; 0 where it does not matter.
    pub device_id: u64,
    /// How many names the inode has, as far as that is recorded; 0 for directories, FIFOs and sockets.
    pub links: u64,
    /// Extended attributes, ACLs among them, in the kernel's order.
    pub xattrs: Vec<Xattr>,
}

/// The types of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
        /// Its chunks, in their order.
        content: Vec<Id>,
    },
    /// A directory.
    Dir {
        /// Its tree.
        subtree: Id,
    },
    /// A symbolic link.
    Symlink {
        /// Where it leads; any bytes.
        target: OsString,
    },
    /// A block device.
    BlockDevice {
        /// As `st_rdev`.
        device: u64,
    },
    /// A character device.
    CharDevice {
        /// As `st_rdev`.
        device: u64,
    },
    /// A FIFO.
    Fifo,
    /// A socket's name.
    Socket,
    /// Something that its filesystem could not name; restic records it on other systems.
    Irregular,
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xattr {
    /// With its namespace, e.g. `user.note`.
    pub name: String,
    /// Any bytes.
    pub value: Vec<u8>,
}

impl NodeKind {
    /// restic's word for it.
    fn word(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Dir { .. } => "dir",
            Self::Symlink { .. } => "symlink",
            Self::BlockDevice { .. } => "dev",
            Self::CharDevice { .. } => "chardev",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::Irregular => "irregular",
        }
    }
}

/// The beginning of the year 0: nothing earlier can be written.
const EARLIEST: FileTime = FileTime {
    secs: -62_167_219_200,
    nanos: 0,
};

/// The bits of Go's `os.FileMode` beyond the nine permissions, which restic writes.
mod go_mode {
    pub(super) const DIR: u32 = 1 << 31;
    pub(super) const SYMLINK: u32 = 1 << 27;
    pub(super) const DEVICE: u32 = 1 << 26;
    pub(super) const NAMED_PIPE: u32 = 1 << 25;
    pub(super) const SOCKET: u32 = 1 << 24;
    pub(super) const SETUID: u32 = 1 << 23;
    pub(super) const SETGID: u32 = 1 << 22;
    pub(super) const CHAR_DEVICE: u32 = 1 << 21;
    pub(super) const STICKY: u32 = 1 << 20;
    pub(super) const IRREGULAR: u32 = 1 << 19;
    /// Go's bits and those of `st_mode`.
    pub(super) const SPECIAL: [(u32, u32); 3] = [(SETUID, 0o4000), (SETGID, 0o2000), (STICKY, 0o1000)];
}

/// Whether a directory can have an entry of this name.
pub fn is_entry_name(name: &[u8]) -> bool {
    const MAX_BYTES: usize = 4096;
    !name.is_empty()
        && name.len() <= MAX_BYTES
        && name != b"."
        && name != b".."
        && !name.contains(&b'/')
        && !name.contains(&0)
}
