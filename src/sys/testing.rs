//! For tests only: real filesystems on loop devices, gone again whatever happens.
//!
//! What a machine cannot do is skipped with a line that begins with `SKIPPED:` and says why.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::mount;

/// The filesystems that tests ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ext4,
    /// With reflinks.
    Xfs,
    Btrfs,
    Tmpfs,
}

/// A mounted filesystem of 500 MiB, empty but for ext4's lost+found.
pub(crate) struct TestFs {
    dir: tempfile::TempDir,
    kind: Kind,
}

impl TestFs {
    pub(crate) fn new(kind: Kind) -> Option<Self> {
        Self::with(kind, &[], "")
    }

    /// With further arguments for mkfs and further mount options.
    pub(crate) fn with(kind: Kind, mkfs: &[&str], options: &str) -> Option<Self> {
        if !root_with_mounts() {
            return None;
        }
        let dir = tempfile::tempdir().expect("a scratch directory");
        let fs = Self { dir, kind };
        std::fs::create_dir(fs.path()).expect("a mount point");
        let program = match kind {
            Kind::Tmpfs => {
                let options = format!("size=500m,{options}");
                mount::mount("none", fs.path(), "tmpfs", &options).expect("tmpfs mounts");
                return Some(fs);
            }
            Kind::Ext4 => "mkfs.ext4",
            Kind::Xfs => "mkfs.xfs",
            Kind::Btrfs => "mkfs.btrfs",
        };
        let image = fs.image();
        let file = std::fs::File::create(&image).expect("an image");
        file.set_len(500 << 20).expect("a sparse image");
        match Command::new(program).arg("-q").args(mkfs).arg(&image).output() {
            Err(error) => {
                skip(&format!("{program}: {error}"));
                return None;
            }
            Ok(output) => assert!(output.status.success(), "{program}: {output:?}"),
        }
        fs.mount(options).then_some(fs)
    }

    /// False, and a line, where the kernel does not know the filesystem.
    fn mount(&self, options: &str) -> bool {
        // mount(8) sets up the loop device so that the kernel frees it together with the mount. Access times change only
        // where a test sets them, whatever else reads.
        let options = format!("loop,noatime,{options}");
        let output = Command::new("mount")
            .args(["-o", &options])
            .arg(self.image())
            .arg(self.path())
            .output();
        let output = output.expect("mount(8) runs");
        let message = String::from_utf8_lossy(&output.stderr);
        if message.contains("unknown filesystem type") {
            skip(message.trim());
            return false;
        }
        assert!(output.status.success(), "mount {:?}: {message}", self.kind);
        true
    }

    /// The mount point.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }
}

impl Drop for TestFs {
    fn drop(&mut self) {
        detach_all(&self.path());
    }
}

/// Unmounts everything at and below a directory, the deepest first.
pub(crate) fn detach_all(dir: &Path) {
    let mounts = super::mountinfo::read_self().unwrap_or_default();
    let mut below: Vec<_> = super::mountinfo::find_below(&mounts, dir)
        .map(|mount| &mount.mount_point)
        .collect();
    below.sort_by_key(|path| std::cmp::Reverse(path.as_os_str().len()));
    for path in below {
        if mount::unmount(path).is_err() {
            let _ = mount::unmount_lazy(path);
        }
    }
}

/// Whether this process may mount.
pub(crate) fn root_with_mounts_quietly() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether this process may mount; a line says so where not.
pub(crate) fn root_with_mounts() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .expect("a capability line");
    let bits = u64::from_str_radix(effective.trim(), 16).expect("hexadecimal");
    const CAP_SYS_ADMIN: u64 = 21;
    let can = bits >> CAP_SYS_ADMIN & 1 == 1;
    if !can {
        skip("needs root with CAP_SYS_ADMIN");
    }
    can
}

/// Whether a program is there; a line says so where not.
pub(crate) fn has_program(name: &str) -> bool {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|dir| dir.join(name).exists());
    if !found {
        skip(&format!("{name} is not installed"));
    }
    found
}

/// Set in the environment of tests that run in the guest.
pub(crate) const IN_GUEST: &str = "WINDLASS_IN_GUEST";

/// Runs one test of this program in a guest kernel that has what this machine's lacks (tests/guest/run), and fails if it
/// does. Only a guest that cannot be set up is skipped, and not where `CI` is set.
pub(crate) fn in_guest(test: &str, memory_mb: u32) {
    assert!(
        std::env::var_os(IN_GUEST).is_none(),
        "the guest has all that is needed"
    );
    if !root_with_mounts() {
        return;
    }
    let program = std::env::current_exe().expect("this program");
    let dir = program.parent().expect("a directory").display().to_string();
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guest/run"))
        .args(["-t", "580", "-m", &memory_mb.to_string(), "-s", &dir, "--"])
        .arg(format!("{} --exact {test} --nocapture", program.display()))
        .env(IN_GUEST, "1")
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .expect("the guest starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(125)
        && complaint.contains("tests/guest/run:")
        && !said.contains("running 1 test")
    {
        assert!(std::env::var_os("CI").is_none(), "no guest on CI: {complaint}");
        return skip(&format!("no guest kernel: {}", complaint.trim()));
    }
    assert!(output.status.success(), "{said}\n{complaint}");
    assert!(
        said.contains("1 passed"),
        "the test did not run in the guest: {said}"
    );
    print!("{said}");
}

pub(crate) fn skip(why: &str) {
    println!("SKIPPED: {why}");
}

/// Runs a shell command that must succeed; its stdout.
pub(crate) fn sh(command: &str) -> String {
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", command])
        .output()
        .expect("bash runs");
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
