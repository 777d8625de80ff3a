//! How the frozen repositories were made; run by hand for a new version, see `tests/fixtures/repositories/README.md`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use windlass::engine::backup::block::{BlockSource, Changed, block};
use windlass::engine::backup::{BackupReport, Request, tree};
use windlass::engine::{
    Backup, Kind, Manifest, Owner, Password, Repository, SnapshotIdentity, VolumeIdentity,
};
use windlass::store::DirectoryStore;

use super::observe::{Entry, listing, sha256};
use super::{Content, Expected, Frozen, described, password};

/// Of those that have one. It protects nothing here.
const PASSWORD: &str = "frozen for good";

/// Where new ones go.
const INTO: &str = "WINDLASS_FIXTURES_INTO";

const VOLUME: u128 = 0x1111_2222_3333_4444;

pub fn manifest(kind: Kind, size: u64, generation: u128) -> Manifest {
    let created = "2026-11-20T08:00:00Z".parse().expect("a time");
    Manifest {
        version: Manifest::VERSION,
        kind,
        driver: "vfs".to_owned(),
        size,
        chunk_bytes: (kind == Kind::Block).then_some(64 << 10),
        filesystem: (kind == Kind::Block).then(|| "ext4".to_owned()),
        volume: VolumeIdentity {
            id: uuid::Uuid::from_u128(VOLUME),
            name: "pgdata".to_owned(),
            created,
            options: [("on-remove".to_owned(), "keep".to_owned())].into(),
        },
        snapshot: SnapshotIdentity {
            id: uuid::Uuid::from_u128(generation),
            name: format!("generation-{generation}"),
            created,
            consistency: "point-in-time".to_owned(),
        },
    }
}

fn request(manifest: Manifest) -> Request {
    Request {
        manifest,
        hostname: "alpha".to_owned(),
        level: 1,
        adopts: true,
        only_if_changed: false,
    }
}

/// Three segments and a little, mostly holes. Each generation changes a little of the one before and grows; what it
/// changes is known.
pub fn image(repository: &Repository, scratch: &Path, generation: u64) -> BackupReport {
    let path = scratch.join("source.img");
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path);
    let file = file.expect("made");
    let size = |generation: u64| (129 << 20) + 5000 + (generation << 16);
    file.set_len(size(generation)).expect("grown");
    let mut changed = Vec::new();
    for past in 1..=generation {
        let text = format!("generation {past} of an image. ").repeat(3000);
        let (first, last) = (70 << 20, size(past) - 3000);
        file.write_all_at(text.as_bytes(), past << 20).expect("written");
        file.write_all_at(&text.as_bytes()[..70_000], first)
            .expect("written");
        file.write_all_at(&noise(3000, past), last).expect("written");
        // Two pieces that are alike, and one of other bytes than zero.
        file.write_all_at(&[7; 200_000], 100 << 20).expect("written");
        changed = vec![
            past << 20..(past << 20) + text.len() as u64,
            first..first + 70_000,
            last..size(past),
        ];
    }
    let mut source = BlockSource::file(&file, &path).expect("looked at");
    if generation > 1 {
        source.changed = Some(Changed {
            since: uuid::Uuid::from_u128(u128::from(generation) - 1),
            ranges: changed,
        });
    }
    let manifest = manifest(Kind::Block, source.size, generation.into());
    block(repository, &request(manifest), &source, &Arc::default()).expect("backed up")
}

/// A tree of everything that any user can make, restic records and git could not hold: attributes, holes, odd names.
pub fn fill(root: &Path, generation: u64) {
    let odd = root
        .join("dir")
        .join(std::ffi::OsStr::from_bytes(b"no \xff UTF-8\n\xc3"));
    if generation == 1 {
        fs::create_dir_all(root.join("dir/empty")).expect("made");
        fs::write(root.join("dir/text"), "some text, ".repeat(900)).expect("written");
        fs::write(root.join("gone"), "in the first generation alone").expect("written");
        fs::write(&odd, "oddly named").expect("written");
        fs::write(root.join("nothing"), "").expect("written");
        fs::hard_link(root.join("dir/text"), root.join("again")).expect("linked");
        let sparse = File::create(root.join("sparse")).expect("made");
        sparse.set_len(6 << 20).expect("grown");
        sparse
            .write_all_at(b"data between holes", 3 << 20)
            .expect("written");
        xattr::set(root.join("dir/text"), "user.note", b"\0\xff any bytes").expect("an attribute");
        xattr::set(root.join("dir"), "user.of.a.directory", b"").expect("an attribute");
        run(
            "ln -s dir/text link && ln -s /nowhere/at/all dir/dangling && mkfifo pipe",
            root,
        );
        // Others than root keep their own.
        run("chown -h 1234:4321 dir/empty dir/text link || true", root);
        run(
            "chmod 4751 dir/text && chmod 2770 dir/empty && chmod 1777 dir && chmod 0 nothing",
            root,
        );
    } else {
        fs::remove_file(root.join("gone")).expect("removed");
        fs::write(root.join("new"), noise(2000, generation)).expect("written");
        fs::write(&odd, "another content").expect("written");
        run("chmod 0640 dir/text && mv pipe dir/pipe", root);
    }
    run("touch -hd '2026-11-20 08:00:00.123456789 UTC' link", root);
    run("touch -d '1965-01-02 03:04:05.006 UTC' dir/text dir/empty", root);
}

