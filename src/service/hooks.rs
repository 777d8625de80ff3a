//! Hooks: commands in a volume's containers that make its application ready for a snapshot, and let it go on afterwards.
//!
//! They run outside of the volume's lock, so that Docker's calls do not wait for them, and under one of their own, so that two
//! snapshots of a volume do not run into each other's. Their order: what is owed is recorded; the hooks before; the snapshot,
//! or the snapshots of several volumes; the hooks after, the last first, whatever became of the rest; what was owed is paid.
//! After a crash in between, the next start runs the hooks after, as soon as the engine answers.
//!
//! Where a snapshot is a copy that takes its time, the hooks stand around all of the copy: what is read meanwhile is what
//! the application has made ready. An upload is never waited for: a backup of a volume with hooks is of a snapshot.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Result, Service, ServiceError};
use crate::containers::{Container, ContainersError, Engine, Script};
use crate::model::{Duty, HookOutcome, Name, OnHookError, Policy, PostHook, Span, Time, Volume};
use crate::sys::fault::point;

/// How long a hook may take that does not say.
const LIMIT: Span = Span::seconds(60);
/// How often, and for how long, an engine that does not answer yet is asked to let hooks of a former run be run.
const RETRY: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(900);

/// Whether hooks are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hooks {
    /// As the volume's policy says.
    Run,
    /// Not this time.
    LeaveOut,
}

/// What was done under hooks, and what is to be said of them.
#[derive(Debug)]
pub(super) struct Hooked<T> {
    /// What came of the work.
    pub done: T,
    /// What a person should know, a sentence each.
    pub remarks: Vec<String>,
}

/// A hook before a snapshot, in one container.
struct PreHook {
    volume: Name,
    container: Container,
    path: String,
    script: Option<String>,
    policy: Policy,
}

/// A volume's hooks: where they are to run, or why nowhere.
struct Plan {
    volume: Name,
    policy: Policy,
    containers: std::result::Result<Vec<Container>, String>,
}

impl Service {
    /// Does `work` between the hooks of these volumes. It is told what became of those before it, by volume.
    ///
    /// # Errors
    /// [`ServiceError::Hook`] where one failed and the volume's policy does not say to continue; or what `work` says. The
    /// hooks after it have run all the same.
    pub(super) async fn between_hooks<T, F>(
        &self,
        volumes: &[Arc<Volume>],
        hooks: Hooks,
        what: &str,
        snapshot: &Name,
        work: impl FnOnce(Vec<Option<HookOutcome>>) -> F,
    ) -> Result<Hooked<T>>
    where
        F: Future<Output = Result<T>>,
    {
        let policies: Vec<Policy> = volumes.iter().map(|volume| self.policy_of(volume)).collect();
        let hooked = |policy: &Policy| policy.hook_pre.is_some() || policy.hook_post.is_some();
        if hooks == Hooks::LeaveOut || !policies.iter().any(hooked) {
            let outcomes = policies
                .iter()
                .map(|policy| hooked(policy).then_some(HookOutcome::LeftOut));
            let done = work(outcomes.collect()).await?;
            let remarks = Vec::new();
            return Ok(Hooked { done, remarks });
        }
        let with_hooks = || {
            let all = volumes.iter().zip(&policies);
            all.filter(|(_, policy)| hooked(policy))
        };
        let keys: Vec<String> = with_hooks().map(|(volume, _)| key(&volume.name)).collect();
        let _turn = self.0.locks.lock_all(keys.iter().map(String::as_str)).await;
        let mut plans = Vec::new();
        for (volume, policy) in with_hooks() {
            plans.push(Plan {
                volume: volume.name.clone(),
                policy: policy.clone(),
                containers: self.hosts_of(&volume.name, policy).await,
            });
        }
        let mut remarks = Vec::new();
        let all: Vec<PreHook> = plans.iter().flat_map(Plan::hooks).collect();
        let duty = self.owe_posts(snapshot, &all).await?;
        point("hooks.owed");
        let mut outcomes: Vec<Option<HookOutcome>> = Vec::new();
        let mut begun = Vec::new();
        let mut failure = None;
        for (volume, policy) in volumes.iter().zip(&policies) {
            let plan = plans.iter().find(|plan| plan.volume == volume.name);
            let Some(plan) = plan.filter(|_| hooked(policy)) else {
                outcomes.push(None);
                continue;
            };
            match self.run_before(plan, &mut begun, &mut remarks).await {
                Ok(outcome) => outcomes.push(Some(outcome)),
                Err(_) if self.is_stopping() => failure = Some(ServiceError::Stopping),
                Err(why) if policy.hook_on_error == Some(OnHookError::Continue) => {
                    remarks.push(format!(
                        "the hook before it failed for volume {}: {why}",
                        volume.name
                    ));
                    outcomes.push(Some(HookOutcome::Failed));
                }
                Err(why) => {
                    failure = Some(ServiceError::Hook {
                        what: what.to_owned(),
                        volume: volume.name.clone(),
                        why,
                    });
                }
            }
            if failure.is_some() {
                break;
            }
        }
        point("hooks.before");
        let result = match failure {
            None => work(outcomes).await,
            Some(failure) => Err(failure),
        };
        point("hooks.after");
        let mut posts = posts_of(begun.iter());
        posts.reverse();
        let settled = self.run_after(&posts, snapshot, &mut remarks).await;
        if let Some(duty) = duty {
            self.settle_posts(duty, settled, snapshot).await?;
        }
        for remark in &remarks {
            self.events()
                .emit("warning", what, &[("message", remark.clone())]);
        }
        Ok(Hooked {
            done: result?,
            remarks,
        })
    }

