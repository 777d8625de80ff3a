//! The way into a repository: blobs are hashed, deduplicated, compressed, sealed, packed and uploaded.
//!
//! [`Writer::save`] may be called from any number of threads; the hashing and compressing is done by the callers, the
//! uploading by threads of the writer's own. A full queue makes the callers wait, so memory is bounded: the packs being
//! filled, queued and uploaded are at most [`UPLOADS`] + 5, of 16 MiB.
//!
//! Packs are confirmed by the store before an index file names them, and the caller writes its snapshot after
//! [`Writer::finish`]. A crash leaves packs that no index names, or an index that no snapshot needs: garbage for prune.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::claims::Claims;
use super::index::{IndexFile, IndexedPack, Table};
use super::pack::{BlobKind, PACK_TARGET, Pack, PackBuilder};
use super::repository::pack_path;
use super::{EngineError, Id, Lock, Progress, Repository, Result, seal};
use crate::store::Spare;

/// Packs that are uploaded at the same time.
pub const UPLOADS: usize = 4;

/// An index file is written when this many blobs wait for one; restic's own limit is 50,000.
const INDEX_BLOBS: usize = 40_000;

thread_local! {
    /// Where a thread seals a blob before it is copied into a pack.
    static SEALED: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// See the module.
pub struct Writer {
    shared: Arc<Shared>,
    queue: Option<Sender<Pack>>,
    uploaders: Vec<JoinHandle<()>>,
    /// One pack in the making per kind; held while a sealed blob is copied into it.
    builders: [Mutex<PackBuilder>; 2],
    level: i32,
    /// A pack is closed at this size, in bytes.
    pack_target: usize,
}

/// Small packs for the writers that this thread starts, so that a test needs little data for many.
#[cfg(test)]
pub(super) fn with_packs_of(bytes: usize) {
    TEST_PACK_TARGET.set(bytes);
}

#[cfg(test)]
thread_local! {
    static TEST_PACK_TARGET: std::cell::Cell<usize> = const { std::cell::Cell::new(PACK_TARGET) };
}

struct Shared {
    repository: Repository,
    progress: Arc<Progress>,
    claims: Claims,
    /// Confirmed packs that no index file names yet.
    confirmed: Mutex<Vec<IndexedPack>>,
    /// The first failure; everything after it is in vain.
    failure: Mutex<Option<EngineError>>,
    counts: Counts,
    /// Everything is read back before something else relies on it.
    read_back: bool,
    /// Buffers of packs.
    spare: Spare,
}

#[derive(Default)]
struct Counts {
    data_blobs: AtomicU64,
    tree_blobs: AtomicU64,
    new_bytes: AtomicU64,
    stored_bytes: AtomicU64,
    packs: AtomicU64,
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Blobs of data that the repository did not have.
    pub data_blobs: u64,
    /// Directories that it did not have.
    pub tree_blobs: u64,
    /// Their bytes, before compression.
    pub new_bytes: u64,
    /// Their bytes as stored.
    pub stored_bytes: u64,
    /// Packs.
    pub packs: u64,
}

impl Writer {
    /// Starts the uploaders. The caller holds a lock on the repository and has refreshed its index.
    pub fn new(repository: &Repository, level: i32, progress: &Arc<Progress>) -> Result<Self> {
        Self::start(repository, level, progress, false)
    }

    /// The same, for what will be the only copy: packs and index files are read back. One that reads otherwise fails the
    /// work before an index names it.
    pub fn reading_back(repository: &Repository, level: i32, progress: &Arc<Progress>) -> Result<Self> {
        Self::start(repository, level, progress, true)
    }

    fn start(repository: &Repository, level: i32, progress: &Arc<Progress>, read_back: bool) -> Result<Self> {
        repository.index()?;
        let shared = Arc::new(Shared {
            repository: repository.clone(),
            progress: progress.clone(),
            claims: Claims::default(),
            confirmed: Mutex::default(),
            failure: Mutex::default(),
            counts: Counts::default(),
            read_back,
            spare: Spare::default(),
        });
        let (sender, receiver) = bounded(1);
        let builders = [(); 2].map(|()| Mutex::new(PackBuilder::new(&shared.spare)));
        let mut writer = Self {
            shared,
            queue: Some(sender),
            uploaders: Vec::new(),
            builders,
            level,
            #[cfg(not(test))]
            pack_target: PACK_TARGET,
            #[cfg(test)]
            pack_target: TEST_PACK_TARGET.get(),
        };
        for _ in 0..UPLOADS {
            let (shared, receiver) = (writer.shared.clone(), receiver.clone());
            let thread = std::thread::Builder::new()
                .name("upload".to_owned())
                .spawn(move || {
                    let _held = shared.progress.governs();
                    shared.upload(&receiver);
                });
            writer
                .uploaders
                .push(thread.map_err(|source| EngineError::Target {
                    doing: "start a thread for",
                    path: "uploads".into(),
                    source,
                })?);
        }
        Ok(writer)
    }

    /// Has a blob stored, unless the repository has it, and says its id.
    ///
    /// # Errors
    /// Also the failure of an upload that an earlier call began.
    pub fn save(&self, kind: BlobKind, bytes: &[u8]) -> Result<Id> {
        let id = Id::of(bytes);
        self.save_as(kind, id, bytes)?;
        Ok(id)
    }

    /// Like [`Writer::save`], for a caller that knows the id. Says whether the blob was new.
    pub fn save_as(&self, kind: BlobKind, id: Id, bytes: &[u8]) -> Result<bool> {
        self.shared.check()?;
        let known =
            self.shared.claims.has(kind, &id) || self.shared.repository.index()?.find(kind, &id)?.is_some();
        if known || !self.shared.claims.claim(kind, &id) {
            return Ok(false);
        }
        SEALED.with_borrow_mut(|sealed| {
            sealed.clear();
            let uncompressed = seal::seal_blob(self.shared.repository.key(), bytes, self.level, sealed);
            self.shared.count(kind, bytes.len() as u64, sealed.len() as u64);
            self.add(kind, id, sealed, uncompressed)
        })?;
        Ok(true)
    }

    /// Copies a sealed blob of another pack of the same repository (or key), unless it was copied already.
    pub fn save_sealed(&self, kind: BlobKind, id: Id, sealed: &[u8], uncompressed: u32) -> Result<()> {
        self.shared.check()?;
        let length = if uncompressed == 0 {
            sealed.len() as u64
        } else {
            u64::from(uncompressed)
        };
        self.shared.count(kind, length, sealed.len() as u64);
        self.add(kind, id, sealed, uncompressed)
    }

    fn add(&self, kind: BlobKind, id: Id, sealed: &[u8], uncompressed: u32) -> Result<()> {
        let full = {
            let mut builder = self.builders[kind as usize]
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            builder.add(kind, id, sealed, uncompressed);
            let is_full = builder.len() >= self.pack_target;
            is_full.then(|| std::mem::replace(&mut *builder, PackBuilder::new(&self.shared.spare)))
        };
        full.map_or(Ok(()), |builder| self.send(builder))
    }

    /// Closes a pack and queues it.
    fn send(&self, builder: PackBuilder) -> Result<()> {
        let pack = builder.finish(self.shared.repository.key());
        let queue = self
            .queue
            .as_ref()
            .expect("the queue is closed by finish, which takes the writer");
        // A queue without receivers means that they failed, and why is in `failure`.
        if queue.send(pack).is_err() {
            self.shared.check()?;
        }
        Ok(())
    }

    /// Uploads the rest, waits for all of it, and writes the index. `lock` must still be ours: from here on the packs
    /// are relied on.
    pub fn finish(mut self, lock: &Lock) -> Result<Written> {
        for builder in &self.builders {
            let builder = std::mem::take(&mut *builder.lock().unwrap_or_else(PoisonError::into_inner));
            if !builder.is_empty() {
                self.send(builder)?;
            }
        }
        self.join();
        self.shared.check()?;
        lock.check()?;
        self.shared.write_index()?;
        Ok(self.shared.written())
    }

    fn join(&mut self) {
        self.queue = None;
        for uploader in self.uploaders.drain(..) {
            if uploader.join().is_err() {
                self.shared.fail(EngineError::Invalid(
                    "an upload thread panicked; the log tells more".to_owned(),
                ));
            }
        }
    }
}

impl Drop for Writer {
    /// A writer that does not come to `finish` leaves the packs that are on their way, as garbage.
    fn drop(&mut self) {
        self.join();
    }
}

impl Shared {
    fn upload(&self, queue: &Receiver<Pack>) {
        for pack in queue {
            if self.has_failed() || self.progress.is_cancelled() {
                continue;
            }
            if let Err(error) = self.upload_one(pack) {
                self.fail(error);
            }
        }
    }

    fn upload_one(&self, pack: Pack) -> Result<()> {
        let Pack { id, bytes, blobs } = pack;
        let trees = blobs.first().is_some_and(|blob| blob.kind == BlobKind::Tree);
        if trees && let Some(cache) = self.repository.cache() {
            cache.put_pack(&id, &bytes);
        }
        if self.read_back {
            self.progress.read(bytes.len() as u64);
            self.repository.put_checked(&pack_path(&id), bytes)?;
        } else {
            self.repository.store().put(&pack_path(&id), bytes)?;
        }
        self.counts.packs.fetch_add(1, Relaxed);
        let due = {
            let mut confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
            confirmed.push(IndexedPack { id, blobs });
            confirmed.iter().map(|pack| pack.blobs.len()).sum::<usize>() >= INDEX_BLOBS
        };
        if due { self.write_index() } else { Ok(()) }
    }

    /// Writes an index file of all packs that are confirmed and in none.
    fn write_index(&self) -> Result<()> {
        let packs = std::mem::take(&mut *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner));
        if packs.is_empty() {
            return Ok(());
        }
        let file = IndexFile {
            supersedes: None,
            packs,
        };
        let json = file.to_json();
        let id = match self.read_back {
            true => self.repository.write_file_checked("index", &json)?,
            false => self.repository.write_file("index", &json)?,
        };
        let table = Table::new(id, &file.packs);
        self.repository.cache_table(&id, &table);
        self.repository.index()?.add(table, self.repository.cache())?;
        for blob in file.packs.iter().flat_map(|pack| &pack.blobs) {
            self.claims.settle(blob.kind, &blob.id);
        }
        Ok(())
    }

    fn count(&self, kind: BlobKind, new: u64, stored: u64) {
        let blobs = match kind {
            BlobKind::Data => &self.counts.data_blobs,
            BlobKind::Tree => &self.counts.tree_blobs,
        };
        blobs.fetch_add(1, Relaxed);
        self.counts.new_bytes.fetch_add(new, Relaxed);
        self.counts.stored_bytes.fetch_add(stored, Relaxed);
        self.progress.stored(new, stored);
    }

    fn written(&self) -> Written {
        Written {
            data_blobs: self.counts.data_blobs.load(Relaxed),
            tree_blobs: self.counts.tree_blobs.load(Relaxed),
            new_bytes: self.counts.new_bytes.load(Relaxed),
            stored_bytes: self.counts.stored_bytes.load(Relaxed),
            packs: self.counts.packs.load(Relaxed),
        }
    }

    fn fail(&self, error: EngineError) {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
    }

    fn has_failed(&self) -> bool {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// The failure goes to the first who asks; whoever asks later hears that the work was given up.
    fn check(&self) -> Result<()> {
        self.progress.check()?;
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match failure.take() {
            None => Ok(()),
            Some(error) => {
                *failure = Some(EngineError::Cancelled);
                Err(error)
            }
        }
    }
}
