//! Restores of images, to a file or a device.
//!
//! The image is gone through in windows of a few segments. The chunks of a window are sorted by where they lie in packs, and
//! worker threads read neighbouring ones at once and write each where it belongs. Chunks of zeros are not fetched. Every
//! chunk is checked against its id before a byte of it is written; the first failure ends the restore.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::bounded;

use super::RestoreReport;
use crate::engine::image::reader::Image;
use crate::engine::image::{Layout, is_zero, zero_id};
use crate::engine::index::Location;
use crate::engine::repository::Room;
use crate::engine::{Backup, BlobKind, EngineError, Id, Progress, Repository, Result, parallel};
use crate::sys::{durable, sparse};

/// Segments that are planned at a time.
const WINDOW: u64 = 4;

/// Bytes that are fetched from a pack at once, at most.
const FETCH: u64 = 4 << 20;

/// A gap between two wanted blobs of a pack that is fetched rather than asked around, in bytes.
const GAP: u64 = 64 << 10;

/// Threads that fetch and write.
const THREADS: usize = 6;

/// Where an image is restored to.
#[derive(Debug)]
pub struct BlockTarget<'a> {
    /// A file that is exactly as long as the image, or a device that is at least that long.
    pub file: &'a File,
    /// What messages call it.
    pub path: &'a Path,
    /// What is in it already.
    pub holds: Holds,
}

/// What a target holds before a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Zeros: a new sparse file, a discarded thin device. Zeros are left out.
    Zeros,
    /// Anything: everything is written, zeros as holes.
    Anything,
    /// Much of the image: it is read first, and only what differs is written.
    Similar,
}

/// Restores an image.
pub fn block(
    repository: &Repository,
    backup: &Backup,
    target: &BlockTarget<'_>,
    progress: &Arc<Progress>,
) -> Result<RestoreReport> {
    let _held = progress.governs();
    let image = Image::open(repository, backup)?;
    let layout = *image.layout();
    let failed = |doing, source| EngineError::Target {
        doing,
        path: target.path.to_owned(),
        source,
    };
    let room = sparse::size(target.file).map_err(|source| failed("find the size of", source))?;
    if room < layout.size {
        let why = format!(
            "{} has {room} bytes, and the backup needs {}",
            target.path.display(),
            layout.size
        );
        return Err(EngineError::Invalid(why));
    }
    progress.expect(layout.size, 0);
    progress.phase("restoring");
    let work = Work {
        repository,
        target,
        layout,
        zero: zero_id(u64::from(layout.chunk)),
        progress,
        written: AtomicU64::new(0),
    };
    work.run(&image)?;
    progress.phase("syncing");
    target.file.sync_all().map_err(|source| failed("sync", source))?;
    Ok(RestoreReport {
        bytes: layout.size,
        written_bytes: work.written.load(Relaxed),
        files: 1,
    })
}

struct Work<'a> {
    repository: &'a Repository,
    target: &'a BlockTarget<'a>,
    layout: Layout,
    zero: Id,
    progress: &'a Arc<Progress>,
    written: AtomicU64,
}

/// Blobs that lie near each other in one pack, and where their contents belong.
struct Fetch {
    range: Range<u64>,
    blobs: Vec<(Location, Vec<u64>)>,
}

