//! Attaching and detaching filesystems.
//!
//! Thin and literal: what is mounted where is read from [`super::mountinfo`], and who still holds it from
//! [`super::holders`]. Targets are never followed if they are symbolic links when unmounting.

use std::path::Path;

use nix::mount::{MntFlags, MsFlags, umount2};

use super::error::{Context, Result};
use super::mountinfo;

/// Whether a mount may be written through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading and writing.
    ReadWrite,
    /// Reading only; the filesystem behind it stays as it is.
    ReadOnly,
}

/// Who else gets the mounts that are made below a mount point later (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Nobody.
    Private,
    /// All peers, in both directions.
    Shared,
    /// It receives and does not send.
    Slave,
}

/// Mounts the filesystem on `source` (a device, or what the type takes for one) at `target`.
///
/// `options` are as in fstab: generic ones become flags, the others go to the filesystem.
pub fn mount(source: impl AsRef<Path>, target: impl AsRef<Path>, fs_type: &str, options: &str) -> Result<()> {
    let target = target.as_ref();
    let (flags, data) = parse_options(options);
    nix::mount::mount(
        Some(source.as_ref()),
        target,
        Some(fs_type),
        flags,
        Some(data.as_str()),
    )
    .during("mount a filesystem at", target)
}

/// Shows the directory `source` at `target` too; mounts below `source` do not come along.
///
/// A read-only bind takes two calls; when the second fails, the first is undone, so that nothing writable is left.
pub fn bind(source: impl AsRef<Path>, target: impl AsRef<Path>, access: Access) -> Result<()> {
    let target = target.as_ref();
    let none = None::<&str>;
    nix::mount::mount(Some(source.as_ref()), target, none, MsFlags::MS_BIND, none)
        .during("bind a directory to", target)?;
    if access == Access::ReadOnly
        && let Err(error) = remount(target, Access::ReadOnly)
    {
        if let Err(second) = unmount(target) {
            log::warn!("{} stays mounted after a failed bind: {second}", target.display());
        }
        return Err(error);
    }
    Ok(())
}

/// Changes whether the mount at `target` can be written through; its other flags stay.
pub fn remount(target: impl AsRef<Path>, access: Access) -> Result<()> {
    let target = target.as_ref();
    let present = mountinfo::mount_of(target)?;
    let has = |option| {
        present
            .as_ref()
            .is_some_and(|mount| mount.options.split(',').any(|word| word == option))
    };
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    // A remount sets all the flags of the mount anew: those not named would be dropped.
    for (option, flag) in [
        ("nosuid", MsFlags::MS_NOSUID),
        ("nodev", MsFlags::MS_NODEV),
        ("noexec", MsFlags::MS_NOEXEC),
        ("noatime", MsFlags::MS_NOATIME),
        ("nodiratime", MsFlags::MS_NODIRATIME),
        ("relatime", MsFlags::MS_RELATIME),
    ] {
        flags.set(flag, has(option));
    }
    flags.set(MsFlags::MS_RDONLY, access == Access::ReadOnly);
    let none = None::<&str>;
    nix::mount::mount(none, target, none, flags, none).during("remount", target)
}

/// Detaches what is mounted at `target`; busy where anything still uses it ([`super::SysError::is_busy`]).
///
/// EINVAL means that nothing is mounted there.
pub fn unmount(target: impl AsRef<Path>) -> Result<()> {
    let target = target.as_ref();
    umount2(target, MntFlags::UMOUNT_NOFOLLOW).during("unmount", target)
}

/// Takes the mount at `target` out of sight at once; the kernel lets go of it when the last user does.
///
/// What still uses it then keeps writing, unseen: only for mounts that nobody's data hang on.
pub fn unmount_lazy(target: impl AsRef<Path>) -> Result<()> {
    let target = target.as_ref();
    umount2(target, MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH).during("unmount", target)
}

/// Sets who else gets the mounts made below the mount at `target`.
pub fn set_propagation(target: impl AsRef<Path>, propagation: Propagation) -> Result<()> {
    let target = target.as_ref();
    let flag = match propagation {
        Propagation::Private => MsFlags::MS_PRIVATE,
        Propagation::Shared => MsFlags::MS_SHARED,
        Propagation::Slave => MsFlags::MS_SLAVE,
    };
    let none = None::<&str>;
    nix::mount::mount(none, target, none, flag, none).during("set the propagation of", target)
}

