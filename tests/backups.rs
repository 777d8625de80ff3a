//! Backups and restores by the command line, through a real daemon, to a directory: what scripts rely on, what a person
//! reads, and what becomes of it all when the daemon ends in the middle.

mod daemon;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use daemon::{Daemon, Home, text, until};
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery";

/// A daemon that has a password for backups.
fn start(home: &Home) -> Daemon<'_> {
    home.start_with(with_password)
}

fn with_password(command: &mut Command) {
    command.env("WINDLASS_BACKUP_PASSWORD", PASSWORD);
}

/// An empty destination: its directory and its URL.
fn destination(home: &Home, name: &str) -> (PathBuf, String) {
    let dir = home.path().join(name);
    std::fs::create_dir(&dir).expect("a directory");
    let url = format!("vfs://{}", text(&dir));
    (dir, url)
}

/// A volume with something in it, and its snapshot `s`.
fn volume_with_snapshot(home: &Home, daemon: &Daemon, name: &str) {
    daemon.say(&["create", name]);
    let dir = home.volumes().join(name);
    std::fs::write(dir.join("file"), "contents").expect("writes");
    std::fs::create_dir(dir.join("dir")).expect("a directory");
    std::fs::write(dir.join("dir/other"), vec![7_u8; 100_000]).expect("writes");
    daemon.say(&["snapshot", "create", name, "--name", "s"]);
}

fn job(daemon: &Daemon, id: &str) -> Value {
    daemon.json(&["job", "inspect", id])
}

/// Waits until something holds.
#[track_caller]
fn same_tree(one: &Path, other: &Path) {
    daemon::shell(&["diff", "-r", text(one), text(other)]);
}

#[test]
fn a_snapshot_goes_to_a_directory_and_comes_back_as_another_volume() {
    let home = Home::on("btrfs");
    let (_, url) = destination(&home, "backups");
    let daemon = start(&home);
    assert_eq!(daemon.json(&["backup", "list", &url]), json!({}));
    volume_with_snapshot(&home, &daemon, "pg");
    std::fs::write(home.volumes().join("pg/file"), "later").expect("writes");
    let backup = daemon.say(&["backup", "create", "pg@s", "--dest", &url]);
    assert!(
        backup.starts_with(&format!("{url}?volume=pg&backup=")) && backup.len() == url.len() + 26 + 8,
        "only the URL is printed: {backup}"
    );
    daemon.say(&["create", "back", "--backup", &backup]);
    let back = home.volumes().join("back");
    assert_eq!(
        std::fs::read_to_string(back.join("file")).expect("restored"),
        "contents"
    );
    assert_eq!(
        std::fs::read(back.join("dir/other")).expect("restored").len(),
        100_000
    );
    assert_eq!(daemon.json(&["inspect", "back"])["State"], "ready");
    // Convoy's JSON wrote & as \u0026, and its users' scripts copy that.
    daemon.say(&["create", "again", "--backup", &backup.replace('&', "\\u0026")]);
    same_tree(&back, &home.volumes().join("again"));
}

