//! Volumes that are thin devices, through a real daemon and the command line: the whole way of their data, out into a
//! repository and back, and what becomes of them when the daemon is killed.
//!
//! Where this machine's kernel has no thin pools, each test runs itself again in a guest kernel (tests/guest/run) and takes the
//! outcome from there.

mod daemon;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use daemon::{Daemon, Home, shell, text};

/// Runs the body where the kernel has thin pools: here, or as the test of that name in the guest.
fn with_pools(test: &str, body: impl FnOnce(&Home)) {
    let in_guest = std::env::var_os("WINDLASS_IN_GUEST").is_some();
    let targets = Command::new("dmsetup").arg("targets").output();
    let native = targets.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains("thin-pool"));
    if native || in_guest {
        let home = Home::new();
        let pool = Pool(home.root());
        body(&home);
        drop((pool, home));
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "these tests need root");
        println!("SKIPPED: needs root");
        return;
    }
    let program = std::env::current_exe().expect("this program");
    let built = Path::new(env!("CARGO_BIN_EXE_windlass"))
        .parent()
        .expect("a directory");
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guest/run"))
        .args(["-t", "580", "-m", "2048", "-s", text(built), "--"])
        .arg(format!("{} --exact {test} --nocapture", program.display()))
        .env("WINDLASS_IN_GUEST", "1")
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .expect("the guest starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(125) && !said.contains("running 1 test") {
        assert!(std::env::var_os("CI").is_none(), "no guest on CI: {complaint}");
        println!("SKIPPED: no guest kernel: {}", complaint.trim());
        return;
    }
    assert!(output.status.success(), "{said}\n{complaint}");
    assert!(
        said.contains("1 passed"),
        "the test did not run in the guest: {said}"
    );
    print!("{said}");
}

/// The pool of a root, removed whatever happens; of the guest, nothing stays anyway.
struct Pool(PathBuf);

impl Drop for Pool {
    fn drop(&mut self) {
        let script = format!(
            "for i in 1 2 3; do dmsetup ls | awk '/^windlass-pool/ {{print $1}}' | xargs -r -n1 dmsetup remove 2>/dev/null; done; \
             losetup -l -n -O NAME,BACK-FILE | awk '$2 ~ \"^{}/\" {{print $1}}' | xargs -r -n1 losetup -d",
            self.0.display()
        );
        let _ = Command::new("bash").args(["-c", &script]).status();
    }
}

/// A daemon whose first driver is the one under test.
fn start(home: &Home) -> Daemon<'_> {
    home.start_with(|command| {
        command
            .env("WINDLASS_BACKUP_PASSWORD", "correct horse battery")
            .args(["--drivers", "devicemapper", "--driver-opts", "dm.loopback=600M"])
            .args(["--driver-opts", "dm.defaultvolumesize=192M"]);
    })
}

/// What a mounted volume holds, in one line.
fn sum_of(dir: &str) -> String {
    let script = format!("cd {dir}; find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum");
    shell(&["bash", "-euc", &script])
}

#[test]
fn a_volume_goes_out_and_comes_back_as_it_was() {
    with_pools("a_volume_goes_out_and_comes_back_as_it_was", |home| {
        let daemon = start(home);
        let info = daemon.json(&["info"]);
        let section = &info["devicemapper"];
        assert_eq!(section["Driver"], "devicemapper", "{info}");
        assert_eq!(section["ThinpoolDevice"], "/dev/mapper/windlass-pool");
        assert_eq!(
            (&section["ThinpoolBlockSize"], &section["Filesystem"]),
            (&"65536".into(), &"ext4".into())
        );
        let make = ["create", "pg", "--driver", "devicemapper"];
        assert_eq!(daemon.say(&make), "pg");
        let at = daemon.say(&["mount", "pg"]);
        shell(&[
            "bash",
            "-euc",
            &format!(
                "test -z \"$(ls -A {at})\"; head -c 9M /dev/urandom >{at}/a; mkdir {at}/d; echo one >{at}/d/f"
            ),
        ]);
        let before = sum_of(&at);
        daemon.say(&["snapshot", "create", "pg", "--name", "monday"]);
        let dir = home.path().join("backups");
        std::fs::create_dir(&dir).expect("a directory");
        let url = format!("vfs://{}", text(&dir));
        let first = daemon.say(&["backup", "create", "pg@monday", "--dest", &url]);
        // What changes by a little costs a little, also after the snapshot that was backed up is gone.
        daemon.say(&["snapshot", "delete", "pg@monday"]);
        shell(&["bash", "-euc", &format!("echo two >>{at}/d/f; sync")]);
        let after = sum_of(&at);
        assert_ne!(before, after);
        let second = daemon.say(&["backup", "create", "pg", "--dest", &url]);
        let figures = daemon.json(&["backup", "inspect", &second]);
        let read = figures["BytesRead"]
            .as_u64()
            .unwrap_or_else(|| panic!("no figures in {figures}"));
        assert!(
            read > 0 && read < 4 << 20,
            "{read} bytes were read for a changed line"
        );
        // It grows while it is used.
        let room = |at: &str| -> u64 {
            let said = shell(&["stat", "-f", "-c", "%b %S", at]);
            said.split_whitespace()
                .map(|word| word.parse::<u64>().expect("a number"))
                .product()
        };
        let had = room(&at);
        daemon.say(&["resize", "pg", "256M"]);
        assert!(room(&at) > had + (50 << 20), "{had} and then {}", room(&at));
        let (code, said) = daemon.fails(&["resize", "pg", "64M"]);
        assert!(code != 0 && said.contains("do not shrink"), "{said}");
        assert_eq!(sum_of(&at), after);
        daemon.say(&["trim", "pg"]);
        // All is lost …
        daemon.say(&["umount", "pg"]);
        daemon.say(&["delete", "pg", "--purge"]);
        // … and comes back, at either moment.
        for (name, backup, sum) in [("old", &first, &before), ("new", &second, &after)] {
            daemon.say(&["create", name, "--driver", "devicemapper", "--backup", backup]);
            let at = daemon.say(&["mount", name]);
            assert_eq!(sum_of(&at), *sum, "{name}");
            daemon.say(&["umount", name]);
            let found = daemon.json(&["inspect", name]);
            assert_eq!(found["DriverInfo"]["Size"], (192u64 << 20).to_string(), "{found}");
            let id = found["DriverInfo"]["DevID"]
                .as_str()
                .expect("a thin id")
                .to_owned();
            shell(&[
                "bash",
                "-euc",
                &format!(
                    "P=$(dmsetup info -c --noheadings -o major,minor windlass-pool); \
                     dmsetup create looked-at --table \"0 {} thin $P {id}\"; \
                     trap 'dmsetup remove looked-at' EXIT; e2fsck -fn /dev/mapper/looked-at",
                    (192u64 << 20) / 512
                ),
            ]);
        }
        // Onto the other sort of volume neither goes.
        let (_, said) = daemon.fails(&["create", "tree", "--driver", "vfs", "--backup", &first]);
        assert!(said.contains("driver=devicemapper"), "{said}");
        daemon.stop();
    });
}

