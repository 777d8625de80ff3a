//! Changes of the records and of the pool that happen together or not at all.
//!
//! The pool counts its transactions, and so does the journal beside the records. A change is made in these steps:
//! 1. The journal says what is to be: the new thin devices, the records, the thin devices that go, and the transaction's
//!    number, one more than the pool's.
//! 2. The pool makes the new thin devices.
//! 3. **The pool's transaction is set to that number.** This commits the pool's metadata.
//! 4. The records are written, and those that go are removed.
//! 5. The pool deletes the thin devices that go.
//! 6. The journal is empty again.
//!
//! After a crash, the pool's number tells: where it is still the old one, the new thin devices are deleted and nothing has
//! happened; where it is the journal's, steps 4 to 6 are done again. Any other number means that the pool and the records
//! are not of the same history, and nothing is touched.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::super::{DriverError, Result, document};
use super::NAME;
use super::pool::Pool;
use super::records::{Place, Record, Records, Staged, ThinId};
use crate::sys::durable;
use crate::sys::fault::point;

/// `journal.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Journal {
    /// The transaction that the records agree with or, with a change, that they come to agree with.
    pub(super) transaction: u64,
    /// The next thin id to be given out.
    pub(super) next_thin: u32,
    /// All ids were given out once, so that the next may be in use.
    #[serde(default)]
    pub(super) wrapped: bool,
    /// What is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) change: Option<Change>,
}

/// What happens in one step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Change {
    /// New thin devices.
    #[serde(default)]
    pub(super) makes: Vec<Make>,
    /// Records as they will be.
    #[serde(default)]
    pub(super) puts: Vec<(Place, Entry)>,
    /// Records that go.
    #[serde(default)]
    pub(super) removes: Vec<Place>,
    /// Thin devices that go. They are not active.
    #[serde(default)]
    pub(super) deletes: Vec<ThinId>,
}

/// A record of either sort.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Entry {
    /// Of a volume, wherever it is.
    Volume(Box<Record>),
    /// Of a device that is worked on.
    Staged(Staged),
}

/// A new thin device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Make {
    pub(super) thin: ThinId,
    /// The one that it begins as; empty without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) origin: Option<ThinId>,
}

/// The records with their journal, and the pool that they are about.
#[derive(Debug)]
pub(super) struct Ledger {
    records: Records,
    /// Held for a whole change: the journal has room for one.
    journal: Mutex<Journal>,
}

impl Ledger {
    /// Reads the journal. What it says is under way is finished or undone by [`Ledger::settle`], once the pool is there.
    pub(super) fn open(records: Records) -> Result<Self> {
        let journal = document::read::<Journal>(&Self::path(&records))?.unwrap_or_default();
        Ok(Self {
            records,
            journal: Mutex::new(journal),
        })
    }

    pub(super) fn records(&self) -> &Records {
        &self.records
    }

    /// The journal as it is now.
    pub(super) fn journal(&self) -> Journal {
        self.locked().clone()
    }

    /// Whether a pool with that transaction can be the one that the records are about.
    pub(super) fn agrees_with(&self, transaction: u64) -> Result<()> {
        agrees(&self.locked(), transaction)
    }

    /// Changes the volumes' records of a change that is under way, while no pool runs.
    pub(super) fn amend(&self, amend: impl Fn(&mut Record)) -> Result<()> {
        let mut journal = self.fresh()?;
        let before = journal.clone();
        let puts = journal.change.iter_mut().flat_map(|change| &mut change.puts);
        for (_, entry) in puts {
            if let Entry::Volume(record) = entry {
                amend(record);
            }
        }
        match *journal == before {
            true => Ok(()),
            false => self.write(&journal),
        }
    }

    /// Finishes or undoes what a crash, or a failure, left under way.
    pub(super) fn settle(&self, pool: &Pool) -> Result<()> {
        let mut journal = self.fresh()?;
        self.settle_locked(pool, &mut journal)
    }

    /// Gives out an id for a thin device that no record and nobody else can have.
    pub(super) fn new_thin(&self) -> Result<ThinId> {
        let mut journal = self.fresh()?;
        if journal.next_thin >= ThinId::END {
            (journal.next_thin, journal.wrapped) = (1, true);
        }
        let used = match journal.wrapped {
            false => Default::default(),
            true => self.records.all_thins()?,
        };
        let first = journal.next_thin.max(1);
        let mut all = (first..ThinId::END).chain(1..first).map(ThinId);
        let id = all.find(|id| !used.contains_key(id));
        let id = id.ok_or_else(|| DriverError::Unsupported {
            what: "a new thin device".to_owned(),
            because: format!(
                "the pool has {} already, and no more fit; remove snapshots",
                used.len()
            ),
        })?;
        journal.next_thin = id.0 + 1;
        Ok(id)
    }

    /// Makes a change. After an error, it has not happened, unless the pool or the disk could not even be asked; then the next
    /// change or the next start settles it.
    pub(super) fn commit(&self, pool: &Pool, change: Change) -> Result<()> {
        self.commit_with(pool, change, || Ok(()))
    }