#[test]
fn lists_and_inspect_have_convoy_s_keys_and_ours() {
    let home = Home::on("btrfs");
    let (_, url) = destination(&home, "backups");
    let daemon = start(&home);
    volume_with_snapshot(&home, &daemon, "pg");
    volume_with_snapshot(&home, &daemon, "www");
    let first = daemon.say(&["backup", "create", "pg@s", "--dest", &url]);
    let second = daemon.say(&["backup", "create", "www@s", "--dest", &url]);
    let list = daemon.json(&["backup", "list", &url]);
    let keys: Vec<&String> = list.as_object().expect("an object").keys().collect();
    assert_eq!(keys, [&first, &second], "keyed by URL");
    let entry = &list[&first];
    for key in [
        "BackupName",
        "BackupURL",
        "DriverName",
        "VolumeName",
        "VolumeSize",
        "VolumeCreatedAt",
        "SnapshotName",
        "SnapshotCreatedAt",
        "CreatedTime",
    ] {
        assert!(entry[key].is_string(), "{key}: {entry}");
    }
    for key in ["BytesRead", "BytesStored", "Seconds", "Files"] {
        assert!(entry[key].is_number(), "{key}: {entry}");
    }
    assert_eq!(
        (&entry["VolumeName"], &entry["SnapshotName"], &entry["DriverName"]),
        (&json!("pg"), &json!("s"), &json!("vfs"))
    );
    assert_eq!(
        entry["CreatedTime"].as_str().and_then(|t| t.split(' ').nth(4)),
        Some("+0000"),
        "Convoy's form"
    );
    assert_eq!(&daemon.json(&["backup", "inspect", &first]), entry);
    let of_one = daemon.json(&["backup", "list", &url, "--volume-name", "www"]);
    assert_eq!(of_one.as_object().map(|o| o.len()), Some(1));
    assert_eq!(
        of_one,
        daemon.json(&["backup", "list", &format!("{url}?volume=www")])
    );
    assert_eq!(
        daemon.fails(&["backup", "list", &url, "--volume-name", "none"]).0,
        3
    );
    let (code, said) = daemon.fails(&[
        "backup",
        "inspect",
        &format!("{url}?volume=pg&backup=0000000000000000"),
    ]);
    assert!(code == 3 && said.contains("0000000000000000"), "{said}");
    let made = daemon.json(&["backup", "create", "pg@s", "--dest", &url, "-o", "json"]);
    for key in [
        "BackupURL",
        "BytesRead",
        "BytesStored",
        "BytesUploaded",
        "Requests",
        "Seconds",
    ] {
        assert!(!made[key].is_null(), "{key}: {made}");
    }
    assert_ne!(
        made["BackupURL"],
        json!(first),
        "two backups of one snapshot are two"
    );
}

#[test]
fn a_volume_can_be_named_instead_of_a_snapshot_which_is_then_taken_for_it() {
    let home = Home::on("btrfs");
    let (_, url) = destination(&home, "backups");
    let daemon = home.start_with(|command| {
        with_password(command);
        command.args(["--backup-dest", &url]);
    });
    volume_with_snapshot(&home, &daemon, "pg");
    let backup = daemon.say(&["backup", "create", "pg"]);
    assert!(backup.starts_with(&url), "the daemon's own destination: {backup}");
    let shown = daemon.json(&["backup", "inspect", &backup]);
    let name = shown["SnapshotName"].as_str().expect("a name");
    assert!(name.starts_with("backup-2"), "{name}");
    let left = daemon.json(&["inspect", "pg"])["Snapshots"].clone();
    assert_eq!(
        left.as_object().expect("an object").keys().collect::<Vec<_>>(),
        ["s"],
        "the snapshot that was taken for the backup is gone with it"
    );
    assert_eq!(daemon.fails(&["backup", "create", "nothing"]).0, 3);
    assert_eq!(daemon.fails(&["backup", "create", "pg@nothing"]).0, 3);
}

#[test]
fn what_cannot_be_is_refused_in_words_that_help() {
    let home = Home::on("btrfs");
    let (_, url) = destination(&home, "backups");
    let daemon = home.start();
    volume_with_snapshot(&home, &daemon, "pg");
    let (code, said) = daemon.fails(&["backup", "create", "pg@s", "--dest", &url]);
    assert!(
        code == 6 && said.contains("WINDLASS_BACKUP_PASSWORD") && said.contains("backup-encrypt=none"),
        "{code} {said}"
    );
    let (code, said) = daemon.fails(&["backup", "create", "pg@s"]);
    assert!(code == 6 && said.contains("backup-dest"), "{code} {said}");
    assert_eq!(
        daemon.fails(&["backup", "create", "pg@s", "--dest", "nowhere"]).0,
        6
    );
    assert_eq!(daemon.fails(&["create", "new", "--backup", &url]).0, 6);
    daemon.stop();
    let daemon = start(&home);
    let backup = daemon.say(&["backup", "create", "pg@s", "--dest", &url]);
    let missing = format!("{url}?volume=pg&backup=0000");
    assert_eq!(daemon.fails(&["create", "new", "--backup", &missing]).0, 3);
    assert_eq!(
        daemon.json(&["list"]).as_object().map(|o| o.len()),
        Some(1),
        "no volume is left"
    );
    let (code, said) = daemon.fails(&["create", "new", "--backup", &backup, "--from", "pg@s"]);
    assert!(code == 6 && said.contains("together"), "{said}");
    daemon.stop();
    let daemon = home.start_with(|command| {
        command.env("WINDLASS_BACKUP_PASSWORD", "another");
    });
    let (code, said) = daemon.fails(&["backup", "list", &url]);
    assert!(code == 6 && said.contains("password is wrong"), "{code} {said}");
}

