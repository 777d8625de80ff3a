//! `windlass repo restore`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::access::Session;
use super::{Error, Screen, failure, reference};
use crate::engine::convoy::{self, ConvoyBackup};
use crate::engine::restore::block::{BlockTarget, Holds, block};
use crate::engine::restore::clear::clear;
use crate::engine::restore::tree::{Onto, TreeRestore, tree};
use crate::engine::{Backup, EngineError, Kind, Progress, Repository};
use crate::model::Bytes;

/// Write a backup to a directory, a file or a device
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  windlass repo restore 'vfs:///srv/backups?volume=www&backup=latest' /srv/www
  windlass repo restore 'vfs:///srv/backups?volume=www&backup=latest' /tmp/some etc/nginx.conf var/log
  windlass repo restore 's3://bucket@region/path?volume=disk&backup=0123456789abcdef' /dev/vg/disk --delta

A directory tree goes into a directory that is empty or not there yet, an image into a new file, sparse where it has zeros.
What is there already is written over only with --delta or --overwrite. As root, everything gets its owner and attributes
back. No daemon knows of the result: 'windlass create --backup URL' makes a volume of it instead.")]
pub(super) struct Restore {
    /// The backup's URL; one of Convoy's too
    #[arg(value_parser = reference())]
    url: String,
    /// The directory, file or device
    target: PathBuf,
    /// Only these files and directories, with those above them
    paths: Vec<PathBuf>,
    /// Write over what is there, and only what differs from the backup; goes on with a restore that was interrupted
    #[arg(long, conflicts_with = "overwrite")]
    delta: bool,
    /// With --delta: remove from the directory what the backup does not have
    #[arg(long, requires = "delta")]
    delete: bool,
    /// Write an image over a file or device without looking at what is there
    #[arg(long)]
    overwrite: bool,
}

/// What was done, as `--output json` shows it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Outcome {
    target: String,
    /// Files, of a tree.
    files: u64,
    /// Bytes of the volume, holes included.
    bytes: u64,
    /// Bytes that were written; the rest was holes, or there already.
    bytes_written: u64,
    /// Entries that were removed because the backup does not have them.
    removed: u64,
    /// Extended attributes that could not be set there.
    attributes_refused: u64,
}

impl Restore {
    pub(super) fn run(mut self, session: &Session, screen: &mut Screen) -> Result<(), Error> {
        let place = session.place(&self.url, None)?;
        place.backup()?;
        // Messages name it as it is found from anywhere.
        self.target = std::path::absolute(&self.target).unwrap_or(self.target);
        let title = format!("restore of {}", place.title());
        let outcome = if place.is_convoy() {
            let (reader, backup) = session.open_convoy(&place)?;
            screen.notes([&format!(
                "Convoy's backup {} of volume {} is restored to {}",
                backup.name,
                backup.volume,
                self.target.display()
            )]);
            match backup.kind {
                Kind::Tree => self.convoy_tree(&reader, &backup, session, &title)?,
                Kind::Block => self.convoy_image(&reader, &backup, session, &title)?,
            }
        } else {
            let (repository, backup) = session.open_backup(&place)?;
            let is_image = backup
                .manifest()
                .is_some_and(|manifest| manifest.kind == Kind::Block);
            screen.notes([&format!(
                "backup {} of {} is restored to {}",
                backup.name(),
                place.title(),
                self.target.display()
            )]);
            match is_image {
                true => self.image(&repository, &backup, session, &title)?,
                false => self.tree(&repository, &backup, session, &title)?,
            }
        };
        if outcome.attributes_refused > 0 {
            screen.notes([&format!(
                "{} extended attributes could not be set: the target's filesystem does not have them, or only root may set them",
                outcome.attributes_refused
            )]);
        }
        match screen.json() {
            true => screen.value(&outcome),
            false => screen.line(&in_words(&outcome)),
        }
    }

