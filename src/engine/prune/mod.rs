//! Prune: what no backup names is deleted, and packs that are used in part are copied.
//!
//! It has the repository for itself, by an exclusive lock. If a backup, a tree or an index file cannot be read, or a pack
//! that is used is not there as the index says, nothing is deleted. Then: new packs and index files, each read back; the
//! old index files go; only when they are seen to be gone, packs go. A crash leaves blobs that are there twice, or packs in no index: everything can
//! be restored, and the next prune ends what this one began.

mod plan;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use serde::Serialize;

pub use plan::{Figures, Plan, PruneOptions, YOUNG_SECONDS, plan};

use super::haul::{self, Haul};
use super::holdings::{Holding, Holdings};
use super::index::{IndexFile, IndexedPack, Location, Marks, Table};
use super::reach::{Reach, Walker};
use super::reindex::{self, Reindex};
use super::repository::pack_path;
use super::{Access, EngineError, Id, Lock, Progress, Repository, Result, Writer, seal};

/// Objects that are deleted at the same time.
const DELETIONS: usize = 8;

/// What a prune did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PruneReport {
    /// Whether nothing was done.
    pub dry_run: bool,
    /// Backups that there are.
    pub backups: u64,
    /// Directories that they name.
    pub trees: u64,
    /// Blobs of data that they name.
    pub data_blobs: u64,
    /// Packs that stayed as they were.
    pub kept_packs: u64,
    /// Packs out of which what is used was copied.
    pub repacked_packs: u64,
    /// Packs of which nothing was used.
    pub unused_packs: u64,
    /// Packs in no index that were deleted.
    pub unindexed_packs: u64,
    /// Packs in no index that stay since they are younger than [`YOUNG_SECONDS`].
    pub young_packs: u64,
    /// Bytes that went.
    pub freed_bytes: u64,
    /// Bytes that were copied.
    pub repacked_bytes: u64,
    /// Unused bytes that stay.
    pub unused_bytes: u64,
    /// Index files that were written anew.
    pub new_index_files: u64,
    /// Index files that went.
    pub old_index_files: u64,
    /// Objects below `data/` that are no packs and were left alone.
    pub foreign: Vec<String>,
}

/// Deletes what no backup names.
///
/// # Errors
/// [`EngineError::Locked`]; whatever cannot be read, and then nothing was deleted.
pub fn prune(
    repository: &Repository,
    options: &PruneOptions,
    progress: &Arc<Progress>,
) -> Result<PruneReport> {
    let _held = progress.governs();
    let access = if options.dry_run {
        Access::Shared
    } else {
        Access::Exclusive
    };
    let lock = Lock::take(repository, access)?;
    let (survey, mut report) = Survey::make(repository, progress)?;
    let plan = plan(&survey.figures, options);
    report.dry_run = options.dry_run;
    report.tell(&plan);
    if !options.dry_run {
        repack(repository, &survey, &plan.repack, &lock, progress)?;
        progress.phase("writing the index");
        let leave: HashSet<Id> = [&plan.repack, &plan.unused, &plan.gone]
            .into_iter()
            .flatten()
            .copied()
            .collect();
        let unindexed: HashSet<Id> = plan.unindexed.iter().copied().collect();
        let change = write_index(repository, &leave, &unindexed)?;
        report.new_index_files = change.new.len() as u64;
        report.old_index_files = change.old.len() as u64;
        same_backups(repository, &survey.backups)?;
        delete(repository, "index", &change.old, &lock, progress, |id| {
            format!("index/{id}")
        })?;
        index_is(repository, &change)?;
        let packs: Vec<Id> = [&plan.repack, &plan.unused, &plan.unindexed]
            .into_iter()
            .flatten()
            .copied()
            .collect();
        delete(repository, "packs", &packs, &lock, progress, pack_path)?;
        if let Some(cache) = repository.cache() {
            packs.iter().for_each(|id| cache.drop_pack(id));
        }
        repository.refresh()?;
    }
    Ok(report)
}

impl PruneReport {
    fn tell(&mut self, plan: &Plan) {
        self.kept_packs = plan.keep.len() as u64;
        self.repacked_packs = plan.repack.len() as u64;
        self.unused_packs = plan.unused.len() as u64;
        self.unindexed_packs = plan.unindexed.len() as u64;
        self.young_packs = plan.young.len() as u64;
        self.freed_bytes = plan.freed_bytes;
        self.repacked_bytes = plan.repacked_bytes;
        self.unused_bytes = plan.unused_bytes;
    }
}

/// What there is and what of it is used.
struct Survey {
    table: Arc<Table>,
    /// By the numbers of records: of each blob that is used, one.
    kept: Marks,
    figures: Vec<Figures>,
    backups: BTreeSet<Id>,
}

