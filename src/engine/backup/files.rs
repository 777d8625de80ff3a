//! Files' content: read and cut by some threads, hashed and stored by others, so that one large file keeps all busy.
//!
//! Memory is bounded by the number of chunks under way: one for each thread and one more for each in the queue, of 8 MiB at
//! most and 1.5 MiB on the average.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender};

use super::assembly::Directory;
use super::record::Look;
use super::tree::Work;
use crate::engine::chunker::{Chunker, Cursor, MIN_BYTES};
use crate::engine::tree::NodeKind;
use crate::engine::{BlobKind, EngineError, Id, Result};
use crate::sys::tree::{Pinned, SourceFile};

/// Bytes that are read at once, beyond the least a chunk can have.
const STEP_BYTES: usize = 256 << 10;

/// More chunks in one file make a tree that nobody can read any more.
const MOST_CHUNKS: usize = 6_000_000;

/// A file to be read.
#[derive(Debug)]
pub(super) struct FileJob {
    pub(super) pinned: Pinned,
    pub(super) look: Look,
    pub(super) directory: Arc<Directory>,
    pub(super) place: usize,
}

/// A chunk to be stored.
pub(super) struct ChunkJob {
    file: Arc<Chunks>,
    number: usize,
    bytes: Vec<u8>,
}

/// A file whose chunks are not all stored yet.
struct Chunks {
    directory: Arc<Directory>,
    place: usize,
    /// Held for one chunk's arrival.
    state: Mutex<ChunksState>,
}

struct ChunksState {
    /// The file, once it is read.
    node: Option<crate::engine::tree::Node>,
    content: Vec<Option<Id>>,
    /// Chunks that are not stored, and one more until all are known.
    missing: usize,
}

/// What the threads that read and store share beyond their [`Work`].
pub(super) struct Cutting {
    chunker: Chunker,
    /// The smallest chunk, full of zeros; all of a hole but its end consists of them.
    zeros: Id,
    zeros_stored: AtomicBool,
    /// Buffers for another use; held for a push or a pop.
    spare: Mutex<Vec<Vec<u8>>>,
}

impl Cutting {
    pub(super) fn new(chunker: Chunker) -> Self {
        Self {
            chunker,
            zeros: Id::of(&vec![0; MIN_BYTES]),
            zeros_stored: AtomicBool::new(false),
            spare: Mutex::default(),
        }
    }

    fn buffer(&self) -> Vec<u8> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.pop().unwrap_or_default()
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        const MOST: usize = 16;
        buffer.clear();
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < MOST {
            spare.push(buffer);
        }
    }
}

/// One of the threads that read.
pub(super) fn read_all(
    work: &Work<'_>,
    cutting: &Cutting,
    jobs: &Receiver<FileJob>,
    chunks: &Sender<ChunkJob>,
) {
    for job in jobs {
        if !work.has_failed() {
            work.note(read(work, cutting, job, chunks));
        }
    }
}

/// One of the threads that store.
pub(super) fn store_all(work: &Work<'_>, cutting: &Cutting, jobs: &Receiver<ChunkJob>) {
    for job in jobs {
        if work.has_failed() {
            continue;
        }
        let saved = work.writer.save(BlobKind::Data, &job.bytes);
        cutting.give_back(job.bytes);
        work.note(saved.and_then(|id| job.file.arrive(work, Some((job.number, id)))));
    }
}

fn read(work: &Work<'_>, cutting: &Cutting, job: FileJob, sender: &Sender<ChunkJob>) -> Result<()> {
    let file = job.pinned.open()?;
    let chunks = Arc::new(Chunks {
        directory: job.directory,
        place: job.place,
        state: Mutex::new(ChunksState {
            node: None,
            content: Vec::new(),
            missing: 1,
        }),
    });
    let mut reader = Reader {
        work,
        cutting,
        file: &file,
        chunks: &chunks,
        sender,
        end: file.stat.size,
        at: 0,
        data: (0, 0),
        chunk: cutting.buffer(),
    };
    let size = reader.run()?;
    cutting.give_back(reader.chunk);
    let content = Vec::new();
    let kind = NodeKind::File { size, content };
    let mut node = work.node(&job.look.at(file.stat), kind);
    node.xattrs = work.xattrs(&job.pinned)?;
    chunks.state.lock().unwrap_or_else(PoisonError::into_inner).node = Some(node);
    work.counts.add_file(&job.look, size);
    work.progress.done(0, 1);
    chunks.arrive(work, None)
}

impl Chunks {
    /// A place for the next chunk, whose id may be known already.
    fn push(&self, id: Option<Id>) -> Option<usize> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.missing += usize::from(id.is_none());
        state.content.push(id);
        (state.content.len() <= MOST_CHUNKS).then(|| state.content.len() - 1)
    }

    /// One thing less is missing. The last one completes the file, which may complete directories.
    fn arrive(&self, work: &Work<'_>, chunk: Option<(usize, Id)>) -> Result<()> {
        let node = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((number, id)) = chunk {
                state.content[number] = Some(id);
            }
            state.missing -= 1;
            if state.missing > 0 {
                return Ok(());
            }
            let mut node = state.node.take().expect("a file is complete once, and was read");
            if let NodeKind::File { content, .. } = &mut node.kind {
                *content = state.content.drain(..).flatten().collect();
            }
            node
        };
        work.fill(&self.directory, self.place, node)
    }
}

