//! A command run in a container, within a time.
//!
//! The engine's API has no way to end what exec has begun. So the shell that runs the command says its process id first,
//! as the container counts, and a second exec ends it with its children: a process that the engine starts leads a session, and
//! so a process group, of its own.
//!
//! When the command has ended, the engine says: a stream that something in the background keeps open does not count.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Method;
use serde::Deserialize;
use serde_json::json;

use super::frames::Frames;
use super::{ContainersError, Engine, Result};

/// How often the engine is asked whether the command has ended, at first and later.
const LOOKS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// How long what an ended command said may take to come.
const LINGER: Duration = Duration::from_millis(300);
/// How long it may take to end a command.
const ENDING: Duration = Duration::from_secs(10);

/// A command.
#[derive(Debug, Clone)]
pub struct Script {
    /// For the container's `/bin/sh`.
    pub text: String,
    /// Who runs it; the container's own user without.
    pub user: Option<String>,
    /// More of its environment, `NAME=value`.
    pub environment: Vec<String>,
    /// How long it may take.
    pub limit: Duration,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its exit status; `None` where its time was up or `ending` was.
    pub status: Option<i64>,
    /// Whether what was given up is known to have ended.
    pub killed: bool,
    /// What it said, bounded, on one line.
    pub said: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Made {
    id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    running: bool,
    exit_code: Option<i64>,
}

impl Engine {
    /// Runs a command in a container, to its end or until its time is up or `ending` is ready.
    ///
    /// # Errors
    /// It could not be begun ([`ContainersError::is_gone`] where the container does not run), or the engine went away.
    pub async fn run(
        &self,
        container: &str,
        script: &Script,
        ending: impl Future<Output = ()>,
    ) -> Result<Ran> {
        let command = ["/bin/sh", "-c", "echo $$; exec /bin/sh -c \"$0\"", &script.text];
        let made = self.make(container, &command, script).await?;
        let mut frames = Frames::default();
        let ended = {
            let follow = self.follow(&made.id, &mut frames);
            tokio::select! {
                ended = follow => Some(ended?),
                () = tokio::time::sleep(script.limit) => None,
                () = ending => None,
            }
        };
        if frames.pid().is_none() && ended != Some(0) && self.has_ended(container, &frames).await {
            // It ended between the two requests, and the engine says so as if the command did.
            return Err(ContainersError::Refused {
                doing: "run a command in the container".to_owned(),
                status: 409,
                message: "the container is not running".to_owned(),
            });
        }
        let killed = match (&ended, frames.pid()) {
            (Some(_), _) => false,
            (None, Some(pid)) => self.kill(container, pid, script, &made.id).await,
            (None, None) => false,
        };
        Ok(Ran {
            status: ended,
            killed,
            said: frames.said(),
        })
    }

    /// Whether the container, in which a command could not even be begun, does not run. The engine may learn that later than the
    /// runtime, whose words are then in the place of the command's.
    async fn has_ended(&self, container: &str, frames: &Frames) -> bool {
        let path = format!("/containers/{container}/json");
        let asked = self.ask::<serde_json::Value>(Method::GET, &path, None, "look at a container");
        match asked.await {
            Ok(found) => found["State"]["Running"] == false || frames.said().contains("exec in a stopped"),
            Err(error) => error.is_gone(),
        }
    }

    async fn make(&self, container: &str, command: &[&str], script: &Script) -> Result<Made> {
        let mut wish = json!({
            "AttachStdout": true, "AttachStderr": true, "Tty": false,
            "Cmd": command, "Env": script.environment,
        });
        if let Some(user) = &script.user {
            wish["User"] = json!(user);
        }
        let path = format!("/containers/{container}/exec");
        let doing = "prepare a command in the container";
        self.ask(Method::POST, &path, Some(wish), doing).await
    }

    /// Starts it and waits for its end; says its exit status.
    async fn follow(&self, id: &str, frames: &mut Frames) -> Result<i64> {
        let doing = "run a command in the container";
        let wish = json!({"Detach": false, "Tty": false});
        let path = format!("/exec/{id}/start");
        let mut body = self
            .send(Method::POST, &path, Some(wish), doing)
            .await?
            .into_body();
        let mut pause = LOOKS.0;
        let mut is_open = true;
        loop {
            tokio::select! {
                frame = body.frame(), if is_open => match frame {
                    Some(Ok(frame)) => {
                        if let Ok(bytes) = frame.into_data() {
                            frames.take(&bytes);
                        }
                        continue;
                    }
                    // How it ended, the engine says.
                    Some(Err(_)) | None => is_open = false,
                },
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LOOKS.1),
            }
            let state = self.state(id).await?;
            if state.running {
                continue;
            }
            let rest = async {
                while let Some(Ok(frame)) = body.frame().await {
                    if let Ok(bytes) = frame.into_data() {
                        frames.take(&bytes);
                    }
                }
            };
            if is_open {
                // What is left of it; something in the background may keep it open.
                let _ = tokio::time::timeout(LINGER, rest).await;
            }
            return state.exit_code.ok_or_else(|| ContainersError::Garbled {
                doing: doing.to_owned(),
                why: "the command has ended without an exit status".to_owned(),
            });
        }
    }

    async fn state(&self, id: &str) -> Result<State> {
        let path = format!("/exec/{id}/json");
        self.ask(Method::GET, &path, None, "tell whether a command has ended")
            .await
    }

    /// Ends a command with its children; says whether that is known to have worked.
    async fn kill(&self, container: &str, pid: &str, script: &Script, id: &str) -> bool {
        // No `--`: not every shell's kill knows it.
        let text = format!("kill -TERM -{pid}; sleep 1; kill -KILL -{pid}");
        let killer = Script {
            text: text.clone(),
            environment: Vec::new(),
            ..script.clone()
        };
        let killed = async {
            let made = self.make(container, &["/bin/sh", "-c", &text], &killer).await?;
            self.follow(&made.id, &mut Frames::default()).await?;
            Ok::<_, ContainersError>(!self.state(id).await?.running)
        };
        matches!(tokio::time::timeout(ENDING, killed).await, Ok(Ok(true)))
    }
}
