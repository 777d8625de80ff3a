//! Showing a volume at a target: a bind mount of its directory, recognised in the kernel's own table.
//!
//! A bind mount is known by its filesystem's device and by the directory of that filesystem that it shows. Both are
//! compared as the table says them, so that no path is touched that might hang.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::super::{DriverError, Result, Usage, Users};
use super::{Vfs, layout};
use crate::model::{Bytes, Name, Snapshot, Volume};
use crate::sys::holders::{self, Visibility};
use crate::sys::mount::{self, Access};
use crate::sys::mountinfo::{self, Device, MountEntry};
use crate::sys::tree;

/// A directory as the table of mounts names it: whatever it is bound to, these two stay the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    device: Device,
    /// From the filesystem's root.
    directory: PathBuf,
}

impl Place {
    /// Of a canonical path; `None` where the table does not know its filesystem.
    pub(super) fn of(path: &Path) -> Result<Option<Self>> {
        Ok(Self::among(&mountinfo::read_self()?, path))
    }

    fn among(mounts: &[MountEntry], path: &Path) -> Option<Self> {
        let mount = mountinfo::find_containing(mounts, path)?;
        let inside = path.strip_prefix(&mount.mount_point).ok()?;
        // Joining an empty path would add a slash.
        let directory = if inside.as_os_str().is_empty() {
            mount.root.clone()
        } else {
            mount.root.join(inside)
        };
        Some(Self {
            device: mount.device,
            directory,
        })
    }

    fn join(&self, inside: impl AsRef<Path>) -> Self {
        Self {
            device: self.device,
            directory: self.directory.join(inside),
        }
    }

    fn is_shown_by(&self, mount: &MountEntry) -> bool {
        mount.device == self.device && mount.root == self.directory
    }

    /// As [`Self::is_shown_by`], also where the directory has been removed meanwhile.
    fn was_shown_by(&self, mount: &MountEntry) -> bool {
        let root = mount.root.as_os_str().as_bytes();
        let root = root.strip_suffix(b"//deleted").unwrap_or(root);
        mount.device == self.device && OsStr::from_bytes(root) == self.directory
    }
}

impl Vfs {
    pub(super) fn bind(&self, volume: &Volume, target: &Path) -> Result<()> {
        if self.is_bound(volume, target)? {
            return Ok(());
        }
        self.layout.check_present()?;
        // Its own record: another host may be the one that restores it.
        let volume = &self.layout.must_read(&volume.name, volume.id)?;
        DriverError::refuse_restoring(volume, "mount")?;
        let data = self.layout.data(&volume.name);
        if !layout::is_real_dir(&data)? {
            return Err(self.without_directory(volume));
        }
        Ok(mount::bind(data, target, Access::ReadWrite)?)
    }

    pub(super) fn is_bound(&self, volume: &Volume, target: &Path) -> Result<bool> {
        let mounts = mountinfo::read_self()?;
        let top = mountinfo::find_at(&mounts, resolved(target)).map(|stack| stack.top);
        let place = Place::among(&mounts, &self.layout.data(&volume.name));
        Ok(matches!((top, place), (Some(top), Some(place)) if place.is_shown_by(top)))
    }

    /// Takes all mounts of the volume away from the target, whichever way they came to lie one upon another.
    pub(super) fn unbind(&self, volume: &Volume, target: &Path) -> Result<()> {
        let target = resolved(target);
        loop {
            let mounts = mountinfo::read_self()?;
            let Some(stack) = mountinfo::find_at(&mounts, &target) else {
                return Ok(());
            };
            let places = self.places(volume, &mounts);
            if !places.iter().any(|place| place.was_shown_by(stack.top)) {
                return Ok(());
            }
            match mount::unmount(&target) {
                // Somebody else was faster.
                Err(error) if error.errno() == Some(libc::EINVAL) => return Ok(()),
                Err(error) if error.is_busy() => return Err(self.busy(volume, target)),
                result => result?,
            }
        }
    }

    /// Shows a snapshot's tree, read-only.
    pub(super) fn look_at(&self, volume: &Volume, snapshot: &Snapshot, target: &Path) -> Result<()> {
        self.layout.check_present()?;
        let volume = self.layout.must_read(&volume.name, volume.id)?;
        let shown = self.shown(&volume)?;
        let at = resolved(target);
        if shown
            .iter()
            .any(|(name, place)| *name == snapshot.name && *place == at)
        {
            return Ok(());
        }
        let tree = self.must_have_snapshot(&volume, snapshot)?;
        Ok(mount::bind(tree, target, Access::ReadOnly)?)
    }

