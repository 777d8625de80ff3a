//! Running other programs (mkfs, fsck, thin_check …) with a bound on their time and on what they say.
//!
//! A program gets a process group of its own, killed as a whole when its time is up, and it does not outlive this
//! process: a mkfs that went on after a crash would write to what the next start hands to someone else. Arguments appear
//! in errors, so secrets go through the environment.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::error::{Result, SysError};

/// So much of stdout is kept, from its beginning.
const STDOUT_BYTES: usize = 4 << 20;
/// So much of stderr is kept, from its end.
const STDERR_BYTES: usize = 64 << 10;
/// How long an ended program's pipes may stay open in the hands of what it left behind.
const LINGER: Duration = Duration::from_secs(1);

/// A command to be run.
#[derive(Debug)]
pub struct Exec {
    command: Command,
    time_limit: Duration,
}

/// What a command that succeeded wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The first 4 MiB of stdout.
    pub stdout: Vec<u8>,
    /// Whether there was more.
    pub truncated: bool,
    /// The last 64 KiB of stderr.
    pub stderr: String,
}

impl Exec {
    /// The program is looked for in PATH; it speaks English and may run for a minute.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C");
        Self {
            command,
            time_limit: Duration::from_secs(60),
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable in its environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets how long it may run.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Runs it to its end, with nothing on stdin.
    ///
    /// A status other than 0 is [`SysError::Command`], with the last line of stderr; a program that is not there is an
    /// I/O error of kind "not found".
    pub fn run(mut self) -> Result<Output> {
        let shown = self.shown();
        let program = self.command.get_program().to_owned();
        let failed = |source: io::Error| SysError::io("run", &program, source);
        self.command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        die_with_parent(&mut self.command);
        let mut child = self.command.spawn().map_err(failed)?;
        // One more than is handed out tells whether there was more.
        let stdout = Collected::start(
            child.stdout.take().expect("piped above"),
            Keep::First(STDOUT_BYTES + 1),
        );
        let stderr = Collected::start(
            child.stderr.take().expect("piped above"),
            Keep::Last(STDERR_BYTES),
        );
        let ended = wait(&mut child, self.time_limit).map_err(failed)?;
        let mut stdout = stdout.finish();
        let truncated = stdout.len() > STDOUT_BYTES;
        stdout.truncate(STDOUT_BYTES);
        let stderr = String::from_utf8_lossy(&stderr.finish()).into_owned();
        let last_line = stderr
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or_default();
        let last_line = last_line.trim().chars().take(500).collect();
        match ended {
            Some(status) if status.success() => Ok(Output {
                stdout,
                truncated,
                stderr,
            }),
            Some(status) => Err(SysError::Command {
                command: shown,
                status,
                last_line,
            }),
            None => Err(SysError::CommandTimeout {
                command: shown,
                limit: self.time_limit,
                last_line,
            }),
        }
    }

    fn shown(&self) -> String {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
        words.join(" ")
    }
}

/// Has the kernel kill the program when the thread that waits for it ends, which it does only with the whole process.
fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    let hook = move || {
        // SAFETY: both calls are async-signal-safe and take numbers only.
        let (result, now) = unsafe {
            (
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL),
                libc::getppid(),
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        // The parent died before the kernel knew.
        if now.unsigned_abs() != parent {
            Err(io::Error::from_raw_os_error(libc::ESRCH))
        } else {
            Ok(())
        }
    };
    // SAFETY: between fork and exec the hook allocates nothing, takes no lock, and makes only async-signal-safe calls.
    unsafe { command.pre_exec(hook) };
}

/// The status, or None where the time was up and the whole group was killed.
fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let elapsed = start.elapsed();
        if elapsed >= limit {
            // The group exists as long as its leader has not been waited for.
            killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL)?;
            child.wait()?;
            return Ok(None);
        }
        // Short naps at first, so that a quick program is not waited for much longer than it takes.
        let nap = (elapsed / 8).clamp(Duration::from_micros(500), Duration::from_millis(50));
        std::thread::sleep(nap.min(limit - elapsed));
    }
}

/// Which part of a stream is kept.
#[derive(Clone, Copy)]
enum Keep {
    First(usize),
    Last(usize),
}

/// A pipe that is read to its end by a thread, so that the program never waits for us.
struct Collected {
    /// Guards the bytes kept so far; held for a copy at a time.
    kept: Arc<Mutex<Vec<u8>>>,
    /// Closed at the end of the stream.
    end: Receiver<()>,
}

