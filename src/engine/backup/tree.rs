//! Backups of directory trees: what is taken over from the backup before, and the threads that do the rest.
//!
//! One thread walks ([`super::walk`]) and compares with the parent's trees; a file that is as it was (type, size, mtime,
//! ctime, inode) is not read, its chunks are taken over. Others are read by threads of [`super::files`]; directories are put
//! together by [`super::assembly`].

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::bounded;

use super::assembly::{self, Directory};
use super::files::{self, Cutting};
use super::record::{Look, Owners};
use super::walk::Walk;
use super::{BackupReport, Content, Request};
use crate::engine::chunker::Chunker;
use crate::engine::manifest::FILE_NAME;
use crate::engine::tree::{FileTime, Node, NodeKind};
use crate::engine::{
    BlobKind, EngineError, Id, Kind, Manifest, Progress, Repository, Result, Writer, parallel,
};
use crate::sys::SysError;

/// Threads that read, and as many that store; more chunks under way would take too much memory.
const MOST_THREADS: usize = 6;

/// What a backup of a tree found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TreeCounts {
    /// Files that the parent did not have.
    pub files_new: u64,
    /// Files that were read because they differ from the parent's.
    pub files_changed: u64,
    /// Files that were taken over from the parent.
    pub files_unmodified: u64,
    /// Directories, the root included.
    pub directories: u64,
    /// Links, device nodes, FIFOs and sockets.
    pub others: u64,
    /// The sizes of all files.
    pub bytes: u64,
    /// Entries that were listed and gone when their turn came.
    pub vanished: u64,
    /// Places where something else is mounted; they are recorded as empty.
    pub mount_points: u64,
}

/// Backs a directory up, in comparison with the newest backup of the volume.
///
/// `progress` is told of entries as they turn up and as they are dealt with.
///
/// # Errors
/// Anything in the tree that cannot be read, by its name. Nothing is skipped but what vanishes, and what is mounted in it.
pub fn tree(
    repository: &Repository,
    request: &Request,
    root: &Path,
    progress: &Arc<Progress>,
) -> Result<(BackupReport, TreeCounts)> {
    super::is_of(&request.manifest, Kind::Tree)?;
    let mut counts = TreeCounts::default();
    let report = super::make(repository, request, progress, |writer, newest| {
        let parent = newest.map(|backup| backup.record.tree);
        let (data, found) = store(repository, writer, root, parent.as_ref(), progress)?;
        counts = found;
        let before = super::data_to_beat(repository, request, newest)?;
        let tree = match before.is_some_and(|before| is_same_directory(&before, &data)) {
            true => None,
            false => {
                let manifest = manifest_node(writer, &request.manifest)?;
                Some(assembly::store(vec![data, manifest], writer)?)
            }
        };
        Ok(Content {
            tree,
            files: (counts.files_new, counts.files_changed, counts.files_unmodified),
            bytes: counts.bytes,
        })
    })?;
    Ok((report, counts))
}

/// Whether two nodes are of directories with the same content, which nobody could tell apart but by when they were read, and
/// where they lie.
fn is_same_directory(one: &Node, other: &Node) -> bool {
    let plain = |node: &Node| Node {
        atime: node.mtime,
        ctime: node.mtime,
        inode: 0,
        device_id: 0,
        ..node.clone()
    };
    plain(one) == plain(other)
}

/// Stores a directory; its node, and what was found.
fn store(
    repository: &Repository,
    writer: &Writer,
    root: &Path,
    parent: Option<&Id>,
    progress: &Progress,
) -> Result<(Node, TreeCounts)> {
    let cutting = Cutting::new(chunker(repository)?);
    let work = Work {
        writer,
        progress,
        owners: Owners::default(),
        counts: Counts::default(),
        root: Mutex::new(None),
        failure: Mutex::new(None),
        failed: AtomicBool::new(false),
    };
    let threads = parallel::processors().min(MOST_THREADS);
    std::thread::scope(|scope| {
        let (files, file_jobs) = bounded(2 * threads);
        let (chunks, chunk_jobs) = bounded(2);
        for _ in 0..threads {
            let (file_jobs, chunks, chunk_jobs) = (file_jobs.clone(), chunks.clone(), chunk_jobs.clone());
            let (work, cutting) = (&work, &cutting);
            scope.spawn(move || files::read_all(work, cutting, &file_jobs, &chunks));
            scope.spawn(move || files::store_all(work, cutting, &chunk_jobs));
        }
        drop((file_jobs, chunks, chunk_jobs));
        work.note(Walk::run(&work, repository, root, parent, &files));
    });
    if let Some(error) = work.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(match error {
            EngineError::System(SysError::Io { path, source, .. }) => EngineError::Source { path, source },
            other => other,
        });
    }
    let data = work.root.into_inner().unwrap_or_else(PoisonError::into_inner);
    let data = data.expect("a walk without a failure completes its root");
    Ok((data, work.counts.sum()))
}