/// Splits fstab's options into the generic flags and what is for the filesystem.
fn parse_options(options: &str) -> (MsFlags, String) {
    let mut flags = MsFlags::empty();
    let mut data: Vec<&str> = Vec::new();
    for option in options
        .split(',')
        .map(str::trim)
        .filter(|option| !option.is_empty())
    {
        match option {
            "defaults" => {}
            "ro" => flags.insert(MsFlags::MS_RDONLY),
            "rw" => flags.remove(MsFlags::MS_RDONLY),
            "nosuid" => flags.insert(MsFlags::MS_NOSUID),
            "nodev" => flags.insert(MsFlags::MS_NODEV),
            "noexec" => flags.insert(MsFlags::MS_NOEXEC),
            "sync" => flags.insert(MsFlags::MS_SYNCHRONOUS),
            "dirsync" => flags.insert(MsFlags::MS_DIRSYNC),
            "noatime" => flags.insert(MsFlags::MS_NOATIME),
            "nodiratime" => flags.insert(MsFlags::MS_NODIRATIME),
            "relatime" => flags.insert(MsFlags::MS_RELATIME),
            "strictatime" => flags.insert(MsFlags::MS_STRICTATIME),
            "lazytime" => flags.insert(MsFlags::MS_LAZYTIME),
            other => data.push(other),
        }
    }
    (flags, data.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing;
    use std::fs;

    #[test]
    fn options_go_where_they_belong() {
        assert_eq!(parse_options(""), (MsFlags::empty(), String::new()));
        assert_eq!(
            parse_options("defaults,ro, noatime,prjquota,logbsize=64k"),
            (
                MsFlags::MS_RDONLY | MsFlags::MS_NOATIME,
                "prjquota,logbsize=64k".to_owned()
            )
        );
        assert_eq!(parse_options("ro,rw,nodev"), (MsFlags::MS_NODEV, String::new()));
    }

    /// Two directories, unmounted and removed at the end.
    struct Pair(tempfile::TempDir);

    impl Pair {
        fn new() -> Option<Self> {
            if !testing::root_with_mounts() {
                return None;
            }
            let dir = tempfile::tempdir().expect("a scratch directory");
            for name in ["source", "target"] {
                fs::create_dir(dir.path().join(name)).expect("a directory");
            }
            Some(Self(dir))
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.0.path().join(name)
        }
    }

    impl Drop for Pair {
        fn drop(&mut self) {
            while unmount_lazy(self.path("target")).is_ok() {}
            while unmount_lazy(self.path("source")).is_ok() {}
        }
    }

    #[test]
    fn bind_shows_the_directory_and_unmount_is_refused_while_it_is_used() {
        let Some(pair) = Pair::new() else { return };
        fs::write(pair.path("source/f"), "x").expect("written");
        bind(pair.path("source"), pair.path("target"), Access::ReadWrite).expect("bound");
        let open = fs::File::open(pair.path("target/f")).expect("visible");
        let error = unmount(pair.path("target")).expect_err("a file is open");
        assert!(error.is_busy(), "{error:?}");
        drop(open);
        unmount(pair.path("target")).expect("unmounted");
        assert!(!pair.path("target/f").exists());
        assert_eq!(
            unmount(pair.path("target")).expect_err("not mounted").errno(),
            Some(libc::EINVAL)
        );
    }

    #[test]
    fn read_only_bind_keeps_the_other_flags_and_can_become_writable() {
        let Some(pair) = Pair::new() else { return };
        mount(
            "none",
            pair.path("source"),
            "tmpfs",
            "nosuid,nodev,noexec,size=1m",
        )
        .expect("mounted");
        bind(pair.path("source"), pair.path("target"), Access::ReadOnly).expect("bound");
        let error = fs::write(pair.path("target/f"), "x").expect_err("read-only");
        assert_eq!(error.raw_os_error(), Some(libc::EROFS));
        fs::write(pair.path("source/f"), "x").expect("the source stays writable");
        let entry = mountinfo::mount_of(pair.path("target"))
            .expect("read")
            .expect("mounted");
        for option in ["ro", "nosuid", "nodev", "noexec"] {
            assert!(entry.has_option(option), "{option}: {entry:?}");
        }
        remount(pair.path("target"), Access::ReadWrite).expect("remounted");
        fs::write(pair.path("target/f"), "y").expect("writable");
    }

    #[test]
    fn propagation_and_lazy_unmount() {
        let Some(pair) = Pair::new() else { return };
        mount("none", pair.path("target"), "tmpfs", "size=1m").expect("mounted");
        let propagation = |pair: &Pair| {
            mountinfo::mount_of(pair.path("target"))
                .expect("read")
                .expect("mounted")
        };
        set_propagation(pair.path("target"), Propagation::Shared).expect("set");
        assert!(propagation(&pair).propagation.shared.is_some());
        set_propagation(pair.path("target"), Propagation::Private).expect("set");
        assert_eq!(propagation(&pair).propagation, mountinfo::Peers::default());
        let open = fs::File::create(pair.path("target/f")).expect("a file");
        unmount_lazy(pair.path("target")).expect("detached");
        assert!(!pair.path("target/f").exists());
        drop(open);
    }
}