    /// Whether a backup of the volume is to be of a snapshot, because of its hooks.
    pub(super) fn has_hooks(&self, volume: &Volume) -> bool {
        let policy = self.policy_of(volume);
        policy.hook_pre.is_some() || policy.hook_post.is_some()
    }

    /// The engine beside us.
    pub(super) fn engine(&self) -> std::result::Result<Engine, String> {
        let socket: Option<PathBuf> = self.settings().docker_api;
        let remedy = "the setting docker-api names it, and in the plugin 'docker plugin set NAME docker-api.source=/run/docker.sock'; \
                      see docs/HOOKS.md";
        let Some(socket) = socket else {
            return Err(format!("no socket of the Docker engine is given ({remedy})"));
        };
        Engine::at(&socket).map_err(|error| format!("{error} ({remedy})"))
    }

    /// The containers that a volume's hooks are to run in; none where none runs that uses the volume.
    async fn hosts_of(&self, volume: &Name, policy: &Policy) -> std::result::Result<Vec<Container>, String> {
        let engine = self.engine()?;
        let in_words = |error: ContainersError| error.to_string();
        let users = engine.users_of(volume.as_str()).await.map_err(in_words)?;
        let Some(wanted) = &policy.hook_container else {
            return Ok(users);
        };
        let mut named: Vec<Container> = users
            .iter()
            .filter(|user| user.is_called(wanted))
            .cloned()
            .collect();
        if named.is_empty() {
            let all = engine.active().await.map_err(in_words)?;
            named.extend(all.into_iter().filter(|one| one.is_called(wanted)));
        }
        match (named.is_empty(), users.as_slice()) {
            (false, _) | (_, []) => Ok(named),
            (true, users) => Err(format!(
                "no container {wanted} runs (hook.container), and {} {} the volume",
                names(users),
                if users.len() == 1 { "uses" } else { "use" }
            )),
        }
    }

    async fn owe_posts(&self, snapshot: &Name, all: &[PreHook]) -> Result<Option<i64>> {
        let mut hooks = posts_of(all.iter());
        hooks.reverse();
        if hooks.is_empty() {
            return Ok(None);
        }
        let duty = Duty::PostHooks {
            snapshot: snapshot.clone(),
            hooks,
            since: Time::now(),
        };
        self.blocking(move |inner| Ok(Some(inner.state.owe(&duty)?)))
            .await
    }

