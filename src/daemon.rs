//! The composition root: configuration → drivers → service → servers, and the way back down.
//!
//! Order at the start: the lock, then the records, then both sockets, then the slow work (drivers, repairs, mounts).
//! The engine dials four times in twelve seconds and then disables a plugin that does not answer, so listening comes
//! before everything that can take long.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use uuid::Uuid;

use crate::api;
use crate::config::{self, Config, ConfigError, Layer};
use crate::driver::devicemapper::{self, Devicemapper, Healer};
use crate::driver::vfs::Vfs;
use crate::driver::{Driver, DriverError, DriverOptions};
use crate::model::{InvalidValue, Secret, nearest};
use crate::notify;
use crate::scheduler;
use crate::service::{Aftermath, CLEANING, DriverSlot, Parts, Service, ServiceError};
use crate::state::{self, State, StateError};
use crate::sys::boot;
use crate::sys::error::SysError;
use crate::sys::lock::FileLock;
use crate::sys::mount_points::MountPoints;
use crate::sys::socket::{self, SocketGroup};

/// The drivers that this program has.
const DRIVERS: &[&str] = &["vfs", devicemapper::NAME];
/// How long changes under way may take at the end. The engine kills after 10 s.
const PATIENCE: Duration = Duration::from_secs(8);

/// Why the daemon does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A driver or an option of one that there is not.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// Another daemon has this root, a socket cannot be made, and the like.
    #[error("{}", with_reasons(.0))]
    System(#[from] SysError),
    /// A daemon has this root already.
    #[error("another windlass daemon{} uses the state directory {root}; stop it, or give another --root", pid.map(|p| format!(" (process {p})")).unwrap_or_default())]
    Running {
        /// The directory.
        root: PathBuf,
        /// The other daemon, where the lock file tells.
        pid: Option<i32>,
    },
    /// The records cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The service cannot start.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The root is not the one that the configuration names.
    #[error(
        "the state directory {root} {found}, and the configuration asks for state-id {wanted}; is the right directory mounted there?"
    )]
    OtherRoot {
        /// The directory.
        root: PathBuf,
        /// `is empty`, or the id that it has.
        found: String,
        /// The id asked for.
        wanted: Uuid,
    },
    /// The kernel refused.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was being done, to which object.
        doing: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

/// Runs the daemon until SIGTERM or SIGINT. `command_line` are the settings given there.
///
/// # Errors
/// What keeps it from starting. Once it listens, only a configuration mistake of a driver ends it.
pub fn run(command_line: &Layer) -> Result<(), DaemonError> {
    let variables = config::variables(std::env::vars_os())?;
    let environment = config::environment(variables.iter().cloned());
    let password = config::password(variables.into_iter());
    let config = config::resolve(command_line, &environment, password.as_ref())?;
    start_log(&config)?;
    check_root(&config)?;
    let _lock = FileLock::acquire(config.root.join("lock")).map_err(|error| match error {
        SysError::LockHeld { pid, .. } => DaemonError::Running {
            root: config.root.clone(),
            pid,
        },
        error => error.into(),
    })?;
    let state = State::open(&config.root)?;
    if let Some(wanted) = config.state_id.filter(|wanted| *wanted != state.id()) {
        return Err(DaemonError::OtherRoot {
            root: config.root.clone(),
            found: format!("has the id {}", state.id()),
            wanted,
        });
    }
    let boot = boot::boot_id()?.to_string();
    let aftermath = match config.managed_plugin {
        true => Aftermath::of(&state, &boot)?,
        false => Aftermath::None,
    };
    if aftermath == Aftermath::StartAgain {
        log::info!(
            "the engine ended the plugin with volumes mounted; it ends now, for the engine to start it with clean mounts"
        );
        std::thread::sleep(CLEANING);
        Aftermath::ends(&state, &boot)?;
        return Ok(());
    }
    let slots = slots(&config, &state)?;
    let mount_points = if config.managed_plugin {
        MountPoints::guarded(config.mount_root.clone(), config.root.join("mount-points"))
    } else {
        MountPoints::plain(config.mount_root.clone())
    };
    mount_points.ensure()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(io("start the runtime's threads"))?;
    let parts = Parts {
        state,
        drivers: slots,
        mount_points,
        boot,
        process: boot::process_id().to_string(),
        settings: config.live.clone(),
        cache: config.cache.clone(),
        jobs: config.jobs,
        aftermath,
    };
    let layers = Layers {
        command_line,
        environment: &environment,
        password: password.as_ref(),
    };
    let result = runtime.block_on(serve(config, parts, &layers));
    // Blocking work that is still under way (a hung filesystem) must not keep the process alive.
    runtime.shutdown_timeout(Duration::from_millis(500));
    result
}

