//! What was fetched once, kept on this host: decoded indexes, snapshots, and packs of trees.
//!
//! It may be deleted at any time and is never trusted: what comes from it is checked as if it came from the store, and a
//! failure to read or write it costs time only. `<directory>/<repository>/{index,snapshots,packs,unfinished}`.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use uuid::Uuid;

use super::Id;
use super::index::Table;

/// Packs of trees beyond this many bytes are dropped, the oldest first.
const MOST_PACK_BYTES: u64 = 1 << 30;

/// A file that is there while packs are uploaded that no index names yet, and after an interruption.
const UNFINISHED: &str = "unfinished";

/// What backup programs look for, to leave caches out.
const CACHEDIR_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n";

/// One repository's part of the cache.
#[derive(Debug)]
pub struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// Opens or makes it; `None`, with a warning in the log, where that fails.
    pub fn open(root: &Path, repository: &Id) -> Option<Self> {
        let directory = root.join(repository.to_string());
        for part in ["index", "snapshots", "packs"] {
            let made = fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory.join(part));
            if let Err(error) = made {
                log::warn!("no cache at {}: {error}", directory.display());
                return None;
            }
        }
        let tag = root.join("CACHEDIR.TAG");
        if !tag.exists() {
            let _ = fs::write(tag, CACHEDIR_TAG);
        }
        let this = Self { directory };
        this.trim_packs();
        Some(this)
    }

    /// A snapshot's stored bytes.
    pub fn snapshot(&self, id: &Id) -> Option<Vec<u8>> {
        let bytes = fs::read(self.path("snapshots", id)).ok()?;
        (Id::of(&bytes) == *id).then_some(bytes)
    }

    /// Keeps a snapshot's stored bytes.
    pub fn put_snapshot(&self, id: &Id, bytes: &[u8]) {
        self.put("snapshots", id, bytes);
    }

    /// Part of a pack.
    pub fn pack_range(&self, id: &Id, offset: u64, length: usize) -> Option<Vec<u8>> {
        let file = File::open(self.path("packs", id)).ok()?;
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    }

    /// Keeps a pack.
    pub fn put_pack(&self, id: &Id, bytes: &[u8]) {
        self.put("packs", id, bytes);
    }

    /// Forgets a pack that turned out to be damaged.
    pub fn drop_pack(&self, id: &Id) {
        let _ = fs::remove_file(self.path("packs", id));
    }

    /// The table of an index file, or of several.
    pub fn table(&self, id: &Id) -> Option<Table> {
        Table::open(self.path("index", id))
    }

    /// All tables that are there, the largest first.
    pub fn tables(&self) -> Vec<Table> {
        let Ok(entries) = fs::read_dir(self.directory.join("index")) else {
            return Vec::new();
        };
        let mut tables: Vec<Table> = entries
            .flatten()
            .filter_map(|entry| Table::open(entry.path()))
            .collect();
        tables.sort_by_key(|table| std::cmp::Reverse(table.covers().len()));
        tables
    }

    /// Drops a table that another one stands for.
    pub fn drop_table(&self, name: &Id) {
        let _ = fs::remove_file(self.path("index", name));
    }

    /// Keeps a table under a name; says where it lies.
    pub fn write_table(
        &self,
        name: &Id,
        write: impl FnOnce(&mut File) -> std::io::Result<()>,
    ) -> Option<PathBuf> {
        let path = self.path("index", name);
        self.replace(&path, write).map(|()| path)
    }

    /// Notes that uploads begin; says whether earlier ones did that never came to their end. The note is best effort: without it,
    /// what those uploaded is sent again.
    pub fn begin_uploads(&self) -> bool {
        let noted = File::create_new(self.directory.join(UNFINISHED));
        noted.is_err_and(|error| error.kind() == std::io::ErrorKind::AlreadyExists)
    }

    /// Takes the note away: an index names all that was uploaded.
    pub fn end_uploads(&self) {
        let _ = fs::remove_file(self.directory.join(UNFINISHED));
    }

    /// Drops the tables of index files, and the snapshots, that are no longer in the repository.
    pub fn keep_only(&self, part: &str, wanted: impl Fn(&str) -> bool) {
        let Ok(entries) = fs::read_dir(self.directory.join(part)) else {
            return;
        };
        for entry in entries.flatten() {
            if !entry.file_name().to_str().is_some_and(&wanted) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn put(&self, part: &str, id: &Id, bytes: &[u8]) {
        self.replace(&self.path(part, id), |file| file.write_all(bytes));
    }

    /// Writes aside and renames, so that a reader sees all or nothing. Not synced: it is a cache.
    fn replace(&self, path: &Path, write: impl FnOnce(&mut File) -> std::io::Result<()>) -> Option<()> {
        let aside = self.directory.join(format!(".tmp-{}", Uuid::new_v4().simple()));
        let done = File::create(&aside)
            .and_then(|mut file| write(&mut file))
            .and_then(|()| fs::rename(&aside, path));
        if let Err(error) = done {
            log::debug!("{} is not cached: {error}", path.display());
            let _ = fs::remove_file(&aside);
            return None;
        }
        Some(())
    }

    fn path(&self, part: &str, id: &Id) -> PathBuf {
        self.directory.join(part).join(id.to_string())
    }

    fn trim_packs(&self) {
        let Ok(entries) = fs::read_dir(self.directory.join("packs")) else {
            return;
        };
        let mut packs: Vec<(SystemTime, u64, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| {
                let about = entry.metadata().ok()?;
                Some((about.modified().ok()?, about.len(), entry.path()))
            })
            .collect();
        packs.sort();
        let mut total: u64 = packs.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in packs {
            if total <= MOST_PACK_BYTES {
                break;
            }
            let _ = fs::remove_file(path);
            total -= size;
        }
    }
}
