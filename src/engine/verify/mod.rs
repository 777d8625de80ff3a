//! Verify: whether every backup can be restored; of the structure alone, of a random share of the packs, or to the last byte.
//!
//! It does not stop at the first problem but lists all, with the backups that each affects. It trusts nothing that it keeps
//! on this host: index files, snapshots and trees are read from the store. Reading alone: it changes nothing in the
//! repository but for its lock.

mod affected;
mod packs;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde::Serialize;

use super::holdings::Holdings;
use super::index::{self, Index, IndexFile, Location, MOST_TABLES, Table};
use super::keys::KeyFile;
use super::reach::{Reach, Walker, tells_damage};
use super::repository::{PACK_LIMIT, pack_path};
use super::{Access, Backup, EngineError, Id, Lock, Progress, Repository, Result, lock};
use affected::Suspects;

/// Problems that are listed one by one; more are counted.
const MOST_PROBLEMS: usize = 1000;

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// Keys, index, snapshots and all trees; of packs only that they are there and have the right size.
    Structure,
    /// Also so many percent of the packs, at least one, chosen at random.
    Sample(u8),
    /// Also every byte of every pack.
    Everything,
}

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Which object, e.g. `data/3f/3fa9…`, `the tree 0123…`.
    pub object: String,
    /// What is wrong with it.
    pub why: String,
    /// The backups that cannot be restored whole because of it; none for what no backup uses.
    pub backups: Vec<Id>,
}

/// What was looked at, and what is wrong.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyReport {
    /// How much was read.
    pub depth: Depth,
    /// What the choice of a sample was made by, so that it can be told apart from the one before.
    pub seed: u64,
    /// Backups that were verified.
    pub backups: u64,
    /// Directories that they name.
    pub trees: u64,
    /// Blobs of data that they name.
    pub data_blobs: u64,
    /// Packs that are there.
    pub packs: u64,
    /// Packs that were read to the last byte.
    pub packs_read: u64,
    /// Bytes of them.
    pub bytes_read: u64,
    /// Packs in no index: of an interrupted backup, or of one that is running. No problem; prune deletes them.
    pub unindexed_packs: u64,
    /// Their bytes.
    pub unindexed_bytes: u64,
    /// Objects in `data/` that are no packs, as far as anybody can tell.
    pub foreign: Vec<String>,
    /// All that is wrong, up to a thousand.
    pub problems: Vec<Problem>,
    /// How many problems there are.
    pub problem_count: u64,
}

/// Verifies the repository, or one backup in it.
///
/// # Errors
/// [`EngineError::Locked`]; a store that does not answer; a cancelled job. Damage is not an error but in the report.
pub fn verify(
    repository: &Repository,
    depth: Depth,
    only: Option<&Id>,
    progress: &Arc<Progress>,
) -> Result<VerifyReport> {
    let _held = progress.governs();
    let mut findings = Findings::default();
    let unreadable = lock::unreadable(repository)?;
    for id in &unreadable {
        findings.add(
            format!("locks/{id}"),
            "it cannot be read, so that nobody can tell whether somebody works in the repository; if not: `windlass repo unlock --all`",
        );
    }
    // A lock that cannot be read forbids every other; looking on does no harm then.
    let lock = if unreadable.is_empty() {
        Some(Lock::take(repository, Access::Shared)?)
    } else {
        None
    };
    let seed = super::now().as_nanosecond() as u64;
    let report = Verification {
        repository,
        progress,
        depth,
        seed,
    }
    .run(only, findings)?;
    // Had somebody pruned meanwhile, what is said to be missing might never have been.
    lock.map_or(Ok(()), |lock| lock.check())?;
    Ok(report)
}

struct Verification<'a> {
    repository: &'a Repository,
    progress: &'a Arc<Progress>,
    depth: Depth,
    seed: u64,
}

