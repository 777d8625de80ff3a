//! Project quotas: a limit on what a directory tree may take, on ext4 and XFS.
//!
//! A tree gets a project id, which new files in it inherit; the filesystem counts each id's blocks and refuses more than
//! its limit: with EDQUOT on ext4, with ENOSPC on XFS. `statfs` inside the tree shows the limit as the size, so `df` in a
//! container tells the truth. ext4 does not hold processes with CAP_SYS_RESOURCE to limits; containers lack that by default.
//! btrfs has limits of its own: [`super::btrfs::set_limit`].

mod project;
mod quotactl;

use std::fmt;
use std::path::Path;

pub use project::{assign, project_of};

use super::error::{Context, Result};
use super::filesystem::{FsKind, facts};
use super::mountinfo;
use quotactl::{Filesystem, State};

/// The number that marks a tree's files for accounting. 0 is what files have that belong to none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectId(pub u32);

/// What a project takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProjectUsage {
    /// Space taken now. What was written in the last moments may not be allocated yet, and so not counted; what was
    /// deleted on XFS is counted some moments longer.
    pub used_bytes: u64,
    /// The most that it may take.
    pub limit_bytes: Option<u64>,
    /// Files and directories.
    pub inodes: u64,
}

/// Whether trees on a filesystem can be limited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Support {
    /// Limits are enforced.
    Available,
    /// They are not.
    Unavailable(Missing),
}

/// What is missing for project quotas; as text, with the remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The filesystem's type has none.
    Filesystem(FsKind),
    /// The kernel was built without quotas.
    Kernel,
    /// The filesystem is not mounted with the option.
    MountOption(FsKind),
    /// The option is there, and yet nothing is counted: ext4 lacks the feature, or the kernel the part for this filesystem.
    Feature(FsKind),
    /// Space is counted, but limits are not enforced.
    Enforcement,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filesystem(FsKind::Btrfs) => {
                f.write_str("btrfs has no project quotas; it limits subvolumes instead")
            }
            Self::Filesystem(kind) => write!(f, "{kind} has no project quotas; ext4 and xfs have them"),
            Self::Kernel => f.write_str("this kernel was built without quotas (CONFIG_QUOTA)"),
            Self::MountOption(FsKind::Ext4) => f.write_str(
                "the filesystem is mounted without the option prjquota; unmount it, run \
                 `tune2fs -O project,quota -Q prjquota` on its device once, and mount it with `-o prjquota`",
            ),
            Self::MountOption(_) => f.write_str(
                "the filesystem is mounted without the option prjquota; unmount it and mount it with `-o prjquota` \
                 (a remount is not enough; the root filesystem takes rootflags=prjquota on the kernel's command line)",
            ),
            Self::Feature(FsKind::Ext4) => f.write_str(
                "the filesystem lacks the features quota and project, or the kernel its quota format (CONFIG_QFMT_V2); \
                 unmount it and run `tune2fs -O project,quota -Q prjquota` on its device",
            ),
            Self::Feature(_) => f.write_str("the kernel has no quotas for this filesystem (CONFIG_XFS_QUOTA)"),
            Self::Enforcement => f.write_str(
                "project quotas are counted but not enforced; unmount the filesystem and mount it with `-o prjquota`",
            ),
        }
    }
}

/// Whether trees on the filesystem that holds `path` can be limited, and what is missing where not.
pub fn supported(path: impl AsRef<Path>) -> Result<Support> {
    let path = path.as_ref();
    let kind = facts(path)?.kind;
    if !matches!(kind, FsKind::Ext4 | FsKind::Xfs) {
        return Ok(Support::Unavailable(Missing::Filesystem(kind)));
    }
    let has_option = mountinfo::mount_of(path)?.is_some_and(|mount| {
        // XFS calls it by either name, and can count without enforcing.
        ["prjquota", "pquota", "pqnoenforce"]
            .iter()
            .any(|name| mount.has_option(name))
    });
    let state = Filesystem::open(path)?
        .state()
        .during("read the quota state of", path)?;
    Ok(judge(state, kind, has_option))
}

/// Limits what the project's files take on the filesystem that holds `path`, or lifts the limit.
///
/// Limits are kept in units of 1024 bytes, rounded up. A limit below what is in use is accepted: it stops further growth.
pub fn set_limit(path: impl AsRef<Path>, project: ProjectId, limit_bytes: Option<u64>) -> Result<()> {
    let path = path.as_ref();
    Filesystem::open(path)?
        .set_limit(project.0, limit_bytes)
        .during("set the quota of", path)
}

/// What the project takes on the filesystem that holds `path`, and its limit; zero for one that was never used.
pub fn usage(path: impl AsRef<Path>, project: ProjectId) -> Result<ProjectUsage> {
    let path = path.as_ref();
    Filesystem::open(path)?
        .usage(project.0)
        .during("read the quota of", path)
}

fn judge(state: State, kind: FsKind, has_option: bool) -> Support {
    let missing = match state {
        State::Enforced => return Support::Available,
        State::Counted => Missing::Enforcement,
        State::NotInKernel => Missing::Kernel,
        State::Off if has_option => Missing::Feature(kind),
        State::Off => Missing::MountOption(kind),
    };
    Support::Unavailable(missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{Kind, TestFs};

    #[test]
    fn each_lack_has_words_and_a_remedy() {
        let reason = |state, kind, option| match judge(state, kind, option) {
            Support::Available => String::new(),
            Support::Unavailable(missing) => missing.to_string(),
        };
        assert_eq!(reason(State::Enforced, FsKind::Ext4, true), "");
        assert!(reason(State::NotInKernel, FsKind::Ext4, true).contains("CONFIG_QUOTA"));
        assert!(reason(State::Off, FsKind::Ext4, false).contains("tune2fs"));
        assert!(reason(State::Off, FsKind::Xfs, false).contains("-o prjquota"));
        assert!(reason(State::Off, FsKind::Xfs, true).contains("CONFIG_XFS_QUOTA"));
        assert!(reason(State::Counted, FsKind::Ext4, false).contains("not enforced"));
    }

    #[test]
    fn filesystems_without_are_told_by_name() {
        let reason = |path: &Path| match supported(path).expect("an answer") {
            Support::Unavailable(missing) => missing.to_string(),
            Support::Available => panic!("{} cannot have it", path.display()),
        };
        assert!(reason(Path::new("/proc")).contains("has no project quotas"));
        for kind in [Kind::Btrfs, Kind::Tmpfs, Kind::Ext4, Kind::Xfs] {
            let Some(fs) = TestFs::new(kind) else { return };
            let text = reason(&fs.path());
            match kind {
                Kind::Btrfs => assert!(text.contains("subvolumes"), "{text}"),
                Kind::Tmpfs => assert!(text.starts_with("tmpfs has no"), "{text}"),
                // Which of the two depends on this machine's kernel.
                _ => assert!(
                    text.contains("prjquota") || text.contains("CONFIG_QUOTA"),
                    "{text}"
                ),
            }
            let error = set_limit(fs.path(), ProjectId(7), Some(1 << 20)).expect_err("nothing to set");
            assert!(error.errno().is_some(), "{error:?}");
        }
    }
}
