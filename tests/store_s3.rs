//! The store against a real S3 server: the conformance suite, refusals, limits, and what a call costs.
//!
//! Each test that needs credentials of its own, or none, runs itself again in a child with that environment.

mod s3;

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use s3::child::{KEYS, in_child, with_server};
use s3::{ACCESS_KEY, SECRET_KEY};
use windlass::store::conformance::{self, Abilities, pattern};
use windlass::store::{Destination, Opened, Store, StoreError, StoreSettings, open};

fn opened(url: &str, endpoint: Option<&str>, settings: &StoreSettings) -> Opened {
    let destination = Destination::parse(url, endpoint).expect("a destination");
    open(&destination, settings).expect("it opens")
}

fn quick() -> StoreSettings {
    StoreSettings {
        attempts: 3,
        longest_wait: Duration::from_millis(200),
        timeout: Duration::from_secs(10),
        ..StoreSettings::default()
    }
}

#[test]
fn a_real_server_conforms() {
    let Some(endpoint) = with_server("a_real_server_conforms", "conformance", KEYS, |server| {
        &server.endpoint
    }) else {
        return;
    };
    let abilities = Abilities {
        exclusive_put: true,
        atomic: true,
        directories_go: false,
        large_bytes: 70 << 20,
    };
    let number = AtomicU32::new(0);
    conformance::run(abilities, &|| {
        let number = number.fetch_add(1, Ordering::SeqCst);
        let url = format!("s3://conformance@somewhere/with blank/{number}?endpoint={endpoint}");
        opened(&url, None, &StoreSettings::default()).store
    });
}

#[test]
fn each_call_is_one_request() {
    let Some(endpoint) = with_server("each_call_is_one_request", "costs", KEYS, |server| {
        &server.endpoint
    }) else {
        return;
    };
    // The endpoint as the command line gives it.
    let Opened { store, counts } = opened("s3://costs/p", Some(&endpoint), &quick());
    assert_eq!(counts.tally().requests(), 0, "opening asks nothing");
    let cost = |call: &dyn Fn(&dyn Store)| {
        let before = counts.tally();
        call(&*store);
        counts.tally().since(&before)
    };
    let put = cost(&|store| store.put("data/a", pattern(1, 1 << 20)).expect("put"));
    assert_eq!((put.requests(), put.puts, put.sent_bytes), (1, 1, 1 << 20));
    let get = cost(&|store| assert_eq!(store.get("data/a", 1 << 20).expect("get").len(), 1 << 20));
    assert_eq!((get.requests(), get.gets, get.received_bytes), (1, 1, 1 << 20));
    let range = cost(&|store| assert_eq!(store.get_range("data/a", 5, 7).expect("range").len(), 7));
    assert_eq!((range.requests(), range.received_bytes), (1, 7));
    let stat = cost(&|store| assert!(store.stat("data/a").expect("stat").is_some()));
    assert_eq!((stat.requests(), stat.stats), (1, 1));
    let list = cost(&|store| assert_eq!(store.list("").expect("list").len(), 1));
    assert_eq!((list.requests(), list.lists), (1, 1));
    let new = cost(&|store| store.put_new("lock", Bytes::from_static(b"x")).expect("new"));
    assert_eq!(
        (new.requests(), new.stats, new.puts),
        (2, 1, 1),
        "it looks first, at a server that may not know the condition"
    );
    let delete = cost(&|store| store.delete("data/a").expect("delete"));
    assert_eq!((delete.requests(), delete.deletes), (1, 1));
}

#[test]
fn a_wrong_secret_is_denied_at_once_and_says_what_to_set() {
    let keys = [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", "wrong"),
    ];
    let test = "a_wrong_secret_is_denied_at_once_and_says_what_to_set";
    let Some(endpoint) = with_server(test, "denied", &keys, |server| &server.endpoint) else {
        return;
    };
    let Opened { store, counts } = opened("s3://denied", Some(&endpoint), &StoreSettings::default());
    let x = || Bytes::from_static(b"x");
    let errors = [
        store.put("a", x()).err(),
        store.put_new("a", x()).err(),
        store.get("a", 1).err(),
        store.get_range("a", 0, 1).err(),
        store.stat("a").err(),
        store.list("").err(),
        store.directories("").err(),
        store.delete("a").err(),
    ];
    for (call, error) in errors.into_iter().enumerate() {
        let said = error.as_ref().map(ToString::to_string).unwrap_or_default();
        assert!(
            matches!(error, Some(StoreError::Denied { .. })),
            "call {call}: {error:?}"
        );
        assert!(
            said.contains("AWS_ACCESS_KEY_ID") && said.contains("s3://denied"),
            "{said}"
        );
    }
    assert_eq!(counts.tally().requests(), 8, "a refusal is not tried again");
}

