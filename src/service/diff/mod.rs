//! What differs between two states of a volume: its files, or, of a device, the ranges of its bytes.
//!
//! The two trees are walked together, in the order of names, and what is found is handed on while the walk goes on: memory holds
//! the names of the directories on the way and a bounded number of changes, among which renames are found. A file whose inode,
//! times and size are the same is the same; any other is read and compared. The snapshots that are read are kept from being
//! removed meanwhile.

mod renames;
mod side;

use std::ffi::{OsStr, OsString};
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::uses::{Doing, Registered};
use super::{Found, Result, Service, ServiceError};
use crate::driver::{Content, Driver, DriverError, Source as DriverSource};
use crate::engine::tree::NodeKind;
use crate::engine::{Id, Progress, compare};
use crate::model::{InvalidValue, Name, SnapshotRef, Time, Volume};
use renames::Collector;
use side::{Entry, Side};

/// So many wait for a reader.
const QUEUE: usize = 256;
/// Read at once of each file.
const PIECE: usize = 1 << 20;

/// One line of an answer.
#[derive(Debug)]
pub enum Difference {
    /// A file or directory that is not as it was.
    Change(Change),
    /// Bytes of a device that may not be as they were.
    Range {
        /// Where they begin.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// The end.
    Summary(Summary),
    /// The end, too early.
    Failed(ServiceError),
}

/// A file or directory that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// How.
    pub how: How,
    /// Below the volume's root.
    pub path: PathBuf,
    /// Where it was, if it has another name now.
    pub old_path: Option<PathBuf>,
    /// `file`, `directory`, `symlink`, …; of what was removed, what it was.
    pub kind: &'static str,
    /// Of what is modified: `type`, `content`, `mode`, `owner`, `target`, `device`, `attributes`.
    pub what: Vec<&'static str>,
    /// Of files: their length before, in bytes.
    pub old_bytes: u64,
    /// Of files: their length, in bytes.
    pub bytes: u64,
}

/// How something is not as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is another.
    Modified,
    /// It has another name.
    Renamed,
}

impl How {
    /// As answers write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Modified => "modified",
            Self::Renamed => "renamed",
        }
    }
}

/// What came of a comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Names that were looked at.
    pub compared: u64,
    /// New ones.
    pub added: u64,
    /// Those that are gone.
    pub removed: u64,
    /// Those that are others.
    pub modified: u64,
    /// Those that have another name.
    pub renamed: u64,
    /// Ranges of a device.
    pub ranges: u64,
    /// Bytes in them.
    pub bytes: u64,
}

