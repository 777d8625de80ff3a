//! One sorted table of blobs: in memory while it is small, else a file that is read in pieces.
//!
//! Ids are uniformly distributed, so a look-up guesses the place from the id's first bytes and reads two or three pieces.
//! The file is read, not mapped: it costs no memory of ours, and a cache that somebody truncates is an error and no crash.
//!
//! The file: `magic (8) || covered index files (4) || packs (4) || records (8) || their ids || the packs' ids || records`,
//! little-endian. It is only a cache: where it is wrong, the blobs' own ids tell.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::{IndexedPack, Location};
use crate::engine::cache::Cache;
use crate::engine::pack::{BlobKind, PackedBlob};
use crate::engine::{EngineError, Id, Result};

const MAGIC: &[u8; 8] = b"WLINDEX1";

/// Bytes of a record: id, pack and kind, offset, length, uncompressed length.
const RECORD: usize = 48;

/// Records read at once by a look-up: three kilobytes.
const WINDOW: u64 = 64;

/// A table with at most this many records stays in memory (3 MiB).
const SMALL: usize = 65_536;

/// Set in a record's pack number where the blob is a tree.
const TREE: u32 = 1 << 31;

/// See the module.
#[derive(Debug)]
pub struct Table {
    covers: Vec<Id>,
    packs: Vec<Id>,
    records: Records,
}

#[derive(Debug)]
enum Records {
    Memory(Vec<[u8; RECORD]>),
    File {
        file: File,
        path: PathBuf,
        begin: u64,
        count: u64,
    },
}

impl Table {
    /// The table of an index file.
    pub fn new(index: Id, packs: &[IndexedPack]) -> Self {
        let mut records: Vec<[u8; RECORD]> =
            Vec::with_capacity(packs.iter().map(|pack| pack.blobs.len()).sum());
        for (number, pack) in packs.iter().enumerate() {
            records.extend(pack.blobs.iter().map(|blob| encode(number as u32, blob)));
        }
        records.sort_unstable_by_key(sort_key);
        Self {
            covers: vec![index],
            packs: packs.iter().map(|pack| pack.id).collect(),
            records: Records::Memory(records),
        }
    }

    /// Opens a table in the cache; `None` where it is not whole.
    pub fn open(path: PathBuf) -> Option<Self> {
        Self::from_file(File::open(&path).ok()?, path, SMALL as u64)
    }

    /// The same; at most so many records go into memory.
    pub(in crate::engine) fn from_file(mut file: File, path: PathBuf, in_memory: u64) -> Option<Self> {
        let mut head = [0; 24];
        file.read_exact(&mut head).ok()?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (covers, packs) = (word(8) as u64, word(12) as u64);
        let count = u64::from(word(16)) | u64::from(word(20)) << 32;
        let begin = 24 + 32 * (covers + packs);
        let size = count.checked_mul(RECORD as u64)?.checked_add(begin)?;
        if head[..8] != *MAGIC || file.metadata().ok()?.len() != size {
            return None;
        }
        let covers = read_ids(&mut file, covers)?;
        let packs = read_ids(&mut file, packs)?;
        let records = if count <= in_memory {
            let mut records = vec![[0; RECORD]; count as usize];
            file.read_exact(records.as_flattened_mut()).ok()?;
            Records::Memory(records)
        } else {
            Records::File {
                file,
                path,
                begin,
                count,
            }
        };
        let known = packs.len() as u32;
        if let Records::Memory(records) = &records
            && records.iter().any(|record| pack_number(record) >= known)
        {
            return None;
        }
        Some(Self {
            covers,
            packs,
            records,
        })
    }

