//! Prometheus' metrics of a real daemon: what they say, that the network sees nothing else, and that a real Prometheus reads them
//! and raises the alerts of docs/METRICS.md.

mod daemon;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use daemon::{Daemon, Home, text, wait_for};
use serde_json::Value;

/// A port that nobody listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn with_metrics(port: u16) -> impl FnOnce(&mut Command) {
    move |command| {
        command
            .args(["--metrics-address", &format!("127.0.0.1:{port}")])
            .env("WINDLASS_BACKUP_PASSWORD", "correct horse");
    }
}

/// Status, head and body of a request over the network; `None` where nobody listens.
fn ask(port: u16, method: &str, path: &str) -> Option<(u16, String, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(100)))
        .expect("a time limit");
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, head.to_ascii_lowercase(), body.to_owned()))
}

/// Metrics as OpenMetrics' text has them: each sample by its name and labels.
struct Metrics {
    types: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

impl Metrics {
    /// Reads strictly: what Prometheus' conventions ask of names, and OpenMetrics of the text.
    fn read(text: &str) -> Self {
        let body = text.strip_suffix("# EOF\n").expect("the text ends with its end");
        let (mut types, mut units, mut samples) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for line in body.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (kind, name) = (words.next().expect("a kind"), words.next().expect("a name"));
                let rest = words.next().unwrap_or_default().to_owned();
                assert!(name.starts_with("windlass_"), "{name}");
                match kind {
                    "HELP" => assert!(rest.len() > 5, "{name}: what it is"),
                    "UNIT" => drop(units.insert(name.to_owned(), rest)),
                    "TYPE" => {
                        let before = types.insert(name.to_owned(), rest);
                        assert_eq!(before, None, "{name} comes once");
                    }
                    other => panic!("{other}: {line}"),
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let value = value.parse().expect("a number");
            let before = samples.insert(series.to_owned(), value);
            assert_eq!(before, None, "{series} comes once");
        }
        for (name, unit) in &units {
            assert!(matches!(unit.as_str(), "seconds" | "bytes"), "{name}: base units");
            assert!(name.ends_with(&format!("_{unit}")), "{name} ends with its unit");
        }
        for series in samples.keys() {
            let name = series.split('{').next().expect("a name");
            let family = ["_total", "_info", "_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| {
                    name.strip_suffix(suffix)
                        .filter(|family| types.contains_key(*family))
                });
            match types
                .get(family.unwrap_or(name))
                .unwrap_or_else(|| panic!("{name} has no type"))
                .as_str()
            {
                "counter" => assert!(name.ends_with("_total"), "{name}"),
                "info" => assert!(name.ends_with("_info"), "{name}"),
                "histogram" => assert!(family.is_some(), "{name}"),
                "gauge" => assert!(family.is_none(), "{name}"),
                other => panic!("{name} is a {other}"),
            }
        }
        Self { types, samples }
    }

    fn get(&self, series: &str) -> f64 {
        let found = self.samples.get(series);
        *found.unwrap_or_else(|| panic!("no {series} in {:#?}", self.samples))
    }

    fn has(&self, series: &str) -> bool {
        self.samples.contains_key(series)
    }
}

fn metrics(home: &Home) -> Metrics {
    let (status, body) =
        daemon::request(&home.admin_socket(), "GET", "/metrics", b"").expect("the admin API answers");
    assert_eq!(status, 200);
    Metrics::read(&String::from_utf8(body).expect("text"))
}

