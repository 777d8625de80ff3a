//! `windlass repo` as people and scripts use it: the real program on repositories in directories, without a daemon. Long, because
//! its commands share one scratch and one way to run them.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use windlass::engine::backup::block::{BlockSource, block};
use windlass::engine::backup::{Request, tree};
use windlass::engine::{Kind, Manifest, Password, Repository, SnapshotIdentity, VolumeIdentity};
use windlass::store::DirectoryStore;

const PASSWORD: &str = "correct horse";

/// A directory with a destination in it, and all that the program may leave behind.
struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("backups")).expect("a destination");
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn destination(&self) -> String {
        format!("vfs://{}/backups", self.dir.path().display())
    }

    fn url(&self, volume: &str) -> String {
        format!("{}?volume={volume}&backup=latest", self.destination())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
        command.arg("repo").args(args).stdin(Stdio::null());
        for name in [
            "WINDLASS_BACKUP_PASSWORD_FILE",
            "RESTIC_PASSWORD",
            "RESTIC_PASSWORD_FILE",
        ] {
            command.env_remove(name);
        }
        command.env("WINDLASS_BACKUP_PASSWORD", PASSWORD);
        command.env("XDG_CACHE_HOME", self.path("cache"));
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("it starts")
    }

    /// What a command prints that must succeed.
    fn say(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout)
            .expect("UTF-8")
            .trim_end()
            .to_owned()
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.say(args)).expect("JSON")
    }

    /// The exit code and the error of a command that must fail.
    fn fails(&self, args: &[&str]) -> (i32, String) {
        failure(&self.run(args))
    }

    fn repository(&self, volume: &str) -> Repository {
        let at = self.path("backups").join(volume);
        std::fs::create_dir_all(&at).expect("a directory");
        let store = Arc::new(DirectoryStore::open(&at).expect("a store"));
        let password = Password::new(PASSWORD.to_owned()).expect("one");
        match at.join("config").exists() {
            true => Repository::open(store, &password, None).expect("opened"),
            false => Repository::create(store, &password, None, None).expect("made"),
        }
    }

    /// Files of the repository, e.g. its packs.
    fn objects(&self, volume: &str, below: &str) -> Vec<PathBuf> {
        walkdir::WalkDir::new(self.path("backups").join(volume).join(below))
            .into_iter()
            .filter_map(|entry| entry.ok())
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| entry.into_path())
            .collect()
    }

    /// A tree with something of everything, backed up as volume `www`.
    fn tree(&self) -> PathBuf {
        let root = self.path("source");
        std::fs::create_dir_all(root.join("etc/conf.d")).expect("made");
        std::fs::write(root.join("etc/main.conf"), "listen 80\n").expect("written");
        std::fs::write(root.join("etc/conf.d/one"), "1").expect("written");
        std::fs::write(root.join("large"), noise(3_000_000, 1)).expect("written");
        std::os::unix::fs::symlink("etc/main.conf", root.join("link")).expect("a link");
        std::fs::set_permissions(root.join("etc"), PermissionsExt::from_mode(0o750)).expect("set");
        self.back_up_tree(&root);
        root
    }

    fn back_up_tree(&self, root: &Path) {
        let request = request(Kind::Tree, "www", 0);
        tree::tree(&self.repository("www"), &request, root, &Arc::default()).expect("backed up");
    }

    /// An image of 130 MiB with some data, backed up as volume `disk`.
    fn image(&self) -> Vec<u8> {
        let mut image = vec![0; 130 << 20];
        image[5000..905_000].copy_from_slice(&noise(900_000, 2));
        let end = image.len();
        image[end - 70_000..].copy_from_slice(&noise(70_000, 3));
        let path = self.path("image");
        std::fs::write(&path, &image).expect("written");
        let file = std::fs::File::open(&path).expect("opened");
        let source = BlockSource::file(&file, &path).expect("looked at");
        let request = request(Kind::Block, "disk", source.size);
        block(&self.repository("disk"), &request, &source, &Arc::default()).expect("backed up");
        image
    }
}

