//! Backups on a real S3 server: what one costs where nothing has changed, and the whole way of a volume from one host to
//! another, by real daemons, with real restic as the witness.

mod daemon;
mod s3;

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use daemon::{Daemon, Home, shell, text};
use s3::child::{KEYS, with_server};
use s3::{ACCESS_KEY, SECRET_KEY, Server};
use windlass::engine::backup::block::{BlockSource, Changed};
use windlass::engine::backup::{Request, block, tree};
use windlass::engine::{Kind, Manifest, Password, Repository, SnapshotIdentity, VolumeIdentity};
use windlass::store::counting::Tally;
use windlass::store::{Destination, Opened, StoreSettings, open};

const PASSWORD: &str = "correct horse battery";

/// What a backup of an unchanged volume may ask of the destination.
const MOST_REQUESTS: u64 = 10;
/// What opening a repository asks: its config, the list of its keys, and the key.
const TO_OPEN: u64 = 3;

fn request(kind: Kind, size: u64, snapshot: u128) -> Request {
    let created = "2026-11-20T08:00:00Z".parse().expect("a time");
    Request {
        manifest: Manifest {
            version: Manifest::VERSION,
            kind,
            driver: "any".to_owned(),
            size,
            chunk_bytes: (kind == Kind::Block).then_some(64 << 10),
            filesystem: None,
            volume: VolumeIdentity {
                id: uuid::Uuid::from_u128(1),
                name: "v".to_owned(),
                created,
                options: Default::default(),
            },
            snapshot: SnapshotIdentity {
                id: uuid::Uuid::from_u128(snapshot),
                name: format!("s{snapshot}"),
                created,
                consistency: "point-in-time".to_owned(),
            },
        },
        hostname: "alpha".to_owned(),
        level: 1,
        adopts: true,
        only_if_changed: false,
    }
}

/// Everything that a backup by the engine asks: of an image of which is known that nothing changed, of one of which is
/// not known what did, and of a tree. Each repository is opened anew first, as after a restart, and then stays open.
#[test]
fn an_unchanged_volume_costs_ten_requests() {
    let test = "an_unchanged_volume_costs_ten_requests";
    let Some(endpoint) = with_server(test, "costs", KEYS, |server| &server.endpoint) else {
        return;
    };
    let scratch = tempfile::tempdir().expect("a directory");
    let image = scratch.path().join("image");
    std::fs::write(&image, noise(70 << 20)).expect("written");
    let file = std::fs::File::open(&image).expect("opened");
    let directory = scratch.path().join("tree");
    for name in ["a/b/c", "d"] {
        std::fs::create_dir_all(directory.join(name)).expect("made");
        std::fs::write(directory.join(name).join("file"), noise(300_000)).expect("written");
    }

    let of_image = |repository: &Repository, snapshot: u128, known: bool| {
        let mut source = BlockSource::file(&file, &image).expect("looked at");
        source.changed = (known && snapshot > 1).then(|| Changed {
            since: uuid::Uuid::from_u128(snapshot - 1),
            ranges: Vec::new(),
        });
        let request = request(Kind::Block, source.size, snapshot);
        block::block(repository, &request, &source, &Arc::default()).expect("backed up");
    };
    let of_tree = |repository: &Repository, snapshot: u128| {
        let request = request(Kind::Tree, 0, snapshot);
        tree::tree(repository, &request, &directory, &Arc::default()).expect("backed up");
    };
    type Make<'a> = &'a dyn Fn(&Repository, u128);
    let kinds: [(&str, Make<'_>); 3] = [
        ("known", &|repository, snapshot| {
            of_image(repository, snapshot, true)
        }),
        ("unknown", &|repository, snapshot| {
            of_image(repository, snapshot, false)
        }),
        ("tree", &of_tree),
    ];
    for (name, make) in kinds {
        let cache = scratch.path().join(format!("cache-{name}"));
        let destination = Destination::parse(&format!("s3://costs/{name}"), Some(&endpoint)).expect("valid");
        let settings = StoreSettings::default();
        let password = Password::new(PASSWORD.to_owned()).expect("not empty");
        let Opened { store, .. } = open(&destination, &settings).expect("opened");
        let repository = Repository::create(store, &password, Some(&cache), None).expect("made");
        make(&repository, 1);

        let Opened { store, counts } = open(&destination, &settings).expect("opened");
        let repository = Repository::open(store, &password, Some(&cache)).expect("opened");
        let opening = counts.tally();
        assert_eq!(opening.requests(), TO_OPEN, "{name}: {opening:?}");
        let mut before = opening;
        for snapshot in 2..5 {
            make(&repository, snapshot);
            let spent = counts.tally().since(&before);
            println!(
                "{name}, backup {snapshot}: {} requests, {spent:?}",
                spent.requests()
            );
            assert!(spent.requests() <= MOST_REQUESTS, "{name}: {spent:?}");
            assert!(spent.sent_bytes < 16 << 10, "{name}: {spent:?}");
            before = counts.tally();
        }
        assert_eq!(repository.backups().expect("listed").len(), 4);
        let left = repository.store().list("locks").expect("listed");
        assert_eq!(left, [], "{name}");
        // That all of it was counted: the lock written, looked for and taken back, and what was written beside it.
        let Tally {
            puts,
            lists,
            stats,
            deletes,
            ..
        } = before.since(&opening);
        assert!(
            puts >= 3 * 5 && lists >= 3 * 3 && stats >= 3 && deletes >= 3,
            "{name}: {before:?}"
        );
    }
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(length).collect()
}

/// A daemon that knows the server's keys. What else Amazon's programs read is given but empty, as `docker plugin set` and
/// the plugin's own defaults leave it.
fn start(home: &Home) -> Daemon<'_> {
    home.start_with(|command| {
        command
            .env("WINDLASS_BACKUP_PASSWORD", PASSWORD)
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        for empty in [
            "AWS_SESSION_TOKEN",
            "AWS_REGION",
            "AWS_PROFILE",
            "AWS_ENDPOINT_URL",
        ] {
            command.env(empty, "");
        }
    })
}

