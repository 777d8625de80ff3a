//! An engine of one test: a second dockerd that it may stop and kill.
//!
//! It runs in namespaces of its own: of the network, since a second dockerd deletes the first one's bridge; of mounts and
//! of processes, so that nothing of it survives the test, not even where the test is killed. The first process in there
//! is a shell that does what is written to it; when the test closes the pipe it ends, and the kernel kills the rest.
//!
//! What is mounted below [`OwnEngine::shared`] outside shows inside too: there a plain service can serve this engine.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use crate::docker::{Docker, is_root, wait_until};
use crate::plugin::unique;

/// What a command to the shell may take; an engine that stops waits for its containers and plugins.
const PATIENCE: Duration = Duration::from_secs(60);

/// The engine and its directories.
pub struct OwnEngine {
    docker: Docker,
    /// Before the directory that it is in, as it must be dropped before.
    shared: Shared,
    dir: TempDir,
    shell: Child,
    orders: Option<ChildStdin>,
    answers: Receiver<String>,
    cgroup: String,
}

impl OwnEngine {
    /// Started, with the image of the tests in it.
    pub fn start() -> Result<Self, String> {
        let here = Docker::here()?;
        if !is_root() || which("dockerd").is_none() || which("ip").is_none() {
            return Err("a second engine needs root, dockerd and ip".to_owned());
        }
        let dir = tempfile::tempdir().expect("a directory");
        let shared = Shared::new(dir.path().join("shared"))?;
        let mut shell = Command::new("unshare")
            .args(["--net", "--pid", "--mount", "--propagation", "slave"])
            .args(["--fork", "--kill-child", "--mount-proc", "bash"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let (send, answers) = channel();
        let lines = BufReader::new(shell.stdout.take().expect("a pipe")).lines();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| send.send(line)));
        let mut engine = Self {
            docker: Docker::at(format!("unix://{}", dir.path().join("docker.sock").display())),
            orders: shell.stdin.take(),
            shell,
            answers,
            cgroup: unique(),
            shared,
            dir,
        };
        // A containerd of the machine must not be found: it would start the containers outside of the namespaces.
        let hidden = "/run/docker /run/containerd /etc/docker";
        // Copies of what other tests have mounted would make their volumes look used.
        let forget = format!(
            "awk -v all={}/ -v ours={} 'index($5, all) == 1 && index($5, ours) != 1 {{print $5}}' /proc/self/mountinfo \
             | tac | xargs -r umount -l",
            std::env::temp_dir().display(),
            engine.dir.path().display(),
        );
        // Shared as on a machine that systemd has started: what the engine's plugins mount depends on it.
        let prepared = engine.order(&format!(
            "({forget} || true) && mount --make-rshared / && mkdir -p {hidden} && for dir in {hidden}; do mount -t tmpfs none $dir || break; done \
             && ip link set lo up"
        ));
        if prepared != "0" {
            return Err("no namespaces of its own can be made for a second engine".to_owned());
        }
        std::fs::write(engine.path("config.json"), "{}").expect("a file");
        engine.launch(&here.ok(&["info", "--format", "{{.Driver}}"]));
        engine.load(&here, "windlass-box");
        Ok(engine)
    }

    /// Brings an image from this machine's engine.
    pub fn load(&mut self, here: &Docker, image: &str) {
        let archive = self.path("image.tar");
        let text = archive.to_str().expect("text");
        here.ok(&["save", "-o", text, image]);
        self.docker.ok(&["load", "-i", text]);
        std::fs::remove_file(&archive).expect("it is there");
    }

    /// Its own socket, which is there outside of its namespaces too.
    pub fn socket(&self) -> PathBuf {
        self.path("docker.sock")
    }

    /// Its command line.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// A directory whose mounts it sees, by the same path.
    pub fn shared(&self) -> &Path {
        &self.shared.0
    }

    /// Stops it as a service manager does, and starts it again.
    pub fn restart(&mut self) {
        assert_eq!(self.order("kill -TERM $engine; wait $engine; true"), "0");
        self.launch_again();
    }

    /// Kills it: its containers go on until it is there again.
    pub fn kill_and_start(&mut self) {
        assert_eq!(self.order("kill -KILL $engine; wait $engine; true"), "0");
        self.launch_again();
    }

    /// The same, and a fifth of a second after the plugin has mounted its volumes anew, all below its directory is unmounted: so
    /// does an engine that hears late of the old plugin's end.
    pub fn kill_and_start_cleaning_late(&mut self, plugin: &str) {
        assert_eq!(self.order("kill -KILL $engine; wait $engine; true"), "0");
        let points = self.mount_points_of(plugin);
        let done = self.path("cleaned");
        let cleaner = format!(
            "(while {points} | grep -q /mounted/; do sleep 0.02; done; until {points} | grep -q /mounted/; do sleep 0.02; done; \
             sleep 0.2; {points} | xargs -rn1 umount -l; touch {}) &",
            done.display()
        );
        assert_eq!(self.order(&cleaner), "0");
        self.launch_again();
        wait_until("it has been cleaned up late", || done.exists());
        std::fs::remove_file(done).expect("it is there");
    }

    fn launch_again(&mut self) {
        let driver = std::fs::read_to_string(self.path("driver")).expect("written at the first start");
        self.launch(&driver);
    }

