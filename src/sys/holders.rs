//! Who else has a directory mounted: containers, and what leaked from them.
//!
//! A bind mount in another mount namespace shows in no list of ours, but it holds the data, and what looks free may be in
//! use. In the host's process namespace every process's mountinfo can be read, one per mount namespace; from inside a
//! container (such as a managed plugin) only our own. A namespace that no process is in any more, kept by a file
//! descriptor or a bind of its own, is never seen.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::error::{Context, Result, SysError};
use super::mountinfo::{self, Device, MountEntry};

/// A mount of the directory, or of one inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// A process that sees the mount: the one with the lowest number in its mount namespace.
    pub pid: i32,
    /// That process's name.
    pub comm: String,
    /// Where it is mounted, as that process sees it.
    pub mount_point: PathBuf,
}

/// A process that has a device open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opener {
    /// Its number.
    pub pid: i32,
    /// Its name.
    pub comm: String,
}

/// How far the answer reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// All processes of the machine were looked at: no holder means that there is none.
    Host,
    /// Only those of our own process namespace: no holder means nothing.
    OwnNamespaceOnly,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holders {
    /// Those found.
    pub holders: Vec<Holder>,
    /// What their absence means.
    pub visibility: Visibility,
}

/// Finds the mounts of `dir` and of directories inside it, other than those at `ours`.
///
/// `ours` are mount points of this process's own mount namespace. Copies of them that the kernel propagated to other
/// namespaces, at the same place, count as ours too: they go when ours go.
pub fn find(dir: impl AsRef<Path>, ours: &[impl AsRef<Path>]) -> Result<Holders> {
    find_place(&Place::of(dir.as_ref())?, ours)
}

/// Finds the mounts of anything on the filesystem of a device, other than those at `ours`.
pub fn find_device(device: Device, ours: &[impl AsRef<Path>]) -> Result<Holders> {
    let root = PathBuf::from("/");
    find_place(&Place { device, root }, ours)
}

/// The processes, other than this one, that have a block device itself open, as far as procfs shows them.
pub fn openers(device: Device) -> Result<Vec<Opener>> {
    let own = std::process::id() as i32;
    let mut openers = Vec::new();
    for pid in processes()?.into_iter().filter(|pid| *pid != own) {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd"));
        let opens = |file: std::fs::DirEntry| {
            // Through the link: what is open, whatever it is called.
            std::fs::metadata(file.path()).is_ok_and(|meta| {
                let number = meta.rdev();
                meta.file_type().is_block_device() && (libc::major(number), libc::minor(number)) == device
            })
        };
        if files.into_iter().flatten().flatten().any(opens) {
            let comm = process_name(pid);
            openers.push(Opener { pid, comm });
        }
    }
    Ok(openers)
}

fn find_place(place: &Place, ours: &[impl AsRef<Path>]) -> Result<Holders> {
    let own = mountinfo::read_self()?;
    // mountinfo knows no symbolic links. One that cannot be resolved is not mounted either.
    let ours = ours.iter().map(|path| {
        path.as_ref()
            .canonicalize()
            .unwrap_or_else(|_| path.as_ref().to_owned())
    });
    let owned = Owned::new(&own, ours.collect());
    let own_namespace = mount_namespace("self");
    let mut seen = HashSet::new();
    let mut holders = Vec::new();
    for pid in processes()? {
        // Processes end while we look; those of other users may be closed to us.
        let Some(namespace) = mount_namespace(&pid.to_string()) else {
            continue;
        };
        if !seen.insert(namespace.clone()) {
            continue;
        }
        let is_own = Some(&namespace) == own_namespace.as_ref();
        let mounts = match mountinfo::read_pid(pid) {
            Ok(mounts) => mounts,
            Err(SysError::Malformed { path, line, content }) => {
                return Err(SysError::Malformed { path, line, content });
            }
            Err(error) => {
                log::debug!("mounts of process {pid} cannot be read: {error}");
                // Another process of the same namespace may still answer.
                seen.remove(&namespace);
                continue;
            }
        };
        let found = mounts
            .iter()
            .filter(|mount| place.is_shown_by(mount) && !owned.covers(mount, is_own));
        let found: Vec<PathBuf> = found.map(|mount| mount.mount_point.clone()).collect();
        if !found.is_empty() {
            let comm = process_name(pid);
            holders.extend(found.into_iter().map(|mount_point| Holder {
                pid,
                comm: comm.clone(),
                mount_point,
            }));
        }
    }
    Ok(Holders {
        holders,
        visibility: visibility(),
    })
}

