//! Snapshots: taking, forgetting, and going back to one.
//!
//! A snapshot exists when its volume's record says so. It is made before the record is written and removed after, so
//! that a crash leaves at most a tree that no record speaks of; recovery removes it, or the next snapshot of that name.
//!
//! One that a repository holds (`stored`) is its entry in the record and nothing else. A volume can have both kinds, when
//! its path has moved from one filesystem to another.
//!
//! A revert copies the snapshot to `staging/<id>/data` and then goes on as a fill does (see [`super::fill`]). Its
//! copy has no limit: the volume's may have been lowered since, and what was in it once is given back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::{DriverError, Outcome, RemoveSnapshot, Result, Revert, Source, TakeSnapshot};
use super::create::discard;
use super::layout;
use super::{Vfs, area, doing, sync_dir};
use crate::model::{Consistency, Name, Snapshot, SnapshotId, Volume, VolumeId};
use crate::sys::durable;
use crate::sys::fault::point;
use crate::sys::mount::Access;

impl Vfs {
    /// The tree of a snapshot, which the volume's record must name, and which must be there.
    pub(super) fn must_have_snapshot(&self, volume: &Volume, snapshot: &Snapshot) -> Result<PathBuf> {
        let what = format!("snapshot {}@{}", volume.name, snapshot.name);
        let Some(found) = volume.snapshots.iter().find(|found| found.id == snapshot.id) else {
            return Err(DriverError::NotFound { what });
        };
        if let Some(stored) = &found.stored {
            let because = format!(
                "it is the backup {} in the repository {}, and is read from there",
                stored.backup,
                self.layout.repository(volume.id).display()
            );
            return Err(DriverError::Unsupported { what, because });
        }
        let path = self.layout.snapshot(volume.id, &found.name);
        if layout::is_real_dir(&path)? {
            return Ok(path);
        }
        Err(DriverError::NotFound { what })
    }

    pub(super) fn take_snapshot(&self, take: &TakeSnapshot) -> Result<Volume> {
        self.layout.check_present()?;
        let what = || format!("snapshot {}@{}", take.volume.name, take.name);
        let mut volume = self.layout.must_read(&take.volume.name, take.volume.id)?;
        if volume.snapshot(&take.name).is_some() {
            let remedy = "choose another name, or remove it first".to_owned();
            return Err(DriverError::AlreadyExists { what: what(), remedy });
        }
        DriverError::refuse_restoring(&volume, "snapshot")?;
        let frozen = match &take.stored {
            Some(stored) => Ok(stored.consistency),
            None => {
                self.trees.check(what)?;
                self.freeze(take, &volume)
            }
        };
        let taken = frozen.and_then(|consistency| {
            point("snapshot.made");
            volume.snapshots.push(take.recorded(consistency));
            self.layout.write_volume(&volume)
        });
        self.settle(taken, || self.recover_snapshot(take), || Ok(()))?;
        point("snapshot.recorded");
        self.layout.must_read(&take.volume.name, take.volume.id)
    }

    fn freeze(&self, take: &TakeSnapshot, volume: &Volume) -> Result<Consistency> {
        let data = self.layout.data(&volume.name);
        if !layout::is_real_dir(&data)? {
            return Err(self.without_directory(volume));
        }
        let all = self.layout.snapshots(volume.id);
        let place = self.layout.snapshot(volume.id, &take.name);
        layout::make_dir(&all)?;
        sync_dir(&self.layout.private().join("snapshots"))?;
        // No record speaks of it: the remains of a snapshot that was being taken or removed.
        area::destroy(&place)?;
        point("snapshot.place");
        if self.trees.snapshots_whole(&data)? {
            area::refuse_nested(&data, || format!("snapshot {}@{}", volume.name, take.name))?;
            // At its final place: a read-only subvolume cannot be moved to another directory.
            area::snapshot_subvolume(&data, &place, Access::ReadOnly)?;
            sync_dir(&all)?;
            return Ok(Consistency::PointInTime);
        }
        let staging = self.layout.staging(take.id.uuid());
        staging.make()?;
        self.trees.make(&staging.data())?;
        point("snapshot.staging");
        let consistency = self.trees.fill_from_living(&data, &staging.data())?;
        durable::sync_filesystem(staging.dir())?;
        point("snapshot.filled");
        durable::rename_sync(staging.data(), &place)?;
        point("snapshot.placed");
        discard(&staging)?;
        Ok(consistency)
    }

    /// Removes all that a snapshot without record can have left, at its place too.
    fn discard_snapshot(&self, id: SnapshotId, volume: VolumeId, name: &Name) -> Result<()> {
        discard(&self.layout.staging(id.uuid()))?;
        self.destroy_snapshot(volume, name)
    }

