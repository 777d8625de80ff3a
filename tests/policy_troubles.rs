//! What can go wrong with a backup that a policy asks for: it is told, nothing is lost by it, and when its cause is gone the next
//! one succeeds by itself. Each by a real daemon.

mod daemon;
mod s3;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use daemon::{Daemon, Home, noise, shell, text, until};
use s3::{ACCESS_KEY, SECRET_KEY, Server};
use serde_json::{Value, json};
use windlass::engine::lock::{Access, Lock};
use windlass::engine::{Password, Repository};
use windlass::store::{Destination, StoreSettings, open};

const PASSWORD: &str = "correct horse";

fn with_password(command: &mut Command) {
    command.env("WINDLASS_BACKUP_PASSWORD", PASSWORD);
}

/// A volume with data, which is to be backed up every hour to a directory of its own.
fn cared_for(home: &Home, daemon: &Daemon<'_>, megabytes: usize, options: &[&str]) -> String {
    let dir = home.path().join("backups");
    fs::create_dir_all(&dir).expect("a directory");
    let url = format!("vfs://{}", dir.display());
    daemon.say(&["create", "v"]);
    fs::write(home.volumes().join("v/f"), noise(megabytes << 20)).expect("written");
    let dest = format!("backup.dest={url}");
    let mut set = vec!["policy", "set", "v", &dest, "backup.rpo=1h"];
    set.extend(options);
    daemon.say(&set);
    url
}

fn fares(daemon: &Daemon<'_>) -> Value {
    daemon.json(&["inspect", "v"])["Schedules"]["backup"].clone()
}

fn backups(daemon: &Daemon<'_>, url: &str) -> usize {
    let listed = daemon.json(&["backup", "list", url]);
    listed.as_object().expect("a map").len()
}

/// Waits for the failure, and that people, scripts and Docker are told of it.
fn is_told(daemon: &Daemon<'_>, words: &str) {
    until("a failure", || fares(daemon)["Failures"].as_u64() >= Some(1));
    let fares = fares(daemon);
    let error = fares["Error"].as_str().expect("text");
    assert!(error.contains(words), "{error:?} does not say {words:?}");
    assert!(
        ["failing", "never"].map(Value::from).contains(&fares["Health"]),
        "{fares}"
    );
    let (code, said) = daemon.fails(&["health"]);
    assert!(code == 1 && said.contains("not done"), "{said}");
    let docker = daemon.ok("VolumeDriver.Get", r#"{"Name":"v"}"#);
    assert_eq!(docker["Volume"]["Status"]["Health"], fares["Health"]);
    let events = daemon.say(&["events", "--no-follow"]);
    assert!(events.contains("its backup by schedule failed"), "{events}");
}

/// Waits until it is well again, without anybody asking for it.
fn mends_by_itself(daemon: &Daemon<'_>) {
    let give_up = Instant::now() + Duration::from_secs(100);
    while fares(daemon)["Health"] != "ok" {
        let jobs = || daemon.json(&["job", "list"]);
        assert!(Instant::now() < give_up, "still {}: {}", fares(daemon), jobs());
        std::thread::sleep(Duration::from_millis(50));
    }
    let now = fares(daemon);
    assert_eq!((&now["Failures"], &now["Error"]), (&json!(0), &json!("")));
    daemon.say(&["health"]);
}

/// Lets the daemon believe that its last try was an hour ago. It must not be running.
fn let_an_hour_pass(home: &Home) {
    let database = rusqlite::Connection::open(home.root().join("state.db")).expect("opens");
    let moment = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(61);
    let moment = jiff::Timestamp::from_second(moment.as_second()).expect("a moment");
    let changed = database.execute(
        "UPDATE past SET record = json_set(record, '$.tried', ?1) WHERE task = 'backup'",
        [moment.to_string()],
    );
    assert_eq!(changed.expect("changed"), 1);
}

#[test]
fn wrong_credentials() {
    let Some(server) = Server::get() else {
        return;
    };
    server.make_bucket("troubles");
    let keys = |secret: &'static str| {
        move |command: &mut Command| {
            with_password(command);
            command
                .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
                .env("AWS_SECRET_ACCESS_KEY", secret);
        }
    };
    let home = Home::new();
    let daemon = home.start_with(keys("somebody-else-s"));
    daemon.say(&["create", "v"]);
    fs::write(home.volumes().join("v/f"), "precious").expect("written");
    let dest = format!(
        "backup.dest=s3://troubles@us-east-1/p?endpoint={}",
        server.endpoint
    );
    daemon.say(&["policy", "set", "v", &dest, "backup.rpo=1h"]);
    is_told(&daemon, "AWS_SECRET_ACCESS_KEY");
    let log = home.log();
    assert!(
        !log.contains("somebody-else-s") && !log.contains(PASSWORD),
        "no secret is in the log"
    );
    daemon.stop();
    let_an_hour_pass(&home);
    let daemon = home.start_with(keys(SECRET_KEY));
    mends_by_itself(&daemon);
}

