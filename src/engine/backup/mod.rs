//! Backups: what all of them have in common. The lock, the writer, and the snapshot at the end.

mod assembly;
pub mod block;
mod files;
mod record;
pub mod tree;
mod walk;

use std::sync::Arc;

use super::manifest::{DATA_NAME, Kind};
use super::tree::{Node, Tree};
use super::writer::Written;
use super::{
    Access, Backup, BlobKind, Id, Lock, Manifest, Progress, Repository, Result, SnapshotFile, Summary,
    Writer, repair,
};
use crate::model::Consistency;

/// The tag that all our snapshots have.
const TAG: &str = "windlass";

/// What a backup is of, and how it is made.
#[derive(Debug, Clone)]
pub struct Request {
    /// What it is of.
    pub manifest: Manifest,
    /// The host that the record names.
    pub hostname: String,
    /// zstd's level.
    pub level: i32,
    /// Whether packs are taken over that an interrupted backup left in no index. Not where those who fail take their packs back:
    /// what is taken over might be that ([`repair::begin_uploads_alone`]).
    pub adopts: bool,
    /// Nothing is written where all is as the newest backup of the volume has it, and that backup promises as much.
    pub only_if_changed: bool,
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct BackupReport {
    /// The backup.
    pub backup: Backup,
    /// Whether it is an older one, which still is as the source is now.
    pub unchanged: bool,
    /// What was written for it.
    pub written: Written,
    /// The backup that it was made in comparison with.
    pub parent: Option<Id>,
}

/// What the walk over a source gives.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    /// The root directory; none where nothing has changed, and nothing need be written.
    pub tree: Option<Id>,
    /// Files that the parent did not have, had otherwise, and had the same.
    pub files: (u64, u64, u64),
    /// Bytes in the backup.
    pub bytes: u64,
}

/// Makes a backup: `walk` stores the content, and the snapshot follows when all of it is confirmed.
pub(super) fn make(
    repository: &Repository,
    request: &Request,
    progress: &Arc<Progress>,
    walk: impl FnOnce(&Writer, Option<&Backup>) -> Result<Content>,
) -> Result<BackupReport> {
    let _held = progress.governs();
    let start = super::now();
    progress.phase("preparing");
    let lock = Lock::take(repository, Access::Shared)?;
    repository.refresh()?;
    let parent = newest_of_volume(repository, &request.manifest)?;
    let adopted = match request.adopts {
        true => repair::begin_uploads(repository, &lock, parent.is_none(), progress)?,
        false => repair::Adopted::default(),
    };
    let writer = Writer::new(repository, request.level, progress)?;
    progress.phase("backing up");
    let content = walk(&writer, parent.as_ref())?;
    progress.phase("finishing");
    let written = writer.finish(&lock)?;
    let Some(tree) = content.tree else {
        adopted.confirm(repository)?;
        repair::end_uploads(repository);
        let backup = parent.expect("what has not changed was there before");
        return Ok(BackupReport {
            parent: Some(backup.id),
            backup,
            unchanged: true,
            written,
        });
    };
    let record = SnapshotFile {
        time: super::now(),
        parent: parent.as_ref().map(|parent| parent.id),
        tree,
        paths: vec![format!("/{}", request.manifest.volume.name)],
        hostname: request.hostname.clone(),
        username: "windlass".to_owned(),
        tags: vec![TAG.to_owned()],
        program_version: format!("windlass {}", env!("CARGO_PKG_VERSION")),
        original: None,
        summary: Some(Summary {
            backup_start: start,
            backup_end: super::now(),
            files_new: content.files.0,
            files_changed: content.files.1,
            files_unmodified: content.files.2,
            data_blobs: written.data_blobs,
            tree_blobs: written.tree_blobs,
            data_added: written.new_bytes,
            data_added_packed: written.stored_bytes,
            total_files_processed: content.files.0 + content.files.1 + content.files.2,
            total_bytes_processed: content.bytes,
            windlass_bytes_read: progress.figures().read_bytes,
            other: serde_json::Map::new(),
        }),
        windlass: Some(request.manifest.clone()),
        other: serde_json::Map::new(),
    };
    adopted.confirm(repository)?;
    // The writer looked before it wrote the index.
    lock.check_again()?;
    let json = serde_json::to_vec(&record).expect("text and numbers can be written as JSON");
    let id = repository.write_file("snapshots", &json)?;
    repair::end_uploads(repository);
    let parent = record.parent;
    Ok(BackupReport {
        backup: Backup { id, record },
        unchanged: false,
        written,
        parent,
    })
}

/// What the newest backup has under the name of the data, where no other backup is wanted if that is as it is now: it must have
/// the same size, and promise no less.
fn data_to_beat(repository: &Repository, request: &Request, newest: Option<&Backup>) -> Result<Option<Node>> {
    let Some(newest) = newest.filter(|_| request.only_if_changed) else {
        return Ok(None);
    };
    let (now, before) = (&request.manifest, newest.manifest());
    let as_good = before.is_some_and(|before| {
        (before.size, before.chunk_bytes, &before.filesystem) == (now.size, now.chunk_bytes, &now.filesystem)
            && (before.snapshot.consistency == now.snapshot.consistency
                || now.snapshot.consistency == Consistency::PerFile.word())
    });
    if !as_good {
        return Ok(None);
    }
    let bytes = repository.blob(BlobKind::Tree, &newest.record.tree)?;
    // What cannot be read is no reason to leave a backup out.
    Ok(Tree::decode(&bytes)
        .ok()
        .and_then(|root| root.find(DATA_NAME.as_ref()).cloned()))
}

/// The backup to compare with: the newest of this volume and kind.
fn newest_of_volume(repository: &Repository, manifest: &Manifest) -> Result<Option<Backup>> {
    let same = |backup: &Backup| {
        backup
            .manifest()
            .is_some_and(|theirs| theirs.volume.id == manifest.volume.id && theirs.kind == manifest.kind)
    };
    Ok(repository.backups()?.into_iter().rev().find(same))
}

/// Whether a manifest is of a kind.
pub(super) fn is_of(manifest: &Manifest, kind: Kind) -> Result<()> {
    if manifest.kind == kind {
        return Ok(());
    }
    let why = format!("the backup is of kind {:?}, not {kind:?}", manifest.kind);
    Err(super::EngineError::Invalid(why.to_lowercase()))
}
