//! A lock between processes: one file, held as long as the value lives, freed by the kernel when the process dies.
//!
//! `flock(2)` belongs to the open file and not to the process, so two locks within one process exclude each other too. On
//! NFS the kernel turns it into a lock on the server. The file stays behind: removing it would let two processes hold
//! "the" lock at once, on two files of the same name.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::{Context, Result, SysError};

/// An exclusive lock, released when dropped.
#[derive(Debug)]
pub struct FileLock {
    path: PathBuf,
    file: File,
}

impl FileLock {
    /// Takes the lock at once, or is refused with the holder's process id.
    pub fn acquire(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .during("open lock file", path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(SysError::LockHeld {
                    path: path.to_owned(),
                    pid: read_pid(&mut file),
                });
            }
            Err(TryLockError::Error(source)) => return Err(SysError::io("lock", path, source)),
        }
        // The number is for people; the lock itself is the kernel's.
        file.set_len(0)
            .and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()))
            .during("write lock file", path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// The lock's file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Emptied while still held, so that nobody reads a number that means nothing any more. Closing unlocks.
        if let Err(error) = self.file.set_len(0) {
            log::debug!(
                "lock file {} keeps an old process id: {error}",
                self.path.display()
            );
        }
    }
}

fn read_pid(file: &mut File) -> Option<i32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_is_refused_with_the_first_ones_pid_until_it_lets_go() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let path = dir.path().join("lock");
        std::fs::write(&path, "999999999 an old and longer text\n").expect("a leftover");
        let first = FileLock::acquire(&path).expect("free");
        match FileLock::acquire(&path) {
            Err(SysError::LockHeld { pid, .. }) => assert_eq!(pid, Some(std::process::id() as i32)),
            other => panic!("expected a refusal, got {other:?}"),
        }
        drop(first);
        assert_eq!(std::fs::read(&path).expect("still there"), b"");
        FileLock::acquire(&path).expect("free again");
    }

    #[test]
    fn lock_is_not_inherited_by_commands() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let path = dir.path().join("lock");
        let lock = FileLock::acquire(&path).expect("free");
        let mut child = std::process::Command::new("sleep")
            .arg("30")
            .spawn()
            .expect("sleep runs");
        drop(lock);
        let again = FileLock::acquire(&path);
        child.kill().expect("killed");
        child.wait().expect("reaped");
        again.expect("a child must not keep the lock");
    }
}
