//! Power cuts for real, at each fault point: the guest's kernel dies in the middle of an operation, with everything that it had
//! not written to its disks, and is started again on them.
//!
//! Each life of the guest judges what the one before has left, prepares the next operation and dies in it. Of each operation, every
//! point that has a name is taken once (one that is passed several times, at another of its times in each operation), and the moment
//! in which it is acknowledged. Some of the lives die while they recover.
//!
//! The records' filesystem is mounted so that it writes nothing of its own accord: what survives was synced.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::process::{Command, Output};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::*;
use crate::driver::conformance::Life;
use crate::driver::convoy::Adoption;
use crate::driver::pool::{AtRest, Pool as Care, PoolRepair, Room};
use crate::sys::exec::Exec;
use crate::sys::fault;
use crate::sys::testing::IN_GUEST;

/// What a process in the guest is to do: `life` or `recovery`.
const STAGE: &str = "WINDLASS_TEST_CUTS";
/// The directory that guest and machine share.
const SHARED: &str = "WINDLASS_TEST_CUTS_SHARED";
/// How many lives there were, this one included.
const LIVES: &str = "WINDLASS_TEST_CUTS_LIVES";
/// What is to be done in this life.
const DEED: &str = "WINDLASS_TEST_CUTS_DEED";

/// `/dev/ubda` and so on: a pool, the records, and what the deeds about pools take.
const DISKS: [&str; 5] = ["pool", "records", "empty", "convoy-data", "convoy-metadata"];

/// What was under way when the power went: written outside of the guest.
#[derive(Debug, Serialize, Deserialize)]
struct Pending {
    deed: String,
    /// What it was about, in its play's own words.
    about: Value,
    /// It had been done, and whoever wanted it had been told so.
    #[serde(default)]
    is_done: bool,
}

/// Deeds of one kind, in one life of the guest.
trait Play {
    /// What there is to do.
    fn deeds(&self) -> Vec<&'static str>;
    /// Makes what the deed is about.
    fn prepare(&self, deed: &str) -> Value;
    fn run(&self, deed: &str, about: &Value);
    /// In a later life: finishes or undoes it as the program would, and sees that all is whole.
    fn judge(&self, pending: &Pending) -> Outcome;
    /// The same, to die meanwhile.
    fn recover(&self, pending: &Pending);
}

/// Where the records are, mounted.
fn root() -> PathBuf {
    PathBuf::from("/tmp/root/devicemapper")
}

fn mount_records(lives: u32) {
    let place = root();
    let place = place.parent().expect("a directory");
    fs::create_dir_all(place).expect("a mount point");
    if lives == 1 {
        testing::sh("mkfs.ext4 -q -F /dev/ubdb");
    }
    if !testing::sh("cat /proc/mounts").contains("/dev/ubdb") {
        let mount = format!(
            "mount -o commit=900,noauto_da_alloc /dev/ubdb {}",
            place.display()
        );
        testing::sh(&mount);
    }
}

fn options_with(given: &[(&str, &str)]) -> DriverOptions {
    let pairs = given
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    pairs.collect()
}

/// One disk, divided.
fn one_disk() -> DriverOptions {
    options_with(&[("device", "/dev/ubda"), ("defaultvolumesize", "64M")])
}

/// The pool and the records are of one mind, and every filesystem is as sound as whoever mounts it needs it.
fn must_be_sound(driver: &Devicemapper) {
    let journal = driver.ledger.journal();
    let status = driver.pool.status().expect("a status");
    assert_eq!(journal.change, None, "nothing is under way any more");
    assert_eq!(status.transaction, journal.transaction);
    assert!(!status.needs_check, "{status:?}");
    for (thin, what) in driver.records().all_thins().expect("records") {
        if what.starts_with("staging") {
            continue;
        }
        let size = driver.records();
        let size = size_of(size, thin);
        let device = driver.pin(thin, size, Writable::Yes).expect("active");
        filesystem::repair(device.path()).expect("sound");
        let check = Exec::new("e2fsck").args(["-f", "-n"]).arg(device.path()).run();
        if let Err(error) = check {
            panic!("{what}, thin device {thin}: {error}");
        }
    }
}

