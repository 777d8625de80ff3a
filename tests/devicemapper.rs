//! Volumes that are thin devices, through a real daemon and the command line: the whole way of their data, out into a
//! repository and back, and what becomes of them when the daemon is killed.
//!
//! Where this machine's kernel has no thin pools, each test runs itself again in a guest kernel (tests/guest/run) and takes the
//! outcome from there. The file is long because each test is a whole life of volumes, and all share the way into the guest.

mod daemon;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use daemon::{Daemon, Home, shell, text, until};

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
    start_with(home, &[])
}

fn start_with<'a>(home: &'a Home, args: &[&str]) -> Daemon<'a> {
    home.start_with(|command| {
        command
            .env("WINDLASS_BACKUP_PASSWORD", "correct horse battery")
            .args(["--drivers", "devicemapper", "--driver-opts", "dm.loopback=600M"])
            .args(["--driver-opts", "dm.defaultvolumesize=192M"])
            .args(args);
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
fn thin_volumes_are_compared_and_drilled_and_nothing_is_left_of_it() {
    with_pools(
        "thin_volumes_are_compared_and_drilled_and_nothing_is_left_of_it",
        |home| {
            let mut daemon = start(home);
            let dir = home.path().join("backups");
            std::fs::create_dir(&dir).expect("a directory");
            let url = format!("vfs://{}", text(&dir));
            let thins = |daemon: &Daemon<'_>| {
                daemon.json(&["pool", "status"])["ThinDevices"]
                    .as_u64()
                    .expect("a count")
            };
            for (name, fs) in [
                ("pg", &["--fs", "ext4"][..]),
                ("px", &["--fs", "xfs", "--size", "320M"]),
            ] {
                let dest = format!("backup.dest={url}");
                daemon.say(&[&["create", name, "--driver", "devicemapper", "-O", &dest], fs].concat());
                let at = daemon.say(&["mount", name]);
                let work = |script: &str| shell(&["bash", "-euc", &format!("cd {at}; {script}; sync")]);
                work("mkdir d; head -c 5M /dev/urandom >d/data; echo one >f; echo same >keep; echo x >gone");
                let first = format!("{name}@a");
                daemon.say(&["snapshot", "create", name, "--name", "a"]);
                work("echo another >f; touch keep; rm gone; mv d e; echo n >new");
                let told = |states: &[&str]| -> Vec<String> {
                    let said = daemon.say(&[&["diff", "-o", "table"], states].concat());
                    said.lines().map(str::to_owned).collect()
                };
                let expected = [
                    "R  d/ -> e/",
                    "M  f  (content, 4 B -> 8 B)",
                    "D  gone",
                    "A  new",
                    "1 added, 1 removed, 1 modified, 1 renamed; 8 names compared",
                ];
                let sorted = |mut lines: Vec<String>| {
                    lines.sort_unstable();
                    lines
                };
                let expected = sorted(expected.map(str::to_owned).to_vec());
                assert_eq!(sorted(told(&[&first])), expected, "{name}, while it is used");
                daemon.say(&["snapshot", "create", name, "--name", "b"]);
                assert_eq!(sorted(told(&[&first, &format!("{name}@b")])), expected, "{name}");
                let ranges = told(&[&first, &format!("{name}@b"), "--ranges"]);
                assert!(
                    ranges.last().expect("a sum").contains("in all") && ranges.len() > 1,
                    "{ranges:?}"
                );
                let left: Vec<String> = daemon.json(&["inspect", name])["Snapshots"]
                    .as_object()
                    .expect("snapshots")
                    .keys()
                    .cloned()
                    .collect();
                assert_eq!(left, ["a", "b"], "none is left of a comparison");

                daemon.say(&["backup", "create", name, "--dest", &url, "--no-progress"]);
                let before = thins(&daemon);
                let result = daemon.json(&["drill", name, "--no-progress", "-o", "json"]);
                assert_eq!(result["Verified"], true, "{result}");
                assert_eq!(thins(&daemon), before, "nothing is left of it");
                let fares = daemon.json(&["inspect", name])["Schedules"]["drill"].clone();
                assert_eq!(fares["Health"], "ok", "{fares}");
                let jobs = daemon.json(&["job", "list"]);
                let id = jobs.as_array().and_then(|jobs| jobs.last()).expect("a job")["ID"].to_string();
                let log = daemon.json(&["job", "inspect", &id])["Log"].to_string();
                assert!(log.contains("is sound") || log.contains("not installed"), "{log}");
                // A snapshot that was looked at can go.
                daemon.say(&["snapshot", "delete", &first]);
                daemon.say(&["umount", name]);
            }
            daemon.stop();

            // Killed in the middle.
            daemon = start_with(home, &["--backup-download-limit", "1M"]);
            let before = thins(&daemon);
            let (status, job) = daemon.admin("POST", "/v1/volumes/pg/drill", "");
            assert_eq!(status, 202, "{job}");
            until("the copy", || thins(&daemon) > before);
            daemon.kill();
            daemon = start(home);
            daemon.say(&["job", "wait", &job["ID"].to_string(), "--no-progress"]);
            assert_eq!(thins(&daemon), before);

            // A flipped bit.
            let pack = "P=$(find v/data -type f -printf '%s %p\\n' | sort -n | tail -1 | cut -d' ' -f2-); \
                    printf '\\xA5\\x5A' | dd of=$P bs=1 seek=1000000 conv=notrunc status=none"
                .replace("v/data", "pg/data");
            shell(&["bash", "-euc", &format!("cd {}; {pack}", text(&dir))]);
            let (code, said) = daemon.fails(&["drill", "pg", "--no-progress"]);
            assert_eq!(code, 8, "{said}");
            assert_eq!(thins(&daemon), before);
            assert_eq!(daemon.fails(&["health"]).0, 1);
            daemon.stop();
        },
    );
}

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

/// The commands that look after the pool, at work and after its metadata were damaged.
/// Of one moment while the volumes are used; backed up as any snapshot; and, where the daemon is killed, all or nothing.
#[test]
fn a_checkpoint_of_mounted_volumes_is_of_one_moment() {
    with_pools("a_checkpoint_of_mounted_volumes_is_of_one_moment", |home| {
        let daemon = start(home);
        for name in ["data", "log"] {
            daemon.say(&["create", name, "--driver", "devicemapper"]);
            let at = daemon.say(&["mount", name]);
            shell(&["bash", "-euc", &format!("echo old >{at}/f")]);
        }
        daemon.say(&["checkpoint", "create", "point", "log", "data"]);
        let shown = daemon.json(&["checkpoint", "inspect", "point"]);
        assert_eq!(shown["Moment"], "one", "{shown}");
        let dir = home.path().join("backups");
        std::fs::create_dir(&dir).expect("a directory");
        let url = format!("vfs://{}", text(&dir));
        daemon.say(&["backup", "create", "log@point", "--dest", &url]);
        let at = daemon.json(&["inspect", "log"])["MountPoint"].clone();
        let at = at.as_str().expect("a path").to_owned();
        shell(&["bash", "-euc", &format!("echo new >{at}/f; sync")]);
        let (_, said) = daemon.fails(&["checkpoint", "revert", "point"]);
        assert!(said.contains("in use"), "{said}");
        for name in ["data", "log"] {
            daemon.say(&["umount", name]);
        }
        daemon.say(&["checkpoint", "revert", "point"]);
        assert_eq!(
            shell(&["cat", &format!("{}/f", daemon.say(&["mount", "log"]))]).trim(),
            "old"
        );
        daemon.stop();
        for point in [
            "checkpoint.owed",
            "checkpoint.intended",
            "snapshot.freezing",
            "ledger.made",
            "ledger.committed",
            "checkpoint.acted",
            "checkpoint.recorded",
        ] {
            let daemon = home.start_with(|command| {
                command.env("WINDLASS_FAULT", point).args([
                    "--drivers",
                    "devicemapper",
                    "--driver-opts",
                    "dm.loopback=600M",
                ]);
            });
            drop(daemon.run(&["checkpoint", "create", "crash", "data", "log"]));
            let status = daemon.wait();
            assert!(status.contains("signal: 9"), "{point}: {status}");
            let daemon = start(home);
            let mut left = String::new();
            until("all of it or nothing is there", || {
                let owed = rusqlite::Connection::open(home.root().join("state.db"))
                    .and_then(|db| db.query_row("SELECT count(*) FROM duty", [], |row| row.get::<_, i64>(0)));
                left = daemon.json(&["checkpoint", "list"]).to_string();
                owed.is_ok_and(|owed| owed == 0)
            });
            let snapshots = daemon.json(&["snapshot", "list"]);
            let there = snapshots.as_object().expect("a map").keys();
            let there = there.filter(|name| name.ends_with("@crash")).count();
            assert!(there == 0 || there == 2, "{point}: {snapshots} {left}");
            if there == 2 {
                daemon.say(&["checkpoint", "delete", "crash"]);
            }
            // What was suspended goes on.
            let at = daemon.json(&["inspect", "log"])["MountPoint"].clone();
            shell(&[
                "bash",
                "-euc",
                &format!("echo {point} >{}/f; sync", at.as_str().expect("a path")),
            ]);
            daemon.stop();
        }
        let daemon = start(home);
        daemon.say(&["umount", "log"]);
    });
}

#[test]
fn the_pool_is_looked_after_by_the_command_line() {
    with_pools("the_pool_is_looked_after_by_the_command_line", |home| {
        let daemon = start(home);
        daemon.say(&["create", "pg", "--driver", "devicemapper"]);
        let at = daemon.say(&["mount", "pg"]);
        let write = format!(
            "head -c 20M /dev/urandom >{at}/a; head -c 30M /dev/urandom >{at}/b; sync; rm {at}/b; sync"
        );
        shell(&["bash", "-euc", &write]);
        let sum = sum_of(&at);
        daemon.say(&["snapshot", "create", "pg", "--name", "s"]);
        let pool = daemon.json(&["pool", "status"]);
        assert_eq!(
            (&pool["Name"], &pool["Driver"], &pool["Mode"], &pool["NeedsCheck"]),
            (
                &"windlass-pool".into(),
                &"devicemapper".into(),
                &"read-write".into(),
                &false.into()
            ),
            "{pool}"
        );
        assert_eq!(
            (&pool["Volumes"], &pool["Snapshots"], &pool["ThinDevices"]),
            (&1.into(), &1.into(), &2.into()),
            "{pool}"
        );
        let sheet = daemon.say(&["pool", "status", "-o", "table"]);
        assert!(sheet.contains("Mode:") && sheet.contains("of 600 MiB"), "{sheet}");
        daemon.say(&["snapshot", "delete", "pg@s"]);
        let trimmed = daemon.json(&["pool", "trim"]);
        assert!(
            trimmed["BytesFreed"]
                .as_u64()
                .is_some_and(|freed| freed > 25 << 20),
            "{trimmed}"
        );
        assert_eq!(trimmed["Volumes"][0]["Name"], "pg");
        // The same as a policy, done before its turn.
        let again = format!("head -c 30M /dev/urandom >{at}/b; sync; rm {at}/b; sync");
        shell(&["bash", "-euc", &again]);
        let used = || {
            daemon.json(&["pool", "status"])["Data"]["Used"]
                .as_u64()
                .expect("bytes")
        };
        let before = used();
        daemon.say(&["policy", "set", "pg", "trim.schedule=@weekly"]);
        daemon.say(&["job", "run", "pg", "trim"]);
        assert!(used() + (25 << 20) < before, "{before} before, {} after", used());
        assert_eq!(
            daemon.json(&["inspect", "pg"])["Schedules"]["trim"]["Health"],
            "ok"
        );
        let grown = daemon.json(&["pool", "extend", "+40M"]);
        assert_eq!(grown["Data"]["Total"], 640u64 << 20, "{grown}");
        let (code, said) = daemon.fails(&["pool", "extend", "100M"]);
        assert!(code == 6 && said.contains("do not shrink"), "{code} {said}");
        let sound = daemon.json(&["pool", "check"]);
        assert_eq!(
            (&sound["AtWork"], &sound["ThinDevices"]),
            (&true.into(), &1.into()),
            "{sound}"
        );
        let (_, said) = daemon.fails(&["pool", "repair"]);
        assert!(
            said.contains("has it at work") && said.contains("start the daemon again"),
            "{said}"
        );
        assert_eq!(sum_of(&at), sum, "all the while");
        // A look at a snapshot, which keeps it and its volume.
        daemon.say(&["snapshot", "create", "pg", "--name", "seen"]);
        shell(&["bash", "-euc", &format!("echo later >{at}/later; sync")]);
        let look = daemon.say(&["snapshot", "mount", "pg@seen"]);
        assert_eq!(sum_of(&look), sum);
        let (_, said) = daemon.fails(&["snapshot", "delete", "pg@seen"]);
        assert!(said.contains("snapshot umount pg@seen"), "{said}");
        let write = Command::new("touch")
            .arg(format!("{look}/f"))
            .output()
            .expect("touch runs");
        assert!(
            String::from_utf8_lossy(&write.stderr).contains("Read-only"),
            "{write:?}"
        );
        let elsewhere = home.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).expect("a directory");
        daemon.say(&["snapshot", "mount", "pg@seen", "--mountpoint", text(&elsewhere)]);
        assert_eq!(sum_of(text(&elsewhere)), sum);
        daemon.say(&["snapshot", "umount", "pg@seen"]);
        assert!(!Path::new(&look).exists() && !elsewhere.join("a").exists());
        assert_eq!(
            devices().len(),
            2,
            "the snapshot's device goes too: {:?}",
            devices()
        );
        daemon.say(&["snapshot", "delete", "pg@seen"]);
        std::fs::remove_file(format!("{at}/later")).expect("removed");
        daemon.say(&["umount", "pg"]);
        daemon.stop();

        drop(Pool(home.root()));
        let metadata = home.root().join("devicemapper/metadata.img");
        // The bitmaps of the metadata's own space; where they are, the superblock says.
        let hurt = format!(
            "M={}; B=$(od -An -tu8 -j208 -N8 $M); printf damage | dd of=$M bs=1 seek=$((B*4096+100)) conv=notrunc status=none",
            text(&metadata)
        );
        shell(&["bash", "-euc", &hurt]);
        let daemon = start(home);
        let (_, said) = daemon.fails(&["pool", "status"]);
        assert!(said.contains("windlass pool repair"), "{said}");
        let (code, said) = daemon.fails(&["pool", "check"]);
        assert!(code == 8 && said.contains("pool repair"), "{code} {said}");
        let repaired = daemon.json(&["pool", "repair"]);
        assert_eq!(repaired["Notes"], serde_json::json!([]), "{repaired}");
        let kept = repaired["Damaged"].as_str().expect("a path");
        assert!(Path::new(kept).exists(), "{kept}");
        let at = daemon.say(&["mount", "pg"]);
        assert_eq!(sum_of(&at), sum, "at once, without another start");
        daemon.say(&["umount", "pg"]);
        daemon.stop();
    });
}

