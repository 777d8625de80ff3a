//! Volumes and snapshots as they are recorded.
//!
//! A driver keeps these records beside the data. Fields that a later version of windlass adds are carried along by
//! this one (`later`), so that hosts of different versions can share a path.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::options::Policy;
use super::{Bytes, Name, SnapshotId, Time, VolumeId};

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
    /// What only its driver understands (a quota's project id, a device id).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub private: BTreeMap<String, String>,
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
