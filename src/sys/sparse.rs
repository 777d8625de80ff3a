//! Files and devices with holes: how large they are, where their data is, and how to make holes.

use std::fs::File;
use std::io;
use std::ops::Range;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::{Whence, lseek};

/// The size of a file or block device, in bytes.
pub fn size(file: &File) -> io::Result<u64> {
    let end = lseek(file, 0, Whence::SeekEnd)?;
    Ok(end as u64)
}

/// Where there can be anything but zeros below `size`, in order; the whole where the filesystem cannot tell.
pub fn data(file: &File, size: u64) -> io::Result<Vec<Range<u64>>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < size {
        let begin = match lseek(file, at as i64, Whence::SeekData) {
            Ok(begin) => begin as u64,
            // Nothing but a hole up to the end.
            Err(Errno::ENXIO) => break,
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => return Ok(std::iter::once(0..size).collect()),
            Err(error) => return Err(error.into()),
        };
        let end = match lseek(file, begin as i64, Whence::SeekHole) {
            Ok(end) => (end as u64).min(size),
            Err(Errno::ENXIO) => size,
            Err(error) => return Err(error.into()),
        };
        if begin >= size {
            break;
        }
        found.push(begin..end);
        at = end;
    }
    Ok(found)
}

/// Makes a range read as zeros, giving its space back where the file or device can: by a hole, by the device's own
/// zeroing, and else by writing.
pub fn zero(file: &File, range: Range<u64>) -> io::Result<()> {
    let (offset, length) = (range.start as i64, (range.end - range.start) as i64);
    for how in [
        FallocateFlags::FALLOC_FL_PUNCH_HOLE,
        FallocateFlags::FALLOC_FL_ZERO_RANGE,
    ] {
        match fallocate(file, how | FallocateFlags::FALLOC_FL_KEEP_SIZE, offset, length) {
            Ok(()) => return Ok(()),
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL | Errno::ENODEV) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let zeros = vec![0; 1 << 20];
    let mut at = range.start;
    while at < range.end {
        let length = (range.end - at).min(zeros.len() as u64);
        std::os::unix::fs::FileExt::write_all_at(file, &zeros[..length as usize], at)?;
        at += length;
    }
    Ok(())
}

/// Tells the kernel that a range was read and is not needed again, so that a backup does not drive what others use out
/// of memory. Its advice; whether it worked does not matter.
pub fn forget(file: &File, range: Range<u64>) {
    let advice = nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED;
    let _ = nix::fcntl::posix_fadvise(file, range.start as i64, (range.end - range.start) as i64, advice);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn holes_are_found_and_made() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(10 << 20).expect("sparse");
        assert_eq!(size(&file).expect("a size"), 10 << 20);
        file.write_all_at(&[7; 4096], 5 << 20).expect("written");
        let found = data(&file, 10 << 20).expect("asked");
        assert!(found.iter().any(|range| range.contains(&(5 << 20))), "{found:?}");
        zero(&file, 5 << 20..(5 << 20) + 4096).expect("zeroed");
        let mut bytes = [1; 4096];
        file.read_exact_at(&mut bytes, 5 << 20).expect("read");
        assert_eq!(bytes, [0; 4096]);
        assert_eq!(size(&file).expect("a size"), 10 << 20);
        assert_eq!(data(&file, 0).expect("asked"), []);
    }
}
