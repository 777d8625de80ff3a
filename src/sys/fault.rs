//! Fault points: named places in the code where a test can have the process killed, as a power cut would.
//!
//! Code calls [`point`] between two steps whose order matters. In builds without debug assertions that is nothing at all.
//! Otherwise the environment decides, read once, at the first point passed:
//! - `WINDLASS_FAULT=<name>` kills the process (SIGKILL) at the point of that name, `WINDLASS_FAULT=<n>` at the n-th
//!   point passed, from 1;
//! - `WINDLASS_FAULT_SCOPE=<prefix>` starts the counting at the first point whose name starts with the prefix, so that
//!   points passed during a daemon's start do not count; from there on, every point counts;
//! - `WINDLASS_FAULT_TRACE=<file>` appends the name of each point that counts, one a line, before it is acted upon;
//! - `WINDLASS_FAULT_POWER=1` ends the machine instead of the process, in tests' guest kernel and nowhere else: what was not
//!   synced is lost.
//!
//! A test that wants every point of an operation runs it once with a trace, then once for each line of it.

/// Passes the fault point `name`, as `<operation>.<step>`, such as `create.staged`.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_name: &str) {}

/// Passes the fault point `name`, as `<operation>.<step>`, such as `create.staged`.
#[cfg(debug_assertions)]
pub fn point(name: &str) {
    active::PLAN
        .get_or_init(active::Plan::from_environment)
        .pass(name);
}

#[cfg(debug_assertions)]
mod active {
    use std::ffi::OsString;
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    pub(super) static PLAN: OnceLock<Plan> = OnceLock::new();

    /// When to die.
    enum Trigger {
        Never,
        Nth(usize),
        Named(String),
    }

    pub(super) struct Plan {
        trigger: Trigger,
        /// The whole machine goes.
        power: bool,
        scope: Option<String>,
        trace: Option<OsString>,
        /// Set by the first point within the scope.
        counting: AtomicBool,
        /// Points that counted so far.
        passed: AtomicUsize,
    }

    impl Plan {
        pub(super) fn from_environment() -> Self {
            let text = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
            Self {
                power: text("WINDLASS_FAULT_POWER").is_some(),
                ..Self::new(
                    text("WINDLASS_FAULT"),
                    text("WINDLASS_FAULT_SCOPE"),
                    std::env::var_os("WINDLASS_FAULT_TRACE"),
                )
            }
        }

        pub(super) fn new(fault: Option<String>, scope: Option<String>, trace: Option<OsString>) -> Self {
            let trigger = match fault {
                None => Trigger::Never,
                Some(text) => text.parse().map(Trigger::Nth).unwrap_or(Trigger::Named(text)),
            };
            let counting = AtomicBool::new(scope.is_none());
            Self {
                trigger,
                power: false,
                scope,
                trace,
                counting,
                passed: AtomicUsize::new(0),
            }
        }

        pub(super) fn pass(&self, name: &str) {
            if self.counts(name) {
                if self.power {
                    cut_power();
                }
                kill(Pid::this(), Signal::SIGKILL).expect("a process may kill itself");
                // The signal is delivered before the call returns to this thread; other threads die with it.
            }
        }

        /// Records the point; true where the process is to die here.
        pub(super) fn counts(&self, name: &str) -> bool {
            if let Some(scope) = &self.scope
                && name.starts_with(scope.as_str())
            {
                self.counting.store(true, Ordering::SeqCst);
            }
            if !self.counting.load(Ordering::SeqCst) {
                return false;
            }
            let number = self.passed.fetch_add(1, Ordering::SeqCst) + 1;
            if let Some(path) = &self.trace {
                let mut file = OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(path)
                    .expect("the trace file can be opened");
                // One write per line: lines of several threads or processes do not mix.
                file.write_all(format!("{name}\n").as_bytes())
                    .expect("the trace file can be written");
            }
            match &self.trigger {
                Trigger::Never => false,
                Trigger::Nth(n) => *n == number,
                Trigger::Named(wanted) => wanted == name,
            }
        }
    }

    /// Has the guest's kernel panic, which ends its process on the spot: no cache is written, no process goes on. A machine that is
    /// not such a guest is never touched.
    fn cut_power() {
        let machine = std::fs::read_to_string("/proc/cpuinfo").expect("procfs");
        assert!(
            machine.contains("User Mode Linux"),
            "only a guest's power may be cut"
        );
        std::fs::write("/proc/sysrq-trigger", "c").expect("a kernel that can be asked to panic");
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::active::Plan;
    use std::os::unix::process::ExitStatusExt;

    const POINTS: [&str; 4] = ["start.ready", "create.staged", "durable.renamed", "create.done"];

    fn deaths(fault: Option<&str>, scope: Option<&str>) -> Vec<&'static str> {
        let plan = Plan::new(fault.map(str::to_owned), scope.map(str::to_owned), None);
        POINTS.into_iter().filter(|point| plan.counts(point)).collect()
    }

    #[test]
    fn dies_at_the_nth_or_the_named_point_and_at_no_other() {
        assert_eq!(deaths(None, None), [""; 0]);
        assert_eq!(deaths(Some("1"), None), ["start.ready"]);
        assert_eq!(deaths(Some("3"), None), ["durable.renamed"]);
        assert_eq!(deaths(Some("5"), None), [""; 0]);
        assert_eq!(deaths(Some("create.done"), None), ["create.done"]);
    }

    #[test]
    fn scope_starts_the_count_and_does_not_end_it() {
        assert_eq!(deaths(Some("1"), Some("create.")), ["create.staged"]);
        assert_eq!(deaths(Some("2"), Some("create.")), ["durable.renamed"]);
        assert_eq!(deaths(Some("start.ready"), Some("create.")), [""; 0]);
    }

    #[test]
    fn trace_lists_what_counts() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let path = dir.path().join("trace");
        let plan = Plan::new(None, Some("create.".into()), Some(path.clone().into()));
        POINTS.iter().for_each(|point| plan.pass(point));
        assert_eq!(
            std::fs::read_to_string(path).expect("a trace"),
            "create.staged\ndurable.renamed\ncreate.done\n"
        );
    }

    /// Only acts in the child that the next test starts.
    #[test]
    fn child_passes_two_points() {
        if std::env::var_os("WINDLASS_FAULT_CHILD").is_some() {
            super::point("child.first");
            super::point("child.second");
        }
    }

    #[test]
    fn process_really_dies_by_sigkill_at_its_point() {
        let run = |fault: &str| {
            std::process::Command::new(std::env::current_exe().expect("this test's program"))
                .args(["--exact", "sys::fault::tests::child_passes_two_points"])
                .env("WINDLASS_FAULT_CHILD", "1")
                .env("WINDLASS_FAULT", fault)
                .env("WINDLASS_FAULT_SCOPE", "child.")
                .output()
                .expect("the child runs")
                .status
        };
        assert_eq!(run("child.second").signal(), Some(libc::SIGKILL));
        assert_eq!(run("2").signal(), Some(libc::SIGKILL));
        assert!(run("3").success());
    }
}
