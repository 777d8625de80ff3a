//! Power cuts for real: the guest is killed under load at a moment that nobody chose, and started again on the same disks.
//!
//! The test is three programs: one outside, which starts the guest and looks what comes of it; one that makes volumes and
//! snapshots, writes and syncs in the guest until the power goes; and one that looks at what is there afterwards. What was
//! acknowledged, the second one writes down outside of the guest, line by line.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::driver::conformance::{name, removal, taking};
use crate::model::OnRemove;
use crate::sys::testing::IN_GUEST;

/// Which of the two programs in the guest this is.
const STAGE: &str = "WINDLASS_TEST_POWER";
/// The directory that guest and machine share.
const SHARED: &str = "WINDLASS_TEST_POWER_SHARED";

/// So many times the power goes.
const CUTS: u64 = 8;

/// The disks: one for the pool, one for the records.
fn disks() -> (PathBuf, PathBuf) {
    (PathBuf::from("/dev/ubda"), PathBuf::from("/dev/ubdb"))
}

/// The driver on the guest's disks; `new` makes the filesystem for the records.
fn open_disks(new: bool) -> (Devicemapper, PathBuf) {
    let (pool, records) = disks();
    let root = PathBuf::from("/tmp/root");
    fs::create_dir_all(&root).expect("a mount point");
    if new {
        testing::sh(&format!("mkfs.ext4 -q -F {}", records.display()));
    }
    testing::sh(&format!("mount {} {}", records.display(), root.display()));
    let options = [
        ("device", pool.display().to_string()),
        ("defaultvolumesize", "64M".to_owned()),
    ];
    let options = options
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    let driver = Devicemapper::open(&root.join("devicemapper"), &options).expect("the pool comes up");
    (driver, root)
}

/// Works until the power goes: what the lines say is done.
fn work(shared: &Path, new: bool) {
    let (driver, _) = open_disks(new);
    let mut log = OpenOptions::new()
        .append(true)
        .create(true)
        .open(shared.join("log"))
        .expect("a log");
    let mut say = |line: String| {
        log.write_all(format!("{line}\n").as_bytes()).expect("written");
        log.sync_all().expect("synced");
    };
    say("begin".to_owned());
    let target = Path::new("/tmp/target");
    fs::create_dir_all(target).expect("a mount point");
    // Each life has numbers of its own.
    let lives = fs::read_to_string(shared.join("log")).expect("a log");
    let lives = lives.lines().filter(|line| *line == "begin").count();
    for number in 1_000 * lives.. {
        let volume = name(&format!("v{number}"));
        let volume = driver.create(&wish(&driver, &volume)).expect("created").volume;
        say(format!("volume {}", volume.name));
        driver.mount(&volume, target).expect("mounted");
        let file = File::create(target.join("f")).expect("made");
        for at in 0..20u64 {
            file.write_all_at(&[number as u8; 50_000], at * 50_000)
                .expect("written");
        }
        file.sync_all().expect("synced");
        File::open(target).and_then(|dir| dir.sync_all()).expect("synced");
        say(format!("synced {} {}", volume.name, number as u8));
        let taken = driver.snapshot(&taking(&volume, "s")).expect("a snapshot");
        say(format!("snapshot {}", volume.name));
        file.write_all_at(&[0xFF; 50_000], 0).expect("written");
        drop(file);
        driver.unmount(&volume, target).expect("unmounted");
        if number % 3 == 0 {
            say(format!("removing {}", volume.name));
            driver
                .remove(&removal(&taken, OnRemove::Delete))
                .expect("removed");
            let purge = Purge {
                id: volume.id,
                name: volume.name.clone(),
            };
            driver.purge(&purge).expect("purged");
            say(format!("removed {}", volume.name));
        }
    }
}

