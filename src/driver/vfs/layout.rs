//! Where things are below the driver's path, and the marker that says whose they are.
//!
//! ```text
//! <path>/<name>/                                  a volume's data, where other tools find it too
//! <path>/.windlass/format.json                    the marker: the format and the store's identity
//! <path>/.windlass/volumes/<name>                 a volume's record
//! <path>/.windlass/kept/<name>                    the record of a volume let go with its data left in place
//! <path>/.windlass/snapshots/<volume id>/<name>   a snapshot: a tree or a read-only subvolume
//! <path>/.windlass/repository/<volume id>/        backups that are a volume's snapshots, where there are no better ones
//! <path>/.windlass/trash/<volume id>/             a removed volume: `record` and `data`
//! <path>/.windlass/staging/<id>/                  an operation under way
//! ```
//!
//! Paths are built from validated names and from ids only. The store's identity is remembered by the host, so that a
//! daemon that comes up while the path's filesystem is not mounted refuses to work instead of starting afresh in the
//! empty directory underneath.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::{DriverError, Result};
use super::{NAME, doing, records};
use crate::model::{Name, VolumeId};
use crate::sys::durable;

/// The version of this layout. A store with a higher one is left alone.
const FORMAT: u32 = 1;

/// The directory for everything that is not a volume's data. No volume's name can begin with a dot.
const PRIVATE: &str = ".windlass";

/// Its directories.
const ROOMS: [&str; 5] = ["volumes", "kept", "snapshots", "trash", "staging"];

/// Temporary files older than this belong to nobody that is still alive, on this host or on another.
const TEMPORARY_LIFETIME: Duration = Duration::from_secs(3_600);

/// The paths of one store.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    path: PathBuf,
    store: Uuid,
}

/// `format.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    format: u32,
    id: Uuid,
}

impl Layout {
    /// Opens the store at `path`; makes one where `expected` is `None` and there is none.
    pub(super) fn open(path: &Path, expected: Option<Uuid>) -> Result<Self> {
        if !path.is_absolute() {
            return Err(unavailable(format!(
                "vfs.path {} is not an absolute path",
                path.display()
            )));
        }
        let store = match (read_marker(path)?, expected) {
            (Some(marker), None) => marker.id,
            (Some(marker), Some(expected)) if marker.id == expected => expected,
            (Some(marker), Some(expected)) => {
                return Err(unavailable(format!(
                    "{} holds the store {}, but this host's volumes are in the store {expected}; is the right \
                     filesystem mounted there?",
                    path.display(),
                    marker.id
                )));
            }
            (None, Some(expected)) => {
                return Err(unavailable(format!(
                    "{} holds no store, but this host's volumes are in the store {expected} there; its filesystem is \
                     perhaps not mounted",
                    path.display()
                )));
            }
            (None, None) => make(path)?,
        };
        // Canonical, because the kernel's table of mounts is.
        let path = path.canonicalize().map_err(doing("resolve", path))?;
        let layout = Self { path, store };
        layout.check_rooms()?;
        layout.sweep();
        Ok(layout)
    }

    /// The identity in the marker.
    pub(super) fn store(&self) -> Uuid {
        self.store
    }

    /// The directory that holds the volumes' directories.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// `.windlass`.
    pub(super) fn private(&self) -> PathBuf {
        self.path.join(PRIVATE)
    }

    /// The data of the volume of that name.
    pub(super) fn data(&self, name: &Name) -> PathBuf {
        self.path.join(name)
    }

    /// The directories in `.windlass`.
    pub(super) fn rooms(&self) -> impl Iterator<Item = PathBuf> {
        let private = self.private();
        ROOMS.into_iter().map(move |room| private.join(room))
    }

    /// All records.
    pub(super) fn records(&self) -> PathBuf {
        self.private().join("volumes")
    }

    /// The record of the volume of that name.
    pub(super) fn record(&self, name: &Name) -> PathBuf {
        self.records().join(name)
    }

    /// The record of the volume of that name that was let go.
    pub(super) fn kept(&self, name: &Name) -> PathBuf {
        self.private().join("kept").join(name)
    }

