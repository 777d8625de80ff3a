//! An archive unpacked into a directory, as `tar` would as root, and never outside of it.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::Path;

use uuid::Uuid;

use super::archive::{Archive, Entry, EntryKind, Flaw};
use super::blocks::is_zeros;
use super::object::{self, Gunzip, ObjectStream};
use super::sparse::Map;
use super::{ConvoyBackup, corrupt};
use crate::engine::{EngineError, Progress, Result};
use crate::store::Store;
use crate::sys::tree::{Attributes, InsidePath, Special, TreeBuilder};

/// Files are written in pieces of this size, and pieces of zeros become holes.
const PIECE_BYTES: u64 = 64 << 10;
/// The longest path or link in an archive; deeper trees than this do not come out of tar.
const PATH_LIMIT: usize = 64 << 10;

/// What came out of an archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Entries of all kinds.
    pub entries: u64,
    /// Bytes of all files, holes included.
    pub bytes: u64,
    /// Extended attributes that the target's filesystem does not support, and that were left out.
    pub attributes_refused: u64,
}

/// Unpacks the object at `path` into the empty directory `target`.
pub(super) fn restore(
    store: &dyn Store,
    path: &str,
    backup: &ConvoyBackup,
    target: &Path,
    progress: &Progress,
) -> Result<Unpacked> {
    progress.phase("unpacking Convoy's archive");
    let stream = ObjectStream::open(store, path, progress)?;
    // The progress is that of the archive, since nothing says how much is in it.
    progress.expect(stream.size(), 0);
    let mut unpacking = Unpacking {
        archive: Archive::new(Gunzip::new(stream)),
        builder: TreeBuilder::new(target)?,
        backup,
        target,
        progress,
        done: Unpacked::default(),
        buffer: vec![0; PIECE_BYTES as usize],
    };
    unpacking.run().map_err(|stop| match stop {
        Stop::Engine(error) => error,
        Stop::Flaw(Flaw::Read(error)) => object::unwrap(error, |why| corrupt(store, path, &why)),
        Stop::Flaw(Flaw::Damaged(why)) => corrupt(store, path, &why),
        Stop::Flaw(Flaw::Foreign(why)) => EngineError::Unsupported {
            location: store.location(),
            why: format!("{path}: {why}"),
        },
    })?;
    let attributes_refused = unpacking.builder.finish()?;
    Ok(Unpacked {
        attributes_refused,
        ..unpacking.done
    })
}

struct Unpacking<'a> {
    archive: Archive<Gunzip<ObjectStream<'a>>>,
    builder: TreeBuilder,
    backup: &'a ConvoyBackup,
    target: &'a Path,
    progress: &'a Progress,
    done: Unpacked,
    buffer: Vec<u8>,
}

enum Stop {
    Flaw(Flaw),
    Engine(EngineError),
}

impl From<Flaw> for Stop {
    fn from(flaw: Flaw) -> Self {
        Self::Flaw(flaw)
    }
}

impl<E: Into<EngineError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Engine(error.into())
    }
}

impl Unpacking<'_> {
    fn run(&mut self) -> std::result::Result<(), Stop> {
        while let Some(entry) = self.archive.next()? {
            self.progress.check()?;
            if self.done.entries == 0 {
                self.check_origin()?;
            }
            self.entry(entry)?;
            self.done.entries += 1;
            self.progress.done(0, 1);
        }
        Ok(())
    }

    /// Convoy's archives have no checksum in the records, but gzip notes the name of the file that it compressed, and
    /// that tells the archive of another snapshot.
    fn check_origin(&self) -> std::result::Result<(), Stop> {
        let name = self.archive.input().name().unwrap_or_default();
        let Some(origin) = name.strip_suffix(b".tar.gz.tmp") else {
            return Ok(());
        };
        let expected = format!("{}_{}", self.backup.volume, self.backup.snapshot);
        // Before 0.5, volumes and snapshots had UUIDs in place of names.
        let is_older = origin
            .split(|byte| *byte == b'_')
            .all(|part| Uuid::try_parse_ascii(part).is_ok());
        if origin != expected.as_bytes() && !is_older {
            return Err(Stop::Flaw(Flaw::Damaged(format!(
                "it is of \"{}\" (volume_snapshot), and the backup's record says \"{expected}\"",
                origin[..origin.len().min(600)].escape_ascii()
            ))));
        }
        Ok(())
    }

    fn entry(&mut self, entry: Entry) -> std::result::Result<(), Stop> {
        let path = inside(&entry.path)?;
        let attributes = Attributes {
            mode: entry.mode,
            owner: entry.owner,
            modified: entry.modified,
            accessed: entry.accessed,
            extended: entry
                .extended
                .into_iter()
                .map(|(name, value)| (OsStringExt::from_vec(name), value))
                .collect(),
        };
        match entry.kind {
            EntryKind::Directory => self.builder.directory(&path, attributes)?,
            EntryKind::File { size, map } => {
                let file = self.builder.file(&path)?;
                self.fill(&file, &entry.path, size, &map)?;
                self.builder.seal(&path, &file, &attributes)?;
                self.done.bytes = self.done.bytes.saturating_add(size);
            }
            EntryKind::Symlink(to) => {
                if to.is_empty() || to.len() > PATH_LIMIT {
                    return Err(refused(&entry.path, "leads nowhere"));
                }
                self.builder.symlink(&path, OsStr::from_bytes(&to), &attributes)?;
            }
            EntryKind::HardLink(to) => self.builder.hard_link(&path, &inside(&to)?)?,
            EntryKind::Fifo => self.builder.special(&path, Special::Fifo, &attributes)?,
            EntryKind::Character(major, minor) => {
                let kind = Special::Character(major, minor);
                self.builder.special(&path, kind, &attributes)?;
            }
            EntryKind::Block(major, minor) => {
                let kind = Special::Block(major, minor);
                self.builder.special(&path, kind, &attributes)?;
            }
        }
        Ok(())
    }

    /// The data of a file, holes where its map has them and where there are whole pieces of zeros.
    fn fill(&mut self, file: &File, path: &[u8], size: u64, map: &Map) -> std::result::Result<(), Stop> {
        let failed = |doing, source| EngineError::Target {
            doing,
            path: self.target.join(OsStr::from_bytes(path)),
            source,
        };
        for (offset, length) in &map.stretches {
            let (mut at, end) = (*offset, offset + length);
            while at < end {
                self.progress.check()?;
                // Pieces end at multiples of their size, so that holes are as large as they can be.
                let want = (end - at).min(PIECE_BYTES - at % PIECE_BYTES);
                let piece = &mut self.buffer[..want as usize];
                self.archive.read_data(piece)?;
                if !is_zeros(piece) {
                    file.write_all_at(piece, at)
                        .map_err(|error| failed("write", error))?;
                }
                at += want;
                self.progress.read(want);
            }
        }
        file.set_len(size)
            .map_err(|error| failed("set the length of", error))?;
        Ok(())
    }
}

fn inside(path: &[u8]) -> std::result::Result<InsidePath, Stop> {
    if path.is_empty() || path.len() > PATH_LIMIT {
        return Err(refused(path, "is no path"));
    }
    InsidePath::parse(path).ok_or_else(|| refused(path, "leads out of the volume"))
}

fn refused(path: &[u8], why: &str) -> Stop {
    let shown = &path[..path.len().min(200)];
    Stop::Flaw(Flaw::Damaged(format!(
        "the entry \"{}\" {why}",
        shown.escape_ascii()
    )))
}
