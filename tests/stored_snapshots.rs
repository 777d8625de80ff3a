//! Snapshots on filesystems that have none: backups in a repository beside the volume. By a real daemon, on ext4 and on a
//! tmpfs that is soon full.

mod daemon;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use daemon::{Daemon, Home, noise, text, until};
use serde_json::{Value, json};

#[test]
fn a_life_with_stored_snapshots() {
    for kind in ["ext4", "tmpfs"] {
        let home = Home::on(kind);
        let daemon = home.start();
        daemon.say(&["create", "v"]);
        let data = home.volumes().join("v");
        write(&data.join("large"), &noise(3 << 20));
        write(&data.join("dir/small"), b"before");
        settle();
        assert_eq!(daemon.say(&["snapshot", "create", "v", "--name", "one"]), "one");
        let shown = daemon.json(&["snapshot", "inspect", "v@one"]);
        assert_eq!(
            shown["DriverInfo"]["Consistency"], "point-in-time",
            "{kind}: {shown}"
        );
        assert!(shown["DriverInfo"]["StoredBackup"].is_string(), "{shown}");
        assert_eq!(daemon.fails(&["snapshot", "create", "v", "--name", "one"]).0, 4);
        // A repository shows nothing to look at; what does is named.
        let (code, said) = daemon.fails(&["snapshot", "mount", "v@one"]);
        assert!(
            code == 7 && said.contains("create --from v@one") && said.contains("windlass repo"),
            "{code} {said}"
        );
        let first = taken(&daemon, "v@one");
        assert!(figure(&first, "bytes-read") >= 3 << 20, "{first}");

        // Only what changed is read and stored.
        write(&data.join("dir/small"), b"after");
        write(&data.join("new"), b"x");
        daemon.say(&["mount", "v"]);
        daemon.say(&["snapshot", "create", "v", "--name", "two"]);
        daemon.say(&["umount", "v"]);
        let second = taken(&daemon, "v@two");
        assert!(figure(&second, "bytes-read") < 4096, "{second}");
        assert!(figure(&second, "bytes-stored") < 64 << 10, "{second}");
        assert_eq!(figure(&second, "bytes"), figure(&first, "bytes"));
        let shown = daemon.json(&["snapshot", "inspect", "v@two"]);
        assert_eq!(shown["DriverInfo"]["Consistency"], "per-file", "it was mounted");

        // The repository is for root alone, and restic's.
        let id = uuid(&daemon, "v");
        let repository = repositories(&home).join(&id);
        assert_eq!(mode(&repository), 0o700);
        assert_eq!(mode(&repositories(&home)), 0o700);
        assert_eq!(backups(&home, &id).len(), 2);

        // Back to the first, and a clone of the second.
        daemon.say(&["mount", "v"]);
        let (code, said) = daemon.fails(&["snapshot", "revert", "v@one"]);
        assert!(code == 5 && said.contains("in use"), "{said}");
        daemon.say(&["umount", "v"]);
        daemon.say(&["snapshot", "revert", "v@one"]);
        assert_eq!(read(&data.join("dir/small")), b"before");
        assert_eq!(read(&data.join("large")), noise(3 << 20));
        assert!(!data.join("new").exists());
        assert_eq!(daemon.say(&["create", "c", "--from", "v@two"]), "c");
        let at = PathBuf::from(daemon.say(&["mount", "c"]));
        assert_eq!(read(&at.join("dir/small")), b"after");
        assert_eq!(read(&at.join("large")), noise(3 << 20));
        daemon.say(&["umount", "c"]);
        assert_ne!(uuid(&daemon, "c"), id);

        // Gone, and then its backup too, and the space in the end.
        daemon.say(&["snapshot", "delete", "v@one"]);
        assert_eq!(daemon.fails(&["snapshot", "inspect", "v@one"]).0, 3);
        assert_eq!(backups(&home, &id).len(), 1);
        until("a prune", || !events(&daemon, "snapshot.prune").is_empty());
        daemon.say(&["snapshot", "revert", "v@two"]);
        assert_eq!(read(&data.join("new")), b"x");
        daemon.stop();

        // A restart changes nothing. The trash keeps the repository, and a purge destroys it.
        let daemon = home.start();
        daemon.say(&["delete", "v"]);
        assert!(repository.exists(), "in the trash");
        daemon.say(&["undelete", "v"]);
        write(&data.join("dir/small"), b"once more");
        daemon.say(&["snapshot", "revert", "v@two"]);
        assert_eq!(read(&data.join("dir/small")), b"after");
        daemon.say(&["delete", "v"]);
        daemon.say(&["trash", "purge", "v"]);
        assert!(!repository.exists(), "purged");
        assert_eq!(
            read(&home.volumes().join("c/new")),
            b"x",
            "the clone is on its own"
        );
    }
}