    fn destroy_snapshot(&self, volume: VolumeId, name: &Name) -> Result<()> {
        let all = self.layout.snapshots(volume);
        if !layout::is_real_dir(&all)? {
            return Ok(());
        }
        area::destroy(&self.layout.snapshot(volume, name))?;
        sync_dir(&all)?;
        match fs::remove_dir(&all) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            result => result.map_err(doing("remove directory", &all)),
        }
    }

    pub(super) fn recover_snapshot(&self, take: &TakeSnapshot) -> Result<Outcome> {
        let Some(volume) = self.layout.read_same(&take.volume.name, take.volume.id)? else {
            // The volume is elsewhere, and its snapshots with it.
            discard(&self.layout.staging(take.id.uuid()))?;
            return Ok(Outcome::Undone);
        };
        match volume.snapshot(&take.name) {
            Some(found) if found.id == take.id => {
                discard(&self.layout.staging(take.id.uuid()))?;
                Ok(Outcome::Finished)
            }
            // An older one of that name, which the request was refused for.
            Some(_) => Ok(Outcome::Undone),
            None => {
                self.discard_snapshot(take.id, volume.id, &take.name)?;
                Ok(Outcome::Undone)
            }
        }
    }

    pub(super) fn forget_snapshot(&self, remove: &RemoveSnapshot) -> Result<Volume> {
        self.layout.check_present()?;
        let mut volume = self.layout.must_read(&remove.volume.name, remove.volume.id)?;
        let before = volume.snapshots.len();
        volume
            .snapshots
            .retain(|snapshot| snapshot.id != remove.snapshot.id);
        if volume.snapshots.len() == before {
            let what = format!("snapshot {}@{}", volume.name, remove.snapshot.name);
            return Err(DriverError::NotFound { what });
        }
        self.layout.write_volume(&volume)?;
        point("remove-snapshot.recorded");
        self.destroy_snapshot(volume.id, &remove.snapshot.name)?;
        point("remove-snapshot.destroyed");
        Ok(volume)
    }

    pub(super) fn recover_remove_snapshot(&self, remove: &RemoveSnapshot) -> Result<Outcome> {
        let Some(volume) = self.layout.read_same(&remove.volume.name, remove.volume.id)? else {
            return Ok(Outcome::Undone);
        };
        match volume.snapshot(&remove.snapshot.name) {
            Some(found) if found.id == remove.snapshot.id => {
                self.forget_snapshot(remove)?;
            }
            // A newer one has the name: ours was gone before that was made.
            Some(_) => {}
            None => self.destroy_snapshot(volume.id, &remove.snapshot.name)?,
        }
        Ok(Outcome::Finished)
    }

    pub(super) fn revert_volume(&self, revert: &Revert) -> Result<Volume> {
        self.layout.check_present()?;
        let volume = self.layout.must_read(&revert.volume.name, revert.volume.id)?;
        DriverError::refuse_restoring(&volume, "revert")?;
        let source = self.must_have_snapshot(&volume, &revert.snapshot)?;
        self.check_replaceable(&volume, || {
            format!("revert of volume {} to {}", volume.name, revert.snapshot.name)
        })?;
        let reverted = self.put_back(revert, volume, &source);
        self.settle(
            reverted,
            || self.recover_exchange(&revert.volume, revert.id),
            || self.layout.must_read(&revert.volume.name, revert.volume.id),
        )
    }

    fn put_back(&self, revert: &Revert, volume: Volume, source: &Path) -> Result<Volume> {
        let staging = self.layout.staging(revert.id.uuid());
        staging.make()?;
        point("revert.staging");
        self.copy(source, &staging.data(), None)?;
        point("revert.copied");
        self.put_in_place(volume, revert.id)
    }

    pub(super) fn find_source(&self, volume: &Volume, snapshot: Option<&Snapshot>) -> Result<Source> {
        self.layout.check_present()?;
        let volume = self.layout.must_read(&volume.name, volume.id)?;
        DriverError::refuse_restoring(&volume, "backup")?;
        let path = match snapshot {
            Some(snapshot) => self.must_have_snapshot(&volume, snapshot)?,
            None => self.layout.data(&volume.name),
        };
        if !layout::is_real_dir(&path)? {
            return Err(self.without_directory(&volume));
        }
        Ok(Source::Tree { path })
    }

    pub(super) fn without_directory(&self, volume: &Volume) -> DriverError {
        DriverError::Corrupt {
            path: self.layout.data(&volume.name),
            why: format!("the directory of volume {} is missing, or is none", volume.name),
        }
    }
}
