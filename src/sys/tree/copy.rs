//! The bytes of one file, holes kept.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

/// Large enough to be fast, small enough to answer a cancel at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Why the copying of a file ended early.
pub(super) enum Stop {
    Cancelled,
    Failed(io::Error),
}

impl<E: Into<io::Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Copies the first `size` bytes of `source` into the empty file `target`, seeking over holes.
///
/// `advance` is told of each piece, and ends the copying by answering false. A source that shrinks meanwhile leaves zeros.
pub(super) fn copy_data(
    source: &File,
    target: &File,
    size: u64,
    mut advance: impl FnMut(u64) -> bool,
) -> Result<(), Stop> {
    target.set_len(size)?;
    let mut buffer = Vec::new();
    let mut at = 0;
    while let Some((start, end)) = next_data(source, at, size)? {
        buffer.resize(BUFFER_BYTES.min((end - start) as usize).max(buffer.len()), 0);
        at = start;
        while at < end {
            let want = buffer.len().min((end - at) as usize);
            let got = match source.read_at(&mut buffer[..want], at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            };
            if got == 0 {
                return Ok(());
            }
            target.write_all_at(&buffer[..got], at)?;
            at += got as u64;
            if !advance(got as u64) {
                return Err(Stop::Cancelled);
            }
        }
    }
    Ok(())
}

/// The next stretch of data at or after `at`, and below `size`.
pub(super) fn next_data(file: &File, at: u64, size: u64) -> Result<Option<(u64, u64)>, Errno> {
    if at >= size {
        return Ok(None);
    }
    let start = match lseek(file, at as libc::off_t, Whence::SeekData) {
        Ok(start) => start as u64,
        Err(Errno::ENXIO) => return Ok(None),
        // A filesystem that cannot tell.
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) => return Ok(Some((at, size))),
        Err(error) => return Err(error),
    };
    if start >= size {
        return Ok(None);
    }
    match lseek(file, start as libc::off_t, Whence::SeekHole) {
        Ok(end) => Ok(Some((start, (end as u64).min(size)))),
        // Cut off in between.
        Err(Errno::ENXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Starts the writing of the file's dirty pages, so that a later store through a memory mapping faults and shows in ctime.
///
/// Pages that are already dirty take stores without a trace until they are written (file_update_time is called when a
/// clean page is made writable).
pub(super) fn expose_mapped_writes(file: &File) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE;
    // SAFETY: the descriptor is open for the call, which touches no memory of ours.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, flags) };
    match crate::sys::error::check(result.into()) {
        // Filesystems without such a call keep no pages of their own, or are beyond help.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EINVAL | libc::ESPIPE | libc::ENOSYS)
            ) =>
        {
            Ok(())
        }
        result => result.map(drop),
    }
}
