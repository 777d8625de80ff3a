//! Giving a volume other data: a new device takes the place of the old one.
//!
//! 1. A thin device is made, with a record in `staging`; whoever asked for the target writes to it.
//! 2. **The volume's record names it, and that in `staging` goes**, in one step; the old device is deleted.
//!
//! The record remembers the operation, so that recovery knows whether the second step was done.

use uuid::Uuid;

use super::super::{DriverError, Fill, How, Outcome, Result, Target};
use super::kernel::Writable;
use super::ledger::Change;
use super::records::Place;
use super::{Devicemapper, entry, filesystem, losses};
use crate::model::Volume;
use crate::sys::fault::point;

impl Devicemapper {
    pub(super) fn make_target(&self, fill: &Fill) -> Result<Target> {
        let record = self.records().must_have(&fill.volume.name, fill.volume.id)?;
        let (id, size) = (fill.id.uuid(), Self::size_of(&record.volume)?);
        self.discard_staged(id, &record.volume)?;
        self.pool
            .check_room(&format!("new data for volume {}", record.volume.name))?;
        let staged = self.stage(id, size, None).and_then(|thin| {
            point("fill.staged");
            // Whoever writes opens it soon; until the fill, it stays active, used or not.
            self.thins
                .activate(thin, size, self.pool.number()?, Writable::Yes)
        });
        let made = staged.map(|info| Target::Block {
            path: info.path(),
            size,
        });
        if made.is_err()
            && let Err(second) = self.discard_staged(id, &record.volume)
        {
            log::error!(
                "{}: the remains of a failed operation stay behind: {second}",
                super::NAME
            );
        }
        point("fill.made");
        made
    }

    pub(super) fn fill_volume(&self, fill: &Fill) -> Result<Volume> {
        let How::Replace = fill.how;
        let filled = self.take_target(fill);
        self.settle(
            filled,
            || self.recover_exchange(&fill.volume, fill.id.uuid()),
            || {
                let record = self.records().must_have(&fill.volume.name, fill.volume.id)?;
                Ok(record.volume)
            },
        )
    }

    fn take_target(&self, fill: &Fill) -> Result<Volume> {
        let id = fill.id.uuid();
        let mut record = self.records().must_have(&fill.volume.name, fill.volume.id)?;
        if record.done == Some(id) {
            return Ok(record.volume);
        }
        let Some(staged) = self.records().staged(id)? else {
            return Err(DriverError::NotFound {
                what: format!("the target {} for volume {}", fill.id, record.volume.name),
            });
        };
        {
            let device = self.pin(staged.thin, staged.size, Writable::Yes)?;
            filesystem::set_owner(device.path(), &fill.root)?;
        }
        point("fill.owned");
        self.retire(staged.thin, &record.volume)?;
        let old = record.thin;
        if let Some(old) = old {
            self.retire(old, &record.volume)?;
        }
        point("fill.retired");
        (record.thin, record.done) = (Some(staged.thin), Some(id));
        record.volume.restoring = None;
        losses::forget(&mut record.volume);
        let volume = record.volume.clone();
        self.commit(Change {
            puts: vec![entry(record)],
            removes: vec![Place::Staging(id)],
            deletes: old.into_iter().collect(),
            ..Change::default()
        })?;
        point("fill.recorded");
        Ok(volume)
    }

    /// Finishes or undoes a fill or a revert.
    pub(super) fn recover_exchange(&self, before: &Volume, id: Uuid) -> Result<Outcome> {
        self.ledger.settle(&self.pool)?;
        let record = self.records().same(&before.name, before.id)?;
        self.discard_staged(id, before)?;
        Ok(match record.is_some_and(|record| record.done == Some(id)) {
            true => Outcome::Finished,
            false => Outcome::Undone,
        })
    }
}
