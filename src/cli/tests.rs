//! The command line as its users meet it: arguments in any order, stdout, stderr and exit code.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use clap::CommandFactory;
use serde_json::json;

use super::*;
use crate::api::types::Volume;
use crate::client::fake::{Fake, answer, chunked};

/// A volume with one snapshot.
pub(super) fn volume(name: &str) -> Volume {
    serde_json::from_value(json!({
        "Name": name,
        "UUID": "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d",
        "Driver": "vfs",
        "MountPoint": "",
        "CreatedTime": "Fri Nov 20 08:00:00 +0000 2026",
        "CreatedAt": "2026-11-20T08:00:00Z",
        "DriverInfo": {
            "Driver": "vfs", "VolumeName": name, "Size": "21474836480", "Path": format!("/data/{name}"), "MountPoint": ""
        },
        "Snapshots": {"s1": snapshot("s1")},
        "Mounts": [],
        "Options": {"size": "20G"},
        "Policy": {"on-remove": "trash", "protect": "false", "trash-ttl": "7d"},
        "State": "ready"
    }))
    .expect("a volume")
}

fn snapshot(name: &str) -> serde_json::Value {
    json!({
        "Name": name,
        "UUID": "5f5e5d5c-0000-4000-8000-000000000001",
        "CreatedTime": "Sun Nov 22 08:00:00 +0000 2026",
        "CreatedAt": "2026-11-22T08:00:00Z",
        "DriverInfo": {"Driver": "vfs", "Size": "21474836480", "Consistency": "point-in-time"}
    })
}

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(format!("windlass {line}").split_whitespace())
}

