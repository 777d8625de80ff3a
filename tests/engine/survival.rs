//! What is done to the plugin while containers use its volumes: killed, disabled by force, removed, made anew.

use nix::sys::signal::{Signal, kill};

use crate::docker::wait_until;
use crate::plugin::{Plugin, assert_counted};
use crate::skip_unless;

#[test]
fn containers_go_on_when_the_plugin_is_killed() {
    let plugin = skip_unless!(Plugin::enabled());
    let docker = plugin.docker();
    let (volume, idle) = (plugin.volume("v", &[]), plugin.volume("idle", &[]));
    let container = plugin.start_counting("c", &volume);
    for round in 0..2 {
        let killed = plugin.pid().expect("it runs");
        kill(killed, Signal::SIGKILL).expect("it can be killed");
        plugin.wait_for_progress(&container);
        wait_until("the engine has started it again", || {
            plugin.pid().is_some_and(|pid| pid != killed) && plugin.windlass(&["info"]).status.success()
        });
        plugin.wait_for_progress(&container);
        assert_eq!(plugin.mounts_of(&volume), 1, "reused, not mounted once more");
        let shown = plugin.json(&["inspect", &volume]);
        assert_eq!(shown["Mounts"].as_array().map(Vec::len), Some(1), "{shown}");
        // Others come and go meanwhile, and do not take the mount with them.
        assert_counted(&plugin.run(&volume, "cat /data/count"));
        plugin.run(&idle, &format!("echo {round} >>/data/rounds"));
        assert_eq!(plugin.mounts_of(&volume), 1);
    }
    docker.ok(&["stop", &container]);
    wait_until("the unmount has arrived", || plugin.mounts_of(&volume) == 0);
    plugin.assert_unmounted(&volume);
    plugin.assert_unmounted(&idle);
    assert_eq!(
        docker.ok(&["inspect", "--format", "{{.State.ExitCode}}", &container]),
        "0"
    );
    plugin.remove_container(&container);
    assert!(assert_counted(&plugin.run(&volume, "cat /data/count")) > 5);
    assert_eq!(plugin.run(&idle, "cat /data/rounds"), "0\n1");
    docker.ok(&["volume", "rm", &volume, &idle]);
}

/// The engine unmounts everything of the plugin on the host, and running containers keep their own copies.
#[test]
fn containers_go_on_when_the_plugin_is_disabled_by_force() {
    let plugin = skip_unless!(Plugin::enabled());
    let docker = plugin.docker();
    let volume = plugin.volume("v", &[]);
    let container = plugin.start_counting("c", &volume);
    plugin.disable();
    plugin.wait_for_progress(&container);
    docker.fails(&[
        "volume",
        "create",
        "-d",
        &plugin.name(),
        &plugin.called("impossible"),
    ]);
    plugin.enable();
    plugin.wait_for_progress(&container);
    docker.ok(&["exec", &container, "sh", "-c", "echo from-the-old >/data/word"]);
    assert_eq!(
        plugin.run(&volume, "cat /data/word && echo from-the-new >/data/word"),
        "from-the-old"
    );
    assert_eq!(
        docker.ok(&["exec", &container, "cat", "/data/word"]),
        "from-the-new"
    );
    docker.ok(&["restart", &container]);
    plugin.wait_for_progress(&container);
    docker.ok(&["stop", &container]);
    plugin.remove_container(&container);
    plugin.assert_unmounted(&volume);
    assert!(assert_counted(&plugin.run(&volume, "cat /data/count")) > 5);
    docker.ok(&["volume", "rm", &volume]);
}

/// The container ends while the plugin is disabled, so that its Unmount never arrives.
#[test]
fn a_leaked_mount_id_keeps_no_volume_from_being_removed() {
    let plugin = skip_unless!(Plugin::enabled());
    let docker = plugin.docker();
    let volume = plugin.volume("v", &[]);
    let container = plugin.start_counting("c", &volume);
    plugin.disable();
    docker.run(&["rm", "-f", &container]);
    plugin.enable();
    wait_until("the container is gone", || {
        docker.run(&["rm", "-f", &container]).status.success()
    });
    assert!(assert_counted(&plugin.run(&volume, "cat /data/count")) > 2);
    docker.ok(&["volume", "rm", &volume]);
    assert_eq!(plugin.mounts_of(&volume), 0);
    assert_eq!(plugin.say(&["undelete", &volume]), volume);
    assert!(assert_counted(&plugin.run(&volume, "cat /data/count")) > 2);
}

/// As an upgrade does it, and as somebody does it who thinks that removing the plugin removes the volumes.
#[test]
fn volumes_survive_the_removal_of_the_plugin() {
    let plugin = skip_unless!(Plugin::enabled());
    let docker = plugin.docker();
    let (volume, trashed) = (
        plugin.volume("v", &["protect=true"]),
        plugin.volume("trashed", &[]),
    );
    plugin.run(&volume, "echo kept >/data/words");
    plugin.run(&trashed, "echo removed >/data/words");
    docker.ok(&["volume", "rm", &trashed]);
    let before = plugin.json(&["inspect", &volume]);
    let state = plugin.state_id();
    docker.ok(&["plugin", "rm", "-f", &plugin.name()]);
    plugin.create();
    plugin.enable();
    assert_eq!(plugin.state_id(), state);
    let after = plugin.json(&["inspect", &volume]);
    for key in ["UUID", "CreatedAt", "Policy", "Options"] {
        assert_eq!(after[key], before[key], "{key}");
    }
    let listed = docker.lines(&[
        "volume",
        "ls",
        "-q",
        "--filter",
        &format!("driver={}", plugin.name()),
    ]);
    assert_eq!(listed, std::slice::from_ref(&volume));
    assert_eq!(plugin.run(&volume, "cat /data/words"), "kept");
    plugin.say(&["undelete", &trashed]);
    assert_eq!(plugin.run(&trashed, "cat /data/words"), "removed");
    plugin.say(&["unprotect", &volume]);
    docker.ok(&["volume", "rm", &volume, &trashed]);
}
