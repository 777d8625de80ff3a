//! Mounts that somebody else takes away, and copies of them that somebody else has.

mod daemon;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use daemon::{Daemon, Home, mounted_below, shell, text, until};

const MOUNT: &str = r#"{"Name":"v","ID":"c1"}"#;

fn guarded(home: &Home) -> Daemon<'_> {
    home.start_with(|command| {
        command.arg("--managed-plugin");
    })
}

/// As Docker's engine does below the directory of a plugin whose process has ended: the deepest first, lazily.
fn unmount_all(home: &Home) {
    for at in mounted_below(&home.mounts()).iter().rev() {
        shell(&["umount", "-l", text(at)]);
    }
}

fn mounted_at(daemon: &Daemon) -> String {
    let mounted = daemon.ok("VolumeDriver.Mount", MOUNT);
    mounted["Mountpoint"].as_str().expect("a path").to_owned()
}

#[test]
fn a_mount_that_was_taken_away_comes_back_and_nothing_is_written_beside_it() {
    let home = Home::new();
    let daemon = guarded(&home);
    daemon.say(&["create", "v"]);
    let at = mounted_at(&daemon);
    let file = Path::new(&at).join("f");
    fs::write(&file, "x").expect("writes");

    shell(&["umount", &at]);
    // It is mounted again, or it is not: a write either arrives or is refused.
    let arrived = fs::write(&file, "y").is_ok();
    until("the mount", || file.exists());
    assert_eq!(
        fs::read_to_string(&file).expect("reads"),
        if arrived { "y" } else { "x" }
    );

    unmount_all(&home);
    let refused = fs::create_dir(Path::new(&at).join("beside")).is_err();
    until("the mounts", || file.exists());
    assert_ne!(refused, home.volumes().join("v/beside").exists());
    assert!(
        home.log().contains("unmounted by somebody else"),
        "{}",
        home.log()
    );
    daemon.ok("VolumeDriver.Unmount", MOUNT);
    assert_eq!(mounted_below(&home.mounts()), [home.mounts()], "only the guard");
    assert!(!Path::new(&at).exists());
    daemon.say(&["delete", "v"]);
}

/// The engine, killed, hears late that the old plugin has ended, and unmounts below the new one: a container that was given the
/// volume in between wrote into an empty directory, and all later ones too.
#[test]
fn a_plugin_that_was_stopped_with_volumes_mounted_is_started_twice_and_then_looks_before_it_answers() {
    let home = Home::new();
    let daemon = guarded(&home);
    daemon.say(&["create", "v"]);
    let at = mounted_at(&daemon);
    fs::write(Path::new(&at).join("f"), "x").expect("writes");
    daemon.stop();
    let ended = home.command().arg("--managed-plugin").status().expect("it runs");
    assert!(
        ended.success() && !home.docker_socket().exists(),
        "it has not listened"
    );
    let daemon = guarded(&home);
    std::thread::scope(|scope| {
        let given = scope.spawn(|| mounted_at(&daemon));
        std::thread::sleep(Duration::from_millis(300));
        unmount_all(&home);
        let at = given.join().expect("an answer");
        assert_eq!(
            fs::read_to_string(Path::new(&at).join("f")).expect("the volume"),
            "x"
        );
    });
    assert_eq!(mounted_below(&home.mounts()).len(), 2, "the guard and the volume");
    // What is killed itself has nothing cleaned up, and nobody waits; nor where nothing was mounted.
    daemon.kill();
    let daemon = guarded(&home);
    daemon.ok("VolumeDriver.Unmount", MOUNT);
    daemon.stop();
    let daemon = guarded(&home);
    assert_eq!(daemon.json(&["inspect", "v"])["Mounts"], serde_json::json!([]));
}

/// A mount at a place of a person's choice is that person's to take away.
#[test]
fn a_mount_elsewhere_is_not_made_again() {
    let home = Home::new();
    let daemon = guarded(&home);
    daemon.say(&["create", "v"]);
    let other = home.path().join("elsewhere");
    fs::create_dir(&other).expect("a directory");
    daemon.say(&["mount", "v", "--mountpoint", text(&other)]);
    shell(&["umount", text(&other)]);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(mounted_below(&other), [] as [&Path; 0]);
    daemon.say(&["umount", "v"]);
}

/// Copies of all mounts in a namespace of its own, as a container has them before it has a root of its own.
struct Copies(Child);

impl Copies {
    fn of_all_mounts(for_seconds: &str) -> Self {
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg(format!("echo; exec sleep {for_seconds}"))
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.expect("unshare runs");
        let mut ready = [0];
        std::io::Read::read_exact(child.stdout.as_mut().expect("a pipe"), &mut ready).expect("it is there");
        Self(child)
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn who_uses_a_volume_only_in_passing_does_not_keep_it() {
    let home = Home::new();
    let daemon = home.start();
    let place = home.path().join("elsewhere");
    fs::create_dir(&place).expect("a directory");
    for (seconds, kept) in [("0.1", false), ("100", true)] {
        daemon.say(&["create", "v"]);
        daemon.say(&["mount", "v", "--mountpoint", text(&place)]);
        let copies = Copies::of_all_mounts(seconds);
        daemon.say(&["umount", "v"]);
        if kept {
            let (code, said) = daemon.fails(&["delete", "v"]);
            assert!(code == 5 && said.contains("sleep"), "{said}");
            drop(copies);
        }
        daemon.say(&["delete", "v"]);
    }
}
