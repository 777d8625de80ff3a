//! Snapshots: taking, forgetting, going back to one, keeping one for a repository. Each is one step of the ledger.

use std::time::Instant;

use super::super::{DriverError, Outcome, RemoveSnapshot, Result, Revert, TakeSnapshot};
use super::ledger::{Change, Make};
use super::records::{Base, Record, ThinId};
use super::{Devicemapper, entry, losses};
use crate::model::{Consistency, Snapshot, Time, Volume};
use crate::sys::fault::point;

/// So many repositories' bases are kept for a volume: those of destinations that nobody uses any more must not hold space for
/// ever.
const MOST_BASES: usize = 4;

impl Devicemapper {
    pub(super) fn take_snapshot(&self, take: &TakeSnapshot) -> Result<Volume> {
        let what = || format!("snapshot {}@{}", take.volume.name, take.name);
        let mut record = self.records().must_have(&take.volume.name, take.volume.id)?;
        if record.volume.snapshot(&take.name).is_some() {
            let remedy = "choose another name, or remove it first".to_owned();
            return Err(DriverError::AlreadyExists { what: what(), remedy });
        }
        if take.stored.is_some() {
            return Err(DriverError::Unsupported {
                what: what(),
                because: "the driver devicemapper takes snapshots itself, and keeps none in a repository"
                    .to_owned(),
            });
        }
        let origin = Self::must_have_data(&record, "snapshot")?;
        self.pool.check_room(&what())?;
        let thin = self.ledger.new_thin()?;
        record.snapshots.insert(take.id, thin);
        record.volume.snapshots.push(Snapshot {
            id: take.id,
            name: take.name.clone(),
            created: take.at,
            consistency: Consistency::PointInTime,
            stored: None,
            later: Default::default(),
        });
        let volume = record.volume.clone();
        let change = Change {
            makes: vec![Make {
                thin,
                origin: Some(origin),
            }],
            puts: vec![entry(record)],
            ..Change::default()
        };
        self.commit_frozen(origin, change)?;
        point("snapshot.recorded");
        Ok(volume)
    }

    /// Commits a change that makes a copy of `origin`, which is at rest meanwhile: with its filesystem, if it is mounted.
    pub(super) fn commit_frozen(&self, origin: ThinId, change: Change) -> Result<()> {
        let begun = Instant::now();
        let suspended = self.thins.suspend(origin)?;
        let brought_to_rest = begun.elapsed();
        point("snapshot.frozen");
        let result = self.ledger.commit_with(&self.pool, change, || suspended.resume());
        log::debug!(
            "{}: thin device {origin} was brought to rest in {brought_to_rest:?}, and copied in {:?}",
            super::NAME,
            begun.elapsed() - brought_to_rest
        );
        result
    }

    /// The device of a volume that has its data.
    pub(super) fn must_have_data(record: &Record, doing: &str) -> Result<ThinId> {
        DriverError::refuse_restoring(&record.volume, doing)?;
        record.thin.ok_or_else(|| DriverError::Corrupt {
            path: record.volume.name.as_str().into(),
            why: losses::told_by(&record.volume).map_or_else(
                || "the record of the volume names no device".to_owned(),
                |(_, lost)| {
                    format!("{lost}; revert it to a snapshot that is left, or remove it and make it anew from a backup")
                },
            ),
        })
    }

    /// The device of a snapshot that the volume's record names.
    pub(super) fn must_have_snapshot(record: &Record, snapshot: &Snapshot) -> Result<ThinId> {
        let thin = record.snapshots.get(&snapshot.id).copied();
        thin.ok_or_else(|| DriverError::NotFound {
            what: format!("snapshot {}@{}", record.volume.name, snapshot.name),
        })
    }

    pub(super) fn recover_snapshot(&self, take: &TakeSnapshot) -> Result<Outcome> {
        let record = self.records().same(&take.volume.name, take.volume.id)?;
        Ok(
            match record.is_some_and(|record| record.snapshots.contains_key(&take.id)) {
                true => Outcome::Finished,
                false => Outcome::Undone,
            },
        )
    }

    pub(super) fn forget_snapshot(&self, remove: &RemoveSnapshot) -> Result<Volume> {
        let mut record = self.records().must_have(&remove.volume.name, remove.volume.id)?;
        let thin = Self::must_have_snapshot(&record, &remove.snapshot)?;
        self.retire(thin, &record.volume)?;
        point("remove-snapshot.retired");
        record.snapshots.remove(&remove.snapshot.id);
        record
            .volume
            .snapshots
            .retain(|snapshot| snapshot.id != remove.snapshot.id);
        let volume = record.volume.clone();
        self.commit(Change {
            puts: vec![entry(record)],
            deletes: vec![thin],
            ..Change::default()
        })?;
        point("remove-snapshot.recorded");
        Ok(volume)
    }

    pub(super) fn recover_remove_snapshot(&self, remove: &RemoveSnapshot) -> Result<Outcome> {
        let record = self.records().same(&remove.volume.name, remove.volume.id)?;
        Ok(
            match record.is_none_or(|record| record.snapshots.contains_key(&remove.snapshot.id)) {
                true => Outcome::Undone,
                false => Outcome::Finished,
            },
        )
    }

    pub(super) fn revert_volume(&self, revert: &Revert) -> Result<Volume> {
        let mut record = self.records().must_have(&revert.volume.name, revert.volume.id)?;
        DriverError::refuse_restoring(&record.volume, "revert")?;
        // None, where a repair of the pool has lost it.
        let old = record.thin;
        let source = Self::must_have_snapshot(&record, &revert.snapshot)?;
        if let Some(old) = old {
            self.retire(old, &record.volume)?;
        }
        losses::forget(&mut record.volume);
        point("revert.retired");
        let thin = self.ledger.new_thin()?;
        (record.thin, record.done) = (Some(thin), Some(revert.id.uuid()));
        let volume = record.volume.clone();
        let change = Change {
            makes: vec![Make {
                thin,
                origin: Some(source),
            }],
            puts: vec![entry(record)],
            deletes: old.into_iter().collect(),
            ..Change::default()
        };
        self.commit_frozen(source, change)?;
        point("revert.recorded");
        Ok(volume)
    }

    pub(super) fn keep_state(
        &self,
        volume: &Volume,
        snapshot: &Snapshot,
        repository: &str,
    ) -> Result<Volume> {
        let mut record = self.records().must_have(&volume.name, volume.id)?;
        let id = snapshot.id.uuid();
        if record
            .bases
            .get(repository)
            .is_some_and(|base| base.snapshot == id)
        {
            return Ok(record.volume);
        }
        let source = Self::must_have_snapshot(&record, snapshot)?;
        let thin = self.ledger.new_thin()?;
        let base = Base {
            snapshot: id,
            thin,
            since: Time::now(),
        };
        let mut gone: Vec<ThinId> = record
            .bases
            .insert(repository.to_owned(), base)
            .map(|base| base.thin)
            .into_iter()
            .collect();
        while record.bases.len() > MOST_BASES {
            let oldest = record.bases.iter().min_by_key(|(_, base)| base.since);
            let Some(oldest) = oldest.map(|(repository, _)| repository.clone()) else {
                break;
            };
            gone.extend(record.bases.remove(&oldest).map(|base| base.thin));
        }
        let volume = record.volume.clone();
        let change = Change {
            makes: vec![Make {
                thin,
                origin: Some(source),
            }],
            puts: vec![entry(record)],
            deletes: gone,
            ..Change::default()
        };
        self.commit_frozen(source, change)?;
        point("base.recorded");
        Ok(volume)
    }
}
