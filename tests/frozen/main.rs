//! Repositories that were written once and never change: whatever becomes of the program, it reads them, to the last byte,
//! and goes on writing into them what real restic finds sound.
//!
//! They lie in `tests/fixtures/repositories`, with what is in them in `expected.json`. Each is copied first, since whoever
//! works in a repository writes locks into it.

mod made;
mod observe;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use observe::{Entry, Options, digest, listing, sha256};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use windlass::engine::backup::{self, Request};
use windlass::engine::browse::Browser;
use windlass::engine::image::reader::Image;
use windlass::engine::restore::block::{BlockTarget, Holds};
use windlass::engine::restore::tree::{Onto, TreeRestore};
use windlass::engine::verify::{Depth, verify};
use windlass::engine::{Backup, Kind, Password, Progress, Repository, restore};
use windlass::store::DirectoryStore;

/// What `expected.json` says: by the names of the directories beside it.
type Expected = BTreeMap<String, Frozen>;

/// One repository.
#[derive(Debug, Serialize, Deserialize)]
struct Frozen {
    /// Empty: none.
    password: String,
    /// The oldest first.
    backups: Vec<FrozenBackup>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FrozenBackup {
    id: String,
    time: String,
    host: String,
    /// What the manifest says, where windlass made it: the volume's name and that of the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<(String, String)>,
    content: Content,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Content {
    Image {
        size: u64,
        sha256: String,
    },
    /// Paths with `\xNN` for what is no ASCII. The root is `.`, where it was recorded.
    Tree(BTreeMap<String, Entry>),
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/repositories")
}

fn expected() -> Expected {
    let text = fs::read(fixtures().join("expected.json")).expect("it is there");
    serde_json::from_slice(&text).expect("it is what was written")
}

/// A copy of a repository that may be worked in.
struct Thawed {
    scratch: TempDir,
    repository: Repository,
    frozen: Frozen,
}

impl Thawed {
    fn new(name: &str) -> Self {
        let frozen = expected().remove(name).expect("expected.json has it");
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let at = scratch.path().join("repository");
        copy(&fixtures().join(name), &at);
        let store = Arc::new(DirectoryStore::open(&at).expect("a store"));
        let repository = Repository::open(store, &password(&frozen), None).expect("it opens");
        Self {
            scratch,
            repository,
            frozen,
        }
    }

    fn path(&self) -> PathBuf {
        self.scratch.path().join("repository")
    }

    /// All that is expected, and nothing else: each backup listed, browsed and restored.
    fn holds_what_is_expected(&self) {
        let backups = self.repository.backups().expect("listed");
        let ids: Vec<String> = backups.iter().map(|backup| backup.id.to_string()).collect();
        let expected: Vec<&String> = self.frozen.backups.iter().map(|backup| &backup.id).collect();
        assert_eq!(ids.iter().collect::<Vec<_>>(), expected);
        for (backup, expected) in backups.iter().zip(&self.frozen.backups) {
            assert_eq!(
                &described(backup, self.restored(backup, &expected.content)),
                expected
            );
        }
        let report = verify(&self.repository, Depth::Everything, None, &Arc::default()).expect("verified");
        assert_eq!((report.problems, report.unindexed_packs), (vec![], 0));
        assert_eq!(report.backups, backups.len() as u64);
    }

    /// What a backup holds, found in each way that there is.
    fn restored(&self, backup: &Backup, expected: &Content) -> Content {
        match expected {
            Content::Image { size, .. } => self.restored_image(backup, *size),
            Content::Tree(entries) => Content::Tree(self.restored_tree(backup, entries)),
        }
    }

    fn restored_image(&self, backup: &Backup, size: u64) -> Content {
        let path = self.scratch.path().join(backup.name());
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path);
        let file = file.expect("made");
        file.set_len(size).expect("grown");
        let target = BlockTarget {
            file: &file,
            path: &path,
            holds: Holds::Zeros,
        };
        let report = restore::block::block(&self.repository, backup, &target, &Arc::default());
        assert_eq!(report.expect("restored").bytes, size);
        let restored = sha256(&path);
        fs::remove_file(&path).expect("removed");

        let image = Image::open(&self.repository, backup).expect("opened");
        assert_eq!(image.layout().size, size);
        let mut read = digest();
        let mut buffer = vec![0; 1 << 20];
        for at in (0..size).step_by(buffer.len()) {
            let part = &mut buffer[..(size - at).min(1 << 20) as usize];
            image.read_at(part, at).expect("read");
            read.update(part);
        }
        assert_eq!(read.hex(), restored, "read at random and restored");
        Content::Image {
            size,
            sha256: restored,
        }
    }

    fn restored_tree(&self, backup: &Backup, expected: &BTreeMap<String, Entry>) -> BTreeMap<String, Entry> {
        let browser = Browser::open(&self.repository, backup).expect("opened");
        let mut browsed = observe::browsed(&browser);
        let target = self.scratch.path().join(backup.name());
        let restore = TreeRestore {
            target: &target,
            onto: Onto::Empty,
            paths: &[],
        };
        let report = restore::tree::tree(&self.repository, backup, &restore, &Progress::default());
        let options = Options::of(report.expect("restored").attributes_refused);
        let mut restored = listing(&target);
        // The root has no entry of its own to be browsed, and restic records none.
        let root = restored.remove(".");
        assert_eq!(
            options.comparable(&browsed),
            options.comparable(&restored),
            "browsed and restored"
        );
        if let Some(root) = root.filter(|_| expected.contains_key(".")) {
            restored.insert(".".to_owned(), root);
        }
        assert_eq!(options.comparable(&restored), options.comparable(expected));
        // What this machine cannot have was said by the browser, which asks nothing of it.
        if let Some(root) = expected.get(".") {
            browsed.insert(".".to_owned(), root.clone());
        }
        browsed
    }

    /// A further backup, on top of what is there.
    fn takes_another(&self) {
        let latest = self.repository.find("latest").expect("there");
        let source = self.scratch.path().join("another");
        fs::create_dir_all(source.join("dir")).expect("made");
        fs::write(source.join("dir/file"), "written by a later version").expect("written");
        // An image's repository takes an image, and a tree's a tree.
        let made = match latest.manifest().map(|manifest| manifest.kind) {
            Some(Kind::Block) => made::image(&self.repository, self.scratch.path(), 3),
            _ => {
                let manifest = made::manifest(Kind::Tree, 0, 3);
                let request = Request {
                    manifest,
                    hostname: "alpha".to_owned(),
                    level: 1,
                    adopts: true,
                    only_if_changed: false,
                };
                let made = backup::tree::tree(&self.repository, &request, &source, &Arc::default());
                made.expect("backed up").0
            }
        };
        assert_eq!(self.repository.find("latest").expect("there").id, made.backup.id);
        if latest.manifest().is_some() {
            assert_eq!(made.parent, Some(latest.id), "compared with the one before");
        }
    }

    /// Real restic reads all of it. It knows no empty password before its version 0.17: then it is given another.
    fn is_sound_to_restic(&self) {
        let Some(version) = restic_version() else { return };
        let mut password = self.frozen.password.clone();
        let mut options: &[&str] = &[];
        if password.is_empty() && version < (0, 17) {
            password = "for restic".to_owned();
            let key = Password::new(password.clone()).expect("not empty");
            self.repository.add_key(&key).expect("added");
        } else if password.is_empty() {
            options = &["--insecure-no-password"];
        }
        let output = Command::new("restic")
            .args(["--no-cache", "check", "--read-data", "-r"])
            .arg(self.path())
            .args(options)
            .env("RESTIC_PASSWORD", password)
            .output()
            .expect("restic runs");
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("no errors were found"), "{said}");
    }
}

