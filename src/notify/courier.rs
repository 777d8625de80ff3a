//! Brings letters to one host, in their order: in bounded time, a few times if need be, and never holding anybody up.

use std::sync::LazyLock;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::service::Service;

/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The waits between tries.
const WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
/// So many letters wait for one host.
const WAITING: usize = 1_024;

/// Connections are kept for a while. A redirection is not followed: it could lead a secret to somebody else.
static CLIENT: LazyLock<Client> = LazyLock::new(|| {
    let configured = || {
        Client::builder()
            .connect_timeout(PATIENCE)
            .timeout(PATIENCE)
            .pool_idle_timeout(Duration::from_secs(50))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .user_agent(concat!("windlass/", env!("CARGO_PKG_VERSION")))
    };
    configured().build().unwrap_or_else(|error| {
        log::warn!(
            "no certificates of authorities, so https will not work (install ca-certificates): {error}"
        );
        configured()
            .tls_certs_only([])
            .build()
            .expect("a client that trusts nobody needs nothing of the machine")
    })
});

/// What is to be delivered.
pub(super) struct Letter {
    /// Where to. It may hold a secret.
    pub url: String,
    /// JSON to be posted; without, the URL is only fetched.
    pub body: Option<Vec<u8>>,
}

/// The queue of one host.
pub(super) struct Courier {
    service: Service,
    kind: &'static str,
    host: String,
    queue: mpsc::Sender<Letter>,
    dropping: bool,
}

impl Courier {
    /// One for letters to a host, which alone is named in the log.
    pub fn new(service: Service, kind: &'static str, host: String) -> Self {
        let queue = begin(service.clone(), kind, host.clone());
        Self {
            service,
            kind,
            host,
            queue,
            dropping: false,
        }
    }

    /// Has it at work, whatever became of it.
    pub fn wake(&mut self) {
        if self.queue.is_closed() {
            self.queue = begin(self.service.clone(), self.kind, self.host.clone());
        }
    }

    /// Takes a letter, or drops it where too many wait.
    pub fn take(&mut self, letter: Letter) {
        match self.queue.try_send(letter) {
            // Over only when all that waited is gone: one that goes now and then makes no news.
            Ok(()) => self.dropping &= self.queue.capacity() + 1 < self.queue.max_capacity(),
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                self.service.tally().notified(self.kind, "dropped");
                if self.kind == "webhook" {
                    self.service.tally().events_dropped("webhook", 1);
                }
                if !std::mem::replace(&mut self.dropping, true) {
                    log::warn!(
                        "{} to {}: {WAITING} wait already; those that do not fit are dropped",
                        self.kind,
                        self.host
                    );
                }
            }
        }
    }
}

fn begin(service: Service, kind: &'static str, host: String) -> mpsc::Sender<Letter> {
    let (queue, mut letters) = mpsc::channel::<Letter>(WAITING);
    tokio::spawn(async move {
        let mut failing = false;
        while let Some(letter) = letters.recv().await {
            match deliver(&letter).await {
                Ok(()) => {
                    service.tally().notified(kind, "delivered");
                    if std::mem::take(&mut failing) {
                        log::info!("{kind} to {host}: delivered again");
                    }
                }
                Err(why) => {
                    service.tally().notified(kind, "failed");
                    if !std::mem::replace(&mut failing, true) {
                        log::warn!("{kind} to {host}: given up: {why}; further failures are only counted");
                    }
                }
            }
        }
    });
    queue
}

async fn deliver(letter: &Letter) -> Result<(), String> {
    let mut waits = WAITS.iter();
    loop {
        let (why, again) = match send(letter).await {
            Ok(status) if status.is_success() => return Ok(()),
            Ok(status) => (format!("it answered {status}"), may_pass(status)),
            // The URL is no part of what is said.
            Err(error) => (with_reasons(&error.without_url()), true),
        };
        match waits.next() {
            Some(wait) if again => tokio::time::sleep(*wait).await,
            _ => return Err(why),
        }
    }
}

async fn send(letter: &Letter) -> reqwest::Result<StatusCode> {
    let request = match &letter.body {
        Some(body) => CLIENT
            .post(&letter.url)
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(body.clone()),
        None => CLIENT.get(&letter.url),
    };
    request.send().await.map(|answer| answer.status())
}

/// Whether a refusal may be over in a moment.
fn may_pass(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
}

fn with_reasons(error: &dyn std::error::Error) -> String {
    let reasons = std::iter::successors(Some(error), |error| error.source());
    reasons.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
