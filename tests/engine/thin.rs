//! The plugin with thin volumes, in an engine of a kernel that has device-mapper: the guest's, where this machine's has none.
//!
//! The test runs twice: outside, it brings the image of the tests, the plugin's root filesystem and two disks to the guest; inside,
//! it starts an engine on one of them and gives the other to the plugin.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::docker::{Docker, package, text, wait_until};
use crate::plugin::{COUNT, Plugin, assert_counted, refs};
use crate::skip_unless;

const NAME: &str = "thin::a_container_s_thin_volume_is_backed_up_lost_and_restored";
/// The directory that guest and machine share; only in the guest it is set.
const SHARED: &str = "WINDLASS_TEST_THIN_SHARED";

#[test]
fn a_container_s_thin_volume_is_backed_up_lost_and_restored() {
    if let Some(shared) = std::env::var_os(SHARED) {
        return inside(Path::new(&shared));
    }
    let here = skip_unless!(Docker::here());
    let rootfs = std::env::var_os("WINDLASS_TEST_PLUGIN_ROOTFS").map(PathBuf::from);
    let rootfs = skip_unless!(rootfs.filter(|path| path.join("usr/bin/windlass").is_file()).ok_or_else(|| {
        "WINDLASS_TEST_PLUGIN_ROOTFS is not set; 'make test' builds the plugin's root filesystem and sets it".to_owned()
    }));
    let shared = tempfile::tempdir().expect("a directory");
    let at = |name: &str| shared.path().join(name).display().to_string();
    here.ok(&["save", "-o", &at("box.tar"), "windlass-box"]);
    let packed = Command::new("tar")
        .args(["-C", &rootfs.display().to_string(), "-cf", &at("rootfs.tar"), "."])
        .output()
        .expect("tar runs");
    assert!(packed.status.success(), "{}", text(&packed.stderr));
    let program = std::env::current_exe().expect("this program");
    let built = Path::new(env!("CARGO_BIN_EXE_windlass"))
        .parent()
        .expect("a directory");
    let output = Command::new(package("tests/guest/run"))
        .args(["-t", "580", "-m", "2048", "-d", "4G", "-d", "1G", "-s"])
        .arg(shared.path())
        .arg("-s")
        .arg(built)
        .arg("-s")
        .arg(package("plugin"))
        .arg("--")
        .arg(format!("{} --exact {NAME} --nocapture", program.display()))
        .env(SHARED, shared.path())
        .env("WINDLASS_TEST_PLUGIN_ROOTFS", "/mnt/engine/plugin/rootfs")
        .env_remove("LD_LIBRARY_PATH")
        .env_remove("DOCKER_HOST")
        .output()
        .expect("the guest starts");
    let (said, complaint) = (text(&output.stdout), text(&output.stderr));
    if output.status.code() == Some(125) && !said.contains("running 1 test") {
        let none: Result<(), String> = Err(format!("no guest kernel: {}", complaint.trim()));
        skip_unless!(none);
    }
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{complaint}"
    );
    print!("{said}");
}

/// An engine on a disk of its own.
struct Engine {
    process: Child,
    docker: Docker,
}