    /// Runs a volume's hooks before a snapshot, one container after the other, up to the first that fails.
    async fn run_before(
        &self,
        plan: &Plan,
        begun: &mut Vec<PreHook>,
        remarks: &mut Vec<String>,
    ) -> std::result::Result<HookOutcome, String> {
        plan.containers.as_ref().map_err(Clone::clone)?;
        let hooks: Vec<PreHook> = plan.hooks().collect();
        if hooks.is_empty() {
            remarks.push(format!(
                "no container that uses volume {} runs: its hooks were not run",
                plan.volume
            ));
            return Ok(HookOutcome::NoContainer);
        }
        for hook in hooks {
            // Begun or not, what comes after it must come.
            let script = hook.script.clone();
            let container = hook.container.clone();
            let wish = |text| Script {
                text,
                user: plan.policy.hook_user.clone(),
                environment: environment("pre", &plan.volume, &hook.path),
                limit: limit(&plan.policy).duration(),
            };
            let wish = script.map(wish);
            begun.push(hook);
            if let Some(wish) = wish {
                self.run_hook(&container.id, &container.name, &wish).await?;
            }
        }
        Ok(HookOutcome::Done)
    }

    /// Runs one hook; says in words why it failed.
    async fn run_hook(&self, id: &str, name: &str, script: &Script) -> std::result::Result<(), String> {
        let engine = self.engine()?;
        let ran = engine
            .run(id, script, self.stopping())
            .await
            .map_err(|error| format!("container {name}: {error}"))?;
        let said = match ran.said.as_str() {
            "" => String::new(),
            said => format!(": {said}"),
        };
        match ran.status {
            Some(0) => {
                log::info!("a hook in container {name} ended well{said}");
                Ok(())
            }
            Some(status) => Err(format!("container {name}: it ended with status {status}{said}")),
            None => {
                let rest = match ran.killed {
                    true => "it was ended",
                    false => "it was given up, and may still run there",
                };
                match self.is_stopping() {
                    true => Err(format!("container {name}: the daemon is stopping; {rest}{said}")),
                    false => Err(format!(
                        "container {name}: it took longer than {} s (hook.timeout); {rest}{said}",
                        script.limit.as_secs()
                    )),
                }
            }
        }
    }

    /// Runs the hooks after a snapshot. Says which of them are still owed: those that the engine could not be asked for.
    async fn run_after(
        &self,
        posts: &[PostHook],
        snapshot: &Name,
        remarks: &mut Vec<String>,
    ) -> Vec<PostHook> {
        let mut owed = Vec::new();
        for post in posts {
            let PostHook {
                volume,
                container,
                container_name: name,
                ..
            } = post;
            let script = Script {
                text: post.script.clone(),
                user: post.user.clone(),
                environment: environment("post", volume, &post.path),
                limit: post.limit.duration(),
            };
            let engine = match self.engine() {
                Ok(engine) => engine,
                Err(why) => {
                    remarks.push(format!(
                        "the hook after {volume}@{snapshot} could not be run yet: {why}"
                    ));
                    owed.push(post.clone());
                    continue;
                }
            };
            // Even while the daemon stops: the time that it has is for what is under way.
            match engine.run(container, &script, std::future::pending()).await {
                Ok(ran) if ran.status == Some(0) => {
                    log::info!("the hook after {volume}@{snapshot} ended well in container {name}");
                    self.0.care.forget_trouble(volume);
                    continue;
                }
                Ok(ran) => {
                    let how = match ran.status {
                        Some(status) => format!("it ended with status {status}"),
                        None => format!("it took longer than {} s (hook.timeout)", script.limit.as_secs()),
                    };
                    let why = format!("container {name}: {how}: {}", ran.said);
                    self.0.care.remember_trouble(volume, &why);
                    remarks.push(format!("the hook after {volume}@{snapshot} failed: {why}"));
                }
                Err(error) if error.is_gone() => {
                    remarks.push(format!(
                        "container {name} is gone: the hook after {volume}@{snapshot} was not run"
                    ));
                }
                Err(error) => {
                    let why = format!("container {name}: {error}");
                    self.0.care.remember_trouble(volume, &why);
                    remarks.push(format!(
                        "the hook after {volume}@{snapshot} could not be run yet: {why}"
                    ));
                    owed.push(post.clone());
                }
            }
        }
        owed
    }