impl Verification<'_> {
    fn run(&self, only: Option<&Id>, mut findings: Findings) -> Result<VerifyReport> {
        self.progress.phase("reading the backups");
        self.keys(&mut findings)?;
        // Snapshots before the index before the packs: what somebody adds meanwhile is never taken for missing.
        let backups = self.backups(only, &mut findings)?;
        let table = self.index(&mut findings)?;
        let holdings = Holdings::gather(self.repository, &table)?;
        self.sizes(&holdings, &mut findings);
        self.progress.phase("reading the directories");
        let trees = FreshTrees::new(self.repository);
        let walker = Walker {
            repository: self.repository,
            table: &table,
            read: &|location| trees.read(location),
            progress: self.progress,
        };
        let reach = self.walk(&walker, &backups, &mut findings)?;
        let read = self.packs(&table, &holdings, only.map(|_| &reach), &mut findings)?;
        if findings.suspects.is_empty() {
            return Ok(self.report(&backups, &holdings, &reach, read, findings));
        }
        self.progress
            .phase("looking for the backups that the damage affects");
        let hit = affected::affected(&walker, &backups, &findings.suspects)?;
        for (problem, mask) in &mut findings.problems {
            let ids = hit
                .iter()
                .filter(|(_, hits)| hits & *mask != 0)
                .map(|(id, _)| *id);
            problem.backups.extend(ids);
        }
        Ok(self.report(&backups, &holdings, &reach, read, findings))
    }

    fn report(
        &self,
        backups: &[Backup],
        holdings: &Holdings,
        reach: &Reach,
        (packs_read, bytes_read): (u64, u64),
        findings: Findings,
    ) -> VerifyReport {
        let unindexed = holdings.packs.values().filter(|pack| pack.entries == 0);
        VerifyReport {
            depth: self.depth,
            seed: self.seed,
            backups: backups.len() as u64,
            trees: reach.trees,
            data_blobs: reach.data,
            packs: holdings.packs.values().filter(|pack| pack.size.is_some()).count() as u64,
            packs_read,
            bytes_read,
            unindexed_packs: unindexed.clone().count() as u64,
            unindexed_bytes: unindexed.filter_map(|pack| pack.size).sum(),
            foreign: holdings.foreign.clone(),
            problems: findings
                .problems
                .into_iter()
                .map(|(problem, _)| problem)
                .collect(),
            problem_count: findings.count,
        }
    }

    /// A damaged key locks out whoever has its password alone.
    fn keys(&self, findings: &mut Findings) -> Result<()> {
        let store = self.repository.store();
        if let Err(error) = self.repository.reread_config() {
            findings.take(error)?;
        }
        let objects = store.list("keys")?;
        if objects.is_empty() {
            findings.add(
                "keys",
                "there is none, so that nobody can open the repository ever again",
            );
        }
        for object in objects {
            let name = object.path.trim_start_matches("keys/");
            let Some(id) = Id::parse(name) else {
                continue;
            };
            let bytes = match store.get(&object.path, KeyFile::LIMIT) {
                Ok(bytes) => bytes,
                Err(error) => {
                    findings.take(error.into())?;
                    continue;
                }
            };
            if Id::of(&bytes) != id {
                findings.add(object.path, "its bytes are not those that it is named after");
            } else if let Err(error) = serde_json::from_slice::<KeyFile>(&bytes) {
                findings.add(object.path, &format!("it is no key: {error}"));
            }
        }
        Ok(())
    }

    fn backups(&self, only: Option<&Id>, findings: &mut Findings) -> Result<Vec<Backup>> {
        let mut backups = Vec::new();
        let ids = match only {
            Some(id) => vec![*id],
            None => self.repository.list_files("snapshots")?,
        };
        let read = super::parallel::map(&ids, 8, |id| {
            let read = self.repository.read_file("snapshots", id).and_then(|json| {
                serde_json::from_slice(&json).map_err(|error| {
                    self.repository
                        .corrupt(format!("snapshots/{id}"), error.to_string())
                })
            });
            sort_out(read)
        })?;
        for (id, read) in ids.into_iter().zip(read) {
            match read {
                Ok(record) => backups.push(Backup { id, record }),
                Err(error) => {
                    findings.take(error)?;
                    if let Some((problem, _)) = findings.problems.last_mut() {
                        problem.backups.push(id);
                    }
                }
            }
        }
        Ok(backups)
    }

    /// What the index files that can be read say.
    fn index(&self, findings: &mut Findings) -> Result<Arc<Table>> {
        self.progress.phase("reading the index");
        let ids = self.repository.list_files("index")?;
        let mut tables = Vec::new();
        // Some at a time: what was read goes into a file of the cache before more comes.
        for some in ids.chunks(MOST_TABLES / 2) {
            let read = super::parallel::map(some, 4, |id| {
                self.progress.check()?;
                sort_out(self.table(id))
            })?;
            for table in read {
                match table {
                    Ok(table) => tables.push(table),
                    Err(error) => findings.take(error)?,
                }
            }
            tables = index::compact(tables, self.repository.cache())?;
        }
        let index = Index::default();
        index.replace(tables, self.repository.cache())?;
        index.whole(self.repository.cache())
    }

    /// The table of an index file, read from the store whatever the cache has.
    fn table(&self, id: &Id) -> Result<Arc<Table>> {
        let json = self.repository.read_file("index", id)?;
        let file =
            IndexFile::from_json(&json).map_err(|why| self.repository.corrupt(format!("index/{id}"), why))?;
        drop(json);
        Ok(Arc::new(Table::new(*id, &file.packs)))
    }

    /// Every pack that the index names must be there, with the size that its blobs add up to.
    fn sizes(&self, holdings: &Holdings, findings: &mut Findings) {
        let mut packs: Vec<_> = holdings
            .packs
            .iter()
            .filter(|(_, pack)| pack.entries > 0)
            .collect();
        packs.sort_unstable_by_key(|(id, _)| **id);
        for (id, pack) in packs {
            let why = match pack.size {
                None => "it is missing".to_owned(),
                Some(size) if size != pack.expected() => {
                    format!("it has {size} bytes, and the index says {}", pack.expected())
                }
                Some(_) => continue,
            };
            let mask = findings.add(pack_path(id), &why);
            findings.suspects.pack(id, mask);
        }
    }

    fn walk(&self, walker: &Walker<'_>, backups: &[Backup], findings: &mut Findings) -> Result<Reach> {
        let faults = Mutex::new(Vec::new());
        let roots = backups.iter().map(|backup| backup.record.tree);
        let reach = walker.walk(roots, &|fault| {
            let mut faults = faults.lock().unwrap_or_else(PoisonError::into_inner);
            // Of endless faults, none but the first are worth their memory.
            if faults.len() < 100 * MOST_PROBLEMS {
                faults.push(fault);
            }
            Ok(())
        })?;
        let mut faults = faults.into_inner().unwrap_or_else(PoisonError::into_inner);
        faults.sort_by_key(|fault| fault.tree);
        for fault in faults {
            let (mut object, mut why) = describe(fault.error);
            if object.is_empty() {
                object = format!("the tree {}", fault.tree);
                why = format!("it names what is not there: {why}");
            }
            let mask = findings.add(object, &why);
            findings.suspects.tree(&fault.tree, mask);
        }
        Ok(reach)
    }

    /// Reads packs to the last byte, as the depth says; says how many, and their bytes.
    fn packs(
        &self,
        table: &Table,
        holdings: &Holdings,
        only: Option<&Reach>,
        findings: &mut Findings,
    ) -> Result<(u64, u64)> {
        let percent = match self.depth {
            Depth::Structure => return Ok((0, 0)),
            Depth::Sample(percent) => percent.min(100),
            Depth::Everything => 100,
        };
        self.progress.phase("reading the packs");
        let needed = only.map(|reach| packs_of(table, reach)).transpose()?;
        let mut packs: Vec<(Id, u64, u64)> = holdings
            .packs
            .iter()
            .filter(|(id, _)| needed.as_ref().is_none_or(|needed| needed.contains(id)))
            .filter(|(_, pack)| pack.entries > 0)
            .filter_map(|(id, pack)| Some((*id, pack.entries, pack.size?)))
            .collect();
        let seed = self.seed.to_le_bytes();
        packs.sort_by_cached_key(|(id, ..)| Id::of(&[&seed[..], &id.0].concat()));
        packs.truncate((packs.len() * usize::from(percent)).div_ceil(100));
        let bytes: u64 = packs.iter().map(|(.., size)| size).sum();
        self.progress.expect_more(bytes, packs.len() as u64);
        for damage in packs::read(self.repository, table, &packs, self.progress)? {
            let mask = findings.add(pack_path(&damage.pack), &damage.why);
            match damage.blobs {
                Some(blobs) => blobs
                    .iter()
                    .for_each(|(kind, id)| findings.suspects.blob(*kind, id, mask)),
                None => findings.suspects.pack(&damage.pack, mask),
            }
        }
        Ok((packs.len() as u64, bytes))
    }
}

