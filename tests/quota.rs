//! Project quotas, on a kernel that has them: limits that really hold, on ext4 and XFS.
//!
//! Where this machine's kernel has no quotas, each test runs itself again in a guest kernel (tests/guest/run) and takes the
//! outcome from there. Without root nothing can be mounted at all: then the tests say so, and fail where `CI` is set.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use windlass::sys::filesystem::facts;
use windlass::sys::quota::{
    Missing, ProjectId, ProjectUsage, Support, assign, project_of, set_limit, supported, usage,
};
use windlass::sys::tree::{How, clone_tree};
use windlass::sys::{durable, mount};

const MIB: u64 = 1 << 20;
const EXT4: (&str, &str) = (
    "mkfs.ext4",
    "-O quota,project -E quotatype=usrquota:grpquota:prjquota",
);
const XFS: (&str, &str) = ("mkfs.xfs", "");

/// A filesystem on a loop device, gone when dropped.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new((mkfs, arguments): (&str, &str), options: &str) -> Result<Self, String> {
        let fs = Self(tempfile::tempdir().unwrap());
        let script = format!(
            "cd {}; mkdir mnt; truncate -s 500M image; {mkfs} -q {arguments} image; mount -o loop,{options} image mnt",
            fs.0.path().display()
        );
        let output = shell(&script);
        if output.status.success() {
            Ok(fs)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("mnt")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = mount::unmount(self.path());
    }
}

fn shell(script: &str) -> Output {
    Command::new("bash")
        .args(["-euc", script])
        .env("LC_ALL", "C")
        .output()
        .unwrap()
}

/// Runs the body here if this kernel has quotas, and otherwise the whole test in the guest.
fn with_quotas(test: &str, body: impl FnOnce()) {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "the tests of quotas need root");
        println!("SKIPPED: needs root");
        return;
    }
    let in_guest = std::env::var_os("WINDLASS_IN_GUEST").is_some();
    let native = [EXT4, XFS].into_iter().all(|fs| {
        Mounted::new(fs, "prjquota")
            .is_ok_and(|fs| supported(fs.path()).is_ok_and(|s| s == Support::Available))
    });
    if native || in_guest {
        return body();
    }
    let program = std::env::current_exe().unwrap();
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guest/run"))
        .args([
            "-t",
            "300",
            "-s",
            program.parent().unwrap().to_str().unwrap(),
            "--",
        ])
        .arg(format!("{} --exact {test} --nocapture", program.display()))
        .env("WINDLASS_IN_GUEST", "1")
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        said.contains("1 passed"),
        "the test did not run in the guest: {said}"
    );
}