/// The size of the volume that a thin device belongs to.
fn size_of(records: &Records, thin: ThinId) -> u64 {
    for room in ["volumes", "kept", "trash"] {
        for name in records.names(room).expect("a directory") {
            let path = records.root().join(room).join(&name);
            let record: Record = super::super::super::document::read(&path)
                .expect("read")
                .expect("there");
            if record.thins().any(|found| found == thin) {
                return record.volume.size.expect("a size").0;
            }
        }
    }
    panic!("no record names thin device {thin}")
}

/// The driver's operations, as the suite for all drivers knows them.
struct Operations(Life);

impl Operations {
    fn new(lives: u32) -> Self {
        let looked_at = Devicemapper::open(&root(), &one_disk()).expect("the pool comes up");
        must_be_sound(&looked_at);
        let scratch = PathBuf::from("/tmp/scratch");
        fs::create_dir_all(&scratch).expect("a directory");
        let life = Life::new(
            Fixture {
                open: Box::new(|| Box::new(Devicemapper::open(&root(), &one_disk()).expect("opened"))),
                scratch,
                child: ("", Vec::new()),
                foreign: None,
                leftovers: Box::new(move || leftovers(&looked_at)),
                _guard: Box::new(()),
            },
            lives,
        );
        if lives == 1 {
            life.begin();
        }
        Self(life)
    }
}

impl Play for Operations {
    fn deeds(&self) -> Vec<&'static str> {
        // Of what this driver cannot do, the suite sees that it is refused; and one fill is as the other.
        let mut titles = self.0.titles();
        titles.retain(|title| !["adopt", "fill a volume that waits for its data"].contains(title));
        titles
    }

    fn prepare(&self, deed: &str) -> Value {
        serde_json::to_value(self.0.prepare(deed)).expect("an operation is JSON")
    }

    fn run(&self, _: &str, about: &Value) {
        self.0
            .run(&serde_json::from_value(about.clone()).expect("an operation"));
    }

    fn judge(&self, pending: &Pending) -> Outcome {
        let operation = serde_json::from_value(pending.about.clone()).expect("an operation");
        self.0.judge(&pending.deed, &operation, pending.is_done)
    }

    fn recover(&self, pending: &Pending) {
        let operation = serde_json::from_value(pending.about.clone()).expect("an operation");
        self.0.recover(&operation);
    }
}

/// What guest and machine share.
fn shared() -> PathBuf {
    PathBuf::from(std::env::var_os(SHARED).expect("a directory"))
}

/// What a process in the guest does.
fn act(stage: &str, play: impl FnOnce(u32) -> Box<dyn Play>) {
    let shared = shared();
    let lives: u32 = std::env::var(LIVES).expect("a number").parse().expect("a number");
    mount_records(lives);
    let play = play(lives);
    let path = shared.join("pending");
    let pending: Option<Pending> = fs::read(&path)
        .ok()
        .map(|bytes| serde_json::from_slice(&bytes).expect("what was under way"));
    if stage == "recovery" {
        return play.recover(&pending.expect("something was under way"));
    }
    if let Some(pending) = pending {
        let outcome = play.judge(&pending);
        fs::write(shared.join("outcome"), format!("{outcome:?}")).expect("written");
        fs::remove_file(&path).expect("removed");
    }
    match std::env::var(DEED).expect("a deed").as_str() {
        "" => {}
        "deeds" => fs::write(shared.join("deeds"), play.deeds().join("\n")).expect("written"),
        deed => {
            let pending = Pending {
                deed: deed.to_owned(),
                about: play.prepare(deed),
                is_done: false,
            };
            fs::write(&path, serde_json::to_vec(&pending).expect("JSON")).expect("written");
            fault::point("cut.begin");
            play.run(deed, &pending.about);
            fault::point("cut.acknowledged");
            unreachable!("the power goes at the latest when all is done")
        }
    }
}

