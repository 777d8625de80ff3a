//! The command line as Convoy's users' scripts call it, against a real daemon.

mod daemon;

use daemon::Home;
use serde_json::json;

#[test]
fn create_prints_the_name_and_list_has_convoy_s_keys() {
    let home = Home::new();
    let daemon = home.start();
    assert_eq!(daemon.json(&["list"]), json!({}));
    assert_eq!(daemon.say(&["create", "pg", "--driver", "vfs"]), "pg");
    let named = daemon.say(&["create"]);
    assert!(named.starts_with("volume-") && named.len() == 15, "{named}");
    let list = daemon.json(&["list"]);
    assert_eq!(list.as_object().map(|o| o.len()), Some(2));
    let volume = &list["pg"];
    for key in [
        "Name",
        "Driver",
        "MountPoint",
        "CreatedTime",
        "DriverInfo",
        "Snapshots",
    ] {
        assert!(volume.get(key).is_some(), "{key} is missing: {volume}");
    }
    assert_eq!(
        (&volume["Name"], &volume["Driver"], &volume["MountPoint"]),
        (&json!("pg"), &json!("vfs"), &json!(""))
    );
    assert_eq!(volume["Snapshots"], json!({}));
    let created = volume["CreatedTime"].as_str().expect("text");
    assert_eq!(
        created.split(' ').nth(4),
        Some("+0000"),
        "Convoy's form: {created}"
    );
    for (key, value) in volume["DriverInfo"].as_object().expect("an object") {
        assert!(value.is_string(), "DriverInfo.{key} must be text: {value}");
    }
    assert_eq!(volume["DriverInfo"]["Path"], json!(home.volumes().join("pg")));
    assert_eq!(
        daemon
            .json(&["list", "--driver", "vfs"])
            .as_object()
            .map(|o| o.len()),
        Some(2)
    );
    assert_eq!(daemon.fails(&["list", "--driver", "ebs"]).0, 3);
    assert_eq!(daemon.json(&["inspect", "pg"])["Name"], "pg");
}

#[test]
fn info_has_general_and_a_section_per_driver() {
    let home = Home::new();
    let daemon = home.start();
    let info = daemon.json(&["info"]);
    assert_eq!(info["General"]["Root"], json!(home.root()));
    assert_eq!(
        (&info["General"]["DriverList"], &info["General"]["DefaultDriver"]),
        (&json!(["vfs"]), &json!("vfs"))
    );
    assert!(info["General"]["Version"].is_string());
    assert_eq!(info["vfs"]["Path"], json!(home.volumes()));
    assert!(
        info["vfs"]
            .as_object()
            .expect("a section")
            .values()
            .all(serde_json::Value::is_string)
    );
}

#[test]
fn mount_prints_the_place_and_a_second_place_can_be_asked_for() {
    let home = Home::new();
    let daemon = home.start();
    daemon.say(&["create", "v"]);
    let at = daemon.say(&["mount", "v"]);
    assert_eq!(std::path::Path::new(&at), home.mounts().join("v"));
    assert_eq!(daemon.say(&["mount", "v"]), at, "mounting again is the same");
    std::fs::write(format!("{at}/f"), "x").expect("writes");
    let other = home.path().join("elsewhere");
    assert_eq!(
        daemon
            .fails(&["mount", "v", "--mountpoint", daemon::text(&other)])
            .0,
        6
    );
    std::fs::create_dir(&other).expect("a directory");
    assert_eq!(
        daemon.say(&["mount", "v", "--mountpoint", daemon::text(&other)]),
        daemon::text(&other)
    );
    assert_eq!(
        std::fs::read_to_string(other.join("f")).expect("the same volume"),
        "x"
    );
    assert_eq!(daemon.json(&["inspect", "v"])["MountPoint"], json!(at));
    daemon.say(&["umount", "v"]);
    assert!(daemon::mounted_below(home.path()).is_empty(), "both are gone");
    daemon.say(&["umount", "v"]);
    assert_eq!(daemon.json(&["inspect", "v"])["MountPoint"], json!(""));
}

