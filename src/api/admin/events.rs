//! `/v1/events`: the kept ones first, then each new one until the listener leaves or the daemon stops. As JSON lines, or as
//! server-sent events for whoever asks for those.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio_stream::wrappers::{BroadcastStream, IntervalStream};
use warp::Reply;
use warp::http::HeaderMap;

use super::{Query, Refused, Result};
use crate::api::event_json;
use crate::service::{Event, Service};

/// So often a listener to server-sent events is told that the daemon is still there.
const STILL_THERE: Duration = Duration::from_secs(15);

/// How events are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Lines,
    ServerSent,
}

pub(super) async fn stream(service: &Service, mut query: Query, headers: &HeaderMap) -> Result {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let form = match header("accept") {
        Some(wanted) if wanted.contains("text/event-stream") => Form::ServerSent,
        _ => Form::Lines,
    };
    // A listener to server-sent events that comes back says by itself which it had last.
    let last = header("last-event-id").filter(|_| form == Form::ServerSent);
    let since = match query.take("since").as_deref().or(last) {
        None => 0,
        Some(text) => text
            .parse()
            .map_err(|_| Refused::invalid(format!("parameter since: {text:?} is not a sequence number")))?,
    };
    let follow = query.flag("follow", true)?;
    query.end()?;
    let (kept, feed) = service.events().since(since);
    let kept = stream::iter(kept.into_iter().map(move |event| write(&event, form)));
    // A listener that fell behind loses the oldest events; the sequence numbers tell it so.
    let (this, stopping) = (service.clone(), service.clone());
    let feed = BroadcastStream::new(feed).filter_map(move |event| {
        let written = match event {
            Ok(event) => Some(write(&event, form)),
            Err(tokio_stream::wrappers::errors::BroadcastStreamRecvError::Lagged(missed)) => {
                this.tally().events_dropped("feed", missed);
                None
            }
        };
        async move { written }
    });
    let reply = match (follow, form) {
        (false, _) => warp::reply::stream(kept).into_response(),
        (true, Form::Lines) => {
            let feed = feed.take_until(async move { stopping.stopping().await });
            warp::reply::stream(kept.chain(feed)).into_response()
        }
        (true, Form::ServerSent) => {
            let beats = IntervalStream::new(tokio::time::interval(STILL_THERE));
            let beats = beats.map(|_| Ok(Bytes::from_static(b":\n\n")));
            let feed = stream::select(feed, beats).take_until(async move { stopping.stopping().await });
            warp::reply::stream(kept.chain(feed)).into_response()
        }
    };
    let media = match form {
        Form::Lines => "application/x-ndjson",
        Form::ServerSent => "text/event-stream",
    };
    Ok(warp::reply::with_header(reply, "content-type", media).into_response())
}

fn write(event: &Event, form: Form) -> std::result::Result<Bytes, Infallible> {
    let mut text = Vec::new();
    if form == Form::ServerSent {
        text.extend(format!("id: {}\nevent: {}\ndata: ", event.sequence, event.action).bytes());
    }
    // JSON has no line feed in it.
    text.extend(event_json(event));
    text.extend(match form {
        Form::Lines => b"\n".iter(),
        Form::ServerSent => b"\n\n".iter(),
    });
    Ok(Bytes::from(text))
}
