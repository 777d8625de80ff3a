//! `/v1/events`: JSON lines, the kept ones first, then each new one until the listener leaves or the daemon stops.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio_stream::wrappers::BroadcastStream;
use warp::Reply;

use super::{Query, Refused, Result};
use crate::api::view;
use crate::service::{Event, Service};

pub(super) async fn stream(service: &Service, mut query: Query) -> Result {
    let since = match query.take("since") {
        None => 0,
        Some(text) => text
            .parse()
            .map_err(|_| Refused::invalid(format!("parameter since: {text:?} is not a sequence number")))?,
    };
    let follow = query.flag("follow", true)?;
    query.end()?;
    let (kept, feed) = service.events().since(since);
    let kept = stream::iter(kept.into_iter().map(|event| line(&event)));
    // A listener that fell behind loses the oldest events; the sequence numbers tell it so.
    let feed =
        BroadcastStream::new(feed).filter_map(|event| async move { event.ok().map(|event| line(&event)) });
    let stopping = service.clone();
    let feed = feed.take_until(async move { stopping.stopping().await });
    let reply = if follow {
        warp::reply::stream(kept.chain(feed)).into_response()
    } else {
        warp::reply::stream(kept).into_response()
    };
    Ok(warp::reply::with_header(reply, "content-type", "application/x-ndjson").into_response())
}

fn line(event: &Event) -> std::result::Result<Bytes, Infallible> {
    let mut text = serde_json::to_vec(&view::event(event)).expect("an event has text keys only");
    text.push(b'\n');
    Ok(Bytes::from(text))
}