#[test]
fn umount_does_not_take_a_container_s_mount_away_unless_forced() {
    let home = Home::new();
    let daemon = home.start();
    daemon.say(&["create", "v"]);
    daemon.ok("VolumeDriver.Mount", r#"{"Name":"v","ID":"0123456789abcdef"}"#);
    let (code, said) = daemon.fails(&["umount", "v"]);
    assert!(
        code == 5 && said.contains("0123456789ab") && said.contains("--force"),
        "{code} {said}"
    );
    daemon.say(&["mount", "v"]);
    daemon.say(&["umount", "v"]);
    assert_eq!(
        daemon::mounted_below(&home.mounts()).len(),
        1,
        "the container's stays"
    );
    daemon.say(&["umount", "--force", "v"]);
    assert!(daemon::mounted_below(&home.mounts()).is_empty());
    assert_eq!(daemon.json(&["inspect", "v"])["Mounts"], json!([]));
}

#[test]
fn a_volume_is_found_by_name_uuid_or_the_beginning_of_one() {
    let home = Home::new();
    let daemon = home.start();
    daemon.say(&["create", "v"]);
    let id = daemon.json(&["inspect", "v"])["UUID"]
        .as_str()
        .expect("an id")
        .to_owned();
    assert_eq!(daemon.json(&["inspect", &id])["Name"], "v");
    assert_eq!(daemon.json(&["inspect", &id[..8]])["Name"], "v");
    let (code, said) = daemon.fails(&["inspect", "nothing"]);
    assert!(
        code == 3 && said.contains("nothing") && said.contains("windlass list"),
        "{said}"
    );
    assert_eq!(daemon.fails(&["create", "v"]).0, 4);
    assert_eq!(daemon.fails(&["create", "a/b"]).0, 6);
    assert_eq!(daemon.fails(&["create", "w", "--iops", "100"]).0, 6);
    daemon.say(&["delete", &id[..8]]);
    assert_eq!(daemon.json(&["list"]), json!({}));
}

#[test]
fn let_go_with_reference_and_taken_up_again() {
    let home = Home::new();
    let daemon = home.start();
    daemon.say(&["create", "v"]);
    let id = daemon.json(&["inspect", "v"])["UUID"].clone();
    std::fs::write(home.volumes().join("v/f"), "x").expect("writes");
    daemon.say(&["delete", "v", "--reference"]);
    assert_eq!(daemon.json(&["list"]), json!({}));
    assert!(home.volumes().join("v/f").exists());
    let output = daemon.run(&["create", "v"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "v\n");
    let note = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        note.contains("let go") && note.contains("taken up again"),
        "{note}"
    );
    assert_eq!(daemon.json(&["inspect", "v"])["UUID"], id);
}

/// Silently using what an old directory holds is a known complaint about the predecessor.
#[test]
fn a_foreign_directory_is_adopted_only_when_asked() {
    let home = Home::new();
    let daemon = home.start();
    std::fs::create_dir(home.volumes().join("old")).expect("a directory");
    std::fs::write(home.volumes().join("old/f"), "x").expect("writes");
    let (code, said) = daemon.fails(&["create", "old"]);
    assert!(
        code == 4 && said.contains(daemon::text(&home.volumes().join("old"))) && said.contains("adopt"),
        "{said}"
    );
    assert!(home.volumes().join("old/f").exists(), "nothing is changed");
    let output = daemon.run(&["create", "old", "--adopt"]);
    assert!(output.status.success() && String::from_utf8_lossy(&output.stderr).contains("with its contents"));
    assert_eq!(
        std::fs::read_to_string(home.volumes().join("old/f")).expect("reads"),
        "x"
    );
    std::os::unix::fs::symlink("/etc", home.volumes().join("link")).expect("a link");
    assert_ne!(daemon.fails(&["create", "link", "--adopt"]).0, 0);
}

#[test]
fn the_trash_gives_back_under_the_old_name_or_a_new_one() {
    let home = Home::new();
    let daemon = home.start();
    for content in ["first", "second"] {
        daemon.say(&["create", "v"]);
        std::fs::write(home.volumes().join("v/f"), content).expect("writes");
        daemon.say(&["delete", "v"]);
    }
    assert_eq!(daemon.json(&["trash", "list"]).as_array().map(Vec::len), Some(2));
    daemon.say(&["create", "v"]);
    let (code, said) = daemon.fails(&["undelete", "v"]);
    assert!(code == 4 && said.contains("--as"), "{said}");
    daemon.say(&["undelete", "v", "--as", "back"]);
    let content = std::fs::read_to_string(home.volumes().join("back/f")).expect("reads");
    assert!(content == "first" || content == "second");
    assert_eq!(daemon.json(&["trash", "list"]).as_array().map(Vec::len), Some(1));
    daemon.say(&["trash", "purge", "v"]);
    assert_eq!(daemon.json(&["trash", "list"]), json!([]));
    assert_eq!(daemon.fails(&["undelete", "v", "--as", "again"]).0, 3);
}

#[test]
fn what_the_trash_kept_long_enough_is_destroyed() {
    let home = Home::new();
    let daemon = home.start();
    daemon.say(&["create", "v", "--trash-ttl", "0s"]);
    daemon.say(&["delete", "v"]);
    daemon.stop();
    let daemon = home.start();
    for _ in 0..200 {
        if daemon.json(&["trash", "list"]) == json!([]) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("still there: {}", daemon.say(&["trash", "list"]));
}

#[test]
fn owner_mode_and_disk_image_are_as_asked() {
    use std::os::unix::fs::MetadataExt;
    let home = Home::new();
    let daemon = home.start();
    daemon.say(&["create", "v", "--uid", "70", "--gid", "71", "--mode", "2750"]);
    let found = std::fs::metadata(home.volumes().join("v")).expect("there");
    assert_eq!(
        (found.uid(), found.gid(), found.mode() & 0o7777),
        (70, 71, 0o2750)
    );
    daemon.say(&["create", "vm", "--vm", "--size", "10G"]);
    let image = std::fs::metadata(home.volumes().join("vm/disk.img")).expect("there");
    assert_eq!((image.len(), image.blocks()), (10 << 30, 0), "exact and sparse");
    assert_eq!(daemon.fails(&["create", "vm2", "--vm"]).0, 6);
}

#[test]
fn snapshots_by_command() {
    for kind in ["btrfs", "xfs"] {
        let home = Home::on(kind);
        let daemon = home.start();
        daemon.say(&["create", "v"]);
        std::fs::write(home.volumes().join("v/f"), "before").expect("writes");
        assert_eq!(daemon.say(&["snapshot", "create", "v", "--name", "s"]), "s");
        let named = daemon.say(&["snapshot", "create", "v"]);
        assert!(named.starts_with("snapshot-"), "{named}");
        assert_eq!(daemon.fails(&["snapshot", "create", "v", "--name", "s"]).0, 4);
        std::fs::write(home.volumes().join("v/f"), "after").expect("writes");
        let shown = daemon.json(&["snapshot", "inspect", "s"]);
        for key in [
            "Name",
            "VolumeName",
            "VolumeCreatedAt",
            "CreatedTime",
            "DriverInfo",
        ] {
            assert!(shown.get(key).is_some(), "{key}: {shown}");
        }
        assert_eq!(
            shown["DriverInfo"]["Consistency"], "point-in-time",
            "{kind}: nobody wrote meanwhile"
        );
        assert_eq!(
            daemon.json(&["inspect", "v"])["Snapshots"]
                .as_object()
                .map(|o| o.len()),
            Some(2)
        );
        assert_eq!(daemon.say(&["create", "c", "--from", "v@s"]), "c");
        assert_eq!(
            std::fs::read_to_string(home.volumes().join("c/f")).expect("reads"),
            "before",
            "{kind}"
        );
        daemon.say(&["mount", "v"]);
        assert_eq!(
            daemon.fails(&["snapshot", "revert", "v@s"]).0,
            5,
            "not while it is mounted"
        );
        daemon.say(&["umount", "v"]);
        daemon.say(&["snapshot", "revert", "v@s"]);
        assert_eq!(
            std::fs::read_to_string(home.volumes().join("v/f")).expect("reads"),
            "before",
            "{kind}"
        );
        daemon.say(&["snapshot", "delete", "v@s"]);
        assert_eq!(daemon.fails(&["snapshot", "inspect", "v@s"]).0, 3);
        // Snapshots go to the trash with their volume and come back with it.
        daemon.say(&["delete", "v"]);
        daemon.say(&["undelete", "v"]);
        daemon.say(&["snapshot", "revert", &format!("v@{named}")]);
        assert_eq!(
            std::fs::read_to_string(home.volumes().join("v/f")).expect("reads"),
            "before",
            "{kind}"
        );
    }
}

#[test]
fn where_a_filesystem_cannot_snapshot_a_repository_holds_them_and_info_says_why() {
    let home = Home::on("ext4");
    let daemon = home.start();
    let info = daemon.json(&["info"]);
    let support = info["vfs"]["Snapshots"].as_str().expect("text");
    assert!(
        support.contains("repository") && support.contains("btrfs") && support.contains("XFS"),
        "{support}"
    );
    daemon.say(&["create", "v"]);
    std::fs::write(home.volumes().join("v/f"), "before").expect("writes");
    assert_eq!(daemon.say(&["snapshot", "create", "v", "--name", "s"]), "s");
    std::fs::write(home.volumes().join("v/f"), "after").expect("writes");
    daemon.say(&["snapshot", "revert", "v@s"]);
    assert_eq!(
        std::fs::read_to_string(home.volumes().join("v/f")).expect("reads"),
        "before"
    );
    daemon.say(&["snapshot", "delete", "v@s"]);
    assert_eq!(daemon.json(&["inspect", "v"])["Snapshots"], json!({}));
}

#[test]
fn events_are_json_lines_in_order() {
    let home = Home::new();
    let daemon = home.start();
    daemon.say(&["create", "v"]);
    daemon.say(&["delete", "v"]);
    let lines = daemon.say(&["events", "--no-follow"]);
    let events: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let actions: Vec<&str> = events.iter().filter_map(|e| e["Action"].as_str()).collect();
    assert_eq!(actions, ["daemon.start", "volume.create", "volume.remove"]);
    let numbers: Vec<u64> = events.iter().filter_map(|e| e["Sequence"].as_u64()).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(
        daemon
            .say(&["events", "--no-follow", "--since", "2"])
            .lines()
            .count(),
        1
    );
}

#[test]
fn without_a_daemon_the_command_line_says_so() {
    let home = Home::new();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_windlass"))
        .arg("--socket")
        .arg(home.admin_socket())
        .arg("list")
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(9), "{said}");
    assert!(
        said.contains(daemon::text(&home.admin_socket())) && said.lines().count() == 1,
        "{said}"
    );
}
