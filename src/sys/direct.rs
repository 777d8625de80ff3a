//! Large writes past the page cache.
//!
//! What is written once and read when a disaster has come needs no copy in memory, and what others have there (a database its
//! pages) should not have to go for it. It also costs the processor less. Whether it can be done, and by which alignment, the
//! kernel says (statx(2), `STATX_DIOALIGN`, Linux 6.1); where it says nothing, bytes are written in the usual way. That they
//! are on the disk is in both cases the sync's to promise.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// Less is left to the page cache.
const LEAST_BYTES: usize = 1 << 20;

/// A page: memory and lengths that are multiples of it suit every device there is.
pub const ALIGNMENT: usize = 4096;

/// Writes all of `bytes` to a new, empty file.
pub fn write_new(file: &File, bytes: &[u8]) -> io::Result<()> {
    let (direct, rest) = bytes.split_at(bytes.len() / ALIGNMENT * ALIGNMENT);
    if direct.len() >= LEAST_BYTES && is_possible(file, direct) {
        match write_direct(file, direct) {
            // The kernel thought better of it.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(error),
            Ok(()) => return file.write_all_at(rest, direct.len() as u64),
        }
    }
    file.write_all_at(bytes, 0)
}

fn write_direct(file: &File, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    fcntl(file, FcntlArg::F_SETFL(flags | OFlag::O_DIRECT))?;
    let written = file.write_all_at(bytes, 0);
    fcntl(file, FcntlArg::F_SETFL(flags))?;
    written
}

/// Whether these bytes can be written from where they are in memory.
fn is_possible(file: &File, bytes: &[u8]) -> bool {
    let mut raw = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the descriptor is open for the call, the path is a C string, and `raw` has room for the answer.
    let result = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            raw.as_mut_ptr(),
        )
    };
    if result < 0 {
        return false;
    }
    // SAFETY: zeroed before the call and filled by it; every bit pattern is valid for its integers.
    let raw = unsafe { raw.assume_init() };
    let fits = |alignment: u32| alignment != 0 && ALIGNMENT.is_multiple_of(alignment as usize);
    raw.stx_mask & libc::STATX_DIOALIGN != 0
        && fits(raw.stx_dio_mem_align)
        && fits(raw.stx_dio_offset_align)
        && (bytes.as_ptr() as usize).is_multiple_of(raw.stx_dio_mem_align as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where memory begins, and how much of it, decides how it is written, and nothing else.
    #[test]
    fn bytes_arrive_whatever_their_length_and_place() {
        let dir = tempfile::tempdir_in("/var/tmp").expect("a scratch directory");
        let memory: Vec<u8> = (0..3 << 20).map(|n: u32| ((n * 7) >> 3) as u8).collect();
        let aligned = ALIGNMENT - memory.as_ptr() as usize % ALIGNMENT;
        for begin in [aligned, aligned + 1, aligned + 512] {
            for length in [
                0,
                1,
                4096,
                LEAST_BYTES,
                LEAST_BYTES + 1,
                (2 << 20) + 4095,
                2 << 20,
            ] {
                let bytes = &memory[begin..begin + length];
                let path = dir.path().join(format!("{begin}-{length}"));
                let file = File::create_new(&path).expect("made");
                write_new(&file, bytes).expect("written");
                assert!(std::fs::read(&path).expect("read") == bytes, "{begin} {length}");
            }
        }
    }
}
