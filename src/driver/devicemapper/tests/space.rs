//! Pools on two devices, pools that run full and let writers wait, and data devices that fail.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::*;
use crate::driver::conformance::{name, taking};
use crate::driver::pool::{Pool as Care, Room};

fn make(driver: &Devicemapper, volume: &str) -> Volume {
    driver
        .create(&wish(driver, &name(volume)))
        .expect("created")
        .volume
}

/// Nobody need look whether the pool fills: the kernel tells, once the first threshold is passed and not before.
#[test]
fn the_kernel_tells_of_low_water() {
    with_pools("space::the_kernel_tells_of_low_water", || {
        let scratch = Scratch::new();
        let target = tempfile::tempdir().expect("a mount point");
        let driver = scratch
            .open(&[("loopback", "96M"), ("warnat", "50,90")])
            .expect("a pool");
        let news = driver.news().expect("events").expect("this kernel has them");
        let heard =
            |seconds| crate::sys::poll::readable(news.as_fd(), Duration::from_secs(seconds)).expect("asked");
        let volume = make(&driver, "v");
        driver.mount(&volume, target.path()).expect("mounted");
        let write = |number: u8, mib: usize| {
            let file = File::create(target.path().join(format!("f{number}"))).expect("made");
            file.write_all_at(&vec![number; mib << 20], 0).expect("written");
            file.sync_all().expect("synced");
        };
        write(1, 30);
        news.arm().expect("armed");
        assert_eq!(driver.warnings(), []);
        write(2, 4);
        assert!(!heard(1), "there is nothing to tell");
        write(3, 24);
        assert!(heard(100), "it tells");
        let keys: Vec<String> = driver.warnings().into_iter().map(|warning| warning.key).collect();
        assert_eq!(keys, ["data-50"]);
        news.arm().expect("armed");
        assert!(!heard(0), "it was told");
        // A pool that has no more room has changed its mode.
        let _ = fs::write(target.path().join("rest"), vec![5; 60 << 20]);
        testing::sh(&format!("sync -f {} || true", target.path().display()));
        assert!(heard(100), "it tells that too");
        driver.unmount(&volume, target.path()).expect("unmounted");
    });
}

/// With `dm.nospace=queue`, a writer who finds the pool full waits, and goes on when it has been extended, as if nothing had been.
#[test]
fn a_full_pool_lets_writers_wait_until_it_is_extended() {
    with_pools(
        "space::a_full_pool_lets_writers_wait_until_it_is_extended",
        || {
            let scratch = Scratch::new();
            let target = tempfile::tempdir().expect("a mount point");
            let driver = scratch
                .open(&[("loopback", "96M"), ("nospace", "queue")])
                .expect("a pool");
            assert_eq!(Care::status(&driver).expect("a status").when_full, "queue");
            let volume = make(&driver, "v");
            driver.mount(&volume, target.path()).expect("mounted");
            let write = |number: u8| -> io::Result<()> {
                let file = File::create(target.path().join(format!("f{number}")))?;
                file.write_all_at(&vec![number; 4 << 20], 0)?;
                file.sync_all()
            };
            let begun = Instant::now();
            std::thread::scope(|scope| {
                let writer = scope.spawn(|| (0..30).map(write).collect::<io::Result<Vec<()>>>());
                let full = || driver.pool.status().expect("a status").mode == status::Mode::OutOfData;
                while !full() {
                    assert!(
                        begun.elapsed() < Duration::from_secs(40),
                        "the pool never becomes full"
                    );
                    std::thread::sleep(Duration::from_millis(20));
                }
                let warnings = driver.warnings();
                assert!(
                    warnings.iter().any(|warning| warning.key == "data-95"),
                    "{warnings:?}"
                );
                std::thread::sleep(Duration::from_secs(1));
                assert!(!writer.is_finished(), "it waits");
                driver.extend(Some(Room::To(Bytes(400 << 20)))).expect("extended");
                writer.join().expect("no panic").expect("no write failed");
            });
            for number in 0..30 {
                let found = fs::read(target.path().join(format!("f{number}"))).expect("a file");
                assert!(found == vec![number; 4 << 20], "f{number}");
            }
            let status = Care::status(&driver).expect("a status");
            assert_eq!(
                (status.mode.as_str(), status.data.total),
                ("read-write", 400 << 20)
            );
            driver.unmount(&volume, target.path()).expect("unmounted");
            driver.snapshot(&taking(&volume, "s")).expect("a snapshot");
            assert_eq!(leftovers(&driver), [""; 0]);
        },
    );
}

