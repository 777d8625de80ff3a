//! The filesystem on a thin device: made, recognised, repaired, worked on unseen.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use super::super::{DriverError, Result};
use super::options::Filesystem;
use super::{NAME, failed};
use crate::model::RootDirectory;
use crate::sys::SysError;
use crate::sys::detached::Detached;
use crate::sys::exec::Exec;

/// A check of a large filesystem takes its time; a mount waits for it.
const CHECK_LIMIT: Duration = Duration::from_secs(900);

/// Makes an empty filesystem. The device is new, so it reads as zeros: nothing is discarded, and tables that are to be zeros
/// are neither written now nor later, which would take space in the pool for nothing.
pub(super) fn make(device: &Path, fs: Filesystem) -> Result<()> {
    match fs {
        Filesystem::Ext4 => {
            let with = |extended: &str| {
                Exec::new("mkfs.ext4")
                    .args(["-q", "-F", "-E", extended])
                    .arg(device)
                    .run()
            };
            match with("nodiscard,assume_storage_prezeroed=1,lazy_journal_init=1") {
                // Before e2fsprogs 1.47 it knows no prezeroed devices.
                Err(SysError::Command { .. }) => {
                    with("nodiscard,lazy_itable_init=1,lazy_journal_init=1")?;
                }
                made => drop(made?),
            }
        }
        Filesystem::Xfs => {
            Exec::new("mkfs.xfs").args(["-q", "-f", "-K"]).arg(device).run()?;
        }
    }
    Ok(())
}

/// What is on a device, by its magic numbers (ext4's superblock is 1 KiB behind the beginning, with the number 0xEF53 at 56).
pub(super) fn recognise(device: &Path) -> Result<Option<Filesystem>> {
    let file = File::open(device).map_err(failed("open", device))?;
    let head = Head::read(&file).map_err(failed("read", device))?;
    Ok(head.filesystem())
}

/// Repairs what a crash left, before a mount. One that was unmounted in order is not looked at any further.
pub(super) fn repair(device: &Path) -> Result<()> {
    let file = File::open(device).map_err(failed("open", device))?;
    let head = Head::read(&file).map_err(failed("read", device))?;
    // XFS recovers by its journal when it is mounted, and has no check to run before.
    if head.filesystem() != Some(Filesystem::Ext4) || head.is_clean_ext4() {
        return Ok(());
    }
    drop(file);
    log::info!(
        "{NAME}: the filesystem on {} was not unmounted: checking it",
        device.display()
    );
    check(device, &["-p"])
}

/// Checks all of an ext4, also one that says it is clean.
pub(super) fn check_whole(device: &Path) -> Result<()> {
    check(device, &["-f", "-p"])
}

fn check(device: &Path, how: &[&str]) -> Result<()> {
    let check = Exec::new("e2fsck").args(how).arg(device).time_limit(CHECK_LIMIT);
    match check.run() {
        Ok(_) => Ok(()),
        // 1: errors were corrected; 2: also, and a reboot is due where it is the root (e2fsck(8)).
        Err(SysError::Command { status, .. }) if matches!(status.code(), Some(1 | 2)) => Ok(()),
        Err(error) if error.is_not_found() => {
            log::warn!("{NAME}: e2fsck is not installed: the filesystem is mounted without a check");
            Ok(())
        }
        Err(error) => Err(DriverError::System {
            doing: format!(
                "the filesystem on {} needs a repair that a person must decide on ({error}); run e2fsck on it",
                device.display()
            ),
            source: io::ErrorKind::InvalidData.into(),
        }),
    }
}

/// Looks whether a restored filesystem is sound, all of it; says so, or why nobody could look. Its journal is replayed first, as a
/// mount would: it is as the freeze, or the crash, of the original left it.
///
/// # Errors
/// [`DriverError::Corrupt`] where it is not.
pub(super) fn judge(device: &Path) -> Result<String> {
    let unsound = |why: String| DriverError::Corrupt {
        path: device.to_owned(),
        why,
    };
    let Some(fs) = recognise(device)? else {
        return Ok("it holds no filesystem that could be checked".to_owned());
    };
    let word = fs.word();
    let (options, program, how): (&[&str], _, &[&str]) = match fs {
        Filesystem::Ext4 => (&[], "e2fsck", &["-f", "-n"]),
        Filesystem::Xfs => (&["nouuid"], "xfs_repair", &["-n"]),
    };
    inside(device, fs, options, |_| Ok(()))
        .map_err(|error| unsound(format!("its filesystem, {word}, cannot be mounted: {error}")))?;
    let check = Exec::new(program).args(how).arg(device);
    match check.time_limit(CHECK_LIMIT).run() {
        Ok(_) => Ok(format!("{program}: its {word} is sound")),
        Err(error) if error.is_not_found() => {
            Ok(format!("{program} is not installed: its {word} was only mounted"))
        }
        Err(error @ SysError::Command { .. }) => {
            Err(unsound(format!("its filesystem is not sound: {error}")))
        }
        Err(error) => Err(error.into()),
    }
}

/// The first 4 KiB of a filesystem.
struct Head([u8; 4096]);

impl Head {
    fn read(file: &File) -> io::Result<Self> {
        let mut bytes = [0; 4096];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(Self(bytes))
    }

