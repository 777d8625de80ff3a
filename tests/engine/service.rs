//! The daemon as a plain service beside the engine, which finds it through a file in /etc/docker/plugins.
//!
//! There it sees the host's processes, and the kernel tells who uses a volume. The engine is the test's own: an engine
//! that has once spoken to such a plugin never forgets it, and when the plugin is gone, each look-up of an unknown
//! volume waits 15 s for it until the engine is restarted. (20.10, measured.)

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use crate::docker::{text, wait_until};
use crate::own_engine::OwnEngine;
use crate::plugin::unique;
use crate::skip_unless;

/// A daemon outside of the engine's namespaces, known to it by its name.
struct Service {
    name: String,
    dir: PathBuf,
    daemon: Child,
}

impl Service {
    fn start(engine: &mut OwnEngine) -> Self {
        let (name, dir) = (unique(), engine.shared().to_owned());
        let log = std::fs::File::create(dir.join("log")).expect("a file");
        let daemon = Command::new(env!("CARGO_BIN_EXE_windlass"))
            .args(["daemon", "--log-level", "debug", "--root"])
            .arg(dir.join("root"))
            .arg("--docker-socket")
            .arg(dir.join("docker.sock"))
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("the log again"))
            .stdout(log)
            .spawn()
            .expect("the daemon starts");
        let service = Self { name, dir, daemon };
        wait_until("the daemon answers", || {
            service.windlass(&["info"]).status.success()
        });
        let spec = format!(
            "mkdir -p /etc/docker/plugins && echo unix://{}/docker.sock >/etc/docker/plugins/{}.spec",
            service.dir.display(),
            service.name
        );
        assert_eq!(engine.order(&spec), "0");
        service
    }

    fn windlass(&self, args: &[&str]) -> Output {
        let socket = self.dir.join("root/windlass.sock");
        let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
        command
            .arg("--socket")
            .arg(socket)
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("it runs")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.daemon.id().to_string()).status();
        let _ = self.daemon.wait();
        let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        if std::thread::panicking() {
            println!("--- the daemon's log\n{log}");
        } else {
            assert!(
                !log.contains(" ERROR ") && !log.contains("panicked"),
                "the daemon logged errors:\n{log}"
            );
        }
    }
}

#[test]
fn a_plain_service_serves_the_engine_and_sees_who_uses_a_volume() {
    let mut engine = skip_unless!(OwnEngine::start());
    let service = Service::start(&mut engine);
    let (docker, name) = (engine.docker(), service.name.as_str());
    let (volume, container) = (format!("{name}-v"), format!("{name}-c"));
    docker.ok(&["volume", "create", "-d", name, &volume]);
    let at = format!("{volume}:/data");
    let run = [
        "run",
        "-d",
        "--network",
        "none",
        "--label",
        name,
        "--name",
        &container,
        "-v",
        &at,
        "windlass-box",
    ];
    docker.ok(&[
        &run[..],
        &["sh", "-c", "echo kept >/data/words && exec sleep 600.25"],
    ]
    .concat());
    wait_until("it has written", || {
        docker.run(&["exec", &container, "cat", "/data/words"]).stdout == b"kept\n"
    });

    let said = docker.fails(&["volume", "rm", &volume]);
    assert!(said.contains("in use"), "{said}");
    let refused = service.windlass(&["delete", &volume]);
    let said = text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("in use"), "{said}");
    let pid = pid_of("sleep 600.25 ").unwrap_or_else(|| panic!("it runs, and yet: {said}"));
    for part in ["sleep", &pid, "/data"] {
        assert!(said.contains(part), "{part} is not named: {said}");
    }

    docker.ok(&["stop", "-t", "0", &container]);
    docker.ok(&["rm", &container]);
    let again = [
        "run",
        "--rm",
        "--network",
        "none",
        "--label",
        name,
        "-v",
        &at,
        "windlass-box",
    ];
    assert_eq!(docker.ok(&[&again[..], &["cat", "/data/words"]].concat()), "kept");
    docker.ok(&["volume", "rm", &volume]);
    assert!(service.windlass(&["undelete", &volume]).status.success());
    assert_eq!(docker.json(&["volume", "inspect", &volume])[0]["Driver"], name);
    docker.ok(&["volume", "rm", &volume]);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(
        !mounts.contains(service.dir.join("root").to_str().expect("text")),
        "nothing stays mounted"
    );
}

/// A process by its command line, each argument with a space behind it.
fn pid_of(command: &str) -> Option<String> {
    let dirs = std::fs::read_dir("/proc").expect("proc").filter_map(Result::ok);
    let mut pids = dirs.filter_map(|dir| dir.file_name().into_string().ok());
    pids.find(|pid| {
        let found = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        text(&found).replace('\0', " ") == command
    })
}