/// The machine outside of the guest.
struct Machine {
    dir: tempfile::TempDir,
    test: String,
    lives: u32,
}

/// What became of a life.
enum End {
    /// The power went, after these points.
    Cut(Vec<String>),
    Lived,
    /// There is no such kernel here.
    NoGuest(String),
}

impl Machine {
    fn new(test: &str) -> Self {
        let dir = tempfile::tempdir().expect("a scratch directory");
        for disk in DISKS {
            File::create(dir.path().join(disk))
                .and_then(|file| file.set_len(1 << 30))
                .expect("a disk");
        }
        fs::create_dir(dir.path().join("shared")).expect("a directory");
        Self {
            dir,
            test: format!("driver::devicemapper::tests::cuts::{test}"),
            lives: 0,
        }
    }

    fn shared(&self) -> PathBuf {
        self.dir.path().join("shared")
    }

    /// One life of the guest: with `recovery`, a process that dies at its so-manieth point comes first; then one that does the
    /// deed and dies at `fault`.
    fn live(&mut self, deed: &str, fault: &str, recovery: Option<usize>) -> End {
        self.lives += 1;
        let shared = self.shared();
        let trace = shared.join("trace");
        let _ = fs::remove_file(&trace);
        let program = std::env::current_exe().expect("this program");
        let process = |stage: &str, fault: &str, scope: &str| {
            format!(
                "{STAGE}={stage} WINDLASS_FAULT={fault} WINDLASS_FAULT_SCOPE={scope} {} --exact {} --nocapture",
                program.display(),
                self.test
            )
        };
        let mut commands = Vec::new();
        commands.extend(recovery.map(|point| process("recovery", &point.to_string(), "")));
        commands.push(process("life", fault, "cut."));
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guest/run"));
        command.args(["-t", "240", "-m", "512"]);
        for disk in DISKS {
            command.arg("-d").arg(self.dir.path().join(disk));
        }
        let output = command
            .arg("-s")
            .arg(program.parent().expect("a directory"))
            .arg("-s")
            .arg(format!("{}:rw", shared.display()))
            .arg("--")
            .arg(commands.join(" && "))
            .env(SHARED, &shared)
            .env(LIVES, self.lives.to_string())
            .env(DEED, deed)
            .env("WINDLASS_FAULT_POWER", "1")
            .env("WINDLASS_FAULT_TRACE", &trace)
            .env(IN_GUEST, "1")
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .expect("the guest starts");
        self.end(&output, deed, fault, &trace)
    }

    fn end(&self, output: &Output, deed: &str, fault: &str, trace: &Path) -> End {
        let said = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        let passed = fs::read_to_string(trace).unwrap_or_default();
        let began = said.contains("running 1 test");
        match output.status.code() {
            Some(0) if said.contains("1 passed") => End::Lived,
            Some(125) if began && !passed.is_empty() => End::Cut(passed.lines().map(str::to_owned).collect()),
            Some(125) if !began && self.lives == 1 => End::NoGuest(complaint.trim().to_owned()),
            _ => panic!(
                "life {}, to die in {deed:?} at {fault:?}: {}\n{said}\n{complaint}\npassed:\n{passed}",
                self.lives, output.status
            ),
        }
    }

    fn set_done(&self) {
        let path = self.shared().join("pending");
        let mut pending: Pending =
            serde_json::from_slice(&fs::read(&path).expect("under way")).expect("JSON");
        pending.is_done = true;
        fs::write(&path, serde_json::to_vec(&pending).expect("JSON")).expect("written");
    }
}

