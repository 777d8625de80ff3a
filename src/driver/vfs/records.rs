//! Reading and writing records, and never believing one that contradicts its place.
//!
//! The path may be shared with other hosts or with people who edit files: a record is data from outside. It must name what
//! its file name says; [`super::super::document`] reads the file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::document::read;
pub(super) use super::super::document::{read_small, remove as remove_file, to_json};
use super::super::{DriverError, Listing, Result};
use super::layout::{self, Layout};
use super::{NAME, doing};
use crate::model::{Name, Time, Trashed, Volume, VolumeId};
use crate::sys::durable;

/// A volume that was let go, its data left in place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The volume as it was.
    pub(super) volume: Volume,
    /// When it was let go.
    pub(super) let_go: Time,
    /// What a later version wrote.
    #[serde(flatten)]
    pub(super) later: BTreeMap<String, serde_json::Value>,
}

impl Layout {
    /// The record of the volume of that name.
    pub(super) fn read_volume(&self, name: &Name) -> Result<Option<Volume>> {
        let path = self.record(name);
        let Some(volume) = read::<Volume>(&path)? else {
            // Absent with the whole store is not absent.
            self.check_present()?;
            return Ok(None);
        };
        check_volume(&path, name, &volume)?;
        Ok(Some(volume))
    }

    /// The record of this very volume: of that name and that id.
    pub(super) fn read_same(&self, name: &Name, id: VolumeId) -> Result<Option<Volume>> {
        Ok(self.read_volume(name)?.filter(|volume| volume.id == id))
    }

    /// As [`Self::read_same`], where it must be there.
    pub(super) fn must_read(&self, name: &Name, id: VolumeId) -> Result<Volume> {
        self.read_same(name, id)?.ok_or_else(|| DriverError::NotFound {
            what: format!("volume {name}"),
        })
    }

    /// The record of the volume of that name that was let go.
    pub(super) fn read_kept(&self, name: &Name) -> Result<Option<Kept>> {
        let path = self.kept(name);
        let Some(kept) = read::<Kept>(&path)? else {
            return Ok(None);
        };
        check_volume(&path, name, &kept.volume)?;
        Ok(Some(kept))
    }

    /// The record of a removed volume; that it can be brought back takes its data too.
    pub(super) fn read_trashed(&self, id: VolumeId) -> Result<Option<Trashed>> {
        let path = self.trashed(id).record();
        let Some(trashed) = read::<Trashed>(&path)? else {
            return Ok(None);
        };
        check_trashed(&path, id, &trashed)?;
        Ok(Some(trashed))
    }

    /// The record of a volume that is being destroyed.
    pub(super) fn read_purging(&self, id: VolumeId) -> Result<Option<Trashed>> {
        let path = self.trashed(id).purging();
        let Some(trashed) = read::<Trashed>(&path)? else {
            return Ok(None);
        };
        check_trashed(&path, id, &trashed)?;
        Ok(Some(trashed))
    }

    /// All volumes, and all records that cannot be believed.
    pub(super) fn list(&self) -> Result<Listing> {
        let dir = self.records();
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) => {
                self.check_present()?;
                return Err(doing("read directory", &dir)(error));
            }
        };
        let mut listing = Listing::default();
        for entry in entries {
            let file_name = entry.map_err(doing("read directory", &dir))?.file_name();
            if durable::is_temporary(&file_name) {
                continue;
            }
            let shown = file_name.to_string_lossy().into_owned();
            let path = dir.join(&file_name);
            let name = file_name.to_str().and_then(|name| Name::volume(name).ok());
            let Some(name) = name else {
                listing.damaged.push((
                    shown,
                    format!("{} is not named as a volume can be", path.display()),
                ));
                continue;
            };
            let read = read::<Volume>(&path).and_then(|volume| {
                volume
                    .map(|v| check_volume(&path, &name, &v).map(|()| v))
                    .transpose()
            });
            match read {
                Ok(Some(volume)) => listing.volumes.push(volume),
                // Removed since the directory was read.
                Ok(None) => {}
                Err(error) => listing.damaged.push((shown, error.to_string())),
            }
        }
        listing.volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listing)
    }

    /// All removed volumes that can be brought back. Entries that are incomplete are operations under way, or damaged.
    pub(super) fn list_trash(&self) -> Result<Vec<Trashed>> {
        let dir = self.trash();
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) => {
                self.check_present()?;
                return Err(doing("read directory", &dir)(error));
            }
        };
        let mut trash = Vec::new();
        for entry in entries {
            let file_name = entry.map_err(doing("read directory", &dir))?.file_name();
            let Some(id) = file_name.to_str().and_then(|name| name.parse::<VolumeId>().ok()) else {
                continue;
            };
            match self.read_trashed(id) {
                Ok(Some(trashed)) if layout::is_real_dir(&self.trashed(id).data())? => trash.push(trashed),
                Ok(_) => {}
                Err(error) => log::warn!("vfs: a removed volume cannot be brought back: {error}"),
            }
        }
        trash.sort_by(|a, b| (a.removed, &a.volume.name).cmp(&(b.removed, &b.volume.name)));
        Ok(trash)
    }

    /// Replaces the record of a volume.
    pub(super) fn write_volume(&self, volume: &Volume) -> Result<()> {
        Ok(durable::write_atomic(
            self.record(&volume.name),
            &to_json(volume),
            0o600,
        )?)
    }

    /// Makes the record of a volume: the commit of everything that gives a volume its name.
    pub(super) fn create_volume(&self, volume: &Volume) -> Result<()> {
        match durable::create_exclusive(self.record(&volume.name), &to_json(volume), 0o600) {
            Err(error) if error.is_already_exists() => Err(DriverError::AlreadyExists {
                what: format!("volume {}", volume.name),
                remedy: "choose another name".to_owned(),
            }),
            result => Ok(result?),
        }
    }
}

/// The record to be of a volume whose tree is complete; one that is not of this volume is damage.
pub(super) fn read_ready(path: &Path, name: &Name, id: VolumeId) -> Result<Option<Volume>> {
    let Some(volume) = read::<Volume>(path)? else {
        return Ok(None);
    };
    check_volume(path, name, &volume)?;
    if volume.id != id {
        let why = format!("it is the record of the volume with id {}", volume.id);
        return Err(DriverError::Corrupt {
            path: path.to_owned(),
            why,
        });
    }
    Ok(Some(volume))
}

fn check_volume(path: &Path, name: &Name, volume: &Volume) -> Result<()> {
    let why = if volume.name != *name {
        format!("it is the record of volume {}", volume.name)
    } else if volume.driver != NAME {
        format!("it is the record of a volume of the driver {:?}", volume.driver)
    } else {
        return Ok(());
    };
    Err(DriverError::Corrupt {
        path: path.to_owned(),
        why,
    })
}

fn check_trashed(path: &Path, id: VolumeId, trashed: &Trashed) -> Result<()> {
    if trashed.volume.id != id {
        let why = format!("it is the record of the volume with id {}", trashed.volume.id);
        return Err(DriverError::Corrupt {
            path: path.to_owned(),
            why,
        });
    }
    check_volume(path, &trashed.volume.name, &trashed.volume)
}
