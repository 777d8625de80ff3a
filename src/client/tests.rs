//! The client against a daemon that answers right, wrong, too much or not at all.

use super::fake::{Fake, answer, chunked};
use super::*;

fn client(fake: &Fake) -> Client {
    Client::new(fake.socket())
}

#[tokio::test]
async fn every_method_has_its_route() {
    // An empty object fits no answer, so each call fails; what counts is what was asked.
    let fake = Fake::start(|_| answer(200, "{}"));
    let client = client(&fake);
    let _ = client.info().await;
    let _ = client.volumes(None).await;
    let _ = client.volumes(Some("vfs")).await;
    let _ = client.create_volume(&CreateVolume::default()).await;
    let _ = client.volume("v").await;
    let _ = client.remove_volume("v", RemoveVolume::default()).await;
    let purge = RemoveVolume {
        reference: true,
        how: Some(OnRemove::Delete),
    };
    let _ = client.remove_volume("v/w", purge).await;
    let _ = client.mount("v", &MountVolume::default()).await;
    let _ = client.unmount("v", &UnmountVolume { force: true }).await;
    let _ = client.protect("v").await;
    let _ = client.unprotect("v").await;
    let _ = client.snapshots("v").await;
    let _ = client.create_snapshot("v", &CreateSnapshot::default()).await;
    let _ = client.snapshot("v@s").await;
    let _ = client.remove_snapshot("v@s").await;
    let _ = client.revert("v@s").await;
    let _ = client.mount_snapshot("v@s", &MountVolume::default()).await;
    let _ = client.unmount_snapshot("v@s").await;
    let _ = client.pool().await;
    let _ = client.check_pool().await;
    let _ = client.repair_pool(&RepairPool::default()).await;
    let _ = client.extend_pool(&ExtendPool::default()).await;
    let _ = client.trim_pool().await;
    let _ = client.import_convoy(&ImportConvoy::default()).await;
    let _ = client.trash().await;
    let _ = client.undelete("v", &UndeleteVolume::default()).await;
    let _ = client.purge("v").await;
    let _ = client.events(Some(7), false).await;
    let _ = client.events(None, true).await;
    assert_eq!(
        fake.asked(),
        [
            "GET /v1/info",
            "GET /v1/volumes",
            "GET /v1/volumes?driver=vfs",
            r#"POST /v1/volumes {"Name":null,"Options":{}}"#,
            "GET /v1/volumes/v",
            "DELETE /v1/volumes/v",
            "DELETE /v1/volumes/v%2Fw?reference=true&how=delete",
            r#"POST /v1/volumes/v/mount {"MountPoint":null}"#,
            r#"POST /v1/volumes/v/umount {"Force":true}"#,
            "POST /v1/volumes/v/protect",
            "POST /v1/volumes/v/unprotect",
            "GET /v1/volumes/v/snapshots",
            r#"POST /v1/volumes/v/snapshots {"Name":null}"#,
            "GET /v1/snapshots/v@s",
            "DELETE /v1/snapshots/v@s",
            "POST /v1/snapshots/v@s/revert",
            r#"POST /v1/snapshots/v@s/mount {"MountPoint":null}"#,
            "POST /v1/snapshots/v@s/umount",
            "GET /v1/pool",
            "POST /v1/pool/check",
            "POST /v1/pool/repair",
            r#"POST /v1/pool/extend {"Size":null}"#,
            "POST /v1/pool/trim",
            r#"POST /v1/import/convoy {"Root":"","DryRun":false}"#,
            "GET /v1/trash",
            r#"POST /v1/trash/v/undelete {"Name":null}"#,
            "DELETE /v1/trash/v",
            "GET /v1/events?since=7&follow=false",
            "GET /v1/events",
        ]
    );
}

