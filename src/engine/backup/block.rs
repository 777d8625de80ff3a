//! Backups of images: every chunk read, or only those that the source knows to have changed.
//!
//! Worker threads take pieces of the image in their order. A chunk of zeros costs a look; a hole not even that. A segment in
//! which nothing changed keeps its parent's tree, a group too; so an incremental backup costs what changed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel};
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use super::{BackupReport, Content, Request};
use crate::engine::image::{GROUP, Layout, SEGMENT, is_zero, ranges, segment, zero_id};
use crate::engine::manifest::Kind;
use crate::engine::tree::NodeKind;
use crate::engine::{Backup, BlobKind, EngineError, Id, Progress, Repository, Result, Writer, parallel};
use crate::sys::sparse;

/// Bytes that a worker reads at once.
const PIECE: u64 = 1 << 20;

/// Where an image is read from. Threads read different parts at once.
pub trait ReadAt: Sync {
    /// Fills `buffer` from `offset`; a source that ends before is an error.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

/// An image or device that does not change while it is read.
pub struct BlockSource<'a> {
    /// Its bytes.
    pub bytes: &'a dyn ReadAt,
    /// What messages call it.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Where there can be anything but zeros, in order; `None` where that is not known.
    pub mapped: Option<Vec<Range<u64>>>,
    /// What changed, where the source can tell.
    pub changed: Option<Changed>,
}

/// What differs from an older snapshot.
#[derive(Debug, Clone)]
pub struct Changed {
    /// The older snapshot's id. Of no use unless a backup of it is in the repository.
    pub since: Uuid,
    /// Ranges that may differ, in order and without overlap; everything outside is the same.
    pub ranges: Vec<Range<u64>>,
}

impl<'a> BlockSource<'a> {
    /// A file, with its holes known.
    pub fn file(file: &'a File, path: &Path) -> Result<Self> {
        let failed = |source| EngineError::Source {
            path: path.to_owned(),
            source,
        };
        let size = sparse::size(file).map_err(failed)?;
        let mapped = sparse::data(file, size).map_err(failed)?;
        Ok(Self {
            bytes: file,
            path: path.to_owned(),
            size,
            mapped: Some(mapped),
            changed: None,
        })
    }
}

/// Backs an image up.
pub fn block(
    repository: &Repository,
    request: &Request,
    source: &BlockSource<'_>,
    progress: &Arc<Progress>,
) -> Result<BackupReport> {
    super::is_of(&request.manifest, Kind::Block)?;
    let layout =
        Layout::new(source.size, request.manifest.chunk_bytes.unwrap_or(0)).map_err(EngineError::Invalid)?;
    if request.manifest.size != source.size {
        let why = format!(
            "{} has {} bytes, and its manifest says {}",
            source.path.display(),
            source.size,
            request.manifest.size
        );
        return Err(EngineError::Invalid(why));
    }
    super::make(repository, request, progress, |writer, newest| {
        let parent = base(repository, source, &layout, newest)?;
        let walk = Walk::new(repository, writer, source, layout, parent, progress)?;
        let data = walk.run()?;
        let before = super::data_to_beat(repository, request, newest)?;
        if before.is_some_and(|before| before.kind == NodeKind::Dir { subtree: data }) {
            return Ok(Content {
                tree: None,
                files: (0, 0, 1),
                bytes: source.size,
            });
        }
        let manifest =
            serde_json::to_vec_pretty(&request.manifest).expect("text and numbers can be written as JSON");
        let content = writer.save(BlobKind::Data, &manifest)?;
        let root = segment::write_root(&data, manifest.len() as u64, &content);
        Ok(Content {
            tree: Some(writer.save(BlobKind::Tree, &root)?),
            files: (1, 0, 0),
            bytes: source.size,
        })
    })
}

