//! Entries as they are recorded: what a look at one finds, turned into a node, and held against the backup before.
//!
//! As in restic, an entry's access time is recorded as that of its last change: otherwise every reader of a volume would
//! make new trees.

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::{Mutex, PoisonError};

use nix::sys::stat::makedev;
use nix::unistd::{Gid, Group, Uid, User};

use super::tree::Work;
use crate::engine::tree::{Node, NodeKind, Xattr};
use crate::engine::{EngineError, Result};
use crate::sys::tree::{FileTime, Pinned, Stat};

/// One look at an entry, for its record.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) name: OsString,
    pub(super) stat: Stat,
    /// Just before.
    pub(super) looked_at: FileTime,
    /// What the parent has there is another.
    pub(super) changed: bool,
}

impl Look {
    /// The same, with what was found when it was opened.
    pub(super) fn at(self: &Look, stat: Stat) -> Look {
        Look {
            name: self.name.clone(),
            stat,
            ..*self
        }
    }

    /// Where the entry could still change without its ctime showing it, one that it never has: the next backup reads it.
    fn recorded_ctime(&self) -> FileTime {
        let ctime = self.stat.ctime;
        if self.stat.is_settled(self.looked_at) {
            return ctime;
        }
        match ctime.nanos {
            0 => FileTime {
                secs: ctime.secs - 1,
                nanos: 999_999_999,
            },
            nanos => FileTime {
                nanos: nanos - 1,
                ..ctime
            },
        }
    }

    /// Whether this is what the parent recorded. Its extended attributes are too then, as they move ctime.
    pub(super) fn is_as(&self, known: &Node) -> bool {
        let stat = &self.stat;
        let same_kind = match (stat.file_type(), &known.kind) {
            (libc::S_IFREG, NodeKind::File { size, .. }) => *size == stat.size,
            (libc::S_IFDIR, NodeKind::Dir { .. })
            | (libc::S_IFLNK, NodeKind::Symlink { .. })
            | (libc::S_IFBLK, NodeKind::BlockDevice { .. })
            | (libc::S_IFCHR, NodeKind::CharDevice { .. })
            | (libc::S_IFIFO, NodeKind::Fifo)
            | (libc::S_IFSOCK, NodeKind::Socket) => true,
            _ => false,
        };
        same_kind && known.inode == stat.ino && known.mtime == stat.mtime && known.ctime == stat.ctime
    }
}

impl Work<'_> {
    /// The entry as it is recorded, but for its extended attributes.
    pub(super) fn node(&self, look: &Look, kind: NodeKind) -> Node {
        let stat = &look.stat;
        let links = match kind {
            NodeKind::Dir { .. } | NodeKind::Fifo | NodeKind::Socket | NodeKind::Irregular => 0,
            _ => u64::from(stat.nlink),
        };
        let (major, minor) = stat.dev;
        let (user, group) = self.owners.names(stat.uid, stat.gid);
        Node {
            name: look.name.clone(),
            kind,
            mode: stat.mode & 0o7777,
            mtime: stat.mtime,
            atime: stat.mtime,
            ctime: look.recorded_ctime(),
            uid: stat.uid,
            gid: stat.gid,
            user,
            group,
            inode: stat.ino,
            device_id: if links > 1 {
                makedev(major.into(), minor.into())
            } else {
                0
            },
            links,
            xattrs: Vec::new(),
        }
    }

    pub(super) fn xattrs(&self, pinned: &Pinned) -> Result<Vec<Xattr>> {
        let name = |name: OsString| {
            name.into_string().map_err(|name| {
                EngineError::Invalid(format!(
                    "{} has the extended attribute {}, whose name is not UTF-8, and the repository's format has no way \
                     to write it; remove it with setfattr -x",
                    pinned.path.display(),
                    name.display()
                ))
            })
        };
        let all = pinned.xattrs()?.into_iter();
        all.map(|(raw, value)| {
            Ok(Xattr {
                name: name(raw)?,
                value,
            })
        })
        .collect()
    }
}

/// The names of users and groups, each looked up once.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// Held for a look-up, which reads a file of this host at most.
    names: Mutex<[HashMap<u32, String>; 2]>,
}

impl Owners {
    fn names(&self, uid: u32, gid: u32) -> (String, String) {
        let [users, groups] = &mut *self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let user = users.entry(uid).or_insert_with(|| {
            let found = User::from_uid(Uid::from_raw(uid)).ok().flatten();
            found.map(|user| user.name).unwrap_or_default()
        });
        let group = groups.entry(gid).or_insert_with(|| {
            let found = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
            found.map(|group| group.name).unwrap_or_default()
        });
        (user.clone(), group.clone())
    }
}
