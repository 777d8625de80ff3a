//! An index made anew from the packs themselves; and the adoption of packs that an interrupted backup left.
//!
//! A pack ends with a sealed list of its blobs, so that a lost or damaged index is no loss. Packs are not read whole here and blobs are not
//! checked; verify does that.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::cache::Cache;
use super::index::{IndexFile, IndexedPack, Table};
use super::pack::{self, Header};
use super::reach::tells_damage;
use super::reindex::Reindex;
use super::repository::pack_path;
use super::{Access, EngineError, Id, Lock, Progress, Repository, Result};
use crate::store::Object;

/// Threads that read the ends of packs: they mostly wait for the store.
const THREADS: usize = 8;

/// What an index was made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RepairReport {
    /// Packs that are in the new index.
    pub packs: u64,
    /// Blobs in them.
    pub blobs: u64,
    /// Packs whose own list cannot be read and that an old index file described: they are indexed by that.
    pub salvaged: Vec<String>,
    /// Packs that cannot be read, with the reason. They are in no index and stay where they are.
    pub unreadable: Vec<(String, String)>,
    /// Index files that could not be read.
    pub damaged_index_files: Vec<String>,
    /// Index files that were written.
    pub new_index_files: u64,
    /// Index files that went.
    pub old_index_files: u64,
}

/// What was adopted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Adopted {
    /// Packs.
    pub packs: u64,
    /// Blobs in them.
    pub blobs: u64,
    /// The bytes of the packs.
    pub bytes: u64,
    #[serde(skip)]
    ids: Vec<Id>,
}

impl Adopted {
    /// Looks whether everything is still there. Asked before a snapshot relies on it: packs that no index named are what a prune
    /// deletes, one too that was asleep so long that its lock was ignored.
    ///
    /// # Errors
    /// [`EngineError::LockLost`].
    pub(super) fn confirm(&self, repository: &Repository) -> Result<()> {
        if self.ids.is_empty() {
            return Ok(());
        }
        let there: HashSet<Id> = list_packs(repository)?.iter().filter_map(name).collect();
        match self.ids.iter().find(|id| !there.contains(id)) {
            None => Ok(()),
            Some(gone) => Err(EngineError::LockLost {
                location: repository.location(),
                why: format!(
                    "{} was deleted meanwhile; `windlass repo repair` takes it out of the index",
                    pack_path(gone)
                ),
            }),
        }
    }
}

/// Makes the index anew from all packs. The old one goes after the new one is confirmed.
///
/// # Errors
/// [`EngineError::Locked`]; a store that does not answer. Damage is not an error but in the report.
pub fn rebuild_index(repository: &Repository, progress: &Progress) -> Result<RepairReport> {
    let _held = progress.governs();
    let lock = Lock::take(repository, Access::Exclusive)?;
    let mut report = RepairReport::default();
    progress.phase("listing the packs");
    let old = repository.list_files("index")?;
    let packs = list_packs(repository)?;
    progress.expect(0, packs.len() as u64);
    progress.phase("reading the packs' ends");
    // Held while a pack is added, and while an index file is written.
    let new = Mutex::new((Reindex::new(repository), 0, 0));
    let read = super::parallel::map(&packs, THREADS, |object| {
        progress.check()?;
        let (id, found) = read_end(repository, object)?;
        if let Ok(blobs) = &found {
            let mut new = new.lock().unwrap_or_else(PoisonError::into_inner);
            new.1 += 1;
            new.2 += blobs.len() as u64;
            new.0.add(IndexedPack {
                id,
                blobs: blobs.clone(),
            })?;
        }
        progress.done(0, 1);
        Ok(found.err().map(|why| (id, why)))
    })?;
    let (mut new, mut packs, mut blobs) = new.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut bad: HashMap<Id, String> = read.into_iter().flatten().collect();
    for id in &old {
        let file = match read_index(repository, id) {
            Ok(file) => file,
            Err(error) if tells_damage(&error) => {
                report.damaged_index_files.push(format!("index/{id}"));
                continue;
            }
            Err(error) => return Err(error),
        };
        for pack in file.packs {
            if bad.remove(&pack.id).is_some() {
                report.salvaged.push(pack_path(&pack.id));
                packs += 1;
                blobs += pack.blobs.len() as u64;
                new.add(pack)?;
            }
        }
    }
    report.unreadable = bad.into_iter().map(|(id, why)| (pack_path(&id), why)).collect();
    report.unreadable.sort();
    (report.packs, report.blobs) = (packs, blobs);
    let written = new.finish()?;
    report.new_index_files = written.len() as u64;
    progress.phase("removing the old index");
    for id in old.iter().filter(|id| !written.contains(id)) {
        lock.check()?;
        repository.store().delete(&format!("index/{id}"))?;
        report.old_index_files += 1;
    }
    repository.refresh()?;
    Ok(report)
}