impl Collected {
    fn start(mut pipe: impl Read + Send + 'static, keep: Keep) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let (sender, end) = channel();
        let shared = kept.clone();
        std::thread::spawn(move || {
            let _open = sender;
            let mut buffer = [0; 16 << 10];
            loop {
                match pipe.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(got) => add(
                        &mut shared.lock().expect("no panic under it"),
                        &buffer[..got],
                        keep,
                    ),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
        });
        Self { kept, end }
    }

    /// What was kept when the stream ended, or by now if something that the program left behind keeps it open.
    fn finish(self) -> Vec<u8> {
        let _ = self.end.recv_timeout(LINGER);
        std::mem::take(&mut self.kept.lock().expect("no panic under it"))
    }
}

fn add(kept: &mut Vec<u8>, piece: &[u8], keep: Keep) {
    match keep {
        Keep::First(limit) => kept.extend_from_slice(&piece[..piece.len().min(limit - kept.len())]),
        Keep::Last(limit) => {
            kept.extend_from_slice(piece);
            let excess = kept.len().saturating_sub(limit);
            kept.drain(..excess);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Exec {
        Exec::new("sh").args(["-c", script])
    }

    #[test]
    fn success_gives_both_streams_and_failure_the_last_line() {
        let output = shell("echo out; echo err >&2; echo $COLOR")
            .env("COLOR", "blue")
            .run()
            .expect("runs");
        assert_eq!(
            (output.stdout.as_slice(), output.stderr.as_str(), output.truncated),
            (&b"out\nblue\n"[..], "err\n", false)
        );
        let error = shell("echo first >&2; echo 'the reason' >&2; echo >&2; exit 3")
            .run()
            .expect_err("fails");
        let text = error.to_string();
        assert!(
            text.contains("exit status: 3") && text.ends_with(": the reason"),
            "{text}"
        );
        let error = shell("kill -9 $$").run().expect_err("dies").to_string();
        assert!(error.contains("signal: 9"), "{error}");
        assert!(
            Exec::new("no-such-program-here")
                .run()
                .expect_err("absent")
                .is_not_found()
        );
    }

    #[test]
    fn time_limit_kills_the_whole_group() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let file = dir.path().join("pid");
        let start = Instant::now();
        let script = format!("echo slow >&2; sleep 1000 & echo $! > {}; wait", file.display());
        let error = shell(&script)
            .time_limit(Duration::from_millis(400))
            .run()
            .expect_err("too slow");
        assert!(
            matches!(&error, SysError::CommandTimeout { last_line, .. } if last_line == "slow"),
            "{error:?}"
        );
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        let pid = std::fs::read_to_string(file).expect("written");
        // It was told, and dies as soon as it has a processor. A zombie may be left for init to reap.
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        while !state().is_empty() && !state().contains(") Z ") {
            assert!(start.elapsed() < Duration::from_secs(30), "{}", state());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_a_program_leaves_behind_does_not_hold_us_up() {
        let start = Instant::now();
        let output = shell("setsid sleep 30 & echo done").run().expect("runs");
        assert_eq!(output.stdout, b"done\n");
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }

    #[test]
    fn endless_talk_is_bounded() {
        let output = shell("head -c 9000000 /dev/zero; head -c 9000000 /dev/zero >&2; echo end >&2")
            .run()
            .expect("runs");
        assert!(output.truncated);
        assert_eq!(
            (output.stdout.len(), output.stderr.len()),
            (STDOUT_BYTES, STDERR_BYTES)
        );
        assert!(output.stderr.ends_with("end\n"));
    }

    /// Only acts in the child that the next test starts.
    #[test]
    fn child_runs_a_long_command() {
        if let Some(file) = std::env::var_os("WINDLASS_EXEC_CHILD") {
            let script = format!("echo $$ > {}; exec sleep 1000", file.display());
            let _ = shell(&script).run();
        }
    }

    #[test]
    fn command_dies_with_this_process() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let file = dir.path().join("pid");
        let mut parent = Command::new(std::env::current_exe().expect("this test's program"))
            .args(["--exact", "sys::exec::tests::child_runs_a_long_command"])
            .env("WINDLASS_EXEC_CHILD", &file)
            .stdout(Stdio::null())
            .spawn()
            .expect("the child runs");
        let pid = loop {
            match std::fs::read_to_string(&file) {
                Ok(text) if text.ends_with('\n') => break text.trim().to_owned(),
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        parent.kill().expect("killed");
        parent.wait().expect("reaped");
        let alive = || {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !state.is_empty() && !state.contains(") Z ")
        };
        let start = Instant::now();
        while alive() {
            assert!(start.elapsed() < Duration::from_secs(5), "process {pid} lives on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
