//! The way to the servers: one HTTP client for all stores, and each store's requests counted by what they do.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, Uri};
use opendal::{Buffer, HttpBody, HttpTransport};
use opendal_http_transport_reqwest::ReqwestTransport;

use crate::store::Counts;
use crate::store::counting::Verb;

/// How long a server may take to be reached.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A peer that acknowledges nothing for so long is gone.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// What a machine's own metadata service may take. It is on the host itself, or not there at all: elsewhere the network
/// swallows the question, and nobody shall wait for that.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);

/// Connections are kept and shared between stores.
static CLIENT: LazyLock<ReqwestTransport> = LazyLock::new(|| {
    let configured = || {
        reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(Duration::from_secs(15))
            .tcp_user_timeout(SILENCE_TIMEOUT)
            .pool_idle_timeout(Duration::from_secs(50))
            .user_agent(concat!("windlass/", env!("CARGO_PKG_VERSION")))
    };
    let client = configured().build().unwrap_or_else(|error| {
        // A machine without authorities' certificates can still work with servers that need none.
        log::warn!(
            "no certificates of authorities, so https will not work (install ca-certificates): {error}"
        );
        configured()
            .tls_certs_only([])
            .build()
            .expect("a client that trusts nobody needs nothing of the machine")
    });
    ReqwestTransport::new(client)
});

/// Sends one store's requests and counts them. Requests for credentials are not the store's, and are not counted.
pub(super) struct Counted(pub(super) Arc<Counts>);

impl HttpTransport for Counted {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        if is_for_metadata(request.uri(), request.headers()) {
            return match tokio::time::timeout(METADATA_TIMEOUT, CLIENT.fetch(request)).await {
                Ok(answer) => answer,
                Err(_) => Err(opendal::Error::new(
                    opendal::ErrorKind::Unexpected,
                    "this machine has no metadata service",
                )),
            };
        }
        if !is_for_tokens(request.headers())
            && let Some(verb) = verb(request.method(), request.uri())
        {
            self.0.request(verb);
            if request.method() == Method::PUT {
                self.0.sent(request.body().len() as u64);
            }
        }
        CLIENT.fetch(request).await
    }
}

/// Whether a request is for credentials of the machine itself (Amazon's, Google's, Azure's).
fn is_for_metadata(uri: &Uri, headers: &HeaderMap) -> bool {
    let host = uri.host().unwrap_or_default();
    host.starts_with("169.254.")
        || host == "metadata.google.internal"
        || [
            "x-aws-ec2-metadata-token",
            "x-aws-ec2-metadata-token-ttl-seconds",
            "metadata-flavor",
        ]
        .iter()
        .any(|name| headers.contains_key(*name))
}

/// Whether a request is a form: so one asks a token service, whatever its address, and never a store.
fn is_for_tokens(headers: &HeaderMap) -> bool {
    let kind = headers.get(http::header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-www-form-urlencoded"))
}

/// What a request does; none for a request to a token service.
fn verb(method: &Method, uri: &Uri) -> Option<Verb> {
    let host = uri.host().unwrap_or_default();
    if host.starts_with("sts.") || host.starts_with("oauth2.") || host.starts_with("login.") {
        return None;
    }
    let query = uri.query().unwrap_or_default();
    let lists = ["list-type=", "prefix=", "delimiter=", "comp=list"]
        .iter()
        .any(|sign| query.contains(sign));
    Some(match method.as_str() {
        "GET" if lists => Verb::List,
        "GET" => Verb::Get,
        "HEAD" => Verb::Stat,
        "PROPFIND" => Verb::List,
        "DELETE" => Verb::Delete,
        _ => Verb::Put,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_by_what_they_do() {
        let told = |method: &str, uri: &str| {
            verb(
                &method.parse().expect("a method"),
                &uri.parse().expect("an address"),
            )
        };
        let bucket = "http://127.0.0.1:8333/bucket";
        assert_eq!(
            told("GET", &format!("{bucket}?list-type=2&prefix=a")),
            Some(Verb::List)
        );
        assert_eq!(told("GET", &format!("{bucket}/prefix")), Some(Verb::Get));
        assert_eq!(told("HEAD", &format!("{bucket}/a")), Some(Verb::Stat));
        assert_eq!(told("PUT", &format!("{bucket}/a")), Some(Verb::Put));
        assert_eq!(told("POST", &format!("{bucket}/a?uploads")), Some(Verb::Put));
        assert_eq!(told("DELETE", &format!("{bucket}/a")), Some(Verb::Delete));
        assert_eq!(told("POST", "https://sts.amazonaws.com/"), None);
    }

    #[test]
    fn a_machine_s_own_credentials_are_recognized() {
        let none = HeaderMap::new();
        let is = |uri: &str, headers: &HeaderMap| is_for_metadata(&uri.parse().expect("an address"), headers);
        assert!(is("http://169.254.169.254/latest/api/token", &none));
        assert!(!is("http://127.0.0.1/latest/api/token", &none));
        let mut headers = HeaderMap::new();
        headers.insert(
            "x-aws-ec2-metadata-token-ttl-seconds",
            "1".parse().expect("a value"),
        );
        assert!(is("http://127.0.0.1/latest/api/token", &headers));
    }
}
