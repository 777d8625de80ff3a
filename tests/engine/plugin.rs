//! A plugin of one test: created, set, enabled; gone with everything that was made through it when the test ends.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::docker::{Docker, package, text, wait_until};

/// The plugin, its state directory, and the prefix of everything that its test makes in the engine.
pub struct Plugin {
    docker: Docker,
    /// Without the tag.
    prefix: String,
    state: TempDir,
}

/// The root filesystem that plugins are made of.
fn rootfs() -> Result<PathBuf, String> {
    let unset =
        "WINDLASS_TEST_PLUGIN_ROOTFS is not set; 'make test' builds the plugin's root filesystem and sets it";
    let rootfs = std::env::var_os("WINDLASS_TEST_PLUGIN_ROOTFS").ok_or(unset)?;
    let rootfs = PathBuf::from(rootfs);
    if rootfs.join("usr/bin/windlass").is_file() {
        Ok(rootfs)
    } else {
        Err(format!(
            "{} is no root filesystem of the plugin",
            rootfs.display()
        ))
    }
}

/// A name that no other test has, in this process or another.
pub fn unique() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("windlass-test-{}-{number}", std::process::id())
}

impl Plugin {
    /// Created and enabled in this machine's engine.
    pub fn enabled() -> Result<Self, String> {
        Self::enabled_in(Docker::here()?)
    }

    /// Created and enabled in an engine.
    pub fn enabled_in(docker: Docker) -> Result<Self, String> {
        rootfs()?;
        let plugin = Self {
            docker,
            prefix: unique(),
            state: tempfile::tempdir().expect("a directory"),
        };
        // The engine mixes the plugins' logs into its own. In a file of its own a test can read it.
        std::fs::write(
            plugin.state().join("windlass.toml"),
            "log = \"/state/daemon.log\"\n",
        )
        .expect("a settings file");
        plugin.create();
        plugin.enable();
        Ok(plugin)
    }

    /// `plugin/create`, as `make install` does it, with this test's state directory.
    pub fn create(&self) {
        let mut create = self.docker.command("bash");
        create.arg(package("plugin/create")).arg(self.name());
        let output = create
            .arg(rootfs().expect("seen before"))
            .output()
            .expect("plugin/create runs");
        assert!(output.status.success(), "plugin/create: {}", text(&output.stderr));
        let state = format!("state.source={}", self.state().display());
        self.set(&[&state, "WINDLASS_LOG_LEVEL=debug"]);
    }

    /// `docker plugin set`.
    pub fn set(&self, settings: &[&str]) {
        self.docker
            .ok(&[&["plugin", "set", &self.name()], settings].concat());
    }

    /// `docker plugin enable`.
    pub fn enable(&self) {
        self.docker
            .ok(&["plugin", "enable", "--timeout", "0", &self.name()]);
    }

    /// An enable that must fail; the engine says only that nobody answers.
    pub fn fail_to_enable(&self) {
        let said = self
            .docker
            .fails(&["plugin", "enable", "--timeout", "0", &self.name()]);
        assert!(said.contains("windlass.sock"), "{said}");
    }

    /// An enable after one that failed: the engine has left that one's container behind and goes on to restart it, so that
    /// "id already in use" comes before the success. (20.10, measured.)
    pub fn enable_at_last(&self) {
        let enable = ["plugin", "enable", "--timeout", "0", &self.name()];
        wait_until("the plugin can be enabled again", || {
            self.docker.run(&enable).status.success() || {
                self.docker.run(&["plugin", "disable", "-f", &self.name()]);
                false
            }
        });
    }

    /// `docker plugin disable -f`.
    pub fn disable(&self) {
        self.docker.ok(&["plugin", "disable", "-f", &self.name()]);
    }

    /// The engine that it is in.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Its name in the engine, with the tag.
    pub fn name(&self) -> String {
        format!("{}:latest", self.prefix)
    }

    /// The engine's id of it.
    pub fn id(&self) -> String {
        self.docker
            .ok(&["plugin", "inspect", "--format", "{{.ID}}", &self.name()])
    }

