//! What volumes hold, looked up in the background one at a time, because a walk through a large tree takes longer than
//! Docker waits for an answer.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::{Entry, Result, Service};
use crate::driver::Usage;
use crate::model::{Name, Time};

/// How old a figure may become before the next question renews it, at the least.
const FRESH: Duration = Duration::from_secs(2);
/// The share of time that renewing one volume's figure may take: what took a second is good for a minute.
const SHARE: u32 = 60;

/// What a volume held when somebody last looked.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// The figure.
    pub usage: Usage,
    /// When that was.
    pub at: Time,
    /// The end of the look, and how long it took.
    ended: Instant,
    took: Duration,
}

impl Measured {
    fn is_old(&self) -> bool {
        self.ended.elapsed() > FRESH.max(self.took * SHARE)
    }
}

/// The volumes whose figure is asked for.
#[derive(Default)]
pub(super) struct Queue {
    /// Guards the set alone.
    names: Mutex<BTreeSet<Name>>,
    more: Notify,
}

impl Queue {
    pub fn ask(&self, name: &Name) {
        self.names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.clone());
        self.more.notify_one();
    }

    pub fn ask_if_old(&self, entry: &Entry) {
        if entry.usage.is_none_or(|measured| measured.is_old()) {
            self.ask(&entry.volume.name);
        }
    }

    async fn next(&self) -> Name {
        loop {
            if let Some(name) = self
                .names
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_first()
            {
                return name;
            }
            self.more.notified().await;
        }
    }
}

impl Service {
    /// Looks up what a volume holds, now, and remembers it.
    pub async fn measure(&self, name: &Name) -> Result<Usage> {
        let entry = self.known(name)?;
        let driver = self.driver_of(&entry.volume)?;
        let begun = Instant::now();
        let usage = self.blocking(move |_| Ok(driver.usage(&entry.volume)?)).await?;
        let ended = Instant::now();
        let measured = Measured {
            usage,
            at: Time::now(),
            ended,
            took: ended - begun,
        };
        self.catalog_mut()
            .update(name, |entry| entry.usage = Some(measured));
        Ok(usage)
    }

    /// Looks up what is asked for, for ever.
    pub(super) async fn keep_measuring(&self) {
        loop {
            let name = self.0.usage.next().await;
            if let Err(error) = self.measure(&name).await {
                log::debug!("volume {name}: its usage is unknown: {error}");
            }
        }
    }
}
