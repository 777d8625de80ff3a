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
    // Until it has its data, it reads the snapshot.
    daemon.ok("VolumeDriver.Mount", r#"{"Name":"again","ID":"a"}"#);
    daemon.ok("VolumeDriver.Unmount", r#"{"Name":"again","ID":"a"}"#);
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

/// Change, old path, path and what of each line but the last.
fn differences(daemon: &Daemon<'_>, states: &[&str]) -> (Vec<String>, Value) {
    let said = daemon.say(&[&["diff", "-o", "json"], states].concat());
    let mut lines: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let summary = lines.pop().expect("a summary")["Summary"].clone();
    let told = lines.iter().map(|line| {
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let what: Vec<&str> = line["What"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        format!(
            "{} {}>{} {}",
            text("Change"),
            text("OldPath"),
            text("Path"),
            what.join(",")
        )
    });
    (told.collect(), summary)
}

fn what_has_changed(filesystem: &str) {
    let home = Home::on(filesystem);
    let daemon = home.start();
    daemon.say(&["create", "v"]);
    let root = home.volumes().join("v");
    let write = |name: &str, text: &str| fs::write(root.join(name), text).expect("written");
    fs::create_dir_all(root.join("d/deep")).expect("made");
    for name in [
        "keep",
        "touched",
        "longer",
        "same-size",
        "gone",
        "moved",
        "mode",
        "d/x",
        "d/deep/y",
        "kind",
    ] {
        write(name, &format!("content of {name}"));
    }
    std::os::unix::fs::symlink("keep", root.join("link")).expect("linked");
    let_a_second_pass();
    daemon.say(&["snapshot", "create", "v", "--name", "a"]);
    let (nothing, summary) = differences(&daemon, &["v@a"]);
    assert_eq!(
        (nothing.len(), &summary["Compared"]),
        (0, &13.into()),
        "{nothing:?}"
    );

    write("longer", "a content that is longer than before");
    write("same-size", "content OF same-size");
    write("touched", "content of touched");
    write("new", "new");
    fs::remove_file(root.join("gone")).expect("gone");
    fs::rename(root.join("moved"), root.join("under-another-name")).expect("moved");
    fs::rename(root.join("d"), root.join("e")).expect("moved");
    fs::set_permissions(
        root.join("mode"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .expect("changed");
    fs::remove_file(root.join("link")).expect("gone");
    std::os::unix::fs::symlink("touched", root.join("link")).expect("linked");
    fs::remove_file(root.join("kind")).expect("gone");
    fs::create_dir(root.join("kind")).expect("made");
    write("kind/inside", "x");
    // Directories in snapshots of reflinks are new ones, and only their files are known again.
    let moved = match filesystem {
        "xfs" => &[
            "removed >d ",
            "removed >d/deep ",
            "added >e ",
            "added >e/deep ",
            "renamed d/deep/y>e/deep/y ",
            "renamed d/x>e/x ",
        ][..],
        _ => &["renamed d>e "],
    };
    let expected = [
        "removed >gone ",
        "modified >kind type",
        "added >kind/inside ",
        "modified >link target",
        "modified >longer content",
        "modified >mode mode",
        "added >new ",
        "modified >same-size content",
        "renamed moved>under-another-name ",
    ];
    let expected = [moved, &expected[..]].concat();
    let count = |word: &str| expected.iter().filter(|line| line.starts_with(word)).count();
    let (added, removed, renamed) = (count("added"), count("removed"), count("renamed"));
    let (now, summary) = differences(&daemon, &["v@a"]);
    assert_eq!(now, expected, "with the volume as it is");
    assert_eq!(
        (&summary["Modified"], &summary["Renamed"]),
        (&5.into(), &renamed.into())
    );
    let_a_second_pass();
    daemon.say(&["snapshot", "create", "v", "--name", "b"]);
    assert_eq!(
        differences(&daemon, &["v@a", "v@b"]).0,
        expected,
        "of two snapshots"
    );
    assert_eq!(differences(&daemon, &["v@b"]).0, [""; 0]);
    let back = differences(&daemon, &["v@b", "v@a"]).0;
    assert!(
        back.iter()
            .any(|line| line.contains("e>d ") || line.contains("e/x>d/x"))
            && back.contains(&"added >gone ".to_owned()),
        "{back:?}"
    );
    let shown = daemon.say(&["diff", "v@a", "v@b", "-o", "table"]);
    assert!(
        shown.contains("A  new\n")
            && shown.ends_with(&format!(
                "{added} added, {removed} removed, 5 modified, {renamed} renamed; 20 names compared"
            )),
        "{shown}"
    );

    daemon.say(&["create", "w"]);
    daemon.say(&["snapshot", "create", "w", "--name", "other"]);
    for (states, code, words) in [
        (&["v@a", "w@other"][..], 6, "of the same volume, v"),
        (&["v@none"], 3, "does not exist"),
        (&["v@a", "--ranges"], 7, "--ranges"),
    ] {
        let (got, said) = daemon.fails(&[&["diff"], states].concat());
        assert!(got == code && said.contains(words), "{states:?}: {got} {said}");
    }
    // Nothing is read any more.
    daemon.say(&["snapshot", "delete", "v@a"]);
}

#[test]
fn what_has_changed_between_subvolumes() {
    what_has_changed("btrfs");
}

#[test]
fn what_has_changed_between_reflinks() {
    what_has_changed("xfs");
}

#[test]
fn what_has_changed_between_stored_snapshots() {
    what_has_changed("ext4");
}

#[test]
fn a_history_is_drawn_also_of_what_is_gone() {
    let home = Home::on("btrfs");
    let daemon = home.start_with(with_backups(&home));
    daemon.say(&["create", "pg"]);
    daemon.say(&["snapshot", "create", "pg", "--name", "s"]);
    let backup = daemon.say(&["backup", "create", "pg", "--no-progress"]);
    daemon.say(&["backup", "verify", &backup, "--no-progress"]);
    let kinds = |history: &Value| -> Vec<String> {
        let marks = history["Marks"].as_array().expect("marks").iter();
        let mut kinds: Vec<String> = marks
            .map(|mark| mark["Kind"].as_str().expect("a word").to_owned())
            .collect();
        kinds.sort();
        kinds
    };
    let history = daemon.json(&["timeline", "pg"]);
    assert_eq!(kinds(&history), ["backup", "created", "snapshot", "verification"]);
    assert_eq!(
        (&history["State"], &history["Notes"]),
        (&"here".into(), &Value::Array(Vec::new()))
    );
    let drawn = daemon.say(&["timeline", "pg", "-o", "table"]);
    assert!(
        drawn.is_ascii() && drawn.contains("snapshots") && drawn.contains("now"),
        "{drawn}"
    );
    assert_eq!(daemon.json(&["timeline", "pg", "--since", "0s"])["Name"], "pg");
    // Its destination is away: what is known is shown.
    daemon.stop();
    fs::rename(home.path().join("backups"), home.path().join("aside")).expect("moved");
    let daemon = home.start_with(with_backups(&home));
    let history = daemon.json(&["timeline", "pg"]);
    assert_eq!(kinds(&history), ["created", "snapshot", "verification"]);
    daemon.stop();
    fs::remove_dir_all(home.path().join("backups")).expect("gone");
    fs::rename(home.path().join("aside"), home.path().join("backups")).expect("moved");
    let daemon = home.start_with(with_backups(&home));
    daemon.say(&["delete", "pg"]);
    let history = daemon.json(&["timeline", "pg"]);
    assert_eq!(history["State"], "trash");
    assert!(kinds(&history).contains(&"removed".to_owned()));
    daemon.say(&["trash", "purge", "pg"]);
    let history = daemon.json(&["timeline", "pg"]);
    assert_eq!(history["State"], "gone");
    assert_eq!(kinds(&history), ["backup", "verification"]);
    assert_eq!(daemon.fails(&["timeline", "none"]).0, 3);
    assert_eq!(daemon.fails(&["timeline", "pg", "--since", "then"]).0, 6);
}