impl Service {
    /// Compares a snapshot with a later one, or with the volume as it is now; with `ranges`, by the bytes of its device.
    pub async fn diff(
        &self,
        from: &SnapshotRef,
        to: Option<&SnapshotRef>,
        ranges: bool,
    ) -> Result<mpsc::Receiver<Difference>> {
        if self.is_stopping() {
            return Err(ServiceError::Stopping);
        }
        let from = self.find_snapshot(from).await?;
        let (volume, of) = (from.volume.clone(), from.volume.name.clone());
        let driver = self.driver_of(&volume)?;
        let is_device = driver.capabilities().content == Content::Block;
        if ranges && !is_device {
            return Err(DriverError::Unsupported {
                what: format!("changed ranges of volume {of}"),
                because: "it is a directory, whose files can be compared; leave --ranges out".to_owned(),
            }
            .into());
        }
        let mut own = None;
        let to = match to {
            Some(to) => Some(self.find_snapshot(to).await?),
            // A device that may be written to shows no state to compare with.
            None if is_device => {
                let taken = self
                    .snapshot(of.as_str(), Some(own_name()), super::Hooks::LeaveOut)
                    .await?
                    .found;
                own = Some(SnapshotRef {
                    volume: Some(of.to_string()),
                    snapshot: taken.snapshot.name.to_string(),
                });
                Some(taken)
            }
            None => None,
        };
        if let Some(to) = &to
            && to.volume.id != volume.id
        {
            return Err(InvalidValue::Value {
                option: "diff".to_owned(),
                value: format!("{}@{}", to.volume.name, to.snapshot.name),
                expected: format!("a snapshot of the same volume, {of}"),
            }
            .into());
        }
        let progress = Arc::<Progress>::default();
        let begun = self
            .begin_diff(&from, to.as_ref(), driver, ranges, &progress)
            .await;
        let (task, work) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                self.drop_own(own).await;
                return Err(error);
            }
        };
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (this, busy) = (self.clone(), self.0.busy.subscribe());
        tokio::spawn(async move {
            let lines = sender.clone();
            let done = this.blocking(move |_| task.run(&lines, &progress)).await;
            drop(work);
            this.drop_own(own).await;
            if let Err(error) = done {
                // Whoever asked may have gone.
                let _ = sender.send(Difference::Failed(error)).await;
            }
            drop(busy);
        });
        Ok(receiver)
    }

    async fn begin_diff(
        &self,
        from: &Found,
        to: Option<&Found>,
        driver: Arc<dyn Driver>,
        ranges: bool,
        progress: &Arc<Progress>,
    ) -> Result<(Task, Registered)> {
        let of = from.volume.name.clone();
        let reference = |snapshot: &Name| SnapshotRef {
            volume: Some(of.to_string()),
            snapshot: snapshot.to_string(),
        };
        let work = {
            let _held = self.0.locks.lock(of.as_str()).await;
            let mut names = vec![from.snapshot.name.clone()];
            names.extend(to.map(|to| to.snapshot.name.clone()));
            // They may have been removed before the lock was ours.
            for name in &names {
                self.find_snapshot(&reference(name)).await?;
            }
            DriverError::refuse_restoring(&self.known(&of)?.volume, "comparison")?;
            self.0.uses.reading(&of)?;
            self.0.uses.begin(&of, Doing::Comparing(names), progress)
        };
        let is_stored = |found: &Found| found.snapshot.stored.is_some();
        if is_stored(from) || to.is_some_and(is_stored) {
            self.stop_pruning(from.volume.id).await;
        }
        let volume = self.known(&of)?.volume;
        let (from, to, progress) = (from.clone(), to.cloned(), progress.clone());
        let task = self
            .blocking(move |inner| {
                if ranges {
                    let to = to.as_ref().ok_or(ServiceError::Panicked)?;
                    return Ok(Task::Ranges(changed_ranges(&*driver, &volume, &from, to)?));
                }
                let old = Side::open(inner, &*driver, &volume, Some(&from), &progress)?;
                let new = Side::open(inner, &*driver, &volume, to.as_ref(), &progress)?;
                Ok(Task::Files(Box::new(old), Box::new(new)))
            })
            .await?;
        Ok((task, work))
    }

    async fn drop_own(&self, own: Option<SnapshotRef>) {
        let Some(own) = own else { return };
        if let Err(error) = self.drop_snapshot(&own).await {
            let message = format!(
                "the snapshot {own}, taken for a comparison, stays: {}",
                error.one_line()
            );
            self.events().emit("warning", own, &[("message", message)]);
        }
    }
}

fn own_name() -> Name {
    let moment: String = Time::now()
        .to_string()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    let random = uuid::Uuid::new_v4().simple().to_string();
    Name::snapshot(&format!("diff-{moment}-{}", &random[..4])).expect("letters, digits and dashes")
}

enum Task {
    Ranges(Vec<std::ops::Range<u64>>),
    Files(Box<Side>, Box<Side>),
}

