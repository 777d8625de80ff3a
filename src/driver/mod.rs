//! What a driver is: the one that holds volumes and does to them what the service decides.
//!
//! A driver works synchronously; the service calls it on blocking threads and holds the volume's lock meanwhile, so
//! that no two calls for one volume of this host overlap. It knows neither Docker nor the engine nor this host's
//! records. Every change is an [`Operation`] that the service has recorded as an intent before the driver sees it;
//! after a crash the driver gets the same operation again through [`Driver::recover`] and finishes it or undoes it,
//! from what it finds on disk alone.

#[cfg(test)]
pub(crate) mod conformance;
pub mod error;
pub mod vfs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use error::DriverError;

use crate::model::{
    Bytes, Name, OnRemove, Policy, RootDirectory, Snapshot, SnapshotId, Time, Trashed, Volume, VolumeId,
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

    /// All volumes in its own records. One record that cannot be read does not hide the others: it is reported in
    /// [`Listing::damaged`].
    fn volumes(&self) -> Result<Listing>;

    /// The volume of that name in its own records; costs one look-up, not a listing.
    fn volume(&self, name: &Name) -> Result<Option<Volume>>;

    /// A cheap token that differs when the set of volumes may have changed behind this host's back (another host
    /// shares the path). `None` where that cannot happen.
    fn generation(&self) -> Result<Option<u64>>;

    /// Makes a volume, empty or as a clone of a snapshot; takes one up again that was let go.
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

    /// Freezes the volume's state under a name.
    fn snapshot(&self, take: &TakeSnapshot) -> Result<Volume>;

    /// Forgets a snapshot.
    fn remove_snapshot(&self, remove: &RemoveSnapshot) -> Result<Volume>;

    /// Puts the volume back into a snapshot's state. The volume is not in use.
    fn revert(&self, revert: &Revert) -> Result<Volume>;

    /// Changes what the volume's owner wants done with it; one atomic change of the record.
    fn set_policy(&self, volume: &Volume, policy: Policy) -> Result<Volume>;

    /// What the volume holds. May take long: it is never called while somebody waits for Docker.
    fn usage(&self, volume: &Volume) -> Result<Usage>;

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
    /// Snapshots, reverts and clones.
    pub snapshots: Support,
    /// Enforced sizes.
    pub size: Support,
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
    /// No, for this reason, with the remedy.
    No {
        /// The reason.
        because: String,
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
            Self::Undelete(_) => "undelete",
            Self::Purge(_) => "purge",
        }
    }
}

/// A new volume.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Create {
    /// Its record as wished for; the driver completes it.
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