/// Two devices of the user's, each grown while the pool is at work; and given the wrong way round.
#[test]
fn a_pool_on_two_devices_grows_with_each_of_them() {
    with_pools("space::a_pool_on_two_devices_grows_with_each_of_them", || {
        let scratch = Scratch::new();
        let target = tempfile::tempdir().expect("a mount point");
        let data = Image::new(&scratch, "data", 300 << 20);
        let metadata = Image::new(&scratch, "metadata", 6 << 20);
        let open = |data: &Image, metadata: &Image| {
            let (data, metadata) = (
                data.device.display().to_string(),
                metadata.device.display().to_string(),
            );
            let mut options = options_of(&scratch.root(), &[("datadev", &data), ("metadatadev", &metadata)]);
            options.remove("loopback");
            Devicemapper::open(&scratch.root(), &options)
        };
        let driver = open(&data, &metadata).expect("a pool");
        let volume = make(&driver, "v");
        driver.mount(&volume, target.path()).expect("mounted");
        fs::write(target.path().join("f"), vec![3; 9 << 20]).expect("written");
        let volume = driver.snapshot(&taking(&volume, "s")).expect("a snapshot");
        let before = Care::status(&driver).expect("a status");
        assert_eq!(before.data.total, 300 << 20);
        data.grow(340 << 20);
        let grown = driver.extend(None).expect("taken up");
        assert_eq!(grown.data.total, 340 << 20);
        metadata.grow(16 << 20);
        let grown = driver.extend(None).expect("taken up");
        assert_eq!(grown.metadata.total, 16 << 20, "{before:?}");
        let said = driver
            .extend(Some(Room::By(Bytes(1 << 20))))
            .expect_err("not windlass's to make larger")
            .to_string();
        assert!(said.contains("lvextend"), "{said}");
        // What a backup reads is read from the grown metadata too.
        let source = driver.open_source(&volume, volume.snapshots.first(), &[]);
        drop(source.expect("a source"));
        driver.unmount(&volume, target.path()).expect("unmounted");
        assert_eq!(leftovers(&driver), [""; 0]);
        // So large that its metadata would not do for a new pool; what is there goes on, and is there at the next start.
        data.grow(200 << 30);
        let grown = driver.extend(None).expect("taken up");
        assert_eq!(grown.data.total, 200 << 30);
        drop(driver);
        tear_down(&scratch.root());
        let said = open(&metadata, &data)
            .expect_err("the wrong way round")
            .to_string();
        assert!(
            said.contains("empty") || said.contains("metadatadev") || said.contains("damaged"),
            "{said}"
        );
        let driver = open(&data, &metadata).expect("the right way round, unharmed");
        driver.mount(&volume, target.path()).expect("mounted");
        assert!(fs::read(target.path().join("f")).expect("read") == vec![3; 9 << 20]);
        driver.unmount(&volume, target.path()).expect("unmounted");
        drop(driver);
        tear_down(&scratch.root());
    });
}

