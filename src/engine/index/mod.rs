//! Where blobs are: which pack, at which offset. Memory does not grow with the repository.
//!
//! Each index file of the repository becomes a sorted [`Table`], kept in the cache, so that it is fetched and decoded once.
//! Where tables become many, the smaller ones are merged into one, so that a look-up, which asks all tables, and memory, which
//! has the small ones, stay bounded, while a large table is seldom written again.

mod file;
mod marks;
mod table;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

pub use file::{IndexFile, IndexedPack};
pub use marks::Marks;
pub use table::Table;

use super::cache::Cache;
use super::pack::{BlobKind, PackedBlob};
use super::{Id, Result};

/// Where there are more tables than this, the smaller ones are merged.
pub(super) const MOST_TABLES: usize = 12;

/// So many are merged at least, so that it is not done again for each further table.
const MERGED_AT_LEAST: usize = 7;

/// A blob and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The pack.
    pub pack: Id,
    /// The place in it.
    pub blob: PackedBlob,
}

/// See the module. Shared by the threads of a backup or restore.
#[derive(Debug, Default)]
pub struct Index {
    /// Replaced whole; readers clone the `Arc` and let go.
    tables: RwLock<Arc<Vec<Arc<Table>>>>,
    /// Held by who changes the list, while tables are merged too; nobody waits for it to look something up.
    changing: Mutex<()>,
}

impl Index {
    /// Where a blob is, if an index file says so.
    pub fn find(&self, kind: BlobKind, id: &Id) -> Result<Option<Location>> {
        for table in self.tables().iter() {
            if let Some(found) = table.find(kind, id)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The index files that are loaded.
    pub fn covered(&self) -> BTreeSet<Id> {
        self.tables()
            .iter()
            .flat_map(|table| table.covers().iter().copied())
            .collect()
    }

    /// Adds the table of an index file that was just written.
    pub fn add(&self, table: Table, cache: Option<&Cache>) -> Result<()> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tables = Vec::clone(&self.tables());
        tables.push(Arc::new(table));
        self.set(compact(tables, cache)?);
        Ok(())
    }

    /// Makes the index that of these tables.
    pub fn replace(&self, tables: Vec<Arc<Table>>, cache: Option<&Cache>) -> Result<()> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.set(compact(tables, cache)?);
        Ok(())
    }

    fn set(&self, tables: Vec<Arc<Table>>) {
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tables);
    }

    /// The tables now.
    pub fn tables(&self) -> Arc<Vec<Arc<Table>>> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All tables as one: what goes through everything numbers its records.
    pub fn whole(&self, cache: Option<&Cache>) -> Result<Arc<Table>> {
        match self.tables().as_slice() {
            [one] => Ok(one.clone()),
            several => Ok(Arc::new(Table::merge(several, cache)?)),
        }
    }

    /// All blobs of all packs, table by table; a blob that is in several packs comes several times.
    pub fn for_each(&self, mut each: impl FnMut(&Location) -> Result<()>) -> Result<()> {
        for table in self.tables().iter() {
            table.for_each(&mut each)?;
        }
        Ok(())
    }
}

/// Merges the smaller tables into one where there are too many. The cache then has that one in their place.
pub(super) fn compact(mut tables: Vec<Arc<Table>>, cache: Option<&Cache>) -> Result<Vec<Arc<Table>>> {
    tables.sort_by_key(|table| table.len());
    let lengths: Vec<u64> = tables.iter().map(|table| table.len()).collect();
    let larger = tables.split_off(to_merge(&lengths));
    if tables.is_empty() {
        return Ok(larger);
    }
    let merged = Table::merge(&tables, cache)?;
    if let Some(cache) = cache {
        tables.iter().for_each(|table| cache.drop_table(&table.name()));
    }
    Ok(larger.into_iter().chain([Arc::new(merged)]).collect())
}

/// How many of the smallest tables are merged, given their lengths in order: enough to be rid of the problem for a while, and
/// further ones as long as the smaller ones together are as large. So a record is copied a few times in all, however many
/// tables come.
fn to_merge(lengths: &[u64]) -> usize {
    if lengths.len() <= MOST_TABLES {
        return 0;
    }
    let mut together: u64 = lengths[..MERGED_AT_LEAST].iter().sum();
    let further = lengths[MERGED_AT_LEAST..].iter().take_while(|length| {
        let joins = **length <= together;
        together += **length;
        joins
    });
    MERGED_AT_LEAST + further.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(number: u64, blobs: u64) -> Table {
        let blob = |blob: u64| PackedBlob {
            kind: BlobKind::Data,
            id: Id::of(format!("{number} {blob}").as_bytes()),
            offset: blob as u32,
            length: 1,
            uncompressed: 0,
        };
        let pack = IndexedPack {
            id: Id::of(&number.to_le_bytes()),
            blobs: (0..blobs).map(blob).collect(),
        };
        Table::new(Id::of(format!("index {number}").as_bytes()), &[pack])
    }

    #[test]
    fn tables_stay_few_and_a_large_one_is_left_alone() {
        assert_eq!(to_merge(&[1; MOST_TABLES]), 0);
        assert_eq!(to_merge(&[1; MOST_TABLES + 1]), MOST_TABLES + 1);
        let mut lengths = vec![5; MOST_TABLES];
        lengths.push(1_000_000);
        assert_eq!(to_merge(&lengths), MOST_TABLES, "all but the large one");
        // Backups of a thousand blobs each, after one of four million: how much is written for ten thousand of them.
        let (mut lengths, mut written) = (vec![4_000_000_u64], 0);
        for _ in 0..10_000 {
            lengths.push(1_000);
            lengths.sort_unstable();
            let rest = lengths.split_off(to_merge(&lengths));
            let merged: u64 = lengths.iter().sum();
            written += merged;
            lengths = rest;
            lengths.extend((merged > 0).then_some(merged));
            assert!(lengths.len() <= MOST_TABLES);
        }
        assert!(
            written < 10 * 14_000_000,
            "each record ten times at most: {written}"
        );
    }

    #[test]
    fn an_index_that_grows_finds_everything_and_its_cache_has_no_table_twice() {
        let scratch = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(scratch.path(), &Id::of(b"repository")).expect("a cache");
        let index = Index::default();
        const FILES: u64 = 40;
        for number in 0..FILES {
            let table = table(number, 30 + number);
            cache.write_table(&table.name(), |file| table.write(file));
            index.add(table, Some(&cache)).expect("added");
            assert!(index.tables().len() <= MOST_TABLES);
        }
        let cached = Index::default();
        cached
            .replace(cache.tables().into_iter().map(Arc::new).collect(), None)
            .expect("taken");
        for index in [&index, &cached] {
            assert_eq!(index.covered().len() as u64, FILES);
            assert!(index.tables().len() <= MOST_TABLES);
            let blobs: u64 = index.tables().iter().map(|table| table.len()).sum();
            assert_eq!(blobs, (0..FILES).map(|number| 30 + number).sum::<u64>());
            for number in 0..FILES {
                let id = Id::of(format!("{number} 29").as_bytes());
                let found = index.find(BlobKind::Data, &id).expect("readable").expect("there");
                assert_eq!(
                    (found.pack, found.blob.offset),
                    (Id::of(&number.to_le_bytes()), 29)
                );
            }
        }
    }
}
