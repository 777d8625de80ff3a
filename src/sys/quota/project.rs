//! Which project a tree's files belong to (FS_IOC_FSSETXATTR, ioctl_fsxattr of linux/fs.h).

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use super::ProjectId;
use crate::sys::error::{Context, Result};
use crate::sys::handle::{self, Stat};
use crate::sys::ioctl::Request;
use crate::sys::tree::walk;

const OP: &str = "set the project of";

/// New entries get the directory's project.
const PROJECT_INHERIT: u32 = 0x200;

/// struct fsxattr
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    pad: [u8; 8],
}

// SAFETY: mirrors struct fsxattr; integers only.
const GET: Request<Attributes> = unsafe { Request::read(b'X' as u32, 31) };
// SAFETY: as above.
const SET: Request<Attributes> = unsafe { Request::write(b'X' as u32, 32) };

/// Puts the directory at `dir`, and all files and directories in it, into the project, and has new ones inherit it.
///
/// Symbolic links, device nodes, FIFOs and sockets that exist already stay in theirs: there is no call for them, and they
/// take next to no space. Nothing that is mounted in the tree is touched. Do it before anything writes to the tree, or
/// what is made meanwhile may be missed.
pub fn assign(dir: impl AsRef<Path>, project: ProjectId) -> Result<()> {
    let dir = dir.as_ref();
    let root = handle::open_dir_path(dir).during(OP, dir)?;
    set(&root, project, true).during(OP, dir)?;
    walk(root, dir, OP, |entry| match (entry.dir, entry.stat.file_type()) {
        (Some(dir), _) => set(dir, project, true).map_err(|error| entry.error(error)),
        (None, libc::S_IFREG) => {
            set_file(entry.parent(), entry.name, project).map_err(|error| entry.error(error))
        }
        _ => Ok(()),
    })
}

/// The project of a file or directory.
pub fn project_of(path: impl AsRef<Path>) -> Result<ProjectId> {
    let path = path.as_ref();
    let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_CLOEXEC;
    let fd = nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty()).during("open", path)?;
    let mut attributes = Attributes::default();
    GET.call(fd, &mut attributes)
        .during("read the project of", path)?;
    Ok(ProjectId(attributes.project))
}

/// A file that is gone by now, or something else, needs nothing.
fn set_file(parent: BorrowedFd<'_>, name: &OsStr, project: ProjectId) -> io::Result<()> {
    let node = match handle::open_path(parent, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result?,
    };
    if Stat::of(&node)?.file_type() != libc::S_IFREG {
        return Ok(());
    }
    set(handle::reopen_for_reading(&node)?, project, false)
}

fn set(fd: impl AsFd, project: ProjectId, inherit: bool) -> io::Result<()> {
    let mut attributes = Attributes::default();
    GET.call(&fd, &mut attributes)?;
    let flags = attributes.flags | if inherit { PROJECT_INHERIT } else { 0 };
    if attributes.project == project.0 && attributes.flags == flags {
        return Ok(());
    }
    attributes.project = project.0;
    attributes.flags = flags;
    SET.call(&fd, &mut attributes)
}