fn request(kind: Kind, volume: &str, size: u64) -> Request {
    let time = "2026-11-20T08:00:00Z".parse().expect("a time");
    Request {
        manifest: Manifest {
            version: Manifest::VERSION,
            kind,
            driver: "vfs".to_owned(),
            size,
            chunk_bytes: (kind == Kind::Block).then_some(64 << 10),
            filesystem: None,
            volume: VolumeIdentity {
                id: uuid::Uuid::from_u128(1),
                name: volume.to_owned(),
                created: time,
                options: Default::default(),
            },
            snapshot: SnapshotIdentity {
                id: uuid::Uuid::new_v4(),
                name: "before".to_owned(),
                created: time,
                consistency: "point-in-time".to_owned(),
            },
        },
        hostname: "alpha".to_owned(),
        level: 1,
        adopts: true,
        only_if_changed: false,
    }
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// The exit code of a command that must have failed, and the line that says why.
fn failure(output: &Output) -> (i32, String) {
    assert!(!output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("windlass: "))
        .collect();
    assert_eq!(lines.len(), 1, "one line says why: {said:?}");
    (output.status.code().expect("an exit code"), lines[0].to_owned())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn same_trees(one: &Path, other: &Path) {
    let output = Command::new("diff")
        .args(["-r", "--no-dereference"])
        .args([one, other])
        .output()
        .expect("diff runs");
    assert!(output.status.success(), "{output:?}");
}

/// Whether we may mount. Where CI is, we may.
fn is_root() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "CI runs as root");
    println!("SKIPPED: only root can mount");
    false
}

#[test]
fn a_repository_is_made_and_its_passwords_change() {
    let scratch = Scratch::new();
    let (dest, new) = (scratch.destination(), scratch.path("new"));
    std::fs::write(&new, "battery staple\n").expect("written");
    assert_eq!(
        scratch.say(&["list", &dest, "-o", "table"]),
        "no backups, and no repository"
    );
    let url = scratch.say(&["init", &dest, "--volume", "pg"]);
    assert_eq!(url, format!("{dest}?volume=pg"));
    let (code, said) = scratch.fails(&["init", &dest, "--volume", "pg"]);
    assert!(
        code == 4 && said.contains("there is a repository already"),
        "{code} {said}"
    );
    assert_eq!(scratch.json(&["list", &dest]), json!({}));

    let first = scratch.json(&["key", "list", &url]);
    assert_eq!(first[0]["Current"], true);
    let (code, said) = scratch.fails(&["key", "remove", &url, first[0]["ID"].as_str().expect("an id")]);
    assert!(code == 6 && said.contains("is the only key"), "{code} {said}");
    let added = scratch.say(&["key", "add", &url, "--new-password-file", text(&new)]);
    assert_eq!(
        scratch.json(&["key", "list", &url]).as_array().map(Vec::len),
        Some(2)
    );
    scratch.say(&["key", "remove", &url, &added[..8]]);
    let changed = scratch.say(&["key", "change", &url, "--new-password-file", text(&new)]);
    let (code, said) = scratch.fails(&["key", "list", &url]);
    assert!(
        code == 6 && said.contains("password is wrong") && said.contains("--password-file"),
        "{said}"
    );
    let left = scratch.json(&["key", "list", &url, "--password-file", text(&new)]);
    assert_eq!(left.as_array().map(Vec::len), Some(1));
    assert_eq!(left[0]["ID"], json!(changed));
}

#[test]
fn a_repository_without_a_password_says_so_and_needs_none() {
    let scratch = Scratch::new();
    let dest = scratch.destination();
    let run = |args: &[&str]| {
        let mut command = scratch.command(args);
        command
            .env_remove("WINDLASS_BACKUP_PASSWORD")
            .output()
            .expect("it starts")
    };
    let (code, said) = failure(&run(&["init", &dest]));
    assert!(
        code == 6 && said.contains("--password-file") && said.contains("--encrypt none"),
        "{said}"
    );
    assert!(run(&["init", &dest, "--encrypt", "none"]).status.success());
    assert_eq!(failure(&run(&["list", &dest])).0, 6);
    assert!(
        run(&["list", &dest, "--encrypt", "none", "--no-cache"])
            .status
            .success()
    );
}

