//! A clone's leaves: files, links and special nodes, made anew where they are new or changed.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::linkat;

use super::How;
use super::clone::{Cloner, OP};
use super::copy::{self, Stop};
use super::entry::{self, Failure};
use super::fingerprint::{Key, Stamp};
use super::links::Links;
use super::origin;
use super::remove::remove_at;
use super::report::{Note, Notes};
use crate::sys::error::{Result, SysError};
use crate::sys::handle::{self, FileTime, Stat};
use crate::sys::reflink;

impl Cloner<'_> {
    /// Anything but a directory.
    pub(super) fn leaf(
        &mut self,
        name: &OsStr,
        node: OwnedFd,
        stat: Stat,
        key: Key,
        stamp: Stamp,
    ) -> Result<()> {
        self.count(&stat);
        let stamp = if self.note_change(key, stamp) {
            self.copy_leaf(name, &node, stat, stamp)?
        } else {
            stamp
        };
        self.current.record(key, stamp);
        self.monitor.progress(1, 0);
        Ok(())
    }

    /// Makes the entry anew; the stamp of what was copied.
    fn copy_leaf(&mut self, name: &OsStr, node: &OwnedFd, mut stat: Stat, mut stamp: Stamp) -> Result<Stamp> {
        self.touch();
        if stat.nlink > 1
            && let Some(linked) = self.link(name, &stat, stamp)?
        {
            return Ok(linked);
        }
        if stat.file_type() == libc::S_IFREG {
            let file = handle::reopen_for_reading(node).map_err(|error| self.source.error(name, error))?;
            let file = File::from(file);
            if self.stable && self.how == How::Copy && stat.size > 0 {
                (stat, stamp) = self
                    .look_after_exposing(&file)
                    .map_err(|error| self.source.error(name, error))?;
            }
            let target = self.make(name, entry::create_file)?;
            self.copy_data(name, &file, &target, &stat)?;
            apply(&mut self.notes, node, &target, &stat, || {
                self.source.path_of(name)
            })?;
            if self.notes_origins() && origin::concerns(&stat) && !stamp.is_racy() {
                let after = self
                    .look(&file)
                    .map_err(|error| self.source.error(name, error))?
                    .1;
                if after.same_state(stamp) {
                    origin::write(&target, &stat);
                }
            }
        } else {
            self.make(name, |dir, name| entry::create_other(dir, name, node, &stat))?;
            let target = entry::open_made(self.target.dir(), name);
            let target = target.map_err(|error| self.target.error(name, error))?;
            apply(&mut self.notes, node, &target, &stat, || {
                self.source.path_of(name)
            })?;
        }
        if stat.nlink > 1 {
            self.links
                .remember(self.target_root.as_fd(), self.target.dir(), name, &stat, stamp)
                .map_err(|error| self.target.error(name, error))?;
        }
        Ok(stamp)
    }

    /// The state to be held against the next pass, where stores through memory mappings are to show.
    fn look_after_exposing(&self, file: &File) -> io::Result<(Stat, Stamp)> {
        copy::expose_mapped_writes(file)?;
        self.look(file)
    }

    fn look(&self, file: &File) -> io::Result<(Stat, Stamp)> {
        let looked_at = FileTime::now();
        let stat = Stat::fresh(file)?;
        Ok((stat, self.stamper.stamp(&stat, looked_at)))
    }

    /// Makes an entry, in place of what a former pass left.
    fn make<T>(
        &self,
        name: &OsStr,
        create: impl Fn(BorrowedFd<'_>, &OsStr) -> std::result::Result<T, Errno>,
    ) -> Result<T> {
        match create(self.target.dir(), name) {
            Err(Errno::EEXIST) => {
                remove_at(self.target.dir(), name, &self.target.path_of(name))?;
                create(self.target.dir(), name).map_err(|error| self.target.error(name, error))
            }
            result => result.map_err(|error| self.target.error(name, error)),
        }
    }

    /// A further name of an inode that was copied already: None where it was not, or not in this state.
    fn link(&mut self, name: &OsStr, stat: &Stat, stamp: Stamp) -> Result<Option<Stamp>> {
        let Some(link) = self.links.known.get(&stat.id()) else {
            return Ok(None);
        };
        if !link.stamp.same_state(stamp) {
            return Ok(None);
        }
        let staged = Links::staged_name(link.number);
        let dir = self.links.dir.as_ref().expect("a known link is staged");
        match self.make(name, |target, name| {
            linkat(dir, staged.as_os_str(), target, name, AtFlags::empty())
        }) {
            // As many links as the filesystem allows: the rest become a file of their own.
            Err(error) if error.errno() == Some(libc::EMLINK) => Ok(None),
            // What was copied may already have been stale; then this name is too.
            result => result.map(|()| Some(stamp.as_racy_as(link.stamp))),
        }
    }

    fn copy_data(&mut self, name: &OsStr, source: &File, target: &File, stat: &Stat) -> Result<()> {
        if self.both_btrfs {
            entry::copy_no_cow(source, target).map_err(|error| self.target.error(name, error))?;
        }
        if stat.size == 0 {
            return Ok(());
        }
        if self.how == How::Reflink {
            match reflink::clone_file(source, target) {
                Ok(()) => {
                    self.monitor.progress(0, stat.size);
                    return Ok(());
                }
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ETXTBSY)) => {
                    self.notes.push(Note::CopiedNotShared {
                        path: self.source.path_of(name),
                    });
                }
                Err(error) => return Err(self.source.error(name, error)),
            }
        }
        let monitor = self.monitor;
        let advance = |bytes| {
            monitor.progress(0, bytes);
            !monitor.cancelled()
        };
        copy::copy_data(source, target, stat.size, advance).map_err(|stop| match stop {
            Stop::Cancelled => SysError::Cancelled {
                op: OP,
                path: self.source.path().to_owned(),
            },
            Stop::Failed(error) => self.source.error(name, error),
        })
    }
}

/// Gives a copy its owner, attributes, mode and times; `path` is the source's.
pub(super) fn apply(
    notes: &mut Notes,
    source: impl AsFd,
    target: impl AsFd,
    stat: &Stat,
    path: impl Fn() -> PathBuf,
) -> Result<()> {
    match entry::apply(source, target, stat) {
        Ok(refused) => {
            for name in refused {
                notes.push(Note::AttributeRefused { path: path(), name });
            }
            Ok(())
        }
        Err(Failure::Io(source)) => Err(SysError::io(
            "set owner, mode and times in the clone of",
            path(),
            source,
        )),
        Err(Failure::Attribute(name, source)) => Err(SysError::Attribute {
            path: path(),
            name,
            source,
        }),
    }
}