    /// The identity of the state directory, by the daemon's account.
    pub fn state_id(&self) -> String {
        let info = self.json(&["info"]);
        info["General"]["StateID"].as_str().expect("an id").to_owned()
    }

    /// Its state directory.
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// A name for a volume or a container that no other test uses.
    pub fn called(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// Creates a volume; its name in the engine.
    pub fn volume(&self, name: &str, options: &[&str]) -> String {
        let name = self.called(name);
        let driver = self.name();
        let mut args = vec!["volume", "create", "-d", &driver];
        for option in options {
            args.extend(["-o", option]);
        }
        args.push(&name);
        assert_eq!(self.docker.ok(&args), name);
        name
    }

    /// The arguments of `docker run` (or `create`) for a container that goes when the test ends.
    pub fn container<'a>(&'a self, kind: &[&'a str], volume: &'a str, script: &'a str) -> Vec<String> {
        let at = if volume.contains(':') {
            volume.to_owned()
        } else {
            format!("{volume}:/data")
        };
        let mut args: Vec<String> = kind.iter().map(|&word| word.to_owned()).collect();
        args.extend(["--init", "--network", "none", "--label", &self.prefix, "-v", &at].map(str::to_owned));
        args.extend(["windlass-box", "sh", "-c", script].map(str::to_owned));
        args
    }

    /// Runs a script in a container with the volume at `/data` (or `volume:/elsewhere`); what it says.
    pub fn run(&self, volume: &str, script: &str) -> String {
        let args = self.container(&["run", "--rm"], volume, script);
        self.docker.ok(&refs(&args))
    }

    /// Starts a container that goes on; its name.
    pub fn start(&self, name: &str, volume: &str, script: &str) -> String {
        let name = self.called(name);
        let args = self.container(&["run", "-d", "--name", &name], volume, script);
        self.docker.ok(&refs(&args));
        name
    }

    /// Starts a container that writes numbers, one a line, as fast as it can be seen to go on.
    pub fn start_counting(&self, name: &str, volume: &str) -> String {
        let container = self.start(name, volume, COUNT);
        self.wait_for_progress(&container);
        container
    }

    /// Waits until a counting container has written more than now.
    pub fn wait_for_progress(&self, container: &str) {
        let count = || {
            let said = self.docker.run(&["exec", container, "cat", "/data/count"]);
            text(&said.stdout).lines().count()
        };
        let before = count();
        wait_until("the container has written more", || count() > before + 2);
    }

    /// `docker rm -f`.
    pub fn remove_container(&self, name: &str) {
        self.docker.ok(&["rm", "-f", name]);
    }

    /// The command line on the host.
    pub fn windlass(&self, args: &[&str]) -> Output {
        self.windlass_through(&self.state().join("windlass.sock"), args)
    }

    /// The same through a socket that is named.
    pub fn windlass_through(&self, socket: &Path, args: &[&str]) -> Output {
        Command::new("timeout")
            .args(["60", env!("CARGO_BIN_EXE_windlass"), "--socket"])
            .arg(socket)
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("the command line runs")
    }

    /// A command that must succeed; what it says.
    pub fn say(&self, args: &[&str]) -> String {
        let output = self.windlass(args);
        assert!(
            output.status.success(),
            "windlass {args:?}: {}",
            text(&output.stderr)
        );
        text(&output.stdout).trim_end_matches('\n').to_owned()
    }

    /// A command that must say JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        let said = self.say(args);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("windlass {args:?}: {error}: {said}"))
    }

    /// Fails if anybody has the volume mounted, by the daemon's account or by the kernel's.
    pub fn assert_unmounted(&self, volume: &str) {
        let shown = self.json(&["inspect", volume]);
        assert_eq!(shown["Mounts"], Value::Array(vec![]), "{volume} is still held");
        assert_eq!(shown["MountPoint"], "", "{volume} is still mounted");
        let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let propagated = format!("/propagated-mount/mounted/{volume} ");
        assert!(
            !table.contains(&propagated),
            "{volume} is still mounted on the host"
        );
    }

