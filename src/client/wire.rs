//! One request over one connection: paths, bodies within bounds, and the event feed's lines.

use std::fmt;
use std::io::ErrorKind;
use std::marker::PhantomData;
use std::path::{self, PathBuf};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::{Client, ClientError};
use crate::api::types::{Failure, Kind};

/// How long a socket's queue may stay full before the daemon counts as absent.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer from memory may take. Changes have no such bound: a clone takes as long as it takes.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest line of the event feed.
const MAX_EVENT_BYTES: usize = 1 << 20;

/// A path below `/v1` with its query, percent-encoded.
#[derive(Debug)]
pub(super) struct Path(String);

impl Path {
    /// `/v1/<collection>`.
    pub(super) fn new(collection: &'static str) -> Self {
        Self(format!("/v1/{collection}"))
    }

    /// One more segment that a user gave.
    pub(super) fn segment(mut self, reference: &str) -> Self {
        self.0.push('/');
        percent_encode(reference, &mut self.0);
        self
    }

    /// One more segment of our own.
    pub(super) fn word(mut self, word: &'static str) -> Self {
        self.0.push('/');
        self.0.push_str(word);
        self
    }

    /// `name=value` in the query, if there is a value.
    pub(super) fn query(mut self, name: &'static str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            self.0.push(if self.0.contains('?') { '&' } else { '?' });
            self.0.push_str(name);
            self.0.push('=');
            percent_encode(value, &mut self.0);
        }
        self
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// RFC 3986: unreserved characters stand for themselves, and so does `@`, which a path segment may hold.
fn percent_encode(text: &str, into: &mut String) {
    use fmt::Write as _;
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' => {
                into.push(byte.into());
            }
            _ => write!(into, "%{byte:02X}").expect("writing to a String cannot fail"),
        }
    }
}

/// Connects to `socket`. A full queue is waited out for [`CONNECT_TIMEOUT`]: Linux refuses with EAGAIN there.
pub(super) async fn connect(socket: &path::Path) -> Result<UnixStream, ClientError> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    loop {
        let source = match UnixStream::connect(socket).await {
            Ok(stream) => return Ok(stream),
            Err(source) => source,
        };
        match source.kind() {
            ErrorKind::WouldBlock if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            ErrorKind::WouldBlock => {
                return Err(ClientError::Silent {
                    socket: socket.to_owned(),
                    request: "the connection".to_owned(),
                    seconds: CONNECT_TIMEOUT.as_secs(),
                });
            }
            ErrorKind::PermissionDenied => {
                return Err(ClientError::PermissionDenied {
                    socket: socket.to_owned(),
                });
            }
            ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory => {
                return Err(ClientError::NoDaemon {
                    tried: vec![socket.to_owned()],
                });
            }
            _ => {
                return Err(ClientError::Connect {
                    socket: socket.to_owned(),
                    source,
                });
            }
        }
    }
}

impl Client {
    /// Sends a request and waits for the answer's head; a failure's body becomes [`ClientError::Failure`].
    /// The text is the request as errors name it.
    pub(super) async fn send(
        &self,
        method: Method,
        route: &Path,
        body: Option<Vec<u8>>,
    ) -> Result<(String, Response<Incoming>), ClientError> {
        let patience = (method == Method::GET).then_some(READ_TIMEOUT);
        self.send_with(method, route, body, patience).await
    }

    /// The same with another patience than what is from memory needs.
    pub(super) async fn send_with(
        &self,
        method: Method,
        route: &Path,
        body: Option<Vec<u8>>,
        patience: Option<Duration>,
    ) -> Result<(String, Response<Incoming>), ClientError> {
        let request = format!("{method} {route}");
        let started = Instant::now();
        let exchange = self.exchange(&request, method, route, body);
        let answer = match patience {
            None => exchange.await?,
            Some(patience) => match tokio::time::timeout(patience, exchange).await {
                Ok(answer) => answer?,
                Err(_) => return Err(self.silent(request)),
            },
        };
        let status = answer.status();
        log::debug!("{request}: {status} after {} ms", started.elapsed().as_millis());
        if status.is_success() {
            return Ok((request, answer));
        }
        let body = self.collect(&request, answer).await?;
        Err(match failure(&body) {
            Some(failure) if status.as_u16() >= 400 => ClientError::Failure(failure),
            _ => ClientError::NotWindlass {
                socket: self.socket.clone(),
                request,
                why: format!("status {} without a reason", status.as_u16()),
            },
        })
    }

