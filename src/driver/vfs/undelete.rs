//! The way back from the trash.
//!
//! The name is claimed as for a new volume, `trash/<id>/data` renamed over the claim, the record created exclusively
//! (the commit), and the entry in the trash removed. A crash before the rename is undone: the claim is given back and
//! the volume is in the trash as before. After it, recovery goes forward.

use super::super::{DriverError, Outcome, Result, Undelete};
use super::layout;
use super::{Vfs, area, records, sync_dir};
use crate::model::{Volume, VolumeId};
use crate::sys::durable;
use crate::sys::fault::point;

impl Vfs {
    pub(super) fn bring_back(&self, undelete: &Undelete) -> Result<Volume> {
        self.layout.check_present()?;
        let name = &undelete.name;
        let trashed = self.must_be_trashed(undelete.id)?;
        if self.layout.read_volume(name)?.is_some() {
            return Err(DriverError::AlreadyExists {
                what: format!("volume {name}"),
                remedy: "give the removed volume another name".to_owned(),
            });
        }
        if self.current_kept(name)?.is_some() || layout::metadata(&self.layout.data(name))?.is_some() {
            return Err(DriverError::AlreadyExists {
                what: format!("the directory {}", self.layout.data(name).display()),
                remedy: "give the removed volume another name".to_owned(),
            });
        }
        let mut volume = trashed.volume;
        volume.name = name.clone();
        self.claim(name)?;
        point("undelete.claimed");
        let published = self.publish_trashed(&volume);
        self.settle(published, || self.recover_undelete(undelete), || Ok(()))?;
        Ok(volume)
    }

    fn publish_trashed(&self, volume: &Volume) -> Result<()> {
        let can = self.layout.trashed(volume.id);
        durable::rename_sync(can.data(), self.layout.data(&volume.name))?;
        point("undelete.moved");
        self.layout.create_volume(volume)?;
        point("undelete.recorded");
        self.empty_trashcan(volume.id)
    }

    fn empty_trashcan(&self, id: VolumeId) -> Result<()> {
        let can = self.layout.trashed(id);
        records::remove_file(&can.record())?;
        point("undelete.forgotten");
        area::destroy(can.dir())?;
        sync_dir(&self.layout.trash())
    }

    pub(super) fn recover_undelete(&self, undelete: &Undelete) -> Result<Outcome> {
        let Undelete { id, name } = undelete;
        let data = self.layout.data(name);
        let in_trash = layout::is_real_dir(&self.layout.trashed(*id).data())?;
        let record = self.layout.read_volume(name)?;
        if record.as_ref().is_some_and(|volume| volume.id == *id) {
            // With data in the trash, this is the record of a removal that crashed on another host.
            if !in_trash {
                self.empty_trashcan(*id)?;
            }
            return Ok(Outcome::Finished);
        }
        if in_trash {
            if record.is_none() {
                area::unclaim(&data)?;
            }
            return Ok(Outcome::Undone);
        }
        let Some(trashed) = self.layout.read_trashed(*id)? else {
            return Ok(Outcome::Undone);
        };
        // An entry without data is ours in mid-flight only if the removal that made it was complete.
        let removed = self.layout.read_same(&trashed.volume.name, *id)?.is_none();
        if !removed || record.is_some() || !layout::is_real_dir(&data)? {
            return Ok(Outcome::Undone);
        }
        let mut volume = trashed.volume;
        volume.name = name.clone();
        self.layout.create_volume(&volume)?;
        point("undelete.recorded");
        self.empty_trashcan(*id)?;
        Ok(Outcome::Finished)
    }
}
