//! Prometheus' metrics, in OpenMetrics' text: what memory knows, at the moment in which somebody asks. docs/METRICS.md has them all.
//!
//! A scrape measures no volume: sizes are those that somebody asked for last, with the time of that look. The pool alone is
//! asked, which is one call of the kernel's, and left out where it does not answer in time.

mod picture;
pub mod tcp;

use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::sync::{Mutex, Semaphore};
use warp::Reply;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::driver::pool::PoolStatus;
use crate::service::Service;
use picture::Picture;

/// What the answer is.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// How long the pool may take to answer.
const POOL_PATIENCE: Duration = Duration::from_secs(2);

/// One scrape at a time: several at once would need several times the memory.
static TURN: Mutex<()> = Mutex::const_new(());
/// One look at the pool at a time, so that looks which hang do not pile up.
static LOOK: Semaphore = Semaphore::const_new(1);

/// All metrics, as an answer.
pub(super) async fn answer(service: &Service) -> Response {
    match text(service).await {
        Some(text) => warp::reply::with_header(text, "content-type", CONTENT_TYPE).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// All metrics, as text.
async fn text(service: &Service) -> Option<String> {
    let _turn = TURN.lock().await;
    let pool = pool(service).await;
    let service = service.clone();
    // Thousands of volumes take a while, in which no thread of the runtime shall be missing.
    let written = tokio::task::spawn_blocking(move || {
        let mut registry = Registry::with_prefix("windlass");
        service.tally().register(&mut registry);
        registry.register_collector(Box::new(Picture::take(&service, pool)));
        let mut text = String::new();
        encode(&mut text, &registry).map(|()| text)
    });
    match written.await {
        Ok(Ok(text)) => Some(text),
        Ok(Err(error)) => {
            log::error!("the metrics cannot be written: {error}");
            None
        }
        Err(error) => {
            log::error!("the metrics cannot be written: {error}");
            None
        }
    }
}

async fn pool(service: &Service) -> Option<PoolStatus> {
    if !service.is_ready() {
        return None;
    }
    let permit = LOOK.try_acquire().ok()?;
    let service = service.clone();
    let look = tokio::spawn(async move {
        let _permit = permit;
        service.pool_status().await.ok().map(|(_, status)| status)
    });
    tokio::time::timeout(POOL_PATIENCE, look).await.ok()?.ok()?
}
