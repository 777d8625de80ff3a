//! A real daemon process for tests: started on directories of its own, spoken to as Docker's engine and as people do,
//! killed and started again at will. Whatever happens, it ends with the test and leaves no mount and no loop device.

#![allow(dead_code, reason = "each test file uses a part")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// The directories of a daemon; they outlive its process.
pub struct Home {
    dir: TempDir,
}

/// A running daemon.
pub struct Daemon<'a> {
    home: &'a Home,
    child: Child,
}

impl Home {
    /// Directories on the machine's own filesystem.
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory"),
        }
    }

    /// The same with the volumes on a filesystem of their own: `btrfs`, `xfs`, `ext4`, or a small `tmpfs`.
    pub fn on(kind: &str) -> Self {
        let home = Self::new();
        let image = home.dir.path().join("image");
        let at = home.volumes();
        std::fs::create_dir(&at).expect("a mount point");
        if kind == "tmpfs" {
            shell(&["mount", "-t", "tmpfs", "-o", "size=48m", "windlass", text(&at)]);
            return home;
        }
        std::fs::File::create(&image)
            .and_then(|file| file.set_len(400 << 20))
            .expect("a sparse file");
        let mkfs = match kind {
            "btrfs" => vec!["mkfs.btrfs", "-q"],
            "xfs" => vec!["mkfs.xfs", "-q", "-m", "reflink=1"],
            "ext4" => vec!["mkfs.ext4", "-q", "-F"],
            other => panic!("no filesystem {other:?} here"),
        };
        shell(&[&mkfs, &[text(&image)][..]].concat());
        shell(&["mount", "-o", "loop", text(&image), text(&at)]);
        home
    }

    /// Below which everything lies.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The state directory.
    pub fn root(&self) -> PathBuf {
        self.path().join("root")
    }

    /// `vfs.path`.
    pub fn volumes(&self) -> PathBuf {
        self.path().join("volumes")
    }

    /// Where volumes are mounted.
    pub fn mounts(&self) -> PathBuf {
        self.path().join("mounts")
    }

    /// Docker's socket.
    pub fn docker_socket(&self) -> PathBuf {
        self.path().join("docker.sock")
    }

    /// The admin API's socket.
    pub fn admin_socket(&self) -> PathBuf {
        self.path().join("admin.sock")
    }

    /// The daemon's log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("log")).unwrap_or_default()
    }

    /// The command that starts the daemon here.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path().join("log"));
        let log = log.expect("a log file");
        command
            .arg("daemon")
            .args(["--root", text(&self.root()), "--drivers", "vfs"])
            .arg("--driver-opts")
            .arg(format!("vfs.path={}", self.volumes().display()))
            .args(["--mount-root", text(&self.mounts())])
            .args(["--docker-socket", text(&self.docker_socket())])
            .args(["--admin-socket", text(&self.admin_socket())])
            .env_clear()
            .env("WINDLASS_LOG_LEVEL", "debug")
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log again"))
            .stderr(log);
        command
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&self) -> Daemon<'_> {
        self.start_with(|_| ())
    }

    /// The same with further arguments or variables.
    pub fn start_with(&self, change: impl FnOnce(&mut Command)) -> Daemon<'_> {
        let mut command = self.command();
        change(&mut command);
        let child = command.spawn().expect("the daemon starts");
        let mut daemon = Daemon { home: self, child };
        let give_up = Instant::now() + Duration::from_secs(20);
        while daemon.try_call("VolumeDriver.List", "{}").is_none() {
            let ended = daemon.child.try_wait().expect("a child");
            assert!(
                ended.is_none() && Instant::now() < give_up,
                "no answer ({ended:?}); its log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        daemon
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Volumes wherever they are mounted, then the filesystem below them.
        unmount_below(self.path());
    }
}