#[test]
fn without_encryption_it_is_said_loudly() {
    let home = Home::on("btrfs");
    let (_, url) = destination(&home, "backups");
    let daemon = home.start_with(|command| {
        command.args(["--backup-encrypt", "none"]);
    });
    volume_with_snapshot(&home, &daemon, "pg");
    let output = daemon.run(&["backup", "create", "pg@s", "--dest", &url]);
    let note = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{note}");
    assert!(
        note.contains("backup-encrypt=none") && note.contains("can read"),
        "{note}"
    );
}

#[test]
fn another_volume_of_the_name_is_refused_until_the_repository_is_taken_over() {
    let home = Home::on("btrfs");
    let (_, url) = destination(&home, "backups");
    let daemon = start(&home);
    volume_with_snapshot(&home, &daemon, "pg");
    let backup = daemon.say(&["backup", "create", "pg@s", "--dest", &url]);
    daemon.say(&["delete", "pg"]);
    daemon.say(&["create", "pg", "--backup", &backup]);
    let (code, said) = daemon.fails(&["backup", "create", "pg", "--dest", &url]);
    assert!(
        code == 5 && said.contains("--take-over") && said.contains("restored from"),
        "{code} {said}"
    );
    assert_eq!(
        daemon.json(&["inspect", "pg"])["Snapshots"],
        json!({}),
        "nothing is left of the attempt"
    );
    daemon.say(&["backup", "create", "pg", "--dest", &url, "--take-over"]);
    daemon.say(&["backup", "create", "pg", "--dest", &url]);
    assert_eq!(
        daemon
            .json(&["backup", "list", &url])
            .as_object()
            .map(|o| o.len()),
        Some(3)
    );
}

#[test]
fn backups_are_deleted_verified_pruned_and_copied() {
    let home = Home::on("btrfs");
    let (dir, url) = destination(&home, "backups");
    let (_, other) = destination(&home, "elsewhere");
    let daemon = start(&home);
    volume_with_snapshot(&home, &daemon, "pg");
    let first = daemon.say(&["backup", "create", "pg@s", "--dest", &url]);
    std::fs::write(home.volumes().join("pg/more"), "more").expect("writes");
    let second = daemon.say(&["backup", "create", "pg", "--dest", &url]);
    let copy = daemon.say(&["backup", "copy", &second, "--dest", &other]);
    assert!(copy.starts_with(&format!("{other}?volume=pg&backup=")), "{copy}");
    daemon.say(&["create", "copied", "--backup", &copy]);
    same_tree(&home.volumes().join("pg"), &home.volumes().join("copied"));
    let verified = daemon.json(&["backup", "verify", &url, "--read-data"]);
    assert_eq!(
        (&verified["Verified"], &verified["Backups"]),
        (&json!(true), &json!(2)),
        "{verified}"
    );
    daemon.say(&["backup", "delete", &first]);
    assert_eq!(daemon.fails(&["backup", "delete", &first]).0, 3);
    daemon.json(&["backup", "prune", &url]);
    let left = daemon.json(&["backup", "list", &url]);
    assert_eq!(left.as_object().map(|o| o.len()), Some(1));
    daemon.say(&["create", "second", "--backup", &second]);
    // Damage is found, named, and is a failure.
    let pack = daemon::shell(&["find", text(&dir.join("pg/data")), "-type", "f"]);
    for path in pack.lines() {
        let mut bytes = std::fs::read(path).expect("reads");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("mode");
        std::fs::write(path, bytes).expect("writes");
    }
    let (code, said) = daemon.fails(&["backup", "verify", &url, "--read-data"]);
    assert!(code == 8 && said.contains("volume=pg"), "{code} {said}");
}

