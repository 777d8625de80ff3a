//! How much a tree takes.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use super::Monitor;
use super::descent::{Descent, Names};
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
    let mount = Stat::of(&root).during(OP, path)?;
    let mut usage = Usage {
        allocated_bytes: mount.blocks * 512,
        directories: 1,
        ..Usage::default()
    };
    let mut names = vec![Names::read(&root).during(OP, path)?];
    let mut way = Descent::new(root, path, OP)?;
    let mut seen = HashSet::new();
    while let Some(list) = names.last_mut() {
        let Some(name) = list.next() else {
            names.pop();
            way.leave()?;
            continue;
        };
        if monitor.cancelled() {
            return Err(SysError::Cancelled {
                op: "measuring",
                path: path.to_owned(),
            });
        }
        let stat = match Stat::at(way.dir(), &name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            result => result.map_err(|error| way.error(&name, error))?,
        };
        if !stat.same_mount(&mount) {
            continue;
        }
        monitor.progress(1, 0);
        if !stat.is_dir() {
            usage.files += 1;
            if stat.nlink == 1 || seen.insert(stat.id()) {
                usage.allocated_bytes += stat.blocks * 512;
                usage.apparent_bytes += if stat.file_type() == libc::S_IFREG {
                    stat.size
                } else {
                    0
                };
            }
            continue;
        }
        let dir = match handle::open_dir(way.dir(), &name) {
            // Gone, or no directory any more.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)
                ) =>
            {
                continue;
            }
            result => result.map_err(|error| way.error(&name, error))?,
        };
        usage.directories += 1;
        usage.allocated_bytes += stat.blocks * 512;
        names.push(Names::read(&dir).map_err(|error| way.error(&name, error))?);
        way.enter(dir, &name)?;
    }
    Ok(usage)
}