#[test]
fn a_tree_is_listed_looked_at_and_restored() {
    let scratch = Scratch::new();
    let root = scratch.tree();
    let url = scratch.url("www");

    let list = scratch.json(&["list", &scratch.destination()]);
    let (name, entry) = list
        .as_object()
        .and_then(|all| all.iter().next())
        .expect("a backup");
    assert_eq!(entry["BackupURL"], json!(name));
    for (key, value) in [
        ("DriverName", "vfs"),
        ("VolumeName", "www"),
        ("VolumeSize", "0"),
        ("SnapshotName", "before"),
        ("SnapshotCreatedAt", "Fri Nov 20 08:00:00 +0000 2026"),
        ("VolumeCreatedAt", "Fri Nov 20 08:00:00 +0000 2026"),
        ("Kind", "tree"),
        ("MadeBy", "windlass"),
    ] {
        assert_eq!(entry[key], value, "{key}");
    }
    let table = scratch.say(&["list", &scratch.destination(), "-o", "table"]);
    assert!(
        table.starts_with("VOLUME") && table.contains("2.9 MiB"),
        "{table}"
    );

    let paths = |args: &[&str]| -> Vec<String> {
        let listed = scratch.json(&[&["ls", &url], args].concat());
        let entries = listed.as_array().expect("a list").iter();
        entries
            .map(|entry| entry["Path"].as_str().expect("a path").to_owned())
            .collect()
    };
    assert_eq!(paths(&[]), ["etc", "large", "link"]);
    assert_eq!(
        paths(&["/etc", "-R"]),
        ["etc/conf.d", "etc/conf.d/one", "etc/main.conf"]
    );
    assert_eq!(paths(&["etc/main.conf"]), ["etc/main.conf"]);
    assert_eq!(scratch.json(&["ls", &url, "link"])[0]["Target"], "etc/main.conf");

    assert_eq!(scratch.say(&["cat", &url, "etc/main.conf"]), "listen 80");
    let large = std::fs::read(root.join("large")).expect("read");
    assert_eq!(scratch.run(&["cat", &url, "large"]).stdout, large);
    let part = scratch
        .run(&["cat", &url, "large", "--offset", "1500001", "--length", "1M"])
        .stdout;
    assert!(
        part == large[1_500_001..1_500_001 + (1 << 20)],
        "{} bytes",
        part.len()
    );
    let rest = scratch
        .run(&["cat", &url, "large", "--offset", "2999990", "--length", "1G"])
        .stdout;
    assert_eq!(rest, large[2_999_990..]);
    for (path, expected) in [("etc/nothing", 3), ("../etc", 3), ("etc", 6), ("link", 6)] {
        assert_eq!(scratch.fails(&["cat", &url, path]).0, expected, "{path}");
    }

    let target = scratch.path("target");
    let report = scratch.json(&["restore", &url, text(&target)]);
    assert_eq!(
        (&report["Files"], &report["Bytes"]),
        (&json!(3), &json!(3_000_011))
    );
    same_trees(&root, &target);
    let etc = std::fs::metadata(target.join("etc")).expect("there");
    assert_eq!(etc.mode() & 0o7777, 0o750);

    let (code, said) = scratch.fails(&["restore", &url, text(&target)]);
    assert!(code == 6 && said.contains("is not empty; --delta"), "{said}");
    std::fs::write(target.join("etc/main.conf"), "listen 81\n").expect("written");
    std::fs::write(target.join("mine"), "stays").expect("written");
    let report = scratch.json(&["restore", &url, text(&target), "--delta"]);
    assert_eq!(report["BytesWritten"], 10, "{report}");
    assert!(target.join("mine").exists());
    let report = scratch.json(&["restore", &url, text(&target), "--delta", "--delete"]);
    assert_eq!(report["Removed"], 1, "{report}");
    same_trees(&root, &target);

    let some = scratch.path("some");
    scratch.say(&["restore", &url, text(&some), "etc/conf.d", "link"]);
    assert!(some.join("etc/conf.d/one").exists() && some.join("link").is_symlink());
    assert!(!some.join("large").exists() && !some.join("etc/main.conf").exists());
    let (code, said) = scratch.fails(&["restore", &url, text(&scratch.path("none")), "nowhere"]);
    assert!(code == 3 && !said.contains("unfinished"), "{said}");
    assert_eq!(
        scratch
            .fails(&["restore", &url, text(&scratch.path("none")), "--overwrite"])
            .0,
        2
    );
}