/// Which of the points that an operation passes are its ends: each name once, one that comes several times at its `turn`th.
fn chosen(passed: &[String], turn: usize) -> Vec<usize> {
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    // Behind the last thing that is written, all is as when it is acknowledged.
    let written = passed.iter().rposition(|name| name.starts_with("durable."));
    for (at, name) in passed
        .iter()
        .enumerate()
        .take(written.map_or(passed.len(), |at| at + 1))
    {
        if !name.starts_with("cut.") {
            places.entry(name).or_default().push(at + 1);
        }
    }
    let mut chosen: Vec<usize> = places.values().map(|at| at[turn % at.len()]).collect();
    chosen.sort_unstable();
    chosen
}

/// Every part-th of a play's deeds, from the `part`th: parts are tests of their own, so that they run beside each other.
fn cut_everywhere(test: &str, play: fn(u32) -> Box<dyn Play>, (part, parts): (usize, usize)) {
    if let Ok(stage) = std::env::var(STAGE) {
        return act(&stage, play);
    }
    // Natively there is no power to cut.
    if std::env::var_os(IN_GUEST).is_some() || !testing::root_with_mounts() {
        return;
    }
    let begun = Instant::now();
    let mut machine = Machine::new(test);
    match machine.live("deeds", "", None) {
        End::Lived => {}
        End::Cut(passed) => panic!("the power went by itself after {passed:?}"),
        End::NoGuest(why) => {
            assert!(std::env::var_os("CI").is_none(), "no guest on CI: {why}");
            return testing::skip(&format!("no guest kernel: {why}"));
        }
    }
    let deeds = fs::read_to_string(machine.shared().join("deeds")).expect("deeds");
    let mut cuts = 0;
    for (turn, deed) in deeds.lines().enumerate().filter(|(turn, _)| turn % parts == part) {
        let End::Cut(passed) = machine.live(deed, "cut.acknowledged", None) else {
            panic!("{deed}: it was not done")
        };
        assert_eq!(passed.last().map(String::as_str), Some("cut.acknowledged"));
        machine.set_done();
        let points = chosen(&passed, turn);
        let mut recovery = None;
        for (number, point) in points.iter().enumerate() {
            // The one that judges the last one may die over it first.
            if let Some(at) = recovery.take() {
                match machine.live("", "", Some(at)) {
                    End::Cut(_) => cuts += 1,
                    End::Lived => {}
                    End::NoGuest(why) => panic!("{why}"),
                }
            }
            let End::Cut(now) = machine.live(deed, &point.to_string(), None) else {
                panic!("{deed}: it has no point {point}")
            };
            assert_eq!(now[..], passed[..*point], "{deed}, point {point}");
            recovery = (number % 4 == turn % 4).then_some(1 + (number * 3 + turn) % 8);
        }
        cuts += points.len() + 1;
        println!(
            "{deed}: the power went at {} of {} points",
            points.len() + 1,
            passed.len() - 1
        );
    }
    let End::Lived = machine.live("", "", None) else {
        panic!("the power went by itself")
    };
    println!(
        "{cuts} power cuts in {} lives survived, in {} s",
        machine.lives,
        begun.elapsed().as_secs()
    );
}

fn operations(lives: u32) -> Box<dyn Play> {
    Box::new(Operations::new(lives))
}

#[test]
fn operations_are_done_or_not_done_1() {
    cut_everywhere("operations_are_done_or_not_done_1", operations, (0, 2));
}

#[test]
fn operations_are_done_or_not_done_2() {
    cut_everywhere("operations_are_done_or_not_done_2", operations, (1, 2));
}

/// What is done to pools, and by backups.
struct Pools;

/// What the volumes of [`Pools`] hold.
const CONTENT: [u8; 3 << 20] = [7; 3 << 20];
/// A state that a repository has.
const REPOSITORY: &str = "0123456789abcdef";

fn loopback() -> (PathBuf, DriverOptions) {
    let options = [
        ("loopback", "300M"),
        ("thinpoolname", "windlass-loop"),
        ("defaultvolumesize", "64M"),
    ];
    (PathBuf::from("/tmp/root/loopback"), options_with(&options))
}