#[test]
fn removing_a_snapshot_gives_its_space_back() {
    let home = Home::on("ext4");
    let daemon = home.start();
    daemon.say(&["create", "v"]);
    let data = home.volumes().join("v");
    write(&data.join("f"), &noise(8 << 20));
    daemon.say(&["snapshot", "create", "v", "--name", "s"]);
    fs::remove_file(data.join("f")).expect("removes");
    daemon.say(&["snapshot", "create", "v", "--name", "t"]);
    let repository = repositories(&home).join(uuid(&daemon, "v"));
    assert!(size(&repository) > 8 << 20);
    daemon.say(&["snapshot", "delete", "v@s"]);
    until("the space", || size(&repository) < 1 << 20);
    daemon.say(&["snapshot", "revert", "v@t"]);
    assert!(!data.join("f").exists());
}

#[test]
fn a_stored_snapshot_is_backed_up_without_being_read_from_the_volume() {
    let home = Home::on("ext4");
    let daemon = home.start_with(with_password);
    let destination = destination(&home);
    daemon.say(&["create", "v", "--on-remove", "delete"]);
    let data = home.volumes().join("v");
    write(&data.join("f"), &noise(3 << 20));
    write(&data.join("g"), b"first");
    daemon.say(&["snapshot", "create", "v", "--name", "one"]);
    // What the volume holds now is not what is backed up.
    write(&data.join("g"), b"second");
    let first = daemon.say(&["backup", "create", "v@one", "--dest", &destination]);
    daemon.say(&["snapshot", "create", "v", "--name", "two"]);
    let second = daemon.say(&["backup", "create", "v@two", "--dest", &destination]);
    let job = last_backup(&daemon);
    assert!(
        job["BytesUploaded"].as_u64().expect("a number") < 256 << 10,
        "incremental: {job}"
    );
    let shown = daemon.json(&["backup", "inspect", &first]);
    assert_eq!(
        (&shown["VolumeName"], &shown["SnapshotName"]),
        (&json!("v"), &json!("one"))
    );
    for (url, content) in [(&first, "first"), (&second, "second")] {
        daemon.say(&["create", content, "--backup", url]);
        let at = PathBuf::from(daemon.say(&["mount", content]));
        assert_eq!(read(&at.join("g")), content.as_bytes());
        assert_eq!(read(&at.join("f")), noise(3 << 20));
        daemon.say(&["umount", content]);
    }
}

/// A copy beside the volume would cost its space and its time, and leave the next backup nothing to compare with.
#[test]
fn a_volume_is_backed_up_as_it_is_and_then_only_what_changed() {
    let home = Home::on("ext4");
    let daemon = home.start_with(with_password);
    let destination = destination(&home);
    daemon.say(&["create", "v"]);
    let data = home.volumes().join("v");
    write(&data.join("large"), &noise(8 << 20));
    write(&data.join("small"), b"first");
    let first = daemon.say(&["backup", "create", "v", "--dest", &destination]);
    assert_eq!(daemon.json(&["inspect", "v"])["Snapshots"], json!({}));
    assert!(
        !repositories(&home).join(uuid(&daemon, "v")).exists(),
        "no copy was made beside the volume"
    );
    assert_eq!(last_backup(&daemon)["BytesRead"], json!((8 << 20) + 5));
    write(&data.join("small"), b"second");
    let second = daemon.say(&["backup", "create", "v", "--dest", &destination]);
    assert_eq!(
        last_backup(&daemon)["BytesRead"],
        json!(6),
        "what is as before is not read again"
    );
    for url in [&first, &second] {
        assert_eq!(consistency(&daemon, url), "point-in-time", "nobody wrote");
    }
    daemon.say(&["mount", "v"]);
    let third = daemon.say(&["backup", "create", "v", "--dest", &destination]);
    assert_eq!(
        consistency(&daemon, &third),
        "per-file",
        "somebody may have written"
    );
    daemon.say(&["umount", "v"]);
    for (url, content) in [(&first, "first"), (&second, "second"), (&third, "second")] {
        let back = daemon.say(&["create", "--backup", url]);
        let at = PathBuf::from(daemon.say(&["mount", &back]));
        assert_eq!(read(&at.join("small")), content.as_bytes());
        assert_eq!(read(&at.join("large")), noise(8 << 20));
        daemon.say(&["umount", &back]);
    }
}

