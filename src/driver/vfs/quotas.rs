//! Sizes, enforced by what the filesystem has: quotas of btrfs subvolumes, or projects of ext4 and XFS.
//!
//! A volume made with `vm` has an image of exactly its size and no quota.

use std::path::Path;

use super::super::{DriverError, Result, Support};
use super::area::Trees;
use super::layout::Layout;
use crate::model::{Bytes, Volume};
use crate::sys::{btrfs, filesystem};

/// How this filesystem enforces sizes.
#[derive(Debug)]
pub(super) enum Quotas {
    /// By limits on subvolumes.
    Subvolumes,
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
            _ => Self::None {
                because: "not yet".to_owned(),
            },
        }
    }

    pub(super) fn support(&self) -> Support {
        match self {
            Self::Subvolumes => Support::Yes {
                by: "btrfs quotas".to_owned(),
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
    pub(super) fn prepare(&self, _volume: &mut Volume) -> Result<()> {
        Ok(())
    }

    /// Puts the volume's size in force on its tree, which is best still empty. Can be repeated.
    pub(super) fn apply(&self, volume: &Volume, data: &Path) -> Result<()> {
        let Some(limit) = limit(volume) else {
            return Ok(());
        };
        match self {
            Self::Subvolumes if filesystem::is_subvolume(data)? => Ok(btrfs::set_limit(data, Some(limit.0))?),
            _ => {
                log::warn!("vfs: the size of volume {} is not enforced any more", volume.name);
                Ok(())
            }
        }
    }

    /// What the volume holds by the quota's account, where it has one.
    pub(super) fn usage(&self, volume: &Volume, data: &Path) -> Result<Option<Bytes>> {
        if limit(volume).is_none() {
            return Ok(None);
        }
        match self {
            Self::Subvolumes if filesystem::is_subvolume(data)? => {
                Ok(btrfs::usage(data)?.map(|usage| Bytes(usage.referenced_bytes)))
            }
            _ => Ok(None),
        }
    }

    /// Forgets the limit of a volume whose data are gone.
    pub(super) fn clear(&self, _volume: &Volume, _path: &Path) {}
}

/// What a quota has to hold the volume to.
fn limit(volume: &Volume) -> Option<Bytes> {
    volume.size.filter(|_| !volume.vm)
}
