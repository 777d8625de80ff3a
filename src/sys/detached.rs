//! A filesystem that is mounted nowhere: only this process gets at it, by a descriptor.
//!
//! For work on a volume's filesystem before anybody else sees it. A mount at a path would be copied into every mount
//! namespace that is made meanwhile (each starting container makes one) and hold the device there; this one is in no
//! namespace, and goes with the descriptor, also when the process is killed. The calls are those of Linux 5.2 (fsopen(2)).

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::error::{Context, Result, check};

/// linux/mount.h.
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const SET_FLAG: libc::c_uint = 0;
const SET_STRING: libc::c_uint = 1;
const CREATE: libc::c_uint = 6;

/// The filesystem, until it is dropped.
#[derive(Debug)]
pub struct Detached(OwnedFd);

impl Detached {
    /// Mounts what is on `device`. `options` are the filesystem's own, as in fstab: `noload`, `nouuid`, and `ro`.
    pub fn mount(device: impl AsRef<Path>, fs_type: &str, options: &[&str]) -> Result<Self> {
        let device = device.as_ref();
        mount(device, fs_type, options)
            .map(Self)
            .during("mount the filesystem on", device)
    }

    /// Its root directory, for this process alone.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    /// Writes everything out and lets go of the device.
    pub fn close(self) -> Result<()> {
        // Its descriptor is one that only names the root.
        super::durable::sync_filesystem(self.path())
    }
}

fn mount(device: &Path, fs_type: &str, options: &[&str]) -> io::Result<OwnedFd> {
    let fs_type = CString::new(fs_type)?;
    let device = CString::new(device.as_os_str().as_bytes())?;
    // SAFETY: the type is a C string that lives through the call.
    let context = unsafe { libc::syscall(libc::SYS_fsopen, fs_type.as_ptr(), FSOPEN_CLOEXEC) };
    let context = owned(check(context)?);
    configure(&context, SET_STRING, Some(c"source"), Some(&device))?;
    for option in options {
        match option.split_once('=') {
            Some((key, value)) => {
                let (key, value) = (CString::new(key)?, CString::new(value)?);
                configure(&context, SET_STRING, Some(&key), Some(&value))?;
            }
            None => configure(&context, SET_FLAG, Some(&CString::new(*option)?), None)?,
        }
    }
    configure(&context, CREATE, None, None)?;
    // SAFETY: the descriptor is open, and the other arguments are numbers.
    let root = unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, 0) };
    Ok(owned(check(root)?))
}

fn configure(
    context: &OwnedFd,
    command: libc::c_uint,
    key: Option<&CStr>,
    value: Option<&CStr>,
) -> io::Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: the descriptor is open; the strings live through the call, and are absent where the command takes none.
    let result = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            command,
            pointer(key),
            pointer(value),
            0,
        )
    };
    check(result).map(drop)
}

fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel has just made it, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{loops, mountinfo, testing};

    #[test]
    fn what_is_mounted_nowhere_can_be_worked_on_and_is_gone_afterwards() {
        if !testing::root_with_mounts() {
            return;
        }
        let dir = tempfile::tempdir().expect("a scratch directory");
        let image = dir.path().join("image");
        std::fs::File::create(&image)
            .and_then(|file| file.set_len(64 << 20))
            .expect("an image");
        testing::sh(&format!("mkfs.ext4 -q {}", image.display()));
        let device = loops::attach(&image).expect("attached");
        let before = mountinfo::read_self().expect("a table").len();
        let fs = Detached::mount(&device, "ext4", &["noinit_itable"]).expect("mounted");
        assert_eq!(mountinfo::read_self().expect("a table").len(), before);
        std::fs::remove_dir(fs.path().join("lost+found")).expect("removed");
        std::fs::write(fs.path().join("f"), "inside").expect("written");
        fs.close().expect("synced");
        let fs = Detached::mount(&device, "ext4", &["ro"]).expect("mounted again");
        assert_eq!(
            std::fs::read_to_string(fs.path().join("f")).expect("read"),
            "inside"
        );
        assert!(std::fs::write(fs.path().join("g"), "").is_err(), "read-only");
        drop(fs);
        assert!(Detached::mount(&device, "xfs", &[]).is_err());
        loops::detach(&device).expect("detached");
        assert_eq!(loops::find(&image).expect("looked"), None, "nothing holds it");
    }
}
