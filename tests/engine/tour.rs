//! README's tour of a database that looks after itself, done as it is printed: each command that stands there is run, and what stands
//! below it must be what is said, but for times, sizes and names that no two hosts share.
//!
//! What this leaves out is the waiting: "the next day" is told to the daemon by its records. The image postgres:17 is Debian's
//! PostgreSQL (tour.Dockerfile), since there may be no registry; S3 is a SeaweedFS on this machine.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::docker::{package, text};
use crate::plugin::Plugin;
use crate::s3::{ACCESS_KEY, SECRET_KEY, Server};
use crate::skip_unless;

const IMAGE: &str = "windlass-tour";
/// What stands in the README, and is another word here.
const SNAPSHOT: &str = "scheduled-20261122T100000Z";
const BACKUP: &str = "s3://my-backups@eu-central-1/db?volume=pgdata&backup=1dff9033a133dbfa";
/// A first start of a database takes a while on a busy machine.
const PATIENCE: Duration = Duration::from_secs(400);

/// A command of the tour and what it says.
struct Step {
    command: String,
    said: String,
}

/// The commands of the section, in their order.
fn steps() -> Vec<Step> {
    let page = fs::read_to_string(package("README.md")).expect("README.md");
    let section = page
        .split("## A database that looks after itself\n")
        .nth(1)
        .expect("the tour");
    let section = section.split("\n## ").next().expect("its end");
    let mut steps: Vec<Step> = Vec::new();
    let mut within = false;
    for line in section.lines() {
        match line.strip_prefix("    ") {
            Some(printed) if printed.starts_with("$ ") => {
                within = true;
                steps.push(Step {
                    command: printed[2..].to_owned(),
                    said: String::new(),
                });
            }
            Some(printed) if within => {
                let step = steps.last_mut().expect("a command before");
                step.said.push_str(printed);
                step.said.push('\n');
            }
            _ => within = false,
        }
    }
    assert!(steps.len() > 20, "the tour is found");
    steps
}

/// The words that two hosts share: no times, no sizes, no ids.
fn words(said: &str) -> Vec<Vec<String>> {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let line = |line: &str| {
        let words = line.split_whitespace().filter(|word| !UNITS.contains(word));
        words
            .map(|word| {
                match word
                    .strip_prefix("scheduled-backup-")
                    .or(word.strip_prefix("scheduled-"))
                {
                    Some(moment) => word.replace(moment, "#"),
                    None if word.starts_with("s3://") => "s3://#".to_owned(),
                    // An age, a size, a moment: `10h`, `41.6`, `2026-11-23T00:00:00Z`. A count of rows is what it is.
                    None if word.starts_with(|c: char| c.is_ascii_digit()) && word != "100000" => {
                        "#".to_owned()
                    }
                    None => word.to_owned(),
                }
            })
            .collect()
    };
    said.lines().map(line).collect()
}

/// A person's shell: what it is told stays, from command to command.
struct Shell {
    child: Child,
    orders: ChildStdin,
    lines: Receiver<String>,
}

impl Shell {
    fn start(bin: &Path, variables: &[(&str, &str)]) -> Self {
        let path = std::env::var("PATH").expect("text");
        let mut child = Command::new("bash")
            .current_dir(package(""))
            .env("PATH", format!("{}:{path}", bin.display()))
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash");
        let (send, lines) = channel();
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        std::thread::spawn(move || {
            out.lines()
                .map_while(Result::ok)
                .try_for_each(|line| send.send(line))
        });
        Self {
            orders: child.stdin.take().expect("a pipe"),
            child,
            lines,
        }
    }

