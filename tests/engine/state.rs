//! What of the host's mounts below the state directory the plugin sees.

use std::path::PathBuf;

use crate::own_engine::OwnEngine;
use crate::plugin::Plugin;
use crate::skip_unless;

/// Whether the daemon sees the path below its state directory.
fn sees(plugin: &Plugin, path: &str) -> bool {
    let pid = plugin.pid().expect("it runs");
    PathBuf::from(format!("/proc/{pid}/root/state"))
        .join(path)
        .exists()
}

/// Has the engine's host mount a filesystem there, with a file in it.
fn mount_below(engine: &mut OwnEngine, state: &str, name: &str) {
    let order =
        format!("mkdir {state}/{name} && mount -t tmpfs none {state}/{name} && touch {state}/{name}/here");
    assert_eq!(engine.order(&order), "0");
}

#[test]
fn what_is_mounted_later_is_seen_if_the_state_directory_is_a_shared_mount() {
    let mut engine = skip_unless!(OwnEngine::start());
    let plugin = skip_unless!(Plugin::enabled_in(engine.docker().clone()));
    let state = plugin.state().display().to_string();
    mount_below(&mut engine, &state, "late");
    assert!(!sees(&plugin, "late/here"), "the directory is no mount");
    plugin.disable();
    plugin.enable();
    assert!(sees(&plugin, "late/here"), "it was there before");

    plugin.disable();
    let itself = format!("mount --rbind {state} {state} && mount --make-shared {state}");
    assert_eq!(engine.order(&itself), "0");
    plugin.enable();
    mount_below(&mut engine, &state, "later");
    assert!(sees(&plugin, "late/here") && sees(&plugin, "later/here"));
}
