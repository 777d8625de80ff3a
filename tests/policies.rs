//! Volumes that look after themselves: by a real daemon, whose clock is told other times by the records of what was done.

mod daemon;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use daemon::{Daemon, Home, until};
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

fn scheduled(daemon: &Daemon<'_>, volume: &str) -> Vec<String> {
    let shown = daemon.json(&["inspect", volume]);
    let snapshots = shown["Snapshots"].as_object().expect("a map").keys();
    snapshots
        .filter(|name| name.starts_with("scheduled-"))
        .cloned()
        .collect()
}

fn task(daemon: &Daemon<'_>, volume: &str, task: &str) -> Value {
    daemon.json(&["inspect", volume])["Schedules"][task].clone()
}

/// Makes the daemon believe that what it did last was so long ago. It must not be running.
fn age(home: &Home, task: &str, minutes: i64) {
    let path = home.root().join("state.db");
    let database = rusqlite::Connection::open(path).expect("opens");
    let moment = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(minutes);
    let moment = jiff::Timestamp::from_second(moment.as_second()).expect("a moment");
    let changed = database.execute(
        "UPDATE past SET record = json_set(record, '$.succeeded', ?2, '$.tried', ?2) WHERE task = ?1",
        [task, &moment.to_string()],
    );
    assert_eq!(changed.expect("changed"), 1);
}

#[test]
fn a_volume_is_snapshotted_by_schedule_and_what_need_not_be_kept_goes() {
    let home = Home::on("btrfs");
    let daemon = home.start();
    daemon.say(&[
        "create",
        "v",
        "-O",
        "snapshot.schedule=every 10m",
        "-O",
        "snapshot.keep=last=2",
    ]);
    daemon.say(&["snapshot", "create", "v", "--name", "mine"]);
    assert_eq!(task(&daemon, "v", "snapshot")["Health"], "waiting");
    // Changed, it counts from now; the first turn comes by what a former run did.
    daemon.say(&["policy", "set", "v", "backup.rpo=1h"]);
    daemon.say(&["policy", "unset", "v", "backup.rpo"]);
    let shown = daemon.json(&["policy", "show", "v"]);
    assert_eq!(
        (&shown["snapshot.schedule"], &shown["snapshot.keep"]),
        (&json!("every 10m"), &json!("last=2"))
    );
    assert!(shown.get("backup.rpo").is_none());
    daemon.stop();

    let path = home.root().join("state.db");
    let database = rusqlite::Connection::open(path).expect("opens");
    let id: String = database
        .query_row("SELECT id FROM volume", [], |row| row.get(0))
        .expect("a volume");
    database
        .execute(
            "INSERT INTO past (volume, task, record) VALUES (?1, 'snapshot', '{}')",
            [id],
        )
        .expect("recorded");
    drop(database);
    let mut taken = Vec::new();
    for round in 1..=4 {
        age(&home, "snapshot", 11);
        let daemon = home.start();
        until("a snapshot", || {
            task(&daemon, "v", "snapshot")["Health"] == "ok" && {
                let now = scheduled(&daemon, "v");
                now.iter().any(|name| !taken.contains(name)) && now.len() <= 2
            }
        });
        let now = scheduled(&daemon, "v");
        assert_eq!(now.len(), round.min(2), "{now:?}");
        taken.extend(now);
        let shown = daemon.json(&["inspect", "v"]);
        assert!(shown["Snapshots"]["mine"].is_object(), "a person's own stay");
        assert_eq!(shown["Health"], "ok");
        daemon.say(&["health"]);
        daemon.stop();
        // The names are moments, to the second.
        std::thread::sleep(Duration::from_millis(1_100));
    }
}