    /// How often the volume is mounted, as the plugin sees it. (The host sees every propagated mount twice, at one place:
    /// the engine binds that directory onto itself.)
    pub fn mounts_of(&self, volume: &str) -> usize {
        let pid = self.pid().expect("the plugin runs");
        let table = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("mountinfo");
        let at = format!("/mnt/volumes/mounted/{volume}");
        let points = table.lines().filter_map(|line| line.split(' ').nth(4));
        points.filter(|point| **point == at).count()
    }

    /// The daemon's process, as the host counts.
    pub fn pid(&self) -> Option<Pid> {
        process_of(&self.id())
    }

    /// The daemon's log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.state().join("daemon.log")).unwrap_or_default()
    }

    fn clean_up(&self) {
        let docker = &self.docker;
        let (name, label) = (self.name(), format!("label={}", self.prefix));
        for container in docker.lines(&["ps", "-aq", "--filter", &label]) {
            docker.run(&["rm", "-f", &container]);
        }
        let volumes = docker.lines(&["volume", "ls", "-q", "--filter", &format!("driver={name}")]);
        let mut stubborn = Vec::new();
        for volume in volumes {
            self.windlass(&["unprotect", &volume]);
            if !docker.run(&["volume", "rm", &volume]).status.success() {
                stubborn.push(volume);
            }
        }
        let id = docker.lines(&["plugin", "inspect", "--format", "{{.ID}}", &name]);
        docker.run(&["plugin", "disable", "-f", &name]);
        docker.run(&["plugin", "rm", "-f", &name]);
        // An enable that failed can leave a process that the engine no longer knows.
        for _ in 0..100 {
            let Some(pid) = id.first().and_then(|id| process_of(id)) else {
                break;
            };
            let _ = kill(pid, Signal::SIGKILL);
            std::thread::sleep(Duration::from_millis(50));
        }
        for volume in stubborn {
            // The engine can forget it now; it asks the plugin that is gone for 15 s before.
            docker.run(&["volume", "rm", "-f", &volume]);
        }
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.clean_up();
        let log = self.log();
        if std::thread::panicking() {
            println!("--- the daemon's log\n{log}");
            return;
        }
        let errors: Vec<&str> = log.lines().filter(|line| line.contains(" ERROR ")).collect();
        assert!(errors.is_empty(), "the daemon logged errors: {errors:#?}");
        assert!(!log.contains("panicked at"), "the daemon panicked:\n{log}");
        let plugins = self.docker.lines(&["plugin", "ls", "--format", "{{.Name}}"]);
        assert!(!plugins.contains(&self.name()), "the plugin stays behind");
    }
}

/// What [`Plugin::start_counting`] runs: it stops at once, and with an error if it cannot write.
pub const COUNT: &str = "i=$(wc -l </data/count 2>/dev/null || echo 0); trap 'exit 0' TERM; \
    while :; do i=$((i + 1)); echo $i >>/data/count || exit 7; sleep 0.02; done";

/// Checks what a counting container wrote: every number, in order, none twice. How many.
pub fn assert_counted(written: &str) -> usize {
    for (index, line) in written.lines().enumerate() {
        assert_eq!(line, (index + 1).to_string(), "line {} of\n{written}", index + 1);
    }
    written.lines().count()
}

/// Borrowed arguments.
pub fn refs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// The process of a plugin by its id: the child of the shim that runs it.
fn process_of(id: &str) -> Option<Pid> {
    let shim =
        processes().find(|(_, command)| command.contains("containerd-shim") && command.contains(id))?;
    let mut pids = processes().map(|(pid, _)| pid);
    pids.find(|pid| parent(*pid) == Some(shim.0)).map(Pid::from_raw)
}

fn processes() -> impl Iterator<Item = (i32, String)> {
    let dirs = std::fs::read_dir("/proc").expect("proc").filter_map(Result::ok);
    let pids = dirs.filter_map(|dir| dir.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i32| Some((pid, text(&std::fs::read(format!("/proc/{pid}/cmdline")).ok()?))))
}

fn parent(pid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}