/// Each threshold that the pool passes is an event, once, and shown for as long as it lasts. That the first one is passed, the kernel
/// says.
#[test]
fn a_pool_that_fills_warns_at_each_threshold() {
    with_pools("a_pool_that_fills_warns_at_each_threshold", |home| {
        let daemon = home.start_with(|command| {
            command
                .args(["--drivers", "devicemapper", "--driver-opts", "dm.loopback=96M"])
                .args(["--driver-opts", "dm.warnat=30,60"])
                .args(["--driver-opts", "dm.defaultvolumesize=192M"]);
        });
        daemon.say(&["create", "pg", "--driver", "devicemapper"]);
        let at = daemon.say(&["mount", "pg"]);
        let warned = || {
            let events = daemon.say(&["events", "--no-follow"]);
            events
                .lines()
                .filter(|line| line.contains("data space of the pool windlass-pool"))
                .count()
        };
        assert_eq!(warned(), 0);
        let heard = || home.log().matches("its storage tells that something").count();
        let before = heard();
        for (number, percent) in [(1, 30), (2, 60)] {
            shell(&[
                "bash",
                "-euc",
                &format!("head -c 31M /dev/urandom >{at}/f{number}; sync {at}/f{number}"),
            ]);
            let written = Instant::now();
            until("the warning", || warned() == number);
            println!("{percent} percent: warned after {:?}", written.elapsed());
            until("the kernel's word", || heard() > before);
            let pool = daemon.json(&["pool", "status"]);
            let used = pool["Data"]["Percent"].as_u64().expect("a number");
            assert!(used >= percent, "{pool}");
            assert_eq!(pool["Warnings"].as_array().map(Vec::len), Some(1), "{pool}");
        }
        shell(&["bash", "-euc", &format!("rm {at}/f1 {at}/f2; sync -f {at}")]);
        daemon.say(&["pool", "trim"]);
        let pool = daemon.json(&["pool", "status"]);
        assert_eq!(pool["Warnings"], serde_json::json!([]), "over: {pool}");
        assert_eq!(warned(), 2, "no more than one for each");
        daemon.say(&["umount", "pg"]);
        daemon.stop();
    });
}