#[test]
fn docker_s_create_answers_at_once_and_its_mount_waits() {
    let home = Home::on("btrfs");
    let (_, url) = destination(&home, "backups");
    let daemon = start(&home);
    volume_with_snapshot(&home, &daemon, "pg");
    let backup = daemon.say(&["backup", "create", "pg@s", "--dest", &url]);
    let create = json!({"Name": "back", "Opts": {"backup": backup}}).to_string();
    daemon.ok("VolumeDriver.Create", &create);
    daemon.ok("VolumeDriver.Create", &create);
    let at = daemon.ok("VolumeDriver.Mount", r#"{"Name":"back","ID":"c1"}"#)["Mountpoint"].clone();
    let at = PathBuf::from(at.as_str().expect("a path"));
    assert_eq!(
        std::fs::read_to_string(at.join("file")).expect("there"),
        "contents"
    );
    daemon.ok("VolumeDriver.Unmount", r#"{"Name":"back","ID":"c1"}"#);
    let said = daemon.err(
        "VolumeDriver.Create",
        r#"{"Name":"bad","Opts":{"backup":"vfs:///nowhere/at/all?volume=pg&backup=01"}}"#,
    );
    assert!(said.contains("/nowhere/at/all"), "{said}");
}

#[test]
fn jobs_are_listed_kept_and_told_about() {
    let home = Home::on("btrfs");
    let (_, url) = destination(&home, "backups");
    let daemon = start(&home);
    volume_with_snapshot(&home, &daemon, "pg");
    let id = daemon.say(&["backup", "create", "pg@s", "--dest", &url, "--detach"]);
    daemon.say(&["job", "wait", &id]);
    let shown = job(&daemon, &id);
    assert_eq!(
        (&shown["Kind"], &shown["State"], &shown["Volume"]),
        (&json!("backup"), &json!("done"), &json!("pg"))
    );
    assert!(
        shown["Result"]["BackupURL"]
            .as_str()
            .is_some_and(|u| u.starts_with(&url)),
        "{shown}"
    );
    let (code, said) = daemon.fails(&["job", "inspect", "999"]);
    assert!(code == 3 && said.contains("999"), "{said}");
    let output = daemon.run(&["job", "cancel", &id]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("has ended already"));
    let actions: Vec<String> = daemon
        .say(&["events", "--no-follow"])
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["Action"].to_string())
        .collect();
    for action in ["job.start", "backup.create", "job.end"] {
        assert!(actions.contains(&format!("{action:?}")), "{action}: {actions:?}");
    }
    daemon.stop();
    let daemon = start(&home);
    assert_eq!(
        job(&daemon, &id)["State"],
        "done",
        "jobs outlive the daemon's run"
    );
    assert_eq!(daemon.json(&["job", "list"]).as_array().map(Vec::len), Some(1));
}

#[test]
fn the_password_is_nowhere_to_be_read() {
    let home = Home::on("btrfs");
    let (dir, url) = destination(&home, "backups");
    let daemon = start(&home);
    volume_with_snapshot(&home, &daemon, "pg");
    let backup = daemon.say(&["backup", "create", "pg@s", "--dest", &url]);
    for command in [
        &["info"][..],
        &["inspect", "pg"],
        &["job", "list"],
        &["backup", "inspect", &backup],
        &["events", "--no-follow"],
    ] {
        assert!(!daemon.say(command).contains(PASSWORD), "{command:?}");
    }
    assert!(!home.log().contains(PASSWORD));
    drop(daemon);
    let found = Command::new("grep")
        .args(["-rlF", PASSWORD, text(&home.root()), text(&dir)])
        .output()
        .expect("grep");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "a file holds it");
}