    /// Writes it as a file of the cache.
    pub fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        write_head(out, &self.covers, &self.packs, self.len())?;
        match &self.records {
            Records::Memory(records) => out.write_all(records.as_flattened()),
            Records::File { .. } => self.pieces(|piece| out.write_all(piece.as_flattened())),
        }
    }

    /// What the cache keeps it under: the index file's name, or one made of those of several.
    pub fn name(&self) -> Id {
        name(&self.covers)
    }

    /// The index files that it stands for.
    pub fn covers(&self) -> &[Id] {
        &self.covers
    }

    /// All packs.
    pub fn packs(&self) -> &[Id] {
        &self.packs
    }

    /// The number of blobs.
    pub fn len(&self) -> u64 {
        match &self.records {
            Records::Memory(records) => records.len() as u64,
            Records::File { count, .. } => *count,
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where a blob is.
    pub fn find(&self, kind: BlobKind, id: &Id) -> Result<Option<Location>> {
        let wanted = (id.0, kind == BlobKind::Tree);
        let found = match &self.records {
            Records::Memory(records) => {
                let at = records.binary_search_by_key(&wanted, sort_key);
                at.ok().map(|at| records[at])
            }
            Records::File { file, count, .. } => {
                self.search(file, *count, &wanted)?.map(|(_, record)| record)
            }
        };
        found.map(|record| self.decode(&record)).transpose()
    }

    /// Where a blob is, and the number of its record in the table's order: of the first, where several packs have it.
    pub fn locate(&self, kind: BlobKind, id: &Id) -> Result<Option<(u64, Location)>> {
        let wanted = (id.0, kind == BlobKind::Tree);
        let at = match &self.records {
            Records::Memory(records) => {
                let at = records.partition_point(|record| sort_key(record) < wanted);
                if records.get(at).is_none_or(|record| sort_key(record) != wanted) {
                    return Ok(None);
                }
                at as u64
            }
            Records::File { file, count, .. } => match self.search(file, *count, &wanted)? {
                Some((at, _)) => self.first_of_equals(at, &wanted)?,
                None => return Ok(None),
            },
        };
        Ok(Some((at, self.location(at)?)))
    }

    /// A blob's record and those of its copies in other packs, with their numbers, which follow one another.
    pub fn copies(&self, kind: BlobKind, id: &Id) -> Result<Vec<(u64, Location)>> {
        let mut copies = Vec::new();
        let Some((first, location)) = self.locate(kind, id)? else {
            return Ok(copies);
        };
        copies.push((first, location));
        for at in first + 1..self.len() {
            let location = self.location(at)?;
            if location.blob.kind != kind || location.blob.id != *id {
                break;
            }
            copies.push((at, location));
        }
        Ok(copies)
    }

    /// Everything, in the order of the ids, the copies of a blob together: the number of the first record of each blob,
    /// and its places.
    pub fn for_each_blob(&self, mut each: impl FnMut(u64, &[Location]) -> Result<()>) -> Result<()> {
        let mut equals: Vec<Location> = Vec::new();
        let (mut first, mut at) = (0, 0);
        self.for_each(|location| {
            if equals
                .first()
                .is_some_and(|one| one.blob.id != location.blob.id || one.blob.kind != location.blob.kind)
            {
                each(first, &equals)?;
                equals.clear();
                first = at;
            }
            equals.push(*location);
            at += 1;
            Ok(())
        })?;
        if equals.is_empty() {
            Ok(())
        } else {
            each(first, &equals)
        }
    }

    /// The blob with that number.
    pub fn location(&self, at: u64) -> Result<Location> {
        self.decode(&self.record(at)?)
    }

    fn record(&self, at: u64) -> Result<[u8; RECORD]> {
        match &self.records {
            Records::Memory(records) => Ok(records[at as usize]),
            Records::File { file, .. } => Ok(self.read(file, at, 1)?[0]),
        }
    }

    /// Steps back, or bisects where there are many, so that a table of copies alone costs a logarithm too.
    fn first_of_equals(&self, at: u64, wanted: &([u8; 32], bool)) -> Result<u64> {
        if at == 0 || sort_key(&self.record(at - 1)?) != *wanted {
            return Ok(at);
        }
        let (mut low, mut high) = (0, at - 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if sort_key(&self.record(middle)?) < *wanted {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Guesses, reads around the guess, and narrows down. After a few guesses it bisects, so that ids which are not
    /// uniformly distributed cost a logarithm and no more.
    fn search(
        &self,
        file: &File,
        count: u64,
        wanted: &([u8; 32], bool),
    ) -> Result<Option<(u64, [u8; RECORD])>> {
        let (mut low, mut high) = (0, count);
        let (mut below, mut above) = (0, u64::MAX);
        for attempt in 0.. {
            if low >= high {
                return Ok(None);
            }
            let guess = if high - low <= WINDOW {
                low
            } else if attempt < 6 {
                let (span, part) = (
                    u128::from(above - below).max(1),
                    u128::from(prefix(&wanted.0).saturating_sub(below)),
                );
                let guess = low + (part * u128::from(high - low) / span) as u64;
                guess.saturating_sub(WINDOW / 2).clamp(low, high - WINDOW)
            } else {
                low + (high - low - WINDOW) / 2
            };
            let piece = self.read(file, guess, WINDOW.min(high - guess))?;
            let (Some(first), Some(last)) = (piece.first(), piece.last()) else {
                return Ok(None);
            };
            if *wanted < sort_key(first) {
                (high, above) = (guess, prefix(&sort_key(first).0));
            } else if *wanted > sort_key(last) {
                (low, below) = (guess + piece.len() as u64, prefix(&sort_key(last).0));
            } else {
                return Ok(piece
                    .binary_search_by_key(wanted, sort_key)
                    .ok()
                    .map(|at| (guess + at as u64, piece[at])));
            }
        }
        Ok(None)
    }

    fn read(&self, file: &File, at: u64, count: u64) -> Result<Vec<[u8; RECORD]>> {
        let Records::File { begin, path, .. } = &self.records else {
            return Ok(Vec::new());
        };
        let mut piece = vec![[0; RECORD]; count as usize];
        file.read_exact_at(piece.as_flattened_mut(), begin + at * RECORD as u64)
            .map_err(|source| EngineError::Source {
                path: path.clone(),
                source,
            })?;
        Ok(piece)
    }

    /// Everything, in the order of the ids.
    pub fn for_each(&self, mut each: impl FnMut(&Location) -> Result<()>) -> Result<()> {
        match &self.records {
            Records::Memory(records) => records.iter().try_for_each(|record| each(&self.decode(record)?)),
            Records::File { file, count, .. } => {
                for at in (0..*count).step_by(4096) {
                    for record in self.read(file, at, 4096.min(count - at))? {
                        each(&self.decode(&record)?)?;
                    }
                }
                Ok(())
            }
        }
    }

    fn pieces(&self, mut each: impl FnMut(&[[u8; RECORD]]) -> std::io::Result<()>) -> std::io::Result<()> {
        match &self.records {
            Records::Memory(records) => each(records),
            Records::File {
                file, begin, count, ..
            } => {
                let mut piece = Vec::new();
                for at in (0..*count).step_by(4096) {
                    piece.resize(4096.min(count - at) as usize, [0; RECORD]);
                    file.read_exact_at(piece.as_flattened_mut(), begin + at * RECORD as u64)?;
                    each(&piece)?;
                }
                Ok(())
            }
        }
    }

    fn decode(&self, record: &[u8; RECORD]) -> Result<Location> {
        let pack = self.packs.get(pack_number(record) as usize).copied();
        let pack = pack.ok_or_else(|| {
            EngineError::Invalid(
                "the cached index is damaged: remove the cache directory, it is made anew".to_owned(),
            )
        })?;
        let word =
            |at: usize| u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]]);
        let (id, tree) = sort_key(record);
        Ok(Location {
            pack,
            blob: PackedBlob {
                kind: if tree { BlobKind::Tree } else { BlobKind::Data },
                id: Id(id),
                offset: word(36),
                length: word(40),
                uncompressed: word(44),
            },
        })
    }

    /// One table of all, in the cache where there is one.
    pub fn merge(tables: &[Arc<Self>], cache: Option<&Cache>) -> Result<Self> {
        let covers: Vec<Id> = tables
            .iter()
            .flat_map(|table| table.covers.iter().copied())
            .collect();
        let packs: Vec<Id> = tables
            .iter()
            .flat_map(|table| table.packs.iter().copied())
            .collect();
        let count = tables.iter().map(|table| table.len()).sum();
        if let Some(cache) = cache
            && let Some(path) = cache.write_table(&name(&covers), |out| {
                let mut out = BufWriter::with_capacity(1 << 20, out);
                write_head(&mut out, &covers, &packs, count)?;
                merged(tables, |record| out.write_all(record))?;
                out.flush()
            })
            && let Some(table) = Self::open(path)
        {
            return Ok(table);
        }
        let mut records = Vec::with_capacity(count as usize);
        merged(tables, |record| {
            records.push(*record);
            Ok(())
        })
        .map_err(|source| EngineError::Source {
            path: PathBuf::from("the cached index"),
            source,
        })?;
        Ok(Self {
            covers,
            packs,
            records: Records::Memory(records),
        })
    }
}

fn name(covers: &[Id]) -> Id {
    match covers {
        [one] => *one,
        several => Id::of(&several.iter().flat_map(|id| id.0).collect::<Vec<u8>>()),
    }
}

/// All records of all tables in order, with their pack numbers counted through.
fn merged(
    tables: &[Arc<Table>],
    mut each: impl FnMut(&[u8; RECORD]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut base = 0;
    let mut sources: Vec<Cursor<'_>> = Vec::with_capacity(tables.len());
    for table in tables {
        sources.push(Cursor {
            table,
            base,
            at: 0,
            piece: Vec::new(),
            inside: 0,
        });
        base += table.packs.len() as u32;
    }
    // The least first; of equals, the earlier table's.
    let mut heads = BinaryHeap::with_capacity(sources.len());
    for (number, source) in sources.iter_mut().enumerate() {
        source.fill()?;
        heads.extend(source.peek().map(|record| Reverse((sort_key(record), number))));
    }
    while let Some(mut head) = heads.peek_mut() {
        let Reverse((_, number)) = *head;
        let source = &mut sources[number];
        if let Some(record) = source.next()? {
            each(&record)?;
        }
        match source.peek() {
            Some(record) => *head = Reverse((sort_key(record), number)),
            None => drop(PeekMut::pop(head)),
        }
    }
    Ok(())
}

struct Cursor<'a> {
    table: &'a Table,
    base: u32,
    at: u64,
    piece: Vec<[u8; RECORD]>,
    inside: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<&[u8; RECORD]> {
        self.piece.get(self.inside)
    }

    fn next(&mut self) -> std::io::Result<Option<[u8; RECORD]>> {
        let Some(mut record) = self.peek().copied() else {
            return Ok(None);
        };
        let tree = record_word(&record) & TREE;
        let number = (pack_number(&record) + self.base) | tree;
        record[32..36].copy_from_slice(&number.to_le_bytes());
        self.inside += 1;
        self.fill()?;
        Ok(Some(record))
    }

    fn fill(&mut self) -> std::io::Result<()> {
        if self.inside < self.piece.len() || self.at >= self.table.len() {
            return Ok(());
        }
        let count = 1024.min(self.table.len() - self.at);
        self.piece.resize(count as usize, [0; RECORD]);
        match &self.table.records {
            Records::Memory(records) => {
                let at = self.at as usize;
                self.piece.copy_from_slice(&records[at..at + count as usize]);
            }
            Records::File { file, begin, .. } => {
                file.read_exact_at(self.piece.as_flattened_mut(), begin + self.at * RECORD as u64)?;
            }
        }
        self.at += count;
        self.inside = 0;
        Ok(())
    }
}

fn write_head(out: &mut impl Write, covers: &[Id], packs: &[Id], count: u64) -> std::io::Result<()> {
    out.write_all(MAGIC)?;
    out.write_all(&(covers.len() as u32).to_le_bytes())?;
    out.write_all(&(packs.len() as u32).to_le_bytes())?;
    out.write_all(&count.to_le_bytes())?;
    covers.iter().chain(packs).try_for_each(|id| out.write_all(&id.0))
}

fn read_ids(file: &mut File, count: u64) -> Option<Vec<Id>> {
    let mut bytes = vec![[0; 32]; usize::try_from(count).ok()?];
    file.read_exact(bytes.as_flattened_mut()).ok()?;
    Some(bytes.into_iter().map(Id).collect())
}

fn encode(pack: u32, blob: &PackedBlob) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    let number = pack | if blob.kind == BlobKind::Tree { TREE } else { 0 };
    record[..32].copy_from_slice(&blob.id.0);
    record[32..36].copy_from_slice(&number.to_le_bytes());
    record[36..40].copy_from_slice(&blob.offset.to_le_bytes());
    record[40..44].copy_from_slice(&blob.length.to_le_bytes());
    record[44..48].copy_from_slice(&blob.uncompressed.to_le_bytes());
    record
}

