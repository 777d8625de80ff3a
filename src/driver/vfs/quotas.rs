//! Sizes, enforced by what the filesystem has: quotas of btrfs subvolumes, or projects of ext4 and XFS.
//!
//! A volume made with `vm` has an image of exactly its size and no quota.
//!
//! A project needs a number of its own on the whole filesystem, which other programs and other stores may use too. It is
//! derived from the volume's id; that it is free is asked of the filesystem, which knows of all that have files or a
//! limit, those of volumes in the trash among them.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::super::{DriverError, Result, Support};
use super::area::Trees;
use super::layout::{self, Layout};
use crate::model::{Bytes, Volume};
use crate::sys::quota::{self, ProjectId};
use crate::sys::{btrfs, filesystem};

/// The key of the project's number in a record's private part.
const PROJECT: &str = "project-id";

/// How this filesystem enforces sizes.
#[derive(Debug)]
pub(super) enum Quotas {
    /// By limits on subvolumes.
    Subvolumes,
    /// By projects, on the filesystem that holds this path.
    Projects { path: PathBuf },
    /// Not at all, for this reason.
    None { because: String },
}

impl Quotas {
    pub(super) fn probe(layout: &Layout, trees: &Trees) -> Self {
        let path = layout.path();
        match trees {
            Trees::Subvolumes => match btrfs::quota_enabled(path) {
                Ok(true) => Self::Subvolumes,
                Ok(false) => Self::None {
                    because: format!(
                        "quotas are off on the btrfs at {0}; turn them on with `btrfs quota enable {0}` and start again",
                        path.display()
                    ),
                },
                Err(error) => Self::None {
                    because: format!("not known: {}", DriverError::from(error)),
                },
            },
            _ => match quota::supported(path) {
                Ok(quota::Support::Available) => Self::Projects {
                    path: path.to_owned(),
                },
                Ok(quota::Support::Unavailable(missing)) => Self::None {
                    because: missing.to_string(),
                },
                Err(error) => Self::None {
                    because: format!("not known: {}", DriverError::from(error)),
                },
            },
        }
    }

    pub(super) fn support(&self) -> Support {
        match self {
            Self::Subvolumes => Support::Yes {
                by: "btrfs quotas".to_owned(),
            },
            Self::Projects { .. } => Support::Yes {
                by: "project quotas".to_owned(),
            },
            Self::None { because } => Support::No {
                because: because.clone(),
            },
        }
    }

    pub(super) fn enforced(&self) -> bool {
        !matches!(self, Self::None { .. })
    }

    /// Refuses `what` where sizes are not enforced.
    pub(super) fn check(&self, what: impl FnOnce() -> String) -> Result<()> {
        match self {
            Self::None { because } => Err(DriverError::Unsupported {
                what: what(),
                because: format!("{because}; without size, or with vm=true, the volume can be created"),
            }),
            _ => Ok(()),
        }
    }

    /// Completes the record of a volume with what its quota needs.
    pub(super) fn prepare(&self, volume: &mut Volume) -> Result<()> {
        if let Self::Projects { path } = self
            && limit(volume).is_some()
            && !volume.private.contains_key(PROJECT)
        {
            let project = free_project(path, volume, volume.id.uuid())?;
            volume.private.insert(PROJECT.to_owned(), project.0.to_string());
        }
        Ok(())
    }

    /// Puts the volume's size in force on its tree, which is best still empty. Can be repeated.
    pub(super) fn apply(&self, volume: &Volume, data: &Path) -> Result<()> {
        let Some(limit) = limit(volume) else {
            return Ok(());
        };
        match (self, project(volume)) {
            (Self::Subvolumes, _) if filesystem::is_subvolume(data)? => {
                Ok(btrfs::set_limit(data, Some(limit.0))?)
            }
            (Self::Projects { path }, Some(project)) => {
                quota::set_limit(path, project, Some(limit.0))?;
                Ok(quota::assign(data, project)?)
            }
            _ => {
                log::warn!("vfs: the size of volume {} is not enforced any more", volume.name);
                Ok(())
            }
        }
    }

