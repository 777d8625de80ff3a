//! What is owed: recorded before what makes it owed begins, forgotten when it is paid.

use rusqlite::params;

use super::{Result, State, doing, encode};
use crate::model::Duty;

impl State {
    /// Records that this is owed. On disk when this returns.
    pub fn owe(&self, duty: &Duty) -> Result<i64> {
        self.locked()
            .prepare_cached("INSERT INTO duty (record) VALUES (?1)")
            .and_then(|mut s| s.insert(params![encode(duty)]))
            .map_err(doing("record what is owed"))
    }

    /// Records that it is paid.
    pub fn paid(&self, duty: i64) -> Result<()> {
        self.locked()
            .execute("DELETE FROM duty WHERE id = ?1", [duty])
            .map(drop)
            .map_err(doing("record what is paid"))
    }

    /// What former runs owe, oldest first. What cannot be read is left out, and said.
    pub fn duties(&self) -> Result<Vec<(i64, Duty)>> {
        let connection = self.locked();
        let mut statement = connection
            .prepare("SELECT id, record FROM duty ORDER BY id")
            .map_err(doing("list what is owed"))?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))
            .map_err(doing("list what is owed"))?;
        let mut duties = Vec::new();
        for row in rows {
            let (id, record) = row.map_err(doing("list what is owed"))?;
            match serde_json::from_str(&record) {
                Ok(duty) => duties.push((id, duty)),
                Err(error) => log::warn!("what is owed under {id} cannot be read and is ignored: {error}"),
            }
        }
        Ok(duties)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Name;

    #[test]
    fn what_is_owed_survives_a_reopening_until_it_is_paid() {
        let root = tempfile::tempdir().expect("a directory");
        let state = State::open(root.path()).expect("opens");
        let duty = Duty::Checkpoint {
            id: uuid::Uuid::new_v4(),
            name: Name::snapshot("c").expect("a name"),
        };
        let (one, two) = (
            state.owe(&duty).expect("recorded"),
            state.owe(&duty).expect("recorded"),
        );
        state.paid(one).expect("paid");
        drop(state);
        let state = State::open(root.path()).expect("opens again");
        assert_eq!(state.duties().expect("listed"), [(two, duty)]);
    }
}
