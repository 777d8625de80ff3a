//! What a driver is: the one that holds volumes and does to them what the service decides.
//!
//! A driver works synchronously; the service calls it on blocking threads and holds the volume's lock meanwhile, so
//! that no two calls for one volume of this host overlap. It knows neither Docker nor the engine nor this host's
//! records. Every change is an [`Operation`] that the service has recorded as an intent before the driver sees it;
//! after a crash the driver gets the same operation again through [`Driver::recover`] and finishes it or undoes it,
//! from what it finds on disk alone.

#[cfg(test)]
pub(crate) mod conformance;
pub mod convoy;
pub mod devicemapper;
mod document;
pub mod error;
pub mod pool;
pub mod vfs;

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use error::DriverError;

use crate::model::{
    Bytes, Consistency, HookOutcome, InCheckpoint, Name, OnRemove, Policy, RootDirectory, Snapshot,
    SnapshotId, Stored, Time, Trashed, Volume, VolumeId,
};

/// The result of a driver's work.
pub type Result<T> = std::result::Result<T, DriverError>;

/// The contract of all drivers.
pub trait Driver: Send + Sync + 'static {
    /// The name by which options and records call it: `vfs`, `devicemapper`.
    fn name(&self) -> &'static str;

    /// What it can do, and for the rest the reason why not.
    fn capabilities(&self) -> Capabilities;

    /// Its section in `windlass info`: Convoy's keys first, values as text.
    fn info(&self) -> Result<Vec<(String, String)>>;

    /// The directory of the repositories that hold snapshots of its volumes, or may hold some that were taken when there was
    /// no better way; see [`Support::ByRepository`].
    fn repositories(&self) -> Option<PathBuf> {
        None
    }

    /// What a person should know of its storage as it is now. Cheap: it is asked every few seconds.
    fn warnings(&self) -> Vec<Warning> {
        Vec::new()
    }

    /// What tells when [`Driver::warnings`] may say something else, where its storage does: nobody then need ask all the time.
    ///
    /// # Errors
    /// Where it should, and does not.
    fn news(&self) -> Result<Option<Box<dyn News>>> {
        Ok(None)
    }

    /// The pool that its volumes share, where they share one.
    fn pool(&self) -> Option<&dyn pool::Pool> {
        None
    }

    /// All volumes in its own records. One record that cannot be read does not hide the others: it is reported in
    /// [`Listing::damaged`].
    fn volumes(&self) -> Result<Listing>;

    /// The volume of that name in its own records; costs one look-up, not a listing.
    fn volume(&self, name: &Name) -> Result<Option<Volume>>;

    /// A cheap token that differs when the set of volumes may have changed behind this host's back (another host
    /// shares the path). `None` where that cannot happen.
    fn generation(&self) -> Result<Option<u64>>;

    /// Makes a volume, empty or as a clone of a snapshot; takes one up again that was let go.
    ///
    /// With `restoring` in its record, it is a volume whose data are not there yet: it is there, has its name and its
    /// options and can be removed, but [`Driver::mount`], [`Driver::snapshot`], [`Driver::revert`] and
    /// [`Driver::open_source`] refuse it until [`Driver::fill`] has given it its data. So a restore, and a clone of a
    /// snapshot that a repository holds, are this and a fill. What a driver knows of a clone by its source, the caller
    /// then says in the record: `vm`, and the `size` of an image.
    fn create(&self, create: &Create) -> Result<Created>;

    /// Takes a volume away in the way that `remove.how` says.
    fn remove(&self, remove: &Remove) -> Result<()>;

    /// Shows the volume's filesystem at `target`, an existing directory. Does nothing when it is there already.
    fn mount(&self, volume: &Volume, target: &Path) -> Result<()>;

    /// Takes it away from `target`. Does nothing when it is not there.
    ///
    /// # Errors
    /// [`DriverError::Busy`] when a process still works in it.
    fn unmount(&self, volume: &Volume, target: &Path) -> Result<()>;

    /// Whether the volume is what is mounted at `target`, by the kernel's own table.
    fn is_mounted(&self, volume: &Volume, target: &Path) -> Result<bool>;

    /// Who uses the volume by the kernel's account, apart from the mounts at `ours`.
    fn users(&self, volume: &Volume, ours: &[PathBuf]) -> Result<Users>;

    /// Freezes the volume's state under a name; with `take.stored`, records a snapshot that a repository holds already.
    fn snapshot(&self, take: &TakeSnapshot) -> Result<Volume>;

    /// Whether [`Driver::snapshot_together`] brings several volumes to rest at the same time.
    fn takes_together(&self) -> bool {
        false
    }

    /// Takes snapshots of several volumes, all of one moment: all are brought to rest, the snapshots are made, all go on. All
    /// are taken, or none; after a crash, [`Driver::recover`] says so of each.
    ///
    /// # Errors
    /// [`DriverError::Unsupported`] where the driver cannot.
    fn snapshot_together(&self, takes: &[TakeSnapshot]) -> Result<Vec<Volume>> {
        Err(DriverError::Unsupported {
            what: format!("snapshots of {} volumes at one moment", takes.len()),
            because: format!("the driver {} takes one after the other", self.name()),
        })
    }

    /// Forgets a snapshot. One that a repository holds is struck from the record and no more: the caller deletes the
    /// backup afterwards, so that a crash in between leaves a backup that no record speaks of, and never the reverse.
    fn remove_snapshot(&self, remove: &RemoveSnapshot) -> Result<Volume>;

    /// Shows a snapshot at `target`, an existing directory, to be looked at: nothing can be written there. Does nothing when it
    /// is there already.
    ///
    /// # Errors
    /// [`DriverError::Unsupported`] for a snapshot that a repository holds.
    fn show_snapshot(&self, volume: &Volume, snapshot: &Snapshot, target: &Path) -> Result<()>;

    /// Takes it away from `target`. Does nothing when it is not there.
    ///
    /// # Errors
    /// [`DriverError::Busy`] when a process still works in it.
    fn hide_snapshot(&self, volume: &Volume, snapshot: &Snapshot, target: &Path) -> Result<()>;

    /// Where snapshots of the volume are shown, by the kernel's own table.
    fn shown_snapshots(&self, volume: &Volume) -> Result<Vec<(Name, PathBuf)>>;

    /// Puts the volume back into a snapshot's state. The volume is not in use.
    ///
    /// # Errors
    /// [`DriverError::Unsupported`] for a snapshot that a repository holds: the caller fills the volume from there
    /// ([`Driver::open_target`], [`Driver::fill`]).
    fn revert(&self, revert: &Revert) -> Result<Volume>;

    /// Makes a volume larger, also while it is used. One that is as large already is finished, if it was interrupted.
    ///
    /// # Errors
    /// [`DriverError::Invalid`] for a smaller size; [`DriverError::Unsupported`] where sizes are not enforced.
    fn grow(&self, grow: &Grow) -> Result<Volume>;

    /// Gives the space back that files took which are no more; says how much. The volume may be in use.
    ///
    /// # Errors
    /// [`DriverError::Unsupported`] where it comes back by itself.
    fn trim(&self, volume: &Volume) -> Result<Bytes> {
        Err(DriverError::Unsupported {
            what: format!("trim of volume {}", volume.name),
            because: format!("the driver {} gives space back by itself", self.name()),
        })
    }

    /// What there is to read of a snapshot; without one, of the volume itself as it is now, while it may be written to.
    ///
    /// `bases` are ids of older snapshots of the volume, the best one first. An image says what changed since the first of
    /// them that the driver still has, as a snapshot or because of [`Driver::keep_base`].
    ///
    /// The caller keeps the snapshot, or the volume, from being removed, reverted or filled while it reads.
    ///
    /// # Errors
    /// [`DriverError::Unsupported`] for a snapshot that a repository holds: it is read from there; and for a volume that is an
    /// image, without a snapshot of it.
    fn open_source(&self, volume: &Volume, snapshot: Option<&Snapshot>, bases: &[Uuid]) -> Result<Source>;

    /// The files of a snapshot, to be read and seen by nobody else; without one, those of the volume as it is now.
    ///
    /// The caller keeps the snapshot, or the volume, from being removed, reverted or filled while it reads.
    ///
    /// # Errors
    /// As [`Driver::open_source`].
    fn files(&self, volume: &Volume, snapshot: Option<&Snapshot>) -> Result<Files> {
        match self.open_source(volume, snapshot, &[])? {
            Source::Tree { path } => Ok(Files {
                path,
                held: Box::new(()),
            }),
            Source::Block(_) => Err(DriverError::Unsupported {
                what: format!("a look at the files of volume {}", volume.name),
                because: format!("the driver {} shows its devices only", self.name()),
            }),
        }
    }

    /// Keeps a snapshot's state, unseen, for the next backup into that repository to be compared with, even after the
    /// snapshot itself is removed. It takes the place of the one that was kept for that repository before.
    ///
    /// `None` where there is no use for that. To call it again after a crash does no harm; not to call it costs a backup that
    /// reads everything.
    fn keep_base(&self, volume: &Volume, snapshot: &Snapshot, repository: &str) -> Result<Option<Volume>> {
        let _ = (volume, snapshot, repository);
        Ok(None)
    }

    /// Makes an empty place, within the volume's size, that the caller then writes a volume's data into. The first
    /// half of [`Operation::Fill`], whose intent is recorded before.
    ///
    /// What an earlier call for the same fill left is removed first. The volume is as it was until [`Driver::fill`];
    /// [`Driver::recover`] gives the place up.
    fn open_target(&self, fill: &Fill) -> Result<Target>;

    /// Looks whether the filesystem in a target is sound, where there is one that can be; says what was found, or why nobody
    /// looked. It may replay its journal: what is in the target is then no longer what was written.
    ///
    /// # Errors
    /// [`DriverError::Corrupt`] where it is not.
    fn check_target(&self, target: &Target) -> Result<Option<String>> {
        let _ = target;
        Ok(None)
    }

    /// What new data can take of its storage at this moment, where that is a filesystem's.
    fn room(&self) -> Result<Option<Bytes>> {
        Ok(None)
    }

    /// Puts what was written into the target in the place of the volume's data, in one step, and destroys what was there.
    /// The volume, which is not in use, is `restoring` no more. The second half of [`Operation::Fill`].
    ///
    /// # Errors
    /// After any, the target is given up and the volume is as it was.
    fn fill(&self, fill: &Fill) -> Result<Volume>;

    /// Changes what the volume's owner wants done with it; one atomic change of the record.
    fn set_policy(&self, volume: &Volume, policy: Policy) -> Result<Volume>;

    /// What the volume holds. May take long: it is never called while somebody waits for Docker.
    fn usage(&self, volume: &Volume) -> Result<Usage>;

    /// What volumes hold, in their order, for a driver to which all of them are hardly more work than one. `None` for others, and where it
    /// cannot tell at this moment.
    fn usage_of_all(&self, volumes: &[&Volume]) -> Option<Vec<Result<Usage>>> {
        let _ = volumes;
        None
    }

    /// Where a person finds the data on this host: a path or a device, as `DriverInfo` shows it.
    fn location(&self, volume: &Volume) -> Vec<(String, String)>;

    /// Removed volumes that can be brought back.
    fn trash(&self) -> Result<Vec<Trashed>>;

    /// Brings a removed volume back, under `undelete.name`.
    fn undelete(&self, undelete: &Undelete) -> Result<Volume>;

    /// Destroys a removed volume for good.
    fn purge(&self, purge: &Purge) -> Result<()>;

    /// Finishes or undoes an operation that a crash interrupted. Can be called again after a crash of its own.
    fn recover(&self, operation: &Operation) -> Result<Outcome>;
}