    /// Runs a command, which must succeed; what it says.
    fn run(&mut self, command: &str) -> String {
        writeln!(self.orders, "{{ {command}; }} </dev/null\necho \"@@@ $?\"").expect("the shell listens");
        let mut said = String::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no end: {command}; so far: {said}"));
            match line.strip_prefix("@@@ ") {
                Some("0") => return said,
                Some(code) => panic!("{command}: exit code {code}; it said: {said}"),
                None => said.push_str(&(line + "\n")),
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A filesystem whose snapshots are of one moment, where the state directory of a plugin is.
struct Disk {
    at: PathBuf,
    image: tempfile::NamedTempFile,
}

impl Disk {
    /// Makes it the state directory of a plugin that is enabled, and leaves that disabled.
    fn below(plugin: &Plugin) -> Self {
        plugin.disable();
        let disk = Self {
            at: plugin.state().to_owned(),
            image: tempfile::NamedTempFile::new().expect("a file"),
        };
        disk.image.as_file().set_len(2 << 30).expect("a sparse file");
        let image = disk.image.path().to_str().expect("text");
        let at = disk.at.to_str().expect("text");
        for command in [
            vec!["mkfs.btrfs", "-q", image],
            vec!["mount", "-o", "loop", image, at],
        ] {
            let output = Command::new(command[0])
                .args(&command[1..])
                .output()
                .expect(command[0]);
            assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
        }
        fs::write(disk.at.join("windlass.toml"), "log = \"/state/daemon.log\"\n").expect("a settings file");
        disk
    }
}

/// After the plugin is gone, whose directory it was.
impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
        // Below the mount is what the plugin had there before, which nobody could remove meanwhile.
        let _ = fs::remove_dir_all(&self.at);
    }
}

/// What a person types, for this test's plugin and this machine's programs.
fn programs(plugin: &Plugin) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let put = |name: &str, script: String| {
        let path = dir.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    };
    put("sudo", "exec \"$@\"".to_owned());
    let (program, socket) = (
        env!("CARGO_BIN_EXE_windlass"),
        plugin.state().join("windlass.sock"),
    );
    put(
        "windlass",
        format!(
            "exec {program} --socket {} --output table \"$@\"",
            socket.display()
        ),
    );
    let path = std::env::var_os("PATH").expect("a path");
    let docker = std::env::split_paths(&path)
        .map(|dir| dir.join("docker"))
        .find(|path| path.is_file());
    let docker = docker.expect("docker").display().to_string();
    put(
        "docker",
        format!(
            "if [ \"$1\" = compose ] && ! {docker} compose version >/dev/null 2>&1; then shift; exec docker-compose \"$@\"; fi\n\
             exec {docker} \"$@\""
        ),
    );
    dir
}

fn compose() -> Result<(), String> {
    let runs = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output();
        output.is_ok_and(|output| output.status.success())
    };
    match runs("docker", &["compose", "version"]) || runs("docker-compose", &["version"]) {
        true => Ok(()),
        false => Err("there is no docker compose; packaging/setup installs docker-compose".to_owned()),
    }
}

/// Makes the image, where it is not there.
fn image(plugin: &Plugin) {
    if plugin.docker().run(&["image", "inspect", IMAGE]).status.success() {
        return;
    }
    let recipe = fs::File::open(package("tests/engine/tour.Dockerfile")).expect("a recipe");
    let built = Command::new("docker")
        .args(["build", "--quiet", "--tag", IMAGE, "-"])
        .stdin(recipe)
        .output()
        .expect("docker");
    assert!(built.status.success(), "{}", text(&built.stderr));
}

/// Whatever becomes of the test, the containers go before the plugin.
struct Project<'a> {
    plugin: &'a Plugin,
    name: String,
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        let (docker, label) = (
            self.plugin.docker(),
            format!("label=com.docker.compose.project={}", self.name),
        );
        for container in docker.lines(&["ps", "-aq", "--filter", &label]) {
            docker.run(&["rm", "-f", "-v", &container]);
        }
        for network in docker.lines(&["network", "ls", "-q", "--filter", &label]) {
            docker.run(&["network", "rm", &network]);
        }
    }
}

/// A day without the waiting: what was done last was done yesterday.
fn the_next_day(plugin: &Plugin, shell: &mut Shell, volume: &str) {
    shell.run("docker compose stop");
    plugin.disable();
    let database = rusqlite::Connection::open(plugin.state().join("state.db")).expect("opens");
    let moment = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(25);
    let moment = jiff::Timestamp::from_second(moment.as_second()).expect("a moment");
    let record = serde_json::json!({"succeeded": moment.to_string(), "tried": moment.to_string()});
    for task in ["snapshot", "backup"] {
        let put = database.execute(
            "INSERT OR REPLACE INTO past (volume, task, record) SELECT id, ?2, ?3 FROM volume WHERE name = ?1",
            [volume, task, &record.to_string()],
        );
        assert_eq!(put.expect("recorded"), 1);
    }
    drop(database);
    plugin.enable();
    shell.run("docker compose start");
    let give_up = Instant::now() + PATIENCE;
    let passed = || {
        let shown = plugin.json(&["inspect", volume]);
        let snapshots = shown["Snapshots"].as_object().expect("a map").keys();
        let made = ["snapshot", "backup"]
            .iter()
            .all(|task| shown["Schedules"][task]["SucceededAt"] != moment.to_string());
        made && shown["Health"] == "ok"
            && snapshots.filter(|name| name.starts_with("scheduled-")).count() == 1
    };
    while !passed() {
        assert!(Instant::now() < give_up, "the night does not pass");
        std::thread::sleep(Duration::from_millis(500));
    }
    shell.run("until docker compose exec -T db pg_isready -q -h 127.0.0.1; do sleep 1; done");
}

