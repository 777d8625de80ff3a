//! What the driver writes down: a volume's record with its thin devices, and the journal of a change under way.
//!
//! ```text
//! <root>/devicemapper/pool.json             the marker: whose pool it is, and of which devices
//! <root>/devicemapper/journal.json          the pool's transaction that the records agree with, and a change under way
//! <root>/devicemapper/volumes/<name>        a volume's record
//! <root>/devicemapper/kept/<name>           the record of a volume that was let go
//! <root>/devicemapper/trash/<volume id>     the record of a removed volume
//! <root>/devicemapper/staging/<id>          a thin device that an operation is at work on
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::{DriverError, Listing, Result, document};
use super::{NAME, failed};
use crate::model::{Name, SnapshotId, Time, Trashed, Volume, VolumeId};
use crate::sys::durable;

/// A thin device's id in its pool: 24 bits, given out by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct ThinId(pub(super) u32);

impl ThinId {
    /// One more than the highest.
    pub(super) const END: u32 = 1 << 24;
}

impl fmt::Display for ThinId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A volume with the thin devices that belong to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The volume as everybody knows it.
    pub(super) volume: Volume,
    /// Its device; none while it waits for its first data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) thin: Option<ThinId>,
    /// Its snapshots' devices.
    #[serde(default)]
    pub(super) snapshots: BTreeMap<SnapshotId, ThinId>,
    /// What is kept for the next backup into a repository, by the repository's id.
    #[serde(default)]
    pub(super) bases: BTreeMap<String, Base>,
    /// The operation that was the last to be done by exchanging the device or by taking the volume up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) done: Option<Uuid>,
    /// When it went: into the trash, or out of the records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) removed: Option<Time>,
    /// Until when the trash keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<Time>,
    /// What a later version wrote.
    #[serde(flatten)]
    pub(super) later: BTreeMap<String, serde_json::Value>,
}

/// The state of a snapshot, kept for a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Base {
    /// The snapshot.
    pub(super) snapshot: Uuid,
    /// A device of its own.
    pub(super) thin: ThinId,
    /// Since when.
    pub(super) since: Time,
}

impl Record {
    pub(super) fn new(volume: Volume, thin: Option<ThinId>) -> Self {
        Self {
            volume,
            thin,
            snapshots: BTreeMap::new(),
            bases: BTreeMap::new(),
            done: None,
            removed: None,
            expires: None,
            later: BTreeMap::new(),
        }
    }

    /// All its devices.
    pub(super) fn thins(&self) -> impl Iterator<Item = ThinId> {
        let snapshots = self.snapshots.values().copied();
        let bases = self.bases.values().map(|base| base.thin);
        self.thin.into_iter().chain(snapshots).chain(bases)
    }

    /// The device that holds the state of a snapshot, whether people see that still or not.
    pub(super) fn state(&self, snapshot: Uuid) -> Option<ThinId> {
        let mut seen = self.snapshots.iter();
        let seen = seen.find(|(id, _)| id.uuid() == snapshot).map(|(_, thin)| *thin);
        let mut kept = self.bases.values();
        seen.or_else(|| kept.find(|base| base.snapshot == snapshot).map(|base| base.thin))
    }
}

/// A device that an operation is at work on, of no volume yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Staged {
    pub(super) thin: ThinId,
    /// In bytes.
    pub(super) size: u64,
}

/// Where the records are.
#[derive(Debug, Clone)]
pub(super) struct Records {
    root: PathBuf,
    /// The volumes' devices as they were last read or written, so that a listing of thousands reads no file. Held for look-ups.
    known: Arc<Mutex<HashMap<VolumeId, Option<ThinId>>>>,
}

/// The directories of records.
pub(super) const ROOMS: [&str; 4] = ["volumes", "kept", "trash", "staging"];

