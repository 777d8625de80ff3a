//! What has become of the work that policies ask for, by volume and task.

use rusqlite::params;

use super::{Result, State, doing, encode};
use crate::model::{Past, Task, VolumeId};

impl State {
    /// All that is known. What cannot be read is left out: at the worst something is done once too often.
    pub fn pasts(&self) -> Result<Vec<(VolumeId, Task, Past)>> {
        let connection = self.locked();
        let mut statement = connection
            .prepare("SELECT volume, task, record FROM past")
            .map_err(doing("list what was done"))?;
        let rows = statement
            .query_map([], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, String>(2)?,
                ))
            })
            .map_err(doing("list what was done"))?;
        let mut pasts = Vec::new();
        for row in rows {
            let (volume, task, record) = row.map_err(doing("list what was done"))?;
            let read = (volume.parse(), Task::called(&task), serde_json::from_str(&record));
            match read {
                (Ok(volume), Some(task), Ok(past)) => pasts.push((volume, task, past)),
                _ => log::warn!(
                    "what was done of the {task}s of volume {volume} cannot be read and is ignored"
                ),
            }
        }
        Ok(pasts)
    }

    /// Records it as it is now.
    pub fn put_past(&self, volume: VolumeId, task: Task, past: &Past) -> Result<()> {
        self.locked()
            .execute(
                "INSERT INTO past (volume, task, record) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET record = ?3",
                params![volume.to_string(), task.word(), encode(past)],
            )
            .map(drop)
            .map_err(doing("record what was done"))
    }

    /// Forgets it, for a volume that is no more.
    pub fn forget_pasts(&self, volume: VolumeId) -> Result<()> {
        self.locked()
            .execute("DELETE FROM past WHERE volume = ?1", [volume.to_string()])
            .map(drop)
            .map_err(doing("forget what was done"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Time;

    #[test]
    fn what_was_done_survives_a_reopening() {
        let root = tempfile::tempdir().expect("a directory");
        let state = State::open(root.path()).expect("opens");
        let (one, two) = (VolumeId::random(), VolumeId::random());
        let past = Past::default().and(Time::now(), Err("no".to_owned()));
        state
            .put_past(one, Task::Backup, &Past::default())
            .expect("recorded");
        state.put_past(one, Task::Backup, &past).expect("recorded anew");
        state.put_past(two, Task::Snapshot, &past).expect("recorded");
        drop(state);
        let state = State::open(root.path()).expect("opens again");
        assert_eq!(state.pasts().expect("listed").len(), 2);
        state.forget_pasts(two).expect("forgotten");
        assert_eq!(state.pasts().expect("listed"), [(one, Task::Backup, past)]);
    }
}
