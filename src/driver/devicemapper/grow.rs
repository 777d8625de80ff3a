//! Giving a volume more room: its record, its device, its filesystem.
//!
//! 1. **The record says the new size.**
//! 2. The device gets it, which brings its filesystem to rest for a moment.
//! 3. The filesystem takes the room.
//!
//! A crash in between leaves a filesystem smaller than its device, which works; recovery goes forward.

use super::super::{Grow, Outcome, Result};
use super::create::ROUNDING;
use super::kernel::Writable;
use super::records::Record;
use super::{Devicemapper, filesystem};
use crate::model::{Bytes, Volume};
use crate::sys::fault::point;
use crate::sys::mountinfo;

impl Devicemapper {
    pub(super) fn grow_volume(&self, grow: &Grow) -> Result<Volume> {
        let mut record = self.records().must_have(&grow.volume.name, grow.volume.id)?;
        Self::must_have_data(&record, "resize")?;
        grow.check(Bytes(Self::size_of(&record.volume)?))?;
        record.volume.size = Some(rounded(grow));
        self.put(record.clone())?;
        point("grow.recorded");
        self.take_room(&record)?;
        Ok(record.volume)
    }

    pub(super) fn recover_grow(&self, grow: &Grow) -> Result<Outcome> {
        match self.records().same(&grow.volume.name, grow.volume.id)? {
            Some(record) if record.volume.size == Some(rounded(grow)) && record.thin.is_some() => {
                self.take_room(&record)?;
                Ok(Outcome::Finished)
            }
            _ => Ok(Outcome::Undone),
        }
    }

    /// Steps 2 and 3.
    fn take_room(&self, record: &Record) -> Result<()> {
        let thin = Self::must_have_data(record, "resize")?;
        let size = Self::size_of(&record.volume)?;
        let device = self.pin(thin, size, Writable::Yes)?;
        self.thins.resize(thin, size, self.pool.number()?)?;
        point("grow.resized");
        let number = self.thins.find(thin)?.map(|info| info.device);
        let mounts = mountinfo::read_self()?;
        let mounted = mounts.iter().find(|mount| Some(mount.device) == number);
        filesystem::grow(device.path(), mounted.map(|mount| mount.mount_point.as_path()))?;
        point("grow.grown");
        Ok(())
    }
}

fn rounded(grow: &Grow) -> Bytes {
    Bytes(grow.size.0.next_multiple_of(ROUNDING))
}