    /// All snapshots of a volume.
    pub(super) fn snapshots(&self, volume: VolumeId) -> PathBuf {
        self.private().join("snapshots").join(volume.to_string())
    }

    /// A snapshot.
    pub(super) fn snapshot(&self, volume: VolumeId, name: &Name) -> PathBuf {
        self.snapshots(volume).join(name)
    }

    /// The repositories of all volumes. What is in them is not the driver's business, only that they go when their
    /// volumes go.
    pub(super) fn repositories(&self) -> PathBuf {
        self.private().join("repository")
    }

    /// A volume's repository.
    pub(super) fn repository(&self, volume: VolumeId) -> PathBuf {
        self.repositories().join(volume.to_string())
    }

    /// All removed volumes.
    pub(super) fn trash(&self) -> PathBuf {
        self.private().join("trash")
    }

    /// A removed volume.
    pub(super) fn trashed(&self, volume: VolumeId) -> Trashcan {
        Trashcan(self.trash().join(volume.to_string()))
    }

    /// The working area of an operation.
    pub(super) fn staging(&self, id: Uuid) -> Staging {
        Staging(self.private().join("staging").join(id.to_string()))
    }

    /// Differs when a record was made, replaced or removed: by the times of the directory that holds them.
    pub(super) fn generation(&self) -> Result<u64> {
        let dir = self.records();
        let Some(meta) = metadata(&dir)? else {
            self.check_present()?;
            return Err(DriverError::Corrupt {
                path: dir,
                why: "it is missing".to_owned(),
            });
        };
        let nanoseconds =
            |seconds: i64, rest: i64| seconds.wrapping_mul(1_000_000_000).wrapping_add(rest) as u64;
        let modified = nanoseconds(meta.mtime(), meta.mtime_nsec());
        let changed = nanoseconds(meta.ctime(), meta.ctime_nsec());
        // The inode too: another filesystem may be mounted here meanwhile.
        Ok(modified ^ changed.rotate_left(21) ^ meta.ino().rotate_left(42))
    }

    /// Checks that the store is still there: its filesystem may have been unmounted since it was opened. What is
    /// absent without it is not absent.
    pub(super) fn check_present(&self) -> Result<()> {
        match read_marker(&self.path)? {
            Some(marker) if marker.id == self.store => Ok(()),
            _ => Err(unavailable(format!(
                "the store {} is no longer at {}; its filesystem is perhaps not mounted",
                self.store,
                self.path.display()
            ))),
        }
    }