/// The packs that have what is used.
fn packs_of(table: &Table, reach: &Reach) -> Result<HashSet<Id>> {
    let mut packs = HashSet::new();
    table.for_each_blob(|first, places| {
        if reach.used.get(first) {
            packs.extend(places.iter().map(|place| place.pack));
        }
        Ok(())
    })?;
    Ok(packs)
}

/// Damage is told apart from a failure to look.
fn sort_out<T>(result: Result<T>) -> Result<std::result::Result<T, EngineError>> {
    match result {
        Err(error) if !tells_damage(&error) => Err(error),
        other => Ok(other),
    }
}

/// What an error is about, and what it says. Blobs that are missing are no object of their own.
fn describe(error: EngineError) -> (String, String) {
    use crate::store::StoreError;
    match error {
        EngineError::Corrupt { object, why, .. } => (object, why),
        EngineError::Store(StoreError::NotFound { path, .. }) => (path, "it is missing".to_owned()),
        EngineError::Store(StoreError::TooShort { path, why, .. }) => {
            (path, format!("it is too short: {why}"))
        }
        EngineError::Store(StoreError::TooLarge { path, size, .. }) => {
            (path, format!("it has {size} bytes, which cannot be"))
        }
        EngineError::MissingBlob { what, id, .. } => (
            String::new(),
            format!("the {what} {id} is in no pack that the index knows"),
        ),
        other => (String::new(), other.to_string()),
    }
}