/// The predecessor left its snapshot active for good when it was killed in a backup, and everybody waited while one ran.
#[test]
fn a_daemon_that_is_killed_in_a_backup_leaves_nothing_behind() {
    with_pools(
        "a_daemon_that_is_killed_in_a_backup_leaves_nothing_behind",
        |home| {
            let dir = home.path().join("backups");
            std::fs::create_dir(&dir).expect("a directory");
            let url = format!("vfs://{}", text(&dir));
            let daemon = start(home);
            daemon.say(&["create", "pg", "--driver", "devicemapper"]);
            let at = daemon.say(&["mount", "pg"]);
            let write = format!("head -c 60M /dev/urandom >{at}/a; sync");
            shell(&["bash", "-euc", &write]);
            let sum = sum_of(&at);
            daemon.say(&["snapshot", "create", "pg", "--name", "s"]);
            daemon.say(&["backup", "create", "pg@s", "--dest", &url, "--detach"]);
            until("the backup's device", || devices().len() == 3);
            // Nobody waits for it.
            let begun = Instant::now();
            daemon.json(&["list"]);
            daemon.say(&["create", "other", "--driver", "devicemapper"]);
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
            daemon.kill();
            let daemon = start(home);
            // What a container uses stays mounted, and the job begins again by itself.
            assert_eq!(sum_of(&at), sum);
            let backups = || -> serde_json::Value {
                // Before the first one, there is no repository to list.
                let said = daemon.run(&["backup", "list", &url]);
                serde_json::from_slice(&said.stdout).unwrap_or_default()
            };
            until("the backup", || {
                backups().as_object().is_some_and(|all| all.len() == 1)
            });
            until("the end of its job", || {
                let jobs = daemon.json(&["job", "list"]);
                let text = jobs.to_string();
                !text.contains("\"running\"") && !text.contains("\"queued\"")
            });
            daemon.say(&["snapshot", "delete", "pg@s"]);
            daemon.say(&["umount", "pg"]);
            for volume in ["pg", "other"] {
                daemon.say(&["delete", volume, "--purge"]);
            }
            until("the end of all devices", || devices() == ["windlass-pool"]);
            let backup = backups();
            let (backup, _) = backup.as_object().and_then(|all| all.iter().next()).expect("one");
            daemon.say(&["create", "back", "--driver", "devicemapper", "--backup", backup]);
            let at = daemon.say(&["mount", "back"]);
            assert_eq!(sum_of(&at), sum);
            daemon.say(&["umount", "back"]);
            daemon.stop();
        },
    );
}

/// The pool, and the thin devices that are active.
fn devices() -> Vec<String> {
    let said = shell(&["dmsetup", "ls"]);
    let names = said.lines().filter_map(|line| line.split_whitespace().next());
    let mut names: Vec<String> = names
        .filter(|name| name.starts_with("windlass-pool"))
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}

/// Waits until something holds.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < give_up, "{what} did not come: {:?}", devices());
        std::thread::sleep(Duration::from_millis(5));
    }
}