    async fn exchange(
        &self,
        request: &str,
        method: Method,
        route: &Path,
        body: Option<Vec<u8>>,
    ) -> Result<Response<Incoming>, ClientError> {
        let stream = connect(&self.socket).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|source| self.broken(request, source))?;
        // It ends with the answer's body, or with the runtime; its errors reach us through the answer.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                log::debug!("the connection ended: {error}");
            }
        });
        let mut message = Request::builder()
            .method(method)
            .uri(&route.0)
            // HTTP/1.1 wants a host; on a unix socket any will do.
            .header(header::HOST, "windlass")
            .header(header::ACCEPT, "application/json, application/x-ndjson");
        if body.is_some() {
            message = message.header(header::CONTENT_TYPE, "application/json");
        }
        let message = message
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|error| ClientError::Request {
                request: request.to_owned(),
                why: error.to_string(),
            })?;
        sender
            .send_request(message)
            .await
            .map_err(|source| self.broken(request, source))
    }

    /// The whole body of an answer, within the bound on its size; a pause of [`READ_TIMEOUT`] within it is an error.
    pub(super) async fn collect(
        &self,
        request: &str,
        answer: Response<Incoming>,
    ) -> Result<Vec<u8>, ClientError> {
        let mut limited = Limited::new(answer.into_body(), self.limit_bytes);
        let mut body = Vec::new();
        loop {
            let frame = match tokio::time::timeout(READ_TIMEOUT, limited.frame()).await {
                Err(_) => return Err(self.silent(request.to_owned())),
                Ok(None) => return Ok(body),
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => {
                    return Err(match error.downcast::<hyper::Error>() {
                        Ok(source) => self.broken(request, *source),
                        Err(error) => {
                            debug_assert!(error.is::<LengthLimitError>(), "{error}");
                            ClientError::TooLarge {
                                request: request.to_owned(),
                                limit_bytes: self.limit_bytes,
                            }
                        }
                    });
                }
            };
            if let Ok(data) = frame.into_data() {
                body.extend_from_slice(&data);
            }
        }
    }

    fn silent(&self, request: String) -> ClientError {
        ClientError::Silent {
            socket: self.socket.clone(),
            request,
            seconds: READ_TIMEOUT.as_secs(),
        }
    }

    fn broken(&self, request: &str, source: hyper::Error) -> ClientError {
        let (socket, request) = (self.socket.clone(), request.to_owned());
        if source.is_parse() {
            let why = "an answer that is not HTTP".to_owned();
            return ClientError::NotWindlass { socket, request, why };
        }
        ClientError::Broken {
            socket,
            request,
            source,
        }
    }
}

/// The daemon's failure. A kind that only a later version knows counts as internal, but its words are kept.
fn failure(body: &[u8]) -> Option<Failure> {
    if let Ok(failure) = serde_json::from_slice(body) {
        return Some(failure);
    }
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let text = |key| {
        value
            .get(key)
            .and_then(serde_json::Value::as_str)
            .map(str::to_owned)
    };
    text("Kind")?;
    Some(Failure {
        kind: Kind::Internal,
        message: text("Message")?,
        hint: text("Hint").unwrap_or_default(),
    })
}

/// A feed (events, a job's progress): one JSON object per line, for as long as the daemon speaks.
#[derive(Debug)]
pub struct Lines<T> {
    line: PhantomData<fn() -> T>,
    socket: PathBuf,
    request: String,
    body: Incoming,
    /// What has come since the last line's end.
    pending: BytesMut,
    ended: bool,
}

impl<T: serde::de::DeserializeOwned> Lines<T> {
    pub(super) fn new(socket: PathBuf, request: String, answer: Response<Incoming>) -> Self {
        Self {
            line: PhantomData,
            socket,
            request,
            body: answer.into_body(),
            pending: BytesMut::new(),
            ended: false,
        }
    }

    /// The next object; `None` when the feed has ended. Dropping the future loses nothing: it can be asked again.
    ///
    /// # Errors
    /// [`ClientError::Broken`] when the daemon goes away in the middle, [`ClientError::NotWindlass`] for a line that
    /// is none, [`ClientError::TooLarge`] for one beyond a mebibyte.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(line) = self.take_line() {
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return match serde_json::from_slice(&line) {
                    Ok(object) => Ok(Some(object)),
                    Err(error) => Err(ClientError::NotWindlass {
                        socket: self.socket.clone(),
                        request: self.request.clone(),
                        why: format!("a line of another shape ({error})"),
                    }),
                };
            }
            if self.ended {
                return Ok(None);
            }
            if self.pending.len() > MAX_EVENT_BYTES {
                return Err(ClientError::TooLarge {
                    request: self.request.clone(),
                    limit_bytes: MAX_EVENT_BYTES,
                });
            }
            match self.body.frame().await {
                None => self.ended = true,
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.pending.extend_from_slice(&data);
                    }
                }
                Some(Err(source)) => {
                    return Err(ClientError::Broken {
                        socket: self.socket.clone(),
                        request: self.request.clone(),
                        source,
                    });
                }
            }
        }
    }

    /// The next whole line; at the end of the feed also one without its newline.
    fn take_line(&mut self) -> Option<Bytes> {
        match self.pending.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                let line = self.pending.split_to(end).freeze();
                self.pending.advance(1);
                Some(line)
            }
            None if self.ended && !self.pending.is_empty() => Some(self.pending.split().freeze()),
            None => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn references_are_percent_encoded() {
        for (given, path) in [
            ("pgdata", "/v1/volumes/pgdata"),
            ("pg@s-1.2_3~", "/v1/volumes/pg@s-1.2_3~"),
            ("a/b?c#d%e f&g=h", "/v1/volumes/a%2Fb%3Fc%23d%25e%20f%26g%3Dh"),
            ("ü\n\"", "/v1/volumes/%C3%BC%0A%22"),
        ] {
            assert_eq!(Path::new("volumes").segment(given).to_string(), path);
        }
    }

    #[test]
    fn a_query_has_only_what_was_given() {
        let path = Path::new("volumes")
            .segment("v")
            .query("reference", Some("true"))
            .query("how", None)
            .query("x", Some("a&b"));
        assert_eq!(path.to_string(), "/v1/volumes/v?reference=true&x=a%26b");
    }

    #[test]
    fn failures_of_later_versions_keep_their_words() {
        let known = failure(br#"{"Kind":"Busy","Message":"volume v is mounted","Hint":"stop it"}"#).unwrap();
        assert_eq!((known.kind, known.hint.as_str()), (Kind::Busy, "stop it"));
        let later = failure(br#"{"Kind":"Expired","Message":"too late"}"#).unwrap();
        assert_eq!((later.kind, later.message.as_str()), (Kind::Internal, "too late"));
        assert!(failure(b"<html>").is_none() && failure(b"{\"error\":\"x\"}").is_none());
    }
}