pub fn run(script: &str, at: &Path) {
    let status = Command::new("sh").args(["-ec", script]).current_dir(at).status();
    assert!(status.expect("sh runs").success(), "{script}");
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(length).collect()
}

/// Makes those that are not there, and `expected.json`, which keeps what it says of the others.
struct Making {
    into: PathBuf,
    scratch: tempfile::TempDir,
    expected: Expected,
}

impl Making {
    fn repository(&self, name: &str, password: &Password) -> Repository {
        let at = self.into.join(name);
        fs::create_dir(&at).expect("a frozen repository is not made again");
        let store = Arc::new(DirectoryStore::open(&at).expect("a store"));
        let owner = Owner {
            volume: uuid::Uuid::from_u128(VOLUME),
            name: "pgdata".to_owned(),
            host: "alpha".to_owned(),
        };
        Repository::create(store, password, None, Some(owner)).expect("made")
    }

    fn image(&mut self, name: &str) {
        let repository = self.repository(name, &Password::new(PASSWORD.to_owned()).expect("not empty"));
        let scratch = self.scratch.path().to_owned();
        let backups = (1..=2).map(|generation| {
            let report = image(&repository, &scratch, generation);
            let source = scratch.join("source.img");
            let content = Content::Image {
                size: fs::metadata(&source).expect("there").len(),
                sha256: sha256(&source),
            };
            described(&report.backup, content)
        });
        let frozen = Frozen {
            password: PASSWORD.to_owned(),
            backups: backups.collect(),
        };
        self.expected.insert(name.to_owned(), frozen);
    }

    fn tree(&mut self, name: &str, given: &str) {
        let mut frozen = Frozen {
            password: given.to_owned(),
            backups: Vec::new(),
        };
        let repository = self.repository(name, &password(&frozen));
        let root = self.scratch.path().join(name);
        for generation in 1..=2 {
            fill(&root, generation);
            // The next backup reads what could still change within the clock's next tick.
            std::thread::sleep(std::time::Duration::from_millis(50));
            let request = request(manifest(Kind::Tree, 0, generation.into()));
            let (report, _) = tree::tree(&repository, &request, &root, &Arc::default()).expect("backed up");
            let content = Content::Tree(listing(&root));
            frozen.backups.push(described(&report.backup, content));
        }
        self.expected.insert(name.to_owned(), frozen);
    }

    fn by_restic(&mut self) {
        let output = Command::new("restic")
            .arg("version")
            .output()
            .expect("restic runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let name = format!("restic-{}", said.split(' ').nth(1).expect("its version"));
        let at = self.into.join(&name);
        assert!(!at.exists(), "a frozen repository is not made again");
        let root = self.scratch.path().join(&name);
        fs::create_dir(&root).expect("made");
        let restic = |command: &str| {
            let script = format!(
                "RESTIC_PASSWORD='{PASSWORD}' restic --no-cache --quiet -r {} {command}",
                at.display()
            );
            run(&script, &root);
        };
        restic("init");
        let mut contents: Vec<BTreeMap<String, Entry>> = Vec::new();
        for generation in 1..=2 {
            fill(&root, generation);
            restic("backup --host alpha .");
            let mut entries = listing(&root);
            // restic records no root.
            entries.remove(".");
            contents.push(entries);
        }
        let store = Arc::new(DirectoryStore::open(&at).expect("a store"));
        let key = Password::new(PASSWORD.to_owned()).expect("not empty");
        let repository = Repository::open(store, &key, None).expect("opened");
        let backups: Vec<Backup> = repository.backups().expect("listed");
        let frozen = Frozen {
            password: PASSWORD.to_owned(),
            backups: backups
                .iter()
                .zip(contents)
                .map(|(backup, entries)| described(backup, Content::Tree(entries)))
                .collect(),
        };
        self.expected.insert(name, frozen);
    }
}

#[test]
#[ignore = "makes new ones: see tests/fixtures/repositories/README.md"]
fn make() {
    let into = PathBuf::from(std::env::var_os(INTO).expect("WINDLASS_FIXTURES_INTO names a directory"));
    let expected = fs::read(into.join("expected.json")).ok();
    let expected = expected.map(|json| serde_json::from_slice(&json).expect("it is ours"));
    let mut making = Making {
        scratch: tempfile::tempdir().expect("a scratch directory"),
        expected: expected.unwrap_or_default(),
        into,
    };
    let (version, _) = env!("CARGO_PKG_VERSION").rsplit_once('.').expect("three numbers");
    making.image(&format!("windlass-{version}-image"));
    making.tree(&format!("windlass-{version}-tree"), PASSWORD);
    making.tree(&format!("windlass-{version}-unencrypted"), "");
    making.by_restic();
    let json = serde_json::to_string_pretty(&making.expected).expect("JSON");
    fs::write(making.into.join("expected.json"), json + "\n").expect("written");
}
