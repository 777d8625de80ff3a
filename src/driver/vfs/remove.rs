//! Taking volumes away: into the trash, out of the records, out of the world.
//!
//! To the trash (also for `delete`, which a purge follows):
//! 1. `trash/<id>/record` is written. 2. The data is renamed to `trash/<id>/data`. 3. `volumes/<name>` is unlinked.
//!
//! As long as the record is in `volumes`, the name is taken, so nobody else's data can be at its place; and once the data
//! is in the trash, step 2 is done. Until then, recovery undoes the removal: it was not acknowledged, perhaps even refused
//! because something is mounted there. After it, recovery goes forward. In between, the trash does not list an entry
//! without its data.
//!
//! Let go (`keep`): `kept/<name>` is written, then `volumes/<name>` is unlinked. Undone while the latter is there.
//!
//! Purged: `trash/<id>/record` is renamed to `purging`, the commit; snapshots, repository and data are destroyed; `purging` goes last,
//! with its directory. Recovery goes forward where it finds `purging`, or a complete entry; anything else in the trash
//! belongs to another operation, and its snapshots may be those of a volume that lives.

use std::collections::BTreeMap;
use std::io;

use super::super::{DriverError, Outcome, Purge, Remove, Result};
use super::layout::{self, Trashcan};
use super::records::{self, Kept};
use super::{Vfs, area, doing, sync_dir};
use crate::model::{OnRemove, Trashed, Volume, VolumeId};
use crate::sys::durable;
use crate::sys::fault::point;

impl Vfs {
    pub(super) fn move_to_trash(&self, remove: &Remove, volume: Volume) -> Result<()> {
        let data = self.layout.data(&volume.name);
        let record = self.layout.record(&volume.name);
        let can = self.layout.trashed(volume.id);
        layout::make_dir(can.dir())?;
        sync_dir(&self.layout.trash())?;
        point("remove.trashcan");
        let trashed = Trashed {
            volume,
            removed: remove.at,
            expires: remove.expires,
        };
        durable::write_atomic(can.record(), &records::to_json(&trashed), 0o600)?;
        point("remove.noted");
        if !layout::is_real_dir(&can.data())? {
            if layout::is_real_dir(&data)? {
                if let Err(error) = durable::rename_sync(&data, can.data()) {
                    if let Err(second) = self.forget_entry(&can) {
                        log::warn!("vfs: {} stays behind: {second}", can.dir().display());
                    }
                    return Err(self.not_moved(&trashed.volume, error.into()));
                }
            } else {
                // Somebody removed it by hand. The entry needs something to bring the snapshots back with.
                log::warn!("vfs: volume {} had no directory any more", trashed.volume.name);
                layout::make_dir(&can.data())?;
            }
        }
        point("remove.moved");
        records::remove_file(&record)?;
        point("remove.forgotten");
        Ok(())
    }

    fn not_moved(&self, volume: &Volume, error: DriverError) -> DriverError {
        match error {
            DriverError::System { source, .. } if source.kind() == io::ErrorKind::ResourceBusy => {
                DriverError::Busy {
                    what: format!("volume {}", volume.name),
                    by: format!("a mount at {}", self.layout.data(&volume.name).display()),
                    remedy: "unmount it first".to_owned(),
                }
            }
            other => other,
        }
    }

    /// Takes back the entry of a volume whose data have not been moved.
    fn forget_entry(&self, can: &Trashcan) -> Result<()> {
        records::remove_file(&can.record())?;
        point("remove.taken-back");
        // Temporary files of an interrupted write may be in there.
        area::destroy(can.dir())
    }

    pub(super) fn let_go(&self, remove: &Remove, volume: Volume) -> Result<()> {
        let record = self.layout.record(&volume.name);
        let kept = Kept {
            let_go: remove.at,
            later: BTreeMap::new(),
            volume,
        };
        durable::write_atomic(
            self.layout.kept(&kept.volume.name),
            &records::to_json(&kept),
            0o600,
        )?;
        point("remove.kept");
        records::remove_file(&record)?;
        point("remove.forgotten");
        Ok(())
    }

    pub(super) fn recover_remove(&self, remove: &Remove) -> Result<Outcome> {
        let Volume { id, name, .. } = &remove.volume;
        if let Some(volume) = self.layout.read_same(name, *id)? {
            return self.recover_living(remove, volume);
        }
        let removed = match remove.how {
            OnRemove::Keep => self
                .layout
                .read_kept(name)?
                .is_some_and(|kept| kept.volume.id == *id),
            OnRemove::Trash | OnRemove::Delete => self.layout.read_trashed(*id)?.is_some(),
        };
        Ok(if removed {
            Outcome::Finished
        } else {
            Outcome::Undone
        })
    }

