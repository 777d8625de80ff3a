//! Jobs: what is to be done, is being done and was done lately. A job is recorded before it begins, so that none is lost
//! with the daemon.

use rusqlite::{OptionalExtension, params};

use super::{Result, State, doing, encode};
use crate::model::{Job, JobId, JobState, Time, Work};

impl State {
    /// So many jobs that ended are kept.
    pub const KEPT_JOBS: u32 = 100;

    /// Records a new job. On disk when this returns.
    pub fn add_job(&self, work: Work) -> Result<Job> {
        let mut job = Job {
            id: JobId(0),
            work,
            state: JobState::Queued,
            attempts: 0,
            created: Time::now(),
            started: None,
            ended: None,
            result: serde_json::Map::new(),
            failure: None,
            log: Vec::new(),
        };
        let mut connection = self.locked();
        let transaction = connection.transaction().map_err(doing("record a job"))?;
        transaction
            .execute(
                "INSERT INTO job (state, record) VALUES (?1, '')",
                [job.state.word()],
            )
            .map_err(doing("record a job"))?;
        job.id = JobId(transaction.last_insert_rowid());
        transaction
            .execute(
                "UPDATE job SET record = ?2 WHERE id = ?1",
                params![job.id.0, encode(&job)],
            )
            .map_err(doing("record a job"))?;
        transaction.commit().map_err(doing("record a job"))?;
        Ok(job)
    }

    /// Records a job as it is now. With one that ended, the oldest of those beyond [`State::KEPT_JOBS`] are forgotten.
    pub fn put_job(&self, job: &Job) -> Result<()> {
        let mut connection = self.locked();
        let transaction = connection.transaction().map_err(doing("record a job"))?;
        transaction
            .execute(
                "UPDATE job SET state = ?2, record = ?3 WHERE id = ?1",
                params![job.id.0, job.state.word(), encode(job)],
            )
            .map_err(doing("record a job"))?;
        if job.state.is_final() {
            transaction
                .execute(
                    "DELETE FROM job WHERE state IN ('done', 'failed', 'cancelled') AND id NOT IN
                     (SELECT id FROM job WHERE state IN ('done', 'failed', 'cancelled') ORDER BY id DESC LIMIT ?1)",
                    [Self::KEPT_JOBS],
                )
                .map_err(doing("forget old jobs"))?;
        }
        transaction.commit().map_err(doing("record a job"))
    }

    /// One job.
    pub fn job(&self, id: JobId) -> Result<Option<Job>> {
        let record: Option<String> = self
            .locked()
            .query_row("SELECT record FROM job WHERE id = ?1", [id.0], |row| row.get(0))
            .optional()
            .map_err(doing("read a job"))?;
        record
            .map(|record| self.decode(&record, || format!("job {id}")))
            .transpose()
    }

    /// All jobs, oldest first. A record that cannot be read is reported in the log and left out: it must not hide the
    /// others.
    pub fn jobs(&self) -> Result<Vec<Job>> {
        let rows: Vec<(i64, String)> = {
            let connection = self.locked();
            let mut statement = connection
                .prepare("SELECT id, record FROM job ORDER BY id")
                .map_err(doing("list jobs"))?;
            let rows = statement
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
                .map_err(doing("list jobs"))?;
            rows.collect::<std::result::Result<_, _>>()
                .map_err(doing("list jobs"))?
        };
        let mut jobs = Vec::new();
        for (id, record) in rows {
            match self.decode(&record, || format!("job {id}")) {
                Ok(job) => jobs.push(job),
                Err(error) => log::warn!("{error}"),
            }
        }
        Ok(jobs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(n: usize) -> Work {
        Work::Delete {
            backup: format!("vfs:///b?volume=v&backup={n:016x}"),
        }
    }

    #[test]
    fn jobs_survive_a_reopening_and_numbers_are_not_used_twice() {
        let root = tempfile::tempdir().expect("a directory");
        let state = State::open(root.path()).expect("opens");
        let mut first = state.add_job(work(1)).expect("recorded");
        first.note("begun");
        first.state = JobState::Running;
        state.put_job(&first).expect("recorded");
        drop(state);
        let state = State::open(root.path()).expect("opens again");
        assert_eq!(state.job(first.id).expect("reads"), Some(first.clone()));
        assert_eq!(state.jobs().expect("lists"), vec![first.clone()]);
        let second = state.add_job(work(2)).expect("recorded");
        assert!(second.id > first.id);
        assert_eq!(state.job(JobId(999)).expect("reads"), None);
    }

    #[test]
    fn the_last_hundred_that_ended_are_kept_and_none_that_did_not() {
        let root = tempfile::tempdir().expect("a directory");
        let state = State::open(root.path()).expect("opens");
        let waiting = state.add_job(work(0)).expect("recorded");
        let mut last = None;
        for n in 1..=usize::try_from(State::KEPT_JOBS).expect("small") + 5 {
            let mut job = state.add_job(work(n)).expect("recorded");
            job.state = JobState::Done;
            state.put_job(&job).expect("recorded");
            last = Some(job);
        }
        let kept = state.jobs().expect("lists");
        assert_eq!(kept.len(), State::KEPT_JOBS as usize + 1);
        assert_eq!(kept.first(), Some(&waiting));
        assert_eq!(kept.last(), last.as_ref());
    }
}