    /// Puts the volume's size in force on an empty tree that is to take the place of the volume's own. A project for
    /// that tree alone, since both together may be larger than the volume may be; its number is derived from `id`.
    pub(super) fn apply_aside(&self, volume: &Volume, id: Uuid, tree: &Path) -> Result<()> {
        match (self, limit(volume)) {
            (Self::Projects { path }, Some(limit)) if project(volume).is_some() => {
                let project = free_project(path, volume, id)?;
                // The tree first: it is where `release_aside` finds the number.
                quota::assign(tree, project)?;
                Ok(quota::set_limit(path, project, Some(limit.0))?)
            }
            _ => self.apply(volume, tree),
        }
    }

    /// Forgets the limit that [`Self::apply_aside`] set. Done while the tree still says by which number.
    pub(super) fn release_aside(&self, volume: &Volume, tree: &Path) -> Result<()> {
        if let Self::Projects { path } = self
            && let Some(own) = project(volume)
            && layout::is_real_dir(tree)?
        {
            let aside = quota::project_of(tree)?;
            if aside != own && aside.0 != 0 {
                quota::set_limit(path, aside, None)?;
            }
        }
        Ok(())
    }

    /// What the volume holds by the quota's account, where it has one.
    pub(super) fn usage(&self, volume: &Volume, data: &Path) -> Result<Option<Bytes>> {
        if limit(volume).is_none() {
            return Ok(None);
        }
        match (self, project(volume)) {
            (Self::Subvolumes, _) if filesystem::is_subvolume(data)? => {
                Ok(btrfs::usage(data)?.map(|usage| Bytes(usage.referenced_bytes)))
            }
            (Self::Projects { path }, Some(project)) => {
                Ok(Some(Bytes(quota::usage(path, project)?.used_bytes)))
            }
            _ => Ok(None),
        }
    }

    /// Forgets the limit of a volume whose data are gone; without it, its number would never be free again.
    pub(super) fn clear(&self, volume: &Volume) {
        if let (Self::Projects { path }, Some(project)) = (self, project(volume))
            && let Err(error) = quota::set_limit(path, project, None)
        {
            log::warn!("vfs: the limit of project {} stays behind: {error}", project.0);
        }
    }
}

/// The volume's project, if it has one.
fn project(volume: &Volume) -> Option<ProjectId> {
    // 0 is everybody's: a record that says so is wrong.
    volume
        .private
        .get(PROJECT)?
        .parse()
        .ok()
        .filter(|number| *number != 0)
        .map(ProjectId)
}

/// A number that nobody on the filesystem uses, derived from an id.
fn free_project(path: &Path, volume: &Volume, id: Uuid) -> Result<ProjectId> {
    for project in candidates(id.as_u128()) {
        let usage = quota::usage(path, project)?;
        if usage.inodes == 0 && usage.used_bytes == 0 && usage.limit_bytes.is_none() {
            return Ok(project);
        }
    }
    Err(DriverError::Unsupported {
        what: format!("size of volume {}", volume.name),
        because: "no number for its quota is free".to_owned(),
    })
}

/// Numbers to try, derived from an id. People count their own projects from 1, so the low ones are left to them.
fn candidates(id: u128) -> impl Iterator<Item = ProjectId> {
    const LOWEST: u128 = 1 << 24;
    const COUNT: u128 = (u32::MAX as u128) - LOWEST;
    (0..1_000).map(move |n| ProjectId((LOWEST + (id % COUNT + n) % COUNT) as u32))
}

/// What a quota has to hold the volume to.
fn limit(volume: &Volume) -> Option<Bytes> {
    volume.size.filter(|_| !volume.vm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_leave_out_the_low_numbers_and_the_highest() {
        for id in [0, 1, u128::MAX, 1 << 24, u128::from(u32::MAX) - (1 << 24) - 1] {
            let all: Vec<_> = candidates(id).collect();
            assert!(
                all.iter().all(|project| (1 << 24..u32::MAX).contains(&project.0)),
                "{id}"
            );
            assert_eq!(
                all.iter().collect::<std::collections::BTreeSet<_>>().len(),
                1_000,
                "{id}"
            );
        }
    }
}
