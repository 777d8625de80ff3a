//! What a repair of the pool's metadata could not save: found, told, and written down in the records of those who lost it.
//!
//! A volume that has lost all its data keeps its record, its options and the snapshots that are left; it cannot be mounted, and says
//! why. One that has lost a part works on, on what is there, and says so until it is reverted or filled anew.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::super::{Result, document};
use super::ledger::Ledger;
use super::records::{Place, Record, Records, ThinId};
use crate::model::{Time, Volume};
use crate::sys::durable;

/// The key in the private part of a volume's record.
const LOST: &str = "lost";
/// So many are named in a refusal.
const NAMED: usize = 20;

/// Thin devices that are gone or have fewer blocks than they had.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Losses {
    gone: BTreeSet<ThinId>,
    /// How many blocks are left, of how many.
    shortened: BTreeMap<ThinId, (u64, u64)>,
}

impl Losses {
    /// Compares the blocks that thin devices map now with what the records name, and with what was mapped `before`, as far as
    /// that is known.
    pub(super) fn find(
        ledger: &Ledger,
        now: &BTreeMap<u32, u64>,
        before: &BTreeMap<u32, u64>,
    ) -> Result<Self> {
        let mut losses = Self::default();
        // What is under way may have been made, or deleted, or not.
        let change = ledger.journal().change.unwrap_or_default();
        for thin in ledger.records().all_thins()?.into_keys() {
            match now.get(&thin.0) {
                None if change.deletes.contains(&thin) => {}
                None => drop(losses.gone.insert(thin)),
                Some(left) => {
                    let had = before.get(&thin.0).copied().unwrap_or(*left);
                    if *left < had {
                        losses.shortened.insert(thin, (*left, had));
                    }
                }
            }
        }
        Ok(losses)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.shortened.is_empty()
    }

    /// Whether all that others lack was accepted. How much was there before cannot be read any more when metadata were overwritten.
    pub(super) fn covers(&self, found: &Self) -> bool {
        found.gone.is_subset(&self.gone)
    }

    /// Why a repair that loses this is refused.
    pub(super) fn refusal(&self, records: &Records) -> Result<String> {
        let mut told = Vec::new();
        for (_, record) in all(records)? {
            told.extend(self.of(&record));
        }
        let left = told.len().saturating_sub(NAMED);
        told.truncate(NAMED);
        if left > 0 {
            told.push(format!("and {left} more"));
        }
        if told.is_empty() {
            told.push("states that were kept for backups".to_owned());
        }
        Ok(format!(
            "thin_repair cannot save all: {}; nothing was changed; 'windlass pool repair --accept-loss' goes on without that",
            told.join("; ")
        ))
    }

    /// What it is to a volume, in sentences without an end.
    fn of(&self, record: &Record) -> Vec<String> {
        let name = &record.volume.name;
        let state = |what: String, thin: ThinId| match self.shortened.get(&thin) {
            _ if self.gone.contains(&thin) => Some(format!("{what} (thin device {thin}): all of it")),
            Some((left, had)) => Some(format!(
                "{what} (thin device {thin}): {} of its {had} blocks",
                had - left
            )),
            None => None,
        };
        let own = record.thin.and_then(|thin| state(format!("volume {name}"), thin));
        let snapshots = record.volume.snapshots.iter().filter_map(|snapshot| {
            let thin = record.snapshots.get(&snapshot.id)?;
            state(format!("snapshot {name}@{}", snapshot.name), *thin)
        });
        own.into_iter().chain(snapshots).collect()
    }

    /// Has the records say so, once the repaired metadata are in their place; done again after a crash, it adds nothing. Says what was
    /// lost.
    pub(super) fn write_down(&self, ledger: &Ledger) -> Result<Vec<String>> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        let records = ledger.records();
        let mut told = Vec::new();
        for (place, mut record) in all(records)? {
            let lost = self.of(&record);
            if self.take_from(&mut record) {
                durable::write_atomic(records.path(&place), &document::to_json(&record), 0o600)?;
            }
            told.extend(lost);
        }
        ledger.amend(|record| {
            self.take_from(record);
        })?;
        for name in records.names("staging")? {
            let path = records.root().join("staging").join(&name);
            let staged: Option<super::records::Staged> = document::read(&path)?;
            if staged.is_some_and(|staged| self.gone.contains(&staged.thin)) {
                document::remove(&path)?;
            }
        }
        Ok(told)
    }

    /// True where there was something to take.
    fn take_from(&self, record: &mut Record) -> bool {
        let before = record.clone();
        let lost = self.of(record);
        record.thin = record.thin.filter(|thin| !self.gone.contains(thin));
        record.snapshots.retain(|_, thin| !self.gone.contains(thin));
        let left = &record.snapshots;
        // Those in a repository have no device.
        let is_left =
            |snapshot: &crate::model::Snapshot| snapshot.stored.is_some() || left.contains_key(&snapshot.id);
        record.volume.snapshots.retain(is_left);
        record
            .bases
            .retain(|_, base| !self.gone.contains(&base.thin) && !self.shortened.contains_key(&base.thin));
        if !lost.is_empty() && !record.volume.private.contains_key(LOST) {
            let text = format!(
                "lost in a repair of the pool at {}: {}",
                Time::now(),
                lost.join("; ")
            );
            record.volume.private.insert(LOST.to_owned(), text);
        }
        *record != before
    }
}

/// The records of all volumes, those that were removed or let go too.
fn all(records: &Records) -> Result<Vec<(Place, Record)>> {
    let mut all = Vec::new();
    for room in ["volumes", "kept", "trash"] {
        for name in records.names(room)? {
            let path = records.root().join(room).join(&name);
            // One that cannot be read is reported by the start.
            let Ok(Some(record)) = document::read::<Record>(&path) else {
                continue;
            };
            let place = match room {
                "volumes" => Place::Volume(record.volume.name.clone()),
                "kept" => Place::Kept(record.volume.name.clone()),
                _ => Place::Trash(record.volume.id),
            };
            all.push((place, record));
        }
    }
    Ok(all)
}

/// What a volume has lost, as `inspect` shows it.
pub(super) fn told_by(volume: &Volume) -> Option<(String, String)> {
    let lost = volume.private.get(LOST)?;
    Some(("Lost".to_owned(), lost.clone()))
}

/// Its data are others now.
pub(super) fn forget(volume: &mut Volume) {
    volume.private.remove(LOST);
}
