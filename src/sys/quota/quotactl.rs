//! quotactl(2): the kernel's generic quota calls, which XFS answers too.
//!
//! quotactl_fd(2) (Linux 5.14) takes any open directory. Before it, the call wants the block device's node, which a
//! container may not have: then one is made for the moment of the call.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use uuid::Uuid;

use super::ProjectUsage;
use crate::sys::error::{Context, Result, check};
use crate::sys::mountinfo::{self, MountEntry};

const PROJECT: u32 = 2;
/// Commands of linux/quota.h and linux/dqblk_xfs.h.
const Q_SYNC: u32 = 0x80_0001;
const Q_GETQUOTA: u32 = 0x80_0007;
const Q_SETQUOTA: u32 = 0x80_0008;
const Q_XGETQSTATV: u32 = (b'X' as u32) << 8 | 8;

const QIF_BLIMITS: u32 = 1;
const UNIT_BYTES: u64 = 1024;
const PROJECT_COUNTED: u16 = 1 << 4;
const PROJECT_ENFORCED: u16 = 1 << 5;

/// if_dqblk
#[repr(C)]
#[derive(Default)]
struct Quota {
    block_hard_limit: u64,
    block_soft_limit: u64,
    space_bytes: u64,
    inode_hard_limit: u64,
    inode_soft_limit: u64,
    inodes: u64,
    block_time: u64,
    inode_time: u64,
    valid: u32,
}

/// fs_quota_statv
#[repr(C)]
#[derive(Default)]
struct QuotaState {
    version: i8,
    pad1: u8,
    flags: u16,
    incore: u32,
    files: [QuotaFile; 3],
    time_limits: [i32; 3],
    warnings: [u16; 4],
    pad4: u32,
    pad2: [u64; 7],
}

/// fs_qfilestatv
#[repr(C)]
#[derive(Default)]
struct QuotaFile {
    inode: u64,
    blocks: u64,
    extents: u32,
    pad: u32,
}

const _: () = assert!(size_of::<Quota>() == 72 && size_of::<QuotaState>() == 160);

/// What a filesystem does for projects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Enforced,
    Counted,
    Off,
    NotInKernel,
}

/// A filesystem, by a file or directory on it.
pub(super) struct Filesystem {
    fd: OwnedFd,
    path: PathBuf,
}

impl Filesystem {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let flags =
            nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_CLOEXEC;
        let fd = nix::fcntl::open(path, flags, Mode::empty()).during("open", path)?;
        Ok(Self {
            fd,
            path: path.to_owned(),
        })
    }

    pub(super) fn state(&self) -> io::Result<State> {
        // The version that we speak.
        let mut state = QuotaState {
            version: 1,
            ..QuotaState::default()
        };
        match self.call(Q_XGETQSTATV, 0, &mut state) {
            Ok(()) if state.flags & PROJECT_ENFORCED != 0 => Ok(State::Enforced),
            Ok(()) if state.flags & PROJECT_COUNTED != 0 => Ok(State::Counted),
            Ok(()) => Ok(State::Off),
            // ENOSYS: nothing is on, or the filesystem has no quotas at all, or the kernel.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENOSYS | libc::EINVAL | libc::ESRCH)
                ) =>
            {
                Ok(if kernel_has_quotas() {
                    State::Off
                } else {
                    State::NotInKernel
                })
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn set_limit(&self, project: u32, limit_bytes: Option<u64>) -> io::Result<()> {
        // Zero would mean no limit.
        let units = limit_bytes.map_or(0, |bytes| bytes.div_ceil(UNIT_BYTES).max(1));
        let mut quota = Quota {
            block_hard_limit: units,
            valid: QIF_BLIMITS,
            ..Quota::default()
        };
        self.call(Q_SETQUOTA, project, &mut quota)
    }

    pub(super) fn usage(&self, project: u32) -> io::Result<ProjectUsage> {
        let mut quota = Quota::default();
        match self.call(Q_GETQUOTA, project, &mut quota) {
            // XFS has no record yet.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(ProjectUsage::default()),
            result => result.map(|()| ProjectUsage {
                used_bytes: quota.space_bytes,
                limit_bytes: (quota.block_hard_limit != 0)
                    .then(|| quota.block_hard_limit.saturating_mul(UNIT_BYTES)),
                inodes: quota.inodes,
            }),
        }
    }

    /// `T` is the structure of the command.
    fn call<T>(&self, command: u32, project: u32, argument: &mut T) -> io::Result<()> {
        let command = command << 8 | PROJECT;
        let argument: *mut T = argument;
        // SAFETY: the descriptor is open; the callers above pair each command with its structure, which lives through the
        // call, and whose integers may take any value.
        let result = unsafe {
            libc::syscall(
                libc::SYS_quotactl_fd,
                self.fd.as_raw_fd(),
                command,
                project,
                argument,
            )
        };
        match check(result) {
            // An old kernel; or an old seccomp filter, which answers so to calls that it does not know. But a kernel that
            // has the call says ENOSYS for a filesystem without quotas too, and then the second way says the same.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                self.call_by_device(command, project, argument)
            }
            result => result.map(drop),
        }
    }

    fn call_by_device<T>(&self, command: u32, project: u32, argument: *mut T) -> io::Result<()> {
        let node = DeviceNode::of(&self.path)?;
        let special = CString::new(node.path.as_os_str().as_bytes())?;
        // SAFETY: as above; the path is a C string that lives through the call.
        let result =
            unsafe { libc::syscall(libc::SYS_quotactl, command, special.as_ptr(), project, argument) };
        check(result).map(drop)
    }
}

