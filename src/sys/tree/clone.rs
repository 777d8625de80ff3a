//! The passes of a clone: walk the source, compare with the pass before, make directories, and have leaves copied.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::{Mode, fchmod};
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, fstatfs};

use super::descent::{Descent, Names};
use super::entry;
use super::fingerprint::{Fingerprint, Key, Stamp, Stamper, TICK};
use super::leaf::apply;
use super::links::Links;
use super::origin;
use super::remove::remove_at;
use super::report::{CloneReport, Consistency, Note, Notes, Totals};
use super::{How, Monitor};
use crate::sys::error::{Context, Result, SysError};
use crate::sys::handle::{self, FileTime, Stat};

pub(super) const OP: &str = "clone";

/// Clones in up to `passes` passes.
pub(super) fn run(
    source: &Path,
    target: &Path,
    how: How,
    passes: u32,
    monitor: &dyn Monitor,
) -> Result<CloneReport> {
    let source_root = handle::open_dir_path(source).during(OP, source)?;
    let target_root = open_target(target)?;
    let mut cloner = Cloner::new(source, target, source_root, target_root, how, monitor)?;
    cloner.stable = passes > 1;
    let mut consistency = Consistency::PerFile;
    let mut made = 0;
    while made < passes && consistency == Consistency::PerFile {
        cloner.settle();
        let changes = cloner.pass()?;
        made += 1;
        if made > 1 && changes == 0 {
            consistency = Consistency::PointInTime;
        }
    }
    cloner.finish()?;
    let Notes {
        kept: notes,
        total: notes_total,
    } = cloner.notes;
    Ok(CloneReport {
        totals: cloner.totals,
        consistency,
        passes: made,
        notes,
        notes_total,
    })
}

/// Makes the target, or takes an empty directory that is there; closed to others until the source's mode is on it, lest
/// its files be within reach of whom the source kept out.
fn open_target(target: &Path) -> Result<OwnedFd> {
    match fs::DirBuilder::new().mode(0o700).create(target) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        result => result.during("clone to", target)?,
    }
    let dir = handle::open_dir_path(target).during("clone to", target)?;
    if Names::read(&dir).during("clone to", target)?.next().is_some() {
        let found = "a directory that is not empty";
        return Err(SysError::WrongType {
            op: "clone to",
            path: target.to_owned(),
            found,
        });
    }
    fchmod(&dir, Mode::S_IRWXU).during("clone to", target)?;
    Ok(dir)
}

pub(super) struct Cloner<'a> {
    pub(super) how: How,
    /// There will be another look at the source.
    pub(super) stable: bool,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) source: Descent,
    pub(super) target: Descent,
    /// The roots; what is on another mount than the source's is not entered.
    source_root: OwnedFd,
    pub(super) target_root: OwnedFd,
    root: Stat,
    target_id: ((u32, u32), u64),
    pub(super) both_btrfs: bool,
    /// The directories from the root to the current one.
    visits: Vec<Visit>,
    pub(super) stamper: Stamper,
    previous: Option<Fingerprint>,
    pub(super) current: Fingerprint,
    pub(super) links: Links,
    pass: u32,
    changes: u64,
    totals: Totals,
    pub(super) notes: Notes,
}

/// A directory being copied.
struct Visit {
    names: Names,
    stat: Stat,
    key: Key,
    /// The target's has to be given its metadata when all is in it.
    touched: bool,
}

impl<'a> Cloner<'a> {
    fn new(
        source: &Path,
        target: &Path,
        source_root: OwnedFd,
        target_root: OwnedFd,
        how: How,
        monitor: &'a dyn Monitor,
    ) -> Result<Self> {
        let is_btrfs = |fd: &OwnedFd| fstatfs(fd).map(|fs| fs.filesystem_type() == BTRFS_SUPER_MAGIC);
        Ok(Self {
            how,
            stable: false,
            monitor,
            source: Descent::new(source_root.try_clone().during(OP, source)?, source, OP)?,
            target: Descent::new(target_root.try_clone().during(OP, target)?, target, "clone to")?,
            root: Stat::of(&source_root).during(OP, source)?,
            target_id: Stat::of(&target_root).during(OP, target)?.id(),
            both_btrfs: is_btrfs(&source_root).during(OP, source)?
                && is_btrfs(&target_root).during(OP, target)?,
            source_root,
            target_root,
            visits: Vec::new(),
            stamper: Stamper::default(),
            previous: None,
            current: Fingerprint::default(),
            links: Links::new(),
            pass: 0,
            changes: 0,
            totals: Totals::default(),
            notes: Notes::default(),
        })
    }