#[test]
fn an_image_is_read_in_part_restored_and_restored_over() {
    let scratch = Scratch::new();
    let image = scratch.image();
    let url = scratch.url("disk");

    let part = scratch
        .run(&["cat", &url, "--offset", "4096", "--length", "1M"])
        .stdout;
    assert!(part == image[4096..4096 + (1 << 20)], "{} bytes", part.len());
    let end = scratch.run(&["cat", &url, "--offset", "129M"]).stdout;
    assert!(end == image[129 << 20..], "{} bytes", end.len());
    assert_eq!(scratch.fails(&["cat", &url, "--offset", "1G"]).0, 6);
    assert_eq!(scratch.fails(&["cat", &url, "a/path"]).0, 2);
    assert_eq!(scratch.fails(&["ls", &url]).0, 6);

    let target = scratch.path("target");
    scratch.say(&["restore", &url, text(&target)]);
    let holds = |what: &str| assert!(std::fs::read(&target).expect("read") == image, "{what}");
    holds("a new file");
    let about = std::fs::metadata(&target).expect("there");
    assert!(
        about.blocks() * 512 < 8 << 20,
        "zeros are holes: {} blocks",
        about.blocks()
    );
    assert_eq!(about.mode() & 0o777, 0o600, "nobody else reads it");

    let (code, said) = scratch.fails(&["restore", &url, text(&target)]);
    assert!(
        code == 6 && said.contains("--delta") && said.contains("--overwrite"),
        "{said}"
    );
    for (flag, most) in [("--delta", 1 << 18), ("--overwrite", 130 << 20)] {
        let mut spoiled = image.clone();
        spoiled[100 << 20] = 1;
        spoiled[6000] ^= 1;
        std::fs::write(&target, &spoiled).expect("written");
        let report = scratch.json(&["restore", &url, text(&target), flag]);
        holds(flag);
        let written = report["BytesWritten"].as_u64().expect("a number");
        assert!((1..=most).contains(&written), "{flag}: {report}");
    }
    assert_eq!(
        scratch
            .fails(&["restore", &url, text(&scratch.path("new")), "a/path"])
            .0,
        2
    );
    let (code, said) = scratch.fails(&["restore", &url, text(scratch.dir.path())]);
    assert!(
        code == 6 && said.contains("neither a file nor a block device"),
        "{said}"
    );
}

#[test]
fn restic_s_own_repository_is_one_as_well() {
    let scratch = Scratch::new();
    let restic = |args: &[&str]| {
        let at = scratch.path("backups/plain");
        let mut command = Command::new("restic");
        command
            .args(["--no-cache", "--quiet", "--repo", text(&at)])
            .args(args);
        command
            .env("RESTIC_PASSWORD", PASSWORD)
            .current_dir(scratch.dir.path());
        command.output()
    };
    match restic(&["init"]) {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(error) => {
            assert!(
                std::env::var_os("CI").is_none(),
                "restic is missing: packaging/setup installs it"
            );
            println!("SKIPPED: restic is not installed: {error}");
            return;
        }
    }
    std::fs::create_dir(scratch.path("data")).expect("made");
    std::fs::write(scratch.path("data/file"), "restic's").expect("written");
    assert!(restic(&["backup", "data"]).expect("runs").status.success());
    // At the destination itself, and as a volume below it.
    for (dest, volume) in [
        (scratch.destination(), Some("plain")),
        (format!("{}/plain", scratch.destination()), None),
    ] {
        let list = scratch.json(&["list", &dest]);
        let (url, entry) = list
            .as_object()
            .and_then(|all| all.iter().next())
            .expect("a backup");
        assert_eq!(entry["VolumeName"], volume.unwrap_or_default());
        assert_eq!(scratch.say(&["cat", url, "data/file"]), "restic's");
        assert_eq!(scratch.json(&["verify", url, "--all"])[0]["Verified"], true);
        let target = scratch.path(&format!("target{}", volume.is_some()));
        scratch.say(&["restore", url, text(&target)]);
        same_trees(&scratch.path("data"), &target.join("data"));
    }
    let url = scratch.url("plain");
    scratch.say(&["forget", &url]);
    scratch.say(&["prune", &format!("{}?volume=plain", scratch.destination())]);
    let check = restic(&["check", "--read-data"]).expect("runs");
    assert!(check.status.success(), "{check:?}");
    assert!(
        scratch.objects("plain", "data").is_empty(),
        "nothing is needed any more"
    );
}