impl Survey {
    fn make(repository: &Repository, progress: &Arc<Progress>) -> Result<(Self, PruneReport)> {
        progress.phase("reading the backups");
        repository.refresh()?;
        let table = repository.index()?.whole(repository.cache())?;
        let backups = repository.backups()?;
        let walker = Walker {
            repository,
            table: &table,
            read: &|location| repository.tree_blob(location),
            progress,
        };
        let roots = backups.iter().map(|backup| backup.record.tree);
        let reach = walker.walk(roots, &|fault| {
            if fault.all_known {
                log::warn!("{}", fault.error);
                Ok(())
            } else {
                Err(fault.error)
            }
        })?;
        progress.phase("listing the packs");
        let holdings = Holdings::gather(repository, &table)?;
        let (kept, used) = choose_copies(repository, &table, &reach, &holdings.packs)?;
        let now = store_clock(repository)?;
        let figures = holdings
            .packs
            .iter()
            .map(|(id, holding)| {
                let (used, used_bytes) = used.get(id).copied().unwrap_or_default();
                Figures {
                    id: *id,
                    size: holding.size,
                    age: holding.modified.map(|modified| now - modified),
                    entries: holding.entries,
                    used,
                    used_bytes,
                    trees: holding.trees,
                }
            })
            .collect();
        let report = PruneReport {
            backups: backups.len() as u64,
            trees: reach.trees,
            data_blobs: reach.data,
            foreign: holdings.foreign,
            ..PruneReport::default()
        };
        let this = Self {
            table,
            kept,
            figures,
            backups: backups.iter().map(|backup| backup.id).collect(),
        };
        Ok((this, report))
    }
}

/// The time by the store's clock: that of the youngest lock, which is ours. Ages are differences of one clock then.
fn store_clock(repository: &Repository) -> Result<i64> {
    let locks = repository.store().list("locks")?;
    let youngest = locks.iter().filter_map(|lock| lock.modified).max();
    Ok(youngest.unwrap_or_else(|| super::now().as_second()))
}

/// Blobs that are used, and their bytes, by packs.
type Used = HashMap<Id, (u64, u64)>;

/// Of each blob that is used, chooses the copy that stays: one in a pack that is as it must be, and in that of which most is
/// used already.
fn choose_copies(
    repository: &Repository,
    table: &Table,
    reach: &Reach,
    packs: &HashMap<Id, Holding>,
) -> Result<(Marks, Used)> {
    let kept = Marks::new(table.len());
    let mut used = Used::new();
    let keep = |number: u64, place: &Location, used: &mut Used| {
        kept.set(number);
        let figures = used.entry(place.pack).or_default();
        figures.0 += 1;
        figures.1 += place.blob.taken();
    };
    // First those that have no choice, so that the others can go where those are.
    for alone in [true, false] {
        table.for_each_blob(|first, places| {
            if !reach.used.get(first) || (places.len() == 1) != alone {
                return Ok(());
            }
            let best = (first..)
                .zip(places)
                .filter(|(_, place)| is_whole(packs, &place.pack))
                .max_by_key(|(number, place)| {
                    let already = used.get(&place.pack).map_or(0, |(blobs, _)| *blobs);
                    (already, std::cmp::Reverse(*number))
                });
            match best {
                Some((number, place)) => {
                    keep(number, place, &mut used);
                    Ok(())
                }
                None => Err(not_whole(repository, packs, &places[0])),
            }
        })?;
    }
    Ok((kept, used))
}

fn is_whole(packs: &HashMap<Id, Holding>, id: &Id) -> bool {
    packs
        .get(id)
        .is_some_and(|holding| holding.size == Some(holding.expected()))
}

fn not_whole(repository: &Repository, packs: &HashMap<Id, Holding>, place: &Location) -> EngineError {
    let holding = packs.get(&place.pack).copied().unwrap_or_default();
    let remedy = "backups need it, so nothing is deleted; `windlass backup verify` tells which";
    let why = match holding.size {
        Some(size) => format!(
            "it has {size} bytes, and the index says {}: {remedy}",
            holding.expected()
        ),
        None => format!("it is not there: {remedy}"),
    };
    repository.corrupt(pack_path(&place.pack), why)
}

/// Copies what is used out of these packs into new ones, and puts those into the index.
fn repack(
    repository: &Repository,
    survey: &Survey,
    packs: &[Id],
    lock: &Lock,
    progress: &Arc<Progress>,
) -> Result<()> {
    if packs.is_empty() {
        return Ok(());
    }
    progress.phase("repacking");
    let wanted: HashSet<&Id> = packs.iter().collect();
    let packs: Vec<(Id, u64)> = survey
        .figures
        .iter()
        .filter(|pack| wanted.contains(&pack.id))
        .map(|pack| (pack.id, pack.used))
        .collect();
    progress.expect_more(0, packs.len() as u64);
    let writer = Writer::reading_back(repository, seal::LEVEL, progress)?;
    let haul = Haul {
        repository,
        progress,
        large: Mutex::new(()),
    };
    haul::by_pack(
        &survey.table,
        &packs,
        |number, _| survey.kept.get(number),
        |pack, blobs| {
            haul.read(pack, blobs, |blob, sealed, _| {
                writer.save_sealed(blob.kind, blob.id, sealed, blob.uncompressed)
            })?;
            progress.done(0, 1);
            Ok(())
        },
    )?;
    writer.finish(lock).map(drop)
}