/// A pool whose metadata device fails while a volume is mounted: the repair names who has it, and needs no other start of the daemon
/// once they are gone.
#[test]
fn a_failed_pool_is_repaired_without_another_start() {
    with_pools("a_failed_pool_is_repaired_without_another_start", |home| {
        let lay = format!(
            "cd {}; truncate -s 400M data; truncate -s 8M meta; D=$(losetup -f --show data); M=$(losetup -f --show meta); \
             modprobe -q dm-flakey || true; dmsetup create windlass-below --table \"0 $((8*2048)) linear $M 0\"; echo $D $M",
            text(home.path())
        );
        let said = shell(&["bash", "-euc", &lay]);
        let (data, metadata) = said.trim().split_once(' ').expect("two devices");
        let _loops = Loops(vec![data.to_owned(), metadata.to_owned()]);
        let below = |table: &str| {
            let script = format!(
                "dmsetup suspend --noflush windlass-below; dmsetup reload windlass-below --table '{table}'; dmsetup resume windlass-below"
            );
            shell(&["bash", "-euc", &script]);
        };
        let daemon = home.start_with(|command| {
            command
                .args(["--drivers", "devicemapper"])
                .args(["--driver-opts", &format!("dm.datadev={data}")])
                .args(["--driver-opts", "dm.metadatadev=/dev/mapper/windlass-below"])
                .args(["--driver-opts", "dm.defaultvolumesize=64M"]);
        });
        daemon.say(&["create", "pg", "--driver", "devicemapper"]);
        let at = daemon.say(&["mount", "pg"]);
        shell(&["bash", "-euc", &format!("echo precious >{at}/f; sync -f {at}")]);
        let (_, said) = daemon.fails(&["pool", "repair"]);
        assert!(said.contains("has it at work"), "{said}");
        below(&format!("0 {} flakey {metadata} 0 0 1 1 error_writes", 8 * 2048));
        daemon.fails(&["snapshot", "create", "pg", "--name", "s"]);
        let (_, said) = daemon.fails(&["pool", "repair"]);
        assert!(
            said.contains(&format!("volume pg (mounted at {at}")) && said.contains("windlass umount"),
            "{said}"
        );
        daemon.say(&["umount", "pg"]);
        below(&format!("0 {} linear {metadata} 0", 8 * 2048));
        shell(&[
            "bash",
            "-euc",
            // Not the superblock: the kernel writes it once more when the pool is taken down.
            "M=/dev/mapper/windlass-below; B=$(od -An -tu8 -j208 -N8 $M); \
             printf damage | dd of=$M bs=1 seek=$((B*4096+100)) conv=notrunc,fsync status=none",
        ]);
        let repaired = daemon.json(&["pool", "repair"]);
        assert_eq!(repaired["Notes"], serde_json::json!([]), "{repaired}");
        assert_eq!(repaired["Losses"], serde_json::json!([]), "{repaired}");
        assert_ne!(repaired["Damaged"], "", "{repaired}");
        let at = daemon.say(&["mount", "pg"]);
        assert_eq!(shell(&["cat", &format!("{at}/f")]), "precious\n");
        daemon.say(&["umount", "pg"]);
        daemon.stop();
    });
}