#[test]
fn a_missing_bucket_is_neither_empty_nor_without_an_object() {
    let test = "a_missing_bucket_is_neither_empty_nor_without_an_object";
    let Some(endpoint) = with_server(test, "other", KEYS, |server| &server.endpoint) else {
        return;
    };
    let fresh = || opened("s3://nosuchbucket/p", Some(&endpoint), &quick()).store;
    let errors = [
        fresh().list("").err(),
        fresh().list("data").err(),
        fresh().directories("").err(),
        fresh().stat("a").err(),
        fresh().get("a", 1).err(),
        fresh().get_range("a", 0, 1).err(),
    ];
    for (call, error) in errors.into_iter().enumerate() {
        assert!(
            matches!(error, Some(StoreError::Failed { .. })),
            "call {call}: {error:?}"
        );
        let said = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains("no such bucket"), "call {call}: {said}");
    }
}

#[test]
fn an_unreachable_server_is_unavailable_after_the_tries_allowed() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", closed.local_addr().expect("bound"));
    drop(closed);
    let test = "an_unreachable_server_is_unavailable_after_the_tries_allowed";
    let Some(endpoint) = in_child(test, &endpoint, KEYS) else {
        return;
    };
    let Opened { store, counts } = opened(&format!("s3://b?endpoint={endpoint}"), None, &quick());
    let begin = Instant::now();
    let error = store
        .put("a", Bytes::from_static(b"x"))
        .expect_err("nobody is there");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    let said = error.to_string();
    assert!(
        said.contains("tried 3 times") && said.contains("refused"),
        "{said}"
    );
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert_eq!(counts.tally().puts, 3);
}

#[test]
fn a_silent_server_is_given_up_after_its_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", silent.local_addr().expect("bound"));
    let Some(endpoint) = in_child("a_silent_server_is_given_up_after_its_time", &endpoint, KEYS) else {
        return;
    };
    let settings = StoreSettings {
        attempts: 2,
        timeout: Duration::from_secs(1),
        ..quick()
    };
    let Opened { store, .. } = opened("s3://b", Some(&endpoint), &settings);
    let begin = Instant::now();
    for error in [store.stat("a").err(), store.list("").err()] {
        assert!(matches!(error, Some(StoreError::Unavailable { .. })), "{error:?}");
    }
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
}

/// Where there is no metadata service, the network may swallow the question; so it is asked of one who never answers.
#[test]
fn without_credentials_one_hears_so_soon_and_not_after_the_metadata_service_s_silence() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let metadata = format!("http://{}", silent.local_addr().expect("bound"));
    let variables = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.as_str())];
    let test = "without_credentials_one_hears_so_soon_and_not_after_the_metadata_service_s_silence";
    let Some(endpoint) = in_child(test, "http://127.0.0.1:9", &variables) else {
        return;
    };
    let Opened { store, .. } = opened("s3://b", Some(&endpoint), &StoreSettings::default());
    let begin = Instant::now();
    let error = store.list("").expect_err("there are no credentials");
    let took = begin.elapsed();
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    assert!(error.to_string().contains("AWS_ACCESS_KEY_ID"), "{error}");
    assert!(took < Duration::from_secs(10), "it took {took:?}");
}

#[test]
fn a_profile_s_keys_are_found() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let file = dir.path().join("credentials");
    let text = format!(
        "[default]\naws_access_key_id = no\naws_secret_access_key = no\n\n[work]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    );
    std::fs::write(&file, text).expect("written");
    let path = file.to_str().expect("a text");
    let variables = [("AWS_SHARED_CREDENTIALS_FILE", path)];
    let Some(endpoint) = with_server("a_profile_s_keys_are_found", "profiles", &variables, |server| {
        &server.endpoint
    }) else {
        return;
    };
    let named = opened("s3://profiles?profile=work", Some(&endpoint), &quick());
    named
        .store
        .put("a", Bytes::from_static(b"x"))
        .expect("the profile may");
    let default = opened("s3://profiles", Some(&endpoint), &quick());
    assert!(matches!(
        default.store.get("a", 1),
        Err(StoreError::Denied { .. })
    ));
}

