//! Restores of directory trees: into a new or empty directory, or over what is there.
//!
//! Three threads: one plans from the backup's trees, one has the content fetched, pack by pack and with several requests at
//! once, and the caller's writes, entry after entry, with others' help for new files. Every blob is checked against its id before a byte of it is written;
//! the first failure ends the restore. Names come from the backup and are never more than one step from an open directory.

use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::fetch::fetch;
use super::fill::Filler;
pub(in crate::engine) use super::plan::read_tree;
use super::plan::{Batch, Planner, Wanted, attributes};
use crate::engine::manifest::{DATA_NAME, FILE_NAME};
use crate::engine::tree::{Node, NodeKind};
use crate::engine::{Backup, BlobKind, EngineError, Id, Kind, Manifest, Progress, Repository, Result};
use crate::sys::tree::{Metadata, Source, Target};
use crate::sys::{SysError, durable};

/// Where a tree is restored to, and what of it.
#[derive(Debug, Clone, Copy)]
pub struct TreeRestore<'a> {
    /// The directory that becomes what was backed up.
    pub target: &'a Path,
    /// What may be in it.
    pub onto: Onto,
    /// Only these, with the directories above them; paths from the root of what was backed up. All, if there are none.
    pub paths: &'a [PathBuf],
}

/// What a restore finds at its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Onto {
    /// Nothing: the target is absent or empty.
    Empty,
    /// Anything: it is compared byte by byte, and only what differs is written. What the backup does not have stays, or
    /// is removed.
    Existing {
        /// Removed.
        remove_others: bool,
    },
}

/// What a restore of a tree did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TreeReport {
    /// Files, each inode once.
    pub files: u64,
    /// Files whose content was there already.
    pub files_unchanged: u64,
    /// Directories, the root included.
    pub directories: u64,
    /// Symbolic links, device nodes, FIFOs and sockets.
    pub others: u64,
    /// Further names of an inode.
    pub hard_links: u64,
    /// The sizes of all files.
    pub bytes: u64,
    /// Bytes that were written; the rest was holes, or there already.
    pub written_bytes: u64,
    /// Entries that were removed because the backup does not have them.
    pub removed: u64,
    /// Extended attributes that the target's filesystem does not support, or that only root may set.
    pub attributes_refused: u64,
    /// Entries of a type that no filesystem here has.
    pub left_out: u64,
}

impl TreeReport {
    /// Adds what another part of the work did.
    pub(super) fn add(&mut self, part: &Self) {
        self.files += part.files;
        self.files_unchanged += part.files_unchanged;
        self.directories += part.directories;
        self.others += part.others;
        self.hard_links += part.hard_links;
        self.bytes += part.bytes;
        self.written_bytes += part.written_bytes;
        self.removed += part.removed;
        self.attributes_refused += part.attributes_refused;
        self.left_out += part.left_out;
    }
}

/// Restores a tree, one that plain restic made too, and makes it durable.
///
/// # Errors
/// [`EngineError::NoPath`] before anything is written; a blob that is missing or damaged as [`EngineError::Entry`]. What was
/// written before an error stays.
pub fn tree(
    repository: &Repository,
    backup: &Backup,
    restore: &TreeRestore<'_>,
    progress: &Progress,
) -> Result<TreeReport> {
    run(repository, backup, restore, progress).map_err(|error| match error {
        EngineError::System(SysError::Io { op, path, source }) => EngineError::Target {
            doing: op,
            path,
            source,
        },
        other => other,
    })
}

fn run(
    repository: &Repository,
    backup: &Backup,
    restore: &TreeRestore<'_>,
    progress: &Progress,
) -> Result<TreeReport> {
    let _held = progress.governs();
    let root = Root::find(repository, &backup.record.tree)?;
    let wanted = wanted(repository, backup, &root, restore.paths)?;
    if let Some(summary) = &backup.record.summary
        && wanted.is_empty()
    {
        progress.expect(summary.total_bytes_processed, summary.total_files_processed);
    }
    let target = Target::open(restore.target)?;
    if restore.onto == Onto::Empty && !target.names()?.is_empty() {
        return Err(EngineError::Invalid(format!(
            "{} is not empty; restore into an empty directory, or say that only what differs is to be written",
            restore.target.display()
        )));
    }
    let remove = restore.onto == Onto::Existing { remove_others: true };
    let over_existing = restore.onto != Onto::Empty;
    let existing = over_existing.then(|| Source::open(restore.target)).transpose()?;
    let filler = Filler::new(target, progress, over_existing, remove);
    let report = std::thread::scope(|scope| {
        let (batches, planned) = bounded(1);
        let (full, fetched) = bounded(1);
        scope.spawn(move || {
            let _held = progress.governs();
            let mut planner = Planner::new(repository, progress, restore.target, &batches);
            planner.existing = existing;
            planner.only = remove;
            let attributes = root.attributes.filter(|_| wanted.is_empty());
            planner.run(&root.tree, attributes, wanted)
        });
        scope.spawn(move || {
            let _held = progress.governs();
            fetch_all(repository, progress, &planned, &full);
        });
        fill_all(filler, &fetched)
    })?;
    durable::sync_filesystem(restore.target)?;
    Ok(report)
}