/// What a driver can do.
#[derive(Debug, Clone)]
pub struct Capabilities {
    /// Docker's scope: whether other hosts see the same volumes.
    pub scope: Scope,
    /// What a volume is, and so which backups fit into it.
    pub content: Content,
    /// Snapshots, reverts and clones.
    pub snapshots: Support,
    /// Enforced sizes.
    pub size: Support,
}

/// What a person should know of a driver's storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The same as long as it is the same trouble, whatever the figures in the text: `data-90`.
    pub key: String,
    /// The object, the cause, the remedy.
    pub text: String,
}

/// A file that is readable when a driver's storage has something to tell; not more often than once between two calls of
/// [`News::arm`], and also for what turns out to be nothing.
pub trait News: AsFd + Send {
    /// From now on, it is readable for what comes later only.
    fn arm(&self) -> Result<()>;
}

/// What a driver's volumes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Directories.
    Tree,
    /// Block devices, each with a filesystem.
    Block,
}

/// Docker's word for who sees a driver's volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// This host only.
    Local,
    /// Every host that shares the path.
    Global,
}

impl Scope {
    /// As the protocol writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Global => "global",
        }
    }
}

/// Whether a thing can be done here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Support {
    /// Yes, and by which means (`btrfs subvolumes`, `reflinks`, `ext4 project quotas`).
    Yes {
        /// The means.
        by: String,
    },
    /// Not by the driver, but where it can keep a repository: snapshots only.
    ///
    /// Taking one is then the caller's work: a backup of [`Driver::open_source`] without snapshot into the repository
    /// `<path>/<volume id>`, and then [`Driver::snapshot`] with [`TakeSnapshot::stored`]. A crash in between leaves a
    /// backup that no record speaks of. The driver does not look into the repository; it destroys it with the volume.
    ByRepository {
        /// The directory of the volumes' repositories.
        path: PathBuf,
        /// The means, and why no better one.
        by: String,
    },
    /// No, for this reason, with the remedy.
    No {
        /// The reason.
        because: String,
    },
}