/// `docker plugin set` and files of variables leave empty ones behind. An empty key once hid the profile's, and an empty
/// token was sent along with a good key.
#[test]
fn variables_that_are_given_but_empty_count_as_not_given() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let file = dir.path().join("credentials");
    let text = format!(
        "[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n\n[work]\naws_access_key_id = no\naws_secret_access_key = no\n"
    );
    std::fs::write(&file, text).expect("written");
    let path = file.to_str().expect("a text");
    let mut variables = vec![
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("AWS_SESSION_TOKEN", ""),
        ("AWS_PROFILE", ""),
        ("AWS_REGION", ""),
        ("AWS_DEFAULT_REGION", ""),
        ("AWS_CONFIG_FILE", ""),
        ("AWS_ENDPOINT_URL", ""),
        ("AWS_ENDPOINT_URL_S3", ""),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", ""),
        ("HTTP_PROXY", ""),
        ("http_proxy", ""),
        ("AWS_SHARED_CREDENTIALS_FILE", path),
    ];
    let test = "variables_that_are_given_but_empty_count_as_not_given";
    let works = |endpoint: &str| {
        let Opened { store, .. } = opened("s3://empties/p", Some(endpoint), &quick());
        store.put("a", Bytes::from_static(b"x")).expect("put");
        assert_eq!(store.get("a", 1).expect("get"), Bytes::from_static(b"x"));
    };
    // The profile's keys, since the environment gives none.
    let Some(endpoint) = with_server(test, "empties", &variables, |server| &server.endpoint) else {
        if std::env::var_os(s3::child::CHILD).is_none()
            && let Some(server) = s3::Server::get()
        {
            // The environment's keys, with an empty token, and a profile whose keys are wrong.
            variables[0].1 = ACCESS_KEY;
            variables[1].1 = SECRET_KEY;
            variables[3].1 = "work";
            in_child(test, &server.endpoint, &variables);
        }
        return;
    };
    works(&endpoint);
}

/// An empty address once led nowhere. The way to Amazon is seen by the proxy that is asked to lead there.
#[test]
fn an_empty_endpoint_is_amazon_s_own() {
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", proxy.local_addr().expect("bound"));
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = proxy.accept().expect("somebody asks");
        let mut said = [0; 200];
        let length = stream.read(&mut said).expect("a request");
        String::from_utf8_lossy(&said[..length]).into_owned()
    });
    let variables = [
        ("AWS_ENDPOINT", ""),
        ("AWS_ENDPOINT_URL", ""),
        ("AWS_ENDPOINT_URL_S3", ""),
        ("AWS_REGION", ""),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ("HTTPS_PROXY", &address),
    ];
    if in_child("an_empty_endpoint_is_amazon_s_own", "", &variables).is_some() {
        let settings = StoreSettings {
            attempts: 1,
            ..quick()
        };
        let Opened { store, .. } = opened("s3://empties/p", None, &settings);
        store.list("").expect_err("the proxy hangs up");
        return;
    }
    let asked = asked.join().expect("the proxy was asked");
    assert!(
        asked.starts_with("CONNECT empties.s3.us-east-1.amazonaws.com:443 "),
        "{asked}"
    );
}

/// The same server, by WebDAV, which knows no conditions.
#[test]
fn a_web_dav_server_conforms() {
    let Some(host) = with_server("a_web_dav_server_conforms", "dav", &[], |server| &server.web_dav) else {
        return;
    };
    let abilities = Abilities {
        exclusive_put: false,
        atomic: false,
        directories_go: false,
        large_bytes: 1 << 20,
    };
    let number = AtomicU32::new(0);
    conformance::run(abilities, &|| {
        let number = number.fetch_add(1, Ordering::SeqCst);
        let url = format!("webdav://{host}/dav/{number}");
        Arc::clone(&opened(&url, None, &quick()).store)
    });
}