    /// Finishes or undoes the removal of a volume whose record still is where it was.
    fn recover_living(&self, remove: &Remove, volume: Volume) -> Result<Outcome> {
        let name = &volume.name;
        let can = self.layout.trashed(volume.id);
        match remove.how {
            OnRemove::Keep => {
                if self
                    .layout
                    .read_kept(name)?
                    .is_some_and(|kept| kept.volume.id == volume.id)
                {
                    records::remove_file(&self.layout.kept(name))?;
                }
                Ok(Outcome::Undone)
            }
            OnRemove::Trash | OnRemove::Delete if layout::is_real_dir(&can.data())? => {
                self.move_to_trash(remove, volume)?;
                Ok(Outcome::Finished)
            }
            OnRemove::Trash | OnRemove::Delete => {
                self.forget_entry(&can)?;
                Ok(Outcome::Undone)
            }
        }
    }

    /// A removed volume that is complete in the trash. A removal that crashed on another host after the data had
    /// been moved is finished on the way.
    pub(super) fn must_be_trashed(&self, id: VolumeId) -> Result<Trashed> {
        let absent = || DriverError::NotFound {
            what: format!("removed volume {id}"),
        };
        let trashed = self.layout.read_trashed(id)?.ok_or_else(absent)?;
        if !layout::is_real_dir(&self.layout.trashed(id).data())? {
            return Err(absent());
        }
        if self.layout.read_same(&trashed.volume.name, id)?.is_some() {
            records::remove_file(&self.layout.record(&trashed.volume.name))?;
        }
        Ok(trashed)
    }

    pub(super) fn destroy(&self, purge: &Purge) -> Result<()> {
        self.layout.check_present()?;
        let trashed = match self.layout.read_purging(purge.id)? {
            // An earlier purge failed midway.
            Some(trashed) => trashed,
            None => {
                let trashed = self.must_be_trashed(purge.id)?;
                let can = self.layout.trashed(purge.id);
                durable::rename_sync(can.record(), can.purging())?;
                trashed
            }
        };
        point("purge.committed");
        self.finish_purge(&trashed.volume)
    }

    fn finish_purge(&self, volume: &Volume) -> Result<()> {
        let can = self.layout.trashed(volume.id);
        let snapshots = self.layout.snapshots(volume.id);
        for name in layout::names(&snapshots)? {
            area::destroy(&snapshots.join(name))?;
            point("purge.snapshot");
        }
        area::destroy(&snapshots)?;
        point("purge.snapshots");
        let repository = self.layout.repository(volume.id);
        if layout::metadata(&repository)?.is_some() {
            area::destroy(&repository)?;
            sync_dir(&self.layout.repositories())?;
            point("purge.repository");
        }
        area::destroy(&can.data())?;
        point("purge.data");
        self.quotas.clear(volume);
        // Makes the removals durable before what says that they are to be made is removed.
        sync_dir(can.dir())?;
        sync_dir(&self.layout.private().join("snapshots"))?;
        records::remove_file(&can.purging())?;
        point("purge.forgotten");
        area::destroy(can.dir())?;
        sync_dir(&self.layout.trash())
    }

    pub(super) fn recover_purge(&self, purge: &Purge) -> Result<Outcome> {
        let can = self.layout.trashed(purge.id);
        if !layout::is_real_dir(can.dir())? {
            return Ok(Outcome::Finished);
        }
        if let Some(trashed) = self.layout.read_purging(purge.id)? {
            self.finish_purge(&trashed.volume)?;
            return Ok(Outcome::Finished);
        }
        match self.must_be_trashed(purge.id) {
            Ok(_) => {
                self.destroy(purge)?;
                Ok(Outcome::Finished)
            }
            // An entry without record or data. Where it is empty, it is the end of a purge, else not ours.
            Err(DriverError::NotFound { .. }) => match std::fs::remove_dir(can.dir()) {
                Ok(()) => Ok(Outcome::Finished),
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(Outcome::Undone),
                Err(error) => Err(doing("remove directory", can.dir())(error)),
            },
            Err(error) => Err(error),
        }
    }
}