/// Whether quotactl is more than a stub: a sync of all filesystems does no harm and needs no argument.
fn kernel_has_quotas() -> bool {
    // SAFETY: with this command and no device, no pointer is looked at.
    let result = unsafe {
        libc::syscall(
            libc::SYS_quotactl,
            Q_SYNC << 8,
            std::ptr::null::<u8>(),
            0,
            std::ptr::null::<u8>(),
        )
    };
    check(result).map_or_else(|error| error.raw_os_error() != Some(libc::ENOSYS), |_| true)
}

/// A block device's node, removed again if it was made for the occasion.
struct DeviceNode {
    path: PathBuf,
    temporary: bool,
}

impl DeviceNode {
    fn of(path: &Path) -> io::Result<Self> {
        let mount = mountinfo::mount_of(path)
            .map_err(io::Error::other)?
            .ok_or(io::ErrorKind::NotFound)?;
        let existing = PathBuf::from(&mount.source);
        if is_node_of(&existing, &mount) {
            return Ok(Self {
                path: existing,
                temporary: false,
            });
        }
        // Where device nodes may be opened: /dev itself is the best guess, whatever is mounted there.
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for dir in [Path::new("/dev"), Path::new("/run"), &std::env::temp_dir()] {
            let path = dir.join(format!(".tmp-{}", Uuid::new_v4()));
            let device = makedev(mount.device.0.into(), mount.device.1.into());
            match mknod(&path, SFlag::S_IFBLK, Mode::S_IRUSR | Mode::S_IWUSR, device) {
                Ok(()) => {
                    return Ok(Self {
                        path,
                        temporary: true,
                    });
                }
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }
}

impl Drop for DeviceNode {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            log::warn!("device node {} stays behind: {error}", self.path.display());
        }
    }
}

fn is_node_of(path: &Path, mount: &MountEntry) -> bool {
    let device = makedev(mount.device.0.into(), mount.device.1.into());
    path.metadata()
        .is_ok_and(|meta| meta.file_type().is_block_device() && meta.rdev() == device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{Kind, TestFs, sh};

    #[test]
    fn device_node_is_found_or_made_and_goes_away_again() {
        let Some(fs) = TestFs::new(Kind::Ext4) else { return };
        let mount = mountinfo::mount_of(fs.path()).expect("read").expect("mounted");
        let node = DeviceNode::of(&fs.path()).expect("a node");
        assert!(
            is_node_of(&node.path, &mount) && !node.temporary,
            "{}",
            node.path.display()
        );
        // The same filesystem under a source that is no path, as in a container.
        let loop_device = node.path.display().to_string();
        drop(node);
        assert!(Path::new(&loop_device).exists());
        let hidden = tempfile::tempdir().expect("a scratch directory");
        sh(&format!(
            "mknod {0}/odd b {1} {2}; mkdir {0}/mnt; mount {0}/odd {0}/mnt; rm {0}/odd",
            hidden.path().display(),
            mount.device.0,
            mount.device.1
        ));
        let node = DeviceNode::of(&hidden.path().join("mnt"));
        crate::sys::testing::detach_all(hidden.path());
        let node = node.expect("a node is made");
        assert!(
            is_node_of(&node.path, &mount) && node.temporary,
            "{}",
            node.path.display()
        );
        let path = node.path.clone();
        drop(node);
        assert!(!path.exists());
    }
}