    fn tree(
        &self,
        repository: &Repository,
        backup: &Backup,
        session: &Session,
        title: &str,
    ) -> Result<Outcome, Error> {
        self.only_delta()?;
        let onto = match (self.delta, self.delete) {
            (false, _) => {
                self.empty_directory("--delta writes over what is there, and only what differs")?;
                Onto::Empty
            }
            (true, remove_others) => Onto::Existing { remove_others },
        };
        let restore = TreeRestore {
            target: &self.target,
            onto,
            paths: &self.paths,
        };
        let report = session.work(title, |progress| tree(repository, backup, &restore, progress));
        let report = report.map_err(|error| self.unfinished(error, true))?;
        Ok(Outcome {
            target: self.target.display().to_string(),
            files: report.files,
            bytes: report.bytes,
            bytes_written: report.written_bytes,
            removed: report.removed,
            attributes_refused: report.attributes_refused,
        })
    }

    fn image(
        &self,
        repository: &Repository,
        backup: &Backup,
        session: &Session,
        title: &str,
    ) -> Result<Outcome, Error> {
        self.no_paths()?;
        let size = backup.manifest().map_or(0, |manifest| manifest.size);
        let (file, holds) = self.open(size)?;
        let target = BlockTarget {
            file: &file,
            path: &self.target,
            holds,
        };
        let report = session.work(title, |progress| block(repository, backup, &target, progress));
        let report = report.map_err(|error| self.unfinished(error, true))?;
        Ok(Outcome {
            target: self.target.display().to_string(),
            files: report.files,
            bytes: report.bytes,
            bytes_written: report.written_bytes,
            ..Outcome::default()
        })
    }

