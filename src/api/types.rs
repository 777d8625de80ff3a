//! What the admin API says and hears, as JSON: shared by the servers, the client and the command line.
//!
//! Keys are Convoy's where Convoy had the thing, since its users' scripts read them; within `DriverInfo` and the
//! driver sections of `info` every value is text, as it was there. Ours are added beside them in the same style.
//! The file is long because there is one vocabulary, and a word is found more easily in one place.

mod checkpoints;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::model::FailureKind as Kind;
pub use checkpoints::{Checkpoint, CloneCheckpoint, ClonedCheckpoint, CreateCheckpoint};

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
    /// The policy in force, with the defaults of `on-remove`, `trash-ttl` and `protect`.
    pub policy: BTreeMap<String, String>,
    /// How what the policy asks for fares: the worst `Health` of `Schedules`; empty where it asks for nothing.
    #[serde(default)]
    pub health: String,
    /// The work that the policy asks for, by task: `snapshot`, `backup`, `drill`; a drill also where only a person asked for one.
    #[serde(default)]
    pub schedules: BTreeMap<String, Schedule>,
    /// `ready`, or what keeps the volume from being used.
    pub state: String,
}

/// Work that a policy asks for again and again.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Schedule {
    /// `ok`, `waiting` for the first turn, `late`, `failing`, or `never` done although it should have been.
    pub health: String,
    /// When it is due next, RFC 3339; empty where never.
    pub next_at: String,
    /// When the last one that succeeded was begun; empty before the first.
    pub succeeded_at: String,
    /// When the last one was begun, whatever became of it.
    pub tried_at: String,
    /// How many have failed since one succeeded.
    pub failures: u32,
    /// Why the last one failed.
    pub error: String,
    /// How long the last one that succeeded took, in whole seconds.
    #[serde(default)]
    pub seconds: u64,
    /// Whether it is being done, or was asked for and waits for its turn.
    pub at_work: bool,
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
    /// What a person should know, once it is taken: hooks that failed, or had no container to run in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
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
    /// The job that fills it, if it is being restored.
    #[serde(default)]
    pub job: Option<i64>,
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
    /// Leave the volume's hooks out.
    #[serde(default)]
    pub no_hooks: bool,
}

/// Changes of a volume's policy.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct ChangePolicy {
    /// Options to set, e.g. `snapshot.schedule`.
    pub set: BTreeMap<String, String>,
    /// Options that go back to the default.
    pub unset: Vec<String>,
}

/// What differs between two states of a volume: a line of `GET /v1/diff`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Difference {
    /// `added`, `removed`, `modified`, `renamed`; of a device `range`; at the end `summary`, or `failed` where it came too early.
    pub change: String,
    /// Below the volume's root.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Of what is renamed: where it was.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub old_path: String,
    /// `file`, `directory`, `symlink`, `block device`, `character device`, `fifo` or `socket`.
    #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Of what is modified: `type`, `content`, `mode`, `owner`, `target`, `device`, `attributes`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub what: Vec<String>,
    /// Of files: their length before, in bytes.
    pub old_bytes: u64,
    /// Of files: their length; of a range its length, and of the summary that of all ranges.
    pub bytes: u64,
    /// Of a range: where it begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// How many there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<DifferenceSummary>,
    /// Why the comparison ended too early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// What came of a comparison.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DifferenceSummary {
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
}

/// A volume's history: `GET /v1/volumes/{volume}/timeline`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Timeline {
    /// The volume's name.
    pub name: String,
    /// `here`, `trash`, or `gone`.
    pub state: String,
    /// Since when it is asked for, RFC 3339; empty for all of it.
    pub since: String,
    /// What there is and what happened, the oldest first.
    pub marks: Vec<TimelineMark>,
    /// What the user should know, e.g. that backups could not be listed; one sentence each.
    pub notes: Vec<String>,
}

/// One moment of a volume's history.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TimelineMark {
    /// When, RFC 3339: of a snapshot or a backup, the moment of the data.
    pub at: String,
    /// `created`, `snapshot`, `backup`, `verification`, `drill` or `removed`.
    pub kind: String,
    /// `ok`, `failed` or `running`.
    pub state: String,
    /// `<volume>@<snapshot>`, a backup's URL, or what was looked at.
    pub name: String,
    /// Why it failed, or how far it is; may be empty.
    pub detail: String,
}