/// Everything that a directory volume can hold and that plain restic brings back as well.
fn fill(root: &Path) {
    let below = root.join("dir/below");
    std::fs::create_dir_all(&below).expect("made");
    std::fs::write(root.join("file"), noise(900_000)).expect("written");
    std::fs::write(root.join("empty"), "").expect("written");
    let strange = std::ffi::OsStr::from_bytes(b"not \xff UTF-8\n");
    std::fs::write(below.join(strange), "strange").expect("written");
    std::fs::hard_link(root.join("file"), below.join("again")).expect("linked");
    std::os::unix::fs::symlink("../file", root.join("dir/link")).expect("linked");
    std::os::unix::fs::symlink("/nowhere", root.join("dir/dangling")).expect("linked");
    xattr::set(root.join("file"), "user.note", b"\0\xff").expect("an attribute");
    let sparse = std::fs::File::create(root.join("sparse")).expect("made");
    sparse.set_len(20 << 20).expect("grown");
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"data", 11 << 20).expect("written");
    let script = "cd \"$1\" && mkfifo fifo && mknod null c 1 3 && chmod 6751 file && chmod 1777 dir && chmod 0 empty && \
         chown 1234:4321 dir/below/again && chown -h 77:88 dir/link && setfacl -m u:99:r-x dir && \
         touch -hd '1999-12-31 23:59:59.123456789' dir/link && touch -d 1965-01-02T03:04:05.006 empty dir/below";
    shell(&["sh", "-c", script, "fill", text(root)]);
}

/// What rsync would have to do to make `copy` what `original` is: content, modes, owners, times, links, ACLs, attributes.
fn differences(original: &Path, copy: &Path) -> String {
    let from = format!("{}/", text(original));
    let to = format!("{}/", text(copy));
    shell(&["rsync", "-nacAXHi", "--delete", &from, &to])
}

/// The same of a volume that was restored, whose root has a note of the driver's, for root's eyes alone.
fn differences_of_volume(original: &Path, copy: &Path) -> String {
    let from = format!("{}/", text(original));
    let to = format!("{}/", text(copy));
    let but = "--filter=-x trusted.windlass.*";
    shell(&["rsync", "-nacAXHi", "--delete", but, &from, &to])
}

