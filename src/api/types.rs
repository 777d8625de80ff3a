//! What the admin API says and hears, as JSON: shared by the servers, the client and the command line.
//!
//! Keys are Convoy's where Convoy had the thing, since its users' scripts read them; within `DriverInfo` and the
//! driver sections of `info` every value is text, as it was there. Ours are added beside them in the same style.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Text by key, in the order of insertion that the server chose.
pub type TextMap = serde_json::Map<String, serde_json::Value>;

/// `GET /v1/info`: `General` and one object per driver.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Info {
    /// The daemon.
    #[serde(rename = "General")]
    pub general: General,
    /// One section per driver, by its name.
    #[serde(flatten)]
    pub drivers: BTreeMap<String, TextMap>,
}

/// The daemon in `info`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct General {
    /// The daemon's version.
    pub version: String,
    /// The state directory, in the daemon's own view of the files.
    pub root: String,
    /// The drivers, the default one first.
    pub driver_list: Vec<String>,
    /// The driver of volumes that name none.
    pub default_driver: String,
    /// The daemon's process id in its own pid namespace.
    pub pid: u32,
    /// When the daemon started, RFC 3339.
    pub started_at: String,
    /// The identity of the state directory.
    #[serde(rename = "StateID")]
    pub state_id: String,
    /// How many volumes there are.
    pub volumes: usize,
    /// How many are mounted.
    pub mounted: usize,
    /// Things that a person should look at; empty when all is well.
    pub warnings: Vec<String>,
}

/// `GET /v1/volumes`: volumes by name.
pub type VolumeList = BTreeMap<String, Volume>;

/// A volume, as `list` and `inspect` show it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its UUID.
    #[serde(rename = "UUID")]
    pub uuid: String,
    /// The name of its driver.
    pub driver: String,
    /// Where it is mounted, in the daemon's view; empty when it is not.
    pub mount_point: String,
    /// When it was created, in Convoy's form (`Fri Nov 20 08:00:00 +0000 2026`).
    pub created_time: String,
    /// When it was created, RFC 3339.
    pub created_at: String,
    /// The driver's view: `Driver`, `VolumeName`, `VolumeCreatedAt`, `Size`, `Path` or `Device`, `MountPoint`, …; all text.
    pub driver_info: TextMap,
    /// Its snapshots by name.
    pub snapshots: BTreeMap<String, SnapshotEntry>,
    /// Who mounted it.
    pub mounts: Vec<Mount>,
    /// The options as they were given.
    pub options: BTreeMap<String, String>,
    /// The policy in force: `on-remove`, `trash-ttl`, `protect`, defaults filled in.
    pub policy: BTreeMap<String, String>,
    /// `ready`, or what keeps the volume from being used.
    pub state: String,
}

/// A snapshot within its volume.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SnapshotEntry {
    /// Its name.
    pub name: String,
    /// Its UUID.
    #[serde(rename = "UUID")]
    pub uuid: String,
    /// When it was taken, in Convoy's form.
    pub created_time: String,
    /// When it was taken, RFC 3339.
    pub created_at: String,
    /// `Driver`, `Size`, `Consistency`, …; all text.
    pub driver_info: TextMap,
}

/// A snapshot by itself: `snapshot inspect`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// Its UUID.
    #[serde(rename = "UUID")]
    pub uuid: String,
    /// The name of its volume.
    pub volume_name: String,
    /// When its volume was created, in Convoy's form.
    pub volume_created_at: String,
    /// When it was taken, in Convoy's form.
    pub created_time: String,
    /// When it was taken, RFC 3339.
    pub created_at: String,
    /// `Driver`, `Size`, `Consistency`, …; all text.
    pub driver_info: TextMap,
}

/// One user of a volume's mount.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Mount {
    /// Docker's mount id, or `windlass:<mount point>` for the command line's.
    #[serde(rename = "ID")]
    pub id: String,
    /// How often it was asked for and not given back.
    pub count: u32,
    /// Since when, RFC 3339.
    pub since: String,
    /// Whether this run of the daemon has heard of it; else it is left over from a former run and only a hint.
    pub confirmed: bool,
}

