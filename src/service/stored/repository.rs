//! The repositories in which snapshots are kept, one for each volume, below the driver's own storage.
//!
//! They have restic's empty password: whoever can read them can read the volume's data beside them. They are their
//! owner's alone (0700), as the data of a volume are for those whom its root directory lets in.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::super::repositories::Opened;
use super::super::{Result, backup_work};
use crate::driver::DriverError;
use crate::engine::{EngineError, Password, Repository};
use crate::model::{Volume, VolumeId};
use crate::store::{self, Counting, Counts, DirectoryStore, Object, Store};
use crate::sys::{durable, fault};

/// So many stay open, with their indexes.
const KEPT: usize = 16;

/// The repositories that are open.
pub(in super::super) struct StoredRepositories {
    cache: PathBuf,
    /// The latest last. Held for look-ups only.
    kept: Mutex<Vec<(VolumeId, Local)>>,
}

/// The repository of a volume's snapshots.
#[derive(Clone)]
pub(in super::super) struct Local {
    /// The repository and what was asked of its storage.
    pub opened: Opened,
    /// What was written since [`Written::begin`].
    pub written: Arc<Written>,
}

impl StoredRepositories {
    /// Caches below `cache`.
    pub fn new(cache: PathBuf) -> Self {
        Self {
            cache,
            kept: Mutex::default(),
        }
    }

    /// The repository of a volume, in the directory `below`.
    ///
    /// # Errors
    /// [`EngineError::NoRepository`].
    pub fn open(&self, below: &Path, volume: VolumeId) -> Result<Local> {
        if let Some(local) = self.kept(volume) {
            return Ok(local);
        }
        let at = below.join(volume.to_string());
        if let Err(error) = std::fs::symlink_metadata(&at)
            && error.kind() == io::ErrorKind::NotFound
        {
            return Err(EngineError::NoRepository {
                location: at.display().to_string(),
                remedy: "; the volume has no snapshots there".to_owned(),
            }
            .into());
        }
        let Storage {
            store,
            counts,
            written,
        } = storage(&at)?;
        let repository = Repository::open(store, &Password::none(), Some(&self.cache))?;
        let opened = Opened::new(repository, counts);
        Ok(self.keep(volume, Local { opened, written }))
    }

    /// The same; made if there is none.
    pub fn open_or_make(&self, below: &Path, volume: &Volume) -> Result<Local> {
        match self.open(below, volume.id) {
            Err(super::super::ServiceError::Engine(EngineError::NoRepository { .. })) => {}
            other => return other,
        }
        let at = below.join(volume.id.to_string());
        let failed = |doing: &str, source| DriverError::System {
            doing: format!("cannot {doing} {}", at.display()),
            source,
        };
        match std::fs::DirBuilder::new().mode(0o700).create(&at) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result.map_err(|source| failed("make the directory", source))?,
        }
        durable::sync_dir(below).map_err(DriverError::from)?;
        fault::point("snapshot.repository-directory");
        let Storage {
            store,
            counts,
            written,
        } = storage(&at)?;
        let owner = backup_work::owner(volume);
        let repository =
            match Repository::create(store.clone(), &Password::none(), Some(&self.cache), Some(owner)) {
                // Another host was faster.
                Err(EngineError::RepositoryExists { .. }) => {
                    Repository::open(store, &Password::none(), Some(&self.cache))?
                }
                made => made?,
            };
        fault::point("snapshot.repository");
        let opened = Opened::new(repository, counts);
        Ok(self.keep(volume.id, Local { opened, written }))
    }

    /// Closes a volume's repository: it goes, or may.
    pub fn close(&self, volume: VolumeId) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(of, _)| *of != volume);
    }

    fn kept(&self, volume: VolumeId) -> Option<Local> {
        let local = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let at = kept.iter().position(|(of, _)| *of == volume)?;
            let found = kept.remove(at);
            kept.push(found);
            let (_, local) = kept.last()?;
            Local {
                opened: local.opened.again(),
                written: local.written.clone(),
            }
        };
        // It may have been destroyed and made again, or its filesystem mounted anew.
        let config = local.opened.repository.store().stat("config");
        config.ok().flatten().map(|_| local)
    }

    fn keep(&self, volume: VolumeId, local: Local) -> Local {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(of, _)| *of != volume);
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push((volume, local.clone()));
        local
    }
}

