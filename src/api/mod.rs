//! The two HTTP faces of the daemon, each on a unix socket: Docker's volume protocol and the admin API.
//!
//! Both read raw bodies with a bound of their own and insist on no header: the engine sends no content type, and an
//! empty `Host` on some versions.

pub mod admin;
pub mod docker;
pub mod error;
pub mod metrics;
pub mod types;
mod view;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio::net::UnixListener;
use warp::Filter;
use warp::http::HeaderMap;
use warp::reply::Response;

use crate::service::Service;

/// The longest body that is read; a create with every option at its longest is far below.
const MAX_BODY: usize = 1 << 20;

/// An event as JSON, as `windlass events` prints it.
pub fn event_json(event: &crate::service::Event) -> Vec<u8> {
    serde_json::to_vec(&view::event(event)).expect("an event has text keys only")
}

/// A request as both faces see it.
struct Request {
    method: warp::http::Method,
    path: String,
    query: String,
    headers: HeaderMap,
    body: Body,
}

/// A request's body.
enum Body {
    /// All of it.
    Whole(Bytes),
    /// More than [`MAX_BODY`]; not read to its end.
    TooLong,
    /// The sender broke off.
    Broken,
}

/// Serves Docker's volume protocol until `stop`.
pub async fn serve_docker(
    service: Service,
    listener: UnixListener,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    serve(listener, stop, move |request| {
        docker::answer(service.clone(), request)
    })
    .await;
}

/// Serves the admin API until `stop`.
pub async fn serve_admin(
    service: Service,
    about: admin::About,
    listener: UnixListener,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    serve(listener, stop, move |request| {
        admin::answer(service.clone(), about.clone(), request)
    })
    .await;
}

async fn serve<F>(
    listener: UnixListener,
    stop: impl Future<Output = ()> + Send + 'static,
    answer: impl Fn(Request) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = Response> + Send + 'static,
{
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    let filter = warp::method()
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(move |method, path: warp::path::FullPath, query, headers, body| {
            let answer = answer.clone();
            async move {
                let request = Request {
                    method,
                    path: path.as_str().to_owned(),
                    query,
                    headers,
                    body: read(body).await,
                };
                answer(request).await
            }
        });
    warp::serve(filter).incoming(listener).graceful(stop).run().await;
}

async fn read(stream: impl Stream<Item = Result<impl Buf, warp::Error>>) -> Body {
    let mut stream = std::pin::pin!(stream);
    let mut whole = BytesMut::new();
    while let Some(part) = stream.next().await {
        match part {
            Ok(mut part) if whole.len() + part.remaining() <= MAX_BODY => {
                let length = part.remaining();
                whole.extend_from_slice(&part.copy_to_bytes(length));
            }
            Ok(_) => return Body::TooLong,
            Err(_) => return Body::Broken,
        }
    }
    Body::Whole(whole.freeze())
}
