//! Extended attributes from one inode to another: ACLs, capabilities, labels, and what programs keep there.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use xattr::FileExt;

use super::origin;
use crate::sys::handle::proc_path;

/// What went wrong, with the attribute's name.
type Failed = (OsString, io::Error);

/// Makes the target's attributes the same as the source's; returns the names that its filesystem does not support.
/// An error names the attribute. Any handles will do, `O_PATH` ones and those on symbolic links too.
pub(super) fn sync(source: impl AsFd, target: impl AsFd) -> Result<Vec<OsString>, Failed> {
    set(target, &read(source)?)
}

/// All attributes but windlass's own, in the kernel's order.
pub(super) fn read(source: impl AsFd) -> Result<Vec<(OsString, Vec<u8>)>, Failed> {
    let path = proc_path(source);
    let mut all = Vec::new();
    for name in list(&path)? {
        match xattr::get_deref(&path, &name) {
            Ok(Some(value)) => all.push((name, value)),
            // Removed since it was listed.
            Ok(None) => {}
            Err(error) => return Err((name, error)),
        }
    }
    Ok(all)
}

/// Makes the target's attributes these, as [`sync`] does.
///
/// Attributes that the target got at its creation (from a default ACL above it, say) and that are not wanted are removed,
/// security labels excepted: those are policy. One that is there already is not written again.
pub(super) fn set(target: impl AsFd, wanted: &[(OsString, Vec<u8>)]) -> Result<Vec<OsString>, Failed> {
    let path = proc_path(target);
    let present = list(&path)?;
    let names: HashSet<&OsStr> = wanted.iter().map(|(name, _)| name.as_os_str()).collect();
    for name in &present {
        if names.contains(name.as_os_str()) || name.as_bytes().starts_with(b"security.") {
            continue;
        }
        match xattr::remove_deref(&path, name) {
            // ENODATA: gone together with another one.
            Err(error) if error.raw_os_error() != Some(libc::ENODATA) => {
                return Err((name.clone(), error));
            }
            _ => {}
        }
    }
    let mut refused = Vec::new();
    for (name, value) in wanted {
        let same = |there: Option<Vec<u8>>| there.is_some_and(|there| there == *value);
        if present.contains(name) && xattr::get_deref(&path, name).is_ok_and(same) {
            continue;
        }
        match xattr::set_deref(&path, name, value) {
            Ok(()) => {}
            Err(error) if is_unsupported(&error) => refused.push(name.clone()),
            Err(error) => return Err((name.clone(), error)),
        }
    }
    Ok(refused)
}

/// Whether a file has no attributes that [`set`] would look at twice.
pub(super) fn has_none(file: &File) -> bool {
    let is_policy = |name: &OsString| name.as_bytes().starts_with(b"security.");
    match file.list_xattr() {
        Ok(mut names) => names.all(|name| is_policy(&name) || is_derived(&name) || origin::is_own(&name)),
        Err(error) => is_unsupported(&error),
    }
}

fn list(path: &Path) -> Result<Vec<OsString>, Failed> {
    match xattr::list_deref(path) {
        Ok(names) => Ok(names
            .filter(|name| !is_derived(name) && !origin::is_own(name))
            .collect()),
        Err(error) if is_unsupported(&error) => Ok(Vec::new()),
        Err(error) => Err(("(their list)".into(), error)),
    }
}

/// XFS shows each POSIX ACL a second time in its own form; setting the ACL sets both.
fn is_derived(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"trusted.SGI_ACL_")
}

fn is_unsupported(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EOPNOTSUPP)
}