/// A batch with its blobs.
type Fetched = (Batch, std::collections::HashMap<Id, Vec<u8>>);

/// Passes batches on with their content, until the planner is at its end or a failure, or nobody wants more.
fn fetch_all(
    repository: &Repository,
    progress: &Progress,
    planned: &Receiver<Result<Batch>>,
    full: &Sender<Result<Fetched>>,
) {
    for batch in planned {
        let fetched = batch.and_then(|batch| {
            let blobs = fetch(repository, &batch, progress)?;
            Ok((batch, blobs))
        });
        let failed = fetched.is_err();
        if full.send(fetched).is_err() || failed {
            return;
        }
    }
}

/// Writes batch after batch. Returning lets the other threads end: nobody takes what they have.
fn fill_all(mut filler: Filler<'_>, fetched: &Receiver<Result<Fetched>>) -> Result<TreeReport> {
    for batch in fetched {
        let (batch, blobs) = batch?;
        filler.run(batch, &blobs)?;
    }
    filler.finish()
}

/// What a backup is of: the directory `data` where windlass made it, otherwise the root itself.
pub(in crate::engine) struct Root {
    pub(in crate::engine) tree: Id,
    attributes: Option<Metadata>,
}

impl Root {
    pub(in crate::engine) fn find(repository: &Repository, id: &Id) -> Result<Self> {
        let tree = read_tree(repository, id)?;
        let (Some(manifest), Some(data)) =
            (tree.find(OsStr::new(FILE_NAME)), tree.find(OsStr::new(DATA_NAME)))
        else {
            return Ok(Self {
                tree: *id,
                attributes: None,
            });
        };
        let NodeKind::Dir { subtree } = data.kind else {
            return Err(repository.corrupt(format!("the tree {}", id.short()), "its data are no directory"));
        };
        let kind = read_manifest(repository, manifest)?.kind;
        if kind != Kind::Tree {
            let why = "the backup is of an image, not of a directory; restore it to a file or a device";
            return Err(EngineError::Invalid(why.to_owned()));
        }
        Ok(Self {
            tree: subtree,
            attributes: Some(attributes(data)),
        })
    }
}

fn read_manifest(repository: &Repository, node: &Node) -> Result<Manifest> {
    const MOST_CHUNKS: usize = 4;
    let damaged = |why: String| repository.corrupt(FILE_NAME, why);
    let content = match &node.kind {
        NodeKind::File { content, .. } if content.len() <= MOST_CHUNKS => content,
        _ => return Err(damaged("it is no small file".to_owned())),
    };
    let mut json = Vec::new();
    for id in content {
        json.extend(repository.blob(BlobKind::Data, id)?);
    }
    let manifest: Manifest = serde_json::from_slice(&json).map_err(|error| damaged(error.to_string()))?;
    if manifest.version > Manifest::VERSION {
        let version = manifest.version;
        return Err(EngineError::Unsupported {
            location: repository.location(),
            why: format!("the backup is of version {version}, made by a newer windlass; use that one"),
        });
    }
    Ok(manifest)
}

/// The paths as names from the root on, all of which the backup has.
fn wanted(repository: &Repository, backup: &Backup, root: &Root, paths: &[PathBuf]) -> Result<Wanted> {
    let mut wanted = Wanted::new();
    for path in paths {
        let absent = || EngineError::NoPath {
            backup: backup.name(),
            path: path.display().to_string(),
        };
        let mut way = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => way.push(name.to_owned()),
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => return Err(absent()),
            }
        }
        if way.is_empty() {
            return Ok(Wanted::new());
        }
        if !has(repository, &root.tree, &way)? {
            return Err(absent());
        }
        wanted.push(way);
    }
    Ok(wanted)
}

fn has(repository: &Repository, root: &Id, way: &[OsString]) -> Result<bool> {
    let mut tree = *root;
    for (n, name) in way.iter().enumerate() {
        match read_tree(repository, &tree)?.find(name).map(|node| &node.kind) {
            Some(NodeKind::Dir { subtree }) => tree = *subtree,
            Some(_) => return Ok(n + 1 == way.len()),
            None => return Ok(false),
        }
    }
    Ok(true)
}