fn chunker(repository: &Repository) -> Result<Chunker> {
    let text = repository.config().chunker_polynomial;
    let damaged = |why: String| repository.corrupt("config", why);
    let polynomial = u64::from_str_radix(&text, 16).map_err(|error| damaged(format!("{text:?}: {error}")))?;
    Chunker::new(polynomial).map_err(|error| damaged(error.to_string()))
}

fn manifest_node(writer: &Writer, manifest: &Manifest) -> Result<Node> {
    let json = serde_json::to_vec_pretty(manifest).expect("text and numbers can be written as JSON");
    let chunk = writer.save(BlobKind::Data, &json)?;
    let kind = NodeKind::File {
        size: json.len() as u64,
        content: vec![chunk],
    };
    // The same manifest makes the same node.
    let secs = manifest.snapshot.created.as_second();
    let time = FileTime { secs, nanos: 0 };
    Ok(Node {
        name: FILE_NAME.into(),
        kind,
        mode: 0o644,
        mtime: time,
        atime: time,
        ctime: time,
        uid: 0,
        gid: 0,
        user: String::new(),
        group: String::new(),
        inode: 0,
        device_id: 0,
        links: 1,
        xattrs: Vec::new(),
    })
}

/// What all threads of a backup share.
pub(super) struct Work<'a> {
    pub(super) writer: &'a Writer,
    pub(super) progress: &'a Progress,
    pub(super) owners: Owners,
    pub(super) counts: Counts,
    /// The root's node, when all is stored.
    root: Mutex<Option<Node>>,
    /// The first; everything after it is in vain.
    failure: Mutex<Option<EngineError>>,
    failed: AtomicBool,
}

impl Work<'_> {
    /// Keeps a failure.
    pub(super) fn note(&self, result: Result<()>) {
        if let Err(error) = result {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert(error);
            self.failed.store(true, Relaxed);
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Relaxed)
    }

    /// Gives a directory an entry.
    pub(super) fn fill(&self, directory: &Arc<Directory>, place: usize, node: Node) -> Result<()> {
        self.keep_root(directory.fill(place, node, self.writer)?);
        Ok(())
    }

    /// Keeps the root's node, where that is what was completed.
    pub(super) fn keep_root(&self, root: Option<Node>) {
        if root.is_some() {
            *self.root.lock().unwrap_or_else(PoisonError::into_inner) = root;
        }
    }
}

/// Counted by all threads.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) files_new: AtomicU64,
    pub(super) files_changed: AtomicU64,
    pub(super) files_unmodified: AtomicU64,
    pub(super) directories: AtomicU64,
    pub(super) others: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) vanished: AtomicU64,
    pub(super) mount_points: AtomicU64,
}

impl Counts {
    /// A file that was read.
    pub(super) fn add_file(&self, look: &Look, size: u64) {
        let files = if look.changed {
            &self.files_changed
        } else {
            &self.files_new
        };
        files.fetch_add(1, Relaxed);
        self.bytes.fetch_add(size, Relaxed);
    }

    fn sum(&self) -> TreeCounts {
        TreeCounts {
            files_new: self.files_new.load(Relaxed),
            files_changed: self.files_changed.load(Relaxed),
            files_unmodified: self.files_unmodified.load(Relaxed),
            directories: self.directories.load(Relaxed),
            others: self.others.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            vanished: self.vanished.load(Relaxed),
            mount_points: self.mount_points.load(Relaxed),
        }
    }
}
