//! A daemon on a pool of its own, and what is done to that pool behind its back.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::content;
use super::daemon::{Daemon, Home, shell, text};
use super::engine::PASSWORD;

/// Directories with a pool, which goes with them: of the guest nothing stays, but this may be a machine.
pub struct Bench {
    home: Home,
    pool: &'static str,
    options: Vec<String>,
}

impl Bench {
    /// A pool on files, with options of the driver besides, such as `dm.loopback=1G`.
    pub fn new(options: &[&str]) -> Self {
        Self::named(POOL, options)
    }

    /// The same beside another pool.
    pub fn named(pool: &'static str, options: &[&str]) -> Self {
        let mut all = vec![format!("dm.thinpoolname={pool}"), "dm.reserve=0".to_owned()];
        all.extend(options.iter().map(|option| (*option).to_owned()));
        Self {
            home: Home::new(),
            pool,
            options: all,
        }
    }

    /// Below which all is that is gone afterwards.
    pub fn path(&self) -> &Path {
        self.home.path()
    }

    /// Starts its daemon.
    pub fn start(&self) -> Daemon<'_> {
        self.home.start_with(|command| {
            command
                .env("WINDLASS_BACKUP_PASSWORD", PASSWORD)
                .env("WINDLASS_LOG_LEVEL", "info")
                .args(["--drivers", "devicemapper"]);
            for option in &self.options {
                command.args(["--driver-opts", option]);
            }
        })
    }

    /// A directory that is not there yet, as a destination.
    pub fn destination(&self, name: &str) -> String {
        let dir = self.path().join(name);
        std::fs::create_dir(&dir).expect("a directory");
        format!("vfs://{}", dir.display())
    }

    /// The record of a volume, as it is on disk.
    pub fn record(&self, volume: &str) -> serde_json::Value {
        let path = self.home.root().join("devicemapper/volumes").join(volume);
        serde_json::from_slice(&std::fs::read(path).expect("a record")).expect("JSON")
    }

    /// Where its daemon answers the admin API.
    pub fn admin_socket(&self) -> PathBuf {
        self.home.admin_socket()
    }

    /// Takes the pool out of the kernel, when no volume is mounted.
    pub fn stop_pool(&self) {
        shell(&["dmsetup", "remove", self.pool]);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let script = format!(
            "for i in 1 2 3; do dmsetup ls | awk '/^{}[-\\t]/ {{print $1}}' | xargs -r -n1 dmsetup remove 2>/dev/null; done; \
             losetup -l -n -O NAME,BACK-FILE | awk '$2 ~ \"^{}/\" {{print $1}}' | xargs -r -n1 losetup -d",
            self.pool,
            self.home.root().display()
        );
        let _ = Command::new("bash").args(["-c", &script]).status();
    }
}

/// Its name.
pub const POOL: &str = "windlass-pool";

/// Where the kernel has it, as `major:minor`.
pub fn number() -> String {
    let said = shell(&["dmsetup", "info", "-c", "--noheadings", "-o", "major,minor", POOL]);
    said.trim().to_owned()
}

/// Sends the pool a message.
pub fn message(message: &str) {
    shell(&["dmsetup", "message", POOL, "0", message]);
}

/// Makes a thin device active, as `dmsetup` does.
pub fn activate(name: &str, thin: u64, bytes: u64) -> PathBuf {
    let table = format!("0 {} thin {} {thin}", bytes / 512, number());
    shell(&["dmsetup", "create", name, "--table", &table]);
    Path::new("/dev/mapper").join(name)
}

/// Removes that.
pub fn deactivate(name: &str) {
    shell(&["dmsetup", "remove", name]);
}

/// Fills a file with so many MiB, half of it random, half compressible, and has it written to the disk.
pub fn fill(path: &Path, pieces: u64, seed: u64) {
    let file = File::create(path).expect("made");
    let mut piece = vec![0; 1 << 20];
    for number in 0..pieces {
        // By turns of one kind and of the other, whatever the seed.
        content::mixed(&mut piece, number + (seed << 20));
        file.write_all_at(&piece, number << 20).expect("written");
    }
    file.sync_all().expect("synced");
}

/// Writes 64 times 4 KiB, scattered over a file of so many bytes and each synced.
pub fn scatter(path: &Path, bytes: u64, seed: u64, mut each: impl FnMut(std::time::Duration)) {
    const WRITES: u64 = 64;
    let file = File::options().write(true).open(path).expect("opened");
    let mut page = [0; 4096];
    for write in 0..WRITES {
        content::random(&mut page, seed << 8 | write);
        let at = (write * 37 % WRITES) * (bytes / WRITES) / 4096 * 4096;
        let begun = std::time::Instant::now();
        file.write_all_at(&page, at).expect("written");
        file.sync_data().expect("synced");
        each(begun.elapsed());
    }
}

/// Has the kernel forget what it has read, so that nobody profits from what another has read before.
pub fn forget() {
    shell(&["sync"]);
    std::fs::write("/proc/sys/vm/drop_caches", "3").expect("root may");
}

/// An ext4 on a loop device, gone when dropped: such a disk as the pool is on.
pub struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Of so many bytes.
    pub fn new(path: &Path, bytes: u64) -> Self {
        let (image, at) = (path.with_extension("disk"), path.to_owned());
        File::create(&image)
            .and_then(|file| file.set_len(bytes))
            .expect("sparse");
        std::fs::create_dir(&at).expect("a mount point");
        shell(&["mkfs.ext4", "-q", "-F", text(&image)]);
        shell(&["mount", "-o", "loop", text(&image), text(&at)]);
        Self { at }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.at).status();
    }
}
