//! Hooks in real containers: what they see, when they run, and what becomes of a snapshot whose hook fails, hangs, or loses its
//! container or the daemon. And a real PostgreSQL under load, by the recipes of docs/HOOKS.md.
//!
//! The daemon is a plain service beside an engine of the test's own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::docker::{Docker, text};
use crate::own_engine::OwnEngine;
use crate::plugin::{Plugin, unique};
use crate::skip_unless;

/// An engine, and a daemon with its volumes on a filesystem of their own.
struct Site {
    /// Before the engine, below whose directory it has its own.
    daemon: Option<Child>,
    name: String,
    dir: PathBuf,
    socket: PathBuf,
    engine: OwnEngine,
}

impl Site {
    fn on(kind: &str) -> Result<Self, String> {
        let mut engine = OwnEngine::start()?;
        let dir = engine.shared().to_owned();
        let (image, volumes) = (dir.join("image"), dir.join("volumes"));
        std::fs::create_dir(&volumes).expect("a mount point");
        std::fs::File::create(&image)
            .and_then(|file| file.set_len(3 << 30))
            .expect("a sparse file");
        let mkfs = match kind {
            "btrfs" => ["mkfs.btrfs", "-q"].as_slice(),
            _ => &["mkfs.ext4", "-q", "-F"],
        };
        shell(&[mkfs, &[path(&image)]].concat());
        shell(&["mount", "-o", "loop", path(&image), path(&volumes)]);
        let name = unique();
        let spec = format!(
            "mkdir -p /etc/docker/plugins && echo unix://{}/docker.sock >/etc/docker/plugins/{name}.spec",
            dir.display()
        );
        assert_eq!(engine.order(&spec), "0");
        let socket = engine.socket();
        let mut site = Self {
            daemon: None,
            name,
            dir,
            socket,
            engine,
        };
        site.start();
        Ok(site)
    }

    fn start(&mut self) {
        let socket = self.socket.clone();
        self.start_with(&socket);
    }