/// What is read by a backup.
#[derive(Debug)]
pub enum Source {
    /// A directory with all that is in it.
    Tree {
        /// The directory.
        path: PathBuf,
    },
    /// A block device that does not change.
    Block(BlockImage),
}

/// Files to be read.
pub struct Files {
    /// The directory that they are in.
    pub path: PathBuf,
    /// Keeps them there until it is dropped.
    pub held: Box<dyn Any + Send + Sync>,
}

/// A block device to be read, and what its driver knows of it.
#[derive(Debug)]
pub struct BlockImage {
    /// The device.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// The filesystem on it, where it is one that the driver knows.
    pub filesystem: Option<String>,
    /// Where there can be anything but zeros: ranges of bytes, in order. With `changed` this may be all of it, since to look
    /// it up can cost what the volume holds.
    pub mapped: Vec<Range<u64>>,
    /// What differs from an older snapshot.
    pub changed: Option<ChangedSince>,
    /// Keeps the device there until it is dropped.
    pub held: Box<dyn Any + Send + Sync>,
}

/// What differs from an older snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedSince {
    /// That snapshot's id.
    pub snapshot: Uuid,
    /// Ranges of bytes, in order: everything outside of them is the same.
    pub ranges: Vec<Range<u64>>,
}

/// What is written by a restore.
#[derive(Debug)]
pub enum Target {
    /// An empty directory. Its own owner, permissions and attributes are the volume's too.
    Tree {
        /// The directory.
        path: PathBuf,
    },
    /// A block device of zeros, exactly as large as the volume.
    Block {
        /// The device.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
}

/// All volumes that could be read, and what could not.
#[derive(Debug, Default)]
pub struct Listing {
    /// The readable ones.
    pub volumes: Vec<Volume>,
    /// Names of records that could not be read, with the reason.
    pub damaged: Vec<(String, String)>,
}

/// An intended change, as recorded before it is begun.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "kebab-case")]
#[expect(
    clippy::large_enum_variant,
    reason = "one exists at a time; boxing would cost every reader a hop"
)]
pub enum Operation {
    /// [`Driver::create`].
    Create(Create),
    /// [`Driver::remove`].
    Remove(Remove),
    /// [`Driver::snapshot`].
    Snapshot(TakeSnapshot),
    /// [`Driver::remove_snapshot`].
    RemoveSnapshot(RemoveSnapshot),
    /// [`Driver::revert`].
    Revert(Revert),
    /// [`Driver::grow`].
    Grow(Grow),
    /// [`Driver::open_target`] and [`Driver::fill`].
    Fill(Fill),
    /// [`Driver::undelete`].
    Undelete(Undelete),
    /// [`Driver::purge`].
    Purge(Purge),
}

