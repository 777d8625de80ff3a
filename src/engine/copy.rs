//! Backups from one repository to another: another place, another password.
//!
//! What the destination lacks is opened, checked against its id, and sealed for the destination; what it has is not read. All
//! trees are read and all that they name is found in the source's index before anything is written, and each snapshot is
//! written last, with the manifest and with the source's id as its `original`. Files are not cut anew: if the repositories'
//! chunker polynomials differ, later backups of changed files share less with what was copied, and nothing else.

use std::sync::{Arc, Mutex};

use serde::Serialize;

use super::haul::{self, Haul};
use super::index::{Marks, Table};
use super::reach::Walker;
use super::writer::Written;
use super::{Access, Backup, BlobKind, Id, Lock, Progress, Repository, Result, Writer, repair, seal};

/// What was copied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CopyReport {
    /// Backups that were copied: the id there, and the id here.
    pub copied: Vec<(Id, Id)>,
    /// Backups that the destination had already.
    pub present: Vec<(Id, Id)>,
    /// Blobs of data and directories that the destination lacked.
    pub new_blobs: u64,
    /// Their bytes, before compression.
    pub new_bytes: u64,
    /// Their bytes as stored in the destination.
    pub stored_bytes: u64,
    /// Whether the repositories cut files differently.
    pub chunkers_differ: bool,
}

/// Copies backups, the oldest first.
///
/// # Errors
/// [`super::EngineError::Locked`]; whatever is damaged or missing in the source, and then none of these backups is in the
/// destination.
pub fn copy(
    from: &Repository,
    to: &Repository,
    backups: &[Id],
    progress: &Arc<Progress>,
) -> Result<CopyReport> {
    let _held = progress.governs();
    let from_lock = Lock::take(from, Access::Shared)?;
    let to_lock = Lock::take(to, Access::Shared)?;
    let mut report = CopyReport {
        chunkers_differ: from.config().chunker_polynomial != to.config().chunker_polynomial,
        ..CopyReport::default()
    };
    progress.phase("reading the backups");
    let there = to.backups()?;
    let mut missing = Vec::new();
    for id in backups {
        let backup = from.backup(id)?;
        match there.iter().find(|other| is_copy(&backup, other)) {
            Some(copy) => report.present.push((*id, copy.id)),
            None => missing.push(backup),
        }
    }
    if missing.is_empty() {
        return Ok(report);
    }
    missing.sort_by_key(|backup| (backup.record.time, backup.id));
    missing.dedup_by_key(|backup| backup.id);
    from.refresh()?;
    to.refresh()?;
    let adopted = repair::begin_uploads(to, &to_lock, there.is_empty(), progress)?;
    let written = copy_blobs(from, to, &missing, &to_lock, progress)?;
    report.new_blobs = written.data_blobs + written.tree_blobs;
    report.new_bytes = written.new_bytes;
    report.stored_bytes = written.stored_bytes;
    from_lock.check()?;
    adopted.confirm(to)?;
    // The writer looked before it wrote the index.
    to_lock.check_again()?;
    for backup in missing {
        progress.check()?;
        let mut record = backup.record;
        // The parent's id is that of another repository.
        record.parent = None;
        record.original = record.original.or(Some(backup.id));
        let json = serde_json::to_vec(&record).expect("what was read as JSON can be written as JSON");
        report
            .copied
            .push((backup.id, to.write_file("snapshots", &json)?));
    }
    repair::end_uploads(to);
    Ok(report)
}

/// Whether `other` is what `backup` would become, or both are copies of the same.
fn is_copy(backup: &Backup, other: &Backup) -> bool {
    let (here, there) = (&backup.record, &other.record);
    let origin = |backup: &Backup| backup.record.original.unwrap_or(backup.id);
    origin(backup) == origin(other) && (here.tree, here.time) == (there.tree, there.time)
}

/// Copies what `backups` name and the destination lacks, and puts it into its index: data first, so that a copy that is
/// cut off leaves no directory there whose content is not.
fn copy_blobs(
    from: &Repository,
    to: &Repository,
    backups: &[Backup],
    lock: &Lock,
    progress: &Arc<Progress>,
) -> Result<Written> {
    let table = from.index()?.whole(from.cache())?;
    let walker = Walker {
        repository: from,
        table: &table,
        read: &|location| from.tree_blob(location),
        progress,
    };
    let roots = backups.iter().map(|backup| backup.record.tree);
    let reach = walker.walk(roots, &|fault| Err(fault.error))?;
    progress.phase("copying");
    let writer = Writer::new(to, seal::LEVEL, progress)?;
    let haul = Haul {
        repository: from,
        progress,
        large: Mutex::new(()),
    };
    for kind in [BlobKind::Data, BlobKind::Tree] {
        let lacking = Lacking::find(&table, to, &reach.used, kind)?;
        progress.expect_more(lacking.bytes, lacking.packs.len() as u64);
        haul::by_pack(
            &table,
            &lacking.packs,
            |number, _| lacking.blobs.get(number),
            |pack, blobs| {
                haul.read(pack, blobs, |blob, _, plain| {
                    writer.save_as(blob.kind, blob.id, &plain)?;
                    progress.done(plain.len() as u64, 0);
                    Ok(())
                })?;
                progress.done(0, 1);
                Ok(())
            },
        )?;
    }
    writer.finish(lock)
}

/// The blobs of one kind that are used here and are not in the destination.
struct Lacking {
    blobs: Marks,
    /// Those that have them here, with how many.
    packs: Vec<(Id, u64)>,
    /// Plain.
    bytes: u64,
}

impl Lacking {
    fn find(table: &Table, to: &Repository, used: &Marks, kind: BlobKind) -> Result<Self> {
        let index = to.index()?;
        let blobs = Marks::new(table.len());
        let mut packs = std::collections::BTreeMap::new();
        let mut bytes = 0;
        table.for_each_blob(|first, places| {
            let place = &places[0];
            if place.blob.kind == kind && used.get(first) && index.find(kind, &place.blob.id)?.is_none() {
                blobs.set(first);
                *packs.entry(place.pack).or_default() += 1;
                bytes += place.blob.plain();
            }
            Ok(())
        })?;
        Ok(Self {
            blobs,
            packs: packs.into_iter().collect(),
            bytes,
        })
    }
}
