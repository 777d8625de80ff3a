//! Creating, mounting, snapshotting: beside the bare commands that do the same, LVM's, and the predecessor's figures.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::daemon::{Daemon, shell, text};
use super::pool::{self, Bench};
use super::report::{Goal, Report, Series};
use super::rounds;

const SIZE: u64 = 1 << 30;
/// Thin ids that the daemon does not come to.
const BARE: u64 = 900_000;

/// Everything about them.
pub fn measure(report: &mut Report) {
    let bench = Bench::new(&["dm.loopback=1100M", "dm.defaultvolumesize=1G"]);
    let daemon = bench.start();
    report.table(
        "Volumes and snapshots",
        "Volumes of 1 GiB with ext4. The writer syncs nothing: it writes the same 2 MiB of each of the filesystems anew every 20 ms.",
    );
    volumes(report, &bench, &daemon);
    snapshots(report, &bench, &daemon);
}

fn volumes(report: &mut Report, bench: &Bench, daemon: &Daemon<'_>) {
    let at = bench.path().join("bare");
    std::fs::create_dir(&at).expect("a mount point");
    let [
        mut create,
        mut mount,
        mut both,
        mut unmount,
        mut delete,
        mut command,
        mut bare,
    ]: [Series; 7] = Default::default();
    for round in 0..rounds(15) as u64 {
        let body = format!(
            r#"{{"Name":"v{round}","ID":"c","Opts":{{"driver":"devicemapper","on-remove":"delete"}}}}"#
        );
        both.time(|| {
            create.time(|| daemon.ok("VolumeDriver.Create", &body));
            mount.time(|| daemon.ok("VolumeDriver.Mount", &body));
        });
        unmount.time(|| daemon.ok("VolumeDriver.Unmount", &body));
        delete.time(|| daemon.ok("VolumeDriver.Remove", &body));
        let name = format!("c{round}");
        command.time(|| {
            daemon.say(&[
                "create",
                &name,
                "--driver",
                "devicemapper",
                "-O",
                "on-remove=delete",
            ])
        });
        daemon.say(&["delete", &name]);
        let (thin, device) = (BARE + round, format!("bare{round}"));
        bare.time(|| make_bare(&device, thin, &at));
        shell(&["umount", text(&at)]);
        pool::deactivate(&device);
        pool::message(&format!("delete {thin}"));
    }
    let what = "create and mount, by Docker's protocol";
    let other = "create_thin, dmsetup create, mkfs.ext4, mount";
    report.row(what, &both, Some((other, &bare)), Goal::AtMost(1.5));
    let old = |name| format!("the predecessor, {name}");
    let ms = Duration::from_millis;
    for (what, series, took, goal) in [
        ("the same", &both, 119 + 77, Goal::Faster(1.5)),
        ("create, by the protocol", &create, 119, Goal::None),
        ("create, by command", &command, 174, Goal::None),
        ("mount, by the protocol", &mount, 77, Goal::None),
        ("unmount, by the protocol", &unmount, 43, Goal::None),
        ("delete, by the protocol", &delete, 44, Goal::None),
    ] {
        report.beside(what, series, &old("once"), ms(took), goal);
    }
}

/// What a person would type.
fn make_bare(device: &str, thin: u64, at: &Path) {
    pool::message(&format!("create_thin {thin}"));
    let path = pool::activate(device, thin, SIZE);
    shell(&[
        "mkfs.ext4",
        "-q",
        "-E",
        "nodiscard,lazy_itable_init=1,lazy_journal_init=1",
        text(&path),
    ]);
    shell(&["mount", text(&path), text(at)]);
}

