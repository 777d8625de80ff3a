//! Start, configuration, reload, stop: what an administrator relies on.

mod daemon;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use daemon::{Home, text};
use serde_json::json;

fn refused(home: &Home, change: impl FnOnce(&mut std::process::Command)) -> String {
    let mut command = home.command();
    command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    change(&mut command);
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it started");
    assert_eq!(said.trim_end().lines().count(), 1, "one line: {said}");
    said
}

#[test]
fn a_second_daemon_on_the_same_root_is_refused_with_the_first_one_s_pid() {
    let home = Home::new();
    let first = home.start();
    let said = refused(&home, |_| ());
    assert!(
        said.contains(&first.pid().to_string()) && said.contains(text(&home.root())),
        "{said}"
    );
    first.ok("VolumeDriver.List", "{}");
    first.kill();
    home.start();
}

#[test]
fn it_stops_well_within_the_engine_s_ten_seconds_and_leaves_mounts_alone() {
    let home = Home::new();
    let daemon = home.start();
    daemon.ok("VolumeDriver.Create", r#"{"Name":"v"}"#);
    daemon.ok("VolumeDriver.Mount", r#"{"Name":"v","ID":"c1"}"#);
    // A listener that never leaves, and a connection that says nothing.
    let mut events = std::process::Command::new(env!("CARGO_BIN_EXE_windlass"))
        .args(["--socket", text(&home.admin_socket()), "events"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("runs");
    let _idle = std::os::unix::net::UnixStream::connect(home.docker_socket()).expect("connects");
    std::thread::sleep(Duration::from_millis(100));
    let took = daemon.stop();
    assert!(took < Duration::from_secs(8), "{took:?}");
    // So does the engine try a plugin's socket at its own start, also in the moment in which it stops the plugin.
    assert!(
        !home.log().contains("ERROR"),
        "silence is no error: {}",
        home.log()
    );
    assert!(events.wait().expect("it ends with the daemon").success());
    assert!(!home.docker_socket().exists() && !home.admin_socket().exists());
    assert_eq!(daemon::mounted_below(&home.mounts()).len(), 1);
    let daemon = home.start();
    daemon.ok("VolumeDriver.Unmount", r#"{"Name":"v","ID":"c1"}"#);
}

#[test]
fn sockets_and_records_are_for_root_and_the_group_alone_and_nothing_listens_on_tcp() {
    let home = Home::new();
    let daemon = home.start_with(|command| {
        command.args(["--group", "12345"]);
    });
    let mode = |path: &std::path::Path| {
        let found = std::fs::metadata(path).expect("there");
        (found.permissions().mode() & 0o777, found.uid(), found.gid())
    };
    assert_eq!(mode(&home.admin_socket()), (0o660, 0, 12345));
    assert_eq!(mode(&home.docker_socket()).0 & 0o007, 0);
    assert_eq!(mode(&home.root().join("state.db")).0, 0o600);
    // What containers keep is none of the other users' business.
    assert_eq!((mode(&home.volumes()).0, mode(&home.mounts()).0), (0o700, 0o700));
    let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid()))
        .expect("its files")
        .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
        .filter_map(|link| {
            link.to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')
                .map(str::to_owned)
        })
        .collect();
    assert!(!sockets.is_empty());
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let table =
            std::fs::read_to_string(format!("/proc/{}/net/{table}", daemon.pid())).unwrap_or_default();
        let inodes: Vec<&str> = table
            .lines()
            .filter_map(|line| line.split_whitespace().nth(9))
            .collect();
        assert!(
            !sockets.iter().any(|socket| inodes.contains(&socket.as_str())),
            "it has a network socket"
        );
    }
    let unknown = Home::new();
    let said = refused(&unknown, |c| _ = c.args(["--group", "no-such-group"]));
    assert!(said.contains("no-such-group"), "{said}");
}

#[test]
fn sighup_reads_the_file_again_and_a_bad_file_changes_nothing() {
    let home = Home::new();
    std::fs::create_dir(home.root()).expect("the root");
    let file = home.root().join("windlass.toml");
    std::fs::write(&file, "on-remove = \"keep\"\n").expect("writes");
    let daemon = home.start_with(|command| {
        command.env("WINDLASS_TRASH_TTL", "3d").env("WINDLASS_GROUP", "");
    });
    daemon.say(&["create", "v"]);
    let policy = |key: &str| daemon.json(&["inspect", "v"])["Policy"][key].clone();
    assert_eq!(
        (policy("on-remove"), policy("trash-ttl")),
        (json!("keep"), json!("3d"))
    );
    let reload = |content: &str, expected: &str| {
        std::fs::write(&file, content).expect("writes");
        daemon.signal("HUP");
        for _ in 0..200 {
            if home.log().contains(expected) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{expected:?} does not appear in the log:\n{}", home.log());
    };
    reload(
        "on-remove = \"delete\"\ntrash-ttl = \"1d\"\ngroup = \"12345\"\n",
        "need a restart: group",
    );
    assert_eq!(policy("on-remove"), "delete");
    assert_eq!(policy("trash-ttl"), "3d", "the environment wins over the file");
    reload("on-remove = \"shred\"\n", "the configuration stays as it was");
    assert_eq!(policy("on-remove"), "delete");
}

#[test]
fn bad_settings_are_refused_by_the_name_of_their_place() {
    let home = Home::new();
    let said = refused(&home, |c| _ = c.env("WINDLASS_TRASH_TTL", "seven"));
    assert!(
        said.contains("WINDLASS_TRASH_TTL") && said.contains("seven"),
        "{said}"
    );
    let said = refused(&home, |c| _ = c.args(["--on-remove", "shred"]));
    assert!(said.contains("--on-remove") && said.contains("shred"), "{said}");
    let said = refused(&home, |c| _ = c.args(["--drivers", "vfss"]));
    assert!(said.contains("did you mean \"vfs\""), "{said}");
    let said = refused(&home, |c| _ = c.args(["--driver-opts", "vfs.pth=/x"]));
    assert!(said.contains("pth") && said.contains("path"), "{said}");
    let said = refused(&home, |c| _ = c.args(["--driver-opts", "dm.fs=ext4"]));
    assert!(said.contains("dm.fs"), "{said}");
}

#[test]
fn a_configured_root_starts_from_what_it_remembers() {
    let home = Home::new();
    let daemon = home.start();
    daemon.say(&["create", "v"]);
    daemon.stop();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_windlass"));
    command
        .args([
            "daemon",
            "--root",
            text(&home.root()),
            "--mount-root",
            text(&home.mounts()),
        ])
        .args([
            "--docker-socket",
            text(&home.docker_socket()),
            "--admin-socket",
            text(&home.admin_socket()),
        ])
        .stdout(std::process::Stdio::null());
    let daemon = home.start_with(|given| *given = command);
    assert_eq!(daemon.json(&["info"])["vfs"]["Path"], json!(home.volumes()));
    assert_eq!(daemon.json(&["inspect", "v"])["State"], "ready");
}

/// After an upgrade the plugin may come up on another directory than before; an unmounted filesystem looks empty.
#[test]
fn another_directory_in_the_place_of_the_right_one_is_not_touched() {
    let home = Home::new();
    let daemon = home.start();
    daemon.say(&["create", "v"]);
    let id = daemon.json(&["info"])["General"]["StateID"]
        .as_str()
        .expect("an id")
        .to_owned();
    daemon.stop();
    let empty = Home::new();
    let said = refused(&empty, |c| _ = c.args(["--state-id", &id]));
    assert!(said.contains(&id) && said.contains("mounted"), "{said}");
    assert!(!empty.root().exists(), "nothing was made in it");

    let hidden = home.path().join("hidden");
    std::fs::rename(home.volumes(), &hidden).expect("moved");
    std::fs::create_dir(home.volumes()).expect("an empty directory in its place");
    let daemon = home.start_with(|command| {
        command.args(["--state-id", &id]);
    });
    // The volume is known, cannot be used, and Docker is not told that it does not exist.
    daemon.ok("VolumeDriver.Get", r#"{"Name":"v"}"#);
    let said = daemon.err("VolumeDriver.Mount", r#"{"Name":"v","ID":"c1"}"#);
    assert!(said.contains("mounted"), "{said}");
    assert!(!daemon.err("VolumeDriver.Create", r#"{"Name":"w"}"#).is_empty());
    assert_ne!(daemon.json(&["info"])["General"]["Warnings"], json!([]));
    assert_eq!(
        std::fs::read_dir(home.volumes()).expect("the path").count(),
        0,
        "nothing was made in it"
    );
    // The right one comes back, and the daemon takes it up by itself.
    std::fs::remove_dir(home.volumes()).expect("empty");
    std::fs::rename(&hidden, home.volumes()).expect("moved back");
    for _ in 0..300 {
        if daemon.json(&["inspect", "v"])["State"] == "ready" {
            daemon.ok("VolumeDriver.Mount", r#"{"Name":"v","ID":"c1"}"#);
            daemon.ok("VolumeDriver.Unmount", r#"{"Name":"v","ID":"c1"}"#);
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("it is not taken up again:\n{}", home.log());
}

/// The guard against an unmounted filesystem must not stand in the way of a path that was changed on purpose.
#[test]
fn another_path_can_be_given_and_the_old_one_again() {
    let home = Home::new();
    let daemon = home.start();
    daemon.say(&["create", "v"]);
    daemon.stop();
    let other = format!("vfs.path={}", home.path().join("other").display());
    let daemon = home.start_with(|command| {
        command.args(["--driver-opts", &other]);
    });
    assert_eq!(daemon.json(&["list"]), json!({}));
    daemon.say(&["create", "w"]);
    daemon.stop();
    let daemon = home.start();
    assert_eq!(daemon.json(&["inspect", "v"])["State"], "ready");
    assert_eq!(daemon.json(&["list"]).as_object().map(|o| o.len()), Some(1));
}

/// One record that cannot be read keeps neither the daemon nor the other volumes from working.
#[test]
fn a_damaged_record_is_named_and_the_rest_works() {
    let home = Home::new();
    let daemon = home.start();
    daemon.say(&["create", "good"]);
    daemon.say(&["create", "bad"]);
    daemon.stop();
    std::fs::write(home.volumes().join(".windlass/volumes/bad"), "{\"id\": ").expect("damaged");
    let daemon = home.start();
    daemon.ok("VolumeDriver.Get", r#"{"Name":"bad"}"#);
    assert_ne!(daemon.json(&["inspect", "bad"])["State"], "ready");
    assert!(
        !daemon
            .err("VolumeDriver.Mount", r#"{"Name":"bad","ID":"c1"}"#)
            .is_empty()
    );
    assert!(!daemon.err("VolumeDriver.Remove", r#"{"Name":"bad"}"#).is_empty());
    daemon.ok("VolumeDriver.Mount", r#"{"Name":"good","ID":"c1"}"#);
    daemon.ok("VolumeDriver.Unmount", r#"{"Name":"good","ID":"c1"}"#);
    let warnings = daemon.json(&["info"])["General"]["Warnings"].to_string();
    assert!(warnings.contains("bad"), "{warnings}");
}

/// A container must not start on an empty directory because its data are still on their way.
#[test]
fn a_volume_whose_data_are_not_there_yet_says_so_and_is_not_mounted() {
    let home = Home::new();
    let daemon = home.start();
    daemon.say(&["create", "v"]);
    daemon.stop();
    let record = home.volumes().join(".windlass/volumes/v");
    let text = std::fs::read_to_string(&record).expect("a record");
    let mut volume: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    volume["restoring"] = json!({"from": "s3://b@r/?volume=v&backup=0123", "since": "2026-11-20T08:00:00Z"});
    std::fs::write(&record, volume.to_string()).expect("written");
    let daemon = home.start();
    let waiting = "waiting for its data from s3://b@r/?volume=v&backup=0123";
    assert_eq!(daemon.json(&["inspect", "v"])["State"], waiting);
    let got = daemon.ok("VolumeDriver.Get", r#"{"Name":"v"}"#);
    assert_eq!(got["Volume"]["Status"]["State"], waiting);
    daemon.ok("VolumeDriver.Create", r#"{"Name":"v"}"#);
    let said = daemon.err("VolumeDriver.Mount", r#"{"Name":"v","ID":"c1"}"#);
    assert!(said.contains("another host is restoring it"), "{said}");
    let (code, said) = daemon.fails(&["mount", "v"]);
    assert!(
        code != 0 && said.contains("another host is restoring it"),
        "{code} {said}"
    );
    assert_eq!(daemon.json(&["inspect", "v"])["MountPoint"], "");
    daemon.ok("VolumeDriver.Remove", r#"{"Name":"v"}"#);
    daemon.say(&["undelete", "v"]);
    assert_eq!(daemon.json(&["inspect", "v"])["State"], waiting);
}

/// Convoy's list took a read lock twice and stopped for good under load.
#[test]
fn many_at_once_do_not_block_each_other() {
    let home = Home::new();
    let daemon = home.start();
    std::thread::scope(|scope| {
        for worker in 0..6 {
            let daemon = &daemon;
            scope.spawn(move || {
                for round in 0..10 {
                    let name = format!("v{worker}-{round}");
                    daemon.ok("VolumeDriver.Create", &format!(r#"{{"Name":"{name}"}}"#));
                    assert!(daemon.admin("GET", "/v1/volumes", "").0 == 200);
                    daemon.ok("VolumeDriver.Remove", &format!(r#"{{"Name":"{name}"}}"#));
                }
            });
        }
    });
    assert_eq!(daemon.json(&["list"]), json!({}));
    assert_eq!(daemon.json(&["trash", "list"]).as_array().map(Vec::len), Some(60));
}