#[test]
fn a_volume_is_backed_up_in_time_and_what_fails_is_told_and_tried_again() {
    let home = Home::on("ext4");
    let (dir, url) = destination(&home);
    let daemon = home.start_with(with_password);
    daemon.say(&["create", "v"]);
    fs::write(home.volumes().join("v/f"), "precious").expect("written");
    // The destination cannot be written to: a file is in its place.
    fs::remove_dir(&dir).expect("empty");
    fs::write(&dir, "").expect("a file");
    daemon.say(&[
        "policy",
        "set",
        "v",
        &format!("backup.dest={url}"),
        "backup.rpo=1h",
        "backup.keep=last=1",
    ]);
    until("a failure", || task(&daemon, "v", "backup")["Failures"] == 1);
    let fares = task(&daemon, "v", "backup");
    assert_eq!(fares["Health"], "failing");
    let docker = daemon.ok("VolumeDriver.Get", r#"{"Name":"v"}"#);
    assert_eq!(
        docker["Volume"]["Status"]["Health"], "failing",
        "Docker's users see it too"
    );
    assert!(!fares["Error"].as_str().expect("text").is_empty(), "{fares}");
    let (code, said) = daemon.fails(&["health"]);
    assert!(code == 1 && said.contains("not done"), "{said}");
    assert!(
        daemon
            .say(&["events", "--no-follow"])
            .contains("its backup by schedule failed")
    );
    daemon.stop();

    // Mended, the next try succeeds by itself.
    fs::remove_file(&dir).expect("gone");
    fs::create_dir(&dir).expect("a directory");
    age(&home, "backup", 61);
    let daemon = home.start_with(with_password);
    until("a backup", || task(&daemon, "v", "backup")["Health"] == "ok");
    let backups = daemon.json(&["backup", "list", &url]);
    let (first, _) = backups.as_object().expect("a map").iter().next().expect("one");
    let first = first.clone();
    assert_eq!(
        daemon.json(&["inspect", "v"])["Snapshots"],
        json!({}),
        "none is left of it"
    );
    let by_hand = daemon.say(&["backup", "create", "v", "--dest", &url]);
    daemon.stop();

    // When it grows old, another is made, and of those made by schedule one is kept.
    age(&home, "backup", 46);
    fs::write(home.volumes().join("v/f"), "more precious").expect("written");
    let daemon = home.start_with(with_password);
    until("the next", || {
        let backups = daemon.json(&["backup", "list", &url]);
        let backups = backups.as_object().expect("a map");
        backups.len() == 2 && !backups.contains_key(&first)
    });
    assert_eq!(
        daemon.json(&["backup", "inspect", &by_hand])["VolumeName"],
        "v",
        "a person's own stay"
    );
    daemon.say(&["health"]);
}

#[test]
fn a_policy_that_makes_no_sense_changes_nothing() {
    let home = Home::new();
    let daemon = home.start();
    daemon.say(&[
        "create",
        "v",
        "-O",
        "backup.schedule=@daily",
        "-O",
        "backup.keep=daily=7",
    ]);
    for (wish, words) in [
        ("backup.rpo=4h", "backup.schedule and backup.rpo"),
        ("snapshot.schedule=sometimes", "a schedule such as"),
        ("snapshot.keep=last=0", "rules such as"),
        ("snapshot.shedule=@daily", "did you mean \"snapshot.schedule\""),
        ("size=1G", "unknown option"),
        ("backup.dest=here", "a URL"),
    ] {
        let (code, said) = daemon.fails(&["policy", "set", "v", wish]);
        assert!(code == 6 && said.contains(words), "{wish}: {code} {said}");
        let (code, _) = daemon.fails(&["create", "w", "-O", wish, "-O", "backup.schedule=@daily"]);
        assert!(code == 6 || wish.starts_with("size"), "{wish}");
        daemon.run(&["delete", "w", "--purge"]);
    }
    assert_eq!(
        daemon.fails(&["policy", "unset", "v", "backup.dest", "colour"]).0,
        6
    );
    let shown = daemon.json(&["policy", "show", "v"]);
    assert_eq!(
        shown,
        json!({"backup.keep": "daily=7", "backup.schedule": "@daily", "on-remove": "trash", "protect": "false", "trash-ttl": "7d"})
    );
    daemon.say(&["policy", "unset", "v", "backup.schedule", "backup.keep"]);
    daemon.say(&["policy", "set", "v", "backup.rpo=4h", "on-remove=delete"]);
    assert_eq!(daemon.json(&["policy", "show", "v"])["on-remove"], "delete");
    let listed = daemon.json(&["list"]);
    assert!(
        ["failing", "waiting", "never"]
            .map(Value::from)
            .contains(&listed["v"]["Health"]),
        "{listed}"
    );
}

fn backups(daemon: &Daemon<'_>, url: &str) -> Vec<String> {
    let listed = daemon.json(&["backup", "list", url]);
    listed.as_object().expect("a map").keys().cloned().collect()
}

fn run_task(daemon: &Daemon<'_>, task: &str) {
    daemon.say(&["job", "run", "v", task]);
}

#[test]
fn where_nothing_has_changed_the_last_backup_stays_the_newest_and_counts_as_made_now() {
    for kind in ["ext4", "btrfs"] {
        let home = Home::on(kind);
        let (_, url) = destination(&home);
        let daemon = home.start_with(with_password);
        daemon.say(&["create", "v"]);
        daemon.ok("VolumeDriver.Mount", r#"{"Name":"v","ID":"c"}"#);
        fs::write(home.mounts().join("v/f"), "precious").expect("written");
        daemon.ok("VolumeDriver.Unmount", r#"{"Name":"v","ID":"c"}"#);
        daemon.say(&[
            "policy",
            "set",
            "v",
            &format!("backup.dest={url}"),
            "backup.rpo=1h",
        ]);
        until("the first", || task(&daemon, "v", "backup")["Health"] == "ok");
        let first = backups(&daemon, &url);
        assert_eq!(first.len(), 1);
        let snapshots = fs::read_dir(home.path().join("backups/v/snapshots"))
            .expect("listed")
            .count();
        assert_eq!(snapshots, 1);
        let at = task(&daemon, "v", "backup")["SucceededAt"].clone();
        std::thread::sleep(Duration::from_millis(1_100));

        run_task(&daemon, "backup");
        assert_eq!(backups(&daemon, &url), first, "{kind}: nothing changed");
        assert_ne!(task(&daemon, "v", "backup")["SucceededAt"], at, "and it counts");
        let jobs = daemon.json(&["job", "list"]);
        let last = jobs.as_array().expect("a list").last().expect("a job");
        assert_eq!(last["Result"]["Unchanged"], true, "{last}");
        assert!(
            daemon.json(&["inspect", "v"])["Snapshots"]
                .as_object()
                .is_some_and(serde_json::Map::is_empty),
            "nothing is left of it"
        );

        let by_hand = daemon.say(&["backup", "create", "v", "--if-changed"]);
        assert_eq!([by_hand], first[..], "at the volume's own destination");

        for change in ["a file", "a name", "a mode"] {
            let before = backups(&daemon, &url).len();
            std::thread::sleep(Duration::from_millis(1_100));
            let root = home.volumes().join("v");
            match change {
                "a file" => fs::write(root.join("f"), "more precious").expect("written"),
                "a name" => fs::rename(root.join("f"), root.join("g")).expect("renamed"),
                _ => {
                    use std::os::unix::fs::PermissionsExt;
                    fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).expect("changed");
                }
            }
            run_task(&daemon, "backup");
            assert_eq!(
                backups(&daemon, &url).len(),
                before + 1,
                "{kind}: {change} changed"
            );
        }
        daemon.say(&["backup", "verify", &url, "--read-data"]);
    }
}

#[test]
fn backups_are_looked_at_and_damage_is_told() {
    let home = Home::on("btrfs");
    let (dir, url) = destination(&home);
    let daemon = home.start_with(with_password);
    daemon.say(&["create", "v"]);
    fs::write(home.volumes().join("v/f"), "precious").expect("written");
    daemon.say(&[
        "policy",
        "set",
        "v",
        &format!("backup.dest={url}"),
        "backup.schedule=@daily",
        "backup.verify=sample,full=@weekly",
        "backup.limit=100M",
    ]);
    run_task(&daemon, "backup");
    until("the look", || task(&daemon, "v", "verify")["Health"] == "ok");
    run_task(&daemon, "verify-full");
    assert_eq!(task(&daemon, "v", "verify-full")["Health"], "ok");
    let jobs = daemon.json(&["job", "list"]);
    let verified: Vec<_> = jobs
        .as_array()
        .expect("a list")
        .iter()
        .filter(|job| job["Kind"] == "verify")
        .map(|job| job["Parameters"]["Percent"].clone())
        .collect();
    assert_eq!(verified, ["5", "100"]);

    let pack = daemon::shell(&[
        "find",
        daemon::text(&dir.join("v/data")),
        "-type",
        "f",
        "-size",
        "+0",
    ]);
    for pack in pack.lines() {
        let mut bytes = fs::read(pack).expect("read");
        bytes[10] ^= 1;
        fs::remove_file(pack).expect("removed");
        fs::write(pack, bytes).expect("written");
    }
    let (_, said) = daemon.fails(&["job", "run", "v", "verify-full"]);
    assert!(said.contains("verify-full of volume v failed"), "{said}");
    assert_eq!(task(&daemon, "v", "verify-full")["Health"], "failing");
    let (code, _) = daemon.fails(&["health"]);
    assert_eq!(code, 1);
}

#[test]
fn what_a_policy_would_take_away_is_shown_before() {
    let home = Home::on("btrfs");
    let (_, url) = destination(&home);
    let daemon = home.start_with(with_password);
    daemon.say(&[
        "create",
        "v",
        "-O",
        "snapshot.schedule=@daily",
        "-O",
        &format!("backup.dest={url}"),
    ]);
    daemon.say(&["policy", "set", "v", "backup.schedule=@daily"]);
    daemon.say(&["snapshot", "create", "v", "--name", "mine"]);
    for _ in 0..3 {
        run_task(&daemon, "snapshot");
        fs::write(home.volumes().join("v/f"), format!("{:?}", Instant::now())).expect("written");
        run_task(&daemon, "backup");
        std::thread::sleep(Duration::from_millis(1_100));
    }
    let shown = daemon.json(&["policy", "show", "v", "--dry-run"]);
    let why = |sort: &str| {
        let all = shown[sort].as_array().expect("a list");
        all.iter().map(|one| one["Why"][0].clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        why("Snapshots"),
        ["not by schedule", "no rule", "no rule", "no rule"]
    );
    assert_eq!(why("Backups"), ["no rule", "no rule", "no rule"]);
    daemon.say(&["policy", "set", "v", "snapshot.keep=last=2", "backup.keep=last=1"]);
    let shown = daemon.json(&["policy", "show", "v", "--dry-run"]);
    let kept = |sort: &str| {
        let all = shown[sort].as_array().expect("a list");
        all.iter()
            .map(|one| one["Kept"].as_bool().expect("a truth"))
            .collect::<Vec<_>>()
    };
    assert_eq!(kept("Snapshots"), [true, false, true, true]);
    assert_eq!(kept("Backups"), [false, false, true]);
    let text = daemon.say(&["-o", "table", "policy", "show", "v", "--dry-run"]);
    assert!(
        text.contains("not by schedule") && text.contains("newest, last"),
        "{text}"
    );
    assert_eq!(backups(&daemon, &url).len(), 3, "shown, not done");
    // The next turn does what was shown.
    std::thread::sleep(Duration::from_millis(1_100));
    run_task(&daemon, "snapshot");
    assert_eq!(scheduled(&daemon, "v").len(), 2);
}

#[test]
fn defaults_hold_for_volumes_that_do_not_say_and_patterns_change_many() {
    let home = Home::new();
    let daemon = home.start_with(|command| {
        command.env(
            "WINDLASS_DEFAULTS",
            "snapshot.schedule=@daily; snapshot.keep=daily=7",
        );
    });
    for name in ["pg1", "pg2", "www"] {
        daemon.say(&["create", name]);
    }
    daemon.say(&["create", "cache", "-O", "snapshot.schedule=none"]);
    assert_eq!(
        daemon.json(&["policy", "show", "pg1"])["snapshot.schedule"],
        "@daily"
    );
    assert_eq!(
        daemon.json(&["policy", "show", "cache"])["snapshot.schedule"],
        "none"
    );
    assert_eq!(task(&daemon, "pg1", "snapshot")["Health"], "waiting");
    assert_eq!(task(&daemon, "cache", "snapshot"), Value::Null);

    daemon.say(&["policy", "set", "pg*", "snapshot.schedule=@hourly"]);
    let schedule = |name: &str| daemon.json(&["policy", "show", name])["snapshot.schedule"].clone();
    assert_eq!(
        ["pg1", "pg2", "www"].map(schedule),
        ["@hourly", "@hourly", "@daily"]
    );
    daemon.say(&["policy", "unset", "*[12]", "snapshot.schedule"]);
    assert_eq!(["pg1", "pg2"].map(schedule), ["@daily", "@daily"]);
    let (code, said) = daemon.fails(&["policy", "set", "mysql*", "snapshot.schedule=@hourly"]);
    assert!(code == 2 && said.contains("mysql*"), "{said}");
    let (code, said) = daemon.fails(&["policy", "set", "pg1", "trim.schedule=@weekly"]);
    assert!(code == 7 && said.contains("in no pool"), "{said}");
    let (code, said) = daemon.fails(&["job", "run", "pg1", "backup"]);
    assert!(code == 6 && said.contains("policy set pg1"), "{said}");
}

#[test]
fn a_volume_may_have_backups_that_everybody_can_read_beside_others_that_nobody_can() {
    let home = Home::on("ext4");
    let (_, url) = destination(&home);
    let daemon = home.start_with(with_password);
    for (name, encrypt) in [("open", "false"), ("secret", "true")] {
        daemon.say(&["create", name, "-O", &format!("backup.encrypt={encrypt}")]);
        fs::write(home.volumes().join(name).join("f"), name).expect("written");
        daemon.say(&["backup", "create", name, "--dest", &url]);
    }
    assert_eq!(backups(&daemon, &url).len(), 2, "one list shows both");
    let restic = |volume: &str, password: &[&str]| {
        let dir = home.path().join("backups").join(volume);
        let mut restic = Command::new("restic");
        restic
            .args(["--no-cache", "-r", daemon::text(&dir)])
            .args(password)
            .arg("snapshots");
        restic
            .env("RESTIC_PASSWORD", "correct horse")
            .output()
            .expect("restic")
    };
    assert!(restic("secret", &[]).status.success());
    assert!(!restic("open", &[]).status.success());
    daemon.say(&["backup", "verify", &format!("{url}?volume=open"), "--read-data"]);
    let of_open = backups(&daemon, &format!("{url}?volume=open")).remove(0);
    daemon.say(&["create", "again", "--backup", &of_open]);
    assert_eq!(
        fs::read_to_string(home.volumes().join("again/f")).expect("restored"),
        "open"
    );
}