#[test]
fn the_definitions_hold_together() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_is_understood_with_flags_before_and_after() {
    for line in [
        "create",
        "create pg --size 20G",
        "create --size 20G pg",
        "--socket /x create pg -s /x",
        "create pg -O size=20G -O protect=true",
        "delete pg",
        "delete -r pg",
        "delete pg --reference",
        "rm pg --purge",
        "mount pg --mountpoint /mnt",
        "mount --mountpoint /mnt pg",
        "umount pg",
        "unmount --force pg",
        "list",
        "ls --driver vfs",
        "-o json list",
        "list -o table",
        "list --output=json",
        "inspect pg",
        "info --debug --verbose",
        "snapshot create pg --name s",
        "snapshot create --name s pg",
        "snapshot delete pg@s",
        "snapshot rm s",
        "snapshot inspect s -s /x",
        "snapshot list",
        "snapshot ls pg",
        "snapshot revert pg@s",
        "snapshot mount pg@s",
        "snapshot mount --mountpoint /mnt pg@s",
        "snapshot umount pg@s",
        "snapshot unmount s",
        "pool status",
        "pool check",
        "pool repair",
        "pool extend",
        "pool extend +20G",
        "pool extend 20G -o json",
        "pool trim",
        "import convoy",
        "import convoy --root /var/lib/convoy --dry-run",
        "daemon --drivers devicemapper --driver-opts dm.device=/dev/sdb --dry-run",
        "undelete pg --as pg2",
        "undelete --as pg2 pg",
        "trash list",
        "trash purge pg",
        "protect pg",
        "unprotect pg",
        "events",
        "events --since 3 --no-follow",
        "completions bash",
        "completions zsh",
        "completions fish",
        "version",
        "daemon",
        "--socket /x daemon --root /r --log /l --drivers vfs --drivers devicemapper --driver-opts a.b=c \
         --driver-opts d=e --mnt-ns /proc/1/ns/mnt --ignore-docker-delete --create-on-docker-mount=false \
         --cmd-timeout 1m --config /c --debug --managed-plugin",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn nonsense_is_a_usage_error() {
    for line in [
        "frobnicate",
        "create a b",
        "create --frobnicate",
        "create -O size",
        "create --on-remove shred pg",
        "delete",
        "delete pg --purge --reference",
        "inspect",
        "snapshot",
        "snapshot revert",
        "snapshot mount",
        "pool",
        "pool extend 1G 2G",
        "import",
        "import convoy /var/lib/convoy",
        "trash",
        "events --since yesterday",
        "completions tcl",
        "list -o yaml",
    ] {
        assert_eq!(parse(line).expect_err(line).exit_code(), 2, "{line}");
    }
    assert!(Cli::try_parse_from(["windlass", "inspect", ""]).is_err());
    let said = parse("create pg -o size=20G")
        .expect_err("docker's -o")
        .to_string();
    assert!(said.contains("-O size=20G"), "{said}");
}

#[test]
fn the_daemons_arguments_are_passed_on_as_given() {
    let Cli { command, .. } =
        parse("daemon --drivers vfs,devicemapper --drivers x --driver-opts a=b --ignore-docker-delete")
            .unwrap();
    let Command::Daemon(args) = command else {
        panic!("{command:?}");
    };
    assert_eq!(
        *args,
        DaemonArgs {
            drivers: vec!["vfs".into(), "devicemapper".into(), "x".into()],
            driver_opts: vec!["a=b".into()],
            ignore_docker_delete: Some(true),
            ..DaemonArgs::default()
        }
    );
}

#[test]
fn help_explains_the_exit_codes_and_every_command() {
    let mut command = Cli::command();
    let help = command.render_long_help().to_string();
    assert!(
        help.contains("Exit codes:") && help.contains("3  NotFound"),
        "{help}"
    );
    for sub in command.get_subcommands() {
        assert!(sub.get_about().is_some(), "{} has no about", sub.get_name());
        for sub in sub.get_subcommands() {
            assert!(sub.get_about().is_some(), "{} has no about", sub.get_name());
        }
    }
}

/// What a stream was given.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Runs a command line against `fake`: stdout, stderr and the outcome. With a width, stdout is a terminal.
async fn on(fake: &Fake, line: &str, width: Option<usize>) -> (String, String, Result<(), Error>) {
    let cli = parse(line).unwrap();
    let (out, err) = (Paper::default(), Paper::default());
    let mut screen = Screen::of_test(
        Box::new(out.clone()),
        Box::new(err.clone()),
        cli.global.output,
        width,
    );
    let outcome = ask(cli.command, Some(fake.socket()), &mut screen).await;
    (out.text(), err.text(), outcome)
}

/// A daemon with the volumes `pg` and `www`.
fn daemon() -> Fake {
    Fake::start(|request| {
        let pg = || serde_json::to_value(volume("pg")).unwrap();
        let whole_snapshot = || {
            let mut value = snapshot("s1");
            value["VolumeName"] = json!("pg");
            value["VolumeCreatedAt"] = json!("Fri Nov 20 08:00:00 +0000 2026");
            value
        };
        let (status, body) = match request {
            "GET /v1/volumes" => (200, json!({"pg": volume("pg"), "www": volume("www")})),
            "GET /v1/volumes?driver=none" => (200, json!({})),
            "POST /v1/volumes" => (
                201,
                json!({"Volume": volume("pg"), "Notes": ["it is <not> empty"]}),
            ),
            "POST /v1/trash/pg/undelete" => (200, json!({"Volume": volume("pg"), "Notes": []})),
            "GET /v1/volumes/pg" | "POST /v1/volumes/pg/protect" | "POST /v1/snapshots/pg@s1/revert" => {
                (200, pg())
            }
            "DELETE /v1/volumes/pg" => (
                200,
                json!({"Name": "pg", "How": "trash", "Notes": ["'windlass undelete pg' brings it back"]}),
            ),
            "POST /v1/volumes/pg/mount" => (200, json!({"MountPoint": "/m/pg"})),
            "POST /v1/volumes/pg/umount" => (200, json!({"Notes": ["container 6f0c uses it"]})),
            "GET /v1/volumes/pg/snapshots" => (200, json!({"s1": snapshot("s1")})),
            "POST /v1/volumes/pg/snapshots" => (201, whole_snapshot()),
            "GET /v1/snapshots/s1" | "DELETE /v1/snapshots/s1" => (200, whole_snapshot()),
            "GET /v1/trash" => (200, json!([])),
            "GET /v1/events?follow=false" => {
                let event = r#"{"Sequence":1,"Time":"2026-11-23T09:30:00Z","Action":"volume.create","Object":"pg","Attributes":{}}"#;
                return chunked(&[event, "\n", ""]);
            }
            _ => (
                404,
                json!({"Kind": "NotFound", "Message": format!("no {request}"), "Hint": "see 'windlass list'"}),
            ),
        };
        answer(status, body.to_string())
    })
}

#[tokio::test]
async fn names_alone_on_stdout_and_notes_on_stderr() {
    let fake = daemon();
    for (line, out, err) in [
        ("create pg", "pg\n", "note: it is <not> empty\n"),
        ("undelete pg", "pg\n", ""),
        ("mount pg", "/m/pg\n", ""),
        ("snapshot create pg", "s1\n", ""),
        ("umount pg", "", "note: container 6f0c uses it\n"),
        ("delete pg", "", "note: 'windlass undelete pg' brings it back\n"),
        ("snapshot delete s1", "", ""),
        ("snapshot revert pg@s1", "", ""),
        ("protect pg", "", ""),
    ] {
        // The same for scripts and for people.
        for width in [None, Some(80)] {
            let (said, noted, outcome) = on(&fake, line, width).await;
            outcome.unwrap();
            assert_eq!((said.as_str(), noted.as_str()), (out, err), "{line}");
        }
    }
}

#[tokio::test]
async fn json_where_it_is_asked_for_or_nobody_looks() {
    let fake = daemon();
    for line in [
        "create pg -o json",
        "mount pg -o json",
        "snapshot create pg -o json",
        "list",
        "list --driver none",
        "inspect pg",
        "snapshot inspect s1",
        "snapshot list",
        "snapshot list pg",
        "trash list",
        "events --no-follow",
    ] {
        let (said, _, outcome) = on(&fake, line, None).await;
        outcome.unwrap();
        let value: serde_json::Value = serde_json::from_str(&said).expect(line);
        match line {
            "list" => assert_eq!(value["pg"]["DriverInfo"]["Size"], "21474836480"),
            "list --driver none" => assert_eq!(said, "{}\n"),
            "snapshot list" => assert_eq!(value["www@s1"]["VolumeName"], "www"),
            "trash list" => assert_eq!(said, "[]\n"),
            _ => assert!(value.is_object(), "{line}: {said}"),
        }
    }
}

#[tokio::test]
async fn people_get_tables() {
    let fake = daemon();
    for (line, begins) in [
        (
            "list",
            "NAME  DRIVER  SIZE    SNAPSHOTS  MOUNTED  CREATED\npg    vfs     20 GiB  1          -        3d ago\n",
        ),
        ("list --driver none", "no volumes on driver none\n"),
        ("inspect pg", "Name:       pg\n"),
        (
            "snapshot list",
            "VOLUME  SNAPSHOT  SIZE    CONSISTENCY    CREATED\npg      s1        20 GiB  point-in-time  1d ago\n",
        ),
        (
            "snapshot list pg",
            "SNAPSHOT  SIZE    CONSISTENCY    CREATED\ns1        20 GiB  point-in-time  1d ago\n",
        ),
        ("snapshot inspect s1", "Name:         s1\n"),
        ("trash list", "the trash is empty\n"),
        (
            "events --no-follow",
            "2026-11-23T09:30:00Z  volume.create    pg\n",
        ),
    ] {
        let (said, _, outcome) = on(&fake, line, Some(80)).await;
        outcome.unwrap();
        assert!(said.starts_with(begins), "{line}:\n{said}");
    }
}

#[tokio::test]
async fn failures_are_one_line_and_one_code() {
    let fake = daemon();
    let (out, err, outcome) = on(&fake, "inspect nope", None).await;
    let error = outcome.unwrap_err();
    assert_eq!((out.as_str(), err.as_str(), error.exit_code()), ("", "", 3));
    assert_eq!(error.to_string(), "no GET /v1/volumes/nope; see 'windlass list'");
}

/// A stdout whose reader has left.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_closed_stdout_ends_every_answer_quietly() {
    let fake = daemon();
    for line in [
        "list",
        "list -o table",
        "create pg",
        "events --no-follow",
        "inspect pg",
    ] {
        let cli = parse(line).unwrap();
        let mut screen = Screen::of_test(
            Box::new(Closed),
            Box::new(Paper::default()),
            cli.global.output,
            None,
        );
        let outcome = ask(cli.command, Some(fake.socket()), &mut screen).await;
        assert!(matches!(outcome, Err(Error::StdoutClosed)), "{line}: {outcome:?}");
    }
}
