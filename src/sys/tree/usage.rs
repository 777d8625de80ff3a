//! How much a tree takes.

use std::collections::HashSet;
use std::path::Path;

use super::Monitor;
use super::walk::walk;
use crate::sys::error::{Context, Result, SysError};
use crate::sys::handle::{self, Stat};

const OP: &str = "measure";

/// What a tree takes, the directory itself included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Space allocated, as du(1) counts it: inodes with several names once, and data shared by reflinks once for each.
    pub allocated_bytes: u64,
    /// The sizes of all regular files, holes included, inodes with several names once.
    pub apparent_bytes: u64,
    /// Names of anything but directories.
    pub files: u64,
    /// Directories.
    pub directories: u64,
}

/// Measures the tree at `path`, without what is mounted in it. Entries that vanish meanwhile are left out.
pub fn disk_usage(path: impl AsRef<Path>, monitor: &dyn Monitor) -> Result<Usage> {
    let path = path.as_ref();
    let root = handle::open_dir_path(path).during(OP, path)?;
    let allocated_bytes = Stat::of(&root).during(OP, path)?.blocks * 512;
    let mut usage = Usage {
        allocated_bytes,
        directories: 1,
        ..Usage::default()
    };
    let mut seen = HashSet::new();
    walk(root, path, OP, |entry| {
        if monitor.cancelled() {
            return Err(SysError::Cancelled {
                op: "measuring",
                path: path.to_owned(),
            });
        }
        monitor.progress(1, 0);
        let stat = &entry.stat;
        usage.directories += u64::from(stat.is_dir());
        usage.files += u64::from(!stat.is_dir());
        if stat.is_dir() || stat.nlink == 1 || seen.insert(stat.id()) {
            usage.allocated_bytes += stat.blocks * 512;
            usage.apparent_bytes += if stat.file_type() == libc::S_IFREG {
                stat.size
            } else {
                0
            };
        }
        Ok(())
    })?;
    Ok(usage)
}