impl Operation {
    /// The volume that it concerns, by name where it has one.
    pub fn volume(&self) -> &Name {
        match self {
            Self::Create(c) => &c.volume.name,
            Self::Remove(r) => &r.volume.name,
            Self::Snapshot(s) => &s.volume.name,
            Self::RemoveSnapshot(r) => &r.volume.name,
            Self::Revert(r) => &r.volume.name,
            Self::Grow(g) => &g.volume.name,
            Self::Fill(f) => &f.volume.name,
            Self::Undelete(u) => &u.name,
            Self::Purge(p) => &p.name,
        }
    }

    /// The word for logs and for fault points.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Remove(_) => "remove",
            Self::Snapshot(_) => "snapshot",
            Self::RemoveSnapshot(_) => "remove-snapshot",
            Self::Revert(_) => "revert",
            Self::Grow(_) => "grow",
            Self::Fill(_) => "fill",
            Self::Undelete(_) => "undelete",
            Self::Purge(_) => "purge",
        }
    }
}

/// A new volume.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Create {
    /// Its record as wished for; the driver completes it. With `restoring`, there is neither `from` nor `adopt`.
    pub volume: Volume,
    /// Owner and permissions of its root directory.
    pub root: RootDirectory,
    /// Take over a directory of that name.
    pub adopt: bool,
    /// The state to begin with.
    pub from: Option<CloneOf>,
}

/// The snapshot that a clone begins as.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CloneOf {
    /// The snapshot's volume.
    pub volume: Volume,
    /// The snapshot.
    pub snapshot: Snapshot,
}

/// What became of a create.
#[derive(Debug, Clone)]
pub struct Created {
    /// The complete record.
    pub volume: Volume,
    /// Where its contents come from.
    pub origin: Origin,
}