fn empty_disk() -> (PathBuf, DriverOptions) {
    let options = [
        ("device", "/dev/ubdc"),
        ("thinpoolname", "windlass-first"),
        ("defaultvolumesize", "64M"),
    ];
    (PathBuf::from("/tmp/root/first"), options_with(&options))
}

fn convoy_s() -> (PathBuf, DriverOptions) {
    let options = [
        ("datadev", "/dev/ubdd"),
        ("metadatadev", "/dev/ubde"),
        ("thinpoolname", "windlass-import"),
    ];
    (PathBuf::from("/tmp/root/import"), options_with(&options))
}

fn start((root, options): &(PathBuf, DriverOptions)) -> Result<Devicemapper> {
    Devicemapper::open(root, options)
}

/// Runs `work` with a filesystem mounted.
fn inside<T>(driver: &Devicemapper, volume: &Volume, work: impl FnOnce(&Path) -> T) -> T {
    let target = Path::new("/tmp/target");
    fs::create_dir_all(target).expect("a mount point");
    driver.mount(volume, target).expect("mounted");
    let done = work(target);
    driver.unmount(volume, target).expect("unmounted");
    done
}

fn write_synced(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("written");
    File::open(path).and_then(|file| file.sync_all()).expect("synced");
}

/// A volume `v` with content and a snapshot of that.
fn furnish(driver: &Devicemapper) -> Volume {
    let volume = driver
        .create(&wish(driver, &conformance::name("v")))
        .expect("created")
        .volume;
    inside(driver, &volume, |dir| write_synced(&dir.join("f"), &CONTENT));
    driver
        .snapshot(&conformance::taking(&volume, "s"))
        .expect("a snapshot")
}

/// What [`furnish`] made is as it was.
fn must_be_furnished(driver: &Devicemapper) {
    must_be_sound(driver);
    assert_eq!(leftovers(driver), [""; 0]);
    let volume = the_volume(driver);
    inside(driver, &volume, |dir| {
        assert!(fs::read(dir.join("f")).expect("read") == CONTENT)
    });
    assert!(snapshot_has(driver, &volume, "s", &CONTENT));
}

fn the_volume(driver: &Devicemapper) -> Volume {
    let found = driver.volume(&conformance::name("v")).expect("read");
    found.expect("there")
}

/// Whether that is what the snapshot's file begins with.
fn snapshot_has(driver: &Devicemapper, volume: &Volume, snapshot: &str, content: &[u8]) -> bool {
    let snapshot = volume.snapshot(&conformance::name(snapshot)).expect("a snapshot");
    let Ok(Source::Block(image)) = driver.open_source(volume, Some(snapshot), &[]) else {
        panic!("a device")
    };
    let mounted =
        crate::sys::detached::Detached::mount(&image.path, "ext4", &["ro", "noload"]).expect("mounted");
    fs::read(mounted.path().join("f"))
        .expect("read")
        .starts_with(content)
}

/// Stops a pool, and damages its metadata.
fn damage(pool: &(PathBuf, DriverOptions), device: &str, at: u64) {
    drop(start(pool).expect("the pool comes up"));
    tear_down(&pool.0);
    damage_bitmaps(Path::new(device), at);
}

fn heal((root, options): &(PathBuf, DriverOptions)) -> Result<PoolRepair> {
    AtRest::repair(&Healer::new(root.clone(), options.clone()), false)
}

fn take_over((root, options): &(PathBuf, DriverOptions)) -> Result<Adoption> {
    let healer = Healer::new(root.clone(), options.clone());
    AtRest::adopt_convoy(&healer, Path::new("/tmp/root/convoy"), &Default::default(), false)
}

