//! A repository: opened with a password, its files and blobs read and checked.
//!
//! `config` says which it is, `keys/` hold its master key under passwords, `data/` packs, `index/` where blobs are, `snapshots/`
//! the backups, `locks/` who works in it. Every file but `config` is named by the SHA-256 of its bytes and is checked
//! against it when it is read.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::cache::Cache;
use super::crypto::Key;
use super::index::{self, Index, IndexFile, Location, Table};
use super::keys::{KeyFile, Password};
use super::pack::BlobKind;
use super::{Backup, EngineError, Id, Result, SnapshotFile, seal};
use crate::store::{Store, StoreError};

/// The largest index, snapshot, lock or config that is read, as stored, in bytes.
const FILE_LIMIT: u64 = 256 << 20;

/// The largest pack that is fetched whole, in bytes; restic allows 128 MiB and a little over.
pub(super) const PACK_LIMIT: u64 = 256 << 20;

/// The only version that is written and read. Version 1 has no compression, and restic upgrades it.
const VERSION: u32 = 2;

/// An open repository; a handle that can be cloned and sent anywhere.
#[derive(Clone)]
pub struct Repository(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    key: Key,
    /// Replaced when the owner changes.
    config: RwLock<Config>,
    cache: Option<Cache>,
    index: Index,
    /// Guards the loading of the index, so that two threads do not do it twice.
    loading: Mutex<bool>,
}

/// `config`, as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// The format's version.
    pub version: u32,
    /// The repository's identity.
    pub id: Id,
    /// The polynomial of the content-defined chunks, in hexadecimal.
    pub chunker_polynomial: String,
    /// Whose backups it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windlass: Option<Owner>,
    /// What others wrote.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

/// The volume that a repository belongs to. Another of the same name is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The volume's id.
    pub volume: Uuid,
    /// Its name.
    pub name: String,
    /// The host that it was on.
    pub host: String,
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "volume {} (id {}) of host {}",
            self.name, self.volume, self.host
        )
    }
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Repository").field(&self.location()).finish()
    }
}

/// Where a blob is opened and decompressed.
#[derive(Debug, Default)]
pub struct Room {
    opened: Vec<u8>,
    plain: Vec<u8>,
}

impl Repository {
    /// Makes a repository where there is none.
    ///
    /// The key is written first, the config last, by a put that only one can win: a crash in between leaves keys to
    /// nothing, which the next attempt ignores.
    ///
    /// # Errors
    /// [`EngineError::RepositoryExists`].
    pub fn create(
        store: Arc<dyn Store>,
        password: &Password,
        cache: Option<&Path>,
        owner: Option<Owner>,
    ) -> Result<Self> {
        let location = store.location();
        if store.stat("config")?.is_some() {
            return Err(EngineError::RepositoryExists { location });
        }
        let key = Key::random();
        let key_path = write_key(
            &*store,
            &KeyFile::new(&key, password, &super::hostname(), "windlass"),
        )?;
        let mut id = [0; 32];
        super::crypto::random(&mut id);
        let config = Config {
            version: VERSION,
            id: Id(id),
            chunker_polynomial: format!("{:x}", super::chunker::random_polynomial()),
            windlass: owner,
            other: serde_json::Map::new(),
        };
        match store.put_new("config", key.seal(&config.to_json()).into()) {
            Ok(()) => Ok(Self::assemble(store, key, config, cache)),
            Err(error) => {
                let _ = store.delete(&key_path);
                match error {
                    StoreError::AlreadyExists { .. } => Err(EngineError::RepositoryExists { location }),
                    other => Err(other.into()),
                }
            }
        }
    }