/// What a daemon with these settings would do with the devices that they give, in lines for a person. Nothing is touched, and what
/// the root remembers does not count.
///
/// # Errors
/// What would keep it from using them.
pub fn plan(command_line: &Layer) -> Result<Vec<String>, DaemonError> {
    let variables = config::variables(std::env::vars_os())?;
    let environment = config::environment(variables.iter().cloned());
    let password = config::password(variables.into_iter());
    let config = config::resolve(command_line, &environment, password.as_ref())?;
    let drivers = config.drivers.as_deref().unwrap_or_default();
    if !drivers.iter().any(|name| name == devicemapper::NAME) {
        return Ok(vec![
            "no driver is to use devices: give --drivers devicemapper and its options".to_owned(),
        ]);
    }
    let options = own_options(devicemapper::NAME, &config.driver_opts.unwrap_or_default());
    let root = config.root.join(devicemapper::NAME);
    let lines = Devicemapper::plan(&root, &options).map_err(ServiceError::from)?;
    Ok(lines)
}

/// Where settings come from besides the file, which a reload reads again.
struct Layers<'a> {
    command_line: &'a Layer,
    environment: &'a Layer,
    password: Option<&'a Secret>,
}

async fn serve(config: Config, parts: Parts, layers: &Layers<'_>) -> Result<(), DaemonError> {
    let mut signals = Signals::catch()?;
    let (docker, admins) = listen(&config)?;
    let service = Service::new(parts);
    let (stop, _) = watch::channel(false);
    let stopped = || {
        let mut stop = stop.subscribe();
        async move { drop(stop.wait_for(|stop| *stop).await) }
    };
    let mut servers = vec![tokio::spawn(api::serve_docker(
        service.clone(),
        docker,
        stopped(),
    ))];
    let about = api::admin::About {
        root: config.root.clone(),
    };
    for admin in admins {
        servers.push(tokio::spawn(api::serve_admin(
            service.clone(),
            about.clone(),
            admin,
            stopped(),
        )));
    }
    if let Some(address) = config.metrics {
        servers.push(tokio::spawn(api::metrics::tcp::serve(
            service.clone(),
            address,
            stopped(),
        )));
    }
    log::info!(
        "windlass {} listens at {} and {}",
        env!("CARGO_PKG_VERSION"),
        config.docker_socket.display(),
        config
            .admin_sockets
            .iter()
            .map(|p| p.display().to_string())
            .collect::<Vec<_>>()
            .join(", "),
    );
    // A driver may hang on its storage; a daemon that starts must still be able to stop.
    let started = tokio::select! {
        started = service.start() => started.map(|()| true),
        () = signals.stop() => Ok(false),
    };
    let mut running = config;
    if let Ok(true) = started {
        tokio::spawn(notify::run(service.clone()));
        tokio::spawn(scheduler::runner::run(service.clone(), running.jobs));
        while let Wish::Reload = signals.next().await {
            reload(&service, &mut running, layers);
        }
    }
    log::info!("stopping");
    stop.send_replace(true);
    if !service.stop(PATIENCE).await {
        log::warn!("an operation did not end in time; the next start finishes or undoes it");
    }
    if running.managed_plugin
        && let Err(error) = service.remember_stop()
    {
        log::warn!("whether volumes are mounted cannot be remembered: {error}");
    }
    for server in servers {
        // Idle connections of clients are not waited for.
        let _ = tokio::time::timeout(Duration::from_millis(500), server).await;
    }
    for path in running.admin_sockets.iter().chain([&running.docker_socket]) {
        let _ = std::fs::remove_file(path);
    }
    started.map(drop).map_err(DaemonError::from)
}