const BACKUP: &str = "back up";
const WRITER: &str = "snapshot under a writer";
const EXTEND: &str = "extend";
const SPARE: &str = "repair by way of the spare";
const FILE: &str = "repair by way of a file";
const FIRST: &str = "start for the first time";
const IMPORT: &str = "take over a pool of Convoy's";

impl Pools {
    fn new(lives: u32) -> Self {
        if lives == 1 {
            furnish(&start(&Self::divided()).expect("a pool"));
            furnish(&start(&loopback()).expect("a pool"));
            testing::sh(
                r#"mkdir -p /tmp/root/convoy/devicemapper; cd /tmp/root/convoy/devicemapper
                S=$(blockdev --getsz /dev/ubdd)
                dmsetup create convoy-pool --table "0 $S thin-pool /dev/ubde /dev/ubdd 4096 0"
                dmsetup message convoy-pool 0 "create_thin 1"
                dmsetup create a --table "0 $((64*2048)) thin /dev/mapper/convoy-pool 1"
                mkfs.ext4 -q /dev/mapper/a; mkdir -p /tmp/target; mount /dev/mapper/a /tmp/target
                head -c 3M /dev/zero | tr '\0' '\7' >/tmp/target/f; umount /tmp/target
                dmsetup message convoy-pool 0 "create_snap 2 1"
                dmsetup remove a; dmsetup remove convoy-pool
                echo '{"Root":"/tmp/root/convoy/devicemapper","DataDevice":"/dev/ubdd","MetadataDevice":"/dev/ubde",
                  "ThinpoolDevice":"/dev/mapper/convoy-pool","ThinpoolSize":'$((S*512))',"ThinpoolBlockSize":4096,
                  "DefaultVolumeSize":107374182400,"LastDevID":2,"Filesystem":"ext4"}' >devicemapper.cfg
                echo '{"Name":"v","DevID":1,"Size":67108864,"Filesystem":"ext4","MountPoint":"",
                  "CreatedTime":"Fri Nov 20 08:00:00 +0000 2026","Snapshots":{"s":{"Name":"s","DevID":2,
                  "CreatedTime":"Fri Nov 20 09:00:00 +0000 2026","Activated":false}}}' >devicemapper_volume_v.json; sync"#,
            );
        }
        Self
    }

    fn divided() -> (PathBuf, DriverOptions) {
        (root(), one_disk())
    }

    /// What a daemon's start finds where a repair was wanted: whether it was finished, and finished now at the latest.
    fn healed(pool: &(PathBuf, DriverOptions), must_be_done: bool) -> Outcome {
        let (driver, outcome) = match start(pool) {
            Ok(driver) => (driver, Outcome::Finished),
            Err(error) => {
                assert!(!must_be_done, "{error}");
                assert!(error.to_string().contains("windlass pool repair"), "{error}");
                assert!(heal(pool).expect("repaired").damaged.is_some());
                (start(pool).expect("the pool comes up"), Outcome::Undone)
            }
        };
        must_be_furnished(&driver);
        assert!(!pool.0.join("repair.json").exists());
        outcome
    }
}