    /// Opens a repository: three requests, and one more per key that is not the password's.
    ///
    /// # Errors
    /// [`EngineError::NoRepository`], [`EngineError::WrongPassword`].
    pub fn open(store: Arc<dyn Store>, password: &Password, cache: Option<&Path>) -> Result<Self> {
        let location = store.location();
        let sealed = match store.get("config", FILE_LIMIT) {
            Ok(sealed) => sealed,
            Err(StoreError::NotFound { .. }) => {
                return Err(EngineError::NoRepository {
                    location,
                    remedy: String::new(),
                });
            }
            Err(error) => return Err(error.into()),
        };
        let (key, config) = unlock(&*store, password, &sealed)?;
        let config: Config = serde_json::from_slice(&config).map_err(|error| EngineError::Corrupt {
            location: location.clone(),
            object: "config".to_owned(),
            why: error.to_string(),
        })?;
        if config.version != VERSION {
            let remedy = if config.version == 1 {
                "; `restic migrate upgrade_repo_v2` brings it to version 2"
            } else {
                ""
            };
            let why = format!(
                "the repository has format version {}, and only {VERSION} is known{remedy}",
                config.version
            );
            return Err(EngineError::Unsupported { location, why });
        }
        Ok(Self::assemble(store, key, config, cache))
    }

    /// What a new process would open, without the second that deriving its key takes.
    #[cfg(test)]
    pub(super) fn reopened(&self, store: Arc<dyn Store>) -> Result<Self> {
        self.reopened_with(store, None)
    }

    /// The same, with a cache.
    #[cfg(test)]
    pub(super) fn reopened_with(&self, store: Arc<dyn Store>, cache: Option<&Path>) -> Result<Self> {
        let sealed = store.get("config", FILE_LIMIT)?;
        let plain = self.0.key.open(&sealed);
        let config = plain.and_then(|plain| serde_json::from_slice(&plain).ok());
        let config = config.ok_or_else(|| self.corrupt("config", "no key opens it"))?;
        Ok(Self::assemble(store, self.0.key.clone(), config, cache))
    }

    fn assemble(store: Arc<dyn Store>, key: Key, config: Config, cache: Option<&Path>) -> Self {
        let cache = cache.and_then(|root| Cache::open(root, &config.id));
        Self(Arc::new(Inner {
            store,
            key,
            config: RwLock::new(config),
            cache,
            index: Index::default(),
            loading: Mutex::new(false),
        }))
    }

    /// Where it is, for messages: a URL without secrets.
    pub fn location(&self) -> String {
        self.0.store.location()
    }

