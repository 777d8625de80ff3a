//! Snapshots: taking, forgetting, and going back to one.
//!
//! A snapshot exists when its volume's record says so. It is made before the record is written and removed after, so
//! that a crash leaves at most a tree that no record speaks of; recovery removes it, or the next snapshot of that name.
//!
//! A revert builds the new tree in `staging/<id>/data`, exchanges it with the volume's in one step, and destroys what is
//! then in staging. A crash before the exchange is undone and one after it finished, and both come to destroying what
//! is in staging; which of the two it was is told by a mark in the new tree's root. On filesystems that cannot exchange
//! two names, the old tree is moved to `staging/<id>/old` first; recovery moves it back when nothing is in its place.
//! The volume's quota is put in force on the new tree last: before, both trees together might exceed it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::{DriverError, Outcome, RemoveSnapshot, Result, Revert, TakeSnapshot};
use super::create::discard;
use super::layout::{self, Staging};
use super::{Vfs, area, doing, sync_dir};
use crate::model::{Consistency, Name, Snapshot, SnapshotId, Volume, VolumeId};
use crate::sys::fault::point;
use crate::sys::mount::Access;
use crate::sys::{SysError, durable};

impl Vfs {
    /// The tree of a snapshot, which must be there.
    pub(super) fn must_have_snapshot(&self, volume: &Volume, snapshot: &Snapshot) -> Result<PathBuf> {
        let path = self.layout.snapshot(volume.id, &snapshot.name);
        if layout::is_real_dir(&path)? {
            return Ok(path);
        }
        Err(DriverError::NotFound {
            what: format!("snapshot {}@{}", volume.name, snapshot.name),
        })
    }

    pub(super) fn take_snapshot(&self, take: &TakeSnapshot) -> Result<Volume> {
        self.layout.check_present()?;
        let what = || format!("snapshot {}@{}", take.volume.name, take.name);
        let mut volume = self.layout.must_read(&take.volume.name, take.volume.id)?;
        if volume.snapshot(&take.name).is_some() {
            let remedy = "choose another name, or remove it first".to_owned();
            return Err(DriverError::AlreadyExists { what: what(), remedy });
        }
        self.trees.check(what)?;
        let taken = self.freeze(take, &volume).and_then(|consistency| {
            point("snapshot.made");
            volume.snapshots.push(Snapshot {
                id: take.id,
                name: take.name.clone(),
                created: take.at,
                consistency,
                later: Default::default(),
            });
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
        let Some(snapshot) = volume
            .snapshots
            .iter()
            .find(|snapshot| snapshot.id == revert.snapshot.id)
        else {
            let what = format!("snapshot {}@{}", volume.name, revert.snapshot.name);
            return Err(DriverError::NotFound { what });
        };
        let source = self.must_have_snapshot(&volume, snapshot)?;
        let what = || format!("revert of volume {} to {}", volume.name, snapshot.name);
        self.trees.check(what)?;
        let data = self.layout.data(&volume.name);
        if !layout::is_real_dir(&data)? {
            return Err(self.without_directory(&volume));
        }
        if self.trees.snapshots_whole(&data)? {
            // They would be destroyed with the old tree.
            area::refuse_nested(&data, what)?;
        }
        let reverted = self.put_back(revert, &volume, &source);
        self.settle(reverted, || self.recover_revert(revert), || Ok(()))?;
        Ok(volume)
    }

    fn put_back(&self, revert: &Revert, volume: &Volume, source: &Path) -> Result<()> {
        let staging = self.layout.staging(revert.id.uuid());
        staging.make()?;
        point("revert.staging");
        self.copy(source, &staging.data(), None)?;
        area::mark_revert(&staging.data(), revert.id.uuid());
        point("revert.copied");
        durable::sync_filesystem(staging.data())?;
        sync_dir(staging.dir())?;
        point("revert.synced");
        exchange(&staging, &self.layout.data(&volume.name))?;
        point("revert.exchanged");
        discard(&staging)?;
        point("revert.discarded");
        self.quotas.apply(volume, &self.layout.data(&volume.name))
    }

    pub(super) fn recover_revert(&self, revert: &Revert) -> Result<Outcome> {
        let staging = self.layout.staging(revert.id.uuid());
        let Some(volume) = self.layout.read_same(&revert.volume.name, revert.volume.id)? else {
            // The volume is elsewhere; what is in staging may be the only copy of it, but for its snapshots.
            if layout::is_real_dir(&staging.old())? {
                let why = format!(
                    "it holds data of volume {}, which has no record",
                    revert.volume.name
                );
                return Err(DriverError::Corrupt {
                    path: staging.old(),
                    why,
                });
            }
            discard(&staging)?;
            return Ok(Outcome::Undone);
        };
        let data = self.layout.data(&volume.name);
        if layout::is_real_dir(&staging.old())? && layout::metadata(&data)?.is_none() {
            durable::rename_sync(staging.old(), &data)?;
            point("revert.moved-back");
        }
        let done = area::has_revert(&data, revert.id.uuid());
        discard(&staging)?;
        point("revert.discarded");
        self.quotas.apply(&volume, &data)?;
        Ok(if done { Outcome::Finished } else { Outcome::Undone })
    }

    pub(super) fn without_directory(&self, volume: &Volume) -> DriverError {
        DriverError::Corrupt {
            path: self.layout.data(&volume.name),
            why: format!("the directory of volume {} is missing, or is none", volume.name),
        }
    }
}

/// Puts the staged tree into the place of the volume's, which comes to lie in staging.
fn exchange(staging: &Staging, data: &Path) -> Result<()> {
    match durable::rename_exchange(staging.data(), data) {
        Err(error) if SysError::is_unsupported(&error) => {
            durable::rename_sync(data, staging.old())?;
            point("revert.moved-aside");
            Ok(durable::rename_sync(staging.data(), data)?)
        }
        result => Ok(result?),
    }
}
