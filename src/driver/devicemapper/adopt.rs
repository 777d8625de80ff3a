//! Taking over a pool of Convoy's, in place: its thin devices get records of ours, and nothing in it is written.
//!
//! 1. Everything is looked at: the devices are free, the metadata are sound and those of a thin pool, each volume's device is in
//!    them.
//! 2. The records of the volumes are written, and the journal, with the pool's transaction as it is.
//! 3. **The marker is written.** Before it, there is no pool of ours here, and the next attempt writes over what it finds.
//!
//! The pool is started by the driver afterwards, as any other. Until it has made its first change Convoy could go back to it;
//! its own records are left as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::super::convoy::{self, Adopted, Adoption, PoolConfig, ThinSnapshot, ThinVolume};
use super::super::{DriverError, Result, document};
use super::create::ROUNDING;
use super::ledger::Journal;
use super::metadata::{Metadata, View};
use super::options::{Options, Storage};
use super::records::{Place, Record, Records, ThinId};
use super::repair::{self, Healer};
use super::storage::{self, Marker};
use super::{NAME, failed};
use crate::model::{Bytes, Consistency, InvalidValue, Name, Policy, Snapshot, SnapshotId, Volume, VolumeId};
use crate::sys::durable;
use crate::sys::fault::point;

/// What is done, once everything was looked at.
struct Plan {
    marker: Marker,
    journal: Journal,
    records: Vec<Record>,
    adoption: Adoption,
}

impl Healer {
    /// Takes over the pool that Convoy's records below `root` speak of; with `dry_run`, says what would be. Names that are
    /// `taken` by volumes of other drivers stay behind.
    pub(super) fn adopt(&self, root: &Path, taken: &BTreeSet<Name>, dry_run: bool) -> Result<Adoption> {
        let records = Records::new(self.root().to_owned());
        if storage::is_known(&records) {
            return Err(DriverError::AlreadyExists {
                what: format!("a pool of windlass's with records in {}", self.root().display()),
                remedy: "a pool is taken over only by a daemon that has none yet".to_owned(),
            });
        }
        let Some(config) = convoy::pool(root)? else {
            return Ok(Adoption::default());
        };
        let found = convoy::thin_volumes(root)?;
        let options = Options::parse(self.options())?;
        match look(&config, &options) {
            Ok(pool) => {
                let plan = plan(&pool, &found, taken);
                if !dry_run {
                    carry_out(&records, &plan)?;
                }
                Ok(plan.adoption)
            }
            // Convoy may still have it at work; what would be is in its records too.
            Err(error) if dry_run => {
                let mut adoption = plan(&Found::unseen(), &found, taken).adoption;
                adoption.obstacle = Some(error.to_string());
                Ok(adoption)
            }
            Err(error) => Err(error),
        }
    }
}

/// A pool as its metadata describe it.
struct Found {
    block_sectors: u32,
    transaction: u64,
    /// `None` while they cannot be looked at.
    thins: Option<BTreeSet<u32>>,
}

impl Found {
    fn unseen() -> Self {
        Self {
            block_sectors: 0,
            transaction: 0,
            thins: None,
        }
    }

    fn has(&self, thin: u32) -> bool {
        thin < ThinId::END && self.thins.as_ref().is_none_or(|thins| thins.contains(&thin))
    }
}

/// Step 1, for the pool itself.
fn look(config: &PoolConfig, options: &Options) -> Result<Found> {
    let refused = |what: String| {
        let value = what;
        Err(InvalidValue::Value {
            option: "dm.datadev and dm.metadatadev".to_owned(),
            value,
            expected: format!(
                "those of Convoy's pool: dm.datadev={} and dm.metadatadev={}",
                config.data_device.display(),
                config.metadata_device.display()
            ),
        }
        .into())
    };
    let Storage::Devices { data, metadata } = &options.storage else {
        return refused("not given".to_owned());
    };
    for (ours, theirs) in [(data, &config.data_device), (metadata, &config.metadata_device)] {
        if ours != theirs && storage::number_of(ours)? != storage::number_of(theirs)? {
            return refused(ours.display().to_string());
        }
        must_be_free(ours, config)?;
    }
    repair::thin_check(metadata, &[])?;
    let unreadable = |error: super::metadata::MetadataError| DriverError::Corrupt {
        path: metadata.clone(),
        why: error.to_string(),
    };
    let found = Metadata::open(metadata, View::Current).map_err(unreadable)?;
    let superblock = found.superblock();
    Ok(Found {
        block_sectors: superblock.data_block_sectors,
        transaction: superblock.transaction,
        thins: Some(found.devices().map_err(unreadable)?.into_keys().collect()),
    })
}

