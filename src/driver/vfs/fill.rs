//! Giving a volume other data: fills, and the second half of reverts.
//!
//! The new tree is built in `staging/<id>/data`, a fill's by whoever asked for the target, within the volume's size. Then:
//! 1. It is marked with the id in its root, and synced.
//! 2. It is exchanged with the volume's tree in one step.
//! 3. The record says that the volume is restoring no more, if it did.
//! 4. What is now in staging, the old tree, is destroyed.
//! 5. The volume's own quota is put in force on the new tree; before, both trees together might exceed it.
//!
//! A crash before step 2 is undone and one after it finished, and both come to destroying what is in staging. Which of the
//! two it was is told by the mark. On filesystems that cannot exchange two names, the old tree is moved to
//! `staging/<id>/old` first; recovery moves it back when nothing is in its place, and knows by it that the step is done
//! when something is.

use super::super::{DriverError, Fill, How, Outcome, Result, Target};
use super::create::discard;
use super::layout::{self, Staging};
use super::{Vfs, area, sync_dir};
use crate::model::{SnapshotId, Volume};
use crate::sys::fault::point;
use crate::sys::{SysError, durable};

impl Vfs {
    pub(super) fn make_target(&self, fill: &Fill) -> Result<Target> {
        self.layout.check_present()?;
        let volume = self.layout.must_read(&fill.volume.name, fill.volume.id)?;
        let staging = self.layout.staging(fill.id.uuid());
        if layout::metadata(staging.dir())?.is_some() {
            // What is in there may be the volume's only data, after a crash between two renames.
            self.recover_exchange(&fill.volume, fill.id)?;
        }
        self.check_replaceable(&volume, || format!("fill of volume {}", volume.name))?;
        let made = self.stage_target(fill, &volume, &staging);
        if made.is_err()
            && let Err(second) = self.recover_exchange(&fill.volume, fill.id)
        {
            log::error!("vfs: the remains of a failed operation stay behind: {second}");
        }
        made
    }

    fn stage_target(&self, fill: &Fill, volume: &Volume, staging: &Staging) -> Result<Target> {
        staging.make()?;
        point("fill.staging");
        let path = staging.data();
        self.trees.make(&path)?;
        point("fill.made");
        self.quotas.apply_aside(volume, fill.id.uuid(), &path)?;
        point("fill.limited");
        Ok(Target::Tree { path })
    }

    pub(super) fn fill_volume(&self, fill: &Fill) -> Result<Volume> {
        self.layout.check_present()?;
        let How::Replace = fill.how;
        let filled = self.take_target(fill);
        self.settle(
            filled,
            || self.recover_exchange(&fill.volume, fill.id),
            || self.layout.must_read(&fill.volume.name, fill.volume.id),
        )
    }

    fn take_target(&self, fill: &Fill) -> Result<Volume> {
        let volume = self.layout.must_read(&fill.volume.name, fill.volume.id)?;
        let staging = self.layout.staging(fill.id.uuid());
        if self.is_exchanged(&fill.volume, &volume, &staging, fill.id)? {
            // An earlier call died after it. What is in staging is the old tree now.
            return self.finish_exchange(volume, &staging);
        }
        self.move_back(&volume, &staging)?;
        if !layout::is_real_dir(&staging.data())? {
            return Err(DriverError::NotFound {
                what: format!("the target {} for volume {}", fill.id, volume.name),
            });
        }
        self.check_replaceable(&volume, || format!("fill of volume {}", volume.name))?;
        area::own(&staging.data(), &fill.root)?;
        point("fill.owned");
        self.put_in_place(volume, fill.id)
    }

    /// Refuses `what` where it would destroy what nobody meant.
    pub(super) fn check_replaceable(&self, volume: &Volume, what: impl FnOnce() -> String) -> Result<()> {
        let data = self.layout.data(&volume.name);
        if !layout::is_real_dir(&data)? {
            return Err(self.without_directory(volume));
        }
        if self.trees.snapshots_whole(&data)? {
            area::refuse_nested(&data, what)?;
        }
        Ok(())
    }