impl Task {
    fn run(self, lines: &mpsc::Sender<Difference>, progress: &Arc<Progress>) -> Result<()> {
        let mut collector = Collector::new(lines);
        let done = match self {
            Self::Ranges(ranges) => ranges.into_iter().try_for_each(|range| {
                progress.check()?;
                let bytes = range.end - range.start;
                collector.summary.ranges += 1;
                collector.summary.bytes += bytes;
                collector.send(Difference::Range {
                    offset: range.start,
                    bytes,
                })
            }),
            Self::Files(old, new) => Walk {
                old: *old,
                new: *new,
                progress,
                collector: &mut collector,
            }
            .run(),
        };
        match done {
            Ok(()) => collector.finish(),
            // The reader has gone: nobody is told.
            Err(_) if lines.is_closed() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// What the driver's own records say.
fn changed_ranges(
    driver: &dyn Driver,
    volume: &Volume,
    from: &Found,
    to: &Found,
) -> Result<Vec<std::ops::Range<u64>>> {
    let source = driver.open_source(volume, Some(&to.snapshot), &[from.snapshot.id.uuid()])?;
    match source {
        DriverSource::Block(image) => match image.changed {
            Some(changed) => Ok(changed.ranges),
            None => Err(DriverError::NotFound {
                what: format!(
                    "the state of snapshot {}@{} in the pool",
                    volume.name, from.snapshot.name
                ),
            }
            .into()),
        },
        DriverSource::Tree { .. } => Err(ServiceError::Panicked),
    }
}

/// By which an entry is known under another name: inode, type, size, and the time of its last change.
type Key = (u64, u32, u64, i64, i64);

struct Walk<'a, 'b> {
    old: Side,
    new: Side,
    progress: &'a Progress,
    collector: &'a mut Collector<'b>,
}

/// A directory of either tree, or of both.
struct Level {
    old: Option<Names>,
    new: Option<Names>,
    path: PathBuf,
}

type Names = Peekable<std::vec::IntoIter<OsString>>;

impl Level {
    /// The next name, and on which sides it is.
    fn next(&mut self) -> Option<(OsString, bool, bool)> {
        let peek = |names: &mut Option<Names>| names.as_mut().and_then(|names| names.peek().cloned());
        let (old, new) = (peek(&mut self.old), peek(&mut self.new));
        let name = old.iter().chain(&new).min()?.clone();
        let (in_old, in_new) = (old.as_ref() == Some(&name), new.as_ref() == Some(&name));
        let advance = |is_there: bool, names: &mut Option<Names>| {
            if let Some(names) = names.as_mut().filter(|_| is_there) {
                names.next();
            }
        };
        advance(in_old, &mut self.old);
        advance(in_new, &mut self.new);
        Some((name, in_old, in_new))
    }
}

impl Walk<'_, '_> {
    fn run(mut self) -> Result<()> {
        let mut levels = vec![Level {
            old: Some(self.old.names()?.into_iter().peekable()),
            new: Some(self.new.names()?.into_iter().peekable()),
            path: PathBuf::new(),
        }];
        while let Some(level) = levels.last_mut() {
            self.progress.check()?;
            let Some((name, in_old, in_new)) = level.next() else {
                let left = levels.pop().expect("it was looked at");
                if !levels.is_empty() {
                    if left.old.is_some() {
                        self.old.leave()?;
                    }
                    if left.new.is_some() {
                        self.new.leave()?;
                    }
                }
                continue;
            };
            let path = level.path.join(&name);
            let old = if in_old { self.old.look(&name)? } else { None };
            let new = if in_new { self.new.look(&name)? } else { None };
            self.collector.summary.compared += 1;
            self.compare(&name, &path, old.as_ref(), new.as_ref())?;
            let same = match (&old, &new) {
                (Some(old), Some(new)) => old.subtree().is_some() && old.subtree() == new.subtree(),
                _ => false,
            };
            if same {
                continue;
            }
            let enter = |side: &mut Side, entry: Option<&Entry>| -> Result<Option<Names>> {
                match entry.filter(|entry| entry.is_dir()) {
                    Some(entry) if side.enter(&name, entry)? => {
                        Ok(Some(side.names()?.into_iter().peekable()))
                    }
                    _ => Ok(None),
                }
            };
            let (old, new) = (
                enter(&mut self.old, old.as_ref())?,
                enter(&mut self.new, new.as_ref())?,
            );
            if old.is_some() || new.is_some() {
                levels.push(Level { old, new, path });
            }
        }
        Ok(())
    }

    fn compare(&mut self, name: &OsStr, path: &Path, old: Option<&Entry>, new: Option<&Entry>) -> Result<()> {
        let change = |how, of: &Entry| Change {
            how,
            path: path.to_owned(),
            old_path: None,
            kind: of.word(),
            what: Vec::new(),
            old_bytes: old.map_or(0, Entry::bytes),
            bytes: new.map_or(0, Entry::bytes),
        };
        let (old, new) = match (old, new) {
            (None, None) => return Ok(()),
            (Some(old), None) => return self.collector.add(change(How::Removed, old), old.key()),
            (None, Some(new)) => return self.collector.add(change(How::Added, new), new.key()),
            (Some(old), Some(new)) => (old, new),
        };
        let what = self.what(name, old, new)?;
        match what.is_empty() {
            true => Ok(()),
            false => self.collector.add(
                Change {
                    what,
                    ..change(How::Modified, new)
                },
                None,
            ),
        }
    }

    fn what(&self, name: &OsStr, old: &Entry, new: &Entry) -> Result<Vec<&'static str>> {
        if old.file_type != new.file_type {
            return Ok(vec!["type"]);
        }
        if new.is_untouched(old) {
            return Ok(Vec::new());
        }
        let mut what = Vec::new();
        if new.file_type == libc::S_IFREG
            && (old.size != new.size || !self.has_same_content(name, old, new)?)
        {
            what.push("content");
        }
        if new.file_type == libc::S_IFLNK && self.old.target(name, old)? != self.new.target(name, new)? {
            what.push("target");
        }
        if new.file_type != libc::S_IFLNK && old.mode != new.mode {
            what.push("mode");
        }
        if old.owner != new.owner {
            what.push("owner");
        }
        if matches!(new.file_type, libc::S_IFBLK | libc::S_IFCHR) && old.device != new.device {
            what.push("device");
        }
        if self.old.attributes(name, old)? != self.new.attributes(name, new)? {
            what.push("attributes");
        }
        Ok(what)
    }

    fn has_same_content(&self, name: &OsStr, old: &Entry, new: &Entry) -> Result<bool> {
        fn content(entry: &Entry) -> Option<&[Id]> {
            match &entry.node.as_deref()?.kind {
                NodeKind::File { content, .. } => Some(content),
                _ => None,
            }
        }
        let open = |side: &Side| match side {
            Side::Here { source, .. } => {
                let pinned = source.pin(name).map_err(DriverError::from)?;
                let file = pinned.map(|pinned| pinned.open()).transpose();
                file.map_err(|error| ServiceError::from(DriverError::from(error)))
            }
            Side::Stored { .. } => Ok(None),
        };
        match (content(old), content(new)) {
            (Some(old), Some(new)) => Ok(old == new),
            (Some(pieces), None) | (None, Some(pieces)) => {
                let (stored, here) = match content(old) {
                    Some(_) => (&self.old, &self.new),
                    None => (&self.new, &self.old),
                };
                let (Side::Stored { repository, .. }, Some(file)) = (stored, open(here)?) else {
                    return Ok(false);
                };
                Ok(compare::has_content(repository, pieces, &file, self.progress)?)
            }
            (None, None) => {
                let (Some(old), Some(new)) = (open(&self.old)?, open(&self.new)?) else {
                    return Ok(false);
                };
                let (mut one, mut other, mut at) = (Vec::new(), Vec::new(), 0);
                loop {
                    self.progress.check()?;
                    for (file, buffer) in [(&old, &mut one), (&new, &mut other)] {
                        buffer.clear();
                        while buffer.len() < PIECE {
                            let have = buffer.len();
                            let got = file.read_at(buffer, PIECE - have, at + have as u64);
                            if got.map_err(DriverError::from)? == 0 {
                                break;
                            }
                        }
                    }
                    if one != other {
                        return Ok(false);
                    }
                    if one.len() < PIECE {
                        return Ok(true);
                    }
                    at += PIECE as u64;
                }
            }
        }
    }
}