    /// The storage.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    /// The config.
    pub fn config(&self) -> Config {
        self.0
            .config
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whose backups it holds; `None` where another program made it.
    pub fn owner(&self) -> Option<Owner> {
        self.config().windlass
    }

    /// Reads the config once more: whether it is still what was opened.
    pub(super) fn reread_config(&self) -> Result<()> {
        let sealed = self.0.store.get("config", FILE_LIMIT)?;
        let plain = self.0.key.open(&sealed);
        let known = plain.and_then(|plain| serde_json::from_slice::<Config>(&plain).ok());
        match known {
            Some(config) if config.id == self.config().id => Ok(()),
            Some(_) => Err(self.corrupt("config", "it is that of another repository")),
            None => Err(self.corrupt("config", "the key that opened it does so no longer")),
        }
    }

    /// Gives the repository to another volume: the one that was restored from it, say.
    pub fn set_owner(&self, owner: Owner) -> Result<()> {
        let mut config = self.config();
        config.windlass = Some(owner);
        self.0
            .store
            .put("config", self.0.key.seal(&config.to_json()).into())?;
        *self.0.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// # Errors
    /// [`EngineError::Foreign`] where the repository belongs to another volume. One without an owner is anybody's.
    pub fn check_owner(&self, volume: Uuid) -> Result<()> {
        match self.owner() {
            Some(owner) if owner.volume != volume => Err(EngineError::Foreign {
                location: self.location(),
                owner: owner.to_string(),
                remedy: "choose another destination, or, if that volume is no more, give the repository to this one with --take-over".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// The master key, for rooms of the engine.
    pub(super) fn key(&self) -> &Key {
        &self.0.key
    }

    /// The cache, where there is one.
    pub(super) fn cache(&self) -> Option<&Cache> {
        self.0.cache.as_ref()
    }

    /// The index as it was at the last [`Repository::refresh`], which the first use does.
    pub fn index(&self) -> Result<&Index> {
        let mut loaded = self.0.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if !*loaded {
            self.load_index()?;
            *loaded = true;
        }
        Ok(&self.0.index)
    }

    /// Learns what others added to the index or took from it. One listing, and a request per index file that is new.
    pub fn refresh(&self) -> Result<()> {
        let mut loaded = self.0.loading.lock().unwrap_or_else(PoisonError::into_inner);
        self.load_index()?;
        *loaded = true;
        Ok(())
    }

    fn load_index(&self) -> Result<()> {
        let wanted: BTreeSet<Id> = self.list_files("index")?.into_iter().collect();
        let known = self.0.index.covered();
        if known == wanted && !wanted.is_empty() {
            return Ok(());
        }
        let mut have: Vec<Arc<Table>> = self.0.index.tables().to_vec();
        if have.is_empty() {
            have.extend(
                self.cache()
                    .map(Cache::tables)
                    .unwrap_or_default()
                    .into_iter()
                    .map(Arc::new),
            );
        }
        // A table of several index files is of use only while all of them are there.
        let mut covered = BTreeSet::new();
        let mut tables = Vec::new();
        for table in have {
            let covers = table.covers();
            if covers.iter().all(|id| wanted.contains(id)) && !covers.iter().all(|id| covered.contains(id)) {
                covered.extend(covers.iter().copied());
                tables.push(table);
            }
        }
        let missing: Vec<Id> = wanted.difference(&covered).copied().collect();
        // Some at a time: all tables of a large index at once would take too much memory.
        for some in missing.chunks(index::MOST_TABLES) {
            let fetched = super::parallel::map(some, super::parallel::processors().max(4), |id| {
                self.fetch_index(id)
            })?;
            tables.extend(fetched.into_iter().map(Arc::new));
            tables = index::compact(tables, self.cache())?;
        }
        self.0.index.replace(tables, self.cache())?;
        if let Some(cache) = self.cache() {
            let tables = self.0.index.tables();
            let names: BTreeSet<String> = tables.iter().map(|table| table.name().to_string()).collect();
            cache.keep_only("index", |name| names.contains(name));
        }
        Ok(())
    }

    fn fetch_index(&self, id: &Id) -> Result<Table> {
        let json = self.read_file("index", id)?;
        let file = IndexFile::from_json(&json).map_err(|why| self.corrupt(format!("index/{id}"), why))?;
        drop(json);
        let table = Table::new(*id, &file.packs);
        self.cache_table(id, &table);
        Ok(table)
    }

    /// Keeps the table of an index file.
    pub(super) fn cache_table(&self, id: &Id, table: &Table) {
        if let Some(cache) = self.cache() {
            cache.write_table(id, |file| table.write(file));
        }
    }

    /// The names of the files in a directory, in order. What is not named by an id is not ours, and is left alone.
    pub fn list_files(&self, directory: &str) -> Result<Vec<Id>> {
        let objects = self.0.store.list(directory)?;
        Ok(objects
            .iter()
            .filter_map(|object| Id::parse(object.path.rsplit('/').next()?))
            .collect())
    }

    /// Reads a file of JSON: checked against its name, opened, decompressed.
    pub fn read_file(&self, directory: &str, id: &Id) -> Result<Vec<u8>> {
        let stored = self.0.store.get(&format!("{directory}/{id}"), FILE_LIMIT)?;
        self.open_file(directory, id, &stored)
    }

    fn open_file(&self, directory: &str, id: &Id, stored: &[u8]) -> Result<Vec<u8>> {
        let object = || format!("{directory}/{id}");
        if Id::of(stored) != *id {
            return Err(self.corrupt(object(), "its bytes are not those that it is named after"));
        }
        seal::open_file(&self.0.key, stored).map_err(|why| self.corrupt(object(), why))
    }

    /// Writes a file of JSON under the name that its bytes have.
    pub fn write_file(&self, directory: &str, json: &[u8]) -> Result<Id> {
        let stored = seal::seal_file(&self.0.key, json);
        let id = Id::of(&stored);
        if directory == "snapshots"
            && let Some(cache) = self.cache()
        {
            cache.put_snapshot(&id, &stored);
        }
        self.0.store.put(&format!("{directory}/{id}"), stored.into())?;
        Ok(id)
    }

    /// The same, read back: for what others are deleted in favour of.
    pub(super) fn write_file_checked(&self, directory: &str, json: &[u8]) -> Result<Id> {
        let stored = seal::seal_file(&self.0.key, json);
        let id = Id::of(&stored);
        self.put_checked(&format!("{directory}/{id}"), stored.into())?;
        Ok(id)
    }

    /// Writes an object and reads it back. One that reads otherwise is taken away again, as nobody relies on it yet.
    pub(super) fn put_checked(&self, path: &str, bytes: Bytes) -> Result<()> {
        let store = &self.0.store;
        store.put(path, bytes.clone())?;
        match store.get(path, bytes.len() as u64) {
            Ok(back) if back == bytes => Ok(()),
            Ok(_) | Err(StoreError::TooLarge { .. } | StoreError::NotFound { .. }) => {
                store.delete(path)?;
                Err(self.corrupt(
                    path,
                    "it was just written, and reads otherwise; nothing was deleted",
                ))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// All backups, the oldest first: one listing, and a request for each that is not cached.
    pub fn backups(&self) -> Result<Vec<Backup>> {
        let ids = self.list_files("snapshots")?;
        if let Some(cache) = self.cache() {
            let names: BTreeSet<String> = ids.iter().map(Id::to_string).collect();
            cache.keep_only("snapshots", |name| names.contains(name));
        }
        let mut backups = super::parallel::map(&ids, 4, |id| self.backup(id))?;
        backups.sort_by_key(|backup| (backup.record.time, backup.id));
        Ok(backups)
    }

    /// The backup with that id.
    pub fn backup(&self, id: &Id) -> Result<Backup> {
        let stored = match self.cache().and_then(|cache| cache.snapshot(id)) {
            Some(stored) => stored.into(),
            None => {
                let stored = self.0.store.get(&format!("snapshots/{id}"), FILE_LIMIT)?;
                if let Some(cache) = self.cache()
                    && Id::of(&stored) == *id
                {
                    cache.put_snapshot(id, &stored);
                }
                stored
            }
        };
        let json = self.open_file("snapshots", id, &stored)?;
        let record: SnapshotFile = serde_json::from_slice(&json)
            .map_err(|error| self.corrupt(format!("snapshots/{id}"), error.to_string()))?;
        Ok(Backup { id: *id, record })
    }

    /// The backup whose id begins with these digits; `latest` is the newest.
    ///
    /// # Errors
    /// [`EngineError::NoBackup`], [`EngineError::Ambiguous`].
    pub fn find(&self, digits: &str) -> Result<Backup> {
        let none = |remedy: &str| EngineError::NoBackup {
            location: self.location(),
            id: digits.to_owned(),
            remedy: remedy.to_owned(),
        };
        if digits == "latest" {
            return self
                .backups()?
                .pop()
                .ok_or_else(|| none(": there are no backups at all"));
        }
        let found: Vec<Id> = self
            .list_files("snapshots")?
            .into_iter()
            .filter(|id| id.starts_with(digits))
            .collect();
        match found.as_slice() {
            [id] if !digits.is_empty() => self.backup(id),
            [] => Err(none("")),
            several => Err(EngineError::Ambiguous {
                location: self.location(),
                id: digits.to_owned(),
                candidates: several.iter().map(Id::short).collect::<Vec<_>>().join(", "),
            }),
        }
    }

    /// Removes backups from the list. What they alone used goes with the next prune.
    pub fn forget(&self, backups: &[Id]) -> Result<()> {
        self.forget_under(&super::Lock::take(self, super::Access::Shared)?, backups)
    }

    /// The same, for a caller that has a lock of either kind: an exclusive one would keep us out too.
    pub fn forget_under(&self, lock: &super::Lock, backups: &[Id]) -> Result<()> {
        for id in backups {
            lock.check()?;
            self.0.store.delete(&format!("snapshots/{id}"))?;
        }
        Ok(())
    }

    /// Where a blob is.
    ///
    /// # Errors
    /// [`EngineError::MissingBlob`].
    pub fn locate(&self, kind: BlobKind, id: &Id) -> Result<Location> {
        self.index()?
            .find(kind, id)?
            .ok_or_else(|| EngineError::MissingBlob {
                location: self.location(),
                what: kind.word(),
                id: *id,
            })
    }

    /// A blob, checked against its id. Trees come from cached packs.
    pub fn blob(&self, kind: BlobKind, id: &Id) -> Result<Vec<u8>> {
        let location = self.locate(kind, id)?;
        if kind == BlobKind::Tree {
            return self.tree_blob(&location);
        }
        let sealed = self.read_pack(
            &location.pack,
            u64::from(location.blob.offset),
            u64::from(location.blob.length),
        )?;
        self.unseal(&location, &sealed)
    }

    /// A tree out of a pack in the cache, or of its place.
    pub(super) fn tree_blob(&self, location: &Location) -> Result<Vec<u8>> {
        let (offset, length) = (u64::from(location.blob.offset), u64::from(location.blob.length));
        let Some(cache) = self.cache() else {
            return self.unseal(location, &self.read_pack(&location.pack, offset, length)?);
        };
        if let Some(sealed) = cache.pack_range(&location.pack, offset, length as usize) {
            if let Ok(blob) = self.unseal(location, &sealed) {
                return Ok(blob);
            }
            cache.drop_pack(&location.pack);
        }
        let pack = self.0.store.get(&pack_path(&location.pack), PACK_LIMIT)?;
        cache.put_pack(&location.pack, &pack);
        let sealed = offset
            .checked_add(length)
            .and_then(|end| pack.get(offset as usize..end as usize))
            .ok_or_else(|| self.corrupt(pack_path(&location.pack), "it is shorter than the index says"))?;
        self.unseal(location, sealed)
    }

    /// Bytes of a pack.
    pub fn read_pack(&self, pack: &Id, offset: u64, length: u64) -> Result<Bytes> {
        if length > PACK_LIMIT {
            return Err(self.corrupt(
                pack_path(pack),
                "the index names a blob that is larger than a pack can be",
            ));
        }
        match self.0.store.get_range(&pack_path(pack), offset, length) {
            Err(StoreError::TooShort { .. }) => {
                Err(self.corrupt(pack_path(pack), "it is shorter than the index says"))
            }
            // A server that breaks off and says that this was all.
            Ok(bytes) if bytes.len() as u64 != length => Err(self.corrupt(
                pack_path(pack),
                "the storage gave another length than was asked for",
            )),
            other => Ok(other?),
        }
    }

    /// A blob out of its stored bytes: opened, decompressed, checked against its id.
    pub fn unseal(&self, location: &Location, sealed: &[u8]) -> Result<Vec<u8>> {
        let mut room = Room::default();
        self.unseal_into(location, sealed, &mut room)?;
        Ok(match location.blob.uncompressed {
            0 => room.opened,
            _ => room.plain,
        })
    }

    /// The same, in room that can be used again.
    pub fn unseal_into<'a>(
        &self,
        location: &Location,
        sealed: &[u8],
        room: &'a mut Room,
    ) -> Result<&'a [u8]> {
        let blob = &location.blob;
        let damaged = |why: &str| {
            let what = format!(
                "{} (the {} {})",
                pack_path(&location.pack),
                blob.kind.word(),
                blob.id.short()
            );
            self.corrupt(what, why)
        };
        let Room { opened, plain } = room;
        if !self.0.key.open_into(sealed, opened) {
            return Err(damaged(
                "a blob was changed since it was written, or lies elsewhere",
            ));
        }
        let plain: &[u8] = match blob.uncompressed {
            0 => opened,
            length if seal::decompress_into(opened, length as usize, plain) => plain,
            _ => return Err(damaged("a blob does not decompress to its length")),
        };
        if Id::of(plain) != blob.id {
            return Err(damaged("a blob is not the one that it is said to be"));
        }
        Ok(plain)
    }

    /// An object of this repository is damaged.
    pub(super) fn corrupt(&self, object: impl Into<String>, why: impl Into<String>) -> EngineError {
        EngineError::Corrupt {
            location: self.location(),
            object: object.into(),
            why: why.into(),
        }
    }

    // --- keys ---

    /// All keys, with their names.
    pub fn keys(&self) -> Result<Vec<(Id, KeyFile)>> {
        let mut keys = Vec::new();
        for stored in read_keys(&*self.0.store)? {
            match stored.file {
                Ok(file) => keys.push((stored.id, file)),
                Err(why) => log::warn!("{}: keys/{}: {why}", self.location(), stored.id),
            }
        }
        Ok(keys)
    }

    /// Adds a password; says the new key's name.
    pub fn add_key(&self, password: &Password) -> Result<Id> {
        let path = write_key(
            &*self.0.store,
            &KeyFile::new(&self.0.key, password, &super::hostname(), "windlass"),
        )?;
        Ok(Id::parse(path.trim_start_matches("keys/")).expect("a key is named by its id"))
    }

    /// Removes a password.
    ///
    /// # Errors
    /// [`EngineError::Password`] for the last one: without a key, nothing can be read ever again.
    pub fn remove_key(&self, digits: &str) -> Result<Id> {
        let keys = self.keys()?;
        let found: Vec<Id> = keys
            .iter()
            .map(|(id, _)| *id)
            .filter(|id| id.starts_with(digits))
            .collect();
        match found.as_slice() {
            [id] if keys.len() > 1 => {
                self.0.store.delete(&format!("keys/{id}"))?;
                Ok(*id)
            }
            [id] => Err(EngineError::Password(format!(
                "{} is the only key of {}: without it nothing can be read ever again; add another first",
                id.short(),
                self.location()
            ))),
            _ => Err(EngineError::Password(format!(
                "{} keys of {} begin with {digits:?}",
                found.len(),
                self.location()
            ))),
        }
    }
}

impl Config {
    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text and numbers can be written as JSON")
    }
}

/// The path of a pack.
pub fn pack_path(id: &Id) -> String {
    let digits = id.to_string();
    format!("data/{}/{digits}", &digits[..2])
}

/// Finds the key that the password opens and that opens the config.
fn unlock(store: &dyn Store, password: &Password, config: &[u8]) -> Result<(Key, Vec<u8>)> {
    let location = store.location();
    let keys = read_keys(store)?;
    let mut damage = None;
    for stored in &keys {
        let why = match stored.file.as_ref().map(|file| file.open(password)) {
            // A key whose config somebody else wrote first: left behind by a create that lost.
            Ok(Ok(Some(key))) => match key.open(config) {
                Some(plain) => return Ok((key, plain)),
                None => {
                    damage = Some(("config".to_owned(), "no key opens it".to_owned()));
                    continue;
                }
            },
            Ok(Ok(None)) if stored.is_intact => continue,
            Ok(Ok(None)) => "its bytes are not those that it is named after".to_owned(),
            Ok(Err(why)) => why,
            Err(why) => why.clone(),
        };
        damage = damage.or(Some((format!("keys/{}", stored.id), why)));
    }
    Err(match damage {
        Some((object, why)) => EngineError::Corrupt {
            location,
            object,
            why,
        },
        None => EngineError::WrongPassword {
            location,
            keys: keys.len(),
        },
    })
}

/// A file in `keys/`.
struct StoredKey {
    id: Id,
    /// Whether its bytes are those that it is named after. One that is not may open nonetheless.
    is_intact: bool,
    /// What it says, or why it is no key.
    file: std::result::Result<KeyFile, String>,
}

fn read_keys(store: &dyn Store) -> Result<Vec<StoredKey>> {
    let mut keys = Vec::new();
    for object in store.list("keys")? {
        let Some(id) = Id::parse(object.path.trim_start_matches("keys/")) else {
            continue;
        };
        let bytes = store.get(&object.path, KeyFile::LIMIT)?;
        let file = serde_json::from_slice(&bytes).map_err(|error| format!("it is no key: {error}"));
        keys.push(StoredKey {
            id,
            is_intact: Id::of(&bytes) == id,
            file,
        });
    }
    Ok(keys)
}

fn write_key(store: &dyn Store, key: &KeyFile) -> Result<String> {
    let bytes = serde_json::to_vec(key).expect("text and numbers can be written as JSON");
    let path = format!("keys/{}", Id::of(&bytes));
    store.put(&path, bytes.into())?;
    Ok(path)
}