/// Uploading takes as long as it takes: containers come and go meanwhile, and what the backup says of itself is still true.
#[test]
fn a_long_backup_of_a_volume_keeps_nobody_waiting_and_promises_nothing() {
    let home = Home::on("ext4");
    let destination = destination(&home);
    let slowly = |command: &mut Command| {
        with_password(command);
        command.args(["--backup-upload-limit", "2M"]);
    };
    let daemon = home.start_with(slowly);
    daemon.say(&["create", "v"]);
    let data = home.volumes().join("v");
    write(&data.join("f"), &noise(24 << 20));
    daemon.say(&["snapshot", "create", "v", "--name", "s"]);
    let id = daemon.say(&["backup", "create", "v", "--dest", &destination, "--detach"]);
    let stored = home.path().join("backups/v/data");
    until("the copy", || stored.exists() && size(&stored) > 0);
    let begun = Instant::now();
    daemon.ok("VolumeDriver.Mount", r#"{"Name":"v","ID":"0123456789abcdef"}"#);
    daemon.ok("VolumeDriver.Unmount", r#"{"Name":"v","ID":"0123456789abcdef"}"#);
    for command in [&["delete", "v"][..], &["snapshot", "revert", "v@s"]] {
        let (code, said) = daemon.fails(command);
        assert!(code == 5 && said.contains("backup"), "{command:?}: {code} {said}");
    }
    daemon.say(&["snapshot", "delete", "v@s"]);
    let waited = begun.elapsed();
    assert_eq!(
        daemon.json(&["job", "inspect", &id])["State"],
        "running",
        "{waited:?}"
    );
    daemon.kill();
    let daemon = home.start_with(with_password);
    // This attempt is not disturbed: the mount was in the one before, which left nothing but packs.
    daemon.say(&["job", "wait", &id]);
    let listed = daemon.json(&["backup", "list", &destination]);
    let listed: Vec<_> = listed.as_object().expect("an object").keys().cloned().collect();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(consistency(&daemon, &listed[0]), "point-in-time");
    daemon.stop();
    // Disturbed, and not killed: made again, from what is stored.
    let daemon = home.start_with(slowly);
    write(&data.join("g"), &noise(25 << 20)[24 << 20..]);
    write(&data.join("h"), &noise(33 << 20)[25 << 20..]);
    let before = size(&stored);
    let id = daemon.say(&["backup", "create", "v", "--dest", &destination, "--detach"]);
    until("the backup", || {
        daemon.json(&["job", "inspect", &id])["State"] == "running"
            && daemon.json(&["job", "inspect", &id])["BytesDone"] != 0
    });
    daemon.ok("VolumeDriver.Mount", r#"{"Name":"v","ID":"0123456789abcdef"}"#);
    daemon.ok("VolumeDriver.Unmount", r#"{"Name":"v","ID":"0123456789abcdef"}"#);
    daemon.say(&["job", "wait", &id]);
    let grown = size(&stored) - before;
    assert!(grown < 10 << 20, "nothing is stored twice: {grown}");
    let now = daemon.json(&["backup", "list", &destination]);
    let now: Vec<_> = now.as_object().expect("an object").keys().cloned().collect();
    assert_eq!(now.len(), 2, "the one that promised too much is gone: {now:?}");
    let new = now.iter().find(|url| !listed.contains(url)).expect("a new one");
    assert_eq!(consistency(&daemon, new), "per-file");
}

#[test]
fn a_full_filesystem_fails_the_snapshot_and_nothing_else() {
    let home = Home::on("tmpfs");
    let daemon = home.start();
    daemon.say(&["create", "v"]);
    let data = home.volumes().join("v");
    write(&data.join("kept"), b"precious");
    daemon.say(&["snapshot", "create", "v", "--name", "s"]);
    write(&data.join("large"), &noise(26 << 20));
    let free = free_bytes(&home.volumes());
    // It may take long enough for words about it on the way.
    let output = daemon.run(&["snapshot", "create", "v", "--name", "t"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("No space left"),
        "{said}"
    );
    let lost = free.saturating_sub(free_bytes(&home.volumes()));
    assert!(lost < 1 << 20, "what failed must not take space: {lost} bytes");
    let snapshots = daemon.json(&["inspect", "v"])["Snapshots"].clone();
    assert_eq!(snapshots.as_object().map(|all| all.len()), Some(1), "{snapshots}");
    write(&data.join("more"), b"the volume works on");
    fs::remove_file(data.join("large")).expect("removes");
    daemon.say(&["snapshot", "create", "v", "--name", "t"]);
    daemon.say(&["snapshot", "revert", "v@s"]);
    assert_eq!(read(&data.join("kept")), b"precious");
    assert!(!data.join("more").exists());
    daemon.say(&["snapshot", "revert", "v@t"]);
    assert!(data.join("more").exists());
}

/// A copy that takes long keeps nobody waiting; what would pull the data away is refused; whoever gives up, leaves nothing.
#[test]
fn a_long_snapshot_does_not_hold_up_mounts_and_can_be_given_up() {
    let home = Home::on("ext4");
    let daemon = home.start();
    daemon.say(&["create", "v"]);
    let data = home.volumes().join("v");
    write(&data.join("f"), &noise(80 << 20));
    let id = uuid(&daemon, "v");
    let mut snapshot = begin(&home, &["snapshot", "create", "v", "--name", "s"]);
    until("the copy", || size(&repositories(&home).join(&id)) > 1 << 20);
    let begun = Instant::now();
    daemon.ok("VolumeDriver.Mount", r#"{"Name":"v","ID":"0123456789abcdef"}"#);
    daemon.ok("VolumeDriver.Unmount", r#"{"Name":"v","ID":"0123456789abcdef"}"#);
    let (code, said) = daemon.fails(&["delete", "v"]);
    assert!(code == 5 && said.contains("v@s"), "{code} {said}");
    let (code, said) = daemon.fails(&["snapshot", "create", "v", "--name", "s"]);
    assert!(code == 4 && said.contains("being taken"), "{code} {said}");
    let waited = begun.elapsed();
    assert!(
        snapshot.try_wait().expect("a child").is_none(),
        "it is still being taken ({waited:?})"
    );
    // As Ctrl-C does.
    daemon::shell(&["kill", "-INT", &snapshot.id().to_string()]);
    snapshot.wait().expect("it ends");
    until("the end", || size(&repositories(&home).join(&id)) < 1 << 20);
    assert_eq!(daemon.json(&["inspect", "v"])["Snapshots"], json!({}));
    assert_eq!(backups(&home, &id), [""; 0]);
    until("the locks", || {
        files(&repositories(&home).join(&id).join("locks")).is_empty()
    });
    // A stop does not wait for one either.
    let begin = || begin(&home, &["snapshot", "create", "v", "--name", "s"]);
    let mut snapshot = begin();
    until("the copy", || {
        // The one that was given up may still hold the name for a moment after its lock is gone.
        if snapshot.try_wait().expect("a child").is_some() {
            snapshot = begin();
        }
        size(&repositories(&home).join(&id)) > 1 << 20
    });
    let took = daemon.stop();
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert!(!snapshot.wait().expect("it ends").success());
    let daemon = home.start();
    assert_eq!(daemon.json(&["inspect", "v"])["Snapshots"], json!({}));
    daemon.say(&["snapshot", "create", "v", "--name", "s"]);
    assert_eq!(backups(&home, &id).len(), 1);
}

#[test]
fn hosts_that_share_the_path_share_the_repository() {
    let home = Home::on("ext4");
    let daemon = home.start();
    daemon.say(&["create", "v"]);
    let data = home.volumes().join("v");
    write(&data.join("f"), &noise(2 << 20));
    settle();
    daemon.say(&["snapshot", "create", "v", "--name", "ours"]);
    let second = Home::new();
    std::os::unix::fs::symlink(home.volumes(), second.volumes()).expect("a link");
    let other = second.start();
    other.say(&["snapshot", "create", "v", "--name", "theirs"]);
    let read_there = figure(&taken(&other, "v@theirs"), "bytes-read");
    assert_eq!(read_there, 0, "it goes on from this host's");
    until("this host to see it", || {
        daemon.run(&["snapshot", "inspect", "v@theirs"]).status.success()
    });
    write(&data.join("f"), b"changed");
    daemon.say(&["snapshot", "revert", "v@theirs"]);
    assert_eq!(read(&data.join("f")), noise(2 << 20));
    other.say(&["snapshot", "delete", "v@ours"]);
    daemon.say(&["snapshot", "create", "v", "--name", "again"]);
    assert_eq!(backups(&home, &uuid(&daemon, "v")).len(), 2);
    other.stop();
}

/// What changed a moment ago is read again by the next snapshot: it could change once more in the same tick of the clock.
fn settle() {
    std::thread::sleep(Duration::from_millis(50));
}

fn begin(home: &Home, args: &[&str]) -> std::process::Child {
    Command::new(env!("CARGO_BIN_EXE_windlass"))
        .arg("--socket")
        .arg(home.admin_socket())
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command line runs")
}

/// The event of a snapshot's creation.
fn taken(daemon: &Daemon<'_>, snapshot: &str) -> Value {
    let all = events(daemon, "snapshot.create");
    let found = all.into_iter().find(|event| event["Object"] == snapshot);
    found.expect("an event")
}

fn events(daemon: &Daemon<'_>, action: &str) -> Vec<Value> {
    let lines = daemon.say(&["events", "--no-follow"]);
    let all = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    all.filter(|event| event["Action"] == action).collect()
}

fn figure(event: &Value, key: &str) -> u64 {
    let value = event["Attributes"][key].as_str();
    value
        .unwrap_or_else(|| panic!("no {key}: {event}"))
        .parse()
        .expect("a number")
}

fn with_password(command: &mut Command) {
    command.env("WINDLASS_BACKUP_PASSWORD", "correct horse");
}

/// The URL of an empty directory.
fn destination(home: &Home) -> String {
    let dir = home.path().join("backups");
    fs::create_dir(&dir).expect("a directory");
    format!("vfs://{}", dir.display())
}

fn consistency(daemon: &Daemon<'_>, backup: &str) -> String {
    let shown = daemon.json(&["backup", "inspect", backup]);
    let word = shown["Consistency"].as_str();
    word.unwrap_or_else(|| panic!("no consistency: {shown}"))
        .to_owned()
}

fn last_backup(daemon: &Daemon<'_>) -> Value {
    let (_, jobs) = daemon.admin("GET", "/v1/jobs", "");
    let jobs = jobs
        .as_array()
        .cloned()
        .unwrap_or_else(|| panic!("no list: {jobs}"));
    let last = jobs
        .into_iter()
        .rfind(|job| job["Kind"] == "backup")
        .expect("a backup");
    last["Result"].clone()
}

fn uuid(daemon: &Daemon<'_>, volume: &str) -> String {
    daemon.json(&["inspect", volume])["UUID"]
        .as_str()
        .expect("an id")
        .to_owned()
}

fn repositories(home: &Home) -> PathBuf {
    home.volumes().join(".windlass/repository")
}

fn backups(home: &Home, volume: &str) -> Vec<String> {
    files(&repositories(home).join(volume).join("snapshots"))
}

fn files(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn size(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => size(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}

fn free_bytes(at: &Path) -> u64 {
    let said = daemon::shell(&["df", "-B1", "--output=avail", text(at)]);
    said.lines()
        .last()
        .expect("a line")
        .trim()
        .parse()
        .expect("a number")
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).expect("there").permissions().mode() & 0o7777
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    fs::write(path, bytes).expect("writes");
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
