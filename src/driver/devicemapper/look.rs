//! A look at a snapshot: its filesystem, mounted read-only from a device that cannot be written to.

use std::path::{Path, PathBuf};

use super::super::{DriverError, Files, Result};
use super::kernel::Writable;
use super::mounts::resolved;
use super::options::Filesystem;
use super::{Devicemapper, NAME, filesystem};
use crate::model::{Name, Snapshot, Volume};
use crate::sys::detached::Detached;
use crate::sys::mount;
use crate::sys::mountinfo;

/// How a snapshot is mounted: its journal is as the freeze left it, with nothing to replay; and nothing could be written to do so.
fn without_journal(fs: Filesystem) -> &'static [&'static str] {
    match fs {
        Filesystem::Ext4 => &["noload"],
        Filesystem::Xfs => &["norecovery", "nouuid"],
    }
}

impl Devicemapper {
    pub(super) fn look_at(&self, volume: &Volume, snapshot: &Snapshot, target: &Path) -> Result<()> {
        let record = self.records().must_have(&volume.name, volume.id)?;
        let thin = Self::must_have_snapshot(&record, snapshot)?;
        let at = resolved(target);
        let shown = self.shown(&record.volume)?;
        if shown
            .iter()
            .any(|(name, place)| *name == snapshot.name && *place == at)
        {
            return Ok(());
        }
        let device = self.pin(thin, Self::size_of(&record.volume)?, Writable::No)?;
        let fs = filesystem::must_recognise(device.path())?;
        let options = format!("ro,{}", without_journal(fs).join(","));
        Ok(mount::mount(device.path(), target, fs.word(), &options)?)
    }

    pub(super) fn look_away(&self, volume: &Volume, snapshot: &Snapshot, target: &Path) -> Result<()> {
        let record = self.records().must_have(&volume.name, volume.id)?;
        let thin = Self::must_have_snapshot(&record, snapshot)?;
        let target = resolved(target);
        let shown = self.shown(&record.volume)?;
        for _ in shown
            .iter()
            .filter(|(name, place)| *name == snapshot.name && *place == target)
        {
            match mount::unmount(&target) {
                Err(error) if error.is_busy() => {
                    return Err(DriverError::Busy {
                        what: format!(
                            "snapshot {}@{} at {}",
                            volume.name,
                            snapshot.name,
                            target.display()
                        ),
                        by: "a process that works in it".to_owned(),
                        remedy: "end that first".to_owned(),
                    });
                }
                unmounted => unmounted?,
            }
        }
        if let Err(error) = self.thins.deactivate(thin) {
            log::warn!(
                "{NAME}: {}@{}: its device stays: {error}",
                volume.name,
                snapshot.name
            );
        }
        Ok(())
    }

    /// The files of a snapshot, mounted where nobody sees them: gone with the process, whatever becomes of it.
    pub(super) fn files_of(&self, volume: &Volume, snapshot: Option<&Snapshot>) -> Result<Files> {
        let record = self.records().must_have(&volume.name, volume.id)?;
        let Some(snapshot) = snapshot else {
            return Err(DriverError::Unsupported {
                what: format!(
                    "a look at the files of volume {} while it may be written to",
                    volume.name
                ),
                because: "its device would change meanwhile; take a snapshot, which costs nothing".to_owned(),
            });
        };
        let thin = Self::must_have_snapshot(&record, snapshot)?;
        let device = self.pin(thin, Self::size_of(&record.volume)?, Writable::No)?;
        let fs = filesystem::must_recognise(device.path())?;
        let mut options = vec!["ro"];
        options.extend(without_journal(fs));
        let mounted = Detached::mount(device.path(), fs.word(), &options)?;
        Ok(Files {
            // The dot: what is there is a link of procfs, which is to be followed.
            path: mounted.path().join("."),
            // In this order: the device is busy as long as it is mounted.
            held: Box::new((mounted, device)),
        })
    }

    /// Where snapshots of the volume are mounted.
    pub(super) fn shown(&self, volume: &Volume) -> Result<Vec<(Name, PathBuf)>> {
        if volume.snapshots.is_empty() {
            return Ok(Vec::new());
        }
        let Some(record) = self.records().same(&volume.name, volume.id)? else {
            return Ok(Vec::new());
        };
        let mounts = mountinfo::read_self()?;
        let mut shown = Vec::new();
        for snapshot in &record.volume.snapshots {
            let Some(thin) = record.snapshots.get(&snapshot.id) else {
                continue;
            };
            let Some(info) = self.thins.find(*thin)? else {
                continue;
            };
            let places = mounts.iter().filter(|mount| mount.device == info.device);
            shown.extend(places.map(|mount| (snapshot.name.clone(), mount.mount_point.clone())));
        }
        Ok(shown)
    }
}
