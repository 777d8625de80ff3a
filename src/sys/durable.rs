//! Writing so that a power cut leaves the old or the new, never something in between, and never a lie.
//!
//! Each function returns after the disk has confirmed: the data first, then the name, then the directory that holds the
//! name. A crash in between can leave a temporary file named `.tmp-<uuid>` in the directory; [`is_temporary`] tells them,
//! and whoever owns a directory removes them at its start.

use std::ffi::{CString, OsStr};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::error::{Context, Result, SysError, check};
use super::{fault, handle};

const TEMPORARY_PREFIX: &str = ".tmp-";

/// Replaces the file at `path`, or makes it, with exactly these bytes and permissions.
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8], mode: u32) -> Result<()> {
    let path = path.as_ref();
    let staged = Staged::write(path, bytes, mode)?;
    fault::point("durable.write.staged");
    fs::rename(&staged.path, path).during("write", path)?;
    staged.keep();
    fault::point("durable.write.renamed");
    sync_parent(path)
}

/// Makes the file at `path`; where something is there already, fails with "already exists" and changes nothing.
///
/// Several hosts may race for the same name on a shared filesystem: exactly one wins, and nobody ever sees a file that
/// is not complete. That takes a hard link; where the filesystem has none, a rename that replaces nothing.
pub fn create_exclusive(path: impl AsRef<Path>, bytes: &[u8], mode: u32) -> Result<()> {
    let path = path.as_ref();
    let staged = Staged::write(path, bytes, mode)?;
    fault::point("durable.create.staged");
    match fs::hard_link(&staged.path, path) {
        Ok(()) => drop(staged),
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS)
            ) =>
        {
            rename_at(&staged.path, path, libc::RENAME_NOREPLACE).during("create", path)?;
            staged.keep();
        }
        // NFS may have linked, lost the answer, and been refused when it asked again (link(2), BUGS).
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && staged.links()? == 2 => drop(staged),
        Err(error) => return Err(SysError::io("create", path, error)),
    }
    fault::point("durable.create.linked");
    sync_parent(path)
}

/// Has the kernel begin to write these bytes of a file or device to the disk. It promises nothing: a sync does, and has less
/// left to wait for then. An error that writing meets is the sync's to tell.
pub fn begin_writing(file: &File, range: Range<u64>) -> io::Result<()> {
    let to_signed =
        |bytes: u64| i64::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge));
    let (start, length) = (to_signed(range.start)?, to_signed(range.end - range.start)?);
    // SAFETY: the descriptor is open for the call, which touches no memory of ours.
    let result =
        unsafe { libc::sync_file_range(file.as_raw_fd(), start, length, libc::SYNC_FILE_RANGE_WRITE) };
    match check(result.into()) {
        // What cannot begin early (a pipe, some filesystems) is written by the sync.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ESPIPE | libc::EINVAL | libc::ENOSYS)
            ) =>
        {
            Ok(())
        }
        result => result.map(drop),
    }
}

/// Moves `from` to `to`, replacing a file there, and makes both directories durable.
///
/// The content is the caller's to sync first.
pub fn rename_sync(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    fs::rename(from, to).during("rename", from)?;
    fault::point("durable.rename.renamed");
    sync_parents(from, to)
}

/// Moves `from` to `to` where nothing of that name is there; otherwise fails with "already exists".
///
/// Unsupported on NFS and some others.
pub fn rename_new(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    rename_with(from, to, libc::RENAME_NOREPLACE, "rename")?;
    sync_parents(from, to)
}

/// Swaps two names in one step, whatever they are, and makes both directories durable.
///
/// Unsupported on NFS and some others: [`SysError::is_unsupported`].
pub fn rename_exchange(a: impl AsRef<Path>, b: impl AsRef<Path>) -> Result<()> {
    let (a, b) = (a.as_ref(), b.as_ref());
    rename_with(a, b, libc::RENAME_EXCHANGE, "exchange")?;
    fault::point("durable.exchange.renamed");
    sync_parents(a, b)
}

/// Makes the names in a directory durable.
pub fn sync_dir(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let dir = File::open(path).during("sync directory", path)?;
    match dir.sync_all() {
        // Some network and FUSE filesystems have no such call for directories, and no way to do better.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        result => result.during("sync directory", path),
    }
}