/// The kernel lets nobody else open exclusively what a pool or a filesystem is on.
fn must_be_free(device: &Path, config: &PoolConfig) -> Result<()> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_EXCL)
        .open(device);
    match opened {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            let pool = config.thinpool_device.file_name();
            let pool = pool.map_or("convoy-pool".into(), |name| name.to_string_lossy());
            Err(DriverError::Busy {
                what: format!("the device {} of Convoy's pool", device.display()),
                by: format!("a pool that runs on it, likely {pool}"),
                remedy: format!(
                    "stop the containers and Convoy's daemon, unmount its volumes, and remove what 'dmsetup ls' shows of it: its \
                     volumes' devices, then 'dmsetup remove {pool}'"
                ),
            })
        }
        Err(error) => Err(failed("open", device)(error)),
    }
}

/// Step 1, for each volume.
fn plan(pool: &Found, found: &[convoy::Read<ThinVolume>], taken: &BTreeSet<Name>) -> Plan {
    let mut adoption = Adoption::default();
    let mut records = Vec::new();
    let mut used: BTreeMap<u32, String> = BTreeMap::new();
    for (file, read) in found {
        let taken_over = match read {
            Ok(volume) => record(pool, file, volume, taken, &mut used, &mut adoption.skipped),
            Err(error) => Err(error.to_string()),
        };
        match taken_over {
            Ok(record) => {
                adoption.adopted.push(Adopted {
                    name: record.volume.name.clone(),
                    driver: NAME,
                    size: record.volume.size,
                    snapshots: record.volume.snapshots.len(),
                });
                records.push(record);
            }
            Err(why) => adoption.skipped.push((format!("volume {file}"), why)),
        }
    }
    let thins = pool.thins.iter().flatten().copied();
    adoption
        .skipped
        .extend(thins.clone().filter(|thin| !used.contains_key(thin)).map(|thin| {
            let why = "no volume that is taken over names it; it stays in the pool, and takes space";
            (format!("thin device {thin}"), why.to_owned())
        }));
    Plan {
        marker: Marker::adopted(Uuid::new_v4(), pool.block_sectors),
        journal: Journal {
            transaction: pool.transaction,
            // Ids are given out behind all that are there.
            next_thin: thins.max().map_or(1, |highest| highest + 1),
            ..Journal::default()
        },
        records,
        adoption,
    }
}

fn record(
    pool: &Found,
    file: &str,
    found: &ThinVolume,
    taken: &BTreeSet<Name>,
    used: &mut BTreeMap<u32, String>,
    skipped: &mut Vec<(String, String)>,
) -> std::result::Result<Record, String> {
    if found.name != file {
        return Err(format!("its record says that it is {:?}", found.name));
    }
    let name = Name::volume(file).map_err(|error| error.to_string())?;
    if taken.contains(&name) {
        return Err("a volume of that name is there already".to_owned());
    }
    if found.size == 0 || found.size > 1 << 62 {
        return Err(format!("{} bytes are no size", found.size));
    }
    if !pool.has(found.dev_id) {
        return Err(format!(
            "the pool has no thin device {}, which its record names",
            found.dev_id
        ));
    }
    if let Some(other) = used.get(&found.dev_id) {
        return Err(format!("its thin device {} is that of {other} too", found.dev_id));
    }
    used.insert(found.dev_id, format!("volume {name}"));
    let mut options = BTreeMap::new();
    if ["ext4", "xfs"].contains(&found.filesystem.as_str()) {
        options.insert("fs".to_owned(), found.filesystem.clone());
    }
    let volume = Volume {
        id: VolumeId::random(),
        name: name.clone(),
        driver: NAME.to_owned(),
        created: convoy::time(&found.created_time),
        size: Some(Bytes(found.size.next_multiple_of(ROUNDING))),
        vm: false,
        options,
        policy: Policy::default(),
        snapshots: Vec::new(),
        restoring: None,
        restored_from: None,
        began_as: None,
        private: BTreeMap::new(),
        later: BTreeMap::new(),
    };
    let mut record = Record::new(volume, Some(ThinId(found.dev_id)));
    let mut snapshots: Vec<(&String, &ThinSnapshot)> = found.snapshots.iter().flatten().collect();
    snapshots.sort_by_key(|(_, snapshot)| (convoy::time(&snapshot.created_time), snapshot.dev_id));
    for (snapshot_name, snapshot) in snapshots {
        let why = match Name::snapshot(snapshot_name) {
            Err(error) => error.to_string(),
            Ok(_) if !pool.has(snapshot.dev_id) => {
                format!(
                    "the pool has no thin device {}, which its record names",
                    snapshot.dev_id
                )
            }
            Ok(_) if used.contains_key(&snapshot.dev_id) => {
                format!(
                    "its thin device {} is that of {} too",
                    snapshot.dev_id, used[&snapshot.dev_id]
                )
            }
            Ok(valid) => {
                let id = SnapshotId::random();
                used.insert(snapshot.dev_id, format!("snapshot {name}@{valid}"));
                record.snapshots.insert(id, ThinId(snapshot.dev_id));
                record.volume.snapshots.push(Snapshot {
                    id,
                    name: valid,
                    created: convoy::time(&snapshot.created_time),
                    consistency: Consistency::PointInTime,
                    stored: None,
                    hooks: None,
                    checkpoint: None,
                    later: BTreeMap::new(),
                });
                continue;
            }
        };
        skipped.push((format!("snapshot {name}@{snapshot_name}"), why));
    }
    Ok(record)
}