/// Looks at what is there. What was half done when the power went is the records' of no operation here: the service would
/// have it recovered; so areas of work are the only leftovers.
fn look(shared: &Path) {
    let (driver, _) = open_disks(false);
    let log = fs::read_to_string(shared.join("log")).expect("a log");
    let said = |word: &str| -> Vec<Vec<String>> {
        let lines = log
            .lines()
            .map(|line| line.split(' ').map(str::to_owned).collect());
        lines.filter(|line: &Vec<String>| line[0] == word).collect()
    };
    let removing: Vec<String> = said("removing").into_iter().map(|line| line[1].clone()).collect();
    let listing = driver.volumes().expect("listed");
    assert_eq!(listing.damaged, []);
    for line in said("volume").iter().filter(|line| !removing.contains(&line[1])) {
        assert!(
            listing
                .volumes
                .iter()
                .any(|volume| volume.name.as_str() == line[1]),
            "{line:?} is lost"
        );
    }
    for line in said("removed") {
        assert!(
            listing
                .volumes
                .iter()
                .all(|volume| volume.name.as_str() != line[1]),
            "{line:?} is back"
        );
    }
    let target = Path::new("/tmp/target");
    fs::create_dir_all(target).expect("a mount point");
    for line in said("synced").iter().filter(|line| !removing.contains(&line[1])) {
        let volume = driver.volume(&name(&line[1])).expect("read").expect("there");
        let byte: u8 = line[2].parse().expect("a number");
        let whole = |bytes: Vec<u8>, first: &[u8]| {
            assert_eq!(bytes.len(), 1_000_000, "{line:?}");
            assert!(
                first.contains(&bytes[0]) && bytes[50_000..].iter().all(|found| *found == byte),
                "{line:?}"
            );
        };
        driver.mount(&volume, target).expect("mounted, after a check");
        whole(fs::read(target.join("f")).expect("read"), &[byte, 0xFF]);
        driver.unmount(&volume, target).expect("unmounted");
        if said("snapshot").iter().any(|taken| taken[1] == line[1]) {
            assert_eq!(volume.snapshots.len(), 1, "{line:?}");
            let source = driver
                .open_source(&volume, volume.snapshots.first(), &[])
                .expect("a source");
            let Source::Block(image) = source else {
                unreachable!("a device")
            };
            let mounted =
                crate::sys::detached::Detached::mount(&image.path, "ext4", &["ro"]).expect("mounted");
            whole(fs::read(mounted.path().join("f")).expect("read"), &[byte]);
        }
    }
    // What was being made has its record in staging still, and can be removed; nothing else is left.
    for id in driver.records().names("staging").expect("a directory") {
        let ghost = wish(&driver, &name("ghost")).volume;
        driver
            .discard_staged(id.parse().expect("an id"), &ghost)
            .expect("removed");
    }
    assert_eq!(leftovers(&driver), [""; 0]);
    testing::sh(&format!(
        "for d in $(dmsetup ls | awk '/^windlass-pool-[0-9]/ {{print $1}}'); do dmsetup remove $d; done; dmsetup remove windlass-pool; \
         thin_check -q {}",
        driver.pool.devices().metadata.display()
    ));
}

#[test]
fn what_was_acknowledged_survives_power_cuts() {
    let test = "driver::devicemapper::tests::power::what_was_acknowledged_survives_power_cuts";
    if let Ok(stage) = std::env::var(STAGE) {
        let shared = PathBuf::from(std::env::var_os(SHARED).expect("a directory"));
        return match stage.as_str() {
            "look" => look(&shared),
            stage => work(&shared, stage == "new"),
        };
    }
    // Natively there is no power to cut.
    if std::env::var_os(IN_GUEST).is_some() || !testing::root_with_mounts() {
        return;
    }
    let dir = tempfile::tempdir().expect("a scratch directory");
    let images = [dir.path().join("pool"), dir.path().join("records")];
    for image in &images {
        File::create(image)
            .and_then(|file| file.set_len(1 << 30))
            .expect("a disk");
    }
    let shared = dir.path().join("shared");
    fs::create_dir(&shared).expect("a directory");
    let program = std::env::current_exe().expect("this program");
    let guest = |stage: &str| {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guest/run"));
        command.args(["-t", "240", "-m", "512"]);
        for image in &images {
            command.arg("-d").arg(image);
        }
        command
            .arg("-s")
            .arg(program.parent().expect("a directory"))
            .arg("-s")
            .arg(format!("{}:rw", shared.display()))
            .arg("--")
            .arg(format!("{} --exact {test} --nocapture", program.display()))
            .env(STAGE, stage)
            .env(SHARED, &shared)
            .env_remove("LD_LIBRARY_PATH")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    };
    let lines = || {
        fs::read_to_string(shared.join("log"))
            .unwrap_or_default()
            .lines()
            .count()
    };
    for cut in 0..CUTS {
        let before = lines();
        let mut running = guest(if cut == 0 { "new" } else { "work" })
            .spawn()
            .expect("the guest starts");
        let begun = Instant::now();
        while lines() <= before {
            if let Some(status) = running.try_wait().expect("a child") {
                let output = running.wait_with_output().expect("its words");
                let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
                if status.code() == Some(125) && std::env::var_os("CI").is_none() && cut == 0 {
                    return testing::skip(&format!("no guest kernel: {}", complaint.trim()));
                }
                panic!("{status}: {}{complaint}", String::from_utf8_lossy(&output.stdout));
            }
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "the guest does nothing"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        // Another moment each time; no two runs have the same.
        let noise = Uuid::new_v4().as_u128() as u64 % 400;
        std::thread::sleep(Duration::from_millis(cut * 150 + noise));
        pull_the_plug(&images[0]);
        running.wait_with_output().expect("it is over");
        let output = guest("look").output().expect("the guest starts");
        let (said, complaint) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        let log = fs::read_to_string(shared.join("log")).unwrap_or_default();
        assert!(
            output.status.success(),
            "cut {cut}: {said}{complaint}\nacknowledged:\n{log}"
        );
        assert!(said.contains("1 passed"), "{said}");
    }
    println!("{CUTS} power cuts survived; {} things were acknowledged", lines());
}

/// Kills the guest's kernel, which is every process that has the disk among its arguments. Nothing is flushed.
fn pull_the_plug(disk: &Path) {
    let argument = format!("ubd0={}", disk.display());
    for process in fs::read_dir("/proc").expect("procfs").flatten() {
        let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let is_ours = arguments
            .split(|byte| *byte == 0)
            .any(|word| word == argument.as_bytes());
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        // timeout(1), which watches it, has the same arguments, and ends with it.
        if is_ours {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}
