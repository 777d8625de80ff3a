//! `/v1/volumes/{volume}/timeline`: a volume's history.

use super::{Query, Refused, Result, ok};
use crate::api::view;
use crate::model::{Moment, Time};
use crate::service::Service;

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