/// SIGHUP: the file is read again; a file that cannot be used changes nothing.
fn reload(service: &Service, running: &mut Config, layers: &Layers<'_>) {
    match config::resolve(layers.command_line, layers.environment, layers.password) {
        Ok(wanted) => {
            let later = config::needs_restart(running, &wanted);
            if !later.is_empty() {
                log::warn!("these settings changed and need a restart: {}", later.join(", "));
            }
            log::set_max_level(wanted.live.log_level);
            running.live = wanted.live.clone();
            service.configure(wanted.live);
        }
        Err(error) => log::error!("the configuration stays as it was: {error}"),
    }
}

enum Wish {
    Reload,
    Stop,
}

struct Signals {
    hang_up: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn catch() -> Result<Self, DaemonError> {
        let catch = |kind| signal(kind).map_err(io("catch signals"));
        Ok(Self {
            hang_up: catch(SignalKind::hangup())?,
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
        })
    }

    async fn stop(&mut self) {
        while let Wish::Reload = self.next().await {}
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.hang_up.recv() => Wish::Reload,
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::Stop,
        }
    }
}

/// Both faces' sockets: Docker's for root alone, the admin API's for root and the group.
fn listen(config: &Config) -> Result<(UnixListener, Vec<UnixListener>), DaemonError> {
    let bind = |path: &Path, group: Option<&SocketGroup>| {
        if let Some(parent) = path.parent() {
            make_dir(parent, 0o755)?;
        }
        let listener = socket::bind(path, group)?;
        listener.set_nonblocking(true).map_err(io("listen"))?;
        UnixListener::from_std(listener).map_err(io("listen"))
    };
    let group = match &config.group {
        None => SocketGroup::Id(0),
        Some(text) => text
            .parse()
            .map_or_else(|_| SocketGroup::Name(text.clone()), SocketGroup::Id),
    };
    let docker = bind(&config.docker_socket, None)?;
    let admins: Result<Vec<_>, DaemonError> = config
        .admin_sockets
        .iter()
        .map(|path| bind(path, Some(&group)))
        .collect();
    Ok((docker, admins?))
}

/// The drivers in the order asked for. What the root remembers stands in for what is not given; what is given is
/// remembered.
fn slots(config: &Config, state: &State) -> Result<Vec<DriverSlot>, DaemonError> {
    let names = match &config.drivers {
        Some(names) => names.clone(),
        None => state.setting("drivers")?.map_or_else(
            || vec![DRIVERS[0].to_owned()],
            |names| names.split(',').map(str::to_owned).collect(),
        ),
    };
    let options: DriverOptions = match &config.driver_opts {
        Some(options) => options.clone(),
        None => state
            .setting("driver-opts")?
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default(),
    };
    let mut slots: Vec<DriverSlot> = Vec::new();
    for name in &names {
        let known = DRIVERS
            .iter()
            .find(|driver| *driver == name)
            .ok_or_else(|| unknown_driver(name))?;
        if slots.iter().all(|slot| slot.name() != *known) {
            slots.push(slot(known, config.root.join(known), own_options(known, &options)));
        }
    }
    for key in options.keys() {
        let prefix = key.split('.').next().unwrap_or_default();
        if !names.iter().any(|name| prefix_of(name) == prefix) {
            return Err(InvalidValue::UnknownOption {
                name: key.clone(),
                nearest: nearest(prefix, names.iter().map(|name| prefix_of(name)))
                    .map(|n| key.replacen(prefix, &n, 1)),
                valid: names
                    .iter()
                    .map(|name| format!("{}.…", prefix_of(name)))
                    .collect::<Vec<_>>()
                    .join(", "),
            }
            .into());
        }
    }
    state.remember("drivers", &names.join(","))?;
    state.remember(
        "driver-opts",
        &serde_json::to_string(&options).expect("text by text"),
    )?;
    Ok(slots)
}