fn record_word(record: &[u8; RECORD]) -> u32 {
    u32::from_le_bytes([record[32], record[33], record[34], record[35]])
}

fn pack_number(record: &[u8; RECORD]) -> u32 {
    record_word(record) & !TREE
}

fn sort_key(record: &[u8; RECORD]) -> ([u8; 32], bool) {
    let mut id = [0; 32];
    id.copy_from_slice(&record[..32]);
    (id, record_word(record) & TREE != 0)
}

fn prefix(id: &[u8; 32]) -> u64 {
    u64::from_be_bytes([id[0], id[1], id[2], id[3], id[4], id[5], id[6], id[7]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(number: u64, kind: BlobKind) -> PackedBlob {
        let id = Id::of(&number.to_le_bytes());
        PackedBlob {
            kind,
            id,
            offset: number as u32,
            length: 100,
            uncompressed: 7,
        }
    }

    fn table(numbers: std::ops::Range<u64>, kind: BlobKind) -> Table {
        let packs: Vec<IndexedPack> = numbers
            .clone()
            .map(|number| blob(number, kind))
            .collect::<Vec<_>>()
            .chunks(300)
            .map(|blobs| IndexedPack {
                id: Id::of(&blobs[0].id.0),
                blobs: blobs.to_vec(),
            })
            .collect();
        Table::new(Id::of(&numbers.start.to_be_bytes()), &packs)
    }

    #[test]
    fn a_large_table_in_a_file_finds_everything_and_nothing_else() {
        let scratch = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(scratch.path(), &Id::of(b"repository")).expect("a cache");
        let tables = [
            Arc::new(table(0..50_000, BlobKind::Data)),
            Arc::new(table(50_000..90_000, BlobKind::Data)),
            Arc::new(table(80_000..90_000, BlobKind::Tree)),
        ];
        let merged = Table::merge(&tables, Some(&cache)).expect("merged");
        assert!(matches!(merged.records, Records::File { count: 100_000, .. }));
        assert_eq!(merged.covers().len(), 3);
        for number in (0..90_000).step_by(37) {
            let wanted = blob(number, BlobKind::Data);
            let table = tables
                .iter()
                .find_map(|table| table.find(BlobKind::Data, &wanted.id).expect("readable"));
            let found = merged.find(BlobKind::Data, &wanted.id).expect("readable");
            assert_eq!(found.map(|location| location.blob), Some(wanted));
            assert_eq!(found, table, "the pack too");
            let tree = merged.find(BlobKind::Tree, &wanted.id).expect("readable");
            assert_eq!(tree.is_some(), number >= 80_000, "{number}");
            assert_eq!(
                merged
                    .find(BlobKind::Data, &Id::of(&wanted.id.0))
                    .expect("readable"),
                None
            );
        }
        let mut count = 0;
        merged
            .for_each(|_| {
                count += 1;
                Ok(())
            })
            .expect("readable");
        assert_eq!(count, 100_000);
        for edge in [Id([0; 32]), Id([255; 32])] {
            assert_eq!(merged.find(BlobKind::Data, &edge).expect("readable"), None);
        }
    }

    #[test]
    fn copies_of_a_blob_follow_one_another_from_the_first_record() {
        let scratch = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(scratch.path(), &Id::of(b"repository")).expect("a cache");
        let tables = [
            Arc::new(table(0..70_000, BlobKind::Data)),
            Arc::new(table(500..600, BlobKind::Data)),
            Arc::new(table(550..600, BlobKind::Data)),
            Arc::new(table(0..100, BlobKind::Tree)),
        ];
        for cache in [Some(&cache), None] {
            let merged = Table::merge(&tables, cache).expect("merged");
            let (mut next, mut blobs) = (0, 0);
            merged
                .for_each_blob(|first, places| {
                    assert_eq!(first, next);
                    next += places.len() as u64;
                    blobs += 1;
                    Ok(())
                })
                .expect("readable");
            assert_eq!((next, blobs), (70_250, 70_100));
            for (number, expected) in [(0, 1), (500, 2), (549, 2), (550, 3), (600, 1)] {
                let id = blob(number, BlobKind::Data).id;
                let copies = merged.copies(BlobKind::Data, &id).expect("readable");
                assert_eq!(copies.len(), expected, "{number}");
                assert_eq!(
                    merged.locate(BlobKind::Data, &id).expect("readable"),
                    Some(copies[0])
                );
                assert!(copies.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0));
            }
            assert_eq!(
                merged
                    .locate(BlobKind::Tree, &blob(500, BlobKind::Data).id)
                    .expect("readable"),
                None
            );
        }
    }

    #[test]
    fn a_cut_file_is_not_a_table() {
        let scratch = tempfile::tempdir().expect("a directory");
        let path = scratch.path().join("table");
        let mut bytes = Vec::new();
        table(0..500, BlobKind::Data).write(&mut bytes).expect("memory");
        std::fs::write(&path, &bytes).expect("written");
        assert_eq!(Table::open(path.clone()).map(|table| table.len()), Some(500));
        for cut in [0, 7, 24, 60, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).expect("written");
            assert!(Table::open(path.clone()).is_none(), "{cut} bytes");
        }
    }
}
