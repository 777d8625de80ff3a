//! What lies in `data/`, beside what the index says of it.

use std::collections::{HashMap, HashSet};

use super::index::Table;
use super::pack::{BlobKind, PACK_OVERHEAD};
use super::repository::pack_path;
use super::{Id, Repository, Result};

/// All packs that are stored or that the index names.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    /// By their names.
    pub(super) packs: HashMap<Id, Holding>,
    /// Objects in `data/` that are no packs: they are left alone.
    pub(super) foreign: Vec<String>,
}

/// A pack. One that is stored and has no `entries` is in no index.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Holding {
    /// Its size as it is stored, in bytes; `None` where it is not.
    pub(super) size: Option<u64>,
    /// When it was written, in seconds since 1970, where the store says.
    pub(super) modified: Option<i64>,
    /// How many blobs the index places in it.
    pub(super) entries: u64,
    /// The bytes that these take, with their entries in the header.
    pub(super) taken: u64,
    /// Whether there are trees among them.
    pub(super) trees: bool,
}

impl Holding {
    /// The size in bytes that the index's entries add up to.
    pub(super) fn expected(&self) -> u64 {
        self.taken + PACK_OVERHEAD
    }
}

impl Holdings {
    /// One listing of `data/`, and one pass over the index. The index must be older than the listing, so that a pack
    /// that somebody adds meanwhile is at most taken for one that no index names.
    pub(super) fn gather(repository: &Repository, table: &Table) -> Result<Self> {
        let mut this = Self::default();
        for object in repository.store().list("data")? {
            match Id::parse(object.path.rsplit('/').next().unwrap_or_default()) {
                Some(id) if object.path == pack_path(&id) => {
                    let holding = this.packs.entry(id).or_default();
                    holding.size = Some(object.size);
                    holding.modified = object.modified;
                }
                _ => this.foreign.push(object.path),
            }
        }
        table.for_each_blob(|_, places| {
            // After a prune that was cut off, two index files may name the same pack.
            let several = places.len() > 1;
            let mut seen = HashSet::new();
            for place in places {
                if several && !seen.insert((place.pack, place.blob.offset)) {
                    continue;
                }
                let holding = this.packs.entry(place.pack).or_default();
                holding.entries += 1;
                holding.taken += place.blob.taken();
                holding.trees |= place.blob.kind == BlobKind::Tree;
            }
            Ok(())
        })?;
        Ok(this)
    }
}