#[test]
fn convoy_s_backups_are_listed_and_restored_without_a_password() {
    let scratch = Scratch::new();
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/convoy/repository");
    let dest = format!("vfs://{fixture}");
    let run = |args: &[&str]| {
        let mut command = scratch.command(args);
        command
            .env_remove("WINDLASS_BACKUP_PASSWORD")
            .output()
            .expect("it starts")
    };
    let output = run(&["list", &dest]);
    assert!(output.status.success(), "{output:?}");
    let list: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let of = |kind: &str| -> Vec<(&String, &Value)> {
        let all = list.as_object().expect("backups").iter();
        all.filter(|(_, entry)| entry["Kind"] == kind && entry["MadeBy"] == "Convoy")
            .collect()
    };
    let (blocks, trees) = (of("block"), of("tree"));
    assert!(!blocks.is_empty() && !trees.is_empty(), "{list}");

    let (url, entry) = blocks[0];
    let image = scratch.path("image");
    let output = run(&["restore", url, text(&image)]);
    assert!(output.status.success(), "{output:?}");
    let restored = std::fs::read(&image).expect("read");
    assert_eq!(entry["VolumeSize"], json!(restored.len().to_string()));
    assert_eq!(
        failure(&run(&["restore", url, text(&image)])).0,
        6,
        "it is there already"
    );
    // What was there shines through nowhere, not even where Convoy has no blocks.
    std::fs::write(&image, vec![7; restored.len()]).expect("written");
    assert!(
        run(&["restore", url, text(&image), "--overwrite"])
            .status
            .success()
    );
    assert!(std::fs::read(&image).expect("read") == restored, "the same again");

    let target = scratch.path("target");
    let output = run(&["restore", trees[0].0, text(&target)]);
    assert!(output.status.success(), "{output:?}");
    assert!(std::fs::read_dir(&target).expect("a directory").next().is_some());
    assert_eq!(
        failure(&run(&["restore", trees[0].0, text(&target)])).0,
        6,
        "it is not empty"
    );

    for command in ["verify", "ls", "cat"] {
        let (code, said) = failure(&run(&[command, url]));
        assert!(code == 7 && said.contains("repo restore"), "{command}: {said}");
    }
    let (code, _) = failure(&run(&[
        "restore",
        &format!("{dest}?volume=blk&backup=backup-0"),
        "/nowhere/x",
    ]));
    assert_eq!(code, 3);
}

