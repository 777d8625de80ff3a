//! The plugin's ordinary life in the engine: created, set, used by containers, listed, removed.

use std::path::Path;

use serde_json::{Value, json};

use crate::docker::{text, wait_until};
use crate::plugin::{Plugin, assert_counted, refs};
use crate::skip_unless;

#[test]
fn it_is_what_the_readme_says_and_containers_share_a_volume() {
    let plugin = skip_unless!(Plugin::enabled());
    let docker = plugin.docker();
    let config = docker.json(&[
        "plugin",
        "inspect",
        "--format",
        "{{json .Config}}",
        &plugin.name(),
    ]);
    assert_eq!(config["Linux"]["Capabilities"], json!(["CAP_SYS_ADMIN"]));
    assert_eq!(config["Linux"]["AllowAllDevices"], true);
    assert_eq!(
        (&config["PidHost"], &config["IpcHost"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(config["Network"]["Type"], "host");
    assert_eq!(config["PropagatedMount"], "/mnt/volumes");
    let mounts = config["Mounts"].as_array().expect("a list");
    let named: Vec<&Value> = mounts.iter().map(|mount| &mount["Name"]).collect();
    assert_eq!(named, ["state", "docker-api"]);
    assert_eq!(
        mounts[1]["Source"], "/dev/null",
        "nothing of the engine until it is given"
    );
    assert_eq!(config["Interface"]["Types"], json!(["docker.volumedriver/1.0"]));

    let volume = plugin.volume("shared", &["uid=1000", "mode=0750"]);
    plugin.run(&volume, "echo kept >/data/words && sync");
    assert_eq!(
        plugin.run(&volume, "cat /data/words; stat -c '%u %a' /data"),
        "kept\n1000 750"
    );

    let shown = &docker.json(&["volume", "inspect", &volume])[0];
    assert_eq!(shown["Driver"], plugin.name());
    assert_eq!(shown["Status"]["State"], "ready");
    assert_eq!(shown["Status"]["Driver"], "vfs");
    assert_eq!(shown["Status"]["Policy"]["on-remove"], "trash");
    assert_eq!(shown["Scope"], "local");
    assert_eq!(shown["Options"]["uid"], "1000");
    let created = shown["CreatedAt"].as_str().expect("a time");
    assert!(
        created.len() == 20 && created.ends_with('Z'),
        "RFC 3339: {created}"
    );

    // The command line on the host, through both sockets.
    assert_eq!(plugin.json(&["info"])["General"]["Volumes"], 1);
    let engine_s = format!("/run/docker/plugins/{}/windlass-admin.sock", plugin.id());
    let output = plugin.windlass_through(Path::new(&engine_s), &["inspect", &volume]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    plugin.assert_unmounted(&volume);
    docker.ok(&["volume", "rm", &volume]);
}

/// An empty volume gets what the image has at that place; one with contents stays as it is.
#[test]
fn the_image_s_content_is_copied_into_an_empty_volume() {
    let plugin = skip_unless!(Plugin::enabled());
    let list = "cd /etc/apt && find . -mindepth 1 -printf '%M %u %g %P\\n' | sort";
    let nowhere = plugin.volume("nowhere", &[]);
    let image = plugin.run(&nowhere, list);
    assert!(image.lines().count() > 3, "the image has files there: {image}");
    let volume = plugin.volume("copy", &[]);
    let at = format!("{volume}:/etc/apt");
    assert_eq!(plugin.run(&at, list), image);
    plugin.run(&at, "rm -r /etc/apt/* && echo mine >/etc/apt/own");
    assert_eq!(plugin.run(&at, "ls -A /etc/apt"), "own");
    plugin.assert_unmounted(&volume);
}

#[test]
fn settings_are_in_force_after_enabling_and_volumes_survive_it() {
    let plugin = skip_unless!(Plugin::enabled());
    let name = plugin.name();
    let volume = plugin.volume("v", &[]);
    let id = format!("WINDLASS_STATE_ID={}", plugin.state_id());
    plugin.run(&volume, "echo kept >/data/words");
    let said = plugin
        .docker()
        .fails(&["plugin", "set", &name, "WINDLASS_ON_REMOVE=delete"]);
    assert!(said.contains("disable plugin before setting"), "{said}");
    let said = plugin.docker().fails(&["plugin", "disable", &name]);
    assert!(said.contains("in use"), "{said}");
    let said = plugin.docker().fails(&["plugin", "rm", &name]);
    assert!(said.contains("in use") || said.contains("enabled"), "{said}");

    plugin.disable();
    let said = plugin.docker().fails(&["plugin", "rm", &name]);
    assert!(said.contains("in use"), "{said}");
    plugin.set(&["WINDLASS_ON_REMOVE=delete", "WINDLASS_TRASH_TTL=", &id]);
    plugin.enable();
    let shown = &plugin.docker().json(&["volume", "inspect", &volume])[0];
    assert_eq!(shown["Status"]["Policy"]["on-remove"], "delete");
    assert_eq!(shown["Status"]["Policy"]["trash-ttl"], "7d");
    assert_eq!(plugin.run(&volume, "cat /data/words"), "kept");
    plugin.docker().ok(&["volume", "rm", &volume]);
    assert_eq!(plugin.json(&["list"]), json!({}));
    wait_until("nothing is left of the deleted volume", || {
        plugin.json(&["trash", "list"]) == json!([])
    });
}

/// After `docker plugin upgrade` the state directory is silently the default one.
#[test]
fn a_wrong_state_directory_is_refused_and_left_alone() {
    let plugin = skip_unless!(Plugin::enabled());
    let volume = plugin.volume("v", &[]);
    plugin.run(&volume, "echo kept >/data/words");
    let id = format!("WINDLASS_STATE_ID={}", plugin.state_id());
    let other = tempfile::tempdir().expect("a directory");
    plugin.disable();
    plugin.set(&[&id, &format!("state.source={}", other.path().display())]);
    plugin.fail_to_enable();
    let made = std::fs::read_dir(other.path()).expect("it is there").count();
    assert_eq!(made, 0, "nothing is made there");
    plugin.set(&[&format!("state.source={}", plugin.state().display())]);
    plugin.enable_at_last();
    assert_eq!(plugin.run(&volume, "cat /data/words"), "kept");
}

#[test]
fn files_are_copied_in_and_out_of_containers() {
    let plugin = skip_unless!(Plugin::enabled());
    let docker = plugin.docker();
    let volume = plugin.volume("v", &[]);
    let scratch = tempfile::tempdir().expect("a directory");
    let (to, from) = (scratch.path().join("to"), scratch.path().join("from"));
    std::fs::write(&to, "copied").expect("a file");
    let (to, from) = (to.to_str().expect("text"), from.to_str().expect("text"));
    let running = plugin.start("running", &volume, "sleep 600");
    for _ in 0..2 {
        docker.ok(&["cp", to, &format!("{running}:/data/in")]);
        docker.ok(&["cp", &format!("{running}:/data/in"), from]);
        assert_eq!(std::fs::read_to_string(from).expect("it is there"), "copied");
    }
    assert_eq!(docker.ok(&["exec", &running, "cat", "/data/in"]), "copied");
    docker.ok(&["stop", "-t", "0", &running]);
    plugin.assert_unmounted(&volume);

    docker.ok(&["cp", to, &format!("{running}:/data/stopped")]);
    docker.ok(&["cp", &format!("{running}:/data/stopped"), from]);
    let never = plugin.called("never");
    docker.ok(&refs(&plugin.container(
        &["create", "--name", &never],
        &volume,
        "true",
    )));
    docker.ok(&["cp", to, &format!("{never}:/data/never")]);
    plugin.remove_container(&running);
    plugin.remove_container(&never);
    plugin.assert_unmounted(&volume);
    assert_eq!(
        plugin.run(&volume, "cat /data/in /data/stopped /data/never"),
        "copiedcopiedcopied"
    );
    docker.ok(&["volume", "rm", &volume]);
}

#[test]
fn many_containers_at_once_share_one_mount() {
    let plugin = skip_unless!(Plugin::enabled());
    let docker = plugin.docker();
    let volume = plugin.volume("v", &[]);
    let first = plugin.start_counting("first", &volume);
    assert_eq!(plugin.mounts_of(&volume), 1);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (plugin, volume) = (&plugin, &volume);
            scope.spawn(move || {
                let script =
                    format!("echo {number} >/data/own-{number} && sleep 1 && cat /data/own-{number}");
                assert_eq!(plugin.run(volume, &script), number.to_string());
            });
        }
    });
    plugin.wait_for_progress(&first);
    assert_eq!(plugin.mounts_of(&volume), 1);
    assert_eq!(
        plugin.json(&["inspect", &volume])["Mounts"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    docker.ok(&["stop", &first]);
    plugin.assert_unmounted(&volume);
    assert_counted(&plugin.run(&volume, "cat /data/count"));
    assert_eq!(plugin.run(&volume, "cat /data/own-* | tr -d '\\n'"), "01234567");

    // One container with the volume at two places is two mounts to the engine.
    let twice = plugin.called("twice");
    let args = plugin.container(
        &["run", "--rm", "--name", &twice],
        &volume,
        "cmp /data/count /again/count",
    );
    let again = format!("{volume}:/again");
    docker.ok(&[&refs(&args)[..1], &["-v", &again], &refs(&args)[1..]].concat());
    plugin.assert_unmounted(&volume);
    plugin.remove_container(&first);
    docker.ok(&["volume", "rm", &volume]);
}

#[test]
fn a_removed_volume_comes_back() {
    let plugin = skip_unless!(Plugin::enabled());
    let docker = plugin.docker();
    let volume = plugin.volume("v", &[]);
    let container = plugin.start_counting("c", &volume);
    let said = docker.fails(&["volume", "rm", &volume]);
    assert!(said.contains("volume is in use"), "{said}");
    docker.ok(&["stop", &container]);
    let said = docker.fails(&["volume", "rm", &volume]);
    assert!(
        said.contains("volume is in use"),
        "a stopped container counts to docker: {said}"
    );
    plugin.remove_container(&container);
    let written = assert_counted(&plugin.run(&volume, "cat /data/count"));
    docker.ok(&["volume", "rm", &volume]);
    docker.fails(&["volume", "inspect", &volume]);
    assert_eq!(plugin.json(&["trash", "list"])[0]["Name"], volume.as_str());
    assert_eq!(plugin.say(&["undelete", &volume]), volume);
    assert_eq!(assert_counted(&plugin.run(&volume, "cat /data/count")), written);
    assert_eq!(
        docker.json(&["volume", "inspect", &volume])[0]["Driver"],
        plugin.name()
    );
    docker.ok(&["volume", "rm", &volume]);
}

#[test]
fn docker_shows_our_one_line() {
    let plugin = skip_unless!(Plugin::enabled());
    let (docker, driver) = (plugin.docker(), plugin.name());
    let volume = plugin.volume("guarded", &["protect=true"]);
    let said = docker.fails(&["volume", "rm", &volume]);
    assert!(
        said.contains("is protected against removal") && said.contains("windlass unprotect"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(
        docker.json(&["volume", "inspect", &volume])[0]["Status"]["Policy"]["protect"],
        "true"
    );
    plugin.say(&["unprotect", &volume]);
    docker.ok(&["volume", "rm", &volume]);

    let name = plugin.called("v");
    let said = docker.fails(&["volume", "create", "-d", &driver, "-o", "siz=1G", &name]);
    let line =
        format!("Error response from daemon: create {name}: unknown option \"siz\", did you mean \"size\"?");
    assert!(said.starts_with(&line) && said.lines().count() == 1, "{said}");
    let long = "x".repeat(300);
    for name in ["../x", ".windlass", "a b", "naïve", "-rf", "a/b", "..", &long] {
        let said = docker.fails(&["volume", "create", "-d", &driver, "--", name]);
        assert!(
            said.contains("name") && said.lines().count() == 1,
            "{name:?}: {said}"
        );
    }
    // Without a name it is docker that finds one.
    let random = docker.ok(&["volume", "create", "-d", &driver]);
    assert_eq!(random.len(), 64, "{random}");
    docker.ok(&["volume", "rm", &random]);
    // The same name with other options is no other volume.
    plugin.volume("again", &["uid=70"]);
    plugin.volume("again", &["uid=70"]);
    assert_eq!(
        plugin.json(&["list"]).as_object().map(serde_json::Map::len),
        Some(1)
    );
}

#[test]
fn twenty_volumes_at_once() {
    let plugin = skip_unless!(Plugin::enabled());
    let docker = plugin.docker();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let plugin = &plugin;
            scope.spawn(move || {
                for number in 0..5 {
                    let name = plugin.volume(&format!("{worker}-{number}"), &[]);
                    if number == worker {
                        plugin.run(&name, "echo mine >/data/own");
                    }
                    if number % 2 == 1 {
                        plugin.docker().ok(&["volume", "rm", &name]);
                    }
                }
            });
        }
    });
    let filter = format!("driver={}", plugin.name());
    let mut listed = docker.lines(&["volume", "ls", "-q", "--filter", &filter]);
    listed.sort();
    let mut left: Vec<String> = (0..4)
        .flat_map(|worker| [0, 2, 4].map(|number| plugin.called(&format!("{worker}-{number}"))))
        .collect();
    left.sort();
    assert_eq!(listed, left);
    assert_eq!(
        plugin.json(&["list"]).as_object().map(serde_json::Map::len),
        Some(12)
    );
    assert_eq!(plugin.json(&["trash", "list"]).as_array().map(Vec::len), Some(8));
    let all = docker.run(&[&["volume", "rm"][..], &refs(&listed)].concat());
    assert!(all.status.success(), "{}", text(&all.stderr));
    assert_eq!(plugin.json(&["list"]), json!({}));
}