/// A file being cut.
struct Reader<'a, 'w> {
    work: &'a Work<'w>,
    cutting: &'a Cutting,
    file: &'a SourceFile,
    chunks: &'a Arc<Chunks>,
    sender: &'a Sender<ChunkJob>,
    /// Where the file ended when it was opened, or ends by now if that is earlier. What is written later is left for the
    /// next backup: a log that grows would keep us for ever.
    end: u64,
    /// What was read so far.
    at: u64,
    /// The stretch of data that is being read, or that comes next.
    data: (u64, u64),
    chunk: Vec<u8>,
}

impl Reader<'_, '_> {
    /// Reads all of it; how much that was.
    fn run(&mut self) -> Result<u64> {
        let mut cursor = Cursor::default();
        while self.at < self.end {
            self.work.progress.check()?;
            if self.work.has_failed() {
                return Err(EngineError::Cancelled);
            }
            if self.at >= self.data.1 {
                self.find_data()?;
            }
            if self.at < self.data.0 && self.chunk.is_empty() && self.push_zeros()? {
                continue;
            }
            self.read_step()?;
            if let Some(cut) = self.cutting.chunker.cut(&mut cursor, &self.chunk) {
                let mut next = self.cutting.buffer();
                next.extend_from_slice(&self.chunk[cut..]);
                self.chunk.truncate(cut);
                self.send(next)?;
                cursor = Cursor::default();
            }
        }
        if !self.chunk.is_empty() {
            self.send(Vec::new())?;
        }
        Ok(self.at)
    }

    /// Where data are next, at or after `at`. A hole may be the end of a file that was cut off meanwhile.
    fn find_data(&mut self) -> Result<()> {
        self.data = self
            .file
            .next_data(self.at, self.end)?
            .unwrap_or((self.end, self.end));
        if self.data.0 > self.at {
            self.end = self.end.min(self.file.size()?).max(self.at);
            self.data.0 = self.data.0.min(self.end);
            self.data.1 = self.data.1.min(self.end);
        }
        Ok(())
    }

    /// As much of a hole as makes whole chunks, without a look at it. False where it makes none.
    fn push_zeros(&mut self) -> Result<bool> {
        const STEP: u64 = MIN_BYTES as u64;
        // A window of zeros has the fingerprint zero: such a chunk is cut as soon as it may be.
        let many = (self.data.0 - self.at) / STEP;
        if many == 0 {
            return Ok(false);
        }
        if !self.cutting.zeros_stored.load(Relaxed) {
            let zeros = vec![0; MIN_BYTES];
            self.work
                .writer
                .save_as(BlobKind::Data, self.cutting.zeros, &zeros)?;
            self.cutting.zeros_stored.store(true, Relaxed);
        }
        for _ in 0..many {
            self.place(Some(self.cutting.zeros))?;
        }
        self.at += many * STEP;
        self.work.progress.done(many * STEP, 0);
        Ok(true)
    }

    /// Adds some bytes to the chunk: zeros up to the next data, or data.
    fn read_step(&mut self) -> Result<()> {
        let wanted = MIN_BYTES.saturating_sub(self.chunk.len()).max(STEP_BYTES) as u64;
        if self.at < self.data.0 {
            let step = wanted.min(self.data.0 - self.at);
            self.chunk.resize(self.chunk.len() + step as usize, 0);
            self.at += step;
            self.work.progress.done(step, 0);
            return Ok(());
        }
        let wanted = wanted.min(self.data.1 - self.at);
        let got = self.file.read_at(&mut self.chunk, wanted as usize, self.at)? as u64;
        if got == 0 {
            // It was cut off: what was read is what there was.
            self.end = self.at;
        }
        self.at += got;
        self.work.progress.read(got);
        self.work.progress.done(got, 0);
        Ok(())
    }

    /// Has the chunk stored, and goes on with another.
    fn send(&mut self, next: Vec<u8>) -> Result<()> {
        let number = self.place(None)?;
        let job = ChunkJob {
            file: self.chunks.clone(),
            number,
            bytes: std::mem::replace(&mut self.chunk, next),
        };
        // Those who store go on until we are gone, unless one of them panicked, which ends the backup by itself.
        self.sender.send(job).map_err(|_| EngineError::Cancelled)
    }

    fn place(&self, id: Option<Id>) -> Result<usize> {
        self.chunks.push(id).ok_or_else(|| {
            EngineError::Invalid(format!(
                "{} is too large for the repository's format: it would have more than {MOST_CHUNKS} chunks",
                self.file.path().display()
            ))
        })
    }
}