impl Daemon<'_> {
    /// A call of Docker's protocol; its JSON.
    pub fn call(&self, call: &str, body: &str) -> Value {
        self.try_call(call, body)
            .unwrap_or_else(|| panic!("{call} {body}: no answer; the log:\n{}", self.home.log()))
            .1
    }

    /// A call that must succeed.
    pub fn ok(&self, call: &str, body: &str) -> Value {
        let answer = self.call(call, body);
        assert_eq!(answer["Err"].as_str().unwrap_or_default(), "", "{call} {body}");
        answer
    }

    /// A call that must fail; what it says.
    pub fn err(&self, call: &str, body: &str) -> String {
        let said = self.call(call, body)["Err"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(!said.is_empty(), "{call} {body} succeeded");
        said
    }

    /// A call as the engine makes it (no content type, an empty `Host`): status and JSON; `None` if the daemon hangs up.
    pub fn try_call(&self, call: &str, body: &str) -> Option<(u16, Value)> {
        let (status, body) = request(
            &self.home.docker_socket(),
            "POST",
            &format!("/{call}"),
            body.as_bytes(),
        )?;
        Some((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    /// A request to the admin API: status and JSON.
    pub fn admin(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let (status, body) =
            request(&self.home.admin_socket(), method, path, body.as_bytes()).expect("the admin API answers");
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// The command line, as a script runs it.
    pub fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_windlass"))
            .arg("--socket")
            .arg(self.home.admin_socket())
            .args(args)
            // In no locale, whatever that of the tests is.
            .env_remove("LC_ALL")
            .env_remove("LC_CTYPE")
            .env_remove("LANG")
            .stdin(Stdio::null())
            .output()
            .expect("the command line runs")
    }

    /// A command that must succeed; its standard output without the last line feed.
    pub fn say(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "windlass {args:?}: {errors}\nthe log:\n{}",
            self.home.log()
        );
        String::from_utf8_lossy(&output.stdout)
            .trim_end_matches('\n')
            .to_owned()
    }

    /// A command that must succeed; its standard output as JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        let said = self.say(args);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("windlass {args:?}: {error}: {said}"))
    }

    /// A command that must fail: exit code and standard error.
    pub fn fails(&self, args: &[&str]) -> (i32, String) {
        let output = self.run(args);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "windlass {args:?} succeeded");
        assert_eq!(
            errors.trim_end().lines().count(),
            1,
            "an error is one line: {errors}"
        );
        (output.status.code().expect("it exits"), errors)
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        shell(&["kill", &format!("-{name}"), &self.pid().to_string()]);
    }

    /// Waits for the end; the status as text.
    pub fn wait(mut self) -> String {
        let give_up = Instant::now() + Duration::from_secs(20);
        loop {
            match self.child.try_wait().expect("a child") {
                Some(status) => return status.to_string(),
                None if Instant::now() > give_up => panic!("it does not end; the log:\n{}", self.home.log()),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// SIGKILL, as when the plugin is killed.
    pub fn kill(self) {
        self.signal("KILL");
        self.wait();
    }

    /// SIGTERM; how long it took.
    pub fn stop(self) -> Duration {
        let begun = Instant::now();
        self.signal("TERM");
        let status = self.wait();
        assert_eq!(status, "exit status: 0");
        begun.elapsed()
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        // Already gone after wait(); otherwise the test failed half-way.
        if self.child.try_wait().ok().flatten().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// One HTTP request on a connection of its own; `None` where the other side hangs up without an answer.
pub fn request(socket: &Path, method: &str, path: &str, body: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: \r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let status = std::str::from_utf8(&answer[..end])
        .ok()?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    Some((status, answer.split_off(end + 4)))
}

/// Runs a command that must succeed.
pub fn shell(command: &[&str]) -> String {
    let output = Command::new(command[0])
        .args(&command[1..])
        .output()
        .expect(command[0]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A path as text.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are text")
}

/// What is mounted at or below `dir`, the deepest last.
pub fn mounted_below(dir: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let points = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from);
    points.filter(|at| at.starts_with(dir)).collect()
}

fn unmount_below(dir: &Path) {
    for at in mounted_below(dir).iter().rev() {
        let _ = Command::new("umount").arg("-l").arg(at).status();
    }
}

/// Waits until something is there, for longer than a busy machine could need.
#[track_caller]
pub fn wait_for<T>(what: &str, mut there: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + Duration::from_secs(300);
    loop {
        if let Some(found) = there() {
            return found;
        }
        assert!(Instant::now() < give_up, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The same of something that holds or not.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, || holds().then_some(()));
}

/// Bytes that do not compress, the same each time.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}