impl Play for Pools {
    fn deeds(&self) -> Vec<&'static str> {
        vec![BACKUP, WRITER, EXTEND, SPARE, FILE, FIRST, IMPORT]
    }

    fn prepare(&self, deed: &str) -> Value {
        match deed {
            // What the last backup has is kept; there is a newer snapshot.
            BACKUP => {
                let driver = start(&Self::divided()).expect("the pool comes up");
                let volume = the_volume(&driver);
                driver
                    .keep_base(&volume, &volume.snapshots[0], REPOSITORY)
                    .expect("kept");
                let volume = driver
                    .snapshot(&conformance::taking(&volume, "newer"))
                    .expect("a snapshot");
                serde_json::to_value(volume).expect("JSON")
            }
            WRITER => {
                let driver = start(&Self::divided()).expect("the pool comes up");
                let operation = Operation::Snapshot(conformance::taking(&the_volume(&driver), "written"));
                serde_json::to_value(operation).expect("JSON")
            }
            EXTEND => {
                let driver = start(&loopback()).expect("the pool comes up");
                driver.pool.status().expect("a status").data.total.into()
            }
            SPARE => {
                damage(&Self::divided(), "/dev/ubda", 1 << 20);
                Value::Null
            }
            FILE => {
                damage(&loopback(), "/tmp/root/loopback/metadata.img", 0);
                Value::Null
            }
            FIRST => {
                let (root, _) = empty_disk();
                tear_down(&root);
                testing::sh(&format!(
                    "rm -rf {0}; sync -f /tmp/root; dd if=/dev/zero of=/dev/ubdc bs=1M count=16 conv=fsync status=none",
                    root.display()
                ));
                Value::Null
            }
            _ => {
                let (root, _) = convoy_s();
                tear_down(&root);
                testing::sh(&format!("rm -rf {0}; sync -f /tmp/root", root.display()));
                Value::Null
            }
        }
    }

    fn run(&self, deed: &str, about: &Value) {
        match deed {
            BACKUP => {
                let driver = start(&Self::divided()).expect("the pool comes up");
                let volume: Volume = serde_json::from_value(about.clone()).expect("a volume");
                let [old, newer] = &volume.snapshots[..] else {
                    panic!("two snapshots")
                };
                let source = driver
                    .open_source(&volume, Some(newer), &[old.id.uuid()])
                    .expect("a source");
                let Source::Block(image) = &source else {
                    panic!("a device")
                };
                assert!(image.changed.is_some());
                fault::point("backup.read");
                drop(source);
                driver.keep_base(&volume, newer, REPOSITORY).expect("kept");
            }
            WRITER => {
                let driver = start(&Self::divided()).expect("the pool comes up");
                let Ok(Operation::Snapshot(take)) = serde_json::from_value(about.clone()) else {
                    panic!("a snapshot")
                };
                let target = Path::new("/tmp/target");
                fs::create_dir_all(target).expect("a mount point");
                driver.mount(&take.volume, target).expect("mounted");
                // Some of it synced, some not.
                write_synced(&target.join("g"), &CONTENT);
                fs::write(shared().join("synced"), "").expect("written");
                fs::write(target.join("h"), [9; 1 << 20]).expect("written");
                driver.snapshot(&take).expect("a snapshot");
            }
            EXTEND => {
                let driver = start(&loopback()).expect("the pool comes up");
                let more = Room::By(Bytes(32 << 20));
                Care::extend(&driver, Some(more)).expect("extended");
            }
            SPARE => assert!(heal(&Self::divided()).expect("repaired").damaged.is_some()),
            FILE => assert!(heal(&loopback()).expect("repaired").damaged.is_some()),
            FIRST => drop(start(&empty_disk()).expect("a pool")),
            _ => assert_eq!(take_over(&convoy_s()).expect("taken over").adopted.len(), 1),
        }
    }

    fn judge(&self, pending: &Pending) -> Outcome {
        let done = |is_done: bool| match is_done {
            true => Outcome::Finished,
            false => {
                assert!(!pending.is_done, "{pending:?}");
                Outcome::Undone
            }
        };
        match pending.deed.as_str() {
            BACKUP => {
                let driver = start(&Self::divided()).expect("the pool comes up");
                must_be_furnished(&driver);
                let before: Volume = serde_json::from_value(pending.about.clone()).expect("a volume");
                let volume = the_volume(&driver);
                assert_eq!(volume, before);
                let record = driver
                    .records()
                    .volume(&volume.name)
                    .expect("read")
                    .expect("there");
                let base = record.bases[REPOSITORY].snapshot;
                let newer = volume.snapshots[1].clone();
                let outcome = done(base == newer.id.uuid());
                // Whichever it is, the next backup reads what has changed since.
                assert!(volume.snapshots.iter().any(|snapshot| snapshot.id.uuid() == base));
                let source = driver
                    .open_source(&volume, Some(&newer), &[base])
                    .expect("a source");
                assert!(matches!(
                    &source,
                    Source::Block(image) if image.changed.is_some()
                ));
                drop(source);
                let removal = RemoveSnapshot {
                    volume,
                    snapshot: newer,
                };
                driver.remove_snapshot(&removal).expect("removed");
                outcome
            }
            WRITER => {
                let driver = start(&Self::divided()).expect("the pool comes up");
                let operation: Operation = serde_json::from_value(pending.about.clone()).expect("JSON");
                let outcome = driver.recover(&operation).expect("recovered");
                must_be_furnished(&driver);
                let volume = the_volume(&driver);
                let was_synced = fs::remove_file(shared().join("synced")).is_ok();
                inside(&driver, &volume, |dir| {
                    if was_synced {
                        assert!(fs::read(dir.join("g")).expect("read") == CONTENT);
                    }
                    for file in ["g", "h"] {
                        let _ = fs::remove_file(dir.join(file));
                    }
                });
                let written = volume.snapshot(&conformance::name("written"));
                assert_eq!(written.is_some(), outcome == Outcome::Finished);
                if let Some(snapshot) = written.cloned() {
                    assert!(snapshot_has(&driver, &volume, "written", &CONTENT));
                    let removal = RemoveSnapshot { volume, snapshot };
                    driver.remove_snapshot(&removal).expect("removed");
                }
                done(outcome == Outcome::Finished)
            }
            EXTEND => {
                let driver = start(&loopback()).expect("the pool comes up");
                must_be_furnished(&driver);
                let before = pending.about.as_u64().expect("a number");
                let now = driver.pool.status().expect("a status").data.total;
                let more = (32 << 20) / driver.pool.block_bytes();
                assert!(now == before || now == before + more, "{before} became {now}");
                done(now > before)
            }
            SPARE => Self::healed(&Self::divided(), pending.is_done),
            FILE => Self::healed(&loopback(), pending.is_done),
            FIRST => {
                let driver = start(&empty_disk()).expect("whatever was done of it, it goes on");
                furnish(&driver);
                must_be_furnished(&driver);
                Outcome::Finished
            }
            _ => {
                let pool = convoy_s();
                let (driver, outcome) = match start(&pool) {
                    Ok(driver) => (driver, done(true)),
                    Err(_) => {
                        assert_eq!(take_over(&pool).expect("taken over").adopted.len(), 1);
                        (start(&pool).expect("the pool comes up"), done(false))
                    }
                };
                must_be_furnished(&driver);
                outcome
            }
        }
    }

    fn recover(&self, pending: &Pending) {
        match pending.deed.as_str() {
            BACKUP => drop(start(&Self::divided()).expect("the pool comes up")),
            WRITER => {
                let driver = start(&Self::divided()).expect("the pool comes up");
                let operation = serde_json::from_value(pending.about.clone()).expect("JSON");
                driver.recover(&operation).expect("recovered");
            }
            EXTEND => drop(start(&loopback()).expect("the pool comes up")),
            SPARE => drop(heal(&Self::divided()).expect("repaired")),
            FILE => drop(heal(&loopback()).expect("repaired")),
            FIRST => drop(start(&empty_disk()).expect("a pool")),
            _ => {
                if start(&convoy_s()).is_err() {
                    take_over(&convoy_s()).expect("taken over");
                }
            }
        }
    }
}

fn pools(lives: u32) -> Box<dyn Play> {
    Box::new(Pools::new(lives))
}

#[test]
fn work_on_pools_is_done_or_not_done_1() {
    cut_everywhere("work_on_pools_is_done_or_not_done_1", pools, (0, 2));
}

#[test]
fn work_on_pools_is_done_or_not_done_2() {
    cut_everywhere("work_on_pools_is_done_or_not_done_2", pools, (1, 2));
}