/// What is wrong, so far.
#[derive(Default)]
struct Findings {
    /// With the bit that each has in [`Suspects`].
    problems: Vec<(Problem, u64)>,
    count: u64,
    seen: BTreeSet<(String, String)>,
    suspects: Suspects,
}

impl Findings {
    /// Adds a problem; says its bit. There are 64: what comes late shares the last, and then affects what any of them does.
    fn add(&mut self, object: impl Into<String>, why: &str) -> u64 {
        let object = object.into();
        let bit = |number: usize| 1 << number.min(63);
        let same = |(problem, _): &(Problem, u64)| problem.object == object && problem.why == why;
        if self.seen.contains(&(object.clone(), why.to_owned())) {
            return self.problems.iter().position(same).map_or(bit(63), bit);
        }
        self.count += 1;
        if self.problems.len() >= MOST_PROBLEMS {
            return bit(63);
        }
        self.seen.insert((object.clone(), why.to_owned()));
        let mask = bit(self.problems.len());
        let problem = Problem {
            object,
            why: why.to_owned(),
            backups: Vec::new(),
        };
        self.problems.push((problem, mask));
        mask
    }

    /// Adds what an error says, if it tells of damage.
    fn take(&mut self, error: EngineError) -> Result<()> {
        if !tells_damage(&error) {
            return Err(error);
        }
        let (object, why) = describe(error);
        self.add(object, &why);
        Ok(())
    }
}

/// Trees as the store has them. With a cache, each pack of trees is fetched once and replaces what the cache has of it.
struct FreshTrees<'a> {
    repository: &'a Repository,
    /// Held for a look-up; the fetching is waited for outside.
    fetched: Mutex<HashMap<Id, Arc<OnceLock<()>>>>,
}

impl<'a> FreshTrees<'a> {
    fn new(repository: &'a Repository) -> Self {
        Self {
            repository,
            fetched: Mutex::default(),
        }
    }

    fn read(&self, location: &Location) -> Result<Vec<u8>> {
        let (offset, length) = (u64::from(location.blob.offset), u64::from(location.blob.length));
        if let Some(cache) = self.repository.cache() {
            let once = self
                .fetched
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(location.pack)
                .or_default()
                .clone();
            once.get_or_init(|| {
                cache.drop_pack(&location.pack);
                match self
                    .repository
                    .store()
                    .get(&pack_path(&location.pack), PACK_LIMIT)
                {
                    Ok(pack) => cache.put_pack(&location.pack, &pack),
                    // Whoever reads the tree itself hears why.
                    Err(error) => log::debug!("{error}"),
                }
            });
            if length <= PACK_LIMIT
                && let Some(sealed) = cache.pack_range(&location.pack, offset, length as usize)
            {
                return self.repository.unseal(location, &sealed);
            }
        }
        let sealed = self.repository.read_pack(&location.pack, offset, length)?;
        self.repository.unseal(location, &sealed)
    }
}