fn restic(server: &Server, repository: &str, args: &[&str]) -> String {
    let output = Command::new("restic")
        .args(["--no-cache", "-r"])
        .arg(format!("s3:{}/{repository}", server.endpoint))
        .args(args)
        .env("RESTIC_PASSWORD", PASSWORD)
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .output()
        .expect("restic runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "restic {args:?}: {said}{errors}");
    said
}

fn has_restic() -> bool {
    if Command::new("restic").arg("version").output().is_ok() {
        return true;
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "restic is missing: packaging/setup installs it"
    );
    println!("SKIPPED: restic is not installed");
    false
}

#[test]
fn a_volume_goes_to_s3_and_comes_back_on_another_host_and_by_restic() {
    let Some(server) = Server::get() else { return };
    server.make_bucket("road");
    let first = Home::on("btrfs");
    let daemon = start(&first);
    daemon.say(&["create", "pg"]);
    let data = first.volumes().join("pg");
    fill(&data);
    daemon.say(&["snapshot", "create", "pg", "--name", "s"]);
    let kept = first.path().join("kept");
    // Not by rsync, which loses a group's rights where an ACL has them for its mask.
    shell(&["cp", "-a", text(&data), text(&kept)]);
    assert_eq!(differences(&data, &kept), "");
    std::fs::write(data.join("file"), "after the snapshot").expect("written");

    let destination = "s3://road@nowhere/deep/er";
    let backup = daemon.say(&[
        "backup",
        "create",
        "pg@s",
        "--dest",
        destination,
        "--s3-endpoint",
        &server.endpoint,
    ]);
    assert!(
        backup.starts_with(&format!(
            "{destination}?endpoint={}&volume=pg&backup=",
            server.endpoint
        )),
        "{backup}"
    );
    let at = ["backup", "list", destination, "--s3-endpoint", &server.endpoint];
    let listed = daemon.json(&at);
    let urls: Vec<&String> = listed.as_object().expect("an object").keys().collect();
    assert_eq!(urls, [&backup]);
    let shown = daemon.json(&["backup", "inspect", &backup]);
    assert_eq!(
        (&shown["VolumeName"], &shown["SnapshotName"]),
        (&"pg".into(), &"s".into())
    );
    daemon.say(&["delete", "pg", "--purge"]);
    assert!(
        daemon
            .json(&["list"])
            .as_object()
            .is_some_and(|all| all.is_empty())
    );
    daemon.stop();

    let second = Home::on("btrfs");
    let daemon = start(&second);
    daemon.say(&["create", "pg", "--backup", &backup]);
    let restored = second.volumes().join("pg");
    assert_eq!(differences_of_volume(&kept, &restored), "");
    assert_eq!(daemon.json(&["inspect", "pg"])["State"], "ready");

    if !has_restic() {
        return;
    }
    let by_restic = |id: &str, name: &str| {
        let target = first.path().join(name);
        let restore = ["restore", id, "--target", text(&target)];
        restic(server, "road/deep/er/pg", &restore);
        assert_eq!(differences(&kept, &target.join("data")), "", "{name}");
    };
    restic(server, "road/deep/er/pg", &["check", "--read-data"]);
    by_restic("latest", "by-restic");
    // The restored volume goes the same way, and nothing of ours went with it: the note on its root once did.
    let more = ["--s3-endpoint", &server.endpoint, "--take-over"];
    let again = [&["backup", "create", "pg", "--dest", destination][..], &more].concat();
    let again = daemon.say(&again);
    let (_, id) = again.rsplit_once("backup=").expect("a URL of a backup");
    restic(server, "road/deep/er/pg", &["check", "--read-data"]);
    by_restic(id, "again-by-restic");
}

/// The same by the daemon, whose own figure is held against the store's: it counts what it says.
#[test]
fn the_daemon_s_backup_of_an_unchanged_volume_costs_ten_requests() {
    let Some(server) = Server::get() else { return };
    server.make_bucket("daemon");
    // With snapshots of the filesystem's own, and with those in a repository, which are copied.
    for filesystem in ["btrfs", "ext4"] {
        let home = Home::on(filesystem);
        let mut daemon = start(&home);
        daemon.say(&["create", filesystem]);
        fill(&home.volumes().join(filesystem));
        let cost = |daemon: &Daemon<'_>| -> u64 {
            let made = daemon.json(&[
                "backup",
                "create",
                filesystem,
                "--dest",
                "s3://daemon",
                "--s3-endpoint",
                &server.endpoint,
                "-o",
                "json",
            ]);
            let requests = made["Requests"].as_u64().expect("a figure");
            println!("{filesystem}: {requests} requests, {made}");
            requests
        };
        let whole = cost(&daemon);
        assert!(whole > MOST_REQUESTS, "making the repository is counted: {whole}");
        for _ in 0..2 {
            let requests = cost(&daemon);
            assert!(requests <= MOST_REQUESTS, "{filesystem}: {requests}");
        }
        daemon.stop();
        daemon = start(&home);
        let requests = cost(&daemon);
        assert!(
            (TO_OPEN + 1..=MOST_REQUESTS + TO_OPEN).contains(&requests),
            "{filesystem}, after a restart: {requests}"
        );
        let requests = cost(&daemon);
        assert!(requests <= MOST_REQUESTS, "{filesystem}: {requests}");
        let listed = daemon.json(&[
            "backup",
            "list",
            &format!("s3://daemon?endpoint={}", server.endpoint),
        ]);
        let count = listed.as_object().expect("an object").len();
        let all = if filesystem == "btrfs" { 5 } else { 10 };
        assert_eq!(count, all, "five of each volume: {listed}");
    }
}