/// A data device that fails: whoever writes is told, nothing is left suspended, the driver goes on to answer, and what was
/// synced before is there when the device is.
#[test]
fn a_failing_data_device_leaves_nothing_frozen() {
    with_pools("space::a_failing_data_device_leaves_nothing_frozen", || {
        let scratch = Scratch::new();
        let target = tempfile::tempdir().expect("a mount point");
        let data = Image::new(&scratch, "data", 300 << 20);
        let metadata = Image::new(&scratch, "metadata", 6 << 20);
        let below = data.device.display().to_string();
        let name = format!("windlass-failing-data-{}", std::process::id());
        let sectors = (300u64 << 20) / 512;
        testing::sh(&format!(
            "dmsetup create {name} --table '0 {sectors} linear {below} 0'"
        ));
        let _failing = Removed(name.clone());
        let fail = |fails: bool| {
            let table = match fails {
                true => format!("0 {sectors} error"),
                false => format!("0 {sectors} linear {below} 0"),
            };
            testing::sh(&format!(
                "dmsetup suspend --noflush --nolockfs {name}; dmsetup reload {name} --table '{table}'; dmsetup resume {name}"
            ));
        };
        let (first, second) = (
            format!("/dev/mapper/{name}"),
            metadata.device.display().to_string(),
        );
        let mut options = options_of(&scratch.root(), &[("datadev", &first), ("metadatadev", &second)]);
        options.remove("loopback");
        let driver = Devicemapper::open(&scratch.root(), &options).expect("a pool");
        let (volume, other) = (make(&driver, "v"), make(&driver, "w"));
        driver.mount(&volume, target.path()).expect("mounted");
        fs::write(target.path().join("f"), "precious").expect("written");
        crate::sys::durable::sync_filesystem(target.path()).expect("synced");
        let volume = driver.snapshot(&taking(&volume, "before")).expect("a snapshot");
        fail(true);
        let write = || -> io::Result<()> {
            let file = File::create(target.path().join("g"))?;
            file.write_all_at(&vec![1; 8 << 20], 0)?;
            file.sync_all()
        };
        let error = write().expect_err("the writer is told");
        println!("the write: {error}");
        let begun = Instant::now();
        // The filesystem may or may not be brought to rest; it is not kept there.
        let taken = driver.snapshot(&taking(&volume, "meanwhile"));
        println!("the snapshot: {:?}", taken.as_ref().map(|_| ()));
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        for thin in driver.thins.active().expect("devices") {
            let info = driver.thins.find(thin).expect("asked");
            assert!(
                info.is_none_or(|info| !info.is_suspended),
                "{thin} stays suspended"
            );
        }
        assert_eq!(driver.volumes().expect("listed").volumes.len(), 2);
        let _ = driver.unmount(&volume, target.path());
        testing::detach_all(target.path());
        fail(false);
        drop(driver);
        tear_down(&scratch.root());
        let driver = Devicemapper::open(&scratch.root(), &options).expect("a pool");
        let volume = driver.volume(&volume.name).expect("read").expect("there");
        for volume in [&volume, &other] {
            driver.mount(volume, target.path()).expect("mounted");
            if volume.name.as_str() == "v" {
                let read = fs::read_to_string(target.path().join("f")).expect("read");
                assert_eq!(read, "precious");
            }
            driver.unmount(volume, target.path()).expect("unmounted");
        }
        assert_eq!(leftovers(&driver), [""; 0]);
        drop(driver);
        tear_down(&scratch.root());
    });
}

/// A file as a device, detached when dropped.
struct Image {
    file: File,
    device: PathBuf,
}

impl Image {
    fn new(scratch: &Scratch, name: &str, bytes: u64) -> Self {
        let path = scratch.dir.path().join(name);
        let file = File::create(&path).expect("an image");
        file.set_len(bytes).expect("sparse");
        let device = loops::attach(&path).expect("attached");
        Self { file, device }
    }

    fn grow(&self, bytes: u64) {
        self.file.set_len(bytes).expect("grown");
        loops::refresh(&self.device).expect("told");
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = loops::detach(&self.device);
    }
}

/// A device-mapper device, removed when dropped.
struct Removed(String);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::process::Command::new("dmsetup")
            .args(["remove", "--deferred", &self.0])
            .output();
    }
}