/// A pool as Convoy laid it out: volumes and snapshots are there as they were, and Convoy's files too.
#[test]
fn a_pool_of_convoy_s_is_taken_over_in_place() {
    with_pools("a_pool_of_convoy_s_is_taken_over_in_place", |home| {
        let dir = home.path().join("convoy");
        // Volumes a (with a file, a snapshot, and a file after that) and b (XFS); a thin device of nobody; records of volumes that
        // are not there, damaged, or that have another's device.
        let lay = format!(
            r#"mkdir -p {dir}/devicemapper; cd {dir}; truncate -s 800M data; truncate -s 8M meta
            D=$(losetup -f --show data); M=$(losetup -f --show meta)
            dmsetup create convoy-pool --table "0 $((800*2048)) thin-pool $M $D 4096 0"
            for i in 1 3 5; do dmsetup message convoy-pool 0 "create_thin $i"; done
            dmsetup create a --table "0 $((256*2048)) thin /dev/mapper/convoy-pool 1"
            dmsetup create b --table "0 $((320*2048)) thin /dev/mapper/convoy-pool 3"
            mkfs.ext4 -q /dev/mapper/a; mkfs.xfs -q /dev/mapper/b; mkdir -p mnt
            mount /dev/mapper/a mnt; head -c 9M /dev/urandom >mnt/old
            dmsetup suspend a; dmsetup message convoy-pool 0 "create_snap 2 1"; dmsetup resume a
            echo new >mnt/new; umount mnt
            mount /dev/mapper/b mnt; echo b >mnt/f; umount mnt; rmdir mnt
            cd devicemapper
            echo '{{"Root":"{dir}/devicemapper","DataDevice":"'$D'","MetadataDevice":"'$M'",
              "ThinpoolDevice":"/dev/mapper/convoy-pool","ThinpoolSize":838860800,"ThinpoolBlockSize":4096,
              "DefaultVolumeSize":107374182400,"LastDevID":5,"Filesystem":"ext4"}}' >devicemapper.cfg
            volume() {{ echo '{{"Name":"'$1'","DevID":'$2',"Size":'$(($3<<20))',"Filesystem":"'$4'","MountPoint":"",
              "CreatedTime":"Fri Nov 20 08:00:00 +0000 2026","Snapshots":{{'${{5:-}}'}}}}' >devicemapper_volume_$1.json; }}
            volume a 1 256 ext4 '"s":{{"Name":"s","CreatedTime":"Fri Nov 20 09:00:00 +0000 2026","DevID":2,"Activated":false}},"lost":{{"Name":"lost","DevID":9}}'
            volume b 3 320 xfs; volume twice 3 320 xfs; volume absent 7 320 ext4; echo '{{' >devicemapper_volume_hurt.json
            echo $D $M"#,
            dir = text(&dir)
        );
        let said = shell(&["bash", "-euc", &lay]);
        let (data, metadata) = said.trim().split_once(' ').expect("two devices");
        let _loops = Loops(vec![data.to_owned(), metadata.to_owned()]);
        let sum_of_all = || {
            let files = format!("cd {}; sha256sum data meta devicemapper/*", text(&dir));
            shell(&["bash", "-euc", &files])
        };
        let daemon = home.start_with(|command| {
            command
                .args(["--drivers", "devicemapper"])
                .args(["--driver-opts", &format!("dm.datadev={data}")])
                .args(["--driver-opts", &format!("dm.metadatadev={metadata}")]);
        });
        // Nobody is told to wipe it.
        let info = daemon.json(&["info"]);
        let why = info["devicemapper"]["Unavailable"].as_str().expect("a reason");
        assert!(
            why.contains("windlass import convoy") && !why.contains("dd if="),
            "{why}"
        );
        let import = ["import", "convoy", "--root", text(&dir)];
        let dry: Vec<&str> = import.iter().copied().chain(["--dry-run"]).collect();
        // While Convoy has it at work.
        let (code, said) = daemon.fails(&import);
        assert!(code != 0 && said.contains("dmsetup remove convoy-pool"), "{said}");
        let planned = daemon.json(&dry);
        let obstacle = planned["Obstacle"].as_str().expect("text");
        assert!(obstacle.contains("dmsetup remove convoy-pool"), "{planned}");
        assert!(
            planned["Adopted"].as_array().is_some_and(|all| all.len() >= 2),
            "{planned}"
        );
        shell(&[
            "bash",
            "-euc",
            "for d in a b convoy-pool; do dmsetup remove $d; done; sync",
        ]);
        let before = sum_of_all();
        let planned = daemon.json(&dry);
        assert_eq!(planned["Obstacle"], "", "{planned}");
        let names = |list: &str, key: &str| -> Vec<String> {
            let all = planned[list].as_array().expect("a list").iter();
            all.map(|one| one[key].as_str().expect("text").to_owned())
                .collect()
        };
        assert_eq!(names("Adopted", "Name"), ["a", "b"], "{planned}");
        assert_eq!(
            names("Skipped", "What"),
            [
                "snapshot a@lost",
                "volume absent",
                "volume hurt",
                "volume twice",
                "thin device 5"
            ],
            "{planned}"
        );
        assert_eq!(sum_of_all(), before, "a dry run touches nothing");
        let done = daemon.json(&import);
        assert_eq!(done["Adopted"], planned["Adopted"]);
        assert!(before.contains("devicemapper.cfg"));
        let found = daemon.json(&["inspect", "a"]);
        assert_eq!(
            (&found["DriverInfo"]["DevID"], &found["CreatedTime"]),
            (&"1".into(), &"Fri Nov 20 08:00:00 +0000 2026".into()),
            "{found}"
        );
        // They are volumes as any other: what was written is there, and at the snapshot what was written before it.
        let at = daemon.say(&["mount", "a"]);
        assert_eq!(shell(&["cat", &format!("{at}/new")]), "new\n");
        let old = shell(&["sha256sum", &format!("{at}/old")]);
        let old = old.split(' ').next().expect("a sum");
        daemon.say(&["create", "c", "--driver", "devicemapper", "--from", "a@s"]);
        let at = daemon.say(&["mount", "c"]);
        assert!(shell(&["sha256sum", &format!("{at}/old")]).starts_with(old));
        assert!(!Path::new(&at).join("new").exists());
        let at = daemon.say(&["mount", "b"]);
        assert_eq!(shell(&["cat", &format!("{at}/f")]), "b\n");
        let sound = daemon.json(&["pool", "check"]);
        assert_eq!(sound["Unclaimed"], serde_json::json!([5]), "{sound}");
        let pool = daemon.json(&["pool", "status"]);
        assert_eq!(pool["BlockSize"], 2 << 20, "{pool}");
        // A second time there is nothing to take over.
        let again = daemon.json(&import);
        assert_eq!(again["Adopted"], serde_json::json!([]), "{again}");
        for volume in ["a", "b", "c"] {
            daemon.say(&["umount", volume]);
        }
        daemon.say(&["snapshot", "delete", "a@s"]);
        daemon.say(&["delete", "a", "--purge"]);
        daemon.stop();
    });
}