    /// What is still owed is tried for as long as the engine may take to come back, and by the next start.
    async fn settle_posts(&self, duty: i64, owed: Vec<PostHook>, snapshot: &Name) -> Result<()> {
        if owed.is_empty() {
            return self.blocking(move |inner| Ok(inner.state.paid(duty)?)).await;
        }
        let (this, snapshot) = (self.clone(), snapshot.clone());
        tokio::spawn(this.pay_posts(duty, snapshot, owed));
        Ok(())
    }

    /// Runs hooks that are owed, as soon as the engine answers.
    async fn pay_posts(self, duty: i64, snapshot: Name, mut hooks: Vec<PostHook>) {
        let begun = std::time::Instant::now();
        let mut remarks = Vec::new();
        while !hooks.is_empty() && begun.elapsed() < PATIENCE {
            remarks.clear();
            {
                let keys: Vec<String> = hooks.iter().map(|post| key(&post.volume)).collect();
                let _turn = self.0.locks.lock_all(keys.iter().map(String::as_str)).await;
                hooks = self.run_after(&hooks, &snapshot, &mut remarks).await;
            }
            if !hooks.is_empty() {
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = self.stopping() => return,
                }
            }
        }
        for remark in remarks {
            self.events().emit("warning", &snapshot, &[("message", remark)]);
        }
        if let Err(error) = self.blocking(move |inner| Ok(inner.state.paid(duty)?)).await {
            log::error!("{error}");
        }
    }

    /// Takes up what former runs owe.
    pub(super) async fn resume_duties(&self) -> Result<()> {
        let duties = self.blocking(|inner| Ok(inner.state.duties()?)).await?;
        for (id, duty) in duties {
            match duty {
                Duty::PostHooks { snapshot, hooks, .. } => {
                    let volumes: Vec<String> = hooks.iter().map(|post| post.volume.to_string()).collect();
                    log::warn!(
                        "the daemon ended between the hooks of {snapshot} ({}): those after it run now",
                        volumes.join(", ")
                    );
                    tokio::spawn(self.clone().pay_posts(id, snapshot, hooks));
                }
                Duty::Checkpoint { id: checkpoint, name } => {
                    tokio::spawn(self.clone().undo_checkpoint(id, checkpoint, name));
                }
                Duty::Revert { name, .. } => {
                    let message = format!(
                        "it was interrupted in the middle: 'windlass checkpoint revert {name}' puts all of its volumes back"
                    );
                    self.events().emit(
                        "warning",
                        format!("revert to checkpoint {name}"),
                        &[("message", message)],
                    );
                    self.blocking(move |inner| Ok(inner.state.paid(id)?)).await?;
                }
            }
        }
        Ok(())
    }
}

impl Plan {
    fn hooks(&self) -> impl Iterator<Item = PreHook> {
        let containers = self.containers.iter().flatten();
        containers.map(|container| PreHook {
            volume: self.volume.clone(),
            path: container
                .path_of(self.volume.as_str())
                .unwrap_or_default()
                .to_owned(),
            container: container.clone(),
            script: self.policy.hook_pre.clone(),
            policy: self.policy.clone(),
        })
    }
}

/// The hooks after those.
fn posts_of<'a>(begun: impl Iterator<Item = &'a PreHook>) -> Vec<PostHook> {
    let post = |hook: &PreHook| {
        Some(PostHook {
            volume: hook.volume.clone(),
            container: hook.container.id.clone(),
            container_name: hook.container.name.clone(),
            script: hook.policy.hook_post.clone()?,
            user: hook.policy.hook_user.clone(),
            limit: limit(&hook.policy),
            path: hook.path.clone(),
        })
    };
    begun.filter_map(post).collect()
}

fn limit(policy: &Policy) -> Span {
    policy.hook_timeout.unwrap_or(LIMIT)
}

fn environment(hook: &str, volume: &Name, path: &str) -> Vec<String> {
    vec![
        format!("WINDLASS_HOOK={hook}"),
        format!("WINDLASS_VOLUME={volume}"),
        format!("WINDLASS_PATH={path}"),
    ]
}

fn names(containers: &[Container]) -> String {
    let names: Vec<&str> = containers.iter().map(|one| one.name.as_str()).collect();
    names.join(", ")
}

/// The lock of a volume's hooks. The colon keeps it apart from every volume's name.
fn key(volume: &Name) -> String {
    format!("hooks:{volume}")
}
