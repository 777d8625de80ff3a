//! The others: restic, borg, and a plain copy. Each restic has a repository and a cache of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::engine::PASSWORD;
use super::report::Report;
use super::step::{Cost, peer};

/// What a program says its version is; `None`, and a sentence in the report, where it is not installed.
pub fn version(report: &mut Report, program: &str, package: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output();
    let Some(output) = output.ok().filter(|output| output.status.success()) else {
        println!(
            "LACKING: {program} is not installed (Debian's package {package}): its figures are left out"
        );
        report.note(&format!("{program} is not installed: its figures are left out."));
        return None;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let words: Vec<&str> = said.split_whitespace().take(2).collect();
    Some(words.join(" "))
}

/// A restic repository.
pub struct Restic {
    repository: PathBuf,
    cache: PathBuf,
}

impl Restic {
    /// Makes one. Its cache is beside it.
    pub fn create(at: &Path) -> Self {
        let this = Self {
            repository: at.to_owned(),
            cache: at.with_extension("restic-cache"),
        };
        peer(this.command().arg("init"));
        this
    }

    fn command(&self) -> Command {
        let mut command = Command::new("restic");
        command
            .env("RESTIC_PASSWORD", PASSWORD)
            .env("RESTIC_CACHE_DIR", &self.cache)
            .args(["-q", "-r"])
            .arg(&self.repository);
        command
    }

    /// Backs a file or directory up.
    pub fn back_up(&self, what: &Path) -> Cost {
        peer(self.command().arg("backup").arg(what))
    }

    /// Restores the newest, and has it written to the disk, as ours does. It is below `to`, at the path that it had.
    pub fn restore(&self, to: &Path) -> Cost {
        let arguments = ["restore", "latest", "--target"];
        let cost = peer(self.command().args(arguments).arg(to));
        let begin = Instant::now();
        let status = Command::new("sync").arg("-f").arg(to).status().expect("sync");
        assert!(status.success());
        let time = cost.time + begin.elapsed();
        Cost {
            time,
            whole: time,
            ..cost
        }
    }

    /// Removes it.
    pub fn remove(self) {
        let _ = std::fs::remove_dir_all(&self.repository);
        let _ = std::fs::remove_dir_all(&self.cache);
    }
}

/// A borg repository.
pub struct Borg {
    repository: PathBuf,
    archives: usize,
}

impl Borg {
    /// Makes one.
    pub fn create(at: &Path) -> Self {
        let this = Self {
            repository: at.to_owned(),
            archives: 0,
        };
        peer(
            this.command()
                .args(["init", "-e", "repokey-blake2"])
                .arg(&this.repository),
        );
        this
    }

    fn command(&self) -> Command {
        let mut command = Command::new("borg");
        command
            .env("BORG_PASSPHRASE", PASSWORD)
            .env("BORG_BASE_DIR", self.repository.with_extension("borg-base"));
        command
    }

    /// Backs an image up, in chunks of the size that ours have and with the compression that ours has.
    pub fn back_up(&mut self, image: &Path) -> Cost {
        self.archives += 1;
        let archive = format!("{}::{}", self.repository.display(), self.archives);
        let how = [
            "create",
            "--chunker-params",
            "fixed,65536",
            "--compression",
            "zstd,1",
        ];
        peer(self.command().args(how).arg(archive).arg(image))
    }

    /// Removes it.
    pub fn remove(self) {
        let _ = std::fs::remove_dir_all(&self.repository);
        let _ = std::fs::remove_dir_all(self.repository.with_extension("borg-base"));
    }
}

/// Copies an image with its holes, and has it written to the disk.
pub fn sparse_copy(from: &Path, to: &Path) -> Cost {
    let cost = peer(Command::new("cp").arg("--sparse=always").arg(from).arg(to));
    let begin = Instant::now();
    File::open(to).expect("opened").sync_all().expect("synced");
    let time = cost.time + begin.elapsed();
    std::fs::remove_file(to).expect("removed");
    Cost {
        time,
        whole: time,
        ..cost
    }
}
