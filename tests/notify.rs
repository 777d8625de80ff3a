//! What the world outside is told: webhooks, pings and the feed of events, by a real daemon and real servers on loopback, those that
//! hang and those that refuse among them.

mod daemon;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemon::{Daemon, Home, shell, text, wait_for};
use serde_json::Value;

/// A request as a server saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    method: String,
    target: String,
    kind: String,
    body: String,
}

/// What a server does with the n-th request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Status(u16),
    /// It never answers.
    Hang,
}

/// An HTTP server on loopback that remembers what it was asked.
struct Server {
    origin: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    fn start(answer: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (seen_by, answer) = (seen.clone(), Arc::new(answer));
        // The thread ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (seen, answer) = (seen_by.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &seen, &*answer));
            }
        });
        Self { origin, seen }
    }

    fn good() -> Self {
        Self::start(|_| Answer::Status(200))
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }

    fn targets(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.target).collect()
    }

    /// The kinds of the events that were posted.
    fn actions(&self) -> Vec<String> {
        let seen = self.seen();
        let events = seen.iter().map(|seen| {
            let event: Value = serde_json::from_str(&seen.body).expect("JSON");
            event["Action"].as_str().expect("a kind").to_owned()
        });
        events.collect()
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Seen>>, answer: &dyn Fn(usize) -> Answer) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let mut words = line.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let (mut length, mut kind) = (0, String::new());
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok().filter(|read| *read > 0)?;
            let Some((name, value)) = header.trim_end().split_once(": ") else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().ok()?,
                "content-type" => kind = value.to_owned(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let turn = {
            let mut seen = seen.lock().expect("no panic");
            seen.push(Seen {
                method,
                target,
                kind,
                body: String::from_utf8(body).ok()?,
            });
            seen.len() - 1
        };
        match answer(turn) {
            Answer::Status(status) => write!(
                stream,
                "HTTP/1.1 {status} X\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
            )
            .ok()?,
            Answer::Hang => std::thread::sleep(Duration::from_secs(300)),
        }
    }
}

fn metric(home: &Home, series: &str) -> f64 {
    let (_, body) = daemon::request(&home.admin_socket(), "GET", "/metrics", b"").expect("an answer");
    let text = String::from_utf8(body).expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.map_or(0.0, |value| value.trim().parse().expect("a number"))
}

fn notified(home: &Home, kind: &str, result: &str) -> f64 {
    let series = format!("windlass_notifications_total{{kind=\"{kind}\",result=\"{result}\"}}");
    metric(home, &series)
}

/// Makes the daemon believe that it did the task of the volume last so many minutes ago. It must not be running.
fn did(home: &Home, volume: &str, task: &str, minutes: i64) {
    let database = rusqlite::Connection::open(home.root().join("state.db")).expect("opens");
    let moment = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(minutes);
    let moment = jiff::Timestamp::from_second(moment.as_second()).expect("a moment");
    let record = serde_json::json!({"succeeded": moment.to_string(), "tried": moment.to_string()});
    let put = database.execute(
        "INSERT OR REPLACE INTO past (volume, task, record) SELECT id, ?2, ?3 FROM volume WHERE name = ?1",
        [volume, task, &record.to_string()],
    );
    assert_eq!(put.expect("recorded"), 1);
}

fn destination(home: &Home) -> String {
    let dir = home.path().join("backups");
    fs::create_dir_all(&dir).expect("a directory");
    format!("backup.dest=vfs://{}", dir.display())
}

