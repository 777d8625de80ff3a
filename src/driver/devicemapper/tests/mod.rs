//! The driver on real pools: the conformance suite, and what only this driver can do or suffer.
//!
//! Where this machine's kernel has no thin pools, each test runs itself again in a guest kernel that has.

mod care;
mod cuts;
mod deltas;
mod figures;
mod power;
mod space;
mod trouble;

use std::path::{Path, PathBuf};

use super::*;
use crate::driver::conformance::{self, Fixture, wish};
use crate::sys::{loops, testing};

const ROOT: &str = "WINDLASS_TEST_DM_ROOT";
/// Not larger than what the guest's /tmp can hold: the pool goes through all of its space before it uses any again.
const POOL: &str = "800M";
const FS: &str = "WINDLASS_TEST_DM_FS";

/// Runs the body where the kernel has thin pools: here, or as the test of that name in the guest.
fn with_pools(test: &str, body: impl FnOnce()) {
    if testing::root_with_mounts_quietly() && Kernel::open().is_ok() {
        return body();
    }
    // The guest's /tmp is half of its memory, and the pools' files lie there.
    testing::in_guest(&format!("driver::devicemapper::tests::{test}"), 2048);
}

/// The same for a test that runs on demand only.
fn with_pools_ignored(test: &str, body: impl FnOnce()) {
    if testing::root_with_mounts_quietly() && Kernel::open().is_ok() {
        return body();
    }
    testing::in_guest(
        &format!("driver::devicemapper::tests::{test} --include-ignored"),
        2560,
    );
}

/// A pool on sparse files, gone when dropped with all that is on it.
struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a scratch directory"),
        }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("devicemapper")
    }

    fn open(&self, more: &[(&str, &str)]) -> Result<Devicemapper> {
        open(&self.root(), more)
    }
}

/// Each store has a pool of another name, so that tests of one machine do not meet.
fn open(root: &Path, more: &[(&str, &str)]) -> Result<Devicemapper> {
    Devicemapper::open(root, &options_of(root, more))
}

fn options_of(root: &Path, more: &[(&str, &str)]) -> DriverOptions {
    let name = root
        .parent()
        .and_then(Path::file_name)
        .expect("a scratch directory");
    let name = format!("windlass-test{}", name.to_string_lossy().replace('.', "-"));
    let mut options = DriverOptions::new();
    for (key, value) in [
        ("loopback", POOL),
        ("thinpoolname", name.as_str()),
        ("defaultvolumesize", "256M"),
    ]
    .iter()
    .chain(more)
    {
        options.insert((*key).to_owned(), (*value).to_owned());
    }
    options
}

impl Drop for Scratch {
    fn drop(&mut self) {
        testing::detach_all(self.dir.path());
        tear_down(&self.root());
    }
}

/// Removes the devices of a store, whatever state it is in.
fn tear_down(root: &Path) {
    let Ok(Some(marker)) = super::super::document::read::<storage::Marker>(&root.join("pool.json")) else {
        return;
    };
    let kernel = Kernel::open().expect("a kernel with thin pools");
    let ours = format!("WINDLASS-{}-", marker.id.simple());
    // Thin devices before their pool, the pool before what it is on.
    for _ in 0..4 {
        for name in kernel.names().unwrap_or_default() {
            let info = kernel.info(&name).ok().flatten();
            if info.is_some_and(|info| info.uuid.starts_with(&ours)) {
                let _ = kernel.resume(&name);
                let _ = kernel.remove(&name);
            }
        }
    }
    for file in ["data.img", "metadata.img"] {
        if let Ok(Some(device)) = loops::find(root.join(file)) {
            let _ = loops::detach(device);
        }
    }
}

/// Writes over a part of metadata that begin `at` a place of a device or a file: over what tells which blocks of their own are used, whose
/// place is in the superblock. Of a superblock that is lost nobody knows whether a change under way was done.
fn damage_bitmaps(device: &Path, at: u64) {
    use std::os::unix::fs::FileExt;
    let device = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(device)
        .expect("opened");
    let mut place = [0; 8];
    device.read_exact_at(&mut place, at + 208).expect("read");
    let place = at + u64::from_le_bytes(place) * 4096;
    device.write_all_at(b"damage", place + 100).expect("written");
    device.sync_all().expect("synced");
}

/// Mount points and their pool, gone in this order.
struct Guard {
    targets: tempfile::TempDir,
    scratch: Scratch,
}

impl Drop for Guard {
    fn drop(&mut self) {
        testing::detach_all(self.targets.path());
        let _ = &self.scratch;
    }
}

fn fixture(fs: &'static str, size: &'static str) -> Fixture {
    let scratch = Scratch::new();
    let root = scratch.root();
    let targets = tempfile::tempdir().expect("a scratch directory");
    let more = move || [("fs", fs), ("defaultvolumesize", size)];
    let looked_at = scratch.open(&more()).expect("a pool");
    let opened = root.clone();
    Fixture {
        open: Box::new(move || Box::new(open(&opened, &more()).expect("opened"))),
        scratch: targets.path().to_owned(),
        child: (
            "driver::devicemapper::tests::child",
            vec![
                (ROOT.to_owned(), root.display().to_string()),
                (FS.to_owned(), fs.to_owned()),
            ],
        ),
        foreign: None,
        leftovers: Box::new(move || leftovers(&looked_at)),
        _guard: Box::new(Guard { targets, scratch }),
    }
}

/// What no record accounts for: areas of work, thin devices, devices that nobody uses, a metadata snapshot.
fn leftovers(driver: &Devicemapper) -> Vec<String> {
    let mut left = driver.records().names("staging").expect("a directory");
    let known = driver.records().all_thins().expect("records");
    let there = driver
        .pool
        .with_metadata(|metadata| metadata.devices())
        .expect("metadata");
    left.extend(
        there
            .keys()
            .filter(|thin| !known.contains_key(&ThinId(**thin)))
            .map(|thin| format!("thin device {thin} of nobody")),
    );
    left.extend(
        known
            .iter()
            .filter(|(thin, _)| !there.contains_key(&thin.0))
            .map(|(thin, what)| format!("{what} without its thin device {thin}")),
    );
    left.extend(
        driver
            .thins
            .active()
            .expect("devices")
            .into_iter()
            .filter(|thin| {
                let info = driver.thins.find(*thin).expect("a device");
                info.is_none_or(|info| info.open == 0 || info.is_suspended)
            })
            .map(|thin| format!("device {thin} that nobody uses")),
    );
    let status = driver.pool.status().expect("a status");
    left.extend(status.holds_metadata.then(|| "a metadata snapshot".to_owned()));
    left
}

/// Acts only as a child of the suite.
#[test]
fn child() {
    conformance::child(|| {
        let root = PathBuf::from(std::env::var_os(ROOT).expect("a root"));
        let fs = std::env::var(FS).expect("a filesystem");
        let size = if fs == "xfs" { "320M" } else { "128M" };
        Box::new(open(&root, &[("fs", &fs), ("defaultvolumesize", size)]).expect("opened"))
    });
}

#[test]
fn conforms_with_ext4() {
    with_pools("conforms_with_ext4", || {
        conformance::suite(|| fixture("ext4", "128M"));
    });
}

#[test]
fn conforms_with_xfs() {
    with_pools("conforms_with_xfs", || {
        if testing::has_program("mkfs.xfs") {
            conformance::suite(|| fixture("xfs", "320M"));
        }
    });
}