/// A repository's directory as a store, which counts and remembers.
struct Storage {
    store: Arc<dyn Store>,
    counts: Arc<Counts>,
    written: Arc<Written>,
}

fn storage(at: &Path) -> Result<Storage> {
    let counts = Arc::<Counts>::default();
    let counting = Counting::new(Arc::new(DirectoryStore::open(at)?), counts.clone());
    let written = Arc::new(Written {
        store: Arc::new(counting),
        packs: Mutex::default(),
        indexed: AtomicBool::new(false),
    });
    Ok(Storage {
        store: written.clone(),
        counts,
        written,
    })
}

/// A store that remembers which packs were written, so that a snapshot that fails takes them back: on a full filesystem,
/// which may be why it failed, they would be in the way of the volume itself.
pub(in super::super) struct Written {
    store: Arc<dyn Store>,
    /// Held for an insertion.
    packs: Mutex<Vec<String>>,
    /// Whether an index may name some of them: then others may rely on them, and they are for prune to judge.
    indexed: AtomicBool,
}

impl Written {
    /// Forgets what was written so far. There is one writer at a time in this process.
    pub fn begin(&self) {
        self.packs().clear();
        self.indexed.store(false, SeqCst);
    }

    /// Deletes the packs that were written since, unless an index may name them.
    pub fn take_back(&self) -> store::Result<()> {
        if self.indexed.load(SeqCst) {
            return Ok(());
        }
        let packs = std::mem::take(&mut *self.packs());
        packs.iter().try_for_each(|pack| self.store.delete(pack))
    }

    /// Whether an index was written since.
    pub fn is_indexed(&self) -> bool {
        self.indexed.load(SeqCst)
    }

    fn packs(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.packs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, path: &str) {
        if path.starts_with("data/") {
            self.packs().push(path.to_owned());
        } else if path.starts_with("index/") {
            self.indexed.store(true, SeqCst);
        }
    }
}

impl Store for Written {
    fn location(&self) -> String {
        self.store.location()
    }

    fn put(&self, path: &str, bytes: Bytes) -> store::Result<()> {
        self.note(path);
        self.store.put(path, bytes)
    }

    fn put_new(&self, path: &str, bytes: Bytes) -> store::Result<()> {
        self.note(path);
        self.store.put_new(path, bytes)
    }

    fn get(&self, path: &str, limit: u64) -> store::Result<Bytes> {
        self.store.get(path, limit)
    }

    fn get_range(&self, path: &str, offset: u64, length: u64) -> store::Result<Bytes> {
        self.store.get_range(path, offset, length)
    }

    fn stat(&self, path: &str) -> store::Result<Option<Object>> {
        self.store.stat(path)
    }

    fn list(&self, below: &str) -> store::Result<Vec<Object>> {
        self.store.list(below)
    }

    fn directories(&self, below: &str) -> store::Result<Vec<String>> {
        self.store.directories(below)
    }

    fn delete(&self, path: &str) -> store::Result<()> {
        self.store.delete(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[test]
    fn packs_that_no_index_can_name_are_taken_back_and_others_stay() {
        let written = Written {
            store: Arc::new(MemoryStore::default()),
            packs: Mutex::default(),
            indexed: AtomicBool::new(false),
        };
        let put = |path: &str| written.put(path, Bytes::from_static(b"x")).expect("writes");
        let there = |path: &str| written.stat(path).expect("looks").is_some();
        put("data/00/old");
        written.begin();
        put("data/00/new");
        put("locks/l");
        written.take_back().expect("deletes");
        assert!(there("data/00/old") && there("locks/l") && !there("data/00/new"));
        written.begin();
        put("data/00/named");
        put("index/i");
        written.take_back().expect("leaves it");
        assert!(there("data/00/named"), "an index names it");
    }
}
