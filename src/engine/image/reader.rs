//! A backed-up image that is read at random, before or without a restore. Memory is bounded by a cache of chunks.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::{GROUP, Layout, SEGMENT, segment, zero_id};
use crate::engine::manifest::Kind;
use crate::engine::{Backup, BlobKind, EngineError, Id, Repository, Result};

/// Bytes of chunks that are kept.
const CHUNK_BYTES: u64 = 64 << 20;

/// Segments whose chunk lists are kept: 32 KiB each at 64 KiB chunks.
const SEGMENTS: usize = 256;

/// See the module. Shared by threads.
#[derive(Debug)]
pub struct Image<'a> {
    repository: &'a Repository,
    layout: Layout,
    groups: Vec<Id>,
    zero: Id,
    segments: Cache<u64, Arc<Vec<Id>>>,
    lists: Cache<u64, Arc<Vec<Id>>>,
    chunks: Cache<Id, Arc<Vec<u8>>, Bytes>,
}

#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<Id, Arc<Vec<u8>>> for Bytes {
    fn weight(&self, _: &Id, chunk: &Arc<Vec<u8>>) -> u64 {
        chunk.len() as u64
    }
}

impl<'a> Image<'a> {
    /// Opens the image of a backup: three blobs.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] for a backup that is not of an image.
    pub fn open(repository: &'a Repository, backup: &Backup) -> Result<Self> {
        let manifest = backup.manifest().ok_or_else(|| {
            EngineError::Invalid(format!(
                "backup {} has no manifest: another program made or rewrote it",
                backup.name()
            ))
        })?;
        if manifest.kind != Kind::Block {
            return Err(EngineError::Invalid(format!(
                "backup {} is of a tree, not of an image",
                backup.name()
            )));
        }
        let layout = Layout::new(manifest.size, manifest.chunk_bytes.unwrap_or(0))
            .map_err(|why| repository.corrupt(format!("snapshots/{}", backup.id), why))?;
        let damaged = |id: &Id, why: String| repository.corrupt(format!("the tree {}", id.short()), why);
        let root = backup.record.tree;
        let (data, _) = segment::read_root(&repository.blob(BlobKind::Tree, &root)?)
            .map_err(|why| damaged(&root, why))?;
        let data = data.ok_or_else(|| damaged(&root, "it has no data".to_owned()))?;
        let json = repository.blob(BlobKind::Tree, &data)?;
        let groups = segment::read_data(&json, &layout).map_err(|why| damaged(&data, why))?;
        Ok(Self {
            repository,
            layout,
            groups,
            zero: zero_id(u64::from(layout.chunk)),
            segments: Cache::new(16),
            lists: Cache::new(SEGMENTS),
            chunks: Cache::with_weighter(
                (CHUNK_BYTES / u64::from(layout.chunk)) as usize,
                CHUNK_BYTES,
                Bytes,
            ),
        })
    }

    /// How it is cut.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The chunks of a segment.
    pub fn segment(&self, number: u64) -> Result<Arc<Vec<Id>>> {
        self.lists.get_or_insert_with(&number, || {
            let (group, within) = Layout::place(number);
            let segments = self.group(group)?;
            let id = segments[within as usize];
            let json = self.repository.blob(BlobKind::Tree, &id)?;
            let chunks = segment::read_segment(&json, &self.layout, number);
            chunks.map(Arc::new).map_err(|why| self.damaged(&id, why))
        })
    }

    fn group(&self, group: u64) -> Result<Arc<Vec<Id>>> {
        debug_assert!(
            group < self.layout.segments().div_ceil(GROUP),
            "callers stay within the image"
        );
        self.segments.get_or_insert_with(&group, || {
            let id = self.groups[group as usize];
            let json = self.repository.blob(BlobKind::Tree, &id)?;
            let segments = segment::read_group(&json, &self.layout, group);
            segments.map(Arc::new).map_err(|why| self.damaged(&id, why))
        })
    }

    /// Fills `buffer` with the image's bytes from `offset`.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] beyond the image's end.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let end = offset
            .checked_add(buffer.len() as u64)
            .filter(|end| *end <= self.layout.size);
        if end.is_none() {
            let why = format!(
                "{} bytes at {offset} are beyond the image's {}",
                buffer.len(),
                self.layout.size
            );
            return Err(EngineError::Invalid(why));
        }
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let number = at / SEGMENT;
            let within = ((at % SEGMENT) / u64::from(self.layout.chunk)) as usize;
            let range = self.layout.chunk(number, within);
            let length = ((range.end - at) as usize).min(buffer.len() - done);
            let part = &mut buffer[done..done + length];
            let id = self.segment(number)?[within];
            if id == self.zero {
                part.fill(0);
            } else {
                let chunk = self.chunk(&id, range.end - range.start)?;
                let begin = (at - range.start) as usize;
                part.copy_from_slice(&chunk[begin..begin + length]);
            }
            done += length;
        }
        Ok(())
    }

    fn chunk(&self, id: &Id, length: u64) -> Result<Arc<Vec<u8>>> {
        let chunk = self
            .chunks
            .get_or_insert_with(id, || self.repository.blob(BlobKind::Data, id).map(Arc::new))?;
        // One that is kept may have been right in another place: at the image's end, where the chunk is shorter.
        if chunk.len() as u64 != length {
            let why = format!(
                "it has {} bytes where the image has a chunk of {length}",
                chunk.len()
            );
            return Err(self.repository.corrupt(format!("the data {}", id.short()), why));
        }
        Ok(chunk)
    }

    fn damaged(&self, id: &Id, why: String) -> EngineError {
        self.repository.corrupt(format!("the tree {}", id.short()), why)
    }
}
