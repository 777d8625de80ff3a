//! The daemon as a plain service beside the engine, which finds it through a file in /etc/docker/plugins.
//!
//! There it sees the host's processes, and the kernel tells who uses a volume.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use crate::docker::{Docker, text, wait_until};
use crate::plugin::unique;
use crate::skip_unless;

/// A daemon, known to the engine by its name.
struct Service {
    docker: Docker,
    name: String,
    dir: TempDir,
    spec: PathBuf,
    daemon: Child,
}

impl Service {
    fn start() -> Result<Self, String> {
        let docker = Docker::here()?;
        let dir = tempfile::tempdir().expect("a directory");
        let specs = Path::new("/etc/docker/plugins");
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(specs).map_err(|error| format!("{}: {error}", specs.display()))?;
        let name = unique();
        let spec = specs.join(format!("{name}.spec"));
        let log = std::fs::File::create(at("log")).expect("a file");
        let daemon = Command::new(env!("CARGO_BIN_EXE_windlass"))
            .arg("daemon")
            .arg("--root")
            .arg(at("root"))
            .arg("--docker-socket")
            .arg(at("docker.sock"))
            .arg("--admin-socket")
            .arg(at("admin.sock"))
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("the log again"))
            .stdout(log)
            .spawn()
            .expect("the daemon starts");
        std::fs::write(&spec, format!("unix://{}\n", at("docker.sock").display())).expect("a spec file");
        let service = Self {
            docker,
            name,
            dir,
            spec,
            daemon,
        };
        wait_until("the daemon answers", || {
            service.windlass(&["info"]).status.success()
        });
        Ok(service)
    }

    fn windlass(&self, args: &[&str]) -> Output {
        let socket = self.dir.path().join("admin.sock");
        let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
        command
            .arg("--socket")
            .arg(socket)
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("it runs")
    }

    fn label(&self) -> String {
        format!("label={}", self.name)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        for container in self.docker.lines(&["ps", "-aq", "--filter", &self.label()]) {
            self.docker.run(&["rm", "-f", &container]);
        }
        let filter = format!("driver={}", self.name);
        for volume in self.docker.lines(&["volume", "ls", "-q", "--filter", &filter]) {
            self.docker.run(&["volume", "rm", "-f", &volume]);
        }
        let _ = std::fs::remove_file(&self.spec);
        let _ = Command::new("kill").arg(self.daemon.id().to_string()).status();
        let _ = self.daemon.wait();
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
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
    let service = skip_unless!(Service::start());
    let (docker, name) = (&service.docker, service.name.as_str());
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
        &["sh", "-c", "echo kept >/data/words && exec sleep 600"],
    ]
    .concat());
    wait_until("it has written", || {
        docker.run(&["exec", &container, "cat", "/data/words"]).stdout == b"kept\n"
    });
    let pid = docker.ok(&["inspect", "--format", "{{.State.Pid}}", &container]);

    let said = docker.fails(&["volume", "rm", &volume]);
    assert!(said.contains("in use"), "{said}");
    let refused = service.windlass(&["delete", &volume]);
    let said = text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("in use"), "{said}");
    assert!(
        said.contains("sleep") && said.contains(&pid) && said.contains("/data"),
        "names the process: {said}"
    );

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
        !mounts.contains(service.dir.path().to_str().expect("text")),
        "nothing stays mounted"
    );
}