/// The backups must be those that were there at the beginning: a listing that left one out, or somebody who does not
/// know of our lock, must not cost it.
fn same_backups(repository: &Repository, backups: &BTreeSet<Id>) -> Result<()> {
    let now: BTreeSet<Id> = repository.list_files("snapshots")?.into_iter().collect();
    if now.is_subset(backups) {
        return Ok(());
    }
    let why = "there are backups that were not listed before".to_owned();
    Err(unlike(repository, why))
}

/// Index files that were written, and those that they stand for.
struct Change {
    new: Vec<Id>,
    old: Vec<Id>,
}

/// Writes index files in place of those that name packs which `leave`, name packs twice, or are small. One file is in
/// memory at a time. The old ones are still there afterwards.
fn write_index(repository: &Repository, leave: &HashSet<Id>, unindexed: &HashSet<Id>) -> Result<Change> {
    let known = repository.index()?.covered();
    let mut seen = HashSet::new();
    let mut new = Reindex::new(repository);
    let mut old = Vec::new();
    // A small file that nothing is wrong with is only worth joining with something else.
    let mut lone: Option<(Id, Vec<IndexedPack>)> = None;
    let listed: BTreeSet<Id> = repository.list_files("index")?.into_iter().collect();
    if let Some(id) = known.difference(&listed).next() {
        return Err(unlike(
            repository,
            format!("index/{id} was there, and is listed no more"),
        ));
    }
    for id in &listed {
        let json = repository.read_file("index", id)?;
        let file =
            IndexFile::from_json(&json).map_err(|why| repository.corrupt(format!("index/{id}"), why))?;
        drop(json);
        if !known.contains(id) {
            refuse_intruder(repository, id, &file, leave, unindexed)?;
            continue;
        }
        let mut packs = file.packs;
        let count = packs.len();
        packs.retain(|pack| !leave.contains(&pack.id) && seen.insert((pack.id, fingerprint(pack))));
        let untouched = packs.len() == count && count > 0;
        let blobs: usize = packs.iter().map(|pack| pack.blobs.len()).sum();
        if untouched && blobs >= reindex::SMALL {
            continue;
        }
        if untouched && lone.is_none() && old.is_empty() {
            lone = Some((*id, packs));
            continue;
        }
        for (id, packs) in lone.take().into_iter().chain([(*id, packs)]) {
            old.push(id);
            packs.into_iter().try_for_each(|pack| new.add(pack))?;
        }
    }
    let new = new.finish()?;
    Ok(Change { new, old })
}

/// An old index file that is still there would lead to packs that are not.
fn index_is(repository: &Repository, change: &Change) -> Result<()> {
    let listed: BTreeSet<Id> = repository.list_files("index")?.into_iter().collect();
    if let Some(id) = change.old.iter().find(|id| listed.contains(id)) {
        return Err(unlike(
            repository,
            format!("index/{id} was deleted, and is still there"),
        ));
    }
    match change.new.iter().find(|id| !listed.contains(id)) {
        Some(id) => Err(unlike(
            repository,
            format!("index/{id} was just written, and is not listed"),
        )),
        None => Ok(()),
    }
}

/// What the storage says now does not go with what it said before.
fn unlike(repository: &Repository, why: String) -> EngineError {
    EngineError::LockLost {
        location: repository.location(),
        why,
    }
}

/// Tells apart lists of the same pack's blobs that are not the same: only what is there twice is left out.
fn fingerprint(pack: &IndexedPack) -> (usize, u64) {
    let sum = pack.blobs.iter().fold(0_u64, |sum, blob| {
        let [a, b, c, d, e, f, g, h, ..] = blob.id.0;
        sum.wrapping_add(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
    });
    (pack.blobs.len(), sum)
}

/// An index file that came while we have the repository for ourselves: somebody does not know of our lock. What he
/// relies on must not go.
fn refuse_intruder(
    repository: &Repository,
    id: &Id,
    file: &IndexFile,
    leave: &HashSet<Id>,
    unindexed: &HashSet<Id>,
) -> Result<()> {
    let doomed = |pack: &IndexedPack| leave.contains(&pack.id) || unindexed.contains(&pack.id);
    if file.packs.iter().any(doomed) {
        return Err(unlike(repository, format!("somebody wrote index/{id} meanwhile")));
    }
    Ok(())
}

/// Deletes objects, in bundles; before each, the lock must still be ours.
fn delete(
    repository: &Repository,
    what: &str,
    ids: &[Id],
    lock: &Lock,
    progress: &Progress,
    path: impl Fn(&Id) -> String + Sync,
) -> Result<()> {
    progress.phase(&format!("deleting {what}"));
    progress.expect_more(0, ids.len() as u64);
    for bundle in ids.chunks(DELETIONS * 16) {
        progress.check()?;
        lock.check()?;
        super::parallel::map(bundle, DELETIONS, |id| {
            repository.store().delete(&path(id))?;
            progress.done(0, 1);
            Ok(())
        })?;
    }
    Ok(())
}
