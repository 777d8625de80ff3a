//! `/v1/volumes/{volume}/timeline` and `/v1/diff`: a volume's history, and what differs between two states of it.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use warp::Reply;

use super::{Query, Refused, Result, ok};
use crate::api::view;
use crate::model::{Moment, SnapshotRef, Time};
use crate::service::{Difference, Service};

/// JSON lines, the last one with the figures, or with the failure that ended it too early.
pub(super) async fn diff(service: &Service, mut query: Query) -> Result {
    let (from, to) = (query.take("from"), query.take("to"));
    let ranges = query.flag("ranges", false)?;
    query.end()?;
    let Some(from) = from.filter(|from| !from.is_empty()) else {
        return Err(Refused::invalid("parameter from: a snapshot is needed"));
    };
    let to = to.filter(|to| !to.is_empty()).map(|to| SnapshotRef::parse(&to));
    let lines = service
        .diff(&SnapshotRef::parse(&from), to.as_ref(), ranges)
        .await?;
    let lines = stream::unfold(lines, |mut lines| async move {
        let next = lines.recv().await?;
        Some((line(&next), lines))
    });
    let reply = warp::reply::stream(lines).into_response();
    Ok(warp::reply::with_header(reply, "content-type", "application/x-ndjson").into_response())
}

fn line(difference: &Difference) -> std::result::Result<Bytes, Infallible> {
    let mut text = serde_json::to_vec(&view::difference(difference)).expect("text keys only");
    text.push(b'\n');
    Ok(Bytes::from(text))
}

pub(super) async fn timeline(service: &Service, volume: &str, mut query: Query) -> Result {
    let since = query.take("since");
    query.end()?;
    let zone = service.settings().time_zone;
    let since = since.map(|text| {
        let moment = Moment::parse(&text).and_then(|moment| moment.time(Time::now(), &zone));
        moment.ok_or_else(|| {
            Refused::invalid(format!(
                "parameter since: {text:?} is no moment; write 30d, 2026-11-20 or 2026-11-20T08:00"
            ))
        })
    });
    let since = since.transpose()?;
    let timeline = service.timeline(volume, since).await?;
    ok(&view::timeline(&timeline, since))
}