/// Writes as a container would: as root without CAP_SYS_RESOURCE. The error's text where it fails.
fn write(path: &Path, bytes: u64) -> Result<(), String> {
    let output = shell(&format!(
        "setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource -- \
            dd if=/dev/zero of={} bs=64k count={bytes} iflag=count_bytes conv=fsync",
        path.display()
    ));
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn used(path: &Path, project: ProjectId) -> ProjectUsage {
    durable::sync_filesystem(path).unwrap();
    usage(path, project).unwrap()
}

/// The life of a limited tree.
fn limits_hold(fs: (&str, &str)) {
    let mounted = Mounted::new(fs, "prjquota").unwrap();
    let root = mounted.path();
    assert_eq!(supported(&root).unwrap(), Support::Available);
    let project = ProjectId(4242);
    let volume = root.join("volume");
    fs::create_dir_all(volume.join("sub")).unwrap();
    fs::write(volume.join("sub/old"), vec![1; MIB as usize]).unwrap();
    symlink("/etc/passwd", volume.join("link")).unwrap();
    nix::unistd::mkfifo(&volume.join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert_eq!(
        usage(&root, project).unwrap(),
        ProjectUsage::default(),
        "never used"
    );

    // What is there already counts, and what comes inherits.
    assign(&volume, project).unwrap();
    for name in ["", "sub", "sub/old"] {
        assert_eq!(project_of(volume.join(name)).unwrap(), project, "{name:?}");
    }
    assert_eq!(project_of(&root).unwrap(), ProjectId(0));
    let told = used(&root, project);
    assert!(
        (MIB..MIB + 100_000).contains(&told.used_bytes) && told.limit_bytes.is_none(),
        "{told:?}"
    );
    assert!(told.inodes >= 3, "{told:?}");
    fs::create_dir(volume.join("sub/new")).unwrap();
    fs::write(volume.join("sub/new/file"), "x").unwrap();
    assert_eq!(project_of(volume.join("sub/new/file")).unwrap(), project);

    // The limit is a wall, seen by df.
    set_limit(&root, project, Some(4 * MIB)).unwrap();
    assert_eq!(used(&volume, project).limit_bytes, Some(4 * MIB));
    assert_eq!(facts(&volume).unwrap().total_bytes, 4 * MIB);
    assert!(facts(&root).unwrap().total_bytes > 100 * MIB);
    let error = write(&volume.join("sub/new/big"), 8 * MIB).unwrap_err();
    assert!(
        error.contains("quota exceeded") || error.contains("No space left"),
        "{error}"
    );
    assert!(used(&root, project).used_bytes <= 4 * MIB);
    assert!(fs::metadata(volume.join("sub/new/big")).unwrap().len() < 3 * MIB + 1);

    // It concerns nobody else, and can be raised and lifted.
    write(&root.join("outside"), 8 * MIB).unwrap();
    set_limit(&volume, project, Some(12 * MIB)).unwrap();
    write(&volume.join("sub/new/big"), 8 * MIB).unwrap();
    write(&volume.join("second"), 8 * MIB).unwrap_err();
    set_limit(&volume, project, None).unwrap();
    assert_eq!(usage(&root, project).unwrap().limit_bytes, None);
    write(&volume.join("second"), 20 * MIB).unwrap();
    assert!(used(&root, project).used_bytes > 28 * MIB);

    // A clone's files belong to where they are put.
    let clone = root.join("clone");
    fs::create_dir(&clone).unwrap();
    assign(&clone, ProjectId(77)).unwrap();
    fs::hard_link(volume.join("second"), volume.join("hard")).unwrap();
    clone_tree(&volume, &clone, How::Copy, &()).unwrap();
    assert_eq!(project_of(clone.join("sub/new/big")).unwrap(), ProjectId(77));
    assert!(used(&root, ProjectId(77)).used_bytes > 28 * MIB);

    // Deleting gives back, on XFS some moments later.
    windlass::sys::tree::remove_tree(&volume).unwrap();
    let start = std::time::Instant::now();
    while used(&root, project).used_bytes > MIB {
        assert!(start.elapsed().as_secs() < 60, "{:?}", used(&root, project));
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(usage(&root, ProjectId(123_456)).unwrap(), ProjectUsage::default());
}

#[test]
fn limits_hold_on_ext4() {
    with_quotas("limits_hold_on_ext4", || limits_hold(EXT4));
}

#[test]
fn limits_hold_on_xfs() {
    with_quotas("limits_hold_on_xfs", || limits_hold(XFS));
}

#[test]
fn what_is_missing_is_told() {
    with_quotas("what_is_missing_is_told", || {
        let missing = |fs, options| match supported(Mounted::new(fs, options).unwrap().path()).unwrap() {
            Support::Unavailable(missing) => missing,
            Support::Available => panic!("{fs:?} {options}: nothing is missing"),
        };
        let kind = |missing| matches!(missing, Missing::MountOption(_));
        assert!(kind(missing(XFS, "rw")));
        assert!(kind(missing(("mkfs.ext4", ""), "rw")));
        assert_eq!(missing(EXT4, "rw"), Missing::Enforcement);
        assert_eq!(missing(XFS, "pqnoenforce"), Missing::Enforcement);
    });
}

/// As on kernels before 5.14, and in a container without the device's node.
#[test]
fn older_call_by_the_device_works_too() {
    with_quotas("older_call_by_the_device_works_too", || {
        for fs in [EXT4, XFS] {
            let mounted = Mounted::new(fs, "prjquota").unwrap();
            let root = mounted.path();
            // The filter holds for the thread only.
            std::thread::spawn(move || {
                deny_quotactl_fd();
                assert_eq!(supported(&root).unwrap(), Support::Available);
                set_limit(&root, ProjectId(9), Some(MIB)).unwrap();
                assert_eq!(usage(&root, ProjectId(9)).unwrap().limit_bytes, Some(MIB));
            })
            .join()
            .unwrap();
        }
    });
}

/// Has the kernel answer ENOSYS to quotactl_fd in this thread.
fn deny_quotactl_fd() {
    let statement = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let (load, equal, answer) = (0x20, 0x15, 0x06);
    let mut filter = [
        statement(load, 0, 0, 0),
        statement(equal, libc::SYS_quotactl_fd as u32, 0, 1),
        statement(answer, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32, 0, 0),
        statement(answer, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program and its statements live through the call, which copies them.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: numbers only; the descriptor is no open file.
    let result = unsafe { libc::syscall(libc::SYS_quotactl_fd, -1, 0, 0, 0) };
    assert_eq!(
        (result, nix::errno::Errno::last()),
        (-1, nix::errno::Errno::ENOSYS)
    );
}
