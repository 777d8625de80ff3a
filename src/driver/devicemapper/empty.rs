//! Is a device empty, and free? Nothing is written to one that is not.
//!
//! Nearly everything that is kept on devices begins with something in the first MiB. What has its mark at the end instead is looked
//! for there: some sorts of Linux RAID, and the copy of a partition table.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use super::super::{DriverError, Result};
use super::failed;
use super::options::SECTOR;
use crate::model::InvalidValue;
use crate::sys::sparse;

/// What must be zeros at the beginning of a device that is taken.
pub(super) const HEAD: u64 = 1 << 20;
/// What a device that windlass divided begins with; the store's id follows.
pub(super) const LABEL: &str = "windlass devicemapper ";
/// The beginning of an md superblock, little-endian (linux/raid/md_p.h).
const MD: [u8; 4] = 0xa92b_4efc_u32.to_le_bytes();

/// Refuses what is no block device.
pub(super) fn must_be_block_device(device: &Path) -> Result<()> {
    let meta = std::fs::metadata(device).map_err(failed("open", device))?;
    match meta.file_type().is_block_device() {
        true => Ok(()),
        false => Err(InvalidValue::Value {
            option: "dm.device".to_owned(),
            value: device.display().to_string(),
            expected: "a block device".to_owned(),
        }
        .into()),
    }
}

/// Refuses what somebody has mounted, or uses below another device: the kernel gives it to nobody else then.
pub(super) fn must_be_free(device: &Path) -> Result<()> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_EXCL)
        .open(device);
    match opened {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Err(DriverError::Busy {
            what: format!("the device {}", device.display()),
            by: "a filesystem that is mounted from it, or another device on it".to_owned(),
            remedy: "'lsblk' shows which; give an empty device".to_owned(),
        }),
        opened => opened.map(drop).map_err(failed("open", device)),
    }
}

/// Refuses what carries anything.
pub(super) fn must_be_empty(device: &Path) -> Result<()> {
    let file = File::open(device).map_err(failed("open", device))?;
    let size = sparse::size(&file).map_err(failed("find the size of", device))?;
    let mut head = vec![0; size.min(HEAD) as usize];
    file.read_exact_at(&mut head, 0).map_err(failed("read", device))?;
    if head.starts_with(LABEL.as_bytes()) {
        return Err(DriverError::AlreadyExists {
            what: format!("a pool of windlass's on {}, whose records are not in this state directory,", device.display()),
            remedy: "bring the state directory back that goes with it: without it nobody knows which volume is which".to_owned(),
        });
    }
    if let Some(at) = head.iter().position(|byte| *byte != 0) {
        return Err(DriverError::AlreadyExists {
            what: format!("data on {} (the first at byte {at})", device.display()),
            remedy: format!(
                "windlass takes only devices whose first MiB is zeros; if nothing on it is needed: dd if=/dev/zero of={} bs=1M count=1",
                device.display()
            ),
        });
    }
    match mark_at_end(&file, size).map_err(failed("read", device))? {
        None => Ok(()),
        Some(mark) => Err(DriverError::AlreadyExists {
            what: format!("{mark} at the end of {}", device.display()),
            remedy: format!("if nothing on it is needed: wipefs -a {}", device.display()),
        }),
    }
}

fn mark_at_end(file: &File, size: u64) -> std::io::Result<Option<&'static str>> {
    let has = |at: u64, mark: &[u8]| -> std::io::Result<bool> {
        let mut found = vec![0; mark.len()];
        match at.checked_add(mark.len() as u64).is_some_and(|end| end <= size) {
            true => file.read_exact_at(&mut found, at).map(|()| found == mark),
            false => Ok(false),
        }
    };
    if has(size.saturating_sub(SECTOR), b"EFI PART")? {
        return Ok(Some("the copy of a partition table"));
    }
    // Version 0.90: in the last whole 64 KiB but one; 1.0: 8 to 12 KiB before the end, at a multiple of 4 KiB.
    let sectors = size / SECTOR;
    let places = [
        (size & !0xFFFF).saturating_sub(1 << 16),
        (sectors.saturating_sub(16) & !7) * SECTOR,
    ];
    for place in places {
        if place > 0 && has(place, &MD)? {
            return Ok(Some("the superblock of a RAID"));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_empty_is_refused_with_the_way_to_empty_it() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let path = dir.path().join("device");
        let size = (8 << 20) + 3 * 512;
        let file = File::create(&path).expect("a file");
        file.set_len(size).expect("sparse");
        must_be_empty(&path).expect("zeros");
        file.write_all_at(b"XFSB", 4096).expect("written");
        let said = must_be_empty(&path).expect_err("refused").to_string();
        assert!(
            said.contains("byte 4096") && said.contains("dd if=/dev/zero"),
            "{said}"
        );
        assert!(must_be_block_device(&path).is_err());
        file.write_all_at(&[0; 4], 4096).expect("written");
        for (at, mark, what) in [
            (size - 512, b"EFI PART".as_slice(), "partition table"),
            ((8 << 20) - (1 << 16), &MD, "RAID"),
            ((8 << 20) - 8192, &MD, "RAID"),
        ] {
            file.write_all_at(mark, at).expect("written");
            let said = must_be_empty(&path).expect_err("refused").to_string();
            assert!(said.contains(what) && said.contains("wipefs -a"), "{said}");
            file.write_all_at(&vec![0; mark.len()], at).expect("written");
        }
        must_be_empty(&path).expect("zeros again");
        // Nobody is told to wipe volumes whose records were lost.
        file.write_all_at(format!("{LABEL}0a1b").as_bytes(), 0)
            .expect("written");
        let said = must_be_empty(&path).expect_err("refused").to_string();
        assert!(
            said.contains("bring the state directory back") && !said.contains("dd if="),
            "{said}"
        );
        must_be_free(&path).expect("a file is nobody's");
    }
}
