//! Where it is measured: in this machine's kernel if it has thin pools, else in a guest's.

use std::path::Path;
use std::process::{Command, Stdio};

use super::daemon::text;
use super::document;
use super::report::Report;

/// Names the group that a guest, or a process of its own, is to measure.
pub const INSIDE: &str = "WINDLASS_BENCH_INSIDE";
/// The directory for what it found.
const FOUND: &str = "WINDLASS_BENCH_FOUND";

/// What a group came to.
pub struct Found {
    /// Its tables.
    pub text: String,
    /// What fell short.
    pub missed: Vec<String>,
    /// Where.
    pub machine: String,
}

/// Measures a group.
pub fn measure(group: &str, memory: u32) -> Found {
    let found = tempfile::Builder::new()
        .prefix("windlass-bench")
        .tempdir_in("/var/tmp")
        .expect("a directory");
    let program = std::env::current_exe().expect("this program");
    let targets = Command::new("dmsetup").arg("targets").output();
    let native = targets.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains("thin-pool"));
    let mut command = match native {
        true => Command::new(&program),
        false => {
            let built = Path::new(env!("CARGO_BIN_EXE_windlass")).parent();
            let mut guest = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guest/run"));
            guest
                .args(["-t", "3000", "-m", &memory.to_string()])
                .args(["-s", text(built.expect("a directory"))])
                .args(["-s", &format!("{}:rw", found.path().display()), "--"])
                .arg(&program)
                .env_remove("LD_LIBRARY_PATH");
            guest
        }
    };
    let status = command
        .env(INSIDE, group)
        .env(FOUND, found.path())
        .stdin(Stdio::null())
        .status()
        .expect("it starts");
    assert!(status.success(), "{group}: {status}");
    let read = |name| std::fs::read_to_string(found.path().join(name)).expect("it was written");
    let guest = match native {
        true => "in its own kernel".to_owned(),
        false => format!(
            "in a guest kernel {} (user-mode-linux, one processor)",
            read("kernel").trim()
        ),
    };
    Found {
        text: read("text"),
        missed: read("missed").lines().map(str::to_owned).collect(),
        machine: format!("Machine: {}; {guest}.", document::machine()),
    }
}

/// The other side.
pub fn inside(measure: fn(&mut Report)) {
    let dir = std::env::var_os(FOUND).expect("a directory for what is found");
    let dir = Path::new(&dir);
    let mut report = Report::default();
    measure(&mut report);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let files = [
        ("text", report.text()),
        ("missed", report.missed()),
        ("kernel", &kernel),
    ];
    for (name, text) in files {
        std::fs::write(dir.join(name), text).expect("written");
    }
}