    /// Steps 1 to 5.
    pub(super) fn put_in_place(&self, volume: Volume, id: SnapshotId) -> Result<Volume> {
        let staging = self.layout.staging(id.uuid());
        area::mark(&staging.data(), id.uuid());
        point("fill.marked");
        durable::sync_filesystem(staging.data())?;
        sync_dir(staging.dir())?;
        point("fill.synced");
        exchange(&staging, &self.layout.data(&volume.name))?;
        point("fill.exchanged");
        self.finish_exchange(volume, &staging)
    }

    /// Steps 3 to 5.
    fn finish_exchange(&self, mut volume: Volume, staging: &Staging) -> Result<Volume> {
        if volume.restoring.take().is_some() {
            self.layout.write_volume(&volume)?;
            point("fill.recorded");
        }
        let data = self.layout.data(&volume.name);
        self.quotas.release_aside(&volume, &data)?;
        discard(staging)?;
        point("fill.discarded");
        self.quotas.apply(&volume, &data)?;
        Ok(volume)
    }

    /// Whether step 2 is done. `before` is the volume as it was when the operation began, `now` as it is.
    fn is_exchanged(&self, before: &Volume, now: &Volume, staging: &Staging, id: SnapshotId) -> Result<bool> {
        let data = self.layout.data(&now.name);
        if area::has_mark(&data, id.uuid()) {
            return Ok(true);
        }
        // Without a mark, only where the new tree has left staging.
        if layout::metadata(&staging.data())?.is_some() {
            return Ok(false);
        }
        let has_data_now = before.restoring.is_some() && now.restoring.is_none();
        Ok(has_data_now || (layout::is_real_dir(&staging.old())? && layout::is_real_dir(&data)?))
    }

    /// Undoes the first of the two renames that stand for step 2 where it is not one.
    fn move_back(&self, volume: &Volume, staging: &Staging) -> Result<()> {
        let (old, data) = (staging.old(), self.layout.data(&volume.name));
        if layout::metadata(&old)?.is_none() {
            return Ok(());
        }
        if layout::metadata(&data)?.is_some() {
            let why = format!(
                "it holds the data of volume {}, and something else is at their place, {}; move that away",
                volume.name,
                data.display()
            );
            return Err(DriverError::Corrupt { path: old, why });
        }
        durable::rename_sync(old, &data)?;
        point("fill.moved-back");
        Ok(())
    }

    /// Finishes or undoes a fill or a revert.
    pub(super) fn recover_exchange(&self, before: &Volume, id: SnapshotId) -> Result<Outcome> {
        let staging = self.layout.staging(id.uuid());
        let Some(volume) = self.layout.read_same(&before.name, before.id)? else {
            // The volume is elsewhere; what is in staging may be the only copy of it, but for its snapshots.
            if layout::is_real_dir(&staging.old())? {
                let why = format!("it holds data of volume {}, which has no record", before.name);
                return Err(DriverError::Corrupt {
                    path: staging.old(),
                    why,
                });
            }
            self.quotas.release_aside(before, &staging.data())?;
            discard(&staging)?;
            return Ok(Outcome::Undone);
        };
        if self.is_exchanged(before, &volume, &staging, id)? {
            self.finish_exchange(volume, &staging)?;
            return Ok(Outcome::Finished);
        }
        self.move_back(&volume, &staging)?;
        let data = self.layout.data(&volume.name);
        self.quotas.release_aside(&volume, &staging.data())?;
        discard(&staging)?;
        point("fill.discarded");
        if layout::is_real_dir(&data)? {
            self.quotas.apply(&volume, &data)?;
        }
        Ok(Outcome::Undone)
    }
}

/// Puts the staged tree into the place of the volume's, which comes to lie in staging.
fn exchange(staging: &Staging, data: &std::path::Path) -> Result<()> {
    match durable::rename_exchange(staging.data(), data) {
        Err(error) if SysError::is_unsupported(&error) => {
            durable::rename_sync(data, staging.old())?;
            point("fill.moved-aside");
            Ok(durable::rename_sync(staging.data(), data)?)
        }
        result => Ok(result?),
    }
}