#[test]
fn the_readme_s_database_comes_back_by_a_snapshot_and_by_a_backup() {
    skip_unless!(compose());
    let first = skip_unless!(Plugin::enabled());
    let server = skip_unless!(Server::get().ok_or_else(|| "there is no S3 server".to_owned()));
    image(&first);
    // No turn of a schedule may come in the middle of it: the tour has one snapshot and one backup.
    while jiff::Timestamp::now().as_second() % 3_600 >= 52 * 60 {
        std::thread::sleep(Duration::from_secs(1));
    }
    let bucket = format!("tour-{}", std::process::id());
    server.make_bucket(&bucket);
    let destination = format!("s3://{bucket}@us-east-1/db");
    let volume = first.called("pgdata");
    let project = first.called("tour");

    let steps = steps();
    let other_host = steps
        .iter()
        .position(|step| step.command == "sudo windlass backup list")
        .expect("the other host");
    let (here, there) = steps.split_at(other_host);

    let disk = Disk::below(&first);
    walk(
        &first,
        here,
        &volume,
        &project,
        &destination,
        &server.endpoint,
        true,
    );
    drop(first);
    drop(disk);

    let second = Plugin::enabled().expect("as before");
    let disk = Disk::below(&second);
    walk(
        &second,
        there,
        &volume,
        &project,
        &destination,
        &server.endpoint,
        false,
    );
    drop(second);
    drop(disk);
}

/// Goes through steps of the tour on one host.
fn walk(
    plugin: &Plugin,
    steps: &[Step],
    volume: &str,
    project: &str,
    destination: &str,
    endpoint: &str,
    is_first: bool,
) {
    let endpoint = format!("WINDLASS_BACKUP_S3_ENDPOINT={endpoint}");
    plugin.set(&[&endpoint]);
    let bin = programs(plugin);
    let variables = [
        ("VOLUME", volume),
        ("WINDLASS_PLUGIN", &plugin.name()),
        ("POSTGRES_IMAGE", IMAGE),
        ("COMPOSE_PROJECT_NAME", project),
    ];
    let mut shell = Shell::start(bin.path(), &variables);
    let _project = Project {
        plugin,
        name: project.to_owned(),
    };
    let state = plugin.state().display().to_string();
    let mut words_here = vec![
        ("/var/lib/windlass", state),
        (
            "plugin disable -f windlass",
            format!("plugin disable -f {}", plugin.name()),
        ),
        ("plugin set windlass", format!("plugin set {}", plugin.name())),
        (
            "enable --timeout 0 windlass",
            format!("enable --timeout 0 {}", plugin.name()),
        ),
        ("s3://my-backups@eu-central-1/db", destination.to_owned()),
        ("my-key", ACCESS_KEY.to_owned()),
        ("my-secret", SECRET_KEY.to_owned()),
    ];
    if is_first {
        plugin.enable();
    } else {
        // What the README says of the other host: the same destination, password and keys.
        fs::write(plugin.state().join("password"), "correct horse battery staple\n").expect("written");
        let dest = format!("WINDLASS_BACKUP_DEST={destination}");
        let (key, secret) = (
            format!("AWS_ACCESS_KEY_ID={ACCESS_KEY}"),
            format!("AWS_SECRET_ACCESS_KEY={SECRET_KEY}"),
        );
        plugin.set(&[
            "WINDLASS_BACKUP_PASSWORD_FILE=/state/password",
            &dest,
            &key,
            &secret,
        ]);
        plugin.enable();
        shell.run("cd examples/postgres");
    }
    for step in steps {
        if step.command == "sudo windlass health" {
            the_next_day(plugin, &mut shell, volume);
            let shown = plugin.json(&["inspect", volume]);
            let snapshots = shown["Snapshots"].as_object().expect("a map");
            let taken = snapshots
                .keys()
                .find(|name| name.starts_with("scheduled-"))
                .expect("one");
            words_here.push((SNAPSHOT, taken.clone()));
        }
        let mut command = step.command.clone();
        if command.contains(BACKUP) {
            let backups = plugin.json(&["backup", "list"]);
            let (url, backup) = backups.as_object().expect("a map").iter().next().expect("one");
            assert_ne!(backup["Encrypted"], false, "{backup}");
            command = command.replace(BACKUP, url);
        }
        for (printed, here) in &words_here {
            command = command.replace(printed, here);
        }
        command = command
            .replace("pgdata@", &format!("{volume}@"))
            .replace("list pgdata", &format!("list {volume}"));
        let said = shell.run(&command);
        let said = said.replace(volume, "pgdata").replace(&plugin.name(), "windlass");
        assert_eq!(words(&said), words(&step.said), "$ {command}\n{said}");
    }
}