/// Whether this process sees all others of the machine.
pub fn visibility() -> Visibility {
    // PROC_PID_INIT_INO of linux/proc_ns.h: the first namespace has the same number on every kernel.
    match std::fs::read_link("/proc/self/ns/pid") {
        Ok(link) if link == Path::new("pid:[4026531836]") => Visibility::Host,
        _ => Visibility::OwnNamespaceOnly,
    }
}

/// A directory as filesystems know it, whatever it is called in a mount namespace.
struct Place {
    device: Device,
    /// Its path from the filesystem's own root.
    root: PathBuf,
}

impl Place {
    fn of(dir: &Path) -> Result<Self> {
        let path = dir.canonicalize().during("resolve", dir)?;
        let mount = mountinfo::mount_of(&path)?;
        let inside = mount
            .as_ref()
            .and_then(|mount| path.strip_prefix(&mount.mount_point).ok());
        match (&mount, inside) {
            (Some(mount), Some(inside)) => Ok(Self {
                device: mount.device,
                root: mount.root.join(inside).components().collect(),
            }),
            _ => Err(SysError::Unsupported {
                op: "find the mounts of",
                path: dir.to_owned(),
                reason: "its own mount is not listed for this process".to_owned(),
            }),
        }
    }

    fn is_shown_by(&self, mount: &MountEntry) -> bool {
        mount.device == self.device && without_deleted(&mount.root).starts_with(&self.root)
    }
}

/// The kernel marks the root of a mount whose directory was removed.
fn without_deleted(root: &Path) -> &Path {
    let bytes = root.as_os_str().as_bytes();
    Path::new(OsStr::from_bytes(
        bytes.strip_suffix(b"//deleted").unwrap_or(bytes),
    ))
}

/// The mounts that are the caller's own.
struct Owned {
    mount_points: HashSet<PathBuf>,
    /// The groups that they send mounts and unmounts to.
    groups: HashSet<u64>,
}

impl Owned {
    fn new(own: &[MountEntry], mount_points: HashSet<PathBuf>) -> Self {
        let groups = own
            .iter()
            .filter(|mount| mount_points.contains(mount.mount_point.as_path()))
            .filter_map(|mount| mount.propagation.shared)
            .collect();
        Self { mount_points, groups }
    }

    /// `is_own`: the mount is in our own mount namespace.
    fn covers(&self, mount: &MountEntry, is_own: bool) -> bool {
        let same_place = self.mount_points.contains(mount.mount_point.as_path());
        let groups = [mount.propagation.shared, mount.propagation.master];
        // A container that asked for propagation is in the group as well, but elsewhere.
        same_place
            && (is_own
                || groups
                    .into_iter()
                    .flatten()
                    .any(|group| self.groups.contains(&group)))
    }
}

/// All processes that procfs shows, in ascending order.
fn processes() -> Result<Vec<i32>> {
    let path = Path::new("/proc");
    let mut pids = Vec::new();
    for entry in std::fs::read_dir(path).during("list", path)? {
        let name = entry.during("list", path)?.file_name();
        pids.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    pids.sort_unstable();
    Ok(pids)
}

fn mount_namespace(process: &str) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{process}/ns/mnt")).ok()
}

