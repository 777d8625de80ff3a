//! Docker's protocol against a real daemon: what the engine sends, repeats, forgets and gets wrong.

mod daemon;

use daemon::{Home, mounted_below};
use serde_json::json;

#[test]
fn a_volume_s_life_as_the_engine_sees_it() {
    let home = Home::new();
    let daemon = home.start();
    assert_eq!(
        daemon.call("Plugin.Activate", ""),
        json!({"Implements": ["VolumeDriver"]})
    );
    assert_eq!(
        daemon.call("VolumeDriver.Capabilities", "{}"),
        json!({"Capabilities": {"Scope": "local"}})
    );
    daemon.ok(
        "VolumeDriver.Create",
        r#"{"Name":"pg","Opts":{"uid":"70","mode":"0700"}}"#,
    );
    let at = daemon.ok("VolumeDriver.Mount", r#"{"Name":"pg","ID":"c1"}"#)["Mountpoint"].clone();
    let at = std::path::PathBuf::from(at.as_str().expect("a path"));
    std::fs::write(at.join("data"), "kept").expect("the volume can be written to");
    assert_eq!(
        daemon.ok("VolumeDriver.Path", r#"{"Name":"pg"}"#)["Mountpoint"],
        json!(at)
    );

    let volume = daemon.ok("VolumeDriver.Get", r#"{"Name":"pg"}"#)["Volume"].clone();
    assert_eq!(
        (&volume["Name"], &volume["Mountpoint"]),
        (&json!("pg"), &json!(at))
    );
    let created = volume["CreatedAt"].as_str().expect("a time");
    assert!(
        created.len() == 20 && created.ends_with('Z') && created.contains('T'),
        "RFC 3339: {created}"
    );
    assert_eq!(volume["Status"]["Driver"], "vfs");
    assert_eq!(volume["Status"]["Policy"]["on-remove"], "trash");
    assert_eq!(volume["Status"]["Snapshots"], json!([]));

    let list = daemon.ok("VolumeDriver.List", "{}")["Volumes"].clone();
    assert_eq!(list, json!([{"Name": "pg", "Mountpoint": at}]));
    daemon.ok("VolumeDriver.Unmount", r#"{"Name":"pg","ID":"c1"}"#);
    assert!(mounted_below(&home.mounts()).is_empty());
    daemon.ok("VolumeDriver.Remove", r#"{"Name":"pg"}"#);
    assert_eq!(daemon.ok("VolumeDriver.List", "{}")["Volumes"], json!([]));
    assert!(
        daemon
            .err("VolumeDriver.Get", r#"{"Name":"pg"}"#)
            .contains("does not exist")
    );
}

#[test]
fn repeated_calls_are_answered_as_the_first_ones() {
    let home = Home::new();
    let daemon = home.start();
    for _ in 0..3 {
        daemon.ok("VolumeDriver.Create", r#"{"Name":"v","Opts":{"uid":"70"}}"#);
        daemon.ok("VolumeDriver.Create", r#"{"Name":"v","Opts":null}"#);
    }
    let said = daemon.err("VolumeDriver.Create", r#"{"Name":"v","Opts":{"uid":"71"}}"#);
    assert!(
        said.contains("uid") && said.contains("70") && said.contains("71"),
        "{said}"
    );
    for _ in 0..3 {
        daemon.ok("VolumeDriver.Unmount", r#"{"Name":"v","ID":"never"}"#);
        daemon.ok("VolumeDriver.Unmount", r#"{"Name":"nothing","ID":"never"}"#);
    }
    daemon.ok("VolumeDriver.Remove", r#"{"Name":"v"}"#);
    daemon.ok("VolumeDriver.Remove", r#"{"Name":"v"}"#);
}

/// After a transport failure the engine repeats a call with no body at all.
#[test]
fn an_empty_body_is_refused_and_changes_nothing() {
    let home = Home::new();
    let daemon = home.start();
    for call in ["Create", "Remove", "Mount", "Unmount", "Path", "Get"] {
        for body in [
            "",
            " ",
            "{}",
            "null",
            "[]",
            r#"["v",null]"#,
            "{\"Name\":",
            r#"{"Name":7,"ID":"x"}"#,
        ] {
            let (status, answer) = daemon
                .try_call(&format!("VolumeDriver.{call}"), body)
                .expect("an answer");
            assert_eq!(status, 400, "{call} {body}: {answer}");
            assert!(
                answer["Err"].as_str().is_some_and(|said| said.contains(call)),
                "{call} {body}: {answer}"
            );
        }
    }
    let long = format!(r#"{{"Name":"v","Opts":{{"size":"{}"}}}}"#, "1".repeat(2 << 20));
    let answer = daemon.try_call("VolumeDriver.Create", &long);
    assert!(
        answer.is_none_or(|(status, _)| status == 400),
        "a body without end is not read to its end"
    );
    assert_eq!(
        daemon
            .try_call("VolumeDriver.Nonsense", "{}")
            .expect("an answer")
            .0,
        404
    );
    assert_eq!(daemon.ok("VolumeDriver.List", "{}")["Volumes"], json!([]));
    assert!(
        std::fs::read_dir(home.volumes())
            .expect("the path")
            .all(|e| e.expect("an entry").file_name() == ".windlass")
    );
}

#[test]
fn hostile_names_and_options_are_refused_by_name() {
    let home = Home::new();
    let daemon = home.start();
    let long = "x".repeat(300);
    for name in [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "/etc",
        ".windlass",
        "a\0b",
        "naïve",
        "-rf",
        "a b",
        "a\nb",
        &long,
    ] {
        let body = json!({"Name": name, "ID": "c1", "Opts": {}}).to_string();
        for call in ["Create", "Remove", "Mount", "Unmount", "Path", "Get"] {
            let said = daemon.err(&format!("VolumeDriver.{call}"), &body);
            assert!(said.contains("name"), "{call} {name:?}: {said}");
            assert!(
                said.len() < 400 && !said.contains('\n'),
                "{call} {name:?}: {said}"
            );
        }
    }
    for (option, value, expected) in [
        ("siz", "1G", "did you mean \"size\""),
        ("size", "much", "size"),
        ("mode", "rwx", "octal"),
        ("driver", "vfz", "did you mean \"vfs\""),
        ("from", "../../etc@x", "from"),
        ("from", "nothing@x", "does not exist"),
        ("on-remove", "shred", "trash, delete or keep"),
        ("backup", "s3://bucket", "backup"),
    ] {
        let said = daemon.err(
            "VolumeDriver.Create",
            &json!({"Name": "v", "Opts": {option: value}}).to_string(),
        );
        assert!(said.contains(expected), "{option}={value}: {said}");
    }
    assert_eq!(daemon.ok("VolumeDriver.List", "{}")["Volumes"], json!([]));
}

/// `docker cp` mounts and unmounts with the id of the running container.
#[test]
fn the_same_id_twice_is_two_mounts() {
    let home = Home::new();
    let daemon = home.start();
    daemon.ok("VolumeDriver.Create", r#"{"Name":"v"}"#);
    for _ in 0..2 {
        daemon.ok("VolumeDriver.Mount", r#"{"Name":"v","ID":"c1"}"#);
    }
    daemon.ok("VolumeDriver.Mount", r#"{"Name":"v","ID":"c2"}"#);
    assert_eq!(mounted_below(&home.mounts()).len(), 1, "one mount serves all");
    daemon.ok("VolumeDriver.Unmount", r#"{"Name":"v","ID":"c1"}"#);
    daemon.ok("VolumeDriver.Unmount", r#"{"Name":"v","ID":"c2"}"#);
    assert_eq!(mounted_below(&home.mounts()).len(), 1, "c1 still has it");
    daemon.ok("VolumeDriver.Unmount", r#"{"Name":"v","ID":"c1"}"#);
    assert!(mounted_below(&home.mounts()).is_empty());
}

/// After kill -9 of the plugin its containers go on; their unmounts come to the next one.
#[test]
fn a_killed_daemon_finds_its_mounts_again() {
    let home = Home::new();
    let daemon = home.start();
    daemon.ok("VolumeDriver.Create", r#"{"Name":"v"}"#);
    daemon.ok("VolumeDriver.Mount", r#"{"Name":"v","ID":"c1"}"#);
    daemon.ok("VolumeDriver.Mount", r#"{"Name":"v","ID":"c2"}"#);
    let before = mounted_below(&home.mounts());
    daemon.kill();
    let daemon = home.start();
    assert_eq!(
        mounted_below(&home.mounts()),
        before,
        "reused, not mounted once more"
    );
    // The engine, if it was killed too, mounts the same id again and unmounts it once.
    daemon.ok("VolumeDriver.Mount", r#"{"Name":"v","ID":"c1"}"#);
    assert_eq!(mounted_below(&home.mounts()), before);
    daemon.ok("VolumeDriver.Unmount", r#"{"Name":"v","ID":"c1"}"#);
    assert_eq!(mounted_below(&home.mounts()), before, "c2 still has it");
    daemon.ok("VolumeDriver.Unmount", r#"{"Name":"v","ID":"c2"}"#);
    assert!(mounted_below(&home.mounts()).is_empty());
}

/// `docker plugin disable -f` takes the mounts away behind the daemon's back.
#[test]
fn a_mount_that_vanished_is_made_again_at_the_start() {
    let home = Home::new();
    let daemon = home.start();
    daemon.ok("VolumeDriver.Create", r#"{"Name":"v"}"#);
    let at = daemon.ok("VolumeDriver.Mount", r#"{"Name":"v","ID":"c1"}"#)["Mountpoint"].clone();
    let at = at.as_str().expect("a path").to_owned();
    std::fs::write(format!("{at}/f"), "x").expect("writes");
    daemon.kill();
    daemon::shell(&["umount", &at]);
    let daemon = home.start();
    assert_eq!(
        daemon.ok("VolumeDriver.Path", r#"{"Name":"v"}"#)["Mountpoint"],
        json!(at)
    );
    assert_eq!(std::fs::read_to_string(format!("{at}/f")).expect("reads"), "x");
    daemon.ok("VolumeDriver.Unmount", r#"{"Name":"v","ID":"c1"}"#);
}

/// One failed Get made the engine forget a volume in use: Get fails only for what is truly absent.
#[test]
fn get_waits_for_a_create_under_way_and_sees_other_hosts_volumes() {
    let home = Home::new();
    let daemon = home.start();
    let other = Home::new();
    let neighbour = {
        let volumes = home.volumes();
        other.start_with(move |command| {
            command
                .arg("--driver-opts")
                .arg(format!("vfs.path={}", volumes.display()));
        })
    };
    neighbour.ok("VolumeDriver.Create", r#"{"Name":"shared","Opts":{"uid":"70"}}"#);
    let volume = daemon.ok("VolumeDriver.Get", r#"{"Name":"shared"}"#);
    assert_eq!(volume["Volume"]["Name"], "shared");
    daemon.ok("VolumeDriver.Create", r#"{"Name":"shared"}"#);
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let daemon = &daemon;
            scope.spawn(move || {
                for round in 0..5 {
                    let body = format!(r#"{{"Name":"w{worker}-{round}","ID":"c"}}"#);
                    daemon.ok("VolumeDriver.Create", &body);
                    daemon.ok("VolumeDriver.Get", &body);
                    daemon.ok("VolumeDriver.Mount", &body);
                    daemon.ok("VolumeDriver.List", "{}");
                    daemon.ok("VolumeDriver.Unmount", &body);
                    daemon.ok("VolumeDriver.Remove", &body);
                }
            });
        }
    });
    assert_eq!(
        daemon.ok("VolumeDriver.List", "{}")["Volumes"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
}

#[test]
fn a_volume_in_use_is_not_removed() {
    let home = Home::new();
    let daemon = home.start();
    daemon.ok("VolumeDriver.Create", r#"{"Name":"v"}"#);
    let at = daemon.say(&["mount", "v"]);
    let said = daemon.err("VolumeDriver.Remove", r#"{"Name":"v"}"#);
    assert!(
        said.contains("in use") && said.contains("windlass mount"),
        "{said}"
    );
    assert_eq!(mounted_below(&home.mounts()), [std::path::PathBuf::from(at)]);
    daemon.say(&["umount", "v"]);
    daemon.say(&["protect", "v"]);
    let said = daemon.err("VolumeDriver.Remove", r#"{"Name":"v"}"#);
    assert!(
        said.contains("protected") && said.contains("windlass unprotect v"),
        "{said}"
    );
    daemon.say(&["unprotect", "v"]);
    daemon.ok("VolumeDriver.Remove", r#"{"Name":"v"}"#);
}

/// A removed volume's name may begin another one's id: the engine repeats a Remove, and the other one went to the trash.
#[test]
fn the_engine_never_abbreviates() {
    let home = Home::new();
    let daemon = home.start();
    daemon.say(&["create", "other"]);
    let id = daemon.json(&["inspect", "other"])["UUID"]
        .as_str()
        .expect("an id")
        .to_owned();
    let begin = format!(r#"{{"Name":"{}","ID":"c1"}}"#, &id[..6]);
    daemon.ok("VolumeDriver.Remove", &begin);
    for call in ["Mount", "Path", "Get"] {
        assert!(
            daemon
                .err(&format!("VolumeDriver.{call}"), &begin)
                .contains("does not exist"),
            "{call}"
        );
    }
    assert_eq!(daemon.json(&["inspect", "other"])["State"], "ready");
}

#[test]
fn docker_s_remove_can_be_ignored_and_a_mount_can_create() {
    let home = Home::new();
    let daemon = home.start_with(|command| {
        command.args(["--ignore-docker-delete", "--create-on-docker-mount"]);
    });
    daemon.ok("VolumeDriver.Mount", r#"{"Name":"v","ID":"c1"}"#);
    daemon.ok("VolumeDriver.Unmount", r#"{"Name":"v","ID":"c1"}"#);
    std::fs::write(home.volumes().join("v/f"), "kept").expect("writes");
    daemon.ok("VolumeDriver.Remove", r#"{"Name":"v"}"#);
    assert_eq!(daemon.ok("VolumeDriver.List", "{}")["Volumes"], json!([]));
    assert_eq!(
        std::fs::read_to_string(home.volumes().join("v/f")).expect("reads"),
        "kept"
    );
}
