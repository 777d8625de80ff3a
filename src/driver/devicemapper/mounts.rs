//! Showing a volume at a target: its filesystem mounted there, recognised by its device in the kernel's own table.

use std::path::{Path, PathBuf};

use super::super::{DriverError, Result, Users};
use super::kernel::{Info, Writable};
use super::options::Filesystem;
use super::records::ThinId;
use super::{Devicemapper, NAME, filesystem};
use crate::model::{Bytes, Volume};
use crate::sys::holders::{self, Visibility};
use crate::sys::mount;
use crate::sys::mountinfo::{self, Device};

impl Devicemapper {
    pub(super) fn mount_volume(&self, volume: &Volume, target: &Path) -> Result<()> {
        if self.is_shown(volume, target)? {
            return Ok(());
        }
        let record = self.records().must_have(&volume.name, volume.id)?;
        let thin = Self::must_have_data(&record, "mount")?;
        let device = self.pin(thin, Self::size_of(&record.volume)?, Writable::Yes)?;
        let number = self.thins.find(thin)?.map(|info| info.device);
        let is_mounted = mountinfo::read_self()?
            .iter()
            .any(|mount| Some(mount.device) == number);
        // What is mounted elsewhere must not be repaired; nor need it be.
        if !is_mounted {
            filesystem::repair(device.path())?;
        }
        let fs = filesystem::must_recognise(device.path())?;
        let options = record.volume.options.get("mountopts").map_or("", String::as_str);
        match mount::mount(device.path(), target, fs.word(), options) {
            // A restored XFS has the UUID of the one that was backed up, and the kernel refuses a second one beside it.
            Err(error) if fs == Filesystem::Xfs && error.errno() == Some(libc::EINVAL) => {
                let options = format!("{options},nouuid");
                Ok(mount::mount(device.path(), target, fs.word(), &options)?)
            }
            mounted => Ok(mounted?),
        }
    }

    /// The volume's device, if it is active.
    fn active(&self, volume: &Volume) -> Result<Option<(ThinId, Info)>> {
        let record = self.records().same(&volume.name, volume.id)?;
        let Some(thin) = record.and_then(|record| record.thin) else {
            return Ok(None);
        };
        Ok(self.thins.find(thin)?.map(|info| (thin, info)))
    }

    pub(super) fn is_shown(&self, volume: &Volume, target: &Path) -> Result<bool> {
        let Some((_, info)) = self.active(volume)? else {
            return Ok(false);
        };
        let mounts = mountinfo::read_self()?;
        let top = mountinfo::find_at(&mounts, resolved(target)).map(|stack| stack.top);
        Ok(top.is_some_and(|mount| mount.device == info.device && mount.root == Path::new("/")))
    }

    /// Takes all mounts of the volume away from the target, and the device too when nobody uses it any more.
    pub(super) fn unmount_volume(&self, volume: &Volume, target: &Path) -> Result<()> {
        let Some((thin, info)) = self.active(volume)? else {
            return Ok(());
        };
        let target = resolved(target);
        loop {
            let mounts = mountinfo::read_self()?;
            let top = mountinfo::find_at(&mounts, &target).map(|stack| stack.top.device);
            if top != Some(info.device) {
                break;
            }
            match mount::unmount(&target) {
                // Somebody else was faster.
                Err(error) if error.errno() == Some(libc::EINVAL) => break,
                Err(error) if error.is_busy() => return Err(self.busy(volume, &target)),
                result => result?,
            }
        }
        if let Err(error) = self.thins.deactivate(thin) {
            log::warn!("{NAME}: volume {}: its device stays: {error}", volume.name);
        }
        Ok(())
    }

    fn busy(&self, volume: &Volume, target: &Path) -> DriverError {
        let by = match self.find_users(volume, &[target.to_owned()]) {
            Ok(Users::Known(users)) if !users.is_empty() => users.join(", "),
            _ => "a process that works in it".to_owned(),
        };
        DriverError::Busy {
            what: format!("volume {} at {}", volume.name, target.display()),
            by,
            remedy: "end that first".to_owned(),
        }
    }

    pub(super) fn find_users(&self, volume: &Volume, ours: &[PathBuf]) -> Result<Users> {
        let Some((thin, info)) = self.active(volume)? else {
            // A device that is not there is used by nobody.
            return Ok(Users::Known(Vec::new()));
        };
        let found = holders::find_device(info.device, ours)?;
        let mut shown: Vec<String> = found
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
        // A filesystem has the device open once, however often it is mounted.
        let mounted = mountinfo::read_self()?
            .iter()
            .any(|mount| mount.device == info.device);
        if info.open > i32::from(mounted) {
            shown.extend(self.openers(thin, info.device)?);
        }
        match found.visibility {
            // Whom the daemon does see is a user, whomever it does not see.
            Visibility::OwnNamespaceOnly if shown.is_empty() && info.open > i32::from(mounted) => {
                Ok(Users::Unknown)
            }
            Visibility::OwnNamespaceOnly if shown.is_empty() && mounted => Ok(Users::Unknown),
            _ => Ok(Users::Known(shown)),
        }
    }

    /// Who has the device itself open.
    pub(super) fn openers(&self, thin: ThinId, device: Device) -> Result<Vec<String>> {
        let name = self.thins.name(thin);
        let mut openers: Vec<String> = holders::openers(device)?
            .into_iter()
            .map(|opener| format!("{} (pid {}), which has {name} open", opener.comm, opener.pid))
            .collect();
        // Other devices upon it, by the kernel's own account.
        let above = format!("/sys/dev/block/{}:{}/holders", device.0, device.1);
        for holder in std::fs::read_dir(above).into_iter().flatten().flatten() {
            openers.push(format!("the device {}", holder.file_name().to_string_lossy()));
        }
        Ok(openers)
    }

    pub(super) fn trim_volume(&self, volume: &Volume) -> Result<Bytes> {
        let record = self.records().must_have(&volume.name, volume.id)?;
        let thin = Self::must_have_data(&record, "trim")?;
        let device = self.pin(thin, Self::size_of(&record.volume)?, Writable::Yes)?;
        let number = self.thins.find(thin)?.map(|info| info.device);
        let mounts = mountinfo::read_self()?;
        let before = self.mapped(volume)?.used;
        match mounts.iter().find(|mount| Some(mount.device) == number) {
            Some(mount) => filesystem::trim(&mount.mount_point)?,
            None => {
                filesystem::repair(device.path())?;
                filesystem::trim_unseen(device.path())?;
            }
        }
        // What the filesystem says it gave up counts what it never used; the pool knows what came back.
        Ok(Bytes(before.0.saturating_sub(self.mapped(volume)?.used.0)))
    }
}

/// The target as the table writes it. One that is gone, or does not answer, is taken as it is given.
pub(super) fn resolved(target: &Path) -> PathBuf {
    target.canonicalize().unwrap_or_else(|_| target.to_owned())
}