/// Steps 2 and 3.
fn carry_out(records: &Records, plan: &Plan) -> Result<()> {
    storage::make_rooms(records)?;
    let under_way = records.root().join("adopting");
    let left = records.names("volumes")?;
    if !left.is_empty() && !under_way.exists() {
        return Err(DriverError::AlreadyExists {
            what: format!(
                "records of volumes in {}, without the pool.json that goes with them,",
                records.root().display()
            ),
            remedy: "bring that back, or move the directory away".to_owned(),
        });
    }
    let write =
        |path: PathBuf, bytes: &[u8]| -> Result<()> { Ok(durable::write_atomic(path, bytes, 0o600)?) };
    write(under_way.clone(), b"Convoy's pool is being taken over\n")?;
    // What an attempt that came not so far as the marker has left.
    for name in left {
        document::remove(&records.root().join("volumes").join(name))?;
    }
    for record in &plan.records {
        let path = records.path(&Place::Volume(record.volume.name.clone()));
        write(path, &document::to_json(record))?;
        point("adopt.recorded");
    }
    write(
        records.root().join("journal.json"),
        &document::to_json(&plan.journal),
    )?;
    point("adopt.journal");
    write(records.root().join("pool.json"), &document::to_json(&plan.marker))?;
    point("adopt.marked");
    document::remove(&under_way)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str, dev_id: u32) -> convoy::Read<ThinVolume> {
        let read = serde_json::from_value(serde_json::json!({
            "Name": name, "DevID": dev_id, "Size": 1 << 30, "Filesystem": "ext4",
            "Snapshots": {"later": {"DevID": 12, "CreatedTime": "Fri Nov 20 09:00:00 +0000 2026"},
                "first": {"DevID": 11, "CreatedTime": "Fri Nov 20 08:00:00 +0000 2026"}}
        }));
        (name.to_owned(), Ok(read.expect("a record")))
    }

    fn found() -> Found {
        Found {
            block_sectors: 4096,
            transaction: 7,
            thins: Some([1, 2, 11, 12, 40].into()),
        }
    }

    #[test]
    fn what_is_sound_comes_and_the_rest_is_named() {
        let taken: BTreeSet<Name> = [Name::volume("taken").expect("a name")].into();
        let all = [volume("_odd", 2), volume("pg", 1), volume("taken", 2)];
        let plan = plan(&found(), &all, &taken);
        let [pg] = plan.records.as_slice() else {
            panic!("one of them: {:?}", plan.adoption)
        };
        let names: Vec<&str> = pg.volume.snapshots.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["first", "later"], "the oldest first");
        assert_eq!(pg.thins().collect::<Vec<_>>().len(), 3);
        assert_eq!((plan.journal.transaction, plan.journal.next_thin), (7, 41));
        let skipped: Vec<&str> = plan
            .adoption
            .skipped
            .iter()
            .map(|(what, _)| what.as_str())
            .collect();
        assert_eq!(
            skipped,
            ["volume _odd", "volume taken", "thin device 2", "thin device 40"]
        );
    }

    /// The machine goes down before the marker is there: the next attempt begins anew. Records that are somebody's stay.
    #[test]
    fn an_interrupted_adoption_begins_anew_and_touches_nobody_s_records() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let records = Records::new(dir.path().join("devicemapper"));
        let nobody = BTreeSet::new();
        let first = plan(&found(), &[volume("pg", 1)], &nobody);
        carry_out(&records, &first).expect("taken over");
        assert!(storage::is_known(&records) && !records.root().join("adopting").exists());
        let marker = records.root().join("pool.json");
        std::fs::remove_file(&marker).expect("removed");
        let second = plan(&found(), &[volume("web", 1)], &nobody);
        let said = carry_out(&records, &second).expect_err("refused").to_string();
        assert!(said.contains("without the pool.json"), "{said}");
        assert_eq!(records.names("volumes").expect("listed"), ["pg"]);
        std::fs::write(records.root().join("adopting"), "").expect("written");
        carry_out(&records, &second).expect("begun anew");
        assert_eq!(records.names("volumes").expect("listed"), ["web"]);
        assert!(marker.exists());
    }
}