#[test]
fn a_wrong_password() {
    let home = Home::on("btrfs");
    let daemon = home.start_with(with_password);
    let url = cared_for(&home, &daemon, 1, &[]);
    mends_by_itself(&daemon);
    daemon.stop();
    let daemon = home.start_with(|command| {
        command.env("WINDLASS_BACKUP_PASSWORD", "incorrect donkey");
    });
    fs::write(home.volumes().join("v/g"), "more").expect("written");
    daemon.fails(&["job", "run", "v", "backup"]);
    is_told(&daemon, "password");
    daemon.stop();
    let_an_hour_pass(&home);
    let daemon = home.start_with(with_password);
    daemon.say(&["job", "run", "v", "backup"]);
    mends_by_itself(&daemon);
    assert_eq!(backups(&daemon, &url), 2);
}

#[test]
fn a_full_disk() {
    let home = Home::on("ext4");
    let dir = home.path().join("backups");
    fs::create_dir(&dir).expect("a directory");
    shell(&["mount", "-t", "tmpfs", "-o", "size=4m", "windlass", text(&dir)]);
    let daemon = home.start_with(with_password);
    let url = cared_for(&home, &daemon, 10, &[]);
    is_told(&daemon, "No space left");
    assert_eq!(
        fs::read(home.volumes().join("v/f")).expect("read"),
        noise(10 << 20)
    );
    daemon.stop();
    shell(&["mount", "-o", "remount,size=64m", text(&dir)]);
    let_an_hour_pass(&home);
    let daemon = home.start_with(with_password);
    mends_by_itself(&daemon);
    assert_eq!(backups(&daemon, &url), 1);
    daemon.say(&["backup", "verify", &url, "--read-data"]);
}

#[test]
fn a_lock_held_elsewhere() {
    let home = Home::on("btrfs");
    let daemon = home.start_with(with_password);
    let url = cared_for(&home, &daemon, 1, &[]);
    mends_by_itself(&daemon);
    fs::write(home.volumes().join("v/g"), "more").expect("written");

    let destination = Destination::parse(&format!("{url}/v"), None).expect("a destination");
    let opened = open(&destination, &StoreSettings::default()).expect("opens");
    let password = Password::new(PASSWORD.to_owned()).expect("a password");
    let repository = Repository::open(opened.store, &password, None).expect("opens");
    let lock = Lock::take(&repository, Access::Exclusive).expect("taken");
    daemon.fails(&["job", "run", "v", "backup"]);
    is_told(&daemon, "lock");
    drop(lock);
    daemon.stop();
    let_an_hour_pass(&home);
    let daemon = home.start_with(with_password);
    daemon.say(&["job", "run", "v", "backup"]);
    mends_by_itself(&daemon);
    assert_eq!(backups(&daemon, &url), 2);
}

#[test]
fn a_volume_that_is_removed_meanwhile() {
    let home = Home::on("btrfs");
    let daemon = home.start_with(with_password);
    let url = cared_for(&home, &daemon, 16, &["backup.limit=1M", "on-remove=delete"]);
    let job = || {
        let jobs = daemon.json(&["job", "list"]);
        let last = jobs.as_array().and_then(|jobs| jobs.last().cloned());
        last.filter(|job| job["State"] == "running" && job["Progress"]["BytesDone"].as_u64() > Some(0))
    };
    until("a backup at work", || job().is_some());
    // While it is read it stays; somebody who wants it gone ends the job first.
    let id = job().expect("at work")["ID"].to_string();
    let said = daemon.err("VolumeDriver.Remove", r#"{"Name":"v"}"#);
    assert!(said.contains(&format!("job {id}")), "{said}");
    daemon.say(&["job", "cancel", &id]);
    until("its removal", || {
        daemon.call("VolumeDriver.Remove", r#"{"Name":"v"}"#)["Err"] == ""
    });
    daemon.say(&["health"]);
    assert_eq!(daemon.json(&["list"]), json!({}));

    // Another volume of that name is refused that one's repository, and says so until somebody decides.
    daemon.say(&["create", "v"]);
    fs::write(home.volumes().join("v/f"), "another").expect("written");
    daemon.say(&[
        "policy",
        "set",
        "v",
        &format!("backup.dest={url}"),
        "backup.rpo=1h",
    ]);
    is_told(&daemon, "belongs to");
    daemon.say(&["backup", "create", "v", "--take-over"]);
    daemon.say(&["job", "run", "v", "backup"]);
    mends_by_itself(&daemon);
}

#[test]
fn a_daemon_that_is_killed_in_the_middle() {
    let home = Home::on("btrfs");
    let daemon = home.start_with(with_password);
    let url = cared_for(&home, &daemon, 12, &["backup.limit=4M"]);
    until("a backup at work", || {
        let jobs = daemon.json(&["job", "list"]);
        let last = jobs.as_array().and_then(|jobs| jobs.last().cloned());
        last.is_some_and(|job| job["Progress"]["BytesDone"].as_u64() > Some(1 << 20))
    });
    daemon.kill();
    let daemon = home.start_with(with_password);
    mends_by_itself(&daemon);
    assert_eq!(
        backups(&daemon, &url),
        1,
        "the job went on, and no other was begun"
    );
    let shown = daemon.json(&["inspect", "v"]);
    assert_eq!(shown["Snapshots"], json!({}), "nothing is left of it");
    daemon.say(&["backup", "verify", &url, "--read-data"]);
}
