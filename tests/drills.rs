//! Restore drills by a real daemon: one that passes, damage that is found and told, a kill in the middle, a destination that is away.
//! Of images, tests/devicemapper.rs.

mod daemon;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use daemon::{Daemon, Home, noise, request, until};
use serde_json::{Value, json};

fn with_password(command: &mut Command) {
    command.env("WINDLASS_BACKUP_PASSWORD", "correct horse");
}

fn destination(home: &Home) -> (PathBuf, String) {
    let dir = home.path().join("backups");
    fs::create_dir_all(&dir).expect("a directory");
    let url = format!("vfs://{}", dir.display());
    (dir, url)
}

/// A volume with a tree of all sorts in it, and its destination.
fn furnished(home: &Home, daemon: &Daemon<'_>, megabytes: usize) -> (PathBuf, String) {
    let (dir, url) = destination(home);
    daemon.say(&["create", "v", "-O", &format!("backup.dest={url}")]);
    let root = home.volumes().join("v");
    fs::create_dir_all(root.join("d/e")).expect("made");
    fs::write(root.join("d/data"), noise(megabytes << 20)).expect("written");
    fs::write(root.join("d/e/empty"), "").expect("written");
    fs::hard_link(root.join("d/data"), root.join("again")).expect("linked");
    std::os::unix::fs::symlink("d/data", root.join("link")).expect("linked");
    (dir, url)
}

fn back_up(home: &Home, daemon: &Daemon<'_>) -> String {
    daemon.say(&[
        "backup",
        "create",
        "v",
        "--dest",
        &destination(home).1,
        "--no-progress",
    ])
}

fn fares(daemon: &Daemon<'_>) -> Value {
    daemon.json(&["inspect", "v"])["Schedules"]["drill"].clone()
}

/// What operations under way have in the driver's storage, and its volumes.
fn left(home: &Home) -> Vec<PathBuf> {
    let staging = home.volumes().join(".windlass/staging");
    let entries = fs::read_dir(&staging).expect("it is there");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn largest(dir: &Path) -> PathBuf {
    let mut all = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).expect("listed") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => dirs.push(path),
                false => all.push((fs::metadata(&path).expect("there").len(), path)),
            }
        }
    }
    all.into_iter().max().expect("a file").1
}

fn drills(daemon: &Daemon<'_>) -> Vec<(String, String)> {
    let history = daemon.json(&["timeline", "v", "-o", "json"]);
    let marks = history["Marks"].as_array().expect("marks").iter();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    marks
        .filter(|mark| mark["Kind"] == "drill")
        .map(|mark| (text(&mark["State"]), text(&mark["Detail"])))
        .collect()
}

