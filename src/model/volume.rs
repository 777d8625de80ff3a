//! Volumes and snapshots as they are recorded.
//!
//! A driver keeps these records beside the data. Fields that a later version of windlass adds are carried along by
//! this one (`later`), so that hosts of different versions can share a path.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::policy::Policy;
use super::{Bytes, HookOutcome, Name, SnapshotId, Time, VolumeId};

/// A volume, wherever it is: everything about it that outlives this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its identity, kept through trash and undelete.
    pub id: VolumeId,
    /// Its name, unique on this host.
    pub name: Name,
    /// The name of the driver that holds it.
    pub driver: String,
    /// When it was created.
    pub created: Time,
    /// The most that it may hold; `None` is without bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Bytes>,
    /// It holds one image `disk.img` of exactly `size` bytes.
    #[serde(default)]
    pub vm: bool,
    /// Its options as they were given.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// What its owner wants done with it.
    #[serde(default)]
    pub policy: Policy,
    /// Its snapshots, oldest first.
    #[serde(default)]
    pub snapshots: Vec<Snapshot>,
    /// Its create was acknowledged, and its data are not there yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restoring: Option<Restoring>,
    /// The backup that it began as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<RestoredFrom>,
    /// What it began as, where that was another volume's state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_as: Option<BeganAs>,
    /// What only its driver understands (a quota's project id, a device id).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub private: BTreeMap<String, String>,
    /// What a later version wrote.
    #[serde(flatten)]
    pub later: BTreeMap<String, serde_json::Value>,
}

/// Where the data of a volume come from that are not there yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restoring {
    /// A backup's URL, without secrets, or a snapshot as `<volume>@<snapshot>`.
    pub from: String,
    /// Since when they are awaited.
    pub since: Time,
    /// What a later version wrote.
    #[serde(flatten)]
    pub later: BTreeMap<String, serde_json::Value>,
}

/// Of which volume's backup a volume was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredFrom {
    /// The backup's URL, without secrets.
    pub backup: String,
    /// The volume that the backup is of.
    pub volume: uuid::Uuid,
    /// Its name.
    pub name: String,
    /// What a later version wrote.
    #[serde(flatten)]
    pub later: BTreeMap<String, serde_json::Value>,
}

/// Of which state of which volume a volume was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeganAs {
    /// `<volume>@<snapshot>`, or a backup's URL without secrets.
    pub from: String,
    /// The moment of that state.
    pub at: Time,
    /// What a later version wrote.
    #[serde(flatten)]
    pub later: BTreeMap<String, serde_json::Value>,
}

/// A volume's frozen state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its identity.
    pub id: SnapshotId,
    /// Its name, unique within its volume.
    pub name: Name,
    /// When it was taken.
    pub created: Time,
    /// What it can be trusted for.
    pub consistency: Consistency,
    /// Where its data are, if not with the driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<Stored>,
    /// What became of the hooks before it, where its volume has some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<HookOutcome>,
    /// The checkpoint that it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<InCheckpoint>,
    /// What a later version wrote.
    #[serde(flatten)]
    pub later: BTreeMap<String, serde_json::Value>,
}

/// That a snapshot is one of several volumes' that belong together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InCheckpoint {
    /// The checkpoint's identity.
    pub id: uuid::Uuid,
    /// Its name, which its snapshots have too.
    pub name: Name,
    /// When it was taken.
    pub created: Time,
    /// Its volumes' names at that time, in their order.
    pub volumes: Vec<Name>,
    /// Whether all of its snapshots are of one moment.
    pub moment: Simultaneity,
    /// What a later version wrote.
    #[serde(flatten)]
    pub later: BTreeMap<String, serde_json::Value>,
}

/// How the snapshots of a checkpoint relate to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Simultaneity {
    /// Nothing was written to any of its volumes between the first of them and the last.
    One,
    /// They were taken one after the other, while the volumes may have been written to.
    InTurn,
}

impl Simultaneity {
    /// The word that answers use.
    pub fn word(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::InTurn => "in-turn",
        }
    }
}

/// The place of a snapshot that is a backup, in the volume's repository beside the driver's own storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The backup's id in that repository.
    pub backup: String,
    /// What a later version wrote.
    #[serde(flatten)]
    pub later: BTreeMap<String, serde_json::Value>,
}

/// How a snapshot relates to the moments of its volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Consistency {
    /// The state of one moment, as after a power cut.
    PointInTime,
    /// Each file is of one moment, but not all of the same: the volume was written to meanwhile.
    PerFile,
}

impl Consistency {
    /// The word that answers and records use.
    pub fn word(self) -> &'static str {
        match self {
            Self::PointInTime => "point-in-time",
            Self::PerFile => "per-file",
        }
    }
}

impl Volume {
    /// The snapshot of that name.
    pub fn snapshot(&self, name: &Name) -> Option<&Snapshot> {
        self.snapshots.iter().find(|s| s.name == *name)
    }
}

/// A removed volume that can still be brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trashed {
    /// The volume as it was.
    pub volume: Volume,
    /// When it was removed.
    pub removed: Time,
    /// When the trash may destroy it.
    pub expires: Time,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_earlier_versions_are_read_and_not_added_to() {
        let old = serde_json::json!({
            "id": "0a1b2c3d-0000-4000-8000-000000000001", "name": "pg", "driver": "vfs",
            "created": "2026-11-20T08:00:00Z", "vm": false, "options": {}, "policy": {"protect": false},
            "snapshots": [{
                "id": "0a1b2c3d-0000-4000-8000-000000000002", "name": "monday",
                "created": "2026-11-20T09:00:00Z", "consistency": "point-in-time",
            }],
        });
        let volume: Volume = serde_json::from_value(old.clone()).expect("an old record");
        assert_eq!((&volume.restoring, &volume.snapshots[0].stored), (&None, &None));
        assert_eq!(serde_json::to_value(&volume).expect("JSON"), old);
    }

    #[test]
    fn later_versions_fields_survive_in_what_is_new_too() {
        let new = serde_json::json!({"from": "s3://b@r/p?volume=pg&backup=0123", "since": "2026-11-20T08:00:00Z", "by": "host-2"});
        let restoring: Restoring = serde_json::from_value(new.clone()).expect("a later record");
        assert_eq!(serde_json::to_value(&restoring).expect("JSON"), new);
        let new = serde_json::json!({"backup": "0123456789abcdef", "destination": "elsewhere"});
        let stored: Stored = serde_json::from_value(new.clone()).expect("a later record");
        assert_eq!(serde_json::to_value(&stored).expect("JSON"), new);
    }
}