/// Where a created volume's contents come from; users are told when they are not new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It is empty.
    New,
    /// A clone.
    Clone,
    /// A foreign directory, taken over because `adopt` was given.
    Adopted,
    /// A volume that was let go with `keep`/`--reference` at that time, with all its data and snapshots.
    TakenUpAgain {
        /// When it was let go.
        let_go: Time,
    },
}

/// The end of a volume's life under its name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Remove {
    /// The volume.
    pub volume: Volume,
    /// What becomes of its data.
    pub how: OnRemove,
    /// When it is removed.
    pub at: Time,
    /// Until when the trash keeps it; at once for `delete`, which is a removal to the trash that a purge follows.
    pub expires: Time,
}

/// A new snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TakeSnapshot {
    /// The volume.
    pub volume: Volume,
    /// The snapshot's identity.
    pub id: SnapshotId,
    /// The snapshot's name.
    pub name: Name,
    /// When it is taken.
    pub at: Time,
    /// It is a backup, in the repository that [`Support::ByRepository`] speaks of. Absent: the driver takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<StoredState>,
    /// What became of the hooks before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<HookOutcome>,
    /// The checkpoint that it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<InCheckpoint>,
}

impl TakeSnapshot {
    /// The snapshot as its record will say.
    pub fn recorded(&self, consistency: Consistency) -> Snapshot {
        Snapshot {
            id: self.id,
            name: self.name.clone(),
            created: self.at,
            consistency,
            stored: self.stored.as_ref().map(|stored| Stored {
                backup: stored.backup.clone(),
                later: Default::default(),
            }),
            hooks: self.hooks,
            checkpoint: self.checkpoint.clone(),
            later: Default::default(),
        }
    }
}

/// A snapshot that is in the volume's repository already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredState {
    /// The backup's id.
    pub backup: String,
    /// What it can be trusted for, as who made it saw.
    pub consistency: Consistency,
}

/// The end of a snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RemoveSnapshot {
    /// The volume.
    pub volume: Volume,
    /// The snapshot.
    pub snapshot: Snapshot,
}

/// A return to a snapshot's state.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Revert {
    /// The volume.
    pub volume: Volume,
    /// The state to return to.
    pub snapshot: Snapshot,
    /// A fresh id that names the working area.
    pub id: SnapshotId,
}

/// More room for a volume.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Grow {
    /// The volume.
    pub volume: Volume,
    /// The most that it may hold from then on.
    pub size: Bytes,
}

impl Grow {
    /// Refuses what is no growth: `from` is the volume's size now.
    ///
    /// # Errors
    /// [`DriverError::Invalid`].
    pub fn check(&self, from: Bytes) -> Result<()> {
        match self.size >= from {
            true => Ok(()),
            false => Err(crate::model::InvalidValue::Value {
                option: "size".to_owned(),
                value: self.size.0.to_string(),
                expected: format!(
                    "at least that of the volume, {} bytes: volumes grow and do not shrink",
                    from.0
                ),
            }
            .into()),
        }
    }
}

/// New data for a volume: of a restore, or of a snapshot that a repository holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fill {
    /// The volume.
    pub volume: Volume,
    /// A fresh id that names the working area.
    pub id: SnapshotId,
    /// What becomes of the data that are there.
    pub how: How,
    /// Owner and permissions of the root directory, where they are to differ from what is written into the target.
    #[serde(default)]
    pub root: RootDirectory,
}

/// How new data come into a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// They are built aside and take the place of the old, all at once.
    Replace,
}

/// A way back from the trash.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Undelete {
    /// The removed volume.
    pub id: VolumeId,
    /// The name that it gets; its old one unless that is taken.
    pub name: Name,
}

/// The end of a removed volume.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Purge {
    /// The removed volume.
    pub id: VolumeId,
    /// The name that it had.
    pub name: Name,
}

/// Who uses a volume, as far as the kernel tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Users {
    /// These, and nobody else (`nginx (pid 4711) at /data`).
    Known(Vec<String>),
    /// The daemon cannot see the other processes (it is in a pid namespace of its own) or nothing in the kernel shows
    /// them.
    Unknown,
}

/// What a volume holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Space that its data takes.
    pub used: Bytes,
    /// What of that it shares with no snapshot and no clone, and would give back if it went: at least so much. Where that is
    /// not known at little cost, `None`.
    #[serde(default)]
    pub exclusive: Option<Bytes>,
    /// The most that it may hold.
    pub limit: Option<Bytes>,
}

/// What became of an interrupted operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is done now, as if it had never been interrupted.
    Finished,
    /// Nothing of it is left, as if it had never begun.
    Undone,
}

/// A driver's options, `<driver>.<key>` without the prefix.
pub type DriverOptions = BTreeMap<String, String>;