#[tokio::test]
async fn the_daemons_failures_arrive_with_kind_and_hint() {
    let fake = Fake::start(|_| {
        answer(
            404,
            r#"{"Kind":"NotFound","Message":"volume pgdata does not exist","Hint":"see 'windlass list'"}"#,
        )
    });
    let error = client(&fake).volume("pgdata").await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(error.to_string(), "volume pgdata does not exist");
    assert_eq!(error.hint(), "see 'windlass list'");
}

#[tokio::test]
async fn what_is_not_windlass_is_called_so() {
    for (raw, why) in [
        (answer(200, "<html>"), "an answer that is not JSON"),
        (answer(200, "[1]"), "an answer of another shape"),
        (
            answer(500, "Internal Server Error"),
            "status 500 without a reason",
        ),
        (answer(302, ""), "status 302 without a reason"),
        (b"SSH-2.0-x\r\n".to_vec(), "an answer that is not HTTP"),
    ] {
        let fake = Fake::start(move |_| raw.clone());
        let error = client(&fake).info().await.unwrap_err();
        assert!(matches!(error, ClientError::NotWindlass { .. }), "{error:?}");
        let said = error.to_string();
        assert!(
            said.contains(why) && said.contains("fake.sock") && said.contains("GET /v1/info"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn an_answer_without_bounds_is_not_swallowed() {
    let fake = Fake::start(|_| answer(200, vec![b' '; 4096]));
    let small = Client {
        socket: fake.socket(),
        limit_bytes: 4095,
    };
    let error = small.volumes(None).await.unwrap_err();
    assert!(
        matches!(
            error,
            ClientError::TooLarge {
                limit_bytes: 4095,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_daemon_that_hangs_up_is_unavailable() {
    let fake = Fake::start(|_| Vec::new());
    let error = client(&fake).info().await.unwrap_err();
    assert!(matches!(error, ClientError::Broken { .. }), "{error:?}");
    assert_eq!(error.kind(), Kind::Unavailable);
    let fake = Fake::start(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec());
    let error = client(&fake).info().await.unwrap_err();
    assert!(matches!(error, ClientError::Broken { .. }), "{error:?}");
}

#[tokio::test]
async fn nobody_listens() {
    let error = Client::new("/nonexistent/windlass.sock")
        .info()
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::NoDaemon { .. }), "{error:?}");
}

fn event(sequence: u64) -> String {
    format!(
        r#"{{"Sequence":{sequence},"Time":"2026-11-23T09:30:00Z","Action":"volume.create","Object":"v","Attributes":{{}}}}"#
    )
}

#[tokio::test]
async fn events_are_lines_however_they_are_cut() {
    let (first, second, third) = (event(1), event(2), event(3));
    let (head, tail) = second.split_at(20);
    let raw = chunked(&[&format!("{first}\n{head}"), &format!("{tail}\n\n"), &third, ""]);
    let fake = Fake::start(move |_| raw.clone());
    let mut events = client(&fake).events(None, false).await.unwrap();
    for sequence in 1..=3 {
        assert_eq!(events.next().await.unwrap().unwrap().sequence, sequence);
    }
    assert_eq!(events.next().await.unwrap(), None);
    assert_eq!(events.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_feed_that_breaks_or_babbles_is_an_error() {
    let broken = chunked(&[&format!("{}\n", event(1))]);
    let fake = Fake::start(move |_| broken.clone());
    let mut events = client(&fake).events(None, true).await.unwrap();
    assert!(events.next().await.unwrap().is_some());
    assert!(matches!(events.next().await, Err(ClientError::Broken { .. })));

    let fake = Fake::start(|_| chunked(&["hello\n", ""]));
    let mut events = client(&fake).events(None, true).await.unwrap();
    assert!(matches!(
        events.next().await,
        Err(ClientError::NotWindlass { .. })
    ));

    let endless = "x".repeat(3 << 20);
    let fake = Fake::start(move |_| chunked(&[&endless, ""]));
    let mut events = client(&fake).events(None, true).await.unwrap();
    assert!(matches!(events.next().await, Err(ClientError::TooLarge { .. })));
}