/// A volume with so many times 4 MiB that do not compress, backed up.
fn slow_backup(home: &Home, url: &str, times: usize) -> String {
    let daemon = start(home);
    daemon.say(&["create", "big"]);
    let mut data = vec![0_u8; times << 22];
    let mut state = 1_u64;
    for byte in &mut data {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        *byte = (state >> 56) as u8;
    }
    for n in 0..4 {
        std::fs::write(
            home.volumes().join(format!("big/{n}")),
            &data[(n * times) << 20..((n + 1) * times) << 20],
        )
        .expect("writes");
    }
    let backup = daemon.say(&["backup", "create", "big", "--dest", url]);
    daemon.stop();
    backup
}

/// At a speed at which a restore can be looked at: what is fetched comes in requests of up to 4 MiB.
fn slowly(command: &mut Command) {
    with_password(command);
    command.args(["--backup-download-limit", "2M", "--mount-wait", "1s"]);
}

#[test]
fn a_restore_shows_how_far_it_is_and_a_mount_says_so() {
    let home = Home::on("btrfs");
    let (_, url) = destination(&home, "backups");
    let backup = slow_backup(&home, &url, 4);
    let daemon = home.start_with(slowly);
    let create = json!({"Name": "back", "Opts": {"backup": backup}}).to_string();
    daemon.ok("VolumeDriver.Create", &create);
    let said = daemon.err("VolumeDriver.Mount", r#"{"Name":"back","ID":"c1"}"#);
    assert!(said.starts_with("volume back: restoring, "), "{said}");
    until("a percentage in Status", || {
        let status = daemon.ok("VolumeDriver.Get", r#"{"Name":"back"}"#)["Volume"]["Status"].clone();
        status["State"].as_str().is_some_and(|state| state.contains(" %"))
    });
    let other = daemon.say(&["create", "free"]);
    daemon.say(&["mount", &other]);
    // What is being restored can be given up.
    daemon.say(&["delete", "back"]);
    let jobs = daemon.json(&["job", "list"]);
    let last = jobs.as_array().and_then(|jobs| jobs.last()).expect("the restore");
    assert_eq!(
        (&last["Kind"], &last["State"]),
        (&json!("restore"), &json!("cancelled"))
    );
    daemon.say(&["umount", &other]);
}

#[test]
fn a_restore_goes_on_after_the_daemon_was_stopped_or_killed_in_the_middle() {
    for end in ["TERM", "KILL"] {
        let home = Home::on("btrfs");
        let (_, url) = destination(&home, "backups");
        let backup = slow_backup(&home, &url, 4);
        let daemon = home.start_with(slowly);
        daemon.say(&["create", "back", "--backup", &backup, "--detach"]);
        until("the restore", || {
            daemon.json(&["inspect", "back"])["State"]
                .as_str()
                .is_some_and(|s| s.contains(" %"))
        });
        if end == "TERM" {
            let took = daemon.stop();
            assert!(
                took < Duration::from_secs(8),
                "a stop waits for no restore: {took:?}"
            );
        } else {
            daemon.kill();
        }
        let daemon = start(&home);
        let jobs = daemon.json(&["job", "list"]);
        let restore = jobs.as_array().and_then(|jobs| jobs.last()).expect("the restore");
        let id = restore["ID"].to_string();
        daemon.say(&["job", "wait", &id]);
        let shown = job(&daemon, &id);
        assert_eq!(
            (&shown["State"], &shown["Kind"]),
            (&json!("done"), &json!("restore")),
            "{shown}"
        );
        assert_eq!(
            shown["Attempts"],
            if end == "TERM" { json!(1) } else { json!(2) },
            "{end}"
        );
        same_tree(&home.volumes().join("big"), &home.volumes().join("back"));
        assert_eq!(daemon.json(&["inspect", "back"])["State"], "ready");
    }
}

#[test]
fn a_backup_goes_on_after_the_daemon_was_killed_in_the_middle_and_its_snapshot_is_kept_meanwhile() {
    let home = Home::on("btrfs");
    let (_, url) = destination(&home, "backups");
    drop(slow_backup(&home, &url, 1));
    let (_, other) = destination(&home, "elsewhere");
    let daemon = home.start_with(|command| {
        with_password(command);
        command.args(["--backup-upload-limit", "512K"]);
    });
    daemon.say(&["snapshot", "create", "big", "--name", "s"]);
    let id = daemon.say(&["backup", "create", "big@s", "--dest", &other, "--detach"]);
    until("the backup", || job(&daemon, &id)["State"] == "running");
    for command in [&["snapshot", "delete", "big@s"][..], &["delete", "big"]] {
        let (code, said) = daemon.fails(command);
        assert!(code == 5 && said.contains(&format!("job {id}")), "{code} {said}");
    }
    daemon.kill();
    let daemon = start(&home);
    daemon.say(&["job", "wait", &id]);
    let made = job(&daemon, &id)["Result"]["BackupURL"]
        .as_str()
        .expect("a URL")
        .to_owned();
    let listed = daemon.json(&["backup", "list", &other]);
    assert_eq!(
        listed.as_object().expect("an object").keys().collect::<Vec<_>>(),
        [&made]
    );
    daemon.say(&["create", "back", "--backup", &made]);
    same_tree(&home.volumes().join("big"), &home.volumes().join("back"));
}

/// Bytes of packs in a destination.
fn packed(destination: &Path) -> u64 {
    let find = [
        "find",
        text(destination),
        "-path",
        "*/data/*",
        "-type",
        "f",
        // What is not under its name yet is no pack, and stays behind where its writer is killed.
        "!",
        "-name",
        ".tmp-*",
        "-printf",
        "%s\\n",
    ];
    let sizes = daemon::shell(&find);
    sizes
        .lines()
        .map(|size| size.parse::<u64>().expect("a size"))
        .sum()
}

/// A first backup always went on where it was interrupted; a later one sent everything again, as no index named what had
/// arrived.
#[test]
fn a_later_backup_that_was_killed_or_cancelled_in_the_middle_sends_only_what_is_missing() {
    const CHANGED: u64 = 24 << 20;
    let home = Home::on("btrfs");
    let (dir, url) = destination(&home, "backups");
    let daemon = start(&home);
    volume_with_snapshot(&home, &daemon, "pg");
    daemon.say(&["backup", "create", "pg@s", "--dest", &url]);
    daemon.stop();
    let large = home.volumes().join("pg/large");
    for end in ["kill", "cancel"] {
        let of = format!("of={}", text(&large));
        daemon::shell(&["dd", "if=/dev/urandom", &of, "bs=1M", "count=24", "status=none"]);
        let before = packed(&dir);
        let daemon = home.start_with(|command| {
            with_password(command);
            command.args(["--backup-upload-limit", "4M"]);
        });
        let id = daemon.say(&["backup", "create", "pg", "--dest", &url, "--detach"]);
        until("a pack", || packed(&dir) > before + (10 << 20));
        let daemon = if end == "kill" {
            daemon.kill();
            let daemon = start(&home);
            daemon.say(&["job", "wait", &id]);
            daemon
        } else {
            daemon.say(&["job", "cancel", &id]);
            assert!(daemon.fails(&["job", "wait", &id]).1.contains("cancelled"));
            assert!(packed(&dir) < before + CHANGED, "it was in the middle");
            daemon.stop();
            let daemon = start(&home);
            daemon.say(&["backup", "create", "pg", "--dest", &url]);
            daemon
        };
        let sent = packed(&dir) - before;
        assert!(
            (CHANGED..CHANGED + (1 << 20)).contains(&sent),
            "{end}: {sent} bytes were sent for {CHANGED}"
        );
        daemon.say(&["backup", "verify", &format!("{url}?volume=pg"), "--read-data"]);
        daemon.stop();
    }
}

#[test]
fn a_cancelled_backup_leaves_nothing_listed_and_says_so() {
    let home = Home::on("btrfs");
    let (_, url) = destination(&home, "backups");
    drop(slow_backup(&home, &url, 1));
    let (elsewhere, other) = destination(&home, "elsewhere");
    let daemon = home.start_with(|command| {
        with_password(command);
        command.args(["--backup-upload-limit", "16K"]);
    });
    let id = daemon.say(&["backup", "create", "big", "--dest", &other, "--detach"]);
    // After the first pack, the line is taken for minutes.
    until("a pack", || packed(&elsewhere) > 1 << 20);
    let begun = Instant::now();
    daemon.say(&["job", "cancel", &id]);
    let (code, said) = daemon.fails(&["job", "wait", &id]);
    assert!(code == 1 && said.contains("cancelled"), "{code} {said}");
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "nobody waits for the line"
    );
    assert_eq!(daemon.json(&["inspect", "big"])["Snapshots"], json!({}));
    daemon.stop();
    let daemon = start(&home);
    let state = job(&daemon, &id)["State"].clone();
    assert_eq!(state, "cancelled", "it does not begin again");
    let made = daemon.say(&["backup", "create", "big", "--dest", &other]);
    let listed = daemon.json(&["backup", "list", &other]);
    assert_eq!(
        listed.as_object().expect("an object").keys().collect::<Vec<_>>(),
        [&made]
    );
}

/// It slept for as long as what it had fetched was worth at its limit.
#[test]
fn a_restore_that_is_given_up_does_not_wait_for_the_line() {
    let home = Home::on("btrfs");
    let (_, url) = destination(&home, "backups");
    let backup = slow_backup(&home, &url, 4);
    let daemon = home.start_with(|command| {
        with_password(command);
        command.args(["--backup-download-limit", "16K", "--mount-wait", "1s"]);
    });
    daemon.say(&["create", "back", "--backup", &backup, "--detach"]);
    until("the restore", || {
        let jobs = daemon.json(&["job", "list"]);
        jobs.as_array()
            .and_then(|jobs| jobs.last())
            .is_some_and(|job| job["State"] == "running")
    });
    std::thread::sleep(Duration::from_secs(1));
    let begun = Instant::now();
    daemon.say(&["delete", "back"]);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[test]
fn a_backup_of_convoy_s_comes_back() {
    let home = Home::on("btrfs");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/convoy/repository");
    // No password is needed: Convoy had none.
    let daemon = home.start();
    let url =
        |volume: &str, backup: &str| format!("vfs://{}?backup={backup}&volume={volume}", text(&fixture));
    daemon.say(&[
        "create",
        "web",
        "--backup",
        &url("web-data", "backup-3c4d5e6f708192a3"),
    ]);
    let restored = std::fs::read_to_string(home.volumes().join("web/etc/app.conf")).expect("restored");
    assert_eq!(restored.len(), 12);
    let (code, said) = daemon.fails(&[
        "create",
        "blk",
        "--backup",
        &url("blk", "backup-1a2b3c4d5e6f7081"),
    ]);
    assert!(code == 7 && said.contains("block"), "{code} {said}");
    assert_eq!(
        daemon
            .fails(&["create", "x", "--backup", &url("none", "backup-0000000000000000")])
            .0,
        3
    );
}

/// Reflinked snapshots are new inodes each time: without their notes, every backup would read every file.
#[test]
fn what_did_not_change_since_the_backup_before_is_not_read_again() {
    for kind in ["xfs", "btrfs", "ext4"] {
        let home = Home::on(kind);
        let (_, url) = destination(&home, "backups");
        let daemon = start(&home);
        daemon.say(&["create", "pg"]);
        let dir = home.volumes().join("pg");
        std::fs::write(dir.join("large"), vec![1_u8; 3_000_000]).expect("writes");
        // What was written a moment ago could change again without another ctime, and would be read once more.
        std::thread::sleep(Duration::from_millis(100));
        let mut read = Vec::new();
        for (snapshot, content) in [("pg@one", 3), ("pg@two", 4)] {
            std::fs::write(dir.join("small"), vec![content; 1000]).expect("writes");
            daemon.say(&["snapshot", "create", "pg", "--name", &snapshot[3..]]);
            let backup = daemon.say(&["backup", "create", snapshot, "--dest", &url]);
            let backup = daemon.json(&["backup", "inspect", &backup]);
            read.push(backup["BytesRead"].as_u64().expect("a number"));
            assert_eq!(backup["BytesTotal"], json!(3_001_000), "{kind}");
        }
        assert_eq!(read, [3_001_000, 1000], "{kind}");
        daemon.stop();
    }
}
