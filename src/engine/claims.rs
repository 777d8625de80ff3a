//! Which blobs a writer is storing: each is stored once, however many threads come upon it.
//!
//! A claim counts for its writer only. If that fails, what it claimed was never stored, and nobody else may have relied on it.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Id;
use super::pack::BlobKind;

type Shard = HashSet<(BlobKind, Id), BuildHasherDefault<IdHasher>>;

/// See the module.
#[derive(Debug, Default)]
pub struct Claims {
    /// By the first byte of the id, so that threads seldom meet. Held for one look-up or change.
    shards: [Mutex<Shard>; 16],
}

impl Claims {
    /// Whether the caller is the first, and so the one who stores it.
    pub fn claim(&self, kind: BlobKind, id: &Id) -> bool {
        self.shard(id).insert((kind, *id))
    }

    /// Whether somebody claimed it.
    pub fn has(&self, kind: BlobKind, id: &Id) -> bool {
        self.shard(id).contains(&(kind, *id))
    }

    /// Drops the claim of a blob that an index file names by now.
    pub fn settle(&self, kind: BlobKind, id: &Id) {
        self.shard(id).remove(&(kind, *id));
    }

    fn shard(&self, id: &Id) -> MutexGuard<'_, Shard> {
        self.shards[usize::from(id.0[0] & 15)]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ids are random already: eight of their bytes are as good as any hash of them.
#[derive(Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = self.0.rotate_left(5) ^ u64::from_le_bytes(word);
        }
    }
}