/// `GET /v1/volumes/{volume}/retention`: what the policy keeps now, and what its next turn takes away; the oldest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Retention {
    /// The volume's snapshots.
    pub snapshots: Vec<Judged>,
    /// Its backups at the policy's destination.
    pub backups: Vec<Judged>,
}

/// A snapshot or a backup, and what becomes of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Judged {
    /// The snapshot's name, or the backup's URL.
    pub name: String,
    /// When it was taken.
    pub created_at: String,
    /// Whether it stays.
    pub kept: bool,
    /// Why it stays: rules by their words, `not by schedule`, or `no rule`.
    pub why: Vec<String>,
}

/// `POST /v1/volumes/{volume}/resize`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ResizeVolume {
    /// The most that the volume may hold from then on, as people write it.
    pub size: String,
}

/// What `POST /v1/volumes/{volume}/trim` gave back.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TrimmedVolume {
    /// The volume.
    pub name: String,
    /// What its driver's storage got back, in bytes.
    pub bytes_freed: u64,
}

/// The pool that a driver's volumes share: `GET /v1/pool`. All sizes are in bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Pool {
    /// The driver.
    pub driver: String,
    /// Its name in the kernel.
    pub name: String,
    /// `read-write`, `out of data space`, `read-only` or `failed`.
    pub mode: String,
    /// The kernel wants the metadata checked before it writes again.
    pub needs_check: bool,
    /// How many changes it has seen.
    pub transaction: u64,
    /// The size of its blocks.
    pub block_size: u64,
    /// The space for what volumes hold.
    pub data: PoolSpace,
    /// The space for what the pool knows.
    pub metadata: PoolSpace,
    /// The device for data.
    pub data_device: String,
    /// The device for metadata.
    pub metadata_device: String,
    /// The one that metadata are repaired to; empty without one.
    pub spare_device: String,
    /// Volumes, without those in the trash.
    pub volumes: usize,
    /// Their snapshots.
    pub snapshots: usize,
    /// Thin devices of all sorts: also of the trash, and what is kept for backups.
    pub thin_devices: usize,
    /// How full it is when a person is warned, in percent.
    pub warn_at: Vec<u64>,
    /// What new volumes and snapshots leave alone, in percent.
    pub reserve: u64,
    /// What becomes of a write without room: `error` or `queue`.
    pub when_full: String,
    /// What a person should know of it now.
    pub warnings: Vec<String>,
    /// Why it is for trying out only; empty where it is not.
    pub caveat: String,
}

/// How much there is of something in a pool, in bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PoolSpace {
    /// Taken.
    pub used: u64,
    /// In all.
    pub total: u64,
    /// Taken, in percent, rounded up.
    pub percent: u64,
}

/// `POST /v1/pool/extend`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ExtendPool {
    /// How large the files of `dm.loopback` are to be (`20G`), or how much larger (`+20G`). Without it, the pool takes up what
    /// its devices have gained.
    #[serde(default)]
    pub size: Option<String>,
}

/// What `POST /v1/pool/check` found: metadata that are sound.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CheckedPool {
    /// Where they are.
    pub metadata_device: String,
    /// The pool was at work meanwhile.
    pub at_work: bool,
    /// Thin devices in them.
    pub thin_devices: usize,
    /// The ids of those that no record names; they are left alone, and take space.
    pub unclaimed: Vec<u32>,
}

/// `POST /v1/pool/repair`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct RepairPool {
    /// What cannot be saved is given up. Without it, such a repair is refused, and says what that is.
    #[serde(default)]
    pub accept_loss: bool,
}

/// What `POST /v1/pool/repair` did.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RepairedPool {
    /// Where the metadata are.
    pub metadata_device: String,
    /// The file with those that were damaged; empty where there was nothing to repair.
    pub damaged: String,
    /// What could not be saved, and was given up; one line each.
    pub losses: Vec<String>,
    /// What still keeps the driver from working; one sentence each.
    pub notes: Vec<String>,
}

/// What `POST /v1/pool/trim` gave back.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TrimmedPool {
    /// All in all, in bytes.
    pub bytes_freed: u64,
    /// By volume.
    pub volumes: Vec<TrimmedVolume>,
    /// Which could not be trimmed, and why; one sentence each.
    pub notes: Vec<String>,
}