impl Engine {
    fn start() -> Self {
        shell(
            "mkfs.ext4 -q -E nodiscard /dev/ubda; mkdir -p /mnt/engine /etc/docker; mount /dev/ubda /mnt/engine; \
             mount --make-rshared /; modprobe -q dm_thin_pool || true; echo '{}' >/mnt/engine/config.json",
        );
        let log = std::fs::File::create("/mnt/engine/log").expect("a file");
        let process = Command::new("dockerd")
            .args([
                "--config-file",
                "/mnt/engine/config.json",
                "--host",
                "unix:///run/thin.sock",
            ])
            .args([
                "--data-root",
                "/mnt/engine/data",
                "--exec-root",
                "/run/thin",
                "--pidfile",
                "/run/thin.pid",
            ])
            .args([
                "--storage-driver",
                "overlay2",
                "--bridge",
                "none",
                "--iptables=false",
                "--ip6tables=false",
            ])
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("dockerd runs");
        let docker = Docker::at("unix:///run/thin.sock".to_owned());
        let engine = Self { process, docker };
        wait_until("the guest's engine answers", || {
            engine.docker.run(&["version"]).status.success()
        });
        engine
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string("/mnt/engine/log").unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines.len().saturating_sub(60);
            println!("--- the end of the engine's log\n{}", lines[end..].join("\n"));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn inside(shared: &Path) {
    let engine = Engine::start();
    let docker = engine.docker.clone();
    docker.ok(&["load", "-i", &shared.join("box.tar").display().to_string()]);
    shell(&format!(
        "mkdir -p /mnt/engine/plugin/rootfs; tar -C /mnt/engine/plugin/rootfs -xf {}/rootfs.tar",
        shared.display()
    ));
    let plugin = Plugin::enabled_in(docker.clone()).expect("a plugin");
    plugin.disable();
    plugin.set(&[
        "WINDLASS_DRIVERS=devicemapper,vfs",
        "WINDLASS_DRIVER_OPTS=dm.device=/dev/ubdb,dm.defaultvolumesize=128M",
        "WINDLASS_BACKUP_PASSWORD=correct horse battery",
    ]);
    plugin.enable();
    assert_eq!(plugin.json(&["pool", "status"])["Mode"], "read-write");

    // Written to by a container, snapshotted under it, and read by another one.
    let volume = plugin.volume("v", &[]);
    plugin.run(
        &volume,
        "test -z \"$(ls -A /data)\" && head -c 5000000 /dev/urandom >/data/f && sync",
    );
    let sum = plugin.run(&volume, "sha256sum </data/f");
    let writer = plugin.start("writer", &volume, COUNT);
    progresses(&docker, &writer);
    plugin.say(&["snapshot", "create", &volume, "--name", "s"]);
    std::fs::create_dir(plugin.state().join("backups")).expect("a directory");
    let backup = plugin.say(&[
        "backup",
        "create",
        &format!("{volume}@s"),
        "--dest",
        "vfs:///state/backups",
    ]);
    progresses(&docker, &writer);

    // The daemon is killed while the volume is mounted: whoever writes goes on, and nobody else can have it away.
    let killed = plugin.pid().expect("it runs");
    nix::sys::signal::kill(killed, nix::sys::signal::Signal::SIGKILL).expect("killed");
    wait_until("the plugin is there again", || {
        plugin.pid().is_some_and(|pid| pid != killed) && plugin.windlass(&["info"]).status.success()
    });
    progresses(&docker, &writer);
    let said = docker.fails(&["volume", "rm", &volume]);
    assert!(said.contains("in use"), "{said}");
    assert_eq!(plugin.run(&volume, "sha256sum </data/f"), sum);
    docker.ok(&["stop", &writer]);
    plugin.remove_container(&writer);
    let counted = assert_counted(&plugin.run(&volume, "cat /data/count"));
    assert!(counted > 0);
    plugin.assert_unmounted(&volume);

    // It is lost, and comes back by Docker's own command, as it was when the snapshot was taken.
    docker.ok(&["volume", "rm", &volume]);
    plugin.say(&["trash", "purge", &volume]);
    let wish = format!("backup={backup}");
    let back = plugin.volume("back", &[&wish]);
    wait_until("the restore is done", || {
        plugin.json(&["inspect", &back])["State"] == "ready"
    });
    assert_eq!(plugin.run(&back, "sha256sum </data/f"), sum);
    let then = assert_counted(&plugin.run(&back, "cat /data/count"));
    assert!(then <= counted, "{then} of {counted}");
    // Which a container goes on with.
    let again = plugin.called("again");
    let args = plugin.container(&["run", "-d", "--name", &again], &back, COUNT);
    docker.ok(&refs(&args));
    progresses(&docker, &again);
    plugin.remove_container(&again);
    docker.ok(&["volume", "rm", &back]);
    plugin.say(&["trash", "purge", &back]);
    let pool: Value = plugin.json(&["pool", "status"]);
    assert_eq!(
        (&pool["Volumes"], &pool["ThinDevices"]),
        (&0.into(), &0.into()),
        "{pool}"
    );
    drop(plugin);
    drop(engine);
}

/// Waits until a counting container has written more: seen from outside of it, since this kernel lets no process into a container that
/// runs (`docker exec`).
fn progresses(docker: &Docker, container: &str) {
    let pid = docker.ok(&["inspect", "--format", "{{.State.Pid}}", container]);
    let count = || {
        let written = std::fs::read_to_string(format!("/proc/{pid}/root/data/count"));
        written.map_or(0, |text| text.lines().count())
    };
    let before = count();
    wait_until("the container has written more", || count() > before + 2);
}

fn shell(script: &str) {
    let output = Command::new("bash")
        .args(["-euc", script])
        .output()
        .expect("bash runs");
    assert!(output.status.success(), "{script}: {}", text(&output.stderr));
}