/// How a device would be divided, before it is; and what carries something is refused.
#[test]
fn a_dry_run_lays_a_device_out_and_touches_nothing() {
    with_pools("a_dry_run_lays_a_device_out_and_touches_nothing", |home| {
        let image = home.path().join("device");
        let make = format!("truncate -s 1G {0}; losetup -f --show {0}", text(&image));
        let device = shell(&["bash", "-euc", &make]).trim().to_owned();
        let _loops = Loops(vec![device.clone()]);
        let run = |dry: bool| {
            let mut command = home.command();
            command
                .args(["--drivers", "devicemapper"])
                .args(["--driver-opts", &format!("dm.device={device}")]);
            if dry {
                command.arg("--dry-run");
            }
            command
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped());
            command.output().expect("it runs")
        };
        let planned = run(true);
        let said = String::from_utf8_lossy(&planned.stdout).into_owned();
        assert!(planned.status.success(), "{planned:?}");
        let expected = [
            "a new pool windlass-pool, in blocks of 64 KiB".to_owned(),
            format!("label: {device} from byte 0, 1 MiB (1048576 bytes)"),
            format!("metadata: {device} from byte 1048576, 4 MiB (4194304 bytes)"),
            format!("spare: {device} from byte 5242880, 4 MiB (4194304 bytes)"),
            format!("data: {device} from byte 9437184, 1015 MiB (1064304640 bytes)"),
        ];
        assert_eq!(said.lines().collect::<Vec<_>>(), expected);
        let blocks = shell(&["stat", "-c", "%b", text(&image)]);
        assert_eq!(blocks.trim(), "0", "nothing was written");
        assert!(!home.root().exists(), "nor elsewhere");
        for (make, why) in [
            (format!("mkfs.ext4 -q {device}"), "first MiB is zeros"),
            (format!("mkfs.ext4 -q {device}; mount {device} /mnt"), "in use by"),
        ] {
            shell(&["bash", "-euc", &make]);
            let refused = run(true);
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(!refused.status.success(), "{said}");
            assert!(said.contains(why), "{said}");
            let _ = Command::new("umount").arg("/mnt").status();
        }
    });
}

/// Loop devices, detached whatever happens.
struct Loops(Vec<String>);

impl Drop for Loops {
    fn drop(&mut self) {
        let script = "for d in a b convoy-pool; do dmsetup remove $d 2>/dev/null; done; \
                      dmsetup ls | awk '/^windlass-pool/ {print $1}' | sort -r | xargs -r -n1 dmsetup remove 2>/dev/null; dmsetup remove windlass-below 2>/dev/null; losetup -d \"$@\"";
        let _ = Command::new("bash")
            .args(["-c", script, "bash"])
            .args(&self.0)
            .status();
    }
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