/// `POST /v1/import/convoy`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ImportConvoy {
    /// Convoy's root, as the daemon sees the files.
    pub root: String,
    /// Only say what would be.
    #[serde(default)]
    pub dry_run: bool,
}

/// What was taken over, or would be.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Imported {
    /// Nothing was done.
    pub dry_run: bool,
    /// The volumes.
    pub adopted: Vec<ImportedVolume>,
    /// What stays behind.
    pub skipped: Vec<LeftBehind>,
    /// What keeps the pool from being taken over, in a dry run; empty where nothing does.
    pub obstacle: String,
}

/// A volume that is taken over.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImportedVolume {
    /// Its name.
    pub name: String,
    /// The driver that holds it.
    pub driver: String,
    /// Its size in bytes; 0 is without bound.
    pub size: u64,
    /// How many snapshots come with it.
    pub snapshots: usize,
}

/// What is not taken over.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LeftBehind {
    /// `volume x`, `snapshot x@y`, `thin device 7`.
    pub what: String,
    /// Why.
    pub why: String,
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
    /// `snapshot.create`, `snapshot.remove`, `snapshot.mount`, `snapshot.unmount`, `volume.revert`, `volume.policy`, `daemon.start`, `daemon.recover`,
    /// `daemon.reload`, `driver.available`, `volume.restore`, `backup.create`, `backup.copy`, `backup.delete`,
    /// `backup.prune`, `import`, `pool.extend`, `pool.repair`, `job.start`, `job.end`, `warning`.
    pub action: String,
    /// The object: a volume's name, `volume@snapshot`, a backup's URL, a job's number, or empty.
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

/// `GET /v1/backups`: backups by URL.
pub type BackupList = BTreeMap<String, Backup>;

/// A backup, as `backup list` and `backup inspect` show it. What was not made by windlass has empty texts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Backup {
    /// Its name: the first 16 digits of its id.
    pub backup_name: String,
    /// Its URL.
    #[serde(rename = "BackupURL")]
    pub backup_url: String,
    /// The driver of its volume.
    pub driver_name: String,
    /// Its volume's name.
    pub volume_name: String,
    /// Its volume's size in bytes, as text; `0` is without bound.
    pub volume_size: String,
    /// When its volume was created, in Convoy's form.
    pub volume_created_at: String,
    /// The snapshot that it is of.
    pub snapshot_name: String,
    /// When that was taken, in Convoy's form.
    pub snapshot_created_at: String,
    /// When it was made, in Convoy's form.
    pub created_time: String,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// Its id in the repository, all 64 digits.
    #[serde(rename = "ID")]
    pub id: String,
    /// The host that made it.
    pub host: String,
    /// `tree`, `block`, or empty for what another program made.
    pub kind: String,
    /// Its volume's UUID; empty for what another program made.
    #[serde(rename = "VolumeUUID")]
    pub volume_uuid: String,
    /// `point-in-time`, or `per-file` where its files may be of different moments; empty for what another program made.
    pub consistency: String,
    /// Files in it.
    pub files: u64,
    /// Bytes in it.
    pub bytes_total: u64,
    /// Bytes that were read for it.
    pub bytes_read: u64,
    /// Bytes that the repository did not have, before compression.
    pub bytes_new: u64,
    /// Bytes that were stored for them.
    pub bytes_stored: u64,
    /// How long it took.
    pub seconds: f64,
}

/// `POST /v1/backups`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct CreateBackup {
    /// A snapshot, or a volume of which one is taken first.
    pub snapshot: String,
    /// Where to; without one the volume's `backup.dest`, or the daemon's `backup-dest`.
    #[serde(default)]
    pub destination: Option<String>,
    /// The S3 service, where it is not Amazon's or the destination's.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Take the repository over from the volume that it belongs to.
    #[serde(default)]
    pub take_over: bool,
    /// Leave the volume's hooks out.
    #[serde(default)]
    pub no_hooks: bool,
    /// No new backup where the volume is as the newest one has it.
    #[serde(default)]
    pub only_if_changed: bool,
}

/// `POST /v1/backups/verify`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct VerifyBackups {
    /// A backup, a repository (`…?volume=…`) or a destination; the daemon's `backup-dest` without one.
    #[serde(default)]
    pub target: Option<String>,
    /// The S3 service.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// How much of the data is read: 0 is the structure alone, 100 every byte.
    #[serde(default)]
    pub percent: u8,
}