/// The backup that `changed` is relative to: any of that snapshot with the same chunks, the newest first.
fn base(
    repository: &Repository,
    source: &BlockSource<'_>,
    layout: &Layout,
    newest: Option<&Backup>,
) -> Result<Option<Parent>> {
    let Some(changed) = &source.changed else {
        return Ok(None);
    };
    let fits = |backup: &Backup| {
        backup.manifest().is_some_and(|manifest| {
            manifest.kind == Kind::Block
                && manifest.snapshot.id == changed.since
                && manifest.chunk_bytes == Some(layout.chunk)
                && manifest.size <= layout.size
        })
    };
    let found = match newest.filter(|backup| fits(backup)) {
        Some(backup) => Some(backup.clone()),
        None => repository.backups()?.into_iter().rev().find(fits),
    };
    let Some(backup) = found else {
        log::info!(
            "no backup of the snapshot {} is there to build on: everything is read",
            changed.since
        );
        return Ok(None);
    };
    let size = backup.manifest().map_or(0, |manifest| manifest.size);
    let theirs = Layout {
        size,
        chunk: layout.chunk,
    };
    let read = |id: &Id| repository.blob(BlobKind::Tree, id);
    let damaged = |id: &Id, why: String| repository.corrupt(format!("the tree {}", id.short()), why);
    let root = backup.record.tree;
    let (data, _) = segment::read_root(&read(&root)?).map_err(|why| damaged(&root, why))?;
    let data = data.ok_or_else(|| damaged(&root, "it has no data".to_owned()))?;
    let groups = segment::read_data(&read(&data)?, &theirs).map_err(|why| damaged(&data, why))?;
    Ok(Some(Parent {
        layout: theirs,
        groups,
    }))
}

/// The backup that an incremental one builds on.
struct Parent {
    layout: Layout,
    groups: Vec<Id>,
}

/// One run over an image.
struct Walk<'a> {
    repository: &'a Repository,
    writer: &'a Writer,
    source: &'a BlockSource<'a>,
    layout: Layout,
    parent: Option<Parent>,
    /// What is read: of the rest, nothing is.
    wanted: Vec<Range<u64>>,
    zero: Id,
    progress: &'a Arc<Progress>,
    /// Held while a worker takes its next piece.
    plan: Mutex<Plan>,
    /// The trees of finished segments, by number; held for an insertion.
    finished: Mutex<BTreeMap<u64, Id>>,
}

/// Which pieces are still to be taken.
struct Plan {
    segment: u64,
    /// Pieces of the segment that was begun last.
    pieces: Vec<Range<usize>>,
    current: Option<Arc<Segment>>,
    /// The parent's group that was looked at last, by number.
    group: Option<(u64, Vec<Id>)>,
}

/// A segment under way.
struct Segment {
    number: u64,
    /// Its tree in the parent.
    parent: Option<Id>,
    /// The ids of its chunks, as they become known; held for a copy.
    chunks: Mutex<Option<Vec<Id>>>,
    /// Pieces that are not finished.
    left: AtomicUsize,
}

impl<'a> Walk<'a> {
    fn new(
        repository: &'a Repository,
        writer: &'a Writer,
        source: &'a BlockSource<'a>,
        layout: Layout,
        parent: Option<Parent>,
        progress: &'a Arc<Progress>,
    ) -> Result<Self> {
        let whole = std::iter::once(0..layout.size);
        let mut wanted: Vec<Range<u64>> = match (&parent, &source.changed, &source.mapped) {
            (Some(parent), Some(changed), _) => {
                let grown = parent.layout.size..layout.size;
                changed
                    .ranges
                    .iter()
                    .cloned()
                    .chain(std::iter::once(grown))
                    .collect()
            }
            (_, _, Some(mapped)) => mapped.clone(),
            _ => whole.collect(),
        };
        ranges::round(&mut wanted, u64::from(layout.chunk), layout.size);
        let bytes = wanted.iter().map(|range| range.end - range.start).sum();
        progress.expect(bytes, 0);
        let plan = Plan {
            segment: 0,
            pieces: Vec::new(),
            current: None,
            group: None,
        };
        Ok(Self {
            repository,
            writer,
            source,
            layout,
            parent,
            wanted,
            zero: zero_id(u64::from(layout.chunk)),
            progress,
            plan: Mutex::new(plan),
            finished: Mutex::default(),
        })
    }

    /// Does it all; says the tree of `data`.
    fn run(&self) -> Result<Id> {
        let threads: Vec<()> = vec![(); parallel::processors().max(2)];
        parallel::map(&threads, threads.len(), |()| {
            let mut buffer = Vec::new();
            while let Some((segment, piece)) = self.next()? {
                self.piece(&segment, piece, &mut buffer)?;
            }
            Ok(())
        })?;
        self.directories()
    }

