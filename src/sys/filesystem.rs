//! What a filesystem is, and how full.

use std::path::Path;

use nix::sys::statfs::statfs;
use nix::sys::statvfs::statvfs;

use super::error::{Context, Result};
use super::ioctl::Request;

pub use super::btrfs::is_subvolume;
pub use super::reflink::supported as supports_reflink;

/// The types of filesystem that something here depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FsKind {
    /// ext4, and ext2 and ext3, which share its magic number.
    Ext4,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
    /// tmpfs: gone with the machine.
    Tmpfs,
    /// NFS of any version.
    Nfs,
    /// SMB of any version.
    Smb,
    /// An overlay, such as a container's or a managed plugin's own root.
    Overlay,
    /// Any FUSE filesystem, GlusterFS among them.
    Fuse,
    /// ZFS.
    Zfs,
    /// CephFS.
    Ceph,
    /// Another one, with its magic number (statfs(2)).
    Other(u32),
}

/// A filesystem's type and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Its type.
    pub kind: FsKind,
    /// All of its space.
    pub total_bytes: u64,
    /// What nothing uses, the superuser's reserve included.
    pub free_bytes: u64,
    /// What an ordinary user can still write.
    pub available_bytes: u64,
}

/// Asks the filesystem that holds `path`.
pub fn facts(path: impl AsRef<Path>) -> Result<Facts> {
    let path = path.as_ref();
    let magic = statfs(path)
        .during("read the filesystem of", path)?
        .filesystem_type()
        .0;
    // statvfs for the sizes: the unit that FUSE and NFS count in differs from what statfs calls the block size.
    let sizes = statvfs(path).during("read the filesystem of", path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(sizes.fragment_size());
    Ok(Facts {
        // The magic number is a long in C and 32 bits in meaning.
        kind: FsKind::of_magic(magic as u32),
        total_bytes: bytes(sizes.blocks()),
        free_bytes: bytes(sizes.blocks_free()),
        available_bytes: bytes(sizes.blocks_available()),
    })
}

/// Makes a mounted XFS so many of its blocks large (xfs_growfs(8)). `inode_percent` is the superblock's, which stays.
pub fn grow_xfs(path: impl AsRef<Path>, blocks: u64, inode_percent: u8) -> Result<()> {
    /// struct xfs_growfs_data of xfs/xfs_fs.h.
    #[repr(C)]
    struct Growth {
        blocks: u64,
        inode_percent: u32,
    }
    // SAFETY: the kernel's structure for XFS_IOC_FSGROWFSDATA, laid out as its header says, of integers only.
    const GROW: Request<Growth> = unsafe { Request::write(b'X' as u32, 110) };
    let path = path.as_ref();
    let dir = std::fs::File::open(path).during("open", path)?;
    let mut growth = Growth {
        blocks,
        inode_percent: inode_percent.into(),
    };
    GROW.call(&dir, &mut growth)
        .during("grow the filesystem at", path)
}

/// Tells the device of a mounted filesystem which blocks nothing uses (fstrim(8)).
///
/// ext4 and XFS leave out what was freed since the journal was written last, which can be half a minute ago; so it is written
/// before. What XFS has not freed yet, though it was removed, a question about its free space sets going.
pub fn trim(path: impl AsRef<Path>) -> Result<()> {
    /// struct fstrim_range of linux/fs.h.
    #[repr(C)]
    struct Range {
        start: u64,
        length: u64,
        least: u64,
    }
    // SAFETY: the kernel's structure for FITRIM, laid out as its header says, of integers only.
    const TRIM: Request<Range> = unsafe { Request::read_write(b'X' as u32, 121) };
    let path = path.as_ref();
    let dir = std::fs::File::open(path).during("open", path)?;
    nix::sys::statvfs::fstatvfs(&dir).during("read the free space of", path)?;
    nix::unistd::syncfs(&dir).during("sync the filesystem of", path)?;
    let mut all = Range {
        start: 0,
        length: u64::MAX,
        least: 0,
    };
    TRIM.call(&dir, &mut all).during("trim", path)
}

impl FsKind {
    /// By the numbers of linux/magic.h.
    fn of_magic(magic: u32) -> Self {
        match magic {
            0xEF53 => Self::Ext4,
            0x5846_5342 => Self::Xfs,
            0x9123_683E => Self::Btrfs,
            0x0102_1994 => Self::Tmpfs,
            0x6969 => Self::Nfs,
            0x517B | 0xFE53_4D42 | 0xFF53_4D42 => Self::Smb,
            0x794C_7630 => Self::Overlay,
            0x6573_5546 => Self::Fuse,
            0x2FC1_2FC1 => Self::Zfs,
            0x00C3_6400 => Self::Ceph,
            other => Self::Other(other),
        }
    }
}

impl std::fmt::Display for FsKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Tmpfs => "tmpfs",
            Self::Nfs => "nfs",
            Self::Smb => "smb",
            Self::Overlay => "overlay",
            Self::Fuse => "fuse",
            Self::Zfs => "zfs",
            Self::Ceph => "ceph",
            Self::Other(magic) => return write!(f, "filesystem {magic:#x}"),
        };
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{Kind, TestFs};

    #[test]
    fn kinds_and_sizes_of_real_filesystems() {
        for (kind, expected) in [
            (Kind::Ext4, FsKind::Ext4),
            (Kind::Xfs, FsKind::Xfs),
            (Kind::Btrfs, FsKind::Btrfs),
            (Kind::Tmpfs, FsKind::Tmpfs),
        ] {
            let Some(fs) = TestFs::new(kind) else { return };
            let before = facts(fs.path()).expect("facts");
            assert_eq!(before.kind, expected);
            assert!(
                before.total_bytes > 100 << 20 && before.total_bytes <= 512 << 20,
                "{before:?}"
            );
            assert!(
                before.available_bytes <= before.free_bytes && before.free_bytes < before.total_bytes + 1
            );
            std::fs::write(fs.path().join("f"), vec![1u8; 8 << 20]).expect("written");
            crate::sys::durable::sync_filesystem(fs.path()).expect("synced");
            let after = facts(fs.path()).expect("facts");
            assert!(
                before.free_bytes - after.free_bytes >= 8 << 20,
                "{before:?} {after:?}"
            );
        }
    }

    #[test]
    fn proc_is_something_else_and_absent_is_an_error() {
        assert_eq!(facts("/proc").expect("facts").kind, FsKind::Other(0x9fa0));
        assert_eq!(FsKind::Other(0x9fa0).to_string(), "filesystem 0x9fa0");
        assert!(facts("/nonexistent").expect_err("absent").is_not_found());
    }
}