    pub(super) fn look_away(&self, volume: &Volume, snapshot: &Snapshot, target: &Path) -> Result<()> {
        let at = resolved(target);
        let shown = self.shown(volume)?;
        for _ in shown
            .iter()
            .filter(|(name, place)| *name == snapshot.name && *place == at)
        {
            match mount::unmount(&at) {
                Err(error) if error.is_busy() => {
                    return Err(DriverError::Busy {
                        what: format!("snapshot {}@{} at {}", volume.name, snapshot.name, at.display()),
                        by: "a process that works in it".to_owned(),
                        remedy: "end that first".to_owned(),
                    });
                }
                unmounted => unmounted?,
            }
        }
        Ok(())
    }

    /// Where trees of the volume's snapshots are mounted.
    pub(super) fn shown(&self, volume: &Volume) -> Result<Vec<(Name, PathBuf)>> {
        let mounts = mountinfo::read_self()?;
        let mut shown = Vec::new();
        for snapshot in volume
            .snapshots
            .iter()
            .filter(|snapshot| snapshot.stored.is_none())
        {
            let tree = self.layout.snapshot(volume.id, &snapshot.name);
            // On btrfs, the table names a subvolume's directory from the root of all.
            let Some(place) = Place::among(&mounts, &tree) else {
                continue;
            };
            let places = mounts
                .iter()
                .filter(|mount| place.was_shown_by(mount) && mount.mount_point != tree);
            shown.extend(places.map(|mount| (snapshot.name.clone(), mount.mount_point.clone())));
        }
        Ok(shown)
    }

    /// Where the volume's data can be: at its place or, if another host removed it, in the trash; by the table of now
    /// or, if the path's own filesystem has gone, by that of then.
    fn places(&self, volume: &Volume, mounts: &[MountEntry]) -> Vec<Place> {
        let path = self.layout.path();
        let trashed = self.layout.trashed(volume.id).data();
        let trashed = trashed.strip_prefix(path).unwrap_or(&trashed);
        let homes = [Place::among(mounts, path), self.home.clone()]
            .into_iter()
            .flatten();
        let mut places: Vec<Place> = homes
            .flat_map(|home| [home.join(&volume.name), home.join(trashed)])
            .collect();
        // A filesystem of its own may be mounted on the volume's directory.
        places.extend(Place::among(mounts, &self.layout.data(&volume.name)));
        places
    }

    fn busy(&self, volume: &Volume, target: PathBuf) -> DriverError {
        let at = target.display().to_string();
        let by = match self.find_users(volume, &[target]) {
            Ok(Users::Known(users)) if !users.is_empty() => users.join(", "),
            _ => "a process that works in it".to_owned(),
        };
        DriverError::Busy {
            what: format!("volume {} at {at}", volume.name),
            by,
            remedy: "end that first".to_owned(),
        }
    }

    pub(super) fn find_users(&self, volume: &Volume, ours: &[PathBuf]) -> Result<Users> {
        let data = self.layout.data(&volume.name);
        if !layout::is_real_dir(&data)? {
            // Whoever had it mounted when it was removed still has it; the kernel knows it by no name.
            return Ok(Users::Unknown);
        }
        let found = holders::find(data, ours)?;
        let shown: Vec<String> = found
            .holders
            .iter()
            .map(|holder| {
                format!(
                    "{} (pid {}) at {}",
                    holder.comm,
                    holder.pid,
                    holder.mount_point.display()
                )
            })
            .collect();
        // Whom the daemon does see is a user, whomever it does not see.
        match found.visibility {
            Visibility::OwnNamespaceOnly if shown.is_empty() => Ok(Users::Unknown),
            _ => Ok(Users::Known(shown)),
        }
    }

    pub(super) fn measure(&self, volume: &Volume) -> Result<Usage> {
        let data = self.layout.data(&volume.name);
        if !layout::is_real_dir(&data)? {
            return Err(self.without_directory(volume));
        }
        let used = match self.quotas.usage(volume, &data)? {
            Some(used) => used,
            None => Bytes(tree::disk_usage(&data, &())?.allocated_bytes),
        };
        Ok(Usage {
            used,
            exclusive: None,
            limit: volume.size,
        })
    }
}

/// The target as the table writes it. One that is gone, or does not answer, is taken as it is given.
fn resolved(target: &Path) -> PathBuf {
    target.canonicalize().unwrap_or_else(|_| target.to_owned())
}