/// A volume whose backups work, one whose backups fail, one that is not cared for.
fn live(home: &Home, daemon: &Daemon<'_>) {
    let dir = home.path().join("backups");
    fs::create_dir_all(&dir).expect("a directory");
    let good = format!("backup.dest=vfs://{}", dir.display());
    fs::write(home.path().join("file"), "").expect("a file");
    let bad = format!("backup.dest=vfs://{}", home.path().join("file").display());
    for name in ["good", "bad", "left-alone"] {
        daemon.say(&["create", name]);
        fs::write(home.volumes().join(name).join("f"), vec![b'x'; 100_000]).expect("written");
    }
    daemon.say(&["policy", "set", "good", &good, "backup.rpo=1h"]);
    daemon.say(&["policy", "set", "bad", &bad, "backup.rpo=1h"]);
    daemon.say(&["snapshot", "create", "left-alone"]);
    wait_for("a success and a failure", || {
        let listed = daemon.json(&["list"]);
        (listed["good"]["Health"] == "ok" && listed["bad"]["Health"] == "failing").then_some(())
    });
}

#[test]
fn the_metrics_say_how_volumes_and_jobs_fare() {
    let home = Home::on("btrfs");
    let before = jiff::Timestamp::now().as_second() as f64;
    let daemon = home.start_with(with_metrics(free_port()));
    live(&home, &daemon);
    let now = metrics(&home);
    assert_eq!(
        now.get(&format!(
            "windlass_build_info{{version=\"{}\"}}",
            env!("CARGO_PKG_VERSION")
        )),
        1.0
    );
    assert_eq!(now.get("windlass_ready"), 1.0);
    assert_eq!(now.get("windlass_driver_available{driver=\"vfs\"}"), 1.0);
    let of = |metric: &str, volume: &str| format!("windlass_volume_{metric}{{volume=\"{volume}\"}}");
    let task = |metric: &str, volume: &str| {
        format!("windlass_volume_task_{metric}{{volume=\"{volume}\",task=\"backup\"}}")
    };
    let health = |volume: &str, word: &str| {
        format!("windlass_volume_task_health{{volume=\"{volume}\",task=\"backup\",health=\"{word}\"}}")
    };
    assert_eq!(now.get(&health("good", "ok")), 1.0);
    assert_eq!(now.get(&health("bad", "failing")), 1.0);
    assert!(!now.has(&health("bad", "ok")), "one word at a time");
    let last = now.get(&task("last_success_timestamp_seconds", "good"));
    assert!(last >= before && last <= jiff::Timestamp::now().as_second() as f64);
    assert_eq!(
        now.get(&task("next_due_timestamp_seconds", "good")),
        last + 2_700.0
    );
    assert!(now.get(&task("last_duration_seconds", "good")) > 0.0);
    assert!(!now.has(&task("last_success_timestamp_seconds", "bad")));
    assert!(now.get(&task("failures", "bad")) >= 1.0);
    assert!(!now.has(&task("failures", "left-alone")));
    assert_eq!(
        (
            now.get(&of("snapshots", "left-alone")),
            now.get(&of("snapshots", "good"))
        ),
        (1.0, 0.0)
    );
    let ended = |state: &str| format!("windlass_jobs_ended_total{{kind=\"backup\",state=\"{state}\"}}");
    assert_eq!(now.get(&ended("done")), 1.0);
    assert!(now.get("windlass_backup_read_bytes_total") >= 100_000.0);
    assert!(now.get("windlass_backup_stored_bytes_total") > 0.0);
    let count = now.get("windlass_job_duration_seconds_count{kind=\"backup\"}");
    let most = now.get("windlass_job_duration_seconds_bucket{le=\"+Inf\",kind=\"backup\"}");
    assert!(count >= 1.0 && count == most);

    // Nobody has asked how large the volumes are since they were made, and a scrape does not.
    assert_eq!(now.get(&of("used_bytes", "good")), 0.0);
    wait_for("a figure", || {
        daemon.ok("VolumeDriver.Get", r#"{"Name":"good"}"#);
        (metrics(&home).get(&of("used_bytes", "good")) >= 100_000.0).then_some(())
    });
    assert_eq!(metrics(&home).get(&of("used_bytes", "left-alone")), 0.0);
    assert!(metrics(&home).get(&of("measured_timestamp_seconds", "good")) >= before);
    let (status, _) = daemon.admin("GET", "/metrics?volume=good", "");
    assert_eq!(status, 400, "there is nothing to choose");

    // What is documented is there, and what is there is documented; of thin pools tests/devicemapper.rs knows.
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/METRICS.md")).expect("a page");
    let documented: BTreeSet<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `windlass_"))
        .flat_map(|line| line.split('`').filter(|part| part.starts_with("windlass_")))
        .map(|series| series.split('{').next().expect("a name"))
        .collect();
    let now = metrics(&home);
    let there: BTreeSet<String> = now
        .types
        .iter()
        .map(|(name, kind)| match kind.as_str() {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.clone(),
        })
        .collect();
    for name in &there {
        assert!(documented.contains(name.as_str()), "docs/METRICS.md lacks {name}");
    }
    // No bound, no pool, no job at work, nothing that is exclusive on this filesystem.
    let not_here = |name: &str| {
        name.starts_with("windlass_pool_")
            || [
                "windlass_jobs",
                "windlass_volume_size_bytes",
                "windlass_volume_exclusive_bytes",
            ]
            .contains(&name)
    };
    for name in documented {
        assert!(there.contains(name) || not_here(name), "{name} is nowhere");
    }
}

#[test]
fn the_network_sees_metrics_and_nothing_else() {
    let home = Home::new();
    // The address is taken when the daemon starts: it starts nevertheless, says so, and serves when it is free.
    let squatter = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = squatter.local_addr().expect("an address").port();
    let daemon = home.start_with(with_metrics(port));
    wait_for("a warning", || {
        daemon
            .say(&["events", "--no-follow"])
            .contains("no metrics at")
            .then_some(())
    });
    drop(squatter);
    let (status, head, body) = wait_for("the metrics", || ask(port, "GET", "/metrics"));
    assert_eq!(status, 200);
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    assert_eq!(Metrics::read(&body).get("windlass_ready"), 1.0);
    let (status, _, body) = ask(port, "GET", "/healthz").expect("an answer");
    assert_eq!((status, body.as_str()), (200, "ok\n"));
    let (status, head, body) = ask(port, "HEAD", "/metrics").expect("an answer");
    assert_eq!((status, body.as_str()), (200, ""), "{head}");
    for (method, path, expected) in [
        ("POST", "/metrics", 405),
        ("DELETE", "/healthz", 405),
        ("GET", "/", 404),
        ("GET", "/v1/volumes", 404),
        ("GET", "/v1/info", 404),
        ("POST", "/VolumeDriver.List", 404),
        ("GET", "/metrics/../v1/volumes", 404),
        ("GET", "//metrics", 404),
    ] {
        let (status, _, _) = ask(port, method, path).expect("an answer");
        assert_eq!(status, expected, "{method} {path}");
    }

    // Callers who say nothing keep nobody else out for ever: there are as many of them as there are places.
    let silent: Vec<TcpStream> = (0..16)
        .map(|_| TcpStream::connect(("127.0.0.1", port)).expect("connected"))
        .collect();
    let (status, _, _) = ask(port, "GET", "/healthz").expect("an answer");
    assert_eq!(status, 200);
    drop(silent);
    assert!(daemon.stop() < Duration::from_secs(20));
}

/// A Prometheus of Debian's, by its path or where packaging/setup puts it.
fn prometheus(program: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    let kept = cache.join("windlass-prometheus/usr/bin").join(program);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::iter::once(kept)
        .chain(std::env::split_paths(&path).map(|dir| dir.join(program)))
        .find(|path| path.exists());
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "{program} is missing: run packaging/setup"
        );
        println!("SKIPPED: {program} is missing; packaging/setup gets it");
    }
    found
}