    /// A store without its records is damaged, not empty; the other rooms hold nothing when they are missing.
    fn check_rooms(&self) -> Result<()> {
        for path in self.rooms() {
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_dir() => {}
                Ok(_) => {
                    return Err(DriverError::Corrupt {
                        path,
                        why: "it is not a directory".to_owned(),
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && path != self.records() => {
                    make_dir(&path)?;
                    durable::sync_dir(self.private())?;
                }
                Err(error) => return Err(doing("read", &path)(error)),
            }
        }
        Ok(())
    }

    /// Removes temporary files that a crash left between the records.
    fn sweep(&self) {
        for room in [self.records(), self.private().join("kept")] {
            let entries = fs::read_dir(&room).into_iter().flatten().flatten();
            for entry in entries.filter(|entry| durable::is_temporary(&entry.file_name())) {
                let modified = entry.metadata().and_then(|meta| meta.modified());
                let age = modified
                    .ok()
                    .and_then(|modified| SystemTime::now().duration_since(modified).ok());
                if age.is_some_and(|age| age > TEMPORARY_LIFETIME)
                    && let Err(error) = fs::remove_file(entry.path())
                {
                    log::warn!("vfs: {} stays behind: {error}", entry.path().display());
                }
            }
        }
    }
}

/// `trash/<volume id>/`.
#[derive(Debug)]
pub(super) struct Trashcan(PathBuf);

impl Trashcan {
    pub(super) fn dir(&self) -> &Path {
        &self.0
    }

    /// The record; while it is there together with the data, the volume can be brought back.
    pub(super) fn record(&self) -> PathBuf {
        self.0.join("record")
    }

    /// The record's name once the volume is being destroyed.
    pub(super) fn purging(&self) -> PathBuf {
        self.0.join("purging")
    }

    pub(super) fn data(&self) -> PathBuf {
        self.0.join("data")
    }
}

/// `staging/<id>/`.
#[derive(Debug)]
pub(super) struct Staging(PathBuf);

impl Staging {
    pub(super) fn dir(&self) -> &Path {
        &self.0
    }

    /// What is being made.
    pub(super) fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    /// What it takes the place of, on filesystems that cannot exchange two names.
    pub(super) fn old(&self) -> PathBuf {
        self.0.join("old")
    }

    /// Written once `data` is complete and durable; says what it is.
    pub(super) fn ready(&self) -> PathBuf {
        self.0.join("ready")
    }

    /// Makes the area itself.
    pub(super) fn make(&self) -> Result<()> {
        make_dir(&self.0)
    }
}

/// Makes a directory that only root enters; one that is there already is fine.
pub(super) fn make_dir(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_real_dir(path)? => Ok(()),
        result => result.map_err(doing("create directory", path)),
    }
}

/// Whether a directory is there, which a symbolic link to one is not.
pub(super) fn is_real_dir(path: &Path) -> Result<bool> {
    Ok(metadata(path)?.is_some_and(|meta| meta.is_dir()))
}

/// What is at `path`, links not followed; `None` when nothing is.
pub(super) fn metadata(path: &Path) -> Result<Option<fs::Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(doing("read", path)(error)),
    }
}

fn unavailable(why: String) -> DriverError {
    DriverError::Unavailable { driver: NAME, why }
}

fn read_marker(path: &Path) -> Result<Option<Marker>> {
    let path = path.join(PRIVATE).join("format.json");
    let Some(bytes) = records::read_small(&path)? else {
        return Ok(None);
    };
    let corrupt = |why: String| DriverError::Corrupt {
        path: path.clone(),
        why,
    };
    // The version first: what a later one says beyond it is not ours to judge.
    let value: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
    match value["format"].as_u64() {
        Some(format) if format == u64::from(FORMAT) => {}
        Some(format) => {
            return Err(unavailable(format!(
                "{} says format {format}, and this version of windlass knows format {FORMAT} only",
                path.display()
            )));
        }
        None => return Err(corrupt("it says no format".to_owned())),
    }
    serde_json::from_value(value)
        .map(Some)
        .map_err(|error| corrupt(error.to_string()))
}

/// Makes a new store. The marker comes last: a crash before leaves empty directories, and the next start begins again.
fn make(path: &Path) -> Result<Uuid> {
    // A path that windlass makes is closed to the host's users, as the files of containers are none of their business;
    // one that was there stays as its owner set it.
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(doing("create directory", parent))?;
    }
    if metadata(path)?.is_none() {
        make_dir(path)?;
    }
    let private = path.join(PRIVATE);
    make_dir(&private)?;
    for room in ROOMS {
        make_dir(&private.join(room))?;
    }
    durable::sync_dir(&private)?;
    durable::sync_dir(path)?;
    if let Some(parent) = path.parent() {
        durable::sync_dir(parent)?;
    }
    let marker = Marker {
        format: FORMAT,
        id: Uuid::new_v4(),
    };
    match durable::create_exclusive(private.join("format.json"), &records::to_json(&marker), 0o600) {
        Ok(()) => Ok(marker.id),
        // Another host was faster: its store is ours too.
        Err(error) if error.is_already_exists() => {
            let theirs = read_marker(path)?;
            theirs.map(|marker| marker.id).ok_or_else(|| error.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// The names in a directory; none when it is absent.
pub(super) fn names(path: &Path) -> Result<Vec<std::ffi::OsString>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.map_err(doing("read directory", path))?,
    };
    entries
        .map(|entry| {
            entry
                .map(|entry| entry.file_name())
                .map_err(doing("read directory", path))
        })
        .collect()
}
