//! Loop devices: files as block devices (loop(4)).
//!
//! A file attached twice is two caches of one thing, and two writers corrupt it. So a file that is attached already is found
//! again by its device and inode, whatever path it was attached by, and never attached a second time from here.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::{Context, Result, check};
use super::ioctl::Request;

/// linux/loop.h.
const SET_FD: u32 = 0x4C00;
const CLR_FD: u32 = 0x4C01;
const SET_STATUS64: u32 = 0x4C04;
const GET_STATUS64: u32 = 0x4C05;
const SET_CAPACITY: u32 = 0x4C07;
const SET_DIRECT_IO: u32 = 0x4C08;
const CTL_GET_FREE: u32 = 0x4C82;

/// struct loop_info64.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl Info {
    const EMPTY: Self = Self {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
}

// SAFETY: the kernel's structure for this number, laid out as its header says, of integers only.
const GET: Request<Info> = unsafe { Request::numbered(GET_STATUS64) };
// SAFETY: as above.
const SET: Request<Info> = unsafe { Request::numbered(SET_STATUS64) };

/// The loop device that a file is attached to.
pub fn find(file: impl AsRef<Path>) -> Result<Option<PathBuf>> {
    let path = file.as_ref();
    let meta = std::fs::metadata(path).during("read the status of", path)?;
    let all = Path::new("/sys/block");
    for entry in std::fs::read_dir(all).during("list", all)? {
        let entry = entry.during("list", all)?;
        // Those that nothing is attached to have no such directory.
        if !entry.path().join("loop").exists() {
            continue;
        }
        let device = Path::new("/dev").join(entry.file_name());
        let mut info = Info::EMPTY;
        let Ok(open) = File::open(&device) else { continue };
        // It may have been detached meanwhile.
        if GET.call(&open, &mut info).is_ok() && (info.device, info.inode) == (meta.dev(), meta.ino()) {
            return Ok(Some(device));
        }
    }
    Ok(None)
}

/// Attaches a file, or finds it attached; the path of its loop device. Direct I/O is used where the file's filesystem has it,
/// so that what the device was told to keep is not in a second cache.
pub fn attach(file: impl AsRef<Path>) -> Result<PathBuf> {
    let path = file.as_ref();
    if let Some(device) = find(path)? {
        return Ok(device);
    }
    let backing = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .during("open", path)?;
    let control = Path::new("/dev/loop-control");
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open(control)
        .during("open", control)?;
    // Somebody else may take the number that is free now.
    for attempt in 0.. {
        // SAFETY: the descriptor is open, and the call takes no argument.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), CTL_GET_FREE as _) };
        let number = check(number.into()).during("find a free loop device for", path)?;
        let device = PathBuf::from(format!("/dev/loop{number}"));
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&device)
            .during("open", &device)?;
        // SAFETY: both descriptors are open; the kernel keeps a reference of its own to the file.
        let set = unsafe { libc::ioctl(open.as_raw_fd(), SET_FD as _, backing.as_raw_fd()) };
        match check(set.into()) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && attempt < 50 => continue,
            result => result.map(drop).during("attach a loop device to", path)?,
        }
        let mut info = Info::EMPTY;
        // For people that list loop devices; the kernel shows the whole path itself.
        let name = path.as_os_str().as_encoded_bytes();
        let length = name.len().min(info.file_name.len() - 1);
        info.file_name[..length].copy_from_slice(&name[..length]);
        if let Err(error) = SET.call(&open, &mut info) {
            log::debug!("{} keeps no name: {error}", device.display());
        }
        // SAFETY: the descriptor is open, and the argument is a number.
        let direct = unsafe { libc::ioctl(open.as_raw_fd(), SET_DIRECT_IO as _, 1 as libc::c_ulong) };
        if let Err(error) = check(direct.into()) {
            log::debug!(
                "{} does no direct I/O on {}: {error}",
                device.display(),
                path.display()
            );
        }
        return Ok(device);
    }
    unreachable!("the last attempt returns")
}

/// Lets a loop device know that its file has grown.
pub fn refresh(device: impl AsRef<Path>) -> Result<()> {
    let device = device.as_ref();
    let open = File::open(device).during("open", device)?;
    // SAFETY: the descriptor is open, and the call takes no argument.
    let result = unsafe { libc::ioctl(open.as_raw_fd(), SET_CAPACITY as _) };
    check(result.into()).map(drop).during("grow", device)
}

/// Detaches a loop device: at once, or when its last user closes it. One that is detached already is fine.
pub fn detach(device: impl AsRef<Path>) -> Result<()> {
    let device = device.as_ref();
    let open = File::open(device).during("open", device)?;
    // SAFETY: the descriptor is open, and the call takes no argument.
    let result = unsafe { libc::ioctl(open.as_raw_fd(), CLR_FD as _) };
    match check(result.into()) {
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(()),
        result => result.map(drop).during("detach", device),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::sys::testing;

    #[test]
    fn a_file_is_attached_once_whatever_it_is_called() {
        if !testing::root_with_mounts() {
            return;
        }
        let dir = tempfile::tempdir().expect("a scratch directory");
        let file = dir.path().join("image");
        let image = File::create(&file).expect("a file");
        image.set_len(1 << 20).expect("sparse");
        assert_eq!(find(&file).expect("looked"), None);
        let device = attach(&file).expect("attached");
        let link = dir.path().join("link");
        std::fs::hard_link(&file, &link).expect("another name");
        assert_eq!(attach(&link).expect("found"), device);
        let open = OpenOptions::new().write(true).open(&device).expect("opened");
        open.write_all_at(&[7; 4096], 8192).expect("written");
        open.sync_all().expect("synced");
        let mut bytes = [0; 4096];
        File::open(&file)
            .expect("opened")
            .read_exact_at(&mut bytes, 8192)
            .expect("read");
        assert_eq!(bytes, [7; 4096]);
        image.set_len(2 << 20).expect("grown");
        refresh(&device).expect("told");
        assert_eq!(crate::sys::sparse::size(&open).expect("a size"), 2 << 20);
        drop(open);
        detach(&device).expect("detached");
        assert_eq!(find(&file).expect("looked"), None);
        detach(&device).expect("nothing left to do");
    }
}