/// Makes everything durable that was written so far to the filesystem that holds `path`.
///
/// The way to sync a whole tree: one call instead of one per file. It waits for other writers' data too.
pub fn sync_filesystem(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let file = File::open(path).during("sync the filesystem of", path)?;
    nix::unistd::syncfs(&file).during("sync the filesystem of", path)
}

/// Whether a file's name is one of those that a crash can leave behind.
pub fn is_temporary(name: &OsStr) -> bool {
    name.as_bytes()
        .strip_prefix(TEMPORARY_PREFIX.as_bytes())
        .is_some_and(|rest| Uuid::try_parse_ascii(rest).is_ok())
}

/// A complete and synced file under a temporary name; removed on drop unless it was renamed away.
struct Staged {
    path: PathBuf,
    file: File,
    armed: bool,
}

impl Staged {
    fn write(target: &Path, bytes: &[u8], mode: u32) -> Result<Self> {
        let Some((parent, _)) = handle::split(target) else {
            return Err(SysError::io(
                "write",
                target,
                io::Error::from(io::ErrorKind::InvalidInput),
            ));
        };
        let path = parent.join(format!("{TEMPORARY_PREFIX}{}", Uuid::new_v4()));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .during("create a temporary file for", target)?;
        let mut staged = Self {
            path,
            file,
            armed: true,
        };
        staged.fill(bytes, mode).during("write", target)?;
        Ok(staged)
    }

    fn fill(&mut self, bytes: &[u8], mode: u32) -> io::Result<()> {
        self.file.write_all(bytes)?;
        // Set rather than asked for at creation, so that the umask has no say.
        self.file.set_permissions(fs::Permissions::from_mode(mode))?;
        self.file.sync_all()
    }

    fn links(&self) -> Result<u64> {
        Ok(self.file.metadata().during("read", &self.path)?.nlink())
    }

    fn keep(mut self) {
        self.armed = false;
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.armed
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("temporary file {} stays behind: {error}", self.path.display());
        }
    }
}

fn rename_with(from: &Path, to: &Path, flags: libc::c_uint, op: &'static str) -> Result<()> {
    match rename_at(from, to, flags) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {
            Err(SysError::Unsupported {
                op,
                path: from.to_owned(),
                reason: "its filesystem does not have this kind of rename".to_owned(),
            })
        }
        result => result.during(op, from),
    }
}

/// renameat2(2), which not every C library wraps.
fn rename_at(from: &Path, to: &Path, flags: libc::c_uint) -> io::Result<()> {
    let from = CString::new(from.as_os_str().as_bytes())?;
    let to = CString::new(to.as_os_str().as_bytes())?;
    // SAFETY: both paths are C strings that live through the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            libc::AT_FDCWD,
            from.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            flags,
        )
    };
    check(result).map(drop)
}

fn sync_parent(path: &Path) -> Result<()> {
    handle::split(path).map_or(Ok(()), |(parent, _)| sync_dir(parent))
}

