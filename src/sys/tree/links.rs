//! Inodes with several names: which were copied, and where the copy can be linked from.
//!
//! Each copy of such an inode gets a further name in a hidden directory inside the target while the clone is made, so that
//! linking to it takes no path and no open file, and works even if its first name was replaced by a later pass.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::fcntl::AtFlags;
use nix::unistd::linkat;
use uuid::Uuid;

use super::entry;
use super::fingerprint::Stamp;
use crate::sys::handle::{self, Stat};

pub(super) struct Links {
    /// The hidden directory, made at first need, and its name in the target.
    pub(super) dir: Option<OwnedFd>,
    pub(super) name: OsString,
    /// The copies, by the identity of the source's inode.
    pub(super) known: HashMap<((u32, u32), u64), Link>,
    /// The pass in which each inode was counted last.
    counted: HashMap<((u32, u32), u64), u32>,
    next: u64,
}

pub(super) struct Link {
    /// The state that was copied.
    pub(super) stamp: Stamp,
    /// The copy's name in the hidden directory.
    pub(super) number: u64,
}

impl Links {
    pub(super) fn new() -> Self {
        let name = format!(".tmp-{}", Uuid::new_v4()).into();
        Self {
            dir: None,
            name,
            known: HashMap::new(),
            counted: HashMap::new(),
            next: 0,
        }
    }

    /// Copies that may be stale are not linked to in another pass: it makes all their names anew.
    pub(super) fn forget_racy(&mut self) {
        self.known.retain(|_, link| !link.stamp.is_racy());
    }

    /// Keeps the copy that was just made as `name` in `dir`.
    pub(super) fn remember(
        &mut self,
        root: BorrowedFd<'_>,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        stat: &Stat,
        stamp: Stamp,
    ) -> io::Result<()> {
        if self.dir.is_none() {
            entry::create_dir(root, &self.name)?;
            self.dir = Some(handle::open_dir(root, &self.name)?);
        }
        let number = self.next;
        self.next += 1;
        let hidden = self.dir.as_ref().expect("made above");
        linkat(
            dir,
            name,
            hidden,
            Self::staged_name(number).as_os_str(),
            AtFlags::empty(),
        )?;
        self.known.insert(stat.id(), Link { stamp, number });
        Ok(())
    }

    /// A copy's name in the hidden directory.
    pub(super) fn staged_name(number: u64) -> OsString {
        number.to_string().into()
    }

    /// Whether the inode is met for the first time in this pass.
    pub(super) fn first_sight(&mut self, stat: &Stat, pass: u32) -> bool {
        self.counted.insert(stat.id(), pass) != Some(pass)
    }
}