    /// The same; `made` is called as soon as the new thin devices are there, to end what had to wait for that.
    pub(super) fn commit_with(
        &self,
        pool: &Pool,
        change: Change,
        made: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let mut journal = self.fresh()?;
        // Whatever comes of it, what waits for the new devices must not wait longer.
        let mut made = Ended(Some(made));
        self.settle_locked(pool, &mut journal)?;
        pool.check_writable()?;
        let before = journal.transaction;
        journal.transaction = before + 1;
        journal.change = Some(change);
        if let Err(error) = self.write(&journal) {
            journal.transaction = before;
            journal.change = None;
            // What was written of it may be found by the next start, which undoes it.
            return Err(error);
        }
        point("ledger.intended");
        let result = self.carry_out(pool, &mut journal, &mut made);
        let Err(error) = result else {
            return Ok(());
        };
        if let Err(error) = made.end() {
            log::error!("{NAME}: {error}");
        }
        let wanted = journal.transaction;
        match self.settle_locked(pool, &mut journal) {
            // The pool had done it, and only its answer or a record was lost.
            Ok(()) if journal.transaction == wanted => Ok(()),
            Ok(()) => Err(error),
            Err(second) => {
                log::error!("{NAME}: the remains of a failed change stay behind: {second}");
                Err(error)
            }
        }
    }

    fn carry_out<F: FnOnce() -> Result<()>>(
        &self,
        pool: &Pool,
        journal: &mut Journal,
        made: &mut Ended<F>,
    ) -> Result<()> {
        let change = journal.change.as_ref();
        for make in change.iter().flat_map(|change| &change.makes) {
            pool.make_thin(make.thin, make.origin)?;
            point("ledger.made");
        }
        made.end()?;
        pool.set_transaction(journal.transaction - 1, journal.transaction)?;
        point("ledger.committed");
        self.finish(pool, journal)
    }

    /// Steps 4 to 6.
    fn finish(&self, pool: &Pool, journal: &mut Journal) -> Result<()> {
        let Some(change) = &journal.change else {
            return Ok(());
        };
        for (place, entry) in &change.puts {
            let bytes = match entry {
                Entry::Volume(record) => document::to_json(record),
                Entry::Staged(staged) => document::to_json(staged),
            };
            durable::write_atomic(self.records.path(place), &bytes, 0o600)?;
            if let Entry::Volume(record) = entry {
                self.records.remember(record);
            }
            point("ledger.put");
        }
        for place in &change.removes {
            document::remove(&self.records.path(place))?;
            point("ledger.removed");
        }
        for thin in &change.deletes {
            pool.delete_thin(*thin)?;
            point("ledger.deleted");
        }
        let settled = Journal {
            change: None,
            ..journal.clone()
        };
        self.write(&settled)?;
        *journal = settled;
        point("ledger.settled");
        Ok(())
    }

    fn settle_locked(&self, pool: &Pool, journal: &mut Journal) -> Result<()> {
        let Some(change) = &journal.change else {
            return Ok(());
        };
        let now = pool.transaction()?;
        agrees(journal, now)?;
        if now == journal.transaction {
            return self.finish(pool, journal);
        }
        for make in &change.makes {
            pool.delete_thin(make.thin)?;
            point("ledger.unmade");
        }
        let undone = Journal {
            transaction: journal.transaction - 1,
            change: None,
            ..journal.clone()
        };
        self.write(&undone)?;
        *journal = undone;
        Ok(())
    }

    fn write(&self, journal: &Journal) -> Result<()> {
        let path = Self::path(&self.records);
        Ok(durable::write_atomic(path, &document::to_json(journal), 0o600)?)
    }

    fn path(records: &Records) -> std::path::PathBuf {
        records.root().join("journal.json")
    }

    /// The journal for a change, read again: it is the disk that counts, whatever this process believes.
    fn fresh(&self) -> Result<MutexGuard<'_, Journal>> {
        let mut journal = self.locked();
        let given_out = journal.next_thin;
        let read = document::read::<Journal>(&Self::path(&self.records))?.unwrap_or_default();
        *journal = Journal {
            // Ids that were given out and not used yet are in no journal.
            next_thin: match read.wrapped == journal.wrapped {
                true => read.next_thin.max(given_out),
                false => given_out,
            },
            wrapped: read.wrapped || journal.wrapped,
            ..read
        };
        Ok(journal)
    }

    fn locked(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something to be done once, at the latest when it is dropped.
struct Ended<F: FnOnce() -> Result<()>>(Option<F>);

impl<F: FnOnce() -> Result<()>> Ended<F> {
    fn end(&mut self) -> Result<()> {
        self.0.take().map_or(Ok(()), |end| end())
    }
}

impl<F: FnOnce() -> Result<()>> Drop for Ended<F> {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            log::error!("{NAME}: {error}");
        }
    }
}

fn agrees(journal: &Journal, transaction: u64) -> Result<()> {
    let began = journal.change.is_some() && transaction + 1 == journal.transaction;
    if transaction == journal.transaction || began {
        return Ok(());
    }
    let (which, remedy) = match transaction > journal.transaction {
        true => (
            "ahead of",
            "the records are older than the pool, or not its own: bring back the newest copy of the state directory",
        ),
        false => (
            "behind",
            "the pool is an older copy, or another one: bring back the right data and metadata devices",
        ),
    };
    Err(DriverError::Unavailable {
        driver: NAME,
        why: format!(
            "the pool is at transaction {transaction}, {which} the records, which are at {}; nothing was touched; {remedy}",
            journal.transaction
        ),
    })
}