    /// Lets what the last pass saw freshly changed grow old enough for the next pass to prove something.
    fn settle(&self) {
        if let Some(wait) = self.previous.as_ref().and_then(|previous| previous.settles_in) {
            std::thread::sleep(wait + TICK);
        }
    }

    /// One walk over the whole source; how many entries were not as the pass before left them.
    fn pass(&mut self) -> Result<u64> {
        self.pass += 1;
        self.changes = 0;
        self.totals = Totals::default();
        self.links.forget_racy();
        let looked_at = FileTime::now();
        self.root = Stat::fresh(&self.source_root).during(OP, self.source.path())?;
        let stamp = self.stamper.stamp(&self.root, looked_at);
        self.visit(Stamper::ROOT, self.root, stamp, self.previous.is_none())?;
        while let Some(visit) = self.visits.last_mut() {
            match visit.names.next() {
                Some(name) => self.entry(&name)?,
                None => self.close_directory()?,
            }
        }
        let mut current = std::mem::take(&mut self.current);
        current.seal();
        self.previous = Some(current);
        Ok(self.changes)
    }

    /// Whether this is a snapshot of reflinks, whose files are told by what they were cloned from.
    pub(super) fn notes_origins(&self) -> bool {
        self.how == How::Reflink && self.stable
    }

    /// Removes what was only for the clone's own use.
    fn finish(&mut self) -> Result<()> {
        if self.notes_origins() {
            origin::write(&self.target_root, &self.root);
        }
        if self.links.dir.take().is_some() {
            remove_at(self.target_root.as_fd(), &self.links.name, self.target.path())?;
            // That changed the root's times.
            apply(
                &mut self.notes,
                &self.source_root,
                &self.target_root,
                &self.root,
                || self.source.path().to_owned(),
            )?;
        }
        Ok(())
    }

    /// Begins with the directory that both ways have reached.
    fn visit(&mut self, key: Key, stat: Stat, stamp: Stamp, made: bool) -> Result<()> {
        let names = Names::read(self.source.dir()).during(OP, self.source.path())?;
        let changed = self.note_change(key, stamp);
        self.current.record(key, stamp);
        self.totals.directories += 1;
        self.monitor.progress(1, 0);
        if changed && !made {
            self.remove_extras(&names)?;
        }
        self.visits.push(Visit {
            names,
            stat,
            key,
            touched: changed || made,
        });
        Ok(())
    }

    /// Whether the entry differs from the last pass, or is new to this one.
    pub(super) fn note_change(&mut self, key: Key, stamp: Stamp) -> bool {
        let Some(previous) = &self.previous else {
            return true;
        };
        let changed = !previous.matches(key, stamp);
        self.changes += u64::from(changed);
        changed
    }

    /// Removes from the target's directory what the source's no longer has.
    fn remove_extras(&mut self, names: &Names) -> Result<()> {
        let wanted: HashSet<OsString> = names.clone().collect();
        let present = Names::read(self.target.dir()).during("clone to", self.target.path())?;
        for name in present.filter(|name| !wanted.contains(name) && *name != self.links.name) {
            remove_at(self.target.dir(), &name, &self.target.path_of(&name))?;
        }
        Ok(())
    }