fn a_drill_that_passes(filesystem: &str) {
    let home = Home::on(filesystem);
    let daemon = home.start_with(with_password);
    let (_, _) = furnished(&home, &daemon, 3);
    let (code, said) = daemon.fails(&["drill", "v", "--no-progress"]);
    assert_eq!(code, 3, "there is no backup yet: {said}");
    assert_eq!(fares(&daemon)["Health"], "failing");
    let backup = back_up(&home, &daemon);
    // In use, and changed since.
    daemon.ok("VolumeDriver.Mount", r#"{"Name":"v","ID":"a"}"#);
    fs::write(home.volumes().join("v/new"), "later").expect("written");
    let result = daemon.json(&["drill", "v", "--no-progress", "-o", "json"]);
    assert_eq!(
        (&result["BackupURL"], &result["Verified"]),
        (&json!(backup), &json!(true))
    );
    assert_eq!(
        fs::read_to_string(home.volumes().join("v/new")).expect("read"),
        "later"
    );
    assert!(left(&home).is_empty(), "nothing is left of it");
    let listed = daemon.json(&["list"]);
    assert_eq!(listed.as_object().expect("volumes").len(), 1, "{listed}");
    assert_eq!(listed["v"]["Snapshots"], json!({}));

    let told = fares(&daemon);
    assert_eq!(
        (&told["Health"], &told["Failures"]),
        (&json!("ok"), &json!(0)),
        "{told}"
    );
    assert!(told["Seconds"].is_u64() && told["SucceededAt"] != "", "{told}");
    assert_eq!(listed["v"]["Health"], "ok");
    daemon.say(&["health"]);
    let docker = daemon.ok("VolumeDriver.Get", r#"{"Name":"v"}"#);
    assert_eq!(
        docker["Volume"]["Status"]["Schedules"]["drill"]["Health"], "ok",
        "{docker}"
    );
    let states: Vec<String> = drills(&daemon).into_iter().map(|(state, _)| state).collect();
    assert_eq!(states, ["failed", "ok"]);
    assert!(daemon.say(&["events", "--no-follow"]).contains("volume.drill"));
    daemon.ok("VolumeDriver.Unmount", r#"{"Name":"v","ID":"a"}"#);
}

#[test]
fn a_backup_is_restored_aside_and_nothing_is_left_on_btrfs() {
    a_drill_that_passes("btrfs");
}

#[test]
fn a_backup_is_restored_aside_and_nothing_is_left_where_snapshots_are_stored() {
    a_drill_that_passes("ext4");
}

#[test]
fn a_policy_has_drills_made_in_time() {
    let home = Home::on("btrfs");
    let daemon = home.start_with(with_password);
    furnished(&home, &daemon, 1);
    back_up(&home, &daemon);
    daemon.say(&["policy", "set", "v", "backup.drill=daily"]);
    assert_eq!(fares(&daemon)["Health"], "waiting");
    daemon.say(&["drill", "v", "--no-progress"]);
    assert_eq!(fares(&daemon)["Health"], "ok");
    daemon.stop();
    // Two days later, as far as the daemon knows.
    let database = rusqlite::Connection::open(home.root().join("state.db")).expect("opens");
    let then = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(48);
    let then = jiff::Timestamp::from_second(then.as_second())
        .expect("a moment")
        .to_string();
    let changed = database.execute(
        "UPDATE past SET record = json_set(record, '$.succeeded', ?1, '$.tried', ?1) WHERE task = 'drill'",
        [&then],
    );
    assert_eq!(changed.expect("changed"), 1);
    drop(database);
    let daemon = home.start_with(with_password);
    until("the next drill", || {
        fares(&daemon)["SucceededAt"]
            .as_str()
            .is_some_and(|at| at > then.as_str())
    });
    assert_eq!(fares(&daemon)["Health"], "ok");
    assert_eq!(drills(&daemon).len(), 2);
    assert!(left(&home).is_empty(), "{:?}", left(&home));
}

#[test]
fn damage_is_found_and_told() {
    let home = Home::on("btrfs");
    let daemon = home.start_with(with_password);
    let (dir, _) = furnished(&home, &daemon, 2);
    back_up(&home, &daemon);
    let pack = largest(&dir.join("v/data"));
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(&pack)
        .expect("a pack");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 1 << 20).expect("read");
    file.write_all_at(&[byte[0] ^ 0x40], 1 << 20).expect("written");
    let (code, said) = daemon.fails(&["drill", "v", "--no-progress"]);
    assert_eq!(code, 8, "{said}");
    assert!(left(&home).is_empty(), "{:?}", left(&home));
    let told = fares(&daemon);
    assert_eq!(
        (&told["Health"], &told["Failures"]),
        (&json!("failing"), &json!(1)),
        "{told}"
    );
    assert!(!told["Error"].as_str().expect("why").is_empty());
    assert_eq!(daemon.fails(&["health"]).0, 1);
    let marks = drills(&daemon);
    assert!(
        marks.len() == 1 && marks[0].0 == "failed" && !marks[0].1.is_empty(),
        "{marks:?}"
    );
    // The volume is none the worse.
    assert!(home.volumes().join("v/d/data").exists());
}

#[test]
fn a_kill_in_the_middle_leaves_nothing_and_the_next_start_does_it_again() {
    let home = Home::on("btrfs");
    let daemon = home.start_with(with_password);
    furnished(&home, &daemon, 8);
    back_up(&home, &daemon);
    daemon.stop();
    let slowly = |command: &mut Command| {
        with_password(command);
        command.args(["--backup-download-limit", "1M"]);
    };
    let daemon = home.start_with(slowly);
    let (status, job) = daemon.admin("POST", "/v1/volumes/v/drill", "");
    assert_eq!(status, 202, "{job}");
    until("the copy", || !left(&home).is_empty());
    let before = left(&home);
    daemon.kill();
    assert_eq!(left(&home), before, "it was in the middle");
    let daemon = home.start_with(with_password);
    daemon.say(&["job", "wait", &job["ID"].to_string(), "--no-progress"]);
    assert!(left(&home).is_empty(), "{:?}", left(&home));
    assert_eq!(fares(&daemon)["Health"], "ok");

    // Removed in the middle, a volume goes at once, and the drill with it.
    daemon.stop();
    let daemon = home.start_with(slowly);
    let (_, job) = daemon.admin("POST", "/v1/volumes/v/drill", "");
    until("the copy", || !left(&home).is_empty());
    daemon.say(&["delete", "v"]);
    assert!(left(&home).is_empty(), "{}", home.log());
    let job = daemon.json(&["job", "inspect", &job["ID"].to_string(), "-o", "json"]);
    assert_eq!(job["State"], "cancelled", "{job}");
}

/// The daemon listens before it has taken up what its last run left. What was asked for in that moment was recorded, found by the look
/// for what was left, and done twice at once: of a drill, a copy stayed that nobody ended.
#[test]
fn what_is_asked_for_while_the_daemon_starts_is_done_once() {
    let home = Home::on("btrfs");
    let daemon = home.start_with(with_password);
    furnished(&home, &daemon, 1);
    back_up(&home, &daemon);
    daemon.stop();
    for _ in 0..8 {
        let (daemon, job) = std::thread::scope(|scope| {
            let asked = scope.spawn(|| {
                loop {
                    // Not there yet.
                    let answer = request(&home.admin_socket(), "POST", "/v1/volumes/v/drill", b"");
                    let Some((status, body)) = answer else { continue };
                    let said: Value = serde_json::from_slice(&body).expect("JSON");
                    assert_eq!(status, 202, "{said}");
                    return said["ID"].to_string();
                }
            });
            let daemon = home.start_with(with_password);
            (daemon, asked.join().expect("no panic"))
        });
        daemon.say(&["job", "wait", &job, "--no-progress"]);
        let log = home.log();
        let begun = log
            .lines()
            .filter(|line| line.contains(&format!("job.start {job} ")))
            .count();
        assert_eq!(begun, 1, "{log}");
        daemon.stop();
    }
    assert!(left(&home).is_empty(), "{:?}", left(&home));
}

#[test]
fn a_destination_that_is_away_fails_the_drill_and_one_that_is_back_does_not() {
    let home = Home::on("btrfs");
    let daemon = home.start_with(with_password);
    let (dir, _) = furnished(&home, &daemon, 1);
    back_up(&home, &daemon);
    daemon.stop();
    let aside = home.path().join("aside");
    fs::rename(&dir, &aside).expect("moved");
    let daemon = home.start_with(with_password);
    let (_, said) = daemon.fails(&["drill", "v", "--no-progress"]);
    assert!(!said.is_empty());
    assert_eq!(fares(&daemon)["Health"], "failing");
    assert_eq!(daemon.fails(&["health"]).0, 1);
    fs::rename(&aside, &dir).expect("moved back");
    daemon.say(&["drill", "v", "--no-progress"]);
    assert_eq!(fares(&daemon)["Health"], "ok");
    daemon.say(&["health"]);
    assert!(left(&home).is_empty(), "{:?}", left(&home));
}

#[test]
fn a_drill_without_room_is_refused_and_says_so() {
    let home = Home::on("tmpfs");
    let daemon = home.start_with(with_password);
    furnished(&home, &daemon, 25);
    back_up(&home, &daemon);
    let (code, said) = daemon.fails(&["drill", "v", "--no-progress"]);
    assert!(code == 9 && said.contains("make room"), "{code} {said}");
    assert!(left(&home).is_empty(), "{:?}", left(&home));
}