    fn start_with(&mut self, docker_api: &Path) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))
            .expect("a log");
        let daemon = Command::new(env!("CARGO_BIN_EXE_windlass"))
            .args(["daemon", "--log-level", "debug", "--root"])
            .arg(self.dir.join("root"))
            .arg("--docker-socket")
            .arg(self.dir.join("docker.sock"))
            .arg("--docker-api")
            .arg(docker_api)
            .arg("--driver-opts")
            .arg(format!("vfs.path={}", self.dir.join("volumes").display()))
            .env("WINDLASS_BACKUP_PASSWORD", "correct horse")
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("the log again"))
            .stdout(log)
            .spawn()
            .expect("the daemon starts");
        self.daemon = Some(daemon);
        self.wait_until("the daemon answers", |site| {
            site.windlass(&["list"]).status.success()
        });
    }

    /// kill -9, or the stop that a service manager asks for.
    fn end(&mut self, signal: &str) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = Command::new("kill")
                .args([signal, &daemon.id().to_string()])
                .status();
            let _ = daemon.wait();
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn docker(&self) -> &Docker {
        self.engine.docker()
    }

    /// Where a volume's files are on this host.
    fn files(&self, volume: &str) -> PathBuf {
        self.dir.join("volumes").join(volume)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
        command
            .arg("--socket")
            .arg(self.dir.join("root/windlass.sock"))
            .args(args)
            .stdin(Stdio::null());
        command
    }

    fn windlass(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("it runs")
    }

    /// A command that must succeed; what it says.
    fn say(&self, args: &[&str]) -> String {
        let output = self.windlass(args);
        assert!(
            output.status.success(),
            "windlass {args:?}: {}\nthe log:\n{}",
            text(&output.stderr),
            self.log()
        );
        text(&output.stdout).trim_end_matches('\n').to_owned()
    }

    /// A command that must fail; what it says to that.
    fn fails(&self, args: &[&str]) -> String {
        let output = self.windlass(args);
        assert!(
            !output.status.success(),
            "windlass {args:?} succeeded; the log:\n{}",
            self.log()
        );
        text(&output.stderr)
    }

    fn json(&self, args: &[&str]) -> Value {
        let said = self.say(args);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("windlass {args:?}: {error}: {said}"))
    }

    /// What a snapshot's record says of its hooks.
    fn hooks_of(&self, snapshot: &str) -> Value {
        self.json(&["snapshot", "inspect", snapshot])["DriverInfo"]["Hooks"].clone()
    }

    /// A file of a snapshot.
    fn in_snapshot(&self, snapshot: &str, file: &str) -> String {
        let at = self.say(&["snapshot", "mount", snapshot]);
        let found = std::fs::read_to_string(Path::new(&at).join(file)).unwrap_or_default();
        self.say(&["snapshot", "umount", snapshot]);
        found
    }

    /// Starts a container with a volume at /data; its name.
    fn container(&self, name: &str, volume: &str, image: &str, script: &str) -> String {
        let container = format!("{}-{name}", self.name);
        let at = format!("{volume}:/data");
        let shm = "--shm-size=64m";
        let run = [
            "run",
            "-d",
            "--init",
            shm,
            "--network",
            "none",
            "--name",
            &container,
            "-v",
            &at,
        ];
        self.docker()
            .ok(&[&run[..], &[image, "sh", "-c", script]].concat());
        container
    }

    /// What a command in a container says.
    fn exec(&self, container: &str, script: &str) -> String {
        self.docker().ok(&["exec", container, "sh", "-c", script])
    }

    fn wait_until(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let give_up = Instant::now() + Duration::from_secs(100);
        while !done(self) {
            assert!(
                Instant::now() < give_up,
                "in vain waited until {what}; the log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// No process of a container has these words in its command line.
    fn assert_gone(&self, container: &str, words: &str) {
        self.wait_until("the hook's process is gone", |site| {
            !site
                .docker()
                .ok(&["top", container, "-o", "pid,args"])
                .contains(words)
        });
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let names = self.docker().lines(&["ps", "-aq"]);
        for name in names {
            self.docker().run(&["rm", "-f", &name]);
        }
        self.end("-TERM");
        if std::thread::panicking() {
            println!("--- the daemon's log\n{}", self.log());
        }
        // Volumes, then the filesystem below them.
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let below: Vec<&str> = table
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .filter(|at| Path::new(at).starts_with(&self.dir) && Path::new(at) != self.dir)
            .collect();
        for at in below.into_iter().rev() {
            let _ = Command::new("umount").args(["-l", at]).status();
        }
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn shell(command: &[&str]) {
    let output = Command::new(command[0])
        .args(&command[1..])
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
}

const PRE: &str = "echo $WINDLASS_HOOK $WINDLASS_VOLUME >>$WINDLASS_PATH/log";

#[test]
fn hooks_run_before_and_after_a_snapshot_and_what_goes_wrong_with_them_is_told() {
    let mut site = skip_unless!(Site::on("btrfs"));
    let name = site.name.clone();
    let post = format!("hook.post={PRE}");
    let pre = format!("hook.pre={PRE}; echo ready");
    site.docker()
        .ok(&["volume", "create", "-d", &name, "-o", &pre, "-o", &post, "vol"]);
    let files = site.files("vol");
    let log = || std::fs::read_to_string(files.join("log")).unwrap_or_default();
    let forget = || std::fs::remove_file(files.join("log")).unwrap_or_default();
    let took = |name: &str| site_has(&site, &format!("vol@{name}"));

    // Nobody uses it: nobody is there to be asked, and nobody writes.
    let said = text(
        &site
            .windlass(&["snapshot", "create", "vol", "--name", "idle"])
            .stderr,
    );
    assert!(said.contains("no container that uses volume vol runs"), "{said}");
    assert_eq!(site.hooks_of("vol@idle"), "no-container");

    // The hook before it is in the snapshot, the one after it is not.
    let container = site.container("c", "vol", "windlass-box", "exec sleep 1000");
    site.say(&["snapshot", "create", "vol", "--name", "one"]);
    assert_eq!(site.in_snapshot("vol@one", "log"), "pre vol\n");
    assert_eq!(log(), "pre vol\npost vol\n");
    assert_eq!(site.hooks_of("vol@one"), "done");

    forget();
    site.say(&["snapshot", "create", "vol", "--name", "bare", "--no-hooks"]);
    assert_eq!(
        (log().as_str(), site.hooks_of("vol@bare")),
        ("", "left-out".into())
    );

    // One that fails: no snapshot, what it said, and the one after it has run.
    let set = |site: &Site, what: &str| drop(site.say(&["policy", "set", "vol", what]));
    set(
        &site,
        "hook.pre=echo began >>/data/log; echo no such luck >&2; exit 3",
    );
    let said = site.fails(&["snapshot", "create", "vol", "--name", "two"]);
    for part in [
        "snapshot vol@two",
        "status 3",
        "no such luck",
        "-c:",
        "--no-hooks",
    ] {
        assert!(said.contains(part), "{part} is not said: {said}");
    }
    assert!(!took("two"));
    assert_eq!(log(), "began\npost vol\n");
    assert!(
        !site.log().contains("echo no such luck"),
        "commands are nobody's business"
    );
    set(&site, "hook.on-error=continue");
    let output = site.windlass(&["snapshot", "create", "vol", "--name", "three"]);
    assert!(output.status.success() && text(&output.stderr).contains("no such luck"));
    assert_eq!(site.hooks_of("vol@three"), "failed");
    set(&site, "hook.on-error=fail");

    // One that hangs is ended, with its children.
    forget();
    set(&site, "hook.timeout=2s");
    set(&site, "hook.pre=echo still at it; sleep 1000.5 | cat");
    let said = site.fails(&["snapshot", "create", "vol", "--name", "four"]);
    for part in ["longer than 2 s", "it was ended", "still at it"] {
        assert!(said.contains(part), "{part} is not said: {said}");
    }
    site.assert_gone(&container, "1000.5");
    assert!(!took("four"));
    assert_eq!(log(), "post vol\n");

    // What goes on in the background is not waited for.
    set(&site, "hook.timeout=90s");
    set(&site, "hook.pre=sleep 1000.25 &");
    site.say(&["snapshot", "create", "vol", "--name", "five"]);
    assert_eq!(site.hooks_of("vol@five"), "done");

    // As another user, in a container that is named; in one that is not there.
    set(&site, "hook.pre=id -un");
    set(&site, "hook.post=id -un >/tmp/who");
    set(&site, "hook.user=nobody");
    set(&site, &format!("hook.container={container}"));
    site.say(&["snapshot", "create", "vol", "--name", "six"]);
    assert_eq!(site.exec(&container, "cat /tmp/who"), "nobody");
    set(&site, "hook.container=elsewhere");
    let said = site.fails(&["snapshot", "create", "vol", "--name", "seven"]);
    assert!(said.contains("no container elsewhere runs"), "{said}");
    assert!(said.contains(&format!("{container} uses the volume")), "{said}");
    site.say(&["policy", "unset", "vol", "hook.container"]);
    set(&site, "hook.user=nobody.at.all");
    let said = site.fails(&["snapshot", "create", "vol", "--name", "eight"]);
    assert!(said.contains("nobody.at.all"), "the engine's own words: {said}");
    site.say(&["policy", "unset", "vol", "hook.user"]);

    // A failing hook after it takes nothing away, and is told.
    set(&site, "hook.pre=true");
    set(&site, "hook.post=echo cannot unlock; exit 1");
    let output = site.windlass(&["snapshot", "create", "vol", "--name", "nine"]);
    let said = text(&output.stderr);
    assert!(
        output.status.success() && said.contains("cannot unlock"),
        "{said}"
    );
    assert!(took("nine"));

    // The container goes while its hook runs.
    set(&site, &format!("hook.post={PRE}"));
    set(&site, "hook.pre=touch /data/begun; sleep 1000");
    let mut snapshot = site.command(&["snapshot", "create", "vol", "--name", "ten"]);
    let snapshot = snapshot.stderr(Stdio::piped()).spawn().expect("it runs");
    site.wait_until("the hook runs", |_| files.join("begun").exists());
    site.docker().ok(&["rm", "-f", &container]);
    let output = snapshot.wait_with_output().expect("it ends");
    assert!(!output.status.success(), "{}", text(&output.stderr));
    assert!(!took("ten"));
    assert!(
        site.log().contains("is gone: the hook after vol@ten"),
        "{}",
        site.log()
    );

    // The daemon is killed while it waits for the hook: the next one runs what must come after.
    forget();
    std::fs::remove_file(files.join("begun")).expect("it is there");
    let container = site.container("d", "vol", "windlass-box", "exec sleep 1000");
    let mut snapshot = site.command(&["snapshot", "create", "vol", "--name", "eleven"]);
    let snapshot = snapshot.stderr(Stdio::null()).spawn().expect("it runs");
    site.wait_until("the hook runs", |_| files.join("begun").exists());
    site.end("-KILL");
    assert!(!snapshot.wait_with_output().expect("it ends").status.success());
    site.start();
    site.wait_until("the hook after it has run", |_| log() == "post vol\n");
    assert!(!took_now(&site, "eleven"));
    site.wait_until("nothing is owed", |site| {
        let database = rusqlite::Connection::open(site.dir.join("root/state.db")).expect("opens");
        let owed = database.query_row("SELECT count(*) FROM duty", [], |row| row.get::<_, i64>(0));
        owed.expect("a table") == 0
    });

    // By schedule, they run too.
    forget();
    site.exec(&container, "true");
    set(&site, &pre);
    set(&site, "snapshot.schedule=every 1m");
    site.end("-TERM");
    let database = rusqlite::Connection::open(site.dir.join("root/state.db")).expect("opens");
    let id: String = database
        .query_row("SELECT id FROM volume WHERE name = 'vol'", [], |row| row.get(0))
        .expect("a volume");
    database
        .execute(
            "INSERT OR REPLACE INTO past (volume, task, record) VALUES (?1, 'snapshot', ?2)",
            [
                id.as_str(),
                r#"{"succeeded":"2026-01-01T00:00:00Z","tried":"2026-01-01T00:00:00Z","failures":0}"#,
            ],
        )
        .expect("recorded");
    drop(database);
    site.start();
    site.wait_until("a snapshot by schedule, with its hooks", |site| {
        let shown = site.json(&["inspect", "vol"]);
        let all = shown["Snapshots"].as_object().expect("a map").clone();
        let mut scheduled = all.into_iter().filter(|(name, _)| name.starts_with("scheduled-"));
        scheduled.any(|(_, snapshot)| snapshot["DriverInfo"]["Hooks"] == "done")
    });
    site.say(&["policy", "unset", "vol", "snapshot.schedule"]);

    // Without the engine's socket, nothing is taken, and the remedy is named.
    site.end("-TERM");
    site.start_with(Path::new("/dev/null"));
    let said = site.fails(&["snapshot", "create", "vol", "--name", "twelve"]);
    assert!(
        said.contains("/dev/null is no socket") && said.contains("docker-api"),
        "{said}"
    );
    site.end("-TERM");
    site.start_with(&site.dir.join("nobody.sock"));
    let said = site.fails(&["snapshot", "create", "vol", "--name", "twelve"]);
    assert!(said.contains("is not there"), "{said}");
    assert!(!took_now(&site, "twelve"));
}

fn site_has(site: &Site, snapshot: &str) -> bool {
    site.windlass(&["snapshot", "inspect", snapshot]).status.success()
}

fn took_now(site: &Site, name: &str) -> bool {
    site_has(site, &format!("vol@{name}"))
}

/// Where a snapshot is a copy, it is read between the hooks, and the upload is not waited for.
#[test]
fn a_backup_of_a_volume_with_hooks_is_of_what_they_have_made_ready() {
    let site = skip_unless!(Site::on("ext4"));
    let name = site.name.clone();
    let (pre, post) = (format!("hook.pre={PRE}"), format!("hook.post={PRE}"));
    site.docker()
        .ok(&["volume", "create", "-d", &name, "-o", &pre, "-o", &post, "vol"]);
    site.container("c", "vol", "windlass-box", "exec sleep 1000");
    let destination = format!("vfs://{}", site.dir.join("backups").display());
    std::fs::create_dir(site.dir.join("backups")).expect("a directory");
    let url = site.say(&["backup", "create", "vol", "--dest", &destination]);
    let live = || std::fs::read_to_string(site.files("vol").join("log")).expect("written");
    assert_eq!(live(), "pre vol\npost vol\n");
    site.say(&["create", "w", "--backup", &url]);
    let restored = std::fs::read_to_string(site.files("w").join("log")).expect("restored");
    assert_eq!(restored, "pre vol\n", "the hook after it ran once all was read");
    let left = site.json(&["inspect", "vol"])["Snapshots"].clone();
    assert_eq!(
        left,
        serde_json::json!({}),
        "the snapshot was for the backup alone"
    );
    // Without hooks, the volume is read as it is.
    let url = site.say(&["backup", "create", "vol", "--dest", &destination, "--no-hooks"]);
    assert_eq!(live(), "pre vol\npost vol\n");
    assert_eq!(site.json(&["backup", "inspect", &url])["Consistency"], "per-file");
}

/// The hooks of all volumes run before the first snapshot, and those after once the last is there; by a Compose project too.
#[test]
fn a_checkpoint_is_taken_between_the_hooks_of_all_its_volumes() {
    let site = skip_unless!(Site::on("btrfs"));
    let note = "echo $WINDLASS_HOOK $WINDLASS_VOLUME | tee -a /data/log >>/more/log";
    for volume in ["one", "two"] {
        site.say(&["create", volume, "--hook.pre", note, "--hook.post", note]);
    }
    let container = format!("{}-c", site.name);
    let label = "com.docker.compose.project=shop";
    site.docker().ok(&["volume", "create", "local-volume"]);
    site.docker().ok(&[
        "run",
        "-d",
        "--init",
        "--network",
        "none",
        "--name",
        &container,
        "--label",
        label,
        "-v",
        "one:/data",
        "-v",
        "two:/more",
        "-v",
        "local-volume:/local",
        "windlass-box",
        "sleep",
        "1000",
    ]);
    let output = site.windlass(&["checkpoint", "create", "point", "--compose-project", "shop"]);
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("local-volume"), "{said}");
    for volume in ["one", "two"] {
        assert_eq!(
            site.in_snapshot(&format!("{volume}@point"), "log"),
            "pre one\npre two\n"
        );
        let live = std::fs::read_to_string(site.files(volume).join("log")).expect("written");
        assert_eq!(live, "pre one\npre two\npost two\npost one\n");
        let shown = site.json(&["snapshot", "inspect", &format!("{volume}@point")]);
        assert_eq!(
            (&shown["DriverInfo"]["Hooks"], &shown["DriverInfo"]["Checkpoint"]),
            (&"done".into(), &"point".into())
        );
    }
    let shown = site.json(&["checkpoint", "inspect", "point"]);
    assert_eq!(
        shown["Moment"], "in-turn",
        "a container uses them, and directories cannot be brought to rest"
    );
    assert!(site.fails(&["checkpoint", "revert", "point"]).contains("in use"));

    // One hook that fails: no snapshot of any volume.
    site.say(&["policy", "set", "two", "hook.pre=exit 7"]);
    let said = site.fails(&["checkpoint", "create", "none", "one", "two"]);
    assert!(
        said.contains("checkpoint none") && said.contains("status 7"),
        "{said}"
    );
    for volume in ["one", "two"] {
        assert!(!site_has(&site, &format!("{volume}@none")));
        let live = std::fs::read_to_string(site.files(volume).join("log")).expect("written");
        assert!(live.ends_with("pre one\npost two\npost one\n"), "{live}");
    }

    // Back to it, all of them; and clones.
    site.docker().ok(&["rm", "-f", &container]);
    site.say(&["checkpoint", "revert", "point"]);
    assert_eq!(
        site.say(&["checkpoint", "clone", "point", "--suffix", "-test"]),
        "one-test\ntwo-test"
    );
    for volume in ["one", "two", "one-test", "two-test"] {
        let now = std::fs::read_to_string(site.files(volume).join("log")).expect("there");
        assert_eq!(now, "pre one\npre two\n", "{volume}");
    }
    let said = site.fails(&["checkpoint", "create", "other", "--compose-project", "nobody"]);
    assert!(said.contains("nobody"), "{said}");
    site.say(&["checkpoint", "delete", "point"]);
    assert_eq!(site.json(&["checkpoint", "list"]), serde_json::json!([]));
    assert_eq!(site.json(&["snapshot", "list"]), serde_json::json!({}));
}

/// The plugin has the engine's socket only where somebody gave it one, and starts without.
#[test]
fn the_plugin_runs_hooks_once_it_is_given_the_engines_socket() {
    let plugin = skip_unless!(Plugin::enabled());
    let volume = plugin.volume("vol", &["hook.pre=echo $WINDLASS_VOLUME >/data/pre"]);
    let refused = plugin.windlass(&["snapshot", "create", &volume]);
    let said = text(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("docker-api.source"),
        "{said}"
    );
    plugin.disable();
    plugin.set(&["docker-api.source=/run/docker.sock"]);
    plugin.enable();
    let container = plugin.start("c", &volume, "exec sleep 1000");
    plugin.say(&["snapshot", "create", &volume, "--name", "s"]);
    let shown = plugin.json(&["snapshot", "inspect", &format!("{volume}@s")]);
    assert_eq!(shown["DriverInfo"]["Hooks"], "done");
    let wrote = plugin.docker().ok(&["exec", &container, "cat", "/data/pre"]);
    assert_eq!(wrote, volume);
    plugin.remove_container(&container);
}

/// Checks itself: pgbench keeps three sums and a history equal, in each of its transactions.
const BALANCED: &str = "SELECT count(DISTINCT s) = 1 AND min(h) > 0 FROM (SELECT sum(abalance) s, 1 h FROM pgbench_accounts \
    UNION ALL SELECT sum(bbalance), 1 FROM pgbench_branches UNION ALL SELECT sum(tbalance), 1 FROM pgbench_tellers \
    UNION ALL SELECT sum(delta), count(*) FROM pgbench_history) sums";

/// Starts a PostgreSQL on a directory of a volume; its container.
fn postgres(site: &Site, name: &str, volume: &str, dir: &str) -> String {
    let script = format!(
        "set -e; [ -e {dir}/PG_VERSION ] || initdb --data-checksums --auth=trust -D {dir} >/dev/null; \
         rm -f {dir}/postmaster.pid; exec postgres -D {dir} -c unix_socket_directories=/tmp -c max_wal_size=64MB"
    );
    let container = site.container(name, volume, "windlass-postgres", &script);
    site.wait_until("PostgreSQL answers", |site| {
        let ready = [
            "exec",
            container.as_str(),
            "psql",
            "-h",
            "/tmp",
            "-Atc",
            "SELECT 1",
            "postgres",
        ];
        let answers = site.docker().run(&ready).status.success();
        let runs = site.docker().run(&["top", &container]).status.success();
        assert!(runs, "{}", text(&site.docker().run(&["logs", &container]).stderr));
        answers
    });
    container
}

/// The sums agree, and nothing is missing that had been acknowledged.
fn is_whole(site: &Site, container: &str, acknowledged: u64) {
    assert_eq!(
        query(site, container, BALANCED),
        "t",
        "the sums of {container} differ"
    );
    let after: u64 = query(site, container, "SELECT count(*) FROM pgbench_history")
        .parse()
        .expect("a number");
    assert!(
        after >= acknowledged,
        "{after} of the {acknowledged} transactions that were acknowledged"
    );
}

fn query(site: &Site, container: &str, sql: &str) -> String {
    site.docker()
        .ok(&["exec", container, "psql", "-h", "/tmp", "-Atc", sql, "postgres"])
}

/// Has pgbench write for as long as the container lives.
fn load(site: &Site, container: &str) {
    site.exec(container, "pgbench -h /tmp -i -q -s 2 postgres 2>&1");
    let bench = "pgbench -h /tmp -c 3 -j 1 -T 3000 postgres >/tmp/bench 2>&1";
    site.docker().ok(&["exec", "-d", container, "sh", "-c", bench]);
    wait_for_more(site, container);
}

fn wait_for_more(site: &Site, container: &str) {
    let rows = || -> u64 {
        let said = query(site, container, "SELECT count(*) FROM pgbench_history");
        said.parse().expect("a number")
    };
    let before = rows();
    site.wait_until("transactions are made", |_| rows() > before + 50);
}

fn database_volume(site: &Site) {
    let owner = site.docker().ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "windlass-postgres",
        "id",
        "-u",
    ]);
    site.say(&["create", "pg", "--uid", &owner, "--mode", "0700"]);
}

fn with_postgres(mut site: Site) -> Result<Site, String> {
    let here = Docker::here()?;
    if !here
        .run(&["image", "inspect", "windlass-postgres"])
        .status
        .success()
    {
        return Err("the image windlass-postgres is missing; 'make postgres' makes it".to_owned());
    }
    site.engine.load(&here, "windlass-postgres");
    Ok(site)
}

/// The recipe for volumes whose snapshots are of one moment: a checkpoint before it shortens the recovery after it.
#[test]
fn a_postgres_under_load_comes_back_from_a_snapshot() {
    let site = skip_unless!(Site::on("btrfs").and_then(with_postgres));
    database_volume(&site);
    site.say(&[
        "policy",
        "set",
        "pg",
        "hook.pre=psql -h /tmp -c CHECKPOINT postgres",
    ]);
    site.say(&["policy", "set", "pg", "hook.user=postgres"]);
    let first = postgres(&site, "first", "pg", "/data/pg");
    load(&site, &first);
    for round in ["one", "two", "three"] {
        let before: u64 = query(&site, &first, "SELECT count(*) FROM pgbench_history")
            .parse()
            .expect("a number");
        site.say(&["snapshot", "create", "pg", "--name", round]);
        wait_for_more(&site, &first);
        assert_eq!(site.hooks_of(&format!("pg@{round}")), "done");
        let volume = format!("pg-{round}");
        site.say(&["create", &volume, "--from", &format!("pg@{round}")]);
        let second = postgres(&site, round, &volume, "/data/pg");
        is_whole(&site, &second, before);
        site.docker().ok(&["stop", "-t", "100", &second]);
        let check = "pg_checksums --check -D /data/pg";
        let volume = format!("{volume}:/data");
        site.docker().ok(&[
            "run",
            "--rm",
            "--network",
            "none",
            "-v",
            &volume,
            "windlass-postgres",
            "sh",
            "-c",
            check,
        ]);
    }
}

/// The recipe for volumes whose snapshots are copies: what was read while it was written is no database. A base backup within
/// the volume is, whatever else the copy holds.
#[test]
fn a_postgres_on_a_filesystem_without_snapshots_comes_back_from_its_base_backup() {
    let site = skip_unless!(Site::on("ext4").and_then(with_postgres));
    database_volume(&site);
    let pre = "hook.pre=cd /data && rm -rf base.new && pg_basebackup -h /tmp -D base.new -c fast -X stream && rm -rf base && mv base.new base";
    site.say(&["policy", "set", "pg", pre]);
    site.say(&["policy", "set", "pg", "hook.user=postgres"]);
    let first = postgres(&site, "first", "pg", "/data/pg");
    load(&site, &first);
    let before: u64 = query(&site, &first, "SELECT count(*) FROM pgbench_history")
        .parse()
        .expect("a number");
    let destination = format!("vfs://{}", site.dir.join("backups").display());
    std::fs::create_dir(site.dir.join("backups")).expect("a directory");
    let url = site.say(&["backup", "create", "pg", "--dest", &destination]);
    site.say(&["create", "back", "--backup", &url]);
    let second = postgres(&site, "second", "back", "/data/base");
    is_whole(&site, &second, before);
}