    fn filesystem(&self) -> Option<Filesystem> {
        if self.0.starts_with(b"XFSB") {
            Some(Filesystem::Xfs)
        } else if self.ext4_u16(56) == 0xEF53 {
            Some(Filesystem::Ext4)
        } else {
            None
        }
    }

    /// s_state says clean and no errors, and s_feature_incompat says that the journal need not be replayed.
    fn is_clean_ext4(&self) -> bool {
        const NEEDS_RECOVERY: u16 = 4;
        self.ext4_u16(58) & 3 == 1 && self.ext4_u16(96) & NEEDS_RECOVERY == 0
    }

    fn ext4_u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[1024 + at], self.0[1024 + at + 1]])
    }
}

/// Does what a new volume's filesystem needs: nothing in its root, and the owner that was asked for.
pub(super) fn furnish(device: &Path, fs: Filesystem, root: &RootDirectory) -> Result<()> {
    inside(device, fs, &[], |path| {
        // Docker copies an image's files into an empty volume only; e2fsck makes it again when it needs it.
        match fs::remove_dir(path.join("lost+found")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &path.join("lost+found"))(error));
            }
            _ => {}
        }
        let plain = RootDirectory {
            uid: None,
            gid: None,
            mode: Some(0o755),
        };
        own(path, &plain)?;
        own(path, root)
    })
}

/// Sets the owner and the permissions that are given.
pub(super) fn set_owner(device: &Path, root: &RootDirectory) -> Result<()> {
    if *root == RootDirectory::default() {
        return Ok(());
    }
    repair(device)?;
    inside(device, must_recognise(device)?, &[], |path| own(path, root))
}

/// Gives a copy of a filesystem a name of its own, where two of one name cannot be mounted at once.
pub(super) fn set_apart(device: &Path) -> Result<()> {
    if recognise(device)? != Some(Filesystem::Xfs) {
        return Ok(());
    }
    // The journal is replayed by a mount, which takes its UUID for the original's only if it is told not to look.
    inside(device, Filesystem::Xfs, &["nouuid"], |_| Ok(()))?;
    // What xfs_admin does, which is a script, and a plugin has no shell.
    Exec::new("xfs_db")
        .args(["-x", "-p", "xfs_admin", "-c", "uuid generate"])
        .arg(device)
        .run()?;
    Ok(())
}

/// Makes a filesystem as large as its device, where it is mounted or unseen. One that is so already stays as it is.
pub(super) fn grow(device: &Path, mounted: Option<&Path>) -> Result<()> {
    let larger = |root: &Path| grow_xfs(device, root);
    match (must_recognise(device)?, mounted) {
        (Filesystem::Ext4, Some(_)) => drop(Exec::new("resize2fs").arg(device).run()?),
        (Filesystem::Ext4, None) => {
            // resize2fs wants it checked just before.
            check_whole(device)?;
            Exec::new("resize2fs").arg(device).run()?;
        }
        (Filesystem::Xfs, Some(root)) => larger(root)?,
        (Filesystem::Xfs, None) => inside(device, Filesystem::Xfs, &[], larger)?,
    }
    Ok(())
}

/// What xfs_growfs does, which looks its filesystem up in the table of mounts. The superblock has the size of a block at 4
/// (32 bits, big-endian), and the share of the space that inodes may take, in percent, at 127.
fn grow_xfs(device: &Path, root: &Path) -> Result<()> {
    let file = File::open(device).map_err(failed("open", device))?;
    let head = Head::read(&file).map_err(failed("read", device))?;
    let block = u32::from_be_bytes([head.0[4], head.0[5], head.0[6], head.0[7]]);
    let size = crate::sys::sparse::size(&file).map_err(failed("find the size of", device))?;
    let blocks = size.checked_div(u64::from(block)).unwrap_or(0);
    Ok(crate::sys::filesystem::grow_xfs(root, blocks, head.0[127])?)
}

/// Gives the blocks back that a mounted filesystem does not use.
pub(super) fn trim(mount_point: &Path) -> Result<()> {
    Ok(crate::sys::filesystem::trim(mount_point)?)
}

/// The same for one that is not mounted.
pub(super) fn trim_unseen(device: &Path) -> Result<()> {
    inside(device, must_recognise(device)?, &[], trim)
}

/// The filesystem on a device, which must have one.
pub(super) fn must_recognise(device: &Path) -> Result<Filesystem> {
    recognise(device)?.ok_or_else(|| DriverError::Corrupt {
        path: device.to_owned(),
        why: "it holds neither ext4 nor XFS".to_owned(),
    })
}

/// Works in a filesystem that nobody else sees, and brings it to disk.
fn inside(
    device: &Path,
    fs: Filesystem,
    options: &[&str],
    work: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let mounted = Detached::mount(device, fs.word(), options)?;
    work(&mounted.path())?;
    Ok(mounted.close()?)
}

fn own(path: &Path, root: &RootDirectory) -> Result<()> {
    if root.uid.is_some() || root.gid.is_some() {
        std::os::unix::fs::chown(path, root.uid, root.gid).map_err(failed("change the owner of", path))?;
    }
    // After the owner, whose change clears setuid and setgid bits.
    if let Some(mode) = root.mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .map_err(failed("change the permissions of", path))?;
    }
    Ok(())
}