impl Records {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            known: Arc::default(),
        }
    }

    /// The device that a volume had when its record was last read or written.
    pub(super) fn thin_of(&self, volume: &Volume) -> Option<ThinId> {
        let known = self.known().get(&volume.id).copied();
        known.unwrap_or_else(|| {
            let record = self.same(&volume.name, volume.id).ok().flatten();
            record.and_then(|record| record.thin)
        })
    }

    /// Remembers a record's device.
    pub(super) fn remember(&self, record: &Record) {
        self.known().insert(record.volume.id, record.thin);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<VolumeId, Option<ThinId>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The path of a record, from the place that a [`super::ledger::Change`] names.
    pub(super) fn path(&self, place: &Place) -> PathBuf {
        match place {
            Place::Volume(name) => self.root.join("volumes").join(name),
            Place::Kept(name) => self.root.join("kept").join(name),
            Place::Trash(id) => self.root.join("trash").join(id.to_string()),
            Place::Staging(id) => self.root.join("staging").join(id.to_string()),
        }
    }

    pub(super) fn volume(&self, name: &Name) -> Result<Option<Record>> {
        self.named(&Place::Volume(name.clone()), name)
    }

    pub(super) fn kept(&self, name: &Name) -> Result<Option<Record>> {
        self.named(&Place::Kept(name.clone()), name)
    }

    /// The record of this very volume: of that name and that id.
    pub(super) fn same(&self, name: &Name, id: VolumeId) -> Result<Option<Record>> {
        Ok(self.volume(name)?.filter(|record| record.volume.id == id))
    }

    /// As [`Self::same`], where it must be there.
    pub(super) fn must_have(&self, name: &Name, id: VolumeId) -> Result<Record> {
        self.same(name, id)?.ok_or_else(|| DriverError::NotFound {
            what: format!("volume {name}"),
        })
    }

    pub(super) fn trashed(&self, id: VolumeId) -> Result<Option<Record>> {
        let path = self.path(&Place::Trash(id));
        let Some(record) = document::read::<Record>(&path)? else {
            return Ok(None);
        };
        if record.volume.id != id {
            let why = format!("it is the record of the volume with id {}", record.volume.id);
            return Err(DriverError::Corrupt { path, why });
        }
        Ok(Some(record))
    }

    pub(super) fn staged(&self, id: Uuid) -> Result<Option<Staged>> {
        document::read(&self.path(&Place::Staging(id)))
    }

    /// All volumes, and all records that cannot be believed.
    pub(super) fn list(&self) -> Result<Listing> {
        let mut listing = Listing::default();
        for file_name in self.names("volumes")? {
            let name = Name::volume(&file_name);
            let read = match &name {
                Ok(name) => self.volume(name),
                Err(error) => Err(DriverError::Invalid(error.clone())),
            };
            match read {
                Ok(Some(record)) => listing.volumes.push(record.volume),
                Ok(None) => {}
                Err(error) => listing.damaged.push((file_name, error.to_string())),
            }
        }
        listing.volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listing)
    }

    /// All removed volumes.
    pub(super) fn list_trash(&self) -> Result<Vec<Trashed>> {
        let mut trash = Vec::new();
        for name in self.names("trash")? {
            let Ok(id) = name.parse::<VolumeId>() else {
                continue;
            };
            match self.trashed(id) {
                Ok(Some(record)) => trash.extend(trashed(record)),
                Ok(None) => {}
                Err(error) => log::warn!("{NAME}: a removed volume cannot be brought back: {error}"),
            }
        }
        trash.sort_by(|a, b| (a.removed, &a.volume.name).cmp(&(b.removed, &b.volume.name)));
        Ok(trash)
    }

    /// Every thin device that any record names, with what names it. One record that cannot be read does not hide the others.
    pub(super) fn all_thins(&self) -> Result<BTreeMap<ThinId, String>> {
        let mut thins = BTreeMap::new();
        for room in ROOMS {
            for name in self.names(room)? {
                let path = self.root.join(room).join(&name);
                let found: Result<Vec<ThinId>> = match room {
                    "staging" => document::read::<Staged>(&path)
                        .map(|staged| staged.into_iter().map(|staged| staged.thin).collect()),
                    _ => document::read::<Record>(&path)
                        .map(|record| record.iter().flat_map(Record::thins).collect()),
                };
                match found {
                    Ok(found) => thins.extend(found.into_iter().map(|thin| (thin, format!("{room}/{name}")))),
                    Err(error) => log::warn!("{NAME}: {error}"),
                }
            }
        }
        Ok(thins)
    }

    /// The names in a room, those of temporary files left out.
    pub(super) fn names(&self, room: &str) -> Result<Vec<String>> {
        let dir = self.root.join(room);
        let entries = std::fs::read_dir(&dir).map_err(failed("read directory", &dir))?;
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed("read directory", &dir))?.file_name();
            if !durable::is_temporary(&name) {
                names.push(name.to_string_lossy().into_owned());
            }
        }
        Ok(names)
    }

    fn named(&self, place: &Place, name: &Name) -> Result<Option<Record>> {
        let path = self.path(place);
        let Some(record) = document::read::<Record>(&path)? else {
            return Ok(None);
        };
        let why = if record.volume.name != *name {
            format!("it is the record of volume {}", record.volume.name)
        } else if record.volume.driver != NAME {
            format!(
                "it is the record of a volume of the driver {:?}",
                record.volume.driver
            )
        } else {
            self.remember(&record);
            return Ok(Some(record));
        };
        Err(DriverError::Corrupt { path, why })
    }
}

/// A record in the trash, as the trash shows it.
pub(super) fn trashed(record: Record) -> Option<Trashed> {
    Some(Trashed {
        removed: record.removed?,
        expires: record.expires?,
        volume: record.volume,
    })
}

/// Which record is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Place {
    /// `volumes/<name>`.
    Volume(Name),
    /// `kept/<name>`.
    Kept(Name),
    /// `trash/<volume id>`.
    Trash(VolumeId),
    /// `staging/<id>`.
    Staging(Uuid),
}
