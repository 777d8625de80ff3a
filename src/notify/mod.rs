//! Tells the world outside what has happened: a webhook for each event that is wanted, and a ping after each task of a policy, whose
//! silence is an alarm at whoever waits for it (a dead man's switch).
//!
//! Nothing waits for this: events are handed on to a queue for each host, and what does not fit is dropped, counted and told once. What was
//! not delivered when the daemon stops is lost, as is what an event would have told while it was down; health is told anew.

mod courier;

use std::collections::HashMap;

use tokio::sync::broadcast::error::RecvError;

use crate::api;
use crate::model::template::{Occasion, UrlTemplate};
use crate::model::{Name, Policy, Task};
use crate::service::{Event, Service};
use courier::{Courier, Letter};

/// Tells what happens, until the daemon stops.
pub async fn run(service: Service) {
    let (kept, mut feed) = service.events().since(0);
    let mut desk = Desk {
        service: service.clone(),
        couriers: HashMap::new(),
    };
    for event in &kept {
        desk.hand_on(event);
    }
    loop {
        tokio::select! {
            event = feed.recv() => match event {
                Ok(event) => desk.hand_on(&event),
                Err(RecvError::Lagged(missed)) => service.tally().events_dropped("webhook", missed),
                Err(RecvError::Closed) => return,
            },
            () = service.stopping() => return,
        }
    }
}

/// Who is told what, and by whom.
struct Desk {
    service: Service,
    /// One for each webhook, and one for each host that is pinged: a hanging one keeps no other waiting.
    couriers: HashMap<(&'static str, String), Courier>,
}

impl Desk {
    fn hand_on(&mut self, event: &Event) {
        let settings = self.service.settings();
        let occasion = occasion(event);
        if settings.webhook_events.wants(event.action) {
            for (at, webhook) in settings.webhooks.iter().enumerate() {
                let letter = Letter {
                    url: webhook.fill(&occasion),
                    body: Some(api::event_json(event)),
                };
                self.send("webhook", format!("{at} {}", webhook.origin()), webhook, letter);
            }
        }
        if event.action == "task.end"
            && let Some(ping) = self.ping(event)
        {
            let letter = Letter {
                url: ping.fill(&occasion),
                body: None,
            };
            self.send("ping", ping.origin(), &ping, letter);
        }
    }

    /// Who is to be pinged after a task.
    fn ping(&self, event: &Event) -> Option<UrlTemplate> {
        let name = Name::volume(&event.object).ok()?;
        let volume = self.service.in_memory(&name)?.volume;
        let task = Task::called(event.attributes.get("task")?)?;
        let policy = self.service.policy_of(&volume);
        let wanted = policy.ping_tasks.clone().unwrap_or_default().has(task);
        wanted.then(|| ping_of(&policy, event.attributes.contains_key("error")))?
    }

    fn send(&mut self, kind: &'static str, queue: String, to: &UrlTemplate, letter: Letter) {
        let key = (kind, queue);
        let tally = self.service.clone();
        let courier = self
            .couriers
            .entry(key)
            .and_modify(Courier::wake)
            .or_insert_with(|| Courier::new(tally, kind, to.origin()));
        courier.take(letter);
    }
}

/// The URL for a success or a failure.
fn ping_of(policy: &Policy, failed: bool) -> Option<UrlTemplate> {
    match (&policy.ping_url, &policy.ping_fail_url) {
        (url, _) if !failed => url.clone(),
        (_, Some(fail)) => Some(fail.clone()),
        (Some(url), None) if !policy.without.contains("ping.fail-url") => Some(url.fail()),
        _ => None,
    }
}

fn occasion(event: &Event) -> Occasion {
    let attribute = |key: &str| event.attributes.get(key).cloned().unwrap_or_default();
    Occasion {
        // Of `volume@snapshot`, the volume.
        volume: event.object.split('@').next().unwrap_or_default().to_owned(),
        task: attribute("task"),
        event: event.action.to_owned(),
        error: attribute("error"),
        health: attribute("health"),
        time: event.time.to_string(),
    }
}