/// The rules of docs/METRICS.md, as a file.
fn alerts(dir: &Path, change: impl Fn(&str) -> String) -> PathBuf {
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/METRICS.md")).expect("a page");
    let rules = page.split("```yaml\n").nth(1).expect("rules");
    let rules = rules.split("```").next().expect("their end");
    let path = dir.join("alerts.yml");
    fs::write(&path, change(rules)).expect("written");
    path
}

fn check(program: &Path, args: &[&str]) {
    let output = Command::new(program).args(args).output().expect("it runs");
    assert!(
        output.status.success(),
        "{args:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What promtool's own tests of rules say of them: each alert comes when it should, and not when all is well.
#[test]
fn the_alerts_come_when_they_should() {
    let Some(promtool) = prometheus("promtool") else {
        return;
    };
    let dir = tempfile::tempdir().expect("a directory");
    let rules = alerts(dir.path(), str::to_owned);
    check(&promtool, &["check", "rules", text(&rules)]);
    let series =
        |series: &str, values: &str| format!("      - series: '{series}'\n        values: '{values}'\n");
    let backup = |health: &str| {
        format!(r#"windlass_volume_task_health{{volume="v",task="backup",health="{health}"}}"#)
    };
    // Series, the alert that they raise after half an hour, and the labels that it has.
    let task = "severity: SEVERITY, volume: v, task: backup";
    let cases = [
        (
            series(r#"up{job="windlass"}"#, "0x60"),
            "WindlassDown",
            "severity: critical, job: windlass".to_owned(),
        ),
        (
            series(&backup("failing"), "1x60"),
            "WindlassTaskFailing",
            task.replace("SEVERITY", "warning"),
        ),
        (
            series(&backup("late"), "1x60"),
            "WindlassTaskLate",
            task.replace("SEVERITY", "critical"),
        ),
        (
            series(&backup("never"), "1x60"),
            "WindlassTaskLate",
            task.replace("SEVERITY", "critical"),
        ),
        (
            series(r#"windlass_driver_available{driver="vfs"}"#, "0x60"),
            "WindlassDriverUnavailable",
            "severity: critical, driver: vfs".to_owned(),
        ),
        (
            series(r#"windlass_volume_available{volume="v"}"#, "0x60"),
            "WindlassVolumeUnavailable",
            "severity: warning, volume: v".to_owned(),
        ),
        (
            series(r#"windlass_pool_data_used_bytes{pool="p"}"#, "90x60")
                + &series(r#"windlass_pool_data_size_bytes{pool="p"}"#, "100x60"),
            "WindlassPoolFilling",
            "severity: warning, pool: p".to_owned(),
        ),
        (
            series(r#"windlass_pool_mode{pool="p",mode="out of data space"}"#, "1x60"),
            "WindlassPoolFailing",
            "severity: critical, pool: p, mode: out of data space".to_owned(),
        ),
    ];
    let well = series(r#"up{job="windlass"}"#, "1x60")
        + &series(&backup("ok"), "1x60")
        + &series(r#"windlass_pool_data_used_bytes{pool="p"}"#, "10x60")
        + &series(r#"windlass_pool_data_size_bytes{pool="p"}"#, "100x60")
        + &series(r#"windlass_pool_mode{pool="p",mode="read-write"}"#, "1x60")
        + &series(r#"windlass_pool_needs_check{pool="p"}"#, "0x60");
    let names = [
        "WindlassDown",
        "WindlassDriverUnavailable",
        "WindlassTaskFailing",
        "WindlassTaskLate",
        "WindlassVolumeUnavailable",
        "WindlassPoolFilling",
        "WindlassPoolFailing",
    ];
    let mut tests = format!(
        "rule_files: [alerts.yml]\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n    input_series:\n{well}    alert_rule_test:\n"
    );
    for name in names {
        tests.push_str(&format!(
            "      - {{eval_time: 30m, alertname: {name}, exp_alerts: []}}\n"
        ));
    }
    for (series, alert, labels) in cases {
        let own = fs::read_to_string(&rules).expect("rules");
        let own = own.split(&format!("alert: {alert}\n")).nth(1).expect(alert);
        let summary = own.lines().find_map(|line| line.trim().strip_prefix("summary: "));
        let summary = summary
            .expect("a summary")
            .replace("{{ $labels.driver }}", "vfs")
            .replace("{{ $labels.task }}", "backup")
            .replace("{{ $labels.volume }}", "v")
            .replace("{{ $labels.pool }}", "p")
            .replace("{{ $value | humanizePercentage }}", "90%");
        tests.push_str(&format!(
            "  - interval: 1m\n    input_series:\n{series}    alert_rule_test:\n      - eval_time: 30m\n        alertname: {alert}\n        \
             exp_alerts:\n          - exp_labels: {{{labels}}}\n            exp_annotations: {{summary: {summary}}}\n"
        ));
    }
    let path = dir.path().join("tests.yml");
    fs::write(&path, tests).expect("written");
    check(&promtool, &["test", "rules", text(&path)]);
}

/// A running Prometheus; it ends with the test.
struct Prometheus {
    child: Child,
    port: u16,
}

impl Prometheus {
    fn start(program: &Path, dir: &Path, scraped: u16) -> Self {
        let rules = alerts(dir, |rules| {
            // At once, for a test has no ten minutes.
            let at_once = rules.lines().filter(|line| !line.trim().starts_with("for: "));
            at_once.map(|line| format!("{line}\n")).collect()
        });
        let config = dir.join("prometheus.yml");
        fs::write(
            &config,
            format!(
                "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{}]\nscrape_configs:\n  - job_name: windlass\n    \
                 static_configs: [{{targets: ['127.0.0.1:{scraped}']}}]\n",
                text(&rules)
            ),
        )
        .expect("written");
        let port = free_port();
        let log = fs::File::create(dir.join("log")).expect("a log");
        let child = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log again"))
            .stderr(log)
            .spawn()
            .expect("it starts");
        Self { child, port }
    }

    /// The result of a query in Prometheus' language, once it answers.
    fn query(&self, query: &str) -> Option<Vec<Value>> {
        let (status, _, body) = ask(self.port, "GET", &format!("/api/v1/query?query={query}"))?;
        // It is sent in pieces.
        let json = body.get(body.find('{')?..=body.rfind('}')?)?;
        let answer: Value = (status == 200).then(|| serde_json::from_str(json).ok())??;
        answer["data"]["result"].as_array().cloned()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_prometheus_reads_them_and_raises_the_alarm() {
    let Some(program) = prometheus("prometheus") else {
        return;
    };
    let home = Home::on("btrfs");
    let port = free_port();
    let daemon = home.start_with(with_metrics(port));
    live(&home, &daemon);
    let dir = tempfile::tempdir().expect("a directory");
    let prometheus = Prometheus::start(&program, dir.path(), port);
    wait_for("a scrape", || {
        let up = prometheus.query("up")?;
        (up.first()?["value"][1] == "1").then_some(())
    });
    // Before the first scrape the daemon counts as gone; then one alert is left, of the one volume.
    wait_for("the alert", || {
        let firing = prometheus.query("ALERTS{alertstate=%22firing%22}")?;
        let labels: Vec<(&Value, &Value)> = firing
            .iter()
            .map(|alert| (&alert["metric"]["alertname"], &alert["metric"]["volume"]))
            .collect();
        (labels == [(&Value::from("WindlassTaskFailing"), &Value::from("bad"))]).then_some(())
    });
    let stored = prometheus.query("windlass_backup_stored_bytes_total");
    assert_eq!(stored.map(|found| found.len()), Some(1));
    let log = fs::read_to_string(dir.path().join("log")).expect("a log");
    assert!(!log.contains("level=error"), "{log}");

    // What nobody hears of otherwise: the daemon is gone.
    daemon.kill();
    wait_for("the alert of the end", || {
        let firing = prometheus.query("ALERTS{alertname=%22WindlassDown%22,alertstate=%22firing%22}")?;
        (!firing.is_empty()).then_some(())
    });
}
