//! `/v1/jobs`.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use warp::Reply;

use super::{Query, Refused, Result, ok};
use crate::api::types::Job;
use crate::api::view;
use crate::model::JobId;
use crate::service::Service;

/// How often the progress of a job is told, if it changes.
const BEAT: Duration = Duration::from_millis(250);
/// How often it is told all the same, so that who listens sees that the daemon is there.
const STILL_HERE: Duration = Duration::from_secs(15);

pub(super) async fn list(service: &Service) -> Result {
    let jobs: Vec<Job> = service.jobs().await?.iter().map(view::job).collect();
    ok(&jobs)
}

pub(super) async fn inspect(service: &Service, id: &str) -> Result {
    ok(&view::job(&service.job(number(id)?).await?))
}

pub(super) async fn cancel(service: &Service, id: &str) -> Result {
    ok(&view::job(&service.cancel_job(number(id)?).await?))
}

/// JSON lines: how the job stands now, then each change, until it has ended or the daemon stops.
pub(super) async fn progress(service: &Service, id: &str, mut query: Query) -> Result {
    let follow = query.flag("follow", true)?;
    query.end()?;
    let id = number(id)?;
    let first = view::job(&service.job(id).await?);
    let begun = Watch {
        service: service.clone(),
        id,
        last: None,
        next: Some(first),
        follow,
    };
    let lines = stream::unfold(begun, |mut watch| async move {
        let job = watch.next().await?;
        let mut line = serde_json::to_vec(&job).expect("a job has text keys only");
        line.push(b'\n');
        Some((Ok::<_, Infallible>(Bytes::from(line)), watch))
    });
    let reply = warp::reply::stream(lines).into_response();
    Ok(warp::reply::with_header(reply, "content-type", "application/x-ndjson").into_response())
}

/// What a listener was told of a job.
struct Watch {
    service: Service,
    id: JobId,
    last: Option<Job>,
    next: Option<Job>,
    follow: bool,
}

impl Watch {
    async fn next(&mut self) -> Option<Job> {
        if let Some(first) = self.next.take() {
            self.last = Some(first.clone());
            return Some(first);
        }
        let last = self.last.as_ref()?;
        if !self.follow || is_over(last) {
            return None;
        }
        let mut waited = Duration::ZERO;
        loop {
            let job = tokio::select! {
                job = self.service.wait_for_job(self.id, BEAT) => job.ok()?,
                () = self.service.stopping() => return None,
            };
            waited += BEAT;
            let job = view::job(&job);
            // A job that left memory without an end is left to the next start.
            if Some(&job) != self.last.as_ref() || waited >= STILL_HERE {
                self.last = Some(job.clone());
                return Some(job);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn is_over(job: &Job) -> bool {
    matches!(job.state.as_str(), "done" | "failed" | "cancelled")
}

fn number(text: &str) -> Result<JobId> {
    match text.parse() {
        Ok(id) => Ok(JobId(id)),
        Err(_) => Err(Refused::invalid(format!(
            "{:?} is not the number of a job",
            text.chars().take(40).collect::<String>()
        ))),
    }
}
