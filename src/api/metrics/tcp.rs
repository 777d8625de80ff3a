//! The metrics at an address of the network, for a Prometheus that does not come to the admin socket: `/metrics` and `/healthz`,
//! read-only, and nothing else of the daemon's.
//!
//! The network is not trusted: so many connections at once, one request on each, and each ends in bounded time. A taken address
//! keeps no volume from being mounted: it is tried again.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use warp::Reply;
use warp::reply::Response;

use crate::service::Service;

/// So many connections at once; others wait in the kernel.
const CONNECTIONS: usize = 16;
/// How long a caller may take to say what it wants.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may last: thousands of volumes over a slow network.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a taken address is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Serves the metrics at `address` until `stop`.
pub async fn serve(service: Service, address: SocketAddr, stop: impl Future<Output = ()> + Send) {
    let at_work = async {
        let listener = listen(&service, address).await;
        log::info!("metrics at http://{address}/metrics");
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let place = places.clone().acquire_owned().await;
            match listener.accept().await {
                Ok((stream, _)) => {
                    let service = service.clone();
                    tokio::spawn(async move {
                        // Whoever is too slow, or leaves, is not answered.
                        let _ = tokio::time::timeout(PATIENCE, answer_one(service, stream)).await;
                        drop(place);
                    });
                }
                // No file descriptors left, or a caller that left at once.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    tokio::select! {
        () = at_work => {}
        () = stop => {}
    }
}

async fn listen(service: &Service, address: SocketAddr) -> TcpListener {
    let mut told = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    let message = format!(
                        "no metrics at {address}: {error}; it is tried again, or give another metrics-address"
                    );
                    service.events().emit("warning", "", &[("message", message)]);
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn answer_one(service: Service, stream: TcpStream) -> Result<(), hyper::Error> {
    let answer = service_fn(move |request: Request<Incoming>| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(answer(&service, request.method(), request.uri().path()).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer)
        .await
}

async fn answer(service: &Service, method: &Method, path: &str) -> Response {
    if !matches!(path, "/metrics" | "/healthz") {
        return plain(StatusCode::NOT_FOUND, "here are /metrics and /healthz\n");
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "read only\n");
        refusal
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    match path {
        "/metrics" => super::answer(service).await,
        _ if service.is_ready() => plain(StatusCode::OK, "ok\n"),
        _ => plain(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    let mut response = warp::reply::with_status(text, status).into_response();
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