fn snapshots(report: &mut Report, bench: &Bench, daemon: &Daemon<'_>) {
    daemon.ok(
        "VolumeDriver.Create",
        r#"{"Name":"v","Opts":{"driver":"devicemapper"}}"#,
    );
    daemon.ok("VolumeDriver.Mount", r#"{"Name":"v","ID":"c"}"#);
    let at = daemon.ok("VolumeDriver.Path", r#"{"Name":"v"}"#)["Mountpoint"].clone();
    let ours = PathBuf::from(at.as_str().expect("a path"));
    let thin = bench.record("v")["thin"].as_u64().expect("a thin id");
    let device = format!("{}-{thin}", pool::POOL);
    let lvm = Lvm::new(bench.path());
    if let Err(why) = &lvm {
        report_later(why);
    }
    let idle = each_way(daemon, &device, thin, lvm.as_ref().ok());
    let mut written: Vec<PathBuf> = vec![ours];
    written.extend(lvm.as_ref().ok().map(|lvm| lvm.at.clone()));
    let stop = AtomicBool::new(false);
    let busy = std::thread::scope(|scope| {
        let (stop, written) = (&stop, &written);
        scope.spawn(move || write(written, stop));
        let busy = each_way(daemon, &device, thin, lvm.as_ref().ok());
        stop.store(true, Ordering::SeqCst);
        busy
    });
    for (volume, figures, took) in [
        ("snapshot of an idle volume", &idle, 48),
        ("snapshot of a volume under a writer", &busy, 235),
    ] {
        for (how, series) in [("by the API", &figures.api), ("by command", &figures.command)] {
            let bare = Some(("dmsetup suspend, create_snap, resume", &figures.bare));
            report.row(&format!("{volume}, {how}"), series, bare, Goal::AtMost(1.5));
            if lvm.is_ok() {
                let other = Some(("lvcreate --snapshot of a thin volume", &figures.lvm));
                report.row("the same", series, other, Goal::Faster(5.0));
            }
            let took = Duration::from_millis(took);
            let old = "the predecessor, once, by command";
            report.beside("the same", series, old, took, Goal::Faster(2.0));
        }
    }
    report.row("`windlass version`", &idle.nothing, None, Goal::None);
    report.note(
        "A command is a process more, and to start one is dear in this kernel, where a page fault costs some 25 µs: what `windlass version` \
         takes here is 2 ms elsewhere.",
    );
    if let Err(why) = &lvm {
        report.note(&format!("LVM is not in the table: {why}."));
    }
    drop(lvm);
    daemon.ok("VolumeDriver.Unmount", r#"{"Name":"v","ID":"c"}"#);
}

fn report_later(why: &str) {
    eprintln!("without LVM: {why}");
}

/// A snapshot in each way.
#[derive(Default)]
struct Figures {
    command: Series,
    api: Series,
    bare: Series,
    lvm: Series,
    /// A process of windlass that does nothing.
    nothing: Series,
}

fn each_way(daemon: &Daemon<'_>, device: &str, thin: u64, lvm: Option<&Lvm>) -> Figures {
    let mut figures = Figures::default();
    for round in 0..rounds(15) as u64 {
        figures
            .command
            .time(|| daemon.say(&["snapshot", "create", "v", "--name", "c"]));
        figures.api.time(|| {
            let (status, said) = daemon.admin("POST", "/v1/volumes/v/snapshots", r#"{"Name":"a"}"#);
            assert!(status < 300, "{said}");
        });
        for name in ["v@c", "v@a"] {
            daemon.say(&["snapshot", "delete", name]);
        }
        figures.nothing.time(|| daemon.say(&["version"]));
        let copy = BARE + 1000 + round;
        figures.bare.time(|| {
            shell(&["dmsetup", "suspend", device]);
            pool::message(&format!("create_snap {copy} {thin}"));
            shell(&["dmsetup", "resume", device]);
        });
        pool::message(&format!("delete {copy}"));
        if let Some(lvm) = lvm {
            figures.lvm.time(|| lvm.snapshot("s"));
            lvm.run(&["lvremove", "-q", "-y", "windlass-bench/s"])
                .expect("removed");
        }
    }
    figures
}

/// Writes to all of them until it is told to stop, to the same place each time: what a snapshot shares is copied, and no filesystem
/// fills its pool.
fn write(to: &[PathBuf], stop: &AtomicBool) {
    let create = |dir: &PathBuf| std::fs::File::create(dir.join("f")).expect("made");
    let files: Vec<_> = to.iter().map(create).collect();
    let mut number = 0u8;
    while !stop.load(Ordering::SeqCst) {
        number = number.wrapping_add(1);
        for file in &files {
            file.write_all_at(&vec![number; 2 << 20], 0).expect("written");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// LVM with a thin pool on a disk of its own, and a mounted volume in it. Gone when dropped.
struct Lvm {
    device: String,
    at: PathBuf,
}

impl Lvm {
    /// Says why not, where it is not to be had.
    fn new(scratch: &Path) -> Result<Self, String> {
        let image = scratch.join("lvm.img");
        let file = std::fs::File::create(&image).expect("made");
        file.set_len(700 << 20).expect("sparse");
        if Command::new("lvm").arg("version").output().is_err() {
            return Err("lvm2 is not installed".to_owned());
        }
        let device = shell(&["losetup", "--find", "--show", text(&image)]);
        let lvm = Self {
            device: device.trim().to_owned(),
            at: scratch.join("lvm"),
        };
        std::fs::create_dir(&lvm.at).expect("a mount point");
        lvm.run(&["pvcreate", "-q", "-y", &lvm.device])?;
        lvm.run(&["vgcreate", "-q", "windlass-bench", &lvm.device])?;
        lvm.run(&[
            "lvcreate",
            "-q",
            "-y",
            "--type",
            "thin-pool",
            "-L",
            "600M",
            "-c",
            "64k",
            "-n",
            "pool",
            "windlass-bench",
        ])?;
        lvm.run(&[
            "lvcreate",
            "-q",
            "-y",
            "-V",
            "1G",
            "-n",
            "v",
            "--thinpool",
            "windlass-bench/pool",
        ])?;
        let path = "/dev/mapper/windlass--bench-v";
        shell(&["mkfs.ext4", "-q", "-E", "nodiscard", path]);
        shell(&["mount", path, text(&lvm.at)]);
        Ok(lvm)
    }

    fn snapshot(&self, name: &str) {
        self.run(&["lvcreate", "-q", "-s", "-n", name, "windlass-bench/v"])
            .expect("a snapshot");
    }

    /// As in a machine without udev, and with this one disk only.
    fn run(&self, command: &[&str]) -> Result<(), String> {
        let config = format!(
            "activation{{udev_sync=0 udev_rules=0 monitoring=0}} \
             devices{{obtain_device_list_from_udev=0 use_devicesfile=0 filter=[\"a|^{}$|\",\"r|.*|\"]}}",
            self.device
        );
        let output = Command::new(command[0])
            .args(["--config", &config])
            .args(&command[1..])
            .output()
            .map_err(|error| format!("{}: {error}", command[0]))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!(
                "{command:?}: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )),
        }
    }
}

impl Drop for Lvm {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.at).output();
        let _ = self.run(&["vgremove", "-q", "-f", "-y", "windlass-bench"]);
        let _ = Command::new("losetup").args(["-d", &self.device]).output();
    }
}
