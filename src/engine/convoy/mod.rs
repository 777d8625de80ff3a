//! Convoy's backup repositories, read: what Convoy 0.5 left at a destination can be listed and brought back.
//!
//! The layout lies below `convoy-objectstore` (see [`layout`]): a record per volume, a record per backup, and either blocks
//! of 2 MiB, named by their checksums and shared by the volume's backups, or one tar.gz per backup. The facts are those
//! of Convoy 0.5.2. This room only reads; nothing here can write into such a repository. Everything that is read is
//! untrusted: sizes and counts are bounded, checksums verified, and no name in an archive leads out of the target.
//!
//! What Convoy did not protect cannot be checked here: an archive has no checksum but gzip's own and the name of its
//! snapshot that gzip noted, and the texts in the records (times and such) have nothing at all.

mod archive;
mod blocks;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing;
pub mod layout;
mod object;
mod pax;
mod records;
mod sparse;
#[cfg(test)]
mod tests;
mod tree;

use std::path::Path;
use std::sync::Arc;

use super::manifest::Kind;
use super::{EngineError, Progress, Result};
use crate::store::{Store, StoreError};

pub use blocks::BlockTarget;
pub use tree::Unpacked;

/// The bytes of Convoy's blocks; volumes are multiples of it.
pub const BLOCK_BYTES: u64 = 2 << 20;

/// A repository of Convoy's, at one destination.
pub struct Reader {
    store: Arc<dyn Store>,
}

/// One backup: what Convoy's `backup inspect` shows, and what it takes to restore it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ConvoyBackup {
    /// Convoy's `BackupName`, e.g. `backup-0123456789abcdef`.
    pub name: String,
    /// `DriverName`: `devicemapper`, `vfs` or `ebs`.
    pub driver: String,
    /// `VolumeName`.
    pub volume: String,
    /// `VolumeSize` in bytes; 0 of a directory tree, which has none.
    pub volume_size: u64,
    /// `VolumeCreatedAt`, as Convoy wrote it: `Mon Jan 02 15:04:05 -0700 2006`.
    pub volume_created_at: String,
    /// `SnapshotName`.
    pub snapshot: String,
    /// `SnapshotCreatedAt`, in the same form.
    pub snapshot_created_at: String,
    /// `CreatedTime` of the backup, in the same form.
    pub created_at: String,
    /// How it is restored: an image by [`Reader::restore_block`], a tree by [`Reader::restore_tree`].
    pub kind: Kind,
    /// Of an image: how many blocks of [`BLOCK_BYTES`] it has; the rest of the volume is zeros. Of a tree 0.
    pub blocks: u64,
}

impl ConvoyBackup {
    /// `BackupURL` at this destination, as Convoy writes it.
    pub fn url(&self, destination: &str) -> String {
        format!("{destination}?backup={}&volume={}", self.name, self.volume)
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("location", &self.store.location())
            .finish()
    }
}

impl Reader {
    /// The repository at the store's root, or `None` where there is none of Convoy's.
    pub fn open(store: Arc<dyn Store>) -> Result<Option<Self>> {
        let inside = store.directories(layout::BASE)?;
        let found = inside.iter().any(|name| name == layout::VOLUMES);
        Ok(found.then_some(Self { store }))
    }

