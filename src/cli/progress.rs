//! How a job goes, for those who wait for it: a bar with rate and time left on a terminal, a line now and then elsewhere.
//!
//! All of it is on stderr; stdout is for what scripts read. Ctrl-C cancels the job.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Error, Screen};
use crate::api::types::Job;
use crate::client::{Client, ClientError};
use crate::model::Bytes;

/// How often a line is written where there is no terminal; a job that is done before writes none.
const EVERY: Duration = Duration::from_secs(10);

/// Whether to show how it goes.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(super) struct Shown {
    /// Do not show how it goes
    #[arg(long)]
    no_progress: bool,
}

/// Waits for a job's end and shows how it goes. Ctrl-C cancels the job; a second one leaves it to itself.
///
/// # Errors
/// The job's own failure, or [`Error::Cancelled`].
pub(super) async fn watch(
    client: &Client,
    screen: &mut Screen,
    job: Job,
    shown: Shown,
) -> Result<Job, Error> {
    let id = job.id;
    let mut drawing = Drawing::begin(shown, &job);
    let mut last = job;
    let mut lines = client.job_progress(id).await?;
    let mut interrupted = false;
    loop {
        let line = tokio::select! {
            line = lines.next() => line,
            _ = tokio::signal::ctrl_c() => {
                drawing.clear();
                if interrupted {
                    return Err(Error::Unfinished { job: id });
                }
                interrupted = true;
                screen.aside(&format!("cancelling job {id} …"));
                client.cancel_job(id).await?;
                continue;
            }
        };
        match line {
            Ok(Some(job)) => {
                drawing.show(&job, screen);
                last = job;
            }
            Ok(None) | Err(ClientError::Broken { .. }) => break,
            Err(error) => return Err(error.into()),
        }
    }
    drawing.clear();
    end(last)
}

/// What a job that has ended means for the command that waited for it.
fn end(mut job: Job) -> Result<Job, Error> {
    match (job.state.as_str(), job.failure.take()) {
        ("done", _) => Ok(job),
        ("failed", Some(failure)) => Err(ClientError::Failure(failure).into()),
        ("cancelled", _) => Err(Error::Cancelled { job: job.id }),
        _ => Err(Error::Unfinished { job: job.id }),
    }
}

enum Drawing {
    Bar(ProgressBar),
    Lines { next: Instant },
    Nothing,
}

impl Drawing {
    fn begin(shown: Shown, job: &Job) -> Self {
        if shown.no_progress {
            return Self::Nothing;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines {
                next: Instant::now() + EVERY,
            };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(spinner());
        bar.set_message(title(job));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self::Bar(bar)
    }

    fn show(&mut self, job: &Job, screen: &mut Screen) {
        match self {
            Self::Nothing => {}
            Self::Lines { next } if Instant::now() < *next => {}
            Self::Lines { next } => {
                *next = Instant::now() + EVERY;
                screen.aside(&in_words(job));
            }
            Self::Bar(bar) => {
                let Some(progress) = &job.progress else { return };
                if progress.bytes_total > 0 {
                    if bar.length() != Some(progress.bytes_total) {
                        bar.set_style(measured());
                        bar.set_length(progress.bytes_total);
                    }
                    bar.set_position(progress.bytes_done.min(progress.bytes_total));
                }
                bar.set_message(match progress.phase.as_str() {
                    "" => title(job),
                    phase => format!("{}: {phase}", title(job)),
                });
            }
        }
    }

    fn clear(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("a template that a test draws")
}

fn measured() -> ProgressStyle {
    ProgressStyle::with_template(
        "{msg}\n{bar:30} {percent:>3} %  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left",
    )
    .expect("a template that a test draws")
}

/// `backup of pgdata`, `restore of pgdata`, `verify`.
fn title(job: &Job) -> String {
    match job.volume.as_str() {
        "" => job.kind.clone(),
        volume => format!("{} of {volume}", job.kind),
    }
}

/// `job 7, backup of pgdata: 43 %, 1.2 GiB of 2.8 GiB, 80 MiB/s, 20 s left`.
pub(super) fn in_words(job: &Job) -> String {
    let mut text = format!("job {}, {}: ", job.id, title(job));
    let Some(progress) = &job.progress else {
        return text + &job.state;
    };
    let mut parts = Vec::new();
    parts.extend(progress.percent.map(|percent| format!("{percent} %")));
    if progress.percent.is_none() && !progress.phase.is_empty() {
        parts.push(progress.phase.clone());
    }
    if progress.bytes_total > 0 {
        let (done, total) = (Bytes(progress.bytes_done), Bytes(progress.bytes_total));
        parts.push(format!("{done} of {total}"));
    }
    if progress.bytes_per_second > 0 {
        parts.push(format!("{}/s", Bytes(progress.bytes_per_second)));
    }
    parts.extend(progress.seconds_left.map(|left| format!("{left} s left")));
    if parts.is_empty() {
        parts.push(job.state.clone());
    }
    text.push_str(&parts.join(", "));
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cli) fn job(state: &str) -> Job {
        serde_json::from_value(serde_json::json!({
            "ID": 7, "Kind": "backup", "Volume": "pgdata", "Parameters": {"Snapshot": "s"}, "State": state,
            "Attempts": 1, "CreatedAt": "2026-11-23T09:00:00Z", "StartedAt": "2026-11-23T09:00:00Z", "EndedAt": "",
            "Progress": {
                "Phase": "reading", "Percent": 43, "BytesTotal": 2147483648u64, "BytesDone": 923417968,
                "ItemsTotal": 0, "ItemsDone": 0, "BytesRead": 0, "BytesNew": 0, "BytesStored": 0,
                "BytesPerSecond": 83886080, "SecondsLeft": 14, "Seconds": 11
            },
            "Result": {}, "Failure": null, "Log": []
        }))
        .unwrap()
    }

    #[test]
    fn a_line_says_how_far_and_how_fast() {
        let text = in_words(&job("running"));
        assert!(text.starts_with("job 7, backup of pgdata: 43 %, "), "{text}");
        assert!(
            text.contains(" of 2 GiB") && text.ends_with("80 MiB/s, 14 s left"),
            "{text}"
        );
        let mut queued = job("queued");
        queued.progress = None;
        assert_eq!(in_words(&queued), "job 7, backup of pgdata: queued");
    }

    #[test]
    fn templates_are_what_the_library_understands() {
        let bar = ProgressBar::hidden();
        bar.set_style(spinner());
        bar.set_style(measured());
    }

    #[test]
    fn how_a_job_ended_is_how_the_command_ends() {
        assert!(end(job("done")).is_ok());
        assert_eq!(end(job("cancelled")).unwrap_err().exit_code(), 1);
        assert_eq!(end(job("running")).unwrap_err().exit_code(), 9);
        let mut failed = job("failed");
        failed.failure = Some(crate::api::types::Failure {
            kind: crate::api::types::Kind::Corrupt,
            message: "data/3f is damaged".to_owned(),
            hint: String::new(),
        });
        assert_eq!(end(failed).unwrap_err().exit_code(), 8);
    }
}