fn described(backup: &Backup, content: Content) -> FrozenBackup {
    let of = backup.manifest().map(|manifest| {
        let (volume, snapshot) = (&manifest.volume, &manifest.snapshot);
        (volume.name.clone(), snapshot.name.clone())
    });
    FrozenBackup {
        id: backup.id.to_string(),
        time: backup.record.time.to_string(),
        host: backup.record.hostname.clone(),
        of,
        content,
    }
}

fn password(frozen: &Frozen) -> Password {
    match frozen.password.as_str() {
        "" => Password::none(),
        text => Password::new(text.to_owned()).expect("not empty"),
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("made");
    for entry in fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("it can be listed");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("it is there").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::write(&target, fs::read(entry.path()).expect("read")).expect("written");
        }
    }
}

/// Major and minor. None, and a line, where there is no restic.
fn restic_version() -> Option<(u32, u32)> {
    let Ok(output) = Command::new("restic").arg("version").output() else {
        assert!(
            std::env::var_os("CI").is_none(),
            "restic is missing: packaging/setup installs it"
        );
        println!("SKIPPED: restic is not installed");
        return None;
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = said.split(' ').nth(1).expect("restic says its version");
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    Some((numbers.next()?, numbers.next()?))
}

fn check(name: &str) {
    let thawed = Thawed::new(name);
    thawed.holds_what_is_expected();
    thawed.takes_another();
    thawed.is_sound_to_restic();
}

#[test]
fn an_image_of_windlass_0_1() {
    check("windlass-0.1-image");
}

#[test]
fn a_tree_of_windlass_0_1() {
    check("windlass-0.1-tree");
}

#[test]
fn an_unencrypted_tree_of_windlass_0_1() {
    check("windlass-0.1-unencrypted");
}

#[test]
fn a_tree_of_restic_0_14() {
    check("restic-0.14.0");
}

#[test]
fn every_frozen_repository_is_checked() {
    let mut there: Vec<String> = fs::read_dir(fixtures())
        .expect("it is there")
        .map(|entry| entry.expect("it can be listed"))
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.file_name().into_string().expect("ASCII"))
        .collect();
    there.sort();
    let expected: Vec<String> = expected().into_keys().collect();
    assert_eq!(there, expected);
    let this = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frozen/main.rs");
    let checked = fs::read_to_string(this).expect("this file");
    for name in there {
        assert!(
            checked.contains(&format!("check(\"{name}\")")),
            "{name} has no test"
        );
    }
}

/// That what the test says of a tree would be seen: a byte, a bit of a mode, a nanosecond, a value, a link.
#[test]
fn differences_are_seen() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let root = scratch.path().join("tree");
    made::fill(&root, 1);
    let before = listing(&root);
    let changes: [fn(&Path); 6] = [
        |root| fs::write(root.join("dir/text"), "other").expect("written"),
        |root| made::run("chmod g+s dir/text", root),
        |root| made::run("touch -hd '2001-02-03 04:05:06.000000001' link", root),
        |root| made::run("ln -sfn elsewhere link", root),
        |root| made::run("rm again && cp -a dir/text again", root),
        |root| fs::write(root.join("new"), "").expect("written"),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let copy = scratch.path().join(number.to_string());
        made::run(&format!("cp -a . {}", copy.display()), &root);
        assert_eq!(listing(&copy), before, "a copy is the same");
        change(&copy);
        assert_ne!(listing(&copy), before, "change {number}");
    }
}