#[test]
fn damage_is_found_named_and_has_its_exit_code() {
    let scratch = Scratch::new();
    let root = scratch.tree();
    let whole = format!("{}?volume=www", scratch.destination());
    let sound = scratch.json(&["verify", &scratch.destination(), "--all"]);
    assert_eq!(
        (&sound[0]["Verified"], &sound[0]["ProblemCount"]),
        (&json!(true), &json!(0))
    );

    // The index is lost: nothing can be restored until it is made anew.
    for index in scratch.objects("www", "index") {
        std::fs::remove_file(index).expect("removed");
    }
    let (code, said) = scratch.fails(&["verify", &whole]);
    assert!(code == 8 && said.contains("repo repair"), "{said}");
    assert_eq!(
        scratch
            .fails(&["restore", &scratch.url("www"), text(&scratch.path("early"))])
            .0,
        8
    );
    scratch.say(&["repair", &whole]);
    scratch.say(&["verify", &whole, "--all"]);
    let target = scratch.path("target");
    scratch.say(&["restore", &scratch.url("www"), text(&target)]);
    same_trees(&root, &target);

    // A bit of the largest pack turns: only reading finds that, and says whom it affects.
    let mut packs = scratch.objects("www", "data");
    packs.sort_by_key(|path| std::fs::metadata(path).expect("there").len());
    let pack = packs.pop().expect("a pack");
    let mut bytes = std::fs::read(&pack).expect("read");
    bytes[1000] ^= 1;
    std::fs::set_permissions(&pack, PermissionsExt::from_mode(0o600)).expect("set");
    std::fs::write(&pack, &bytes).expect("written");
    scratch.say(&["verify", &whole]);
    let output = scratch.run(&["verify", &whole, "--all"]);
    let (code, said) = failure(&output);
    assert!(code == 8 && said.contains(&whole), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("the report comes all the same");
    let problem = &report[0]["Problems"][0];
    let name = pack.file_name().and_then(|name| name.to_str()).expect("a name");
    assert!(
        problem["Object"]
            .as_str()
            .is_some_and(|object| object.contains(name)),
        "{report}"
    );
    let affected = problem["Backups"][0].as_str().expect("a URL");
    assert!(affected.starts_with(&format!("{whole}&backup=")), "{report}");
    let table = scratch.run(&["verify", &whole, "--all", "-o", "table"]);
    assert!(String::from_utf8_lossy(&table.stdout).contains(&format!("affects {affected}")));
    let (code, _) = scratch.fails(&["restore", affected, text(&scratch.path("spoiled"))]);
    assert_eq!(code, 8);
}

#[test]
fn what_cannot_be_done_is_said_on_one_line_with_what_to_do() {
    let scratch = Scratch::new();
    scratch.tree();
    let dest = scratch.destination();
    let missing = format!("vfs://{}/missing", scratch.dir.path().display());
    for (args, code, words) in [
        (vec!["list", "ftp://host/x"], 6, "valid: vfs, file, s3"),
        (vec!["list", "/srv/backups"], 6, "vfs:///backups"),
        (vec!["list", "vfs://srv/backups"], 6, "three slashes"),
        (vec!["list", &missing], 1, "make it, or mount"),
        (vec!["list", &dest, "--volume", "other"], 3, "repo list"),
        (vec!["list", &dest, "--volume", "../x"], 6, "cannot be the name"),
        (vec!["verify", &missing], 1, "no such directory"),
        (vec!["unlock", &dest], 3, "--volume"),
        (vec!["ls", &dest, "etc"], 2, "names no backup"),
        (vec!["prune", &scratch.url("www")], 2, "whole repository"),
        (
            vec!["cat", &format!("{dest}?volume=www&backup=ffffffffffffffff"), "x"],
            3,
            "repo list",
        ),
        (vec!["ls", &format!("{dest}?volume=www&bakcup=1")], 6, "bakcup"),
    ] {
        let (found, said) = scratch.fails(&args);
        assert!(found == code && said.contains(words), "{args:?}: {found} {said}");
    }
    let output = scratch
        .command(&["list", &dest])
        .env("WINDLASS_BACKUP_PASSWORD", "wrong")
        .output();
    let (code, said) = failure(&output.expect("it starts"));
    assert!(code == 6 && said.contains("password is wrong"), "{said}");
    assert!(!scratch.path("backups/other").exists(), "looking makes nothing");
}

#[test]
fn a_repository_that_cannot_be_opened_does_not_hide_the_others() {
    let scratch = Scratch::new();
    scratch.tree();
    std::fs::create_dir_all(scratch.path("backups/alien")).expect("made");
    let output = scratch
        .command(&["init", &scratch.destination(), "--volume", "alien"])
        .env("WINDLASS_BACKUP_PASSWORD", "another")
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{output:?}");
    std::fs::create_dir(scratch.path("backups/lost+found")).expect("made");
    let output = scratch.run(&["list", &scratch.destination()]);
    let (code, said) = failure(&output);
    assert!(code == 6 && said.contains("alien"), "{said}");
    let list: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(list.as_object().map(|all| all.len()), Some(1));
}

#[test]
fn a_full_disk_is_named_and_the_restore_goes_on_where_there_is_room() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let root = scratch.tree();
    let small = scratch.path("small");
    std::fs::create_dir(&small).expect("made");
    let mount = |options: &str| {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "windlass-test"])
            .arg(&small)
            .status();
        assert!(status.expect("mount runs").success());
    };
    mount("size=1m");
    let failed = scratch.run(&["restore", &scratch.url("www"), text(&small.join("target"))]);
    let grown = Command::new("mount")
        .args(["-o", "remount,size=16m"])
        .arg(&small)
        .status();
    let resumed = scratch.run(&[
        "restore",
        &scratch.url("www"),
        text(&small.join("target")),
        "--delta",
    ]);
    let same = Command::new("diff")
        .args(["-r", "--no-dereference", text(&root), text(&small.join("target"))])
        .status();
    let umount = Command::new("umount").arg(&small).status().expect("umount runs");
    assert!(umount.success());
    let (code, said) = failure(&failed);
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("No space left") && said.contains("--delta goes on with it"),
        "{said}"
    );
    assert!(grown.expect("mount runs").success());
    assert!(resumed.status.success(), "{resumed:?}");
    assert!(same.expect("diff runs").success());
}