    /// The volumes that have a record, in the order of their names.
    ///
    /// # Errors
    /// A directory that no volume of Convoy's can have is [`EngineError::Corrupt`].
    pub fn volumes(&self) -> Result<Vec<String>> {
        let base = format!("{}/{}", layout::BASE, layout::VOLUMES);
        let mut found = Vec::new();
        for first in self.store.directories(&base)? {
            for second in self.store.directories(&format!("{base}/{first}"))? {
                let parent = format!("{base}/{first}/{second}");
                for directory in self.store.directories(&parent)? {
                    let path = format!("{parent}/{directory}");
                    let volume = directory.trim_end_matches('!');
                    if layout::volume_directory(volume).as_deref() != Some(path.as_str()) {
                        return Err(self.corrupt(&path, "no volume's directory can be here"));
                    }
                    // Convoy's vfs destinations keep the empty directories of some deleted volumes.
                    if self.store.stat(&layout::volume_record(&path))?.is_some() {
                        found.push(volume.to_owned());
                    }
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// The names of a volume's backups, in their order, without reading their records.
    ///
    /// # Errors
    /// [`EngineError::NoRepository`] where the volume has no record here.
    pub fn backup_names(&self, volume: &str) -> Result<Vec<String>> {
        let directory = self.volume_directory(volume)?;
        if self.store.stat(&layout::volume_record(&directory))?.is_none() {
            return Err(self.no_volume(volume));
        }
        let below = layout::backups(&directory);
        let mut found = Vec::new();
        for object in self.store.list(&below)? {
            // Other files are what an interrupted write left (`….cfg.tmp`).
            let name = object.path.strip_prefix(&below).unwrap_or_default();
            if let Some(name) = layout::backup_of_record(name.trim_start_matches('/')) {
                found.push(name.to_owned());
            }
        }
        found.sort();
        Ok(found)
    }

    /// All backups of a volume, in the order of their names.
    ///
    /// # Errors
    /// One damaged record is an error that names it; [`Reader::backup_names`] and [`Reader::backup`] reach the others.
    pub fn backups(&self, volume: &str) -> Result<Vec<ConvoyBackup>> {
        let names = self.backup_names(volume)?;
        names.iter().map(|name| self.backup(volume, name)).collect()
    }

    /// One backup.
    ///
    /// # Errors
    /// [`EngineError::NoBackup`]; [`EngineError::NoRepository`] where the volume has no record here.
    pub fn backup(&self, volume: &str, name: &str) -> Result<ConvoyBackup> {
        Ok(self.load(volume, name)?.0)
    }

    /// Writes the image's blocks. The target is `volume_size` bytes long and all zeros: stretches of zeros are not written.
    ///
    /// Blocks are read by a few threads at once, so `target` is called from several; each block is verified before any
    /// of it is written. Nothing is synced.
    pub fn restore_block(
        &self,
        backup: &ConvoyBackup,
        target: &dyn BlockTarget,
        progress: &Progress,
    ) -> Result<()> {
        let _held = progress.governs();
        match self.load_again(backup)? {
            records::Content::Blocks(list) => {
                blocks::restore(&*self.store, &backup.volume, list, target, progress)
            }
            records::Content::Archive(_) => Err(EngineError::Invalid(format!(
                "Convoy's backup {} is of a directory tree, not of an image",
                backup.name
            ))),
        }
    }

    /// Unpacks the archive into `target`, an existing empty directory, which gets the archived root's own attributes.
    ///
    /// Owners are taken by number. Nothing is synced; after an error an unfinished tree is left there.
    pub fn restore_tree(
        &self,
        backup: &ConvoyBackup,
        target: &Path,
        progress: &Progress,
    ) -> Result<Unpacked> {
        let _held = progress.governs();
        match self.load_again(backup)? {
            records::Content::Archive(path) => tree::restore(&*self.store, &path, backup, target, progress),
            records::Content::Blocks(_) => Err(EngineError::Invalid(format!(
                "Convoy's backup {} is of an image, not of a directory tree",
                backup.name
            ))),
        }
    }

    fn load(&self, volume: &str, name: &str) -> Result<(ConvoyBackup, records::Content)> {
        let directory = self.volume_directory(volume)?;
        if !layout::is_name(name) {
            return Err(self.no_backup(name));
        }
        let object = layout::volume_record(&directory);
        let record = self.read(&object, records::VOLUME_LIMIT)?;
        let record = record.ok_or_else(|| self.no_volume(volume))?;
        let about = records::volume(&record, volume).map_err(|why| self.corrupt(&object, &why))?;
        let object = layout::backup_record(&directory, name);
        let record = self.read(&object, records::BACKUP_LIMIT)?;
        let record = record.ok_or_else(|| self.no_backup(name))?;
        records::backup(&record, &about, &directory, name).map_err(|why| self.corrupt(&object, &why))
    }

    /// What the backup holds; the record has to be the one that the caller looked at, whose size the target has.
    fn load_again(&self, backup: &ConvoyBackup) -> Result<records::Content> {
        let (now, content) = self.load(&backup.volume, &backup.name)?;
        if now != *backup {
            return Err(EngineError::Invalid(format!(
                "the record of Convoy's backup {} was changed meanwhile; try again",
                backup.name
            )));
        }
        Ok(content)
    }

    fn read(&self, path: &str, limit: u64) -> Result<Option<bytes::Bytes>> {
        match self.store.get(path, limit) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn volume_directory(&self, volume: &str) -> Result<String> {
        layout::volume_directory(volume).ok_or_else(|| self.no_volume(volume))
    }

    fn corrupt(&self, object: &str, why: &str) -> EngineError {
        corrupt(&*self.store, object, why)
    }

    fn no_volume(&self, volume: &str) -> EngineError {
        EngineError::NoRepository {
            location: self.store.location(),
            remedy: format!(
                " of Convoy's for a volume {volume:?}; `windlass repo list` shows those that there are"
            ),
        }
    }

    fn no_backup(&self, name: &str) -> EngineError {
        EngineError::NoBackup {
            location: self.store.location(),
            id: name.escape_debug().to_string(),
            remedy: " of Convoy's; `windlass repo list` shows those that there are".to_owned(),
        }
    }
}

fn corrupt(store: &dyn Store, object: &str, why: &str) -> EngineError {
    EngineError::Corrupt {
        location: store.location(),
        object: object.to_owned(),
        why: why.to_owned(),
    }
}