    /// One name in the current directory.
    fn entry(&mut self, name: &OsStr) -> Result<()> {
        self.check_cancelled()?;
        let looked_at = FileTime::now();
        let node = match handle::open_path(self.source.dir(), name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // It went between the listing and now. A later pass sees that in its directory.
                self.changes += 1;
                return Ok(());
            }
            result => result.map_err(|error| self.source.error(name, error))?,
        };
        let stat = Stat::fresh(&node).map_err(|error| self.source.error(name, error))?;
        if !stat.same_mount(&self.root) {
            return self.mount_point(name, &stat);
        }
        let parent = self.visits.last().expect("an entry has a directory");
        let key = self.stamper.key(parent.key, name);
        let stamp = self.stamper.stamp(&stat, looked_at);
        if stat.is_dir() {
            self.directory(name, node, stat, key, stamp)
        } else {
            self.leaf(name, node, stat, key, stamp)
        }
    }

    fn directory(&mut self, name: &OsStr, node: OwnedFd, stat: Stat, key: Key, stamp: Stamp) -> Result<()> {
        if stat.id() == self.target_id {
            let found = "the place that the clone goes to";
            return Err(SysError::WrongType {
                op: OP,
                path: self.source.path_of(name),
                found,
            });
        }
        let dir = match handle::open_dir(&node, OsStr::new(".")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.changes += 1;
                return Ok(());
            }
            result => result.map_err(|error| self.source.error(name, error))?,
        };
        let (target, made) = self.make_directory(name)?;
        if made && self.both_btrfs {
            entry::copy_no_cow(&dir, &target).map_err(|error| self.target.error(name, error))?;
        }
        self.source.enter(dir, name)?;
        self.target.enter(target, name)?;
        self.visit(key, stat, stamp, made)
    }

    /// Opens the target's directory of that name; true where it had to be made.
    fn make_directory(&mut self, name: &OsStr) -> Result<(OwnedFd, bool)> {
        let mut made = false;
        // Two rounds: what is there may have to go, or is what a former pass made.
        for _ in 0..2 {
            match entry::create_dir(self.target.dir(), name) {
                Ok(()) => {
                    made = true;
                    self.touch();
                }
                Err(Errno::EEXIST) => {}
                Err(error) => return Err(self.target.error(name, error)),
            }
            match handle::open_dir(self.target.dir(), name) {
                Ok(dir) => return Ok((dir, made)),
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP)) => {
                    remove_at(self.target.dir(), name, &self.target.path_of(name))?;
                }
                Err(error) => return Err(self.target.error(name, error)),
            }
        }
        Err(self
            .target
            .error(name, io::Error::from(io::ErrorKind::AlreadyExists)))
    }

    /// All names of the current directory are done.
    fn close_directory(&mut self) -> Result<()> {
        let visit = self.visits.pop().expect("a directory is open");
        if visit.touched {
            let path = || self.source.path().to_owned();
            apply(
                &mut self.notes,
                self.source.dir(),
                self.target.dir(),
                &visit.stat,
                path,
            )?;
        }
        self.source.leave()?;
        self.target.leave()?;
        Ok(())
    }

    /// Something is mounted there: only its place is kept.
    fn mount_point(&mut self, name: &OsStr, stat: &Stat) -> Result<()> {
        self.notes.push(Note::MountPointSkipped {
            path: self.source.path_of(name),
        });
        let result = if stat.is_dir() {
            entry::create_dir(self.target.dir(), name)
        } else {
            entry::create_file(self.target.dir(), name).map(drop)
        };
        match result {
            Ok(()) => self.touch(),
            Err(Errno::EEXIST) => {}
            Err(error) => return Err(self.target.error(name, error)),
        }
        Ok(())
    }

    /// The current directory of the target is being changed, and with it its times.
    pub(super) fn touch(&mut self) {
        if let Some(visit) = self.visits.last_mut() {
            visit.touched = true;
        }
    }

    pub(super) fn count(&mut self, stat: &Stat) {
        match stat.file_type() {
            libc::S_IFREG => self.totals.files += 1,
            libc::S_IFLNK => self.totals.symlinks += 1,
            _ => self.totals.others += 1,
        }
        if stat.nlink > 1 && !self.links.first_sight(stat, self.pass) {
            self.totals.hard_links += 1;
        } else if stat.file_type() == libc::S_IFREG {
            self.totals.bytes += stat.size;
        }
    }

    fn check_cancelled(&self) -> Result<()> {
        if self.monitor.cancelled() {
            return Err(SysError::Cancelled {
                op: OP,
                path: self.source.path().to_owned(),
            });
        }
        Ok(())
    }
}
