//! The `docker` command of one engine, with a bound on how long it may take.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What no single command needs, on a machine that other tests keep busy too.
const SECONDS: &str = "120";

/// An engine, by its address.
#[derive(Debug, Clone, Default)]
pub struct Docker {
    /// `DOCKER_HOST`; the machine's own engine without it.
    host: Option<String>,
}

impl Docker {
    /// The engine of this machine, with the image that the tests run.
    pub fn here() -> Result<Self, String> {
        let here = Self::default();
        if !is_root() {
            return Err("this needs root: state directories and sockets are root's".to_owned());
        }
        if here
            .try_run(&["version"])
            .is_none_or(|output| !output.status.success())
        {
            return Err("no Docker engine answers".to_owned());
        }
        if !here.run(&["image", "inspect", "windlass-box"]).status.success() {
            return Err("the image windlass-box is missing; 'make box' makes it".to_owned());
        }
        Ok(here)
    }

    /// Another engine.
    pub fn at(host: String) -> Self {
        Self { host: Some(host) }
    }

    /// A program that speaks to this engine; `timeout` ends it if it hangs.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after", "5", SECONDS, program])
            .stdin(Stdio::null());
        if let Some(host) = &self.host {
            command.env("DOCKER_HOST", host);
        }
        command
    }

    fn try_run(&self, args: &[&str]) -> Option<Output> {
        self.command("docker").args(args).output().ok()
    }

    /// Runs it, whatever becomes of it.
    pub fn run(&self, args: &[&str]) -> Output {
        let output = self.try_run(args).expect("timeout and docker run");
        assert_ne!(
            output.status.code(),
            Some(124),
            "docker {args:?}: no end after {SECONDS} s"
        );
        output
    }

    /// Runs it; it must succeed. What it says, without the last line feed.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(
            output.status.success(),
            "docker {args:?}: {}{}",
            text(&output.stderr),
            text(&output.stdout)
        );
        text(&output.stdout).trim_end_matches('\n').to_owned()
    }

    /// Runs it; it must fail. What it says to that, without the last line feed.
    pub fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(
            !output.status.success(),
            "docker {args:?} succeeded: {}",
            text(&output.stdout)
        );
        text(&output.stderr).trim_end_matches('\n').to_owned()
    }

    /// Runs it; it must say JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        let said = self.ok(args);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("docker {args:?}: {error}: {said}"))
    }

    /// The lines that it says, if it succeeds.
    pub fn lines(&self, args: &[&str]) -> Vec<String> {
        let output = self.run(args);
        text(&output.stdout).lines().map(str::to_owned).collect()
    }
}

/// Where this package's files are.
pub fn package(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// Waits until `done` says so; panics after 60 s.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < give_up, "in vain waited until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Output as text.
pub fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

/// Whether this process is root's.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