fn slot(name: &'static str, default_path: PathBuf, options: DriverOptions) -> DriverSlot {
    match name {
        "vfs" => DriverSlot::new(
            name,
            Box::new(move |state| {
                let open_state = |error: StateError| DriverError::Unavailable {
                    driver: "vfs",
                    why: error.to_string(),
                };
                // The identity of the store that this host used at this path before: an empty directory in its
                // place (a filesystem that is not mounted) must not pass for it. Another path is another store.
                let path = options
                    .get("path")
                    .map_or_else(|| default_path.clone(), PathBuf::from);
                let key = format!("vfs.store {}", path.display());
                let expected = state
                    .setting(&key)
                    .map_err(open_state)?
                    .and_then(|id| id.parse().ok());
                let vfs = Vfs::open(&default_path, &options, expected)?;
                state
                    .remember(&key, &vfs.store_id().to_string())
                    .map_err(open_state)?;
                Ok(Arc::new(vfs) as Arc<dyn Driver>)
            }),
        ),
        devicemapper::NAME => {
            let healer = Healer::new(default_path.clone(), options.clone());
            let open = Box::new(move |_: &State| {
                let opened = Devicemapper::open(&default_path, &options)?;
                Ok(Arc::new(opened) as Arc<dyn Driver>)
            });
            DriverSlot::new(name, open).with_pool_at_rest(Box::new(healer))
        }
        _ => unreachable!("the names come from DRIVERS, and a test opens each"),
    }
}

/// What the options of a driver begin with.
fn prefix_of(driver: &str) -> &str {
    match driver {
        devicemapper::NAME => devicemapper::PREFIX,
        other => other,
    }
}

fn own_options(driver: &str, all: &DriverOptions) -> DriverOptions {
    all.iter()
        .filter_map(|(key, value)| {
            let own = key.strip_prefix(prefix_of(driver))?.strip_prefix('.')?;
            Some((own.to_owned(), value.clone()))
        })
        .collect()
}

fn unknown_driver(name: &str) -> InvalidValue {
    InvalidValue::UnknownOption {
        name: format!("drivers={name}"),
        nearest: nearest(name, DRIVERS.iter().copied()),
        valid: DRIVERS.join(", "),
    }
}

/// The root exists and is the one that is asked for. An empty one is refused before anything is made in it.
fn check_root(config: &Config) -> Result<(), DaemonError> {
    if let Some(wanted) = config.state_id
        && !config.root.join(state::FILE).exists()
    {
        return Err(DaemonError::OtherRoot {
            root: config.root.clone(),
            found: "holds no records".to_owned(),
            wanted,
        });
    }
    make_dir(&config.root, 0o711)
}

fn make_dir(path: &Path, mode: u32) -> Result<(), DaemonError> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| DaemonError::Io {
            doing: format!("make the directory {}", path.display()),
            source,
        })
}

/// Standard output by default: the engine logs a plugin's standard error as errors.
fn start_log(config: &Config) -> Result<(), DaemonError> {
    let target = match &config.log {
        None => env_logger::Target::Stdout,
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            let file = file.map_err(|source| DaemonError::Io {
                doing: format!("open the log {}", path.display()),
                source,
            })?;
            env_logger::Target::Pipe(Box::new(file))
        }
    };
    env_logger::Builder::new()
        .filter_module("windlass", log::LevelFilter::Trace)
        // To warp, a caller who hangs up or says nothing until the daemon stops is an error; to us he is not.
        .filter_module("warp::server::run", log::LevelFilter::Off)
        .filter_level(log::LevelFilter::Warn)
        .target(target)
        .init();
    log::set_max_level(config.live.log_level);
    Ok(())
}

/// An error with all that lies below it, in one line.
fn with_reasons(error: &dyn std::error::Error) -> String {
    let reasons = std::iter::successors(Some(error), |error| error.source());
    reasons.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn io(doing: &str) -> impl Fn(std::io::Error) -> DaemonError {
    move |source| DaemonError::Io {
        doing: doing.to_owned(),
        source,
    }
}
