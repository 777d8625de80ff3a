//! btrfs's own quotas: every subvolume has a group that counts what it refers to, and can limit it.
//!
//! Counting costs: it must be switched on for a whole filesystem, and it slows the deletion of snapshots. So nothing here
//! switches it on unasked. Usage is as of the last committed transaction.

use std::io;
use std::path::Path;

use super::super::error::{Context, Result};
use super::super::ioctl::Request;
use super::raw::{self, le64};

const MAGIC: u32 = 0x94;
const QUOTA_TREE: u64 = 8;
const STATUS_ITEM: u32 = 240;
const INFO_ITEM: u32 = 242;
const LIMIT_ITEM: u32 = 244;
const LIMIT_REFERENCED: u64 = 1;
const ENABLE: u64 = 1;

/// What a subvolume uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QgroupUsage {
    /// All data that its files refer to, whoever shares it.
    pub referenced_bytes: u64,
    /// The part that no other subvolume or snapshot shares: what deleting it gives back.
    pub exclusive_bytes: u64,
    /// The most that it may refer to.
    pub limit_bytes: Option<u64>,
}

#[repr(C)]
struct QuotaCtlArgs {
    cmd: u64,
    status: u64,
}

#[repr(C)]
struct QgroupLimitArgs {
    qgroupid: u64,
    flags: u64,
    max_referenced: u64,
    max_exclusive: u64,
    rsv_referenced: u64,
    rsv_exclusive: u64,
}

// SAFETY: mirrors btrfs_ioctl_quota_ctl_args; integers only.
const QUOTA_CTL: Request<QuotaCtlArgs> = unsafe { Request::read_write(MAGIC, 40) };
// SAFETY: mirrors btrfs_ioctl_qgroup_limit_args with its btrfs_qgroup_limit; integers only. The header says _IOR.
const QGROUP_LIMIT: Request<QgroupLimitArgs> = unsafe { Request::read(MAGIC, 43) };

/// Whether the filesystem that holds `path` counts.
pub fn quota_enabled(path: impl AsRef<Path>) -> Result<bool> {
    let path = path.as_ref();
    let dir = super::handle::open_dir_following(path).during("open", path)?;
    let mut enabled = false;
    let result = raw::search(dir, QUOTA_TREE, 0, STATUS_ITEM, 0..=0, |_, _| {
        enabled = true;
        Some(())
    });
    match result {
        // No such tree.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        result => result.during("read the quota of", path).map(|()| enabled),
    }
}

/// Switches counting on for the filesystem that holds `path`; what exists is counted in the background.
pub fn enable_quota(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let dir = super::handle::open_dir_following(path).during("open", path)?;
    QUOTA_CTL
        .call(
            dir,
            &mut QuotaCtlArgs {
                cmd: ENABLE,
                status: 0,
            },
        )
        .during("enable the quota of", path)
}

/// Limits what the subvolume may refer to, or lifts the limit. Fails with ENOTCONN where quota is off.
pub fn set_limit(subvolume: impl AsRef<Path>, limit_bytes: Option<u64>) -> Result<()> {
    let path = subvolume.as_ref();
    let fd = super::open(path, "limit")?;
    let mut args = QgroupLimitArgs {
        // The subvolume's own group.
        qgroupid: raw::subvolume_id(&fd).during("limit", path)?,
        flags: LIMIT_REFERENCED,
        // All ones clears the limit and its flag.
        max_referenced: limit_bytes.unwrap_or(u64::MAX),
        max_exclusive: 0,
        rsv_referenced: 0,
        rsv_exclusive: 0,
    };
    QGROUP_LIMIT.call(fd, &mut args).during("limit", path)
}

/// What the subvolume uses; None where quota is off.
pub fn usage(subvolume: impl AsRef<Path>) -> Result<Option<QgroupUsage>> {
    let path = subvolume.as_ref();
    let fd = super::open(path, "read the quota of")?;
    let id = raw::subvolume_id(&fd).during("read the quota of", path)?;
    let mut counted = None;
    let mut limit_bytes = None;
    let result = raw::search(&fd, QUOTA_TREE, 0, INFO_ITEM, id..=id, |_, item| {
        // btrfs_qgroup_info_item: generation, referenced, its compressed size, exclusive, its compressed size.
        counted = Some((le64(item, 8)?, le64(item, 24)?));
        Some(())
    })
    .and_then(|()| {
        raw::search(&fd, QUOTA_TREE, 0, LIMIT_ITEM, id..=id, |_, item| {
            // btrfs_qgroup_limit_item: flags, the most it may refer to, …
            if le64(item, 0)? & LIMIT_REFERENCED != 0 {
                limit_bytes = Some(le64(item, 8)?);
            }
            Some(())
        })
    });
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.during("read the quota of", path).map(|()| {
            counted.map(|(referenced_bytes, exclusive_bytes)| QgroupUsage {
                referenced_bytes,
                exclusive_bytes,
                limit_bytes,
            })
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::btrfs::{commit, create, snapshot};
    use crate::sys::mount::Access;
    use crate::sys::testing::{Kind, TestFs};
    use std::fs;

    #[test]
    fn limit_is_enforced_and_usage_is_told() {
        let Some(btrfs) = TestFs::new(Kind::Btrfs) else {
            return;
        };
        let at = |name: &str| btrfs.path().join(name);
        create(at("v")).expect("created");
        assert!(!quota_enabled(at("v")).expect("known"));
        assert_eq!(usage(at("v")).expect("known"), None);
        set_limit(at("v"), Some(8 << 20)).expect_err("quota is off");
        enable_quota(btrfs.path()).expect("enabled");
        assert!(quota_enabled(at("v")).expect("known"));
        set_limit(at("v"), Some(8 << 20)).expect("limited");
        fs::write(at("v/small"), vec![1u8; 2 << 20]).expect("below the limit");
        commit(at("v")).expect("committed");
        snapshot(at("v"), at("s"), Access::ReadOnly).expect("snapshot");
        commit(at("v")).expect("committed");
        let told = usage(at("v")).expect("known").expect("on");
        assert_eq!(told.limit_bytes, Some(8 << 20));
        assert!((2 << 20..3 << 20).contains(&told.referenced_bytes), "{told:?}");
        assert!(told.exclusive_bytes < 1 << 20, "the snapshot shares it: {told:?}");
        let write = || {
            fs::write(at("v/large"), vec![2u8; 12 << 20])
                .and_then(|()| fs::File::open(at("v/large"))?.sync_all())
        };
        assert_eq!(
            write().expect_err("beyond the limit").raw_os_error(),
            Some(libc::EDQUOT)
        );
        set_limit(at("v"), None).expect("lifted");
        write().expect("no limit");
        assert_eq!(usage(at("v")).expect("known").expect("on").limit_bytes, None);
    }
}
