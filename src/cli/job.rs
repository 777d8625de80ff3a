//! `windlass job`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::progress::{self, Shown};
use super::screen::ago;
use super::sheet::Sheet;
use super::table::{Shrink, Table, Text};
use super::{Error, Screen, reference};
use crate::api::types::{Failure, Job as Answer, Kind};
use crate::client::{Client, ClientError};
use crate::model::Time;

/// So often is looked whether a task has ended.
const LOOK: Duration = Duration::from_millis(300);

/// Show, await and cancel long work: backups, restores, verifications
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  windlass job list
  windlass job wait 7 && echo restored
  windlass job inspect 7 -o json | jq .Result
  windlass job run pgdata backup

A job goes on when the command that began it has gone, and is taken up again when the daemon was
restarted in the middle. The daemon remembers the latest hundred that ended.")]
pub enum Job {
    List(List),
    Inspect(Inspect),
    Wait(Wait),
    Cancel(Cancel),
    Run(Run),
}

/// List the jobs that the daemon knows
#[derive(Debug, Args)]
#[command(visible_alias = "ls")]
pub struct List {}

/// Show all about a job, with its log
#[derive(Debug, Args)]
#[command(visible_alias = "show")]
pub struct Inspect {
    /// The job's number
    id: i64,
}

/// Wait for a job's end; the exit code is that of its failure
#[derive(Debug, Args)]
pub struct Wait {
    /// The job's number
    id: i64,
    #[command(flatten)]
    shown: Shown,
}

/// Do a task of a volume's policy now, and wait for its end
#[derive(Debug, Args)]
pub struct Run {
    /// Name, UUID or beginning of the UUID
    #[arg(value_parser = reference())]
    volume: String,
    /// The task, such as snapshot, backup, verify or trim: 'windlass health' shows those of each volume
    task: String,
    /// Do not wait
    #[arg(long)]
    detach: bool,
}

impl Run {
    async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        let volume = client.ask_for_task(&self.volume, &self.task).await?;
        let name = volume.name;
        let mut now = volume.schedules.get(&self.task).cloned().unwrap_or_default();
        while !self.detach && now.at_work {
            tokio::time::sleep(LOOK).await;
            let mut volume = client.volume(&name).await?;
            now = volume.schedules.remove(&self.task).unwrap_or_default();
        }
        if screen.json_asked() {
            screen.value(&now)?;
        }
        match now.failures {
            _ if self.detach => Ok(()),
            0 => Ok(()),
            _ => Err(ClientError::Failure(Failure {
                kind: Kind::Internal,
                message: format!("the {} of volume {name} failed: {}", self.task, now.error),
                hint: format!(
                    "'windlass job list' shows its job, if it had one; it is tried again at {}",
                    now.next_at
                ),
            })
            .into()),
        }
    }
}

/// End a job
#[derive(Debug, Args)]
pub struct Cancel {
    /// The job's number
    id: i64,
}

impl Job {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        match self {
            Self::List(List {}) => {
                let jobs = client.jobs().await?;
                if screen.json() {
                    return screen.value(&jobs);
                }
                if jobs.is_empty() && screen.terminal() {
                    return screen.line("no jobs yet");
                }
                let table = table(&jobs, screen.now());
                screen.table(table)
            }
            Self::Inspect(Inspect { id }) => {
                let job = client.job(id).await?;
                match screen.json() {
                    true => screen.value(&job),
                    false => {
                        let text = describe(&job, screen).render(0);
                        screen.text(&text)
                    }
                }
            }
            Self::Wait(Wait { id, shown }) => {
                let job = client.job(id).await?;
                let job = progress::watch(client, screen, job, shown).await?;
                match screen.json_asked() {
                    true => screen.value(&job),
                    false => Ok(()),
                }
            }
            Self::Run(run) => run.run(client, screen).await,
            Self::Cancel(Cancel { id }) => {
                let job = client.cancel_job(id).await?;
                if screen.json_asked() {
                    return screen.value(&job);
                }
                if is_over(&job) {
                    screen.notes(&[format!("job {id} has ended already: it is {}", job.state)]);
                }
                Ok(())
            }
        }
    }
}

fn is_over(job: &Answer) -> bool {
    matches!(job.state.as_str(), "done" | "failed" | "cancelled")
}

fn table(jobs: &[Answer], now: Time) -> Table {
    let mut table = Table::default()
        .column("JOB", Shrink::Never)
        .column("KIND", Shrink::Never)
        .column("VOLUME", Shrink::Never)
        .column("STATE", Shrink::Never)
        .column("CREATED", Shrink::Never)
        .column("", Shrink::KeepStart(20));
    for job in jobs {
        let about = match (&job.failure, &job.progress) {
            (Some(failure), _) => Text::red(&failure.message),
            (None, Some(_)) => {
                let words = progress::in_words(job);
                let so_far = words.split_once(": ").map_or(words.as_str(), |(_, rest)| rest);
                so_far.into()
            }
            (None, None) => (&job.result.backup_url).into(),
        };
        table.row(vec![
            job.id.to_string().into(),
            (&job.kind).into(),
            if job.volume.is_empty() {
                "-".into()
            } else {
                (&job.volume).into()
            },
            (&job.state).into(),
            ago(&job.created_at, now).into(),
            about,
        ]);
    }
    table
}

fn describe(job: &Answer, screen: &Screen) -> Sheet {
    let now = screen.now();
    let mut sheet = Sheet::default();
    sheet.line("Job", job.id.to_string());
    sheet.line("Kind", &job.kind);
    if !job.volume.is_empty() {
        sheet.line("Volume", &job.volume);
    }
    for (key, value) in &job.parameters {
        sheet.line(key, value);
    }
    sheet.line("State", &job.state);
    if let Some(failure) = &job.failure {
        sheet.alarm("Failure", &failure.message, screen);
    }
    for (key, time) in [
        ("Created", &job.created_at),
        ("Started", &job.started_at),
        ("Ended", &job.ended_at),
    ] {
        if !time.is_empty() {
            sheet.line(key, format!("{time} ({})", ago(time, now)));
        }
    }
    if job.progress.is_some() {
        sheet.line("Progress", progress::in_words(job));
    }
    if let Ok(serde_json::Value::Object(result)) = serde_json::to_value(&job.result) {
        sheet.entries(&result, &[]);
    }
    for (at, line) in job.log.iter().enumerate() {
        sheet.line(
            if at == 0 { "Log" } else { "" },
            format!("{}  {}", line.time, line.text),
        );
    }
    sheet
}

#[cfg(test)]
mod tests {
    use super::super::progress::tests::job;
    use super::*;

    #[test]
    fn a_job_is_a_line_with_what_matters_now() {
        let now = "2026-11-23T09:30:00Z".parse().expect("a time");
        let mut failed = job("failed");
        failed.progress = None;
        failed.failure = Some(crate::api::types::Failure {
            kind: crate::api::types::Kind::Unavailable,
            message: "no route to host".to_owned(),
            hint: String::new(),
        });
        let text = table(&[job("running"), failed], now).render(None, false);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].contains("running") && lines[1].contains("43 %"),
            "{text}"
        );
        assert!(lines[2].ends_with("no route to host"), "{text}");
    }
}