    fn convoy_tree(
        &self,
        reader: &convoy::Reader,
        backup: &ConvoyBackup,
        session: &Session,
        title: &str,
    ) -> Result<Outcome, Error> {
        self.only_delta()?;
        if self.delta || !self.paths.is_empty() {
            return Err(failure::invalid(
                "a tree of Convoy's is one archive, restored whole and into an empty directory".to_owned(),
                "leave out --delta and the paths",
            ));
        }
        self.empty_directory("Convoy's trees go into empty directories alone")?;
        if let Err(source) = fs::create_dir(&self.target)
            && source.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(self.failed("make", source).into());
        }
        let done = session.work(title, |progress| {
            let done = reader.restore_tree(backup, &self.target, progress)?;
            let root = File::open(&self.target).map_err(|source| self.failed("open", source))?;
            // All of its entries, not the directory alone.
            nix::unistd::syncfs(&root).map_err(|errno| self.failed("sync", errno.into()))?;
            Ok::<_, EngineError>(done)
        });
        let done = done.map_err(|error| self.unfinished(error, false))?;
        Ok(Outcome {
            target: self.target.display().to_string(),
            files: done.entries,
            bytes: done.bytes,
            bytes_written: done.bytes,
            attributes_refused: done.attributes_refused,
            ..Outcome::default()
        })
    }

    fn convoy_image(
        &self,
        reader: &convoy::Reader,
        backup: &ConvoyBackup,
        session: &Session,
        title: &str,
    ) -> Result<Outcome, Error> {
        self.no_paths()?;
        if self.delta {
            return Err(failure::invalid(
                "Convoy's images are not restored by difference".to_owned(),
                "--overwrite clears the target first and writes all of the image",
            ));
        }
        let (file, holds) = self.open(backup.volume_size)?;
        let written = std::sync::atomic::AtomicU64::new(0);
        let write = |at: u64, bytes: &[u8]| {
            file.write_all_at(bytes, at)
                .map_err(|source| self.failed("write", source))?;
            written.fetch_add(bytes.len() as u64, std::sync::atomic::Ordering::Relaxed);
            Ok(())
        };
        let done = session.work(title, |progress: &std::sync::Arc<Progress>| {
            if holds != Holds::Zeros {
                clear(&file, &self.target, backup.volume_size, progress)?;
            }
            reader.restore_block(backup, &write, progress)?;
            file.sync_all().map_err(|source| self.failed("sync", source))
        });
        done.map_err(|error| self.unfinished(error, false))?;
        Ok(Outcome {
            target: self.target.display().to_string(),
            bytes: backup.volume_size,
            bytes_written: written.into_inner(),
            ..Outcome::default()
        })
    }

    /// Opens the target of an image, or makes a sparse file of `size` bytes.
    fn open(&self, size: u64) -> Result<(File, Holds), Error> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let about = match fs::metadata(&self.target) {
            Ok(about) => about,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = options.mode(0o600).create_new(true).open(&self.target);
                let file = file.map_err(|source| self.failed("make", source))?;
                file.set_len(size)
                    .map_err(|source| self.failed("set the length of", source))?;
                return Ok((file, Holds::Zeros));
            }
            Err(source) => return Err(self.failed("look at", source).into()),
        };
        let is_device = about.file_type().is_block_device();
        if !is_device && !about.is_file() {
            return Err(failure::invalid(
                format!(
                    "{} is neither a file nor a block device, and the backup is of an image",
                    self.target.display()
                ),
                "",
            ));
        }
        let holds = match (self.delta, self.overwrite) {
            (true, _) => Holds::Similar,
            (_, true) => Holds::Anything,
            _ if !is_device && about.len() == 0 => Holds::Zeros,
            _ => {
                return Err(failure::invalid(
                    format!("{} is there already", self.target.display()),
                    "--delta writes over it, and only what differs; --overwrite without looking",
                ));
            }
        };
        if is_device {
            // The kernel refuses where the device is mounted or part of another.
            options.custom_flags(nix::libc::O_EXCL);
        }
        let file = options
            .open(&self.target)
            .map_err(|source| self.failed("open", source))?;
        if !is_device {
            file.set_len(size)
                .map_err(|source| self.failed("set the length of", source))?;
        }
        Ok((file, holds))
    }

    /// # Errors
    /// Where the target is anything but a directory without entries, or nothing.
    fn empty_directory(&self, hint: &str) -> Result<(), Error> {
        match fs::read_dir(&self.target) {
            Ok(mut entries) => match entries.next() {
                None => Ok(()),
                Some(_) => Err(failure::invalid(
                    format!("{} is not empty", self.target.display()),
                    hint,
                )),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(failure::invalid(
                format!(
                    "{} is not a directory, and the backup is of a tree",
                    self.target.display()
                ),
                "",
            )),
            Err(source) => Err(self.failed("read", source).into()),
        }
    }

    fn only_delta(&self) -> Result<(), Error> {
        match self.overwrite {
            false => Ok(()),
            true => Err(Error::Usage {
                message: "--overwrite is for images; a tree is written over what is there by --delta"
                    .to_owned(),
            }),
        }
    }

    fn no_paths(&self) -> Result<(), Error> {
        match (self.paths.is_empty(), self.delete) {
            (true, false) => Ok(()),
            (false, _) => Err(Error::Usage {
                message: "the backup is of an image, which has no paths; it is restored whole".to_owned(),
            }),
            (true, true) => Err(Error::Usage {
                message: "--delete is for trees, and the backup is of an image".to_owned(),
            }),
        }
    }

    /// The failure, with what it leaves at the target.
    fn unfinished(&self, error: Error, resumes: bool) -> Error {
        if !self.target.exists() {
            return error;
        }
        let target = self.target.display();
        failure::leaves(
            error,
            &match resumes {
                true => format!("{target} is unfinished, and the same with --delta goes on with it"),
                false => format!("{target} is unfinished; remove what is there and begin again"),
            },
        )
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> EngineError {
        EngineError::Target {
            doing,
            path: self.target.clone(),
            source,
        }
    }
}

fn in_words(outcome: &Outcome) -> String {
    let files = match outcome.files {
        0 => String::new(),
        1 => "1 file, ".to_owned(),
        several => format!("{several} files, "),
    };
    let removed = match outcome.removed {
        0 => String::new(),
        entries => format!(", {entries} removed"),
    };
    format!(
        "{}: {files}{}, {} of them written{removed}",
        outcome.target,
        Bytes(outcome.bytes),
        Bytes(outcome.bytes_written)
    )
}