    fn launch(&mut self, storage_driver: &str) {
        std::fs::write(self.path("driver"), storage_driver).expect("a file");
        let dir = self.dir.path().display();
        let cgroup = &self.cgroup;
        let start = format!(
            "dockerd --config-file {dir}/config.json --host unix://{dir}/docker.sock --data-root {dir}/data \
             --exec-root {dir}/exec --pidfile {dir}/pid --storage-driver {storage_driver} --bridge none --iptables=false \
             --ip6tables=false --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent /{cgroup} \
             </dev/null >>{dir}/log 2>&1 & engine=$!"
        );
        assert_eq!(self.order(&start), "0");
        let docker = self.docker.clone();
        wait_until("the second engine answers", || {
            docker.run(&["version"]).status.success()
        });
    }

    /// Has the shell do something; its exit code.
    pub fn order(&mut self, command: &str) -> String {
        let orders = self.orders.as_mut().expect("open until the end");
        writeln!(orders, "{command}\necho $?").expect("the shell listens");
        self.answers
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("no end: {command}\n{}", self.log()))
    }

    /// Unmounts all that it sees below its directory of a plugin.
    pub fn unmount_plugin(&mut self, id: &str) {
        let points = self.mount_points_of(id);
        // One may go with another: they are propagated to each other.
        assert_eq!(
            self.order(&format!("{points} | xargs -rn1 umount -l 2>/dev/null; true")),
            "0"
        );
        let left = self.order(&format!("! {points} | grep -q ."));
        assert_eq!(
            left, "0",
            "something is still mounted below the plugin's directory"
        );
    }

    /// A command that lists what is mounted below the directory of a plugin, the deepest first.
    fn mount_points_of(&self, plugin: &str) -> String {
        let at = self.path("data/plugins").join(plugin);
        format!(
            "awk '{{print $5}}' /proc/self/mountinfo | grep ^{}/ | sort -r",
            at.display()
        )
    }

    /// Where it sees a volume of a plugin.
    pub fn path_of(&self, plugin: &str, volume: &str) -> PathBuf {
        let mounted = self
            .path("data/plugins")
            .join(plugin)
            .join("propagated-mount/mounted");
        mounted.join(volume)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The stacks of those that volumes and plugins have to do with.
    fn goroutines(&self) -> String {
        let files = std::fs::read_dir(self.path("exec"))
            .into_iter()
            .flatten()
            .flatten();
        let stacks = files.filter(|file| file.file_name().to_string_lossy().starts_with("goroutine-stacks"));
        let all: String = stacks
            .filter_map(|file| std::fs::read_to_string(file.path()).ok())
            .collect();
        let telling = |stack: &&str| {
            ["volume", "plugin", "daemon.NewDaemon"]
                .iter()
                .any(|word| stack.contains(word))
        };
        all.split("\n\n").filter(telling).collect::<Vec<_>>().join("\n\n")
    }
}

fn print_end(what: &str, text: &str) {
    let mut from = text.len().saturating_sub(20_000);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    println!("--- the end of the second engine's {what}\n{}", &text[from..]);
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Where it hangs, if it hangs: on this signal it writes the stacks of all its goroutines.
            // And what of the plugin's mounts it sees.
            let plugins = self.path("data/plugins");
            let plugins = plugins.display();
            let mounts = self.path("mounts");
            if let Some(orders) = self.orders.as_mut() {
                let _ = writeln!(
                    orders,
                    "(grep propagated-mount /proc/self/mountinfo; ls -lA {plugins}/*/propagated-mount/*) >{} 2>&1",
                    mounts.display()
                );
                let _ = writeln!(orders, "kill -USR1 $engine; sleep 2; echo asked");
                let _ = self.answers.recv_timeout(Duration::from_secs(10));
            }
            print_end("log", &self.log());
            print_end("mounts", &std::fs::read_to_string(mounts).unwrap_or_default());
            print_end("goroutines", &self.goroutines());
        }
        // Gracefully if it is, so that it leaves no control groups; then the end of the pipe ends everything.
        if let Some(mut orders) = self.orders.take() {
            let _ = writeln!(orders, "kill -TERM $engine; wait $engine; echo stopped");
            let _ = self.answers.recv_timeout(Duration::from_secs(30));
        }
        let _ = self.shell.kill();
        let _ = self.shell.wait();
        remove_cgroups(&self.cgroup);
    }
}

/// A directory that is a shared mount.
struct Shared(PathBuf);

impl Shared {
    fn new(at: PathBuf) -> Result<Self, String> {
        std::fs::create_dir(&at).map_err(|error| format!("{}: {error}", at.display()))?;
        let none = None::<&str>;
        let mounted = mount(Some(&at), &at, none, MsFlags::MS_BIND, none)
            .and_then(|()| mount(none, &at, none, MsFlags::MS_SHARED, none));
        let shared = Self(at);
        mounted.map_err(|error| format!("a shared mount: {error}"))?;
        Ok(shared)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = table
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .map(PathBuf::from);
        let mut points: Vec<PathBuf> = points.filter(|at| at.starts_with(&self.0)).collect();
        while let Some(at) = points.pop() {
            let _ = umount2(&at, MntFlags::MNT_DETACH);
        }
    }
}

/// The empty control groups that killed containers leave.
fn remove_cgroups(name: &str) {
    let controllers = std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    for at in controllers.map(|controller| controller.path().join(name)) {
        for below in std::fs::read_dir(&at)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
        {
            let _ = std::fs::remove_dir(below.path());
        }
        let _ = std::fs::remove_dir(at);
    }
    let _ = std::fs::remove_dir(PathBuf::from("/sys/fs/cgroup").join(name));
}

fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}
