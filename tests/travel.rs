//! Time travel by a real daemon: volumes as they were, the picture of their history, and what has changed between two states.

mod daemon;

use std::fs;
use std::process::Command;
use std::time::Duration;

use daemon::{Daemon, Home};
use serde_json::Value;

const DESTINATION: &str = "WINDLASS_BACKUP_DEST";

/// With a destination for those who name none.
fn with_backups(home: &Home) -> impl FnOnce(&mut Command) {
    let dir = home.path().join("backups");
    fs::create_dir_all(&dir).expect("a directory");
    move |command| {
        command.env("WINDLASS_BACKUP_PASSWORD", "correct horse");
        command.env(DESTINATION, format!("vfs://{}", dir.display()));
    }
}

/// Moments are whole seconds.
fn let_a_second_pass() {
    std::thread::sleep(Duration::from_millis(1_100));
}

fn taken(daemon: &Daemon<'_>, snapshot: &str) -> String {
    let shown = daemon.json(&["snapshot", "inspect", snapshot, "-o", "json"]);
    shown["CreatedAt"].as_str().expect("a moment").to_owned()
}

fn content(home: &Home, volume: &str) -> String {
    fs::read_to_string(home.volumes().join(volume).join("f")).expect("it has its file")
}

fn create(daemon: &Daemon<'_>, name: &str, from: &str) -> String {
    let output = daemon.run(&["create", name, "--from", from, "--no-progress"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{from}: {said}");
    said
}

fn events(daemon: &Daemon<'_>, name: &str) -> Value {
    let said = daemon.say(&["events", "--no-follow"]);
    let created = said
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .find(|event| event["Action"] == "volume.create" && event["Object"] == name);
    created.expect("it is told")["Attributes"].clone()
}

fn the_youngest_state_by_a_moment(filesystem: &str) {
    let home = Home::on(filesystem);
    let daemon = home.start();
    daemon.say(&["create", "pg"]);
    let file = home.volumes().join("pg/f");
    for (text, name) in [("one", "first"), ("two", "second"), ("three", "2h")] {
        fs::write(&file, text).expect("written");
        daemon.say(&["snapshot", "create", "pg", "--name", name]);
        let_a_second_pass();
    }
    fs::write(&file, "four").expect("written");
    let (first, second) = (taken(&daemon, "pg@first"), taken(&daemon, "pg@second"));

    let said = create(&daemon, "then", &format!("pg@{second}"));
    assert!(
        said.contains("the snapshot pg@second") && said.contains(&second),
        "{said}"
    );
    assert_eq!(content(&home, "then"), "two");
    let shown = daemon.json(&["inspect", "then"]);
    assert_eq!(shown["DriverInfo"]["BeganAs"], "pg@second");
    assert_eq!(shown["DriverInfo"]["BeganAsOf"], second.as_str());
    let told = events(&daemon, "then");
    assert_eq!(
        (&told["from"], &told["at"]),
        (&"pg@second".into(), &second.as_str().into())
    );
    let docker = daemon.ok("VolumeDriver.Get", r#"{"Name":"then"}"#);
    assert_eq!(
        docker["Volume"]["Status"]["BeganAs"]["From"], "pg@second",
        "{docker}"
    );

    // One second before the second, it was as the first has it; now, as the last one does.
    let before = second.parse::<jiff::Timestamp>().expect("a moment") - jiff::SignedDuration::from_secs(1);
    create(&daemon, "before", &format!("pg@{before}"));
    assert_eq!(content(&home, "before"), "one");
    let said = create(&daemon, "now", "pg@0s");
    assert!(said.contains("pg@2h"), "{said}");
    assert_eq!(content(&home, "now"), "three");

    // A name is stronger than a moment that is written so, and is no riddle that wants an explanation.
    let said = create(&daemon, "named", "pg@2h");
    assert_eq!(
        (content(&home, "named").as_str(), said.contains("youngest")),
        ("three", false)
    );

    for (from, code, words) in [
        ("pg@3h", 3, "the oldest snapshot is first"),
        ("pg@2000-01-01", 3, first.as_str()),
        ("pg@2999-01-01", 3, "yet to come"),
        ("pg@frist", 3, "did you mean pg@first?"),
        ("gone@1h", 3, "volume gone does not exist"),
        ("pg@08:00", 6, "pgdata@2026-11-20T08:00"),
    ] {
        let (got, said) = daemon.fails(&["create", "x", "--from", from]);
        assert!(got == code && said.contains(words), "{from}: {got} {said}");
    }

    // Docker's create again is a success, also when what was chosen is gone.
    let body = format!(r#"{{"Name":"again","Opts":{{"from":"pg@{second}"}}}}"#);
    daemon.ok("VolumeDriver.Create", &body);
    daemon.say(&["snapshot", "delete", "pg@first"]);
    daemon.run(&["job", "wait", "1"]);
    daemon.say(&["delete", "pg"]);
    daemon.ok("VolumeDriver.Create", &body);
    // A clone is a volume of its own.
    assert_eq!(content(&home, "then"), "two");
    let (code, said) = daemon.fails(&["create", "x", "--from", "pg@0s"]);
    assert!(code == 3 && said.contains("windlass undelete pg"), "{said}");
}

#[test]
fn a_volume_as_it_was_from_snapshots_of_the_filesystem() {
    the_youngest_state_by_a_moment("btrfs");
}

#[test]
fn a_volume_as_it_was_from_stored_snapshots() {
    the_youngest_state_by_a_moment("ext4");
}

#[test]
fn where_no_snapshot_is_as_old_a_backup_is_also_of_what_was_removed() {
    let home = Home::on("btrfs");
    let daemon = home.start_with(with_backups(&home));
    daemon.say(&["create", "pg"]);
    fs::write(home.volumes().join("pg/f"), "one").expect("written");
    let first = daemon.say(&["backup", "create", "pg", "--no-progress"]);
    let made = daemon.json(&["backup", "inspect", &first, "-o", "json"])["CreatedAt"].clone();
    let made = made.as_str().expect("a moment").to_owned();
    let_a_second_pass();
    fs::write(home.volumes().join("pg/f"), "two").expect("written");
    daemon.say(&["backup", "create", "pg", "--no-progress"]);
    let_a_second_pass();
    fs::write(home.volumes().join("pg/f"), "three").expect("written");
    daemon.say(&["snapshot", "create", "pg", "--name", "late"]);

    let said = create(&daemon, "then", &format!("pg@{made}"));
    assert!(
        said.contains(&first) && said.contains("no snapshot here is as old"),
        "{said}"
    );
    assert_eq!(content(&home, "then"), "one");
    assert_eq!(
        daemon.json(&["inspect", "then"])["DriverInfo"]["BeganAs"],
        first.as_str()
    );
    create(&daemon, "now", "pg@0s");
    assert_eq!(content(&home, "now"), "three", "the snapshot is the youngest");
    let (code, said) = daemon.fails(&["create", "x", "--from", "pg@1d"]);
    assert!(
        code == 3 && said.contains(&first) && said.contains("oldest snapshot is late"),
        "{said}"
    );

    // In the trash, and gone for good.
    daemon.say(&["delete", "pg"]);
    create(&daemon, "of-trash", "pg@0s");
    assert_eq!(content(&home, "of-trash"), "two");
    let (_, said) = daemon.fails(&["create", "x", "--from", "pg@1d"]);
    assert!(said.contains("undelete"), "{said}");
    daemon.say(&["trash", "purge", "pg"]);
    daemon.ok(
        "VolumeDriver.Create",
        &format!(r#"{{"Name":"of-nothing","Opts":{{"from":"pg@{made}"}}}}"#),
    );
    daemon.ok("VolumeDriver.Mount", r#"{"Name":"of-nothing","ID":"a"}"#);
    assert_eq!(content(&home, "of-nothing"), "one");
    daemon.ok("VolumeDriver.Unmount", r#"{"Name":"of-nothing","ID":"a"}"#);

    // Another volume of that name has another history.
    daemon.say(&["create", "pg"]);
    let (code, said) = daemon.fails(&["create", "x", "--from", "pg@0s"]);
    assert!(code == 3 && said.contains("there is no backup"), "{said}");
}
