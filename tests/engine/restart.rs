//! The engine itself stops, is killed, and comes back.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::docker::{text, wait_until};
use crate::own_engine::OwnEngine;
use crate::plugin::{COUNT, Plugin, assert_counted, refs};
use crate::skip_unless;

#[test]
fn containers_come_back_with_their_data_when_the_engine_does() {
    let mut engine = skip_unless!(OwnEngine::start());
    let plugin = skip_unless!(Plugin::enabled_in(engine.docker().clone()));
    let docker = engine.docker().clone();
    let volume = plugin.volume("v", &["uid=70"]);
    let other = plugin.volume("other", &[]);
    let always = plugin.called("always");
    docker.ok(&refs(&plugin.container(
        &["run", "-d", "--restart", "always", "--name", &always],
        &volume,
        COUNT,
    )));
    plugin.wait_for_progress(&always);
    // Its container does not come back: what is left of its mount must not stay.
    let once = plugin.start_counting("once", &other);

    let mut written = 0;
    for round in [
        "stopped",
        "killed",
        "killed again",
        "killed, cleaned up late",
        "stopped again",
    ] {
        match round {
            "killed, cleaned up late" => engine.kill_and_start_cleaning_late(&plugin.id()),
            _ if round.starts_with("killed") => engine.kill_and_start(),
            _ => engine.restart(),
        }
        wait_until("the plugin answers", || {
            plugin.windlass(&["info"]).status.success()
        });
        wait_until("the container runs", || {
            text(
                &docker
                    .run(&["inspect", "--format", "{{.State.Running}}", &always])
                    .stdout,
            )
            .trim()
                == "true"
        });
        plugin.wait_for_progress(&always);
        let count = assert_counted(&docker.ok(&["exec", &always, "cat", "/data/count"]));
        assert!(count > written, "{round}: {count} after {written}");
        written = count;
        let shown = &docker.json(&["volume", "inspect", &volume])[0];
        assert_eq!(shown["Driver"], plugin.name(), "{round}");
        assert_eq!(
            shown["Options"]["uid"], "70",
            "{round}: the engine remembers the options"
        );
        assert_counted(&plugin.run(&other, "cat /data/count"));
        let said = docker.fails(&["volume", "rm", &volume]);
        assert!(said.contains("in use"), "{round}: {said}");
    }

    let running = docker.ok(&["inspect", "--format", "{{.State.Running}}", &once]);
    assert_eq!(running, "false");
    docker.ok(&["stop", &always]);
    plugin.remove_container(&always);
    plugin.remove_container(&once);
    // Mount ids that a killed engine never gave back keep nothing from being removed.
    docker.ok(&["volume", "rm", &volume, &other]);
    assert_eq!(plugin.json(&["list"]), serde_json::json!({}));
    plugin.say(&["undelete", &volume]);
    assert!(assert_counted(&plugin.run(&volume, "cat /data/count")) >= written);
}

/// The engine unmounts all below a plugin's directory when it hears that the plugin's process has ended. After it was killed
/// itself, it hears so of the old process while it starts the new one, and now and then unmounts what is the new one's.
#[test]
fn nothing_is_written_beside_a_volume_that_the_engine_has_unmounted() {
    let mut engine = skip_unless!(OwnEngine::start());
    let plugin = skip_unless!(Plugin::enabled_in(engine.docker().clone()));
    let (id, volume) = (plugin.id(), plugin.volume("v", &[]));
    let writer = plugin.start_counting("writer", &volume);
    let pid = plugin.pid().expect("it runs");
    // While it cannot mount again what it has lost.
    let stopped = Stopped::new(pid);
    engine.unmount_plugin(&id);
    let beside = engine.path_of(&id, &volume);
    let written = engine.order(&format!("touch {}/x 2>/dev/null", beside.display()));
    drop(stopped);
    assert_ne!(written, "0", "{} can be written to", beside.display());
    // Who had it has it, and so has the next one.
    plugin.wait_for_progress(&writer);
    assert_counted(&plugin.run(&volume, "cat /data/count; echo after >/data/f"));
    assert_eq!(plugin.run(&volume, "cat /data/f"), "after");
    let data = plugin.state().join("vfs").join(&volume);
    assert_eq!(
        std::fs::read_to_string(data.join("f")).expect("it is in the volume"),
        "after\n"
    );
}

/// A process that goes on when this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn new(pid: Pid) -> Self {
        kill(pid, Signal::SIGSTOP).expect("it stops");
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}
