//! The trees that volumes and snapshots are, and how this filesystem copies them in an instant.
//!
//! On btrfs a new volume is a subvolume and a snapshot a read-only one. Elsewhere, and for plain directories that were
//! adopted on btrfs, a snapshot is a tree of reflinks. This file decides which; the work is done in `sys`.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::{fs, io};

use uuid::Uuid;

use super::super::{DriverError, Result, Support};
use super::doing;
use super::layout::{self, Layout};
use crate::model::{Consistency, RootDirectory};
use crate::sys::filesystem::{self, FsKind};
use crate::sys::mount::Access;
use crate::sys::{btrfs, tree};

/// How often a tree that is being written to is looked at again before its clone counts as one of single files.
const PASSES: u32 = 4;

/// How this filesystem copies trees.
#[derive(Debug)]
pub(super) enum Trees {
    /// By snapshots of subvolumes.
    Subvolumes,
    /// By reflinks, file by file.
    Reflinks,
    /// Not in an instant, for this reason, but a repository can be kept here.
    Copies { because: String },
    /// Nobody could find out, for this reason.
    Unknown { because: String },
}

impl Trees {
    /// Finds out by trying.
    pub(super) fn probe(layout: &Layout) -> Result<Self> {
        let path = layout.path();
        let kind = filesystem::facts(path)?.kind;
        if kind == FsKind::Btrfs {
            return Ok(Self::Subvolumes);
        }
        let because = match filesystem::supports_reflink(layout.private().join("staging")) {
            Ok(true) => return Ok(Self::Reflinks),
            Ok(false) if kind == FsKind::Xfs => {
                format!(
                    "the XFS at {} was made without reflinks (mkfs.xfs -m reflink=1)",
                    path.display()
                )
            }
            Ok(false) => format!(
                "{kind} at {} has neither subvolumes nor reflinks; put vfs.path on btrfs or on XFS",
                path.display()
            ),
            // Read-only, or full: the volumes that are there can still be shown.
            Err(error) => {
                let because = format!("not known: {}", DriverError::from(error));
                return Ok(Self::Unknown { because });
            }
        };
        Ok(Self::Copies { because })
    }

    pub(super) fn support(&self, layout: &Layout) -> Support {
        match self {
            Self::Subvolumes => Support::Yes {
                by: "btrfs subvolumes".to_owned(),
            },
            Self::Reflinks => Support::Yes {
                by: "reflinks".to_owned(),
            },
            Self::Copies { because } => Support::ByRepository {
                path: layout.repositories(),
                by: format!("a repository for each volume, since {because}"),
            },
            Self::Unknown { because } => Support::No {
                because: because.clone(),
            },
        }
    }

    /// Refuses `what` where trees cannot be copied in an instant.
    pub(super) fn check(&self, what: impl FnOnce() -> String) -> Result<()> {
        match self {
            Self::Subvolumes | Self::Reflinks => Ok(()),
            Self::Copies { because } | Self::Unknown { because } => Err(DriverError::Unsupported {
                what: what(),
                because: because.clone(),
            }),
        }
    }

    /// Makes an empty tree, owned by root with permissions 0755.
    pub(super) fn make(&self, path: &Path) -> Result<()> {
        match self {
            Self::Subvolumes => btrfs::create(path)?,
            _ => fs::create_dir(path).map_err(doing("create directory", path))?,
        }
        let made = fs::symlink_metadata(path).map_err(doing("read", path))?;
        // A directory above with the setgid bit hands its group down; a server may have made root somebody else.
        if (made.uid(), made.gid()) != (0, 0)
            && let Err(error) = std::os::unix::fs::chown(path, Some(0), Some(0))
        {
            log::debug!(
                "vfs: {} stays {}:{}: {error}",
                path.display(),
                made.uid(),
                made.gid()
            );
        }
        own(
            path,
            &RootDirectory {
                uid: None,
                gid: None,
                mode: Some(0o755),
            },
        )
    }

    /// Whether `clone` of `source` is one step that needs no empty tree to be filled.
    pub(super) fn snapshots_whole(&self, source: &Path) -> Result<bool> {
        Ok(matches!(self, Self::Subvolumes) && filesystem::is_subvolume(source)?)
    }

    /// Fills the empty tree `target` with all that is in `source`, shared until written, while `source` is written to.
    pub(super) fn fill_from_living(&self, source: &Path, target: &Path) -> Result<Consistency> {
        let report = tree::clone_tree_stable(source, target, tree::How::Reflink, PASSES, &())?;
        warn_of_notes(source, &report);
        Ok(match report.consistency {
            tree::Consistency::PointInTime => Consistency::PointInTime,
            tree::Consistency::PerFile => Consistency::PerFile,
        })
    }