fn process_name(pid: i32) -> String {
    let name = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    String::from_utf8_lossy(&name).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mount::{self, Access, Propagation};
    use crate::sys::testing::{self, Kind, TestFs};
    use std::fs;
    use std::io::Read;
    use std::process::{Child, Command, Stdio};

    /// A process in a mount namespace of its own that has run a script there.
    struct Namespace(Child);

    impl Namespace {
        /// It keeps no copy of what other tests have mounted meanwhile, lest it be taken for a holder of that.
        fn new(fs: &TestFs, propagation: &str, script: &str) -> Self {
            let forget = format!(
                "awk -v all={} -v ours={} 'index($5, all \"/\") == 1 && index($5, ours) != 1 {{print $5}}' \
                    /proc/self/mountinfo | tac | xargs -r umount -l || true",
                std::env::temp_dir().display(),
                fs.path().display(),
            );
            let mut child = Command::new("unshare")
                .args(["--mount", "--propagation", propagation, "bash", "-euc"])
                .arg(format!(
                    "{forget}\n{script}\necho ready; exec -a holder sleep 1000"
                ))
                .stdout(Stdio::piped())
                .spawn()
                .expect("unshare runs");
            let mut ready = [0; 6];
            child
                .stdout
                .as_mut()
                .expect("piped")
                .read_exact(&mut ready)
                .expect("the script succeeds");
            assert_eq!(&ready, b"ready\n");
            let namespace = Self(child);
            // The script is over, but the shell may not have become its last command yet.
            while process_name(namespace.pid()) != "sleep" {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            namespace
        }

        fn pid(&self) -> i32 {
            self.0.id() as i32
        }
    }

    impl Drop for Namespace {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// A filesystem with the directories v/sub, other and mnt, whose mounts are propagated.
    fn scene() -> Option<TestFs> {
        if !testing::has_program("unshare") {
            return None;
        }
        let fs = TestFs::new(Kind::Tmpfs)?;
        for name in ["v/sub", "v2", "mnt", "data"] {
            fs::create_dir_all(fs.path().join(name)).expect("directories");
        }
        mount::set_propagation(fs.path(), Propagation::Shared).expect("shared");
        Some(fs)
    }

    const NONE: [&str; 0] = [];

    /// What was found, without other tests' namespaces that happen to copy ours: they are at the same places.
    fn found(dir: &Path, ours: &[impl AsRef<Path>], by: &[&Namespace]) -> Vec<(i32, PathBuf)> {
        let mut found = find(dir, ours).expect("an answer").holders;
        let own = std::process::id() as i32;
        found.retain(|holder| holder.pid <= own || by.iter().any(|namespace| namespace.pid() == holder.pid));
        found
            .into_iter()
            .map(|holder| (holder.pid, holder.mount_point))
            .collect()
    }

    #[test]
    fn mounts_of_a_directory_in_our_namespace_count_unless_they_are_ours() {
        let Some(fs) = scene() else { return };
        let at = |name: &str| fs.path().join(name);
        assert_eq!(found(&at("v"), &NONE, &[]), []);
        mount::bind(at("v"), at("mnt"), Access::ReadWrite).expect("bound");
        let [(_, mount_point)] = &found(&at("v"), &NONE, &[])[..] else {
            panic!("one holder")
        };
        assert_eq!(*mount_point, at("mnt"));
        assert_eq!(found(&at("v"), &[at("mnt")], &[]), []);
        assert_eq!(found(&at("v2"), &NONE, &[]), [], "a name that begins the same");
        assert_eq!(found(&at("v/sub"), &NONE, &[]), [], "the mount is above it");
        // Through the mount it is the same directory.
        assert_eq!(found(&at("mnt"), &NONE, &[]).len(), 1);
        mount::unmount(at("mnt")).expect("unmounted");
        mount::bind(at("v/sub"), at("mnt"), Access::ReadWrite).expect("bound");
        assert_eq!(found(&at("v"), &NONE, &[]).len(), 1, "a directory inside it");
    }

    #[test]
    fn leaked_mount_in_another_namespace_is_found_with_its_process() {
        let Some(fs) = scene() else { return };
        let at = |name: &str| fs.path().join(name);
        mount::bind(at("v"), at("mnt"), Access::ReadWrite).expect("bound");
        let leaked = Namespace::new(&fs, "private", "");
        mount::unmount(at("mnt")).expect("unmounted here");
        assert_eq!(
            found(&at("v"), &[at("mnt")], &[&leaked]),
            [(leaked.pid(), at("mnt"))]
        );
        let all = find(at("v"), &NONE).expect("an answer");
        let holder = all
            .holders
            .iter()
            .find(|holder| holder.pid == leaked.pid())
            .expect("it is there");
        assert_eq!(holder.comm, "sleep");
        drop(leaked);
        assert_eq!(found(&at("v"), &NONE, &[]), []);
    }

    #[test]
    fn copies_that_go_with_ours_are_ours_and_a_containers_are_not() {
        let Some(fs) = scene() else { return };
        let at = |name: &str| fs.path().join(name);
        mount::bind(at("v"), at("mnt"), Access::ReadWrite).expect("bound");
        let copy = Namespace::new(&fs, "slave", "");
        let container = Namespace::new(
            &fs,
            "slave",
            &format!(
                "mount --bind {} {}; umount {0}",
                at("mnt").display(),
                at("data").display()
            ),
        );
        assert_eq!(
            found(&at("v"), &[at("mnt")], &[&copy, &container]),
            [(container.pid(), at("data"))]
        );
        let mut without: Vec<_> = found(&at("v"), &NONE, &[&copy, &container]);
        without.retain(|(pid, _)| *pid > std::process::id() as i32);
        without.sort();
        assert_eq!(without, [(copy.pid(), at("mnt")), (container.pid(), at("data"))]);
    }

    #[test]
    fn removed_directory_is_still_told() {
        assert_eq!(without_deleted(Path::new("/v/x//deleted")), Path::new("/v/x"));
        assert_eq!(without_deleted(Path::new("/v/deleted")), Path::new("/v/deleted"));
    }

    #[test]
    fn outside_the_first_process_namespace_the_answer_is_marked() {
        let link = fs::read_link("/proc/self/ns/pid").expect("a link");
        let expected = if link == Path::new("pid:[4026531836]") {
            Visibility::Host
        } else {
            Visibility::OwnNamespaceOnly
        };
        assert_eq!(visibility(), expected);
    }
}