/// Begins uploads. Where this host knows of earlier ones that did not come to their end, or where it is the `first` time, what those
/// left is adopted; other times would pay a listing of all packs for nothing. [`end_uploads`] follows when an index names everything.
pub(super) fn begin_uploads(
    repository: &Repository,
    lock: &Lock,
    first: bool,
    progress: &Progress,
) -> Result<Adopted> {
    let interrupted = repository.cache().is_some_and(Cache::begin_uploads);
    if !(first || interrupted) {
        return Ok(Adopted::default());
    }
    if lock.follows_sleeper() {
        log::warn!(
            "{}: a prune was begun here and may be asleep: what no index names is left to it",
            repository.location()
        );
        return Ok(Adopted::default());
    }
    adopt(repository, lock, progress)
}

/// The same before uploads that are taken back when they fail, as those of a stored snapshot are: what belongs to somebody at work must
/// not be adopted there, and so it is done while nobody is. Where somebody is, it is left for another time.
pub fn begin_uploads_alone(repository: &Repository, progress: &Progress) -> Result<Adopted> {
    if !repository.cache().is_some_and(Cache::begin_uploads) {
        return Ok(Adopted::default());
    }
    let lock = match Lock::take(repository, Access::Exclusive) {
        Err(EngineError::Locked { .. }) => return Ok(Adopted::default()),
        lock => lock?,
    };
    adopt(repository, &lock, progress)
}

/// All that was uploaded is in an index, or was taken back: the next uploads need not look for more.
pub fn end_uploads(repository: &Repository) {
    if let Some(cache) = repository.cache() {
        cache.end_uploads();
    }
}

/// Puts packs that no index names into one, so that a backup which was interrupted, run again, uploads only what is
/// missing. The caller holds a lock. Where nothing is to be adopted, it costs one listing.
///
/// Packs that another host is uploading at this moment may be adopted too; their being in two index files does no
/// harm. One whose list cannot be read is left to prune.
pub fn adopt(repository: &Repository, lock: &Lock, progress: &Progress) -> Result<Adopted> {
    repository.refresh()?;
    let index = repository.index()?;
    let objects = list_packs(repository)?;
    // The listing is younger than the index that was loaded: what a backup indexed in between is known after another look.
    let mut orphans = unknown(&objects, &index.tables());
    if !orphans.is_empty() {
        repository.refresh()?;
        orphans = unknown(&objects, &index.tables());
    }
    let mut adopted = Adopted::default();
    if orphans.is_empty() {
        return Ok(adopted);
    }
    progress.phase("taking over what an interrupted backup uploaded");
    let mut packs = Vec::new();
    for (object, (id, found)) in orphans
        .iter()
        .zip(super::parallel::map(&orphans, THREADS, |object| {
            read_end(repository, object)
        })?)
    {
        match found {
            Ok(blobs) => {
                adopted.packs += 1;
                adopted.blobs += blobs.len() as u64;
                adopted.bytes += object.size;
                adopted.ids.push(id);
                packs.push(IndexedPack { id, blobs });
            }
            Err(why) => log::warn!("{}: {} is left alone: {why}", repository.location(), object.path),
        }
    }
    lock.check()?;
    let mut new = Reindex::new(repository);
    packs.into_iter().try_for_each(|pack| new.add(pack))?;
    new.finish()?;
    repository.refresh()?;
    Ok(adopted)
}

fn unknown(objects: &[Object], tables: &[std::sync::Arc<Table>]) -> Vec<Object> {
    let known: HashSet<Id> = tables
        .iter()
        .flat_map(|table| table.packs().iter().copied())
        .collect();
    let is_known = |object: &&Object| name(object).is_none_or(|id| known.contains(&id));
    objects
        .iter()
        .filter(|object| !is_known(object))
        .cloned()
        .collect()
}

fn read_index(repository: &Repository, id: &Id) -> Result<IndexFile> {
    let json = repository.read_file("index", id)?;
    IndexFile::from_json(&json).map_err(|why| repository.corrupt(format!("index/{id}"), why))
}

fn list_packs(repository: &Repository) -> Result<Vec<Object>> {
    let mut objects = repository.store().list("data")?;
    objects.retain(|object| name(object).is_some_and(|id| pack_path(&id) == object.path));
    Ok(objects)
}

fn name(object: &Object) -> Option<Id> {
    Id::parse(object.path.rsplit('/').next()?)
}

type Listed = std::result::Result<Vec<pack::PackedBlob>, String>;

/// A pack's blobs as its own end lists them, or why that cannot be.
fn read_end(repository: &Repository, object: &Object) -> Result<(Id, Listed)> {
    let id = name(object).ok_or_else(|| EngineError::Invalid(format!("{} is no pack", object.path)))?;
    let mut length = pack::likely_header(object.size);
    loop {
        let end = repository.read_pack(&id, object.size - length, length);
        let end = match end {
            Ok(end) => end,
            Err(error) if tells_damage(&error) => return Ok((id, Err(error.to_string()))),
            Err(error) => return Err(error),
        };
        match pack::read_header(repository.key(), object.size, &end) {
            Ok(Header::Whole(blobs)) => return Ok((id, Ok(blobs))),
            Ok(Header::Needs(needed)) if needed > length => length = needed,
            Ok(Header::Needs(_)) => return Ok((id, Err("its header cannot be found".to_owned()))),
            Err(why) => return Ok((id, Err(why.to_owned()))),
        }
    }
}