/// `POST /v1/backups/prune`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct PruneBackups {
    /// A repository (`…?volume=…`) or a destination; the daemon's `backup-dest` without one.
    #[serde(default)]
    pub target: Option<String>,
    /// The S3 service.
    #[serde(default)]
    pub endpoint: Option<String>,
}

/// `POST /v1/backups/copy`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct CopyBackup {
    /// The backup's URL.
    #[serde(rename = "URL")]
    pub url: String,
    /// Its S3 service.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Where to; the daemon's `backup-dest` without one.
    #[serde(default)]
    pub destination: Option<String>,
    /// The S3 service there.
    #[serde(default)]
    pub destination_endpoint: Option<String>,
}

/// Long work: `GET /v1/jobs/{job}`, and each line of its progress.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Job {
    /// Its number.
    #[serde(rename = "ID")]
    pub id: i64,
    /// `backup`, `restore`, `drill`, `verify`, `prune`, `copy` or `delete`.
    pub kind: String,
    /// The volume of this host that it is about; empty where it is about none.
    pub volume: String,
    /// What it is to do: `Snapshot`, `Destination`, `Backup`, `Target`, …; all text, nothing secret.
    pub parameters: BTreeMap<String, String>,
    /// `queued`, `running`, `done`, `failed` or `cancelled`.
    pub state: String,
    /// How often it was begun; more than once after the daemon's end in the middle.
    pub attempts: u32,
    /// When it was asked for, RFC 3339.
    pub created_at: String,
    /// When it was begun last, RFC 3339; empty before.
    pub started_at: String,
    /// When it ended, RFC 3339; empty before.
    pub ended_at: String,
    /// How far it is, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<JobProgress>,
    /// What came of it.
    pub result: JobResult,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What happened meanwhile.
    pub log: Vec<JobLine>,
}

/// How far a job is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct JobProgress {
    /// What is being done.
    pub phase: String,
    /// How much is done, where that can be told.
    pub percent: Option<u64>,
    /// Bytes of the volume that the work is about; 0 while that is not known.
    pub bytes_total: u64,
    /// Bytes of the volume that are dealt with.
    pub bytes_done: u64,
    /// Files or objects that the work is about; 0 while that is not known.
    pub items_total: u64,
    /// Those that are dealt with.
    pub items_done: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes that the repository did not have.
    pub bytes_new: u64,
    /// Bytes stored for them.
    pub bytes_stored: u64,
    /// Bytes dealt with in a second.
    pub bytes_per_second: u64,
    /// How long it may still take, where that can be told.
    pub seconds_left: Option<u64>,
    /// For how long it has been running now.
    pub seconds: u64,
}

/// What came of a job; each kind of job has some of these.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct JobResult {
    /// The backup that was made, copied, restored or deleted.
    #[serde(rename = "BackupURL", skip_serializing_if = "String::is_empty")]
    pub backup_url: String,
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub backup_name: String,
    /// The volume that was restored.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub volume_name: String,
    /// True where nothing has changed: the backup is an older one, which stays the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unchanged: Option<bool>,
    /// Files in the backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// Bytes in the backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_total: Option<u64>,
    /// Bytes that were read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_read: Option<u64>,
    /// Bytes that the repository did not have, before compression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_new: Option<u64>,
    /// Bytes that were stored for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_stored: Option<u64>,
    /// Bytes that were sent to the destination, indexes and all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_uploaded: Option<u64>,
    /// Bytes that a prune gave back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_freed: Option<u64>,
    /// Bytes that no backup uses and that a prune left, since moving what is beside them costs more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_unused: Option<u64>,
    /// Packs that a prune deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packs_deleted: Option<u64>,
    /// Requests to the destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Whether all that was looked at can be restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
    /// How much of the data was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u64>,
    /// Backups that were looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backups: Option<u64>,
    /// Blobs that were looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blobs: Option<u64>,
    /// Packs that were read to the last byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packs_read: Option<u64>,
    /// How long it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

/// A line of a job's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct JobLine {
    /// When, RFC 3339.
    pub time: String,
    /// What happened.
    pub text: String,
}
