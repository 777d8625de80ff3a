//! URLs, which come from people and out of records.

use crate::engine::BackupUrl;
use crate::store::Destination;

/// A backup's URL: what is read and printed is read again as the same.
pub fn backup_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for endpoint in [None, Some("http://h:1")] {
        let Ok(url) = BackupUrl::parse(text, endpoint) else {
            continue;
        };
        let printed = url.to_string();
        assert!(!printed.chars().any(char::is_control), "one line: {printed:?}");
        let again = BackupUrl::parse(&printed, None);
        assert_eq!(
            again.map_err(|error| error.to_string()),
            Ok(url.clone()),
            "{printed}"
        );
        for name in [&url.volume, &url.backup].into_iter().flatten() {
            assert!(!name.is_empty() && !name.contains('/') && name != "." && name != "..");
            assert!(
                url.destination.join(name).is_ok(),
                "{name:?} is one part of a path"
            );
        }
    }
}

pub(super) fn backup_urls() -> Vec<Vec<u8>> {
    let mut urls = destinations();
    urls.extend(
        [
            "vfs:///b?volume=v&backup=0123",
            "vfs:///b?backup=backup-1\\u0026volume=_v",
            "s3://b@r/p?backup=x&endpoint=http://h:1&volume=v",
        ]
        .map(|url| url.as_bytes().to_vec()),
    );
    urls
}

/// A destination.
pub fn destination(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // What is before a line feed is what `--s3-endpoint` says.
    let (endpoint, url) = text
        .split_once('\n')
        .map_or((None, text), |(one, other)| (Some(one), other));
    let Ok(destination) = Destination::parse(url, endpoint) else {
        return;
    };
    let printed = destination.url();
    assert!(!printed.chars().any(char::is_control), "one line: {printed:?}");
    let again = Destination::parse(&printed, None);
    assert_eq!(
        again.map_err(|error| error.to_string()),
        Ok(destination),
        "{printed}"
    );
}

pub(super) fn destinations() -> Vec<Vec<u8>> {
    [
        "vfs:///srv/with%20blank/%25",
        "file:///a//b/",
        "s3://bucket@region/a/b?style=virtual&profile=work",
        "http://h:9000\ns3://bucket?endpoint=https://other",
        "gs://bucket/p?endpoint=http://h",
        "az://container/p?account=name",
        "webdavs://files.example.org:8443/a",
    ]
    .map(|url| url.as_bytes().to_vec())
    .to_vec()
}