#[test]
fn an_interrupt_leaves_no_lock_and_is_told_apart() {
    let scratch = Scratch::new();
    let root = scratch.path("large");
    std::fs::create_dir(&root).expect("made");
    for number in 0..4 {
        std::fs::write(root.join(number.to_string()), noise(32 << 20, number)).expect("written");
    }
    scratch.back_up_tree(&root);
    for signal in ["INT", "TERM"] {
        let child = scratch
            .command(&["verify", &scratch.destination(), "--all"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let until = Instant::now() + Duration::from_secs(30);
        while scratch.objects("www", "locks").is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        let sent = Command::new("kill")
            .args(["-s", signal, &child.id().to_string()])
            .status();
        assert!(sent.expect("kill runs").success());
        let (code, said) = failure(&child.wait_with_output().expect("it ends"));
        assert_eq!(code, 130, "{signal}: {said}");
        assert!(said.contains("interrupted"), "{said}");
        assert!(
            scratch.objects("www", "locks").is_empty(),
            "{signal}: the lock is gone"
        );
    }
    let whole = format!("{}?volume=www", scratch.destination());
    assert_eq!(scratch.json(&["unlock", &whole])["LocksRemoved"], 0);
}

/// Runs a shell's words on a terminal of their own, says `typed` when the program asks, and returns what the screen shows.
fn on_a_terminal(scratch: &Scratch, words: &str, typed: &[u8]) -> (i32, String) {
    let mut child = Command::new("timeout")
        .args(["60", "script", "-qec", words, "/dev/null"])
        .env_remove("WINDLASS_BACKUP_PASSWORD")
        .env("TERM", "xterm")
        .env("XDG_CACHE_HOME", scratch.path("cache"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script runs");
    let (mut input, mut output) = (
        child.stdin.take().expect("piped"),
        child.stdout.take().expect("piped"),
    );
    let (mut seen, mut piece, mut asked) = (Vec::new(), [0; 4096], false);
    while let Ok(length) = output.read(&mut piece)
        && length > 0
    {
        seen.extend_from_slice(&piece[..length]);
        if !asked && String::from_utf8_lossy(&seen).contains("password of ") {
            asked = true;
            input.write_all(typed).expect("typed");
        }
    }
    drop(input);
    let status = child.wait().expect("it ends");
    (
        status.code().unwrap_or(-1),
        String::from_utf8_lossy(&seen).into_owned(),
    )
}

#[test]
fn a_terminal_is_asked_without_an_echo_and_keeps_it_afterwards() {
    let scratch = Scratch::new();
    scratch.tree();
    let program = env!("CARGO_BIN_EXE_windlass");
    let dest = scratch.destination();
    let words = format!("trap : INT; {program} repo list '{dest}'; code=$?; stty -a; exit $code");
    let (code, seen) = on_a_terminal(&scratch, &words, format!("{PASSWORD}\n").as_bytes());
    assert_eq!(code, 0, "{seen}");
    assert!(
        seen.contains("VOLUME") && seen.contains("before"),
        "a table: {seen}"
    );
    assert!(!seen.contains(PASSWORD), "the password is on the screen: {seen}");
    assert!(seen.contains(" echo "), "{seen}");
    // Ctrl-C instead of an answer.
    let (code, seen) = on_a_terminal(&scratch, &words, b"\x03");
    assert_eq!(code, 130, "{seen}");
    assert!(
        seen.contains(" echo ") && !seen.contains("-echo "),
        "the terminal has its echo back: {seen}"
    );
    // The bar is on stderr and goes when the work is done; what was found stays.
    let words = format!("{program} repo verify '{dest}' --all");
    let (code, seen) = on_a_terminal(&scratch, &words, format!("{PASSWORD}\n").as_bytes());
    assert!(code == 0 && seen.contains(": sound ("), "{code} {seen}");
}