    /// The next piece: chunks of a segment. Segments of which nothing is wanted are passed over.
    fn next(&self) -> Result<Option<(Arc<Segment>, Range<usize>)>> {
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(piece) = plan.pieces.pop()
                && let Some(segment) = plan.current.clone()
            {
                return Ok(Some((segment, piece)));
            }
            let Some(number) = self.next_wanted(plan.segment) else {
                return Ok(None);
            };
            plan.segment = number + 1;
            let pieces = self.pieces(number);
            let segment = Segment {
                number,
                parent: self.parent_of(&mut plan, number)?,
                chunks: Mutex::default(),
                left: AtomicUsize::new(pieces.len()),
            };
            plan.pieces = pieces;
            plan.current = Some(Arc::new(segment));
        }
    }

    /// The first segment from `from` on of which something is wanted.
    fn next_wanted(&self, from: u64) -> Option<u64> {
        let at = from * SEGMENT;
        let next = self.wanted.partition_point(|range| range.end <= at);
        let range = self.wanted.get(next)?;
        Some(range.start.max(at) / SEGMENT)
    }

    /// The wanted chunks of a segment, in pieces, the last one first.
    fn pieces(&self, number: u64) -> Vec<Range<usize>> {
        let (whole, chunk) = (self.layout.segment(number), u64::from(self.layout.chunk));
        let most = (PIECE / chunk).max(1) as usize;
        let mut pieces = Vec::new();
        let first = self.wanted.partition_point(|range| range.end <= whole.start);
        for range in self.wanted[first..]
            .iter()
            .take_while(|range| range.start < whole.end)
        {
            let begin = (range.start.max(whole.start) - whole.start) / chunk;
            let end = (range.end.min(whole.end) - whole.start).div_ceil(chunk);
            let mut at = begin as usize;
            while at < end as usize {
                let next = (at + most).min(end as usize);
                pieces.push(at..next);
                at = next;
            }
        }
        pieces.reverse();
        pieces
    }

    /// The parent's tree of a segment.
    fn parent_of(&self, plan: &mut Plan, number: u64) -> Result<Option<Id>> {
        let Some(parent) = &self.parent else {
            return Ok(None);
        };
        if number >= parent.layout.segments() {
            return Ok(None);
        }
        let (group, within) = Layout::place(number);
        let known = plan.group.take().filter(|(known, _)| *known == group);
        let (_, segments) = match known {
            Some(known) => plan.group.insert(known),
            None => plan.group.insert((
                group,
                self.read_group(parent, group, &parent.groups[group as usize])?,
            )),
        };
        Ok(segments.get(within as usize).copied())
    }

    fn read_group(&self, parent: &Parent, group: u64, id: &Id) -> Result<Vec<Id>> {
        let json = self.repository.blob(BlobKind::Tree, id)?;
        segment::read_group(&json, &parent.layout, group)
            .map_err(|why| self.repository.corrupt(format!("the tree {}", id.short()), why))
    }

    /// Reads and stores one piece; the last one of a segment stores its tree.
    fn piece(&self, segment: &Segment, piece: Range<usize>, buffer: &mut Vec<u8>) -> Result<()> {
        self.progress.check()?;
        let first = self.layout.chunk(segment.number, piece.start);
        let last = self.layout.chunk(segment.number, piece.end - 1);
        let length = (last.end - first.start) as usize;
        buffer.resize(length, 0);
        self.source
            .bytes
            .read_exact_at(buffer, first.start)
            .map_err(|source| EngineError::Source {
                path: self.source.path.clone(),
                source,
            })?;
        self.progress.read(length as u64);
        let ids: Vec<Id> = buffer
            .chunks(self.layout.chunk as usize)
            .map(|chunk| self.chunk(chunk))
            .collect::<Result<_>>()?;
        self.progress.done(length as u64, 0);
        {
            let mut chunks = segment.chunks.lock().unwrap_or_else(PoisonError::into_inner);
            if chunks.is_none() {
                *chunks = Some(self.before(segment)?);
            }
            if let Some(chunks) = chunks.as_mut() {
                chunks[piece].copy_from_slice(&ids);
            }
        }
        if segment.left.fetch_sub(1, AcqRel) == 1 {
            self.finish(segment)?;
        }
        Ok(())
    }

    /// Stores one chunk. One of zeros is stored too, once, and not hashed again.
    fn chunk(&self, bytes: &[u8]) -> Result<Id> {
        if bytes.len() == self.layout.chunk as usize && is_zero(bytes) {
            self.writer.save_as(BlobKind::Data, self.zero, bytes)?;
            return Ok(self.zero);
        }
        self.writer.save(BlobKind::Data, bytes)
    }

    /// A segment's chunks before anything is read: the parent's, or zeros.
    fn before(&self, segment: &Segment) -> Result<Vec<Id>> {
        let (Some(id), Some(parent)) = (&segment.parent, &self.parent) else {
            return self.zeros(segment.number);
        };
        let json = self.repository.blob(BlobKind::Tree, id)?;
        let theirs = segment::read_segment(&json, &parent.layout, segment.number)
            .map_err(|why| self.repository.corrupt(format!("the tree {}", id.short()), why))?;
        if theirs.len() == self.layout.chunks_in(segment.number) {
            return Ok(theirs);
        }
        let mut chunks = self.zeros(segment.number)?;
        chunks[..theirs.len()].copy_from_slice(&theirs);
        Ok(chunks)
    }

    /// The chunks of a segment of zeros; the blobs for them are stored.
    fn zeros(&self, number: u64) -> Result<Vec<Id>> {
        let count = self.layout.chunks_in(number);
        let mut chunks = vec![self.zero; count];
        let last = self.layout.chunk(number, count - 1);
        let length = last.end - last.start;
        if length < u64::from(self.layout.chunk) {
            chunks[count - 1] = self.writer.save(BlobKind::Data, &vec![0; length as usize])?;
        }
        if count > 1 || length == u64::from(self.layout.chunk) {
            let zeros = vec![0; self.layout.chunk as usize];
            self.writer.save_as(BlobKind::Data, self.zero, &zeros)?;
        }
        Ok(chunks)
    }

    fn finish(&self, segment: &Segment) -> Result<()> {
        let chunks = segment
            .chunks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let chunks = chunks.expect("the last piece of a segment follows its first");
        let id = self.store_segment(segment.number, &chunks)?;
        self.finished
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(segment.number, id);
        Ok(())
    }

    fn store_segment(&self, number: u64, chunks: &[Id]) -> Result<Id> {
        let range = self.layout.segment(number);
        self.writer.save(
            BlobKind::Tree,
            &segment::write_segment(range.end - range.start, chunks),
        )
    }

    /// Stores the directories above the segments. Groups of which no segment was read are the parent's, or of zeros.
    fn directories(&self) -> Result<Id> {
        let finished = std::mem::take(&mut *self.finished.lock().unwrap_or_else(PoisonError::into_inner));
        let mut groups = Vec::new();
        let mut zero_segment: Option<Id> = None;
        let mut zero_group: Option<Id> = None;
        for group in 0..self.layout.groups() {
            let segments = group * GROUP..((group + 1) * GROUP).min(self.layout.segments());
            let touched = finished.range(segments.clone()).next().is_some();
            let whole = self.layout.segment(segments.end - 1).end == segments.end * SEGMENT
                && segments.end - segments.start == GROUP;
            let parent = self.parent.as_ref().and_then(|parent| {
                let same = parent.layout.segment(segments.end - 1) == self.layout.segment(segments.end - 1)
                    && segments.end <= parent.layout.segments();
                Some((parent, *parent.groups.get(group as usize)?, same))
            });
            let id = match &parent {
                Some((_, id, true)) if !touched => *id,
                None if !touched && whole && zero_group.is_some() => zero_group.expect("it was looked at"),
                _ => {
                    let theirs = match &parent {
                        Some((parent, id, _)) => self.read_group(parent, group, id)?,
                        None => Vec::new(),
                    };
                    let mut ids = Vec::with_capacity(GROUP as usize);
                    for number in segments {
                        let range = self.layout.segment(number);
                        let theirs = theirs.get(ids.len()).filter(|_| {
                            parent
                                .as_ref()
                                .is_some_and(|(parent, _, _)| parent.layout.segment(number) == range)
                        });
                        let id = match (finished.get(&number), theirs) {
                            (Some(id), _) | (None, Some(id)) => *id,
                            (None, None) if range.end - range.start == SEGMENT => match zero_segment {
                                Some(id) => id,
                                None => {
                                    *zero_segment.insert(self.store_segment(number, &self.zeros(number)?)?)
                                }
                            },
                            (None, None) => self.store_segment(number, &self.zeros(number)?)?,
                        };
                        ids.push(id);
                    }
                    let id = self.writer.save(BlobKind::Tree, &segment::write_group(&ids))?;
                    if !touched && whole && parent.is_none() {
                        zero_group = Some(id);
                    }
                    id
                }
            };
            groups.push(id);
        }
        self.writer.save(BlobKind::Tree, &segment::write_data(&groups))
    }
}
