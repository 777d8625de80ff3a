//! Reflinks: a file whose data are another's, shared until one of the two is written to.

use std::os::fd::{AsFd, AsRawFd};
use std::{fs, io};

use std::path::Path;

use uuid::Uuid;

use super::error::{Context, Result, check};

/// Makes `target` share all of `source`'s data (FICLONE).
///
/// Both are open files of one filesystem, `target` for writing. The kernel locks both meanwhile, so that the clone shows
/// the source at one instant. EOPNOTSUPP and EXDEV mean that the filesystem cannot do it, or not between these two.
pub fn clone_file(source: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let (source, target) = (source.as_fd(), target.as_fd());
    // SAFETY: both descriptors are open for the call; the third argument is a descriptor, no pointer.
    let result = unsafe { libc::ioctl(target.as_raw_fd(), libc::FICLONE as _, source.as_raw_fd()) };
    check(result.into()).map(drop)
}

/// Whether files below `dir` can share data, found out by trying with two small temporary files in it.
///
/// An error is one of making those files; a filesystem without the ability is the answer false.
pub fn supported(dir: impl AsRef<Path>) -> Result<bool> {
    let dir = dir.as_ref();
    let scratch = Scratch([(); 2].map(|()| dir.join(format!(".tmp-{}", Uuid::new_v4()))));
    let make = |path: &Path| {
        fs::File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
    };
    let [source, target] = scratch.0.each_ref().map(|path| make(path));
    let (source, target) = (source.during("write to", dir)?, target.during("write to", dir)?);
    // A whole block, and synced: some filesystems keep less inside the inode, and some refuse what is not yet allocated.
    fs::write(&scratch.0[0], [0x5a; 4096])
        .and_then(|()| source.sync_all())
        .during("write to", dir)?;
    match clone_file(&source, &target) {
        Ok(()) => Ok(true),
        Err(error) => {
            log::debug!("no reflinks in {}: {error}", dir.display());
            Ok(false)
        }
    }
}

/// The two files, removed on every way out.
struct Scratch([std::path::PathBuf; 2]);

impl Drop for Scratch {
    fn drop(&mut self) {
        for path in &self.0 {
            if let Err(error) = fs::remove_file(path)
                && error.kind() != io::ErrorKind::NotFound
            {
                log::warn!("temporary file {} stays behind: {error}", path.display());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{Kind, TestFs};

    #[test]
    fn the_filesystems_that_can_are_told_from_those_that_cannot() {
        for (kind, can) in [(Kind::Btrfs, true), (Kind::Xfs, true), (Kind::Ext4, false)] {
            let Some(fs) = TestFs::new(kind) else { return };
            assert_eq!(supported(fs.path()).expect("an answer"), can, "{kind:?}");
            let left: Vec<_> = std::fs::read_dir(fs.path()).expect("a directory").collect();
            assert!(
                left.iter()
                    .all(|e| e.as_ref().expect("an entry").file_name() == "lost+found"),
                "{left:?}"
            );
        }
        assert!(supported("/nonexistent/dir").expect_err("absent").is_not_found());
    }

    #[test]
    fn clone_shares_until_written() {
        let Some(fs) = TestFs::new(Kind::Xfs) else { return };
        let (a, b) = (fs.path().join("a"), fs.path().join("b"));
        std::fs::write(&a, vec![7u8; 100_000]).expect("written");
        let (source, target) = (
            std::fs::File::open(&a).expect("opened"),
            std::fs::File::create(&b).expect("created"),
        );
        clone_file(&source, &target).expect("cloned");
        std::fs::write(&a, b"changed").expect("written");
        assert_eq!(std::fs::read(&b).expect("read"), vec![7u8; 100_000]);
    }
}
