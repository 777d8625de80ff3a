//! Giving a volume more room: its record says so, then its quota.
//!
//! A crash in between leaves a volume that may hold less than its record says; recovery sets the quota again.

use super::super::{DriverError, Grow, Outcome, Result};
use super::Vfs;
use crate::model::Volume;
use crate::sys::fault::point;

impl Vfs {
    pub(super) fn grow_volume(&self, grow: &Grow) -> Result<Volume> {
        self.layout.check_present()?;
        let mut volume = self.layout.must_read(&grow.volume.name, grow.volume.id)?;
        let what = || format!("another size of volume {}", volume.name);
        let refuse = |because: &str| {
            Err(DriverError::Unsupported {
                what: what(),
                because: because.to_owned(),
            })
        };
        if volume.vm {
            return refuse("it holds a disk image of an exact size, which a virtual machine may have open");
        }
        self.quotas.check(what)?;
        let Some(size) = volume.size else {
            return refuse("it has no size, and may hold whatever its filesystem can");
        };
        grow.check(size)?;
        volume.size = Some(grow.size);
        self.layout.write_volume(&volume)?;
        point("grow.recorded");
        self.quotas.apply(&volume, &self.layout.data(&volume.name))?;
        point("grow.applied");
        Ok(volume)
    }

    pub(super) fn recover_grow(&self, grow: &Grow) -> Result<Outcome> {
        match self.layout.read_same(&grow.volume.name, grow.volume.id)? {
            Some(volume) if volume.size == Some(grow.size) => {
                self.quotas.apply(&volume, &self.layout.data(&volume.name))?;
                Ok(Outcome::Finished)
            }
            _ => Ok(Outcome::Undone),
        }
    }
}
