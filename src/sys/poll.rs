//! Waiting for a file to have something to say.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use super::error::check;

/// Waits until the file is readable, at most so long (in whole milliseconds); false when the time was up. A signal may end it early.
pub fn readable(file: BorrowedFd<'_>, at_most: Duration) -> io::Result<bool> {
    let mut wish = libc::pollfd {
        fd: file.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let limit = at_most.as_millis().try_into().unwrap_or(libc::c_int::MAX);
    // SAFETY: one structure, which lives through the call, and a descriptor that is open as long.
    match check(unsafe { libc::poll(&mut wish, 1, limit) }.into()) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        answer => Ok(answer? > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn what_is_written_makes_a_pipe_readable() {
        let (read, mut write) = std::io::pipe().expect("a pipe");
        assert!(!readable(read.as_fd(), Duration::from_millis(10)).expect("asked"));
        write.write_all(b"x").expect("written");
        assert!(readable(read.as_fd(), Duration::from_secs(100)).expect("asked"));
    }
}
