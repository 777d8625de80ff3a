//! Extended attributes from one inode to another: ACLs, capabilities, labels, and what programs keep there.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use crate::sys::handle::proc_path;

/// Makes the target's attributes the same as the source's; returns the names that its filesystem does not support.
/// An error names the attribute.
///
/// Any handles will do, `O_PATH` ones and those on symbolic links too. Attributes that the target got at its creation (from
/// a default ACL above it, say) and the source does not have are removed, security labels excepted: those are policy.
pub(super) fn sync(source: impl AsFd, target: impl AsFd) -> Result<Vec<OsString>, (OsString, io::Error)> {
    let (source, target) = (proc_path(source), proc_path(target));
    let list = |path| match xattr::list_deref(path) {
        Ok(names) => Ok(names.filter(|name| !is_derived(name)).collect()),
        Err(error) if is_unsupported(&error) => Ok(HashSet::new()),
        Err(error) => Err(("(their list)".into(), error)),
    };
    let wanted: HashSet<OsString> = list(&source)?;
    let present: HashSet<OsString> = list(&target)?;
    for name in present
        .difference(&wanted)
        .filter(|name| !name.as_bytes().starts_with(b"security."))
    {
        match xattr::remove_deref(&target, name) {
            // ENODATA: gone together with another one.
            Err(error) if error.raw_os_error() != Some(libc::ENODATA) => {
                return Err((name.clone(), error));
            }
            _ => {}
        }
    }
    let mut refused = Vec::new();
    for name in wanted {
        match copy(&source, &target, &name) {
            Ok(()) => {}
            Err(error) if is_unsupported(&error) => refused.push(name),
            Err(error) => return Err((name, error)),
        }
    }
    Ok(refused)
}

fn copy(source: &std::path::Path, target: &std::path::Path, name: &OsStr) -> io::Result<()> {
    match xattr::get_deref(source, name)? {
        Some(value) => xattr::set_deref(target, name, &value),
        // Removed since it was listed.
        None => Ok(()),
    }
}

/// XFS shows each POSIX ACL a second time in its own form; setting the ACL sets both.
fn is_derived(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"trusted.SGI_ACL_")
}

fn is_unsupported(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EOPNOTSUPP)
}
