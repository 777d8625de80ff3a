//! The kernel's own /dev in a container's place of it.
//!
//! A container gets a /dev with a handful of nodes, made once. A driver of block devices makes devices all the time, and
//! needs the filesystem in which the kernel shows each as soon as it is there: devtmpfs, which is the same wherever it is
//! mounted.

use super::error::Result;
use super::{mount, mountinfo};

const DEV: &str = "/dev";
const DEVTMPFS: &str = "devtmpfs";

/// Mounts devtmpfs over /dev where another filesystem is there, and this process is the first of a container: then nobody but
/// windlass sees it. Whether the kernel's nodes are there now.
///
/// Programs that were started before keep what they have open; /dev/pts and the like are out of sight for new ones.
pub fn show_the_kernels() -> Result<bool> {
    let is_shown = || -> Result<bool> {
        let mounts = mountinfo::read_self()?;
        let at = mountinfo::find_at(&mounts, DEV);
        Ok(at.is_some_and(|stack| stack.top.fs_type == DEVTMPFS))
    };
    if is_shown()? || std::process::id() != 1 {
        return is_shown();
    }
    mount::mount(DEVTMPFS, DEV, DEVTMPFS, "nosuid,noexec")?;
    log::info!("the kernel's devices are shown at {DEV}");
    is_shown()
}