/// `POST /v1/volumes`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct CreateVolume {
    /// The name; without one it becomes `volume-` and 8 hexadecimal digits.
    #[serde(default)]
    pub name: Option<String>,
    /// The same options as `docker volume create -o`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// The answer to `POST /v1/volumes` and to an undelete.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Created {
    /// The volume.
    pub volume: Volume,
    /// What the user should know about it, e.g. that it is not empty; one sentence each.
    pub notes: Vec<String>,
}

/// The answer to `DELETE /v1/volumes/{volume}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Removed {
    /// The volume's name.
    pub name: String,
    /// `trash`, `delete` or `keep`.
    pub how: String,
    /// What became of it and how to get it back; one sentence each.
    pub notes: Vec<String>,
}

/// `POST /v1/volumes/{volume}/mount`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct MountVolume {
    /// An existing directory, absolute, in the daemon's view; the daemon's own place without it.
    #[serde(default)]
    pub mount_point: Option<String>,
}

/// The answer to a mount.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Mounted {
    /// Where it is mounted, in the daemon's view.
    pub mount_point: String,
}

/// `POST /v1/volumes/{volume}/umount`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct UnmountVolume {
    /// Forget all mount ids and unmount, also where containers are recorded as users.
    #[serde(default)]
    pub force: bool,
}

/// The answer to an unmount.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Unmounted {
    /// What the user should know, e.g. that containers still use the volume.
    pub notes: Vec<String>,
}

/// `POST /v1/volumes/{volume}/snapshots`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct CreateSnapshot {
    /// The name; without one it becomes `snapshot-` and 8 hexadecimal digits.
    #[serde(default)]
    pub name: Option<String>,
}

/// A removed volume that can be brought back: `GET /v1/trash`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Trashed {
    /// The volume's name when it was removed.
    pub name: String,
    /// Its UUID.
    #[serde(rename = "UUID")]
    pub uuid: String,
    /// The name of its driver.
    pub driver: String,
    /// When it was removed, RFC 3339.
    pub removed_at: String,
    /// When the trash may destroy it, RFC 3339.
    pub expires_at: String,
    /// How many snapshots go and come with it.
    pub snapshots: usize,
}

/// `POST /v1/trash/{volume}/undelete`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct UndeleteVolume {
    /// Another name than the old one.
    #[serde(default)]
    pub name: Option<String>,
}

/// One line of `GET /v1/events`: something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Event {
    /// Rises by one with every event of one run of the daemon, from 1.
    pub sequence: u64,
    /// When, RFC 3339.
    pub time: String,
    /// What: `volume.create`, `volume.remove`, `volume.mount`, `volume.unmount`, `volume.undelete`, `volume.purge`,
    /// `snapshot.create`, `snapshot.remove`, `volume.revert`, `volume.policy`, `daemon.start`, `daemon.recover`,
    /// `daemon.reload`, `driver.available`, `warning`.
    pub action: String,
    /// The object: a volume's name, `volume@snapshot`, or empty.
    pub object: String,
    /// More about it, as text by key.
    pub attributes: BTreeMap<String, String>,
}

/// The body of every answer with a status of 400 or more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Failure {
    /// What kind of failure.
    pub kind: Kind,
    /// What failed, on which object, and why: one line.
    pub message: String,
    /// What to do about it; may be empty.
    #[serde(default)]
    pub hint: String,
}

/// The kinds of failure. One table in `api::error` turns them into HTTP statuses, one in `cli` into exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// No such object.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// Somebody uses it, or another operation on it is under way.
    Busy,
    /// The request cannot be honoured with these values.
    Invalid,
    /// It cannot be done here.
    Unsupported,
    /// A record or data is not what it must be.
    Corrupt,
    /// The storage or the daemon is not there.
    Unavailable,
    /// The daemon's own fault, or the kernel's.
    Internal,
}
