//! Index files written anew: what prune and repair have in common.

use super::index::{IndexFile, IndexedPack};
use super::{Id, Repository, Result};

/// Blobs per index file; restic's own limit is 50,000.
const FULL: usize = 40_000;

/// Index files with fewer blobs are joined with others.
pub(super) const SMALL: usize = FULL / 2;

/// Packs on their way into index files. Each is read back: what they take the place of may go.
pub(super) struct Reindex<'a> {
    repository: &'a Repository,
    packs: Vec<IndexedPack>,
    blobs: usize,
    written: Vec<Id>,
}

impl<'a> Reindex<'a> {
    pub(super) fn new(repository: &'a Repository) -> Self {
        Self {
            repository,
            packs: Vec::new(),
            blobs: 0,
            written: Vec::new(),
        }
    }

    /// Adds a pack, and writes an index file when enough has come together.
    pub(super) fn add(&mut self, pack: IndexedPack) -> Result<()> {
        self.blobs += pack.blobs.len();
        self.packs.push(pack);
        if self.blobs >= FULL { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let file = IndexFile {
            supersedes: None,
            packs: std::mem::take(&mut self.packs),
        };
        self.blobs = 0;
        let id = self.repository.write_file_checked("index", &file.to_json())?;
        self.written.push(id);
        Ok(())
    }

    /// Writes the rest; says the names of all files.
    pub(super) fn finish(mut self) -> Result<Vec<Id>> {
        if !self.packs.is_empty() {
            self.flush()?;
        }
        Ok(self.written)
    }
}