    /// The same for a snapshot, which nobody writes to. Once is enough then; doing it twice could also exceed the quota
    /// that `target` is under. A path that came here from a better filesystem has snapshots that take a whole copy.
    pub(super) fn fill_from_frozen(&self, source: &Path, target: &Path) -> Result<()> {
        let how = match self {
            Self::Subvolumes | Self::Reflinks => tree::How::Reflink,
            Self::Copies { .. } | Self::Unknown { .. } => tree::How::Copy,
        };
        let report = tree::clone_tree(source, target, how, &())?;
        warn_of_notes(source, &report);
        Ok(())
    }
}

fn warn_of_notes(source: &Path, report: &tree::CloneReport) {
    if let Some(first) = report.notes.first() {
        log::warn!(
            "{} entries below {} are not in its copy as they are there; the first: {first:?}",
            report.notes_total,
            source.display()
        );
    }
}

/// Takes a writable or a frozen snapshot of a subvolume.
pub(super) fn snapshot_subvolume(source: &Path, target: &Path, access: Access) -> Result<()> {
    Ok(btrfs::snapshot(source, target, access)?)
}

/// Refuses `what` where subvolumes inside the volume would be missing from a copy of it, and be lost with the original.
pub(super) fn refuse_nested(data: &Path, what: impl FnOnce() -> String) -> Result<()> {
    let nested = btrfs::nested(data)?;
    let Some(first) = nested.first() else {
        return Ok(());
    };
    let because = format!(
        "the volume contains {} btrfs subvolumes of its own, {} among them, and a snapshot of it would not contain them; \
         delete them, or turn them into directories",
        nested.len(),
        first.display()
    );
    Err(DriverError::Unsupported {
        what: what(),
        because,
    })
}

/// Destroys a tree of either kind; one that is absent is fine.
pub(super) fn destroy(path: &Path) -> Result<()> {
    match layout::metadata(path)? {
        None => Ok(()),
        Some(meta) if meta.is_dir() && filesystem::is_subvolume(path)? => {
            Ok(btrfs::delete_with_nested(path)?)
        }
        Some(_) => Ok(tree::remove_tree(path)?),
    }
}

/// Sets the owner and the permissions of a volume's root directory as far as they are given.
pub(super) fn own(path: &Path, root: &RootDirectory) -> Result<()> {
    if root.uid.is_some() || root.gid.is_some() {
        std::os::unix::fs::chown(path, root.uid, root.gid).map_err(doing("change the owner of", path))?;
    }
    // After the owner, whose change clears setuid and setgid bits.
    if let Some(mode) = root.mode {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(path, permissions).map_err(doing("change the permissions of", path))?;
    }
    Ok(())
}

/// Writes into the root directory of a tree which fill or revert made it. Where the filesystem can exchange two names and
/// cannot keep that, a recovered one may be called undone though it was done.
pub(super) fn mark(path: &Path, id: Uuid) {
    if let Err(error) = xattr::set(path, MADE_BY, id.to_string().as_bytes()) {
        log::debug!("vfs: {} keeps no mark: {error}", path.display());
    }
}

/// Whether this fill or revert made the tree.
pub(super) fn has_mark(path: &Path, id: Uuid) -> bool {
    matches!(xattr::get(path, MADE_BY), Ok(Some(value)) if value == id.to_string().as_bytes())
}

/// Containers without CAP_SYS_ADMIN neither see nor change `trusted` attributes.
const MADE_BY: &str = "trusted.windlass.revert";

/// The mode of a directory that claims a name and holds nothing yet. Nobody else makes directories that not even their
/// owner enters, with the sticky bit on them.
const CLAIM: u32 = 0o1000;

/// Claims a name by making the directory: exclusive on every filesystem, among all hosts.
pub(super) fn claim(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(CLAIM).create(path)
}

/// Whether a directory is a claim, as far as its permissions tell.
pub(super) fn is_claim(meta: &fs::Metadata) -> bool {
    // A directory above with the setgid bit hands that bit down.
    meta.is_dir() && meta.mode() & 0o1777 == CLAIM
}

/// Gives a claimed name back, if the claim is there and empty.
pub(super) fn unclaim(path: &Path) -> Result<()> {
    if layout::metadata(path)?.is_some_and(|meta| is_claim(&meta)) {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.map_err(doing("remove directory", path))?,
        }
    }
    Ok(())
}
