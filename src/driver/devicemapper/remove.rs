//! Taking volumes away, bringing them back, destroying them. Each is one step of the ledger.
//!
//! A removed volume is its record in `trash`; its thin devices stay until it is purged. One that was let go is its record in
//! `kept`. The device must not be active for any of it: what is mounted is in use.

use super::super::{DriverError, Outcome, Purge, Remove, Result, Undelete};
use super::ledger::{Change, Entry};
use super::records::{Place, Record};
use super::{Devicemapper, entry};
use crate::model::{OnRemove, Volume, VolumeId};
use crate::sys::fault::point;

impl Devicemapper {
    pub(super) fn remove_volume(&self, remove: &Remove) -> Result<()> {
        let mut record = self.records().must_have(&remove.volume.name, remove.volume.id)?;
        self.retire_all(&record)?;
        point("remove.retired");
        record.removed = Some(remove.at);
        let from = Place::Volume(record.volume.name.clone());
        let to = match remove.how {
            OnRemove::Keep => Place::Kept(record.volume.name.clone()),
            OnRemove::Trash | OnRemove::Delete => {
                record.expires = Some(remove.expires);
                Place::Trash(record.volume.id)
            }
        };
        self.commit(Change {
            puts: vec![(to, Entry::Volume(Box::new(record)))],
            removes: vec![from],
            ..Change::default()
        })?;
        point("remove.recorded");
        Ok(())
    }

    /// Makes sure that none of a volume's devices is active.
    fn retire_all(&self, record: &Record) -> Result<()> {
        record
            .thins()
            .try_for_each(|thin| self.retire(thin, &record.volume))
    }

    pub(super) fn recover_remove(&self, remove: &Remove) -> Result<Outcome> {
        let Volume { id, name, .. } = &remove.volume;
        let removed = match remove.how {
            _ if self.records().same(name, *id)?.is_some() => false,
            OnRemove::Keep => self
                .records()
                .kept(name)?
                .is_some_and(|kept| kept.volume.id == *id),
            OnRemove::Trash | OnRemove::Delete => self.records().trashed(*id)?.is_some(),
        };
        Ok(match removed {
            true => Outcome::Finished,
            false => Outcome::Undone,
        })
    }

    pub(super) fn bring_back(&self, undelete: &Undelete) -> Result<Volume> {
        let name = &undelete.name;
        let mut record = self.must_be_trashed(undelete.id)?;
        if self.records().volume(name)?.is_some() || self.records().kept(name)?.is_some() {
            return Err(DriverError::AlreadyExists {
                what: format!("volume {name}"),
                remedy: "give the removed volume another name".to_owned(),
            });
        }
        record.volume.name = name.clone();
        (record.removed, record.expires) = (None, None);
        let volume = record.volume.clone();
        self.commit(Change {
            puts: vec![entry(record)],
            removes: vec![Place::Trash(undelete.id)],
            ..Change::default()
        })?;
        point("undelete.recorded");
        Ok(volume)
    }

    pub(super) fn recover_undelete(&self, undelete: &Undelete) -> Result<Outcome> {
        Ok(match self.records().same(&undelete.name, undelete.id)? {
            Some(_) => Outcome::Finished,
            None => Outcome::Undone,
        })
    }

    pub(super) fn destroy(&self, purge: &Purge) -> Result<()> {
        let record = self.must_be_trashed(purge.id)?;
        self.retire_all(&record)?;
        point("purge.retired");
        self.commit(Change {
            removes: vec![Place::Trash(purge.id)],
            deletes: record.thins().collect(),
            ..Change::default()
        })?;
        point("purge.done");
        Ok(())
    }

    pub(super) fn recover_purge(&self, purge: &Purge) -> Result<Outcome> {
        Ok(match self.records().trashed(purge.id)? {
            Some(_) => Outcome::Undone,
            None => Outcome::Finished,
        })
    }

    fn must_be_trashed(&self, id: VolumeId) -> Result<Record> {
        self.records().trashed(id)?.ok_or_else(|| DriverError::NotFound {
            what: format!("removed volume {id}"),
        })
    }
}
