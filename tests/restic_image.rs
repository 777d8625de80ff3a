//! Real restic is the judge of images: it finds our repositories sound, and gives their bytes back by the recipe in
//! docs/FORMAT.md.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use windlass::engine::backup::block::{BlockSource, Changed, block};
use windlass::engine::backup::{BackupReport, Request};
use windlass::engine::{Kind, Manifest, Password, Repository, SnapshotIdentity, VolumeIdentity};
use windlass::store::{MemoryStore, Store};

const PASSWORD: &str = "correct horse";

/// restic, or `None` with the reason printed. Where CI is, its absence is a failure.
fn restic() -> Option<()> {
    if Command::new("restic").arg("version").output().is_ok() {
        return Some(());
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "restic is missing: packaging/setup installs it"
    );
    println!("SKIPPED: restic is not installed");
    None
}

fn run(command: &mut Command) -> Output {
    let output = command
        .env("RESTIC_PASSWORD", PASSWORD)
        .env("RESTIC_CACHE_DIR", "/nonexistent")
        .output()
        .expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}\n{}\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    output
}

fn check(repository: &Path) {
    run(Command::new("restic")
        .args(["--no-cache", "check", "--read-data", "-r"])
        .arg(repository));
}

/// What is in memory, as files.
fn written_out(store: &MemoryStore, to: &Path) {
    for object in store.list("").expect("listed") {
        let path = to.join(&object.path);
        std::fs::create_dir_all(path.parent().expect("below")).expect("made");
        std::fs::write(path, store.get(&object.path, u64::MAX).expect("there")).expect("written");
    }
}

fn back_up(repository: &Repository, image: &[u8], number: u128, changed: Option<Changed>) -> BackupReport {
    let time = "2026-11-20T08:00:00Z".parse().expect("a time");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), image).expect("written");
    let open = std::fs::File::open(file.path()).expect("opened");
    let mut source = BlockSource::file(&open, file.path()).expect("looked at");
    source.changed = changed;
    let request = Request {
        manifest: Manifest {
            version: Manifest::VERSION,
            kind: Kind::Block,
            driver: "devicemapper".to_owned(),
            size: source.size,
            chunk_bytes: Some(64 << 10),
            filesystem: None,
            volume: VolumeIdentity {
                id: uuid::Uuid::from_u128(1),
                name: "pgdata".to_owned(),
                created: time,
                options: Default::default(),
            },
            snapshot: SnapshotIdentity {
                id: uuid::Uuid::from_u128(number),
                name: format!("s{number}"),
                created: time,
                consistency: "point-in-time".to_owned(),
            },
        },
        hostname: "alpha".to_owned(),
        level: 1,
        adopts: true,
        only_if_changed: false,
    };
    block(repository, &request, &source, &Arc::default()).expect("backed up")
}

fn noise(bytes: &mut [u8], seed: u64) {
    let mut state = seed | 1;
    for byte in bytes {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        *byte = (state >> 56) as u8;
    }
}

/// The recipe of docs/FORMAT.md, taken out of the document, so that what is printed there is what is tested.
fn recipe(scratch: &Path) -> PathBuf {
    let document =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/FORMAT.md")).expect("it is there");
    let begin = document.find("#!/bin/sh").expect("docs/FORMAT.md has the script");
    let script = &document[begin..begin + document[begin..].find("```").expect("the script ends")];
    let path = scratch.join("recipe");
    std::fs::write(&path, script).expect("written");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("allowed");
    path
}

#[test]
fn restic_finds_every_generation_sound_and_gives_the_image_back() {
    let Some(()) = restic() else { return };
    let scratch = tempfile::tempdir().expect("a directory");
    let store = Arc::new(MemoryStore::default());
    let password = Password::new(PASSWORD.to_owned()).expect("not empty");
    let repository = Repository::create(store.clone(), &password, None, None).expect("made");
    let size = 4 * (64 << 20) + 5000;
    let mut image = vec![0; size];
    noise(&mut image[1 << 20..9 << 20], 1);
    image[70 << 20..80 << 20].fill(b'a');
    let mut reports = vec![back_up(&repository, &image, 1, None)];
    noise(&mut image[size - 10_000..], 2);
    let changed = Changed {
        since: uuid::Uuid::from_u128(1),
        ranges: std::iter::once(size as u64 - 10_000..size as u64).collect(),
    };
    reports.push(back_up(&repository, &image, 2, Some(changed)));

    let directory = scratch.path().join("repository");
    written_out(&store, &directory);
    check(&directory);
    let listed = run(Command::new("restic")
        .args(["--no-cache", "snapshots", "--json", "-r"])
        .arg(&directory));
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    let ids: Vec<&str> = listed
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["id"].as_str())
        .collect();
    assert_eq!(
        ids,
        reports
            .iter()
            .map(|report| report.backup.id.to_string())
            .collect::<Vec<_>>()
    );

    let out = scratch.path().join("image");
    run(Command::new(recipe(scratch.path()))
        .arg(&directory)
        .arg("latest")
        .arg(&out));
    assert!(
        std::fs::read(&out).expect("readable") == image,
        "the bytes are the same"
    );

    // restic throws the older backup away; what is left is whole.
    run(Command::new("restic")
        .args(["--no-cache", "forget", "--prune", ids[0], "-r"])
        .arg(&directory));
    check(&directory);
}