#[test]
fn events_are_posted_and_pings_follow_each_task() {
    let home = Home::on("btrfs");
    let (all, some) = (
        Server::good(),
        Server::start(|turn| Answer::Status(if turn < 2 { 500 } else { 204 })),
    );
    let pings = Server::good();
    // In the file, where no list of processes shows them.
    fs::create_dir(home.root()).expect("a directory");
    let file = format!(
        "webhook-url = [\"{}/k3y?v={{volume}}\"]\nwebhook-events = [\"volume.*\", \"health.*\"]\n",
        some.origin
    );
    fs::write(home.root().join("windlass.toml"), &file).expect("written");
    let daemon = home.start_with(|command| {
        command.env("WINDLASS_BACKUP_PASSWORD", "correct horse");
    });
    let ping = format!("ping.url={}/k3y/{{volume}}/{{task}}", pings.origin);
    daemon.say(&["create", "v", "-O", &ping]);
    daemon.say(&["policy", "set", "v", &destination(&home), "backup.rpo=1h"]);
    wait_for("a ping", || (!pings.seen().is_empty()).then_some(()));
    assert_eq!(
        pings.seen(),
        [Seen {
            method: "GET".to_owned(),
            target: "/k3y/v/backup".to_owned(),
            kind: String::new(),
            body: String::new()
        }]
    );

    // What was refused for a moment came nevertheless, once, in order, and only what is wanted.
    wait_for("the events", || (some.seen().len() == 4).then_some(()));
    assert_eq!(some.targets(), ["/k3y?v=v"; 4]);
    let actions = some.actions();
    assert_eq!(
        actions,
        ["volume.create", "volume.create", "volume.create", "volume.policy"]
    );
    let last = some.seen().pop().expect("one");
    assert_eq!(
        (last.method.as_str(), last.kind.as_str()),
        ("POST", "application/json")
    );
    let printed = daemon.say(&["events", "--no-follow"]);
    assert!(
        printed.lines().any(|line| {
            let line: Value = serde_json::from_str(line).expect("JSON");
            line == serde_json::from_str::<Value>(&last.body).expect("JSON")
        }),
        "{printed}"
    );

    // A SIGHUP brings another webhook, and takes the filter away; no ping is wanted of snapshots.
    let file = format!("webhook-url = \"{}/k3y\"\n", all.origin);
    fs::write(home.root().join("windlass.toml"), &file).expect("written");
    daemon.signal("HUP");
    wait_for("the reload", || {
        all.actions().contains(&"daemon.reload".to_owned()).then_some(())
    });
    daemon.say(&[
        "policy",
        "set",
        "v",
        "ping.tasks=snapshot,backup",
        "snapshot.schedule=every 1h",
    ]);
    daemon.say(&["snapshot", "create", "v", "--name", "mine"]);
    wait_for("the snapshot's event", || {
        all.actions()
            .contains(&"snapshot.create".to_owned())
            .then_some(())
    });
    assert_eq!(pings.seen().len(), 1, "a person's own is no task of a policy");
    daemon.stop();

    // The destination is gone: the task fails, and the ping says so; its health does as well.
    fs::remove_dir_all(home.path().join("backups")).expect("removed");
    fs::write(home.path().join("backups"), "").expect("a file");
    did(&home, "v", "backup", 50);
    let daemon = home.start_with(|command| {
        command.env("WINDLASS_BACKUP_PASSWORD", "correct horse");
    });
    wait_for("a ping of failure", || (pings.seen().len() == 2).then_some(()));
    assert_eq!(pings.targets()[1], "/k3y/v/backup/fail");
    wait_for("health", || {
        all.actions().contains(&"health.failing".to_owned()).then_some(())
    });
    daemon.stop();

    // Mended, with a template of its own for failures.
    fs::remove_file(home.path().join("backups")).expect("removed");
    fs::create_dir(home.path().join("backups")).expect("a directory");
    did(&home, "v", "backup", 50);
    let daemon = home.start_with(|command| {
        command.env("WINDLASS_BACKUP_PASSWORD", "correct horse");
    });
    wait_for("the next ping", || (pings.seen().len() == 3).then_some(()));
    assert_eq!(pings.targets()[2], "/k3y/v/backup");
    fs::remove_dir_all(home.path().join("backups")).expect("removed");
    fs::write(home.path().join("backups"), "").expect("a file");
    let fail = format!("ping.fail-url={}/down?msg={{error}}", pings.origin);
    daemon.say(&["policy", "set", "v", &fail, "backup.rpo=30m"]);
    daemon.stop();
    did(&home, "v", "backup", 50);
    let daemon = home.start_with(|command| {
        command.env("WINDLASS_BACKUP_PASSWORD", "correct horse");
    });
    let down = wait_for("its own ping of failure", || pings.targets().get(3).cloned());
    assert!(
        down.starts_with("/down?msg=") && down.contains("%2F") && !down.contains(' '),
        "{down}"
    );
    wait_for("the count", || {
        (notified(&home, "ping", "delivered") == 1.0).then_some(())
    });

    // The key is shown nowhere.
    let shown = daemon.json(&["policy", "show", "v"]);
    assert_eq!(shown["ping.url"], format!("{}/…", pings.origin));
    for said in [
        daemon.say(&["inspect", "v"]),
        daemon.say(&["events", "--no-follow"]),
        daemon.ok("VolumeDriver.Get", r#"{"Name":"v"}"#).to_string(),
        home.log(),
    ] {
        assert!(!said.contains("k3y"), "{said}");
    }
    let (_, said) = daemon.fails(&["policy", "set", "v", "ping.url=k3y"]);
    assert!(said.contains("http or https") && !said.contains("k3y"), "{said}");
}

#[test]
fn a_webhook_that_hangs_or_refuses_holds_nobody_up() {
    let home = Home::new();
    let (hanging, refusing, good) = (
        Server::start(|_| Answer::Hang),
        Server::start(|_| Answer::Status(302)),
        Server::good(),
    );
    let daemon = home.start_with(|command| {
        for server in [&hanging, &refusing, &good] {
            command.args(["--webhook-url", &format!("{}/k3y", server.origin)]);
        }
    });
    // More than what waits at most.
    for _ in 0..600 {
        for change in ["protect", "unprotect"] {
            if metric(&home, "windlass_events_total") < 2.0 {
                daemon.say(&["create", "v"]);
            }
            let (status, _) = daemon.admin("POST", &format!("/v1/volumes/v/{change}"), "");
            assert_eq!(status, 200);
        }
    }
    // Where this machine is slow, some of so many may not fit for it either; but more go through than could ever wait.
    wait_for("what goes to the one that works", || {
        (good.seen().len() > 1_024).then_some(())
    });
    wait_for("the end of patience", || {
        (home
            .log()
            .contains(&format!("webhook to {}: given up", hanging.origin)))
        .then_some(())
    });
    assert!(notified(&home, "webhook", "dropped") >= 1.0);
    assert!(metric(&home, "windlass_events_dropped_total{listener=\"webhook\"}") >= 1.0);
    assert!(notified(&home, "webhook", "failed") >= 2.0);
    assert!(
        !refusing.targets().contains(&"/elsewhere".to_owned()),
        "it could be anybody's"
    );
    let log = home.log();
    for (server, words) in [
        (&hanging, "those that do not fit are dropped"),
        (&hanging, "given up"),
        (&refusing, "given up: it answered 302"),
    ] {
        let told = log
            .lines()
            .filter(|line| line.contains(&server.origin) && line.contains(words));
        assert_eq!(told.count(), 1, "{words}: told once");
    }
    assert!(!log.contains("k3y"));
    // And the daemon ends in time.
    assert!(daemon.stop() < Duration::from_secs(20));
}

/// Nothing fails here, and nothing ends: only the clock tells that a backup is late.
#[test]
fn a_backup_that_does_not_come_is_told_by_the_clock() {
    let home = Home::on("btrfs");
    let start = || {
        home.start_with(|command| {
            command
                .args(["--jobs", "1", "--backup-upload-limit", "16K"])
                .env("WINDLASS_BACKUP_PASSWORD", "correct horse");
        })
    };
    let daemon = start();
    for name in ["large", "small"] {
        daemon.say(&["create", name]);
    }
    let mut noise = vec![0; 8_000_000];
    let mut random = fs::File::open("/dev/urandom").expect("opens");
    random.read_exact(&mut noise).expect("read");
    fs::write(home.volumes().join("large/f"), noise).expect("written");
    daemon.stop();
    // Where the daemon is not there to begin at once.
    let daemon = start();
    for name in ["large", "small"] {
        daemon.say(&[
            "policy",
            "set",
            name,
            &destination(&home),
            "backup.schedule=0 0 29 2 *",
        ]);
    }
    daemon.stop();
    did(&home, "large", "backup", 300);
    did(&home, "small", "backup", 70);
    let daemon = start();
    for name in ["large", "small"] {
        daemon.say(&["policy", "unset", name, "backup.schedule"]);
        daemon.say(&["policy", "set", name, "backup.rpo=1h"]);
    }
    let events = || -> Vec<Value> {
        let printed = daemon.say(&["events", "--no-follow"]);
        printed
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    };
    let told = |kind: &str| {
        events()
            .into_iter()
            .find(|event| event["Action"] == kind && event["Object"] == "small")
    };
    let late = wait_for("the clock", || told("health.late"));
    assert_eq!(
        (&late["Attributes"]["task"], &late["Attributes"]["health"]),
        (&Value::from("backup"), &Value::from("late"))
    );
    assert!(late["Attributes"]["succeeded"].is_string() && late["Attributes"].get("error").is_none());
    let jobs = daemon.json(&["job", "list"]);
    let jobs = jobs.as_array().expect("a list");
    let running = jobs.iter().find(|job| job["State"] == "running");
    let job = running.expect("the large one")["ID"].to_string();
    daemon.say(&["job", "cancel", &job]);
    wait_for("the end of it", || told("health.ok"));
    let times = events()
        .iter()
        .filter(|event| event["Action"] == "health.late" && event["Object"] == "small")
        .count();
    assert_eq!(times, 1, "told once");
}

#[test]
fn the_feed_comes_as_server_sent_events_too() {
    let home = Home::new();
    let daemon = home.start();
    for name in ["a", "b"] {
        daemon.say(&["create", name]);
    }
    let ask = |target: &str, headers: &str| -> String {
        let mut stream = UnixStream::connect(home.admin_socket()).expect("connected");
        write!(
            stream,
            "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept: text/event-stream\r\n{headers}\r\n"
        )
        .expect("asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    };
    let answer = ask("/v1/events?follow=false", "");
    assert!(
        answer
            .to_ascii_lowercase()
            .contains("content-type: text/event-stream"),
        "{answer}"
    );
    let event = answer.split("event: volume.create\n").nth(1).expect("the first");
    let data = event
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("data: "))
        .expect("data");
    let data: Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(data["Object"], "a");
    let before = answer.split("event: volume.create\n").next().expect("the id");
    assert!(
        before.ends_with(&format!("id: {}\n", data["Sequence"])),
        "{answer}"
    );
    // Who comes back gets what it missed.
    let answer = ask(
        "/v1/events?follow=false",
        &format!("Last-Event-ID: {}\r\n", data["Sequence"]),
    );
    assert_eq!(answer.matches("event: volume.create\n").count(), 1, "{answer}");
    assert!(answer.contains("\"Object\":\"b\""));
    assert!(ask("/v1/events", "Last-Event-ID: soon\r\n").starts_with("HTTP/1.1 400"));
}

/// A server behind TLS, in Python; it ends with the test, and writes down what it is asked.
struct Tls {
    child: Child,
    port: u16,
}

impl Tls {
    fn start(dir: &Path) -> Self {
        let at = |name: &str| dir.join(name).display().to_string();
        shell(&[
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=windlass test CA",
            "-keyout",
            &at("ca.key"),
            "-out",
            &at("ca.pem"),
        ]);
        shell(&[
            "openssl",
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=localhost",
            "-keyout",
            &at("key.pem"),
            "-out",
            &at("request.pem"),
        ]);
        fs::write(
            dir.join("names"),
            "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n",
        )
        .expect("written");
        shell(&[
            "openssl",
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            &at("request.pem"),
            "-CA",
            &at("ca.pem"),
            "-CAkey",
            &at("ca.key"),
            "-CAcreateserial",
            "-extfile",
            &at("names"),
            "-out",
            &at("cert.pem"),
        ]);
        let program = "
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        open(sys.argv[1] + '/seen', 'a').write(self.path + '\\n')
        self.send_response(200)
        self.send_header('Content-Length', '0')
        self.end_headers()
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1] + '/cert.pem', sys.argv[1] + '/key.pem')
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
";
        let mut child = Command::new("python3")
            .args(["-c", program, text(dir)])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3");
        let mut line = String::new();
        let out = child.stdout.take().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("a port");
        Self {
            child,
            port: line.trim().parse().expect("a port"),
        }
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn https_is_trusted_by_the_machine_s_authorities_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Tls::start(dir.path());
    let home = Home::on("btrfs");
    let ping = format!("ping.url=https://localhost:{}/k3y/{{volume}}", server.port);
    let start = |trusted: bool| -> Daemon<'_> {
        home.start_with(|command| {
            command.env("WINDLASS_BACKUP_PASSWORD", "correct horse");
            if trusted {
                command.env("SSL_CERT_FILE", dir.path().join("ca.pem"));
            }
        })
    };
    let daemon = start(false);
    daemon.say(&["create", "v"]);
    daemon.say(&["policy", "set", "v", &ping, &destination(&home), "backup.rpo=1h"]);
    wait_for("a refusal", || {
        (notified(&home, "ping", "failed") == 1.0).then_some(())
    });
    let log = home.log();
    let why = log.lines().find(|line| line.contains("given up")).expect("told");
    assert!(why.contains("certificate") && !log.contains("k3y"), "{why}");
    assert!(!dir.path().join("seen").exists());
    daemon.stop();
    did(&home, "v", "backup", 50);
    let daemon = start(true);
    wait_for("a ping", || {
        (notified(&home, "ping", "delivered") == 1.0).then_some(())
    });
    assert_eq!(
        fs::read_to_string(dir.path().join("seen")).expect("seen"),
        "/k3y/v\n"
    );
    daemon.stop();
}