fn sync_parents(a: &Path, b: &Path) -> Result<()> {
    // The new name first: a crash in between may leave both names, but never none.
    sync_parent(b)?;
    if a.parent() == b.parent() {
        Ok(())
    } else {
        sync_parent(a)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> tempfile::TempDir {
        tempfile::tempdir().expect("a scratch directory")
    }

    /// A hint is no reason to fail: a device, a file and a pipe all take it.
    #[test]
    fn writing_may_begin_early_wherever_it_can() {
        let dir = scratch();
        let file = File::create(dir.path().join("f")).expect("made");
        std::os::unix::fs::FileExt::write_all_at(&file, b"x", 5000).expect("written");
        begin_writing(&file, 0..5001).expect("a file");
        begin_writing(&file, 0..1 << 40).expect("beyond its end");
        let (_read, write) = std::io::pipe().expect("a pipe");
        begin_writing(&File::from(std::os::fd::OwnedFd::from(write)), 0..1).expect("a pipe");
        assert!(
            begin_writing(&file, 0..u64::MAX).is_err(),
            "no file is that large"
        );
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .expect("a directory")
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    }

    #[test]
    fn write_atomic_replaces_content_and_mode_and_leaves_nothing_else() {
        let dir = scratch();
        let path = dir.path().join("record");
        write_atomic(&path, b"one", 0o600).expect("written");
        let before = fs::metadata(&path).expect("there").ino();
        write_atomic(&path, b"second", 0o664).expect("written again");
        let after = fs::metadata(&path).expect("there");
        assert_eq!(fs::read(&path).expect("read"), b"second");
        assert_eq!(after.mode() & 0o7777, 0o664, "the umask must have no say");
        assert_ne!(
            after.ino(),
            before,
            "a new file took the name; the old one was never written to"
        );
        assert_eq!(names(dir.path()), ["record"]);
    }

    #[test]
    fn failed_write_leaves_the_old_and_no_temporary() {
        let dir = scratch();
        let path = dir.path().join("taken");
        fs::create_dir(&path).expect("a directory in the way");
        let error = write_atomic(&path, b"x", 0o600).expect_err("a file cannot replace a directory");
        assert_eq!(error.io_kind(), io::ErrorKind::IsADirectory);
        assert_eq!(names(dir.path()), ["taken"]);
    }

    #[test]
    fn create_exclusive_has_one_winner_among_many() {
        let dir = scratch();
        let path = dir.path().join("owner");
        let wins: Vec<usize> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..16)
                .map(|n| {
                    let path = &path;
                    scope.spawn(
                        move || match create_exclusive(path, format!("host {n}").as_bytes(), 0o644) {
                            Ok(()) => Some(n),
                            Err(error) => {
                                assert!(error.is_already_exists(), "{error:?}");
                                // What the loser sees is complete.
                                assert!(fs::read_to_string(path).expect("read").starts_with("host "));
                                None
                            }
                        },
                    )
                })
                .collect();
            racers
                .into_iter()
                .filter_map(|racer| racer.join().expect("no panic"))
                .collect()
        });
        assert_eq!(wins.len(), 1);
        assert_eq!(
            fs::read_to_string(&path).expect("read"),
            format!("host {}", wins[0])
        );
        assert_eq!(fs::metadata(&path).expect("there").nlink(), 1);
        assert_eq!(names(dir.path()), ["owner"]);
    }

    #[test]
    fn exchange_swaps_a_directory_with_a_file() {
        let dir = scratch();
        let (a, b) = (dir.path().join("a"), dir.path().join("sub/b"));
        fs::create_dir_all(&b).expect("a directory");
        fs::write(&a, "file").expect("a file");
        rename_exchange(&a, &b).expect("exchanged");
        assert!(a.is_dir());
        assert_eq!(fs::read(&b).expect("read"), b"file");
        assert!(
            rename_exchange(&a, dir.path().join("absent"))
                .expect_err("absent")
                .is_not_found()
        );
        // An ancestor cannot be swapped with its descendant: the kernel says EINVAL, as for "no such ability".
        assert!(
            rename_exchange(dir.path().join("sub"), &b)
                .expect_err("nested")
                .is_unsupported()
        );
    }

    #[test]
    fn renames_replace_or_refuse_as_they_say() {
        let dir = scratch();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, "a").expect("a file");
        fs::write(&b, "b").expect("a file");
        assert!(rename_new(&a, &b).expect_err("taken").is_already_exists());
        rename_sync(&a, &b).expect("replaced");
        assert_eq!(names(dir.path()), ["b"]);
        assert_eq!(fs::read(&b).expect("read"), b"a");
        rename_new(&b, &a).expect("free");
        sync_filesystem(&a).expect("synced");
    }

    #[test]
    fn temporary_names_are_told_from_others() {
        assert!(is_temporary(OsStr::new(
            ".tmp-67e55044-10b1-426f-9247-bb680e5fe0c8"
        )));
        for name in [
            ".tmp-",
            ".tmp-data",
            "67e55044-10b1-426f-9247-bb680e5fe0c8",
            "x.tmp-67e55044",
        ] {
            assert!(!is_temporary(OsStr::new(name)), "{name}");
        }
    }
}
