//! A thousand volumes with ten snapshots each: what their number costs.

use windlass::api::types::VolumeList;

use super::daemon::{Daemon, request};
use super::pool::{self, Bench};
use super::report::{Goal, Report, Series};
use super::rounds;

const FEW: usize = 10;
const MANY: usize = 1000;
const SNAPSHOTS: usize = 10;

/// Everything about it.
pub fn measure(report: &mut Report) {
    let small = Bench::named("windlass-few", &["dm.loopback=100G", "dm.defaultvolumesize=16M"]);
    let bench = Bench::new(&["dm.loopback=100G", "dm.defaultvolumesize=16M"]);
    let few = small.start();
    make(&few, FEW);
    let mut daemon = bench.start();
    make(&daemon, MANY);
    let mut listed_bytes = 0;
    let [
        mut list,
        mut parsed,
        mut command,
        mut protocol,
        mut restart,
        mut start,
        mut create,
        mut create_few,
        mut snapshot,
        mut snapshot_few,
    ]: [Series; 10] = Default::default();
    for round in 0..rounds(31) {
        let answer = list.time(|| request(&bench.admin_socket(), "GET", "/v1/volumes", b""));
        let (status, body) = answer.expect("an answer");
        assert_eq!(status, 200);
        parsed.time(|| {
            assert!(serde_json::from_slice::<VolumeList>(&body).is_ok_and(|list| list.len() >= MANY))
        });
        listed_bytes = body.len();
        command.time(|| daemon.say(&["list"]));
        let listed = protocol.time(|| daemon.ok("VolumeDriver.List", "{}"));
        assert_eq!(listed["Volumes"].as_array().map(Vec::len), Some(MANY));
        for (daemon, create, snapshot) in [
            (&few, &mut create_few, &mut snapshot_few),
            (&daemon, &mut create, &mut snapshot),
        ] {
            let body = format!(
                r#"{{"Name":"more{round}","Opts":{{"driver":"devicemapper","on-remove":"delete"}}}}"#
            );
            create.time(|| daemon.ok("VolumeDriver.Create", &body));
            snapshot.time(|| freeze(daemon, &format!("more{round}"), "s"));
            daemon.say(&["snapshot", "delete", &format!("more{round}@s")]);
            daemon.ok("VolumeDriver.Remove", &body);
        }
    }
    for _ in 0..rounds(5) {
        daemon.stop();
        daemon = restart.time(|| bench.start());
        daemon.stop();
        bench.stop_pool();
        pool::forget();
        daemon = start.time(|| bench.start());
    }
    report.table(
        "1,000 volumes with 10 snapshots each",
        "Volumes of 16 MiB with ext4 in a pool of 100 GiB (sparse), all of them made by the daemon, none mounted. Beside it a second daemon with a pool of 10 volumes, which takes \
         its turns.",
    );
    let ms = std::time::Duration::from_millis;
    for (what, series, most) in [
        ("GET /v1/volumes", &list, 200),
        ("`windlass list`, the whole process", &command, 200),
        ("List, by Docker's protocol, parsed", &protocol, 200),
        (
            "start with the pool at work, until List answers",
            &restart,
            10_000,
        ),
        (
            "start with the pool to be checked and made to run",
            &start,
            10_000,
        ),
    ] {
        report.row(what, series, None, Goal::Under(ms(most)));
    }
    report.row(
        "to parse that answer, as a client does",
        &parsed,
        None,
        Goal::None,
    );
    // No slower: what is above is noise.
    let other = Some(("among 10", &snapshot_few));
    report.row("snapshot, by the API", &snapshot, other, Goal::AtMost(1.1));
    let other = Some(("among 10", &create_few));
    report.row("create, by the protocol", &create, other, Goal::None);
    report.note(&format!(
        "The answer to GET /v1/volumes has {:.1} MB, every snapshot in it, and in this kernel each 4 KiB of new memory cost a page fault of some \
         25 µs, in the daemon and in the client.",
        listed_bytes as f64 / 1e6
    ));
}

fn make(daemon: &Daemon<'_>, volumes: usize) {
    for volume in 0..volumes {
        let name = format!("v{volume}");
        daemon.ok(
            "VolumeDriver.Create",
            &format!(r#"{{"Name":"{name}","Opts":{{"driver":"devicemapper"}}}}"#),
        );
        for snapshot in 0..SNAPSHOTS {
            freeze(daemon, &name, &format!("s{snapshot}"));
        }
    }
}

fn freeze(daemon: &Daemon<'_>, volume: &str, snapshot: &str) {
    let body = format!(r#"{{"Name":"{snapshot}"}}"#);
    let (status, said) = daemon.admin("POST", &format!("/v1/volumes/{volume}/snapshots"), &body);
    assert!(status < 300, "{said}");
}