impl Work<'_> {
    /// This thread plans, and is at most a few fetches ahead of those that fetch and write.
    fn run(&self, image: &Image<'_>) -> Result<()> {
        let failure = Mutex::new(None);
        let planned = std::thread::scope(|scope| {
            let (sender, fetches) = bounded::<Fetch>(THREADS);
            for _ in 0..THREADS {
                let (fetches, failure) = (fetches.clone(), &failure);
                scope.spawn(move || {
                    let _held = self.progress.governs();
                    for fetch in fetches {
                        let failed = || failure.lock().unwrap_or_else(PoisonError::into_inner);
                        if failed().is_some() {
                            return;
                        }
                        if let Err(error) = self.fetch(&fetch) {
                            failed().get_or_insert(error);
                            return;
                        }
                    }
                });
            }
            drop(fetches);
            let segments = self.layout.segments();
            for first in (0..segments).step_by(WINDOW as usize) {
                for fetch in self.window(image, first..(first + WINDOW).min(segments))? {
                    // Nobody takes it: they have failed, and say why.
                    if sender.send(fetch).is_err() {
                        return Ok(());
                    }
                }
            }
            Ok(())
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => planned,
        }
    }

    /// Sees to a window's zeros, and says what is to be fetched for the rest.
    fn window(&self, image: &Image<'_>, segments: Range<u64>) -> Result<Vec<Fetch>> {
        let numbers: Vec<u64> = segments.collect();
        let chunks = parallel::map(&numbers, THREADS, |number| image.segment(*number))?;
        let mut wanted: HashMap<Id, Vec<u64>> = HashMap::new();
        let mut zeros: Vec<Range<u64>> = Vec::new();
        for (number, chunks) in numbers.iter().zip(chunks) {
            for (at, id) in chunks.iter().enumerate() {
                let range = self.layout.chunk(*number, at);
                if *id == self.zero && range.end - range.start == u64::from(self.layout.chunk) {
                    match zeros.last_mut() {
                        Some(last) if last.end == range.start => last.end = range.end,
                        _ => zeros.push(range),
                    }
                } else {
                    wanted.entry(*id).or_default().push(range.start);
                }
            }
        }
        zeros.iter().try_for_each(|range| self.zeros(range))?;
        if self.target.holds == Holds::Similar {
            self.leave_out_what_is_right(&mut wanted)?;
        }
        Ok(plan(self.locate(wanted)?))
    }

    fn locate(&self, wanted: HashMap<Id, Vec<u64>>) -> Result<Vec<(Location, Vec<u64>)>> {
        let locate = |(id, at): (Id, Vec<u64>)| Ok((self.repository.locate(BlobKind::Data, &id)?, at));
        wanted.into_iter().map(locate).collect()
    }

    fn zeros(&self, range: &Range<u64>) -> Result<()> {
        self.progress.check()?;
        let failed = |source| self.failed("write", source);
        match self.target.holds {
            Holds::Zeros => {}
            Holds::Anything => sparse::zero(self.target.file, range.clone()).map_err(failed)?,
            Holds::Similar => {
                let mut buffer = vec![0; self.layout.chunk as usize];
                for at in (range.start..range.end).step_by(self.layout.chunk as usize) {
                    self.target
                        .file
                        .read_exact_at(&mut buffer, at)
                        .map_err(|source| self.failed("read", source))?;
                    if !is_zero(&buffer) {
                        sparse::zero(self.target.file, at..at + buffer.len() as u64).map_err(failed)?;
                        self.written.fetch_add(buffer.len() as u64, Relaxed);
                    }
                }
            }
        }
        self.progress.done(range.end - range.start, 0);
        Ok(())
    }

    /// Drops from `wanted` what the target has already.
    fn leave_out_what_is_right(&self, wanted: &mut HashMap<Id, Vec<u64>>) -> Result<()> {
        let list: Vec<(Id, Vec<u64>)> = wanted.drain().collect();
        let kept = parallel::map(&list, parallel::processors(), |(id, places)| {
            self.progress.check()?;
            let mut differ = Vec::new();
            for at in places {
                let length = (self.layout.size - at).min(u64::from(self.layout.chunk)) as usize;
                let mut buffer = vec![0; length];
                self.target
                    .file
                    .read_exact_at(&mut buffer, *at)
                    .map_err(|source| self.failed("read", source))?;
                if Id::of(&buffer) == *id {
                    self.progress.done(length as u64, 0);
                } else {
                    differ.push(*at);
                }
            }
            Ok((*id, differ))
        })?;
        wanted.extend(kept.into_iter().filter(|(_, places)| !places.is_empty()));
        Ok(())
    }

    fn fetch(&self, fetch: &Fetch) -> Result<()> {
        self.progress.check()?;
        let Some((one, _)) = fetch.blobs.first() else {
            return Ok(());
        };
        let bytes =
            self.repository
                .read_pack(&one.pack, fetch.range.start, fetch.range.end - fetch.range.start)?;
        let mut room = Room::default();
        let (mut first, mut end) = (u64::MAX, 0);
        for (location, places) in &fetch.blobs {
            let begin = (u64::from(location.blob.offset) - fetch.range.start) as usize;
            let sealed = &bytes[begin..begin + location.blob.length as usize];
            let plain = self.repository.unseal_into(location, sealed, &mut room)?;
            self.progress.read(plain.len() as u64);
            for at in places {
                self.write(plain, *at, &location.blob.id)?;
                (first, end) = (first.min(*at), end.max(at + plain.len() as u64));
            }
        }
        // The disk begins now, and not when all is in memory.
        durable::begin_writing(self.target.file, first..end).map_err(|source| self.failed("write", source))
    }

    fn write(&self, plain: &[u8], at: u64, id: &Id) -> Result<()> {
        let expected = (self.layout.size - at).min(u64::from(self.layout.chunk));
        let expected = expected.min(crate::engine::image::SEGMENT - at % crate::engine::image::SEGMENT);
        if plain.len() as u64 != expected {
            let why = format!(
                "it has {} bytes where the image has a chunk of {expected}",
                plain.len()
            );
            return Err(self.repository.corrupt(format!("the data {}", id.short()), why));
        }
        self.target
            .file
            .write_all_at(plain, at)
            .map_err(|source| self.failed("write", source))?;
        self.written.fetch_add(plain.len() as u64, Relaxed);
        self.progress.done(plain.len() as u64, 0);
        Ok(())
    }

    fn failed(&self, doing: &'static str, source: std::io::Error) -> EngineError {
        EngineError::Target {
            doing,
            path: self.target.path.to_owned(),
            source,
        }
    }
}

/// Groups blobs so that neighbours are fetched at once.
fn plan(mut blobs: Vec<(Location, Vec<u64>)>) -> Vec<Fetch> {
    blobs.sort_unstable_by_key(|(location, _)| (location.pack, location.blob.offset));
    let mut fetches: Vec<Fetch> = Vec::new();
    for (location, places) in blobs {
        let begin = u64::from(location.blob.offset);
        let end = begin + u64::from(location.blob.length);
        match fetches.last_mut() {
            Some(last)
                if last.blobs[0].0.pack == location.pack
                    && begin >= last.range.start
                    && begin <= last.range.end + GAP
                    && end - last.range.start <= FETCH =>
            {
                last.range.end = last.range.end.max(end);
                last.blobs.push((location, places));
            }
            _ => fetches.push(Fetch {
                range: begin..end,
                blobs: vec![(location, places)],
            }),
        }
    }
    fetches
}
