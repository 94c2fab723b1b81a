//! The composition root: from a checked configuration to threads, tasks and listeners.
//!
//! One control thread runs the tokens' tasks, the admin listener, signals and reloads, so that no
//! load on the data path can starve renewal or probes. The workers carry requests, each on a
//! thread and runtime of its own.

mod certificates;
mod harden;
mod notify;
mod obtain;
#[cfg(feature = "otlp")]
mod otlp;
mod reload;
mod signals;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

use self::certificates::Certificates;
use self::notify::Manager;
pub use self::obtain::{ObtainError, obtain};
use self::reload::Running;
use self::signals::Signals;
use crate::admin::{Admin, RouteInfo, View};
use crate::config::{self, Config, ConfigError, Loaded, Overrides};
use crate::proxy::route::{RouteError, Routes, Surroundings};
use crate::proxy::{NoRandomNumbers, Proxy, State};
use crate::server::passed::{self, PassedError};
use crate::server::{self, Counters, Endpoint, HostName, Hosts, Listener, SocketFile, Worker};
use crate::shutdown::Shutdown;
use crate::telemetry::metrics::{Metrics, MetricsError};
use crate::telemetry::tally::Seat;
use crate::token::Tokens;

/// How long the tokens' tasks may take to end, revocations included.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Why the program could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken or not ours.
    #[error(
        "cannot listen at {address}: {source}; choose another address for `{key}` (or by `--{key}`)"
    )]
    Bind {
        /// The key of the configuration.
        key: &'static str,
        /// The address.
        address: Endpoint,
        /// Why.
        source: io::Error,
    },
    /// The service manager has passed no socket, or one of another kind.
    #[error("`listen`: {0}")]
    Passed(#[from] PassedError),
    /// What is configured must not be served where the process listens.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The listener's certificate cannot be used any more.
    #[error("`tls`: {0}")]
    Certificate(String),
    /// A thread or runtime could not be made.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// A route could not be set up.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// Callers could not be judged.
    #[error(transparent)]
    Caller(#[from] NoRandomNumbers),
    /// The metrics could not be set up.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The demo's own parts could not be set up.
    #[error("cannot set up the demo: {0}")]
    Demo(#[source] io::Error),
    /// A thread that carries requests has ended.
    #[error(
        "a worker thread has ended; bearerd stops rather than serve with less than it was told to"
    )]
    Worker,
    /// The task that follows the configuration has panicked.
    #[error("following the configuration has failed; bearerd stops rather than ignore its changes")]
    Reload,
}

/// The addresses that were really bound.
#[derive(Debug, Clone)]
pub struct Bound {
    /// Where clients connect.
    pub proxy: Endpoint,
    /// Where metrics and probes are.
    pub admin: SocketAddr,
}

/// Runs until SIGTERM or SIGINT. `path` is the file to look at for reloads.
///
/// # Errors
/// What kept it from starting, or a worker that died.
pub fn run(loaded: Loaded, path: Option<PathBuf>, overrides: Overrides) -> Result<(), StartError> {
    run_then(loaded, path, overrides, |_| {})
}

/// As [`run`]; `listening` is called once connections are accepted.
///
/// # Errors
/// As [`run`].
pub fn run_then(
    loaded: Loaded,
    path: Option<PathBuf>,
    overrides: Overrides,
    listening: impl FnOnce(Bound),
) -> Result<(), StartError> {
    harden::no_core_dumps();
    harden::no_huge_pages();
    let metrics = Arc::new(Metrics::new()?);
    let config = &loaded.config;
    let certificates = config.tls.as_ref().map(Certificates::new).transpose()?;
    let (proxy_listener, _socket_file) = bind(config)?;
    let proxy_listener = proxy_listener.with_tls(certificates.as_ref().map(Certificates::current));
    let (admin_listener, admin) = bind_admin(config.admin.value.0)?;
    let bound = Bound { proxy: proxy_listener.address(), admin };
    let file = path.as_deref().unwrap_or(Path::new(""));
    config::placed(config, &bound.proxy, config.tls.as_ref(), file)?;
    let control = Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
    // Requests end before the tokens do, and the probes tell of it to the last.
    let (requests, tokens) = (Shutdown::new(), Shutdown::new());
    let (drain, drain_delay) = (config.drain.0, config.drain_delay.0);
    let workers = server::workers(
        worker_count(config),
        config.limits.clone(),
        Some(Counters::new(&metrics)),
        requests.clone(),
    );
    let running = Running::start(loaded, bound.proxy.clone(), &metrics, &requests, &tokens)?;
    let proxy =
        Arc::new(Proxy::new(Arc::clone(&running.state), &metrics, Arc::clone(&running.journal)));
    let (died, mut deaths) = mpsc::unbounded_channel();
    for worker in workers {
        spawn_worker(worker, &proxy_listener, Arc::clone(&proxy), died.clone())?;
    }
    drop(died);
    // The workers' clones end with draining. Were this one kept, the kernel would still accept
    // connections then, which nobody answers.
    drop(proxy_listener);
    let admin = Arc::new(Admin::new(
        bound.admin.ip(),
        Arc::clone(&metrics),
        Arc::clone(&running.view),
        Arc::clone(&running.journal),
        requests.clone(),
    ));
    let manager = Manager::from_env();
    control.block_on(async {
        let mut signals = Signals::listen().map_err(StartError::Thread)?;
        #[cfg(feature = "otlp")]
        let export = otlp::Export::start();
        running.tokens().start();
        let probes = server::Limits { last_descriptors: true, ..server::Limits::default() };
        for worker in server::workers(1, probes, None, tokens.clone()) {
            let listener = admin_listener.try_clone().map_err(StartError::Thread)?;
            drop(tokens.spawn(worker.serve(vec![listener], Arc::clone(&admin))));
        }
        tracing::info!(proxy = %bound.proxy, admin = %bound.admin, "listening");
        listening(bound.clone());
        manager.ready(&bound);
        if let Some(certificates) = certificates {
            drop(tokens.spawn(certificates.follow(Arc::clone(&metrics), tokens.clone())));
        }
        let (hangups, told) = (signals.reloads(), manager.clone());
        let following = tokens.spawn(running.follow(path, overrides, hangups, told));
        tokio::select! {
            () = signals.stop() => {}
            _ = deaths.recv() => return Err(StartError::Worker),
            Err(_) = following => return Err(StartError::Reload),
        }
        manager.stopping();
        tokio::select! {
            () = stop(&requests, &tokens, drain_delay, drain) => {}
            () = signals.stop() => tracing::warn!("told to stop a second time, leaving at once"),
        }
        #[cfg(feature = "otlp")]
        if let Some(export) = export {
            export.end().await;
        }
        Ok(())
    })?;
    end(control);
    Ok(())
}

/// The proxy's listener, and its file if it has one.
fn bind(config: &Config) -> Result<(Listener, Option<SocketFile>), StartError> {
    let endpoint = &config.listen.value;
    let bound = match endpoint {
        Endpoint::Inet(address) => Listener::bind(*address).map(|listener| (listener, None)),
        Endpoint::Unix(path) => Listener::bind_unix(path, config.socket_mode.value.0)
            .map(|(listener, file)| (listener, Some(file))),
        Endpoint::Systemd(name) => return Ok((passed::take(name.as_deref())?, None)),
    };
    bound.map_err(|source| StartError::Bind { key: "listen", address: endpoint.clone(), source })
}

/// The admin listener, and where it really is.
fn bind_admin(address: SocketAddr) -> Result<(Listener, SocketAddr), StartError> {
    let failed =
        |source| StartError::Bind { key: "admin", address: Endpoint::Inet(address), source };
    let listener = Listener::bind(address).map_err(failed)?;
    let bound = listener.address().inet().unwrap_or(address);
    Ok((listener, bound))
}

/// As many as configured, else as many as this process may use (cgroup quotas count).
fn worker_count(config: &Config) -> usize {
    config.workers.as_ref().map_or_else(
        || std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        |workers| usize::from(workers.value),
    )
}

fn spawn_worker(
    worker: Worker,
    listener: &Listener,
    proxy: Arc<Proxy>,
    died: mpsc::UnboundedSender<()>,
) -> Result<(), StartError> {
    /// Heard however the thread ends.
    struct Farewell(mpsc::UnboundedSender<()>);

    impl Drop for Farewell {
        fn drop(&mut self) {
            // Nobody listens once the end was asked for.
            self.0.send(()).ok();
        }
    }

    let listener = listener.try_clone().map_err(StartError::Thread)?;
    let runtime: Runtime =
        Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
    std::thread::Builder::new()
        .name("worker".to_owned())
        .spawn(move || {
            let _farewell = Farewell(died);
            let _seat = Seat::take();
            if let Err(error) = runtime.block_on(worker.serve(vec![listener], proxy)) {
                tracing::error!(%error, "a worker has ended");
            }
        })
        .map(drop)
        .map_err(StartError::Thread)
}

/// Readiness is false from here on; then no new connections; then no requests; then no tokens.
async fn stop(requests: &Shutdown, tokens: &Shutdown, delay: Duration, drain: Duration) {
    tracing::info!(?delay, ?drain, "told to stop, draining");
    requests.announce();
    tokio::time::sleep(delay).await;
    requests.drain();
    if !requests.finished(drain).await {
        tracing::warn!("requests were still under way when the time to drain was over");
        requests.close();
        requests.finished(Duration::from_secs(1)).await;
    }
    tokens.close();
    if !tokens.finished(LAST_WORDS).await {
        tracing::warn!("a token's task did not end in time");
    }
    tracing::info!("stopped");
}

/// Without waiting for resolver threads that may hang.
fn end(control: Runtime) {
    control.shutdown_background();
}

/// What the admin listener shows of the routes.
fn describe_routes(config: &Config) -> Vec<RouteInfo> {
    config
        .routes
        .iter()
        .enumerate()
        .map(|(index, route)| RouteInfo {
            name: route.name(index).to_string(),
            host: route.matches.host.as_ref().map(|host| host.as_str().to_owned()),
            path: route.matches.path.as_ref().map_or("/", |path| path.as_str()).to_owned(),
            upstream: route.upstream.value.to_string(),
            injects: route.inject.keys().map(|name| name.as_header().to_string()).collect(),
        })
        .collect()
}

/// The view of the admin listener.
fn view(config: &Config, tokens: &Arc<Tokens>) -> View {
    let (tokens, routes) = (Arc::clone(tokens), describe_routes(config));
    View { tokens, routes, hosts: admin_hosts(config) }
}

/// By which hosts the admin listener may be asked.
fn admin_hosts(config: &Config) -> Hosts {
    let mut hosts = Hosts::new();
    hosts.add(config.hosts.iter().map(HostName::as_str));
    if config.admin.value.0.ip().is_unspecified() {
        hosts.add_all_addresses();
    }
    hosts
}

/// What the workers read.
fn state(
    config: &Config,
    tokens: &Tokens,
    metrics: &Metrics,
    requests: &Shutdown,
) -> Result<State, StartError> {
    let surroundings = Surroundings {
        limits: &config.limits,
        metrics,
        shutdown: requests,
        via: config.via,
        caller: config.caller.as_ref().map(|caller| caller.header.value.as_header()),
        trusted: &config.trusted_proxies,
    };
    let routes = Routes::new(&config.routes, |name| tokens.handle(name), surroundings)?;
    let hosts = config.hosts.iter().map(HostName::as_str);
    let state = State::new(routes, hosts, config.token_wait.0);
    match &config.caller {
        Some(caller) => Ok(state.with_caller(caller)?),
        None => Ok(state),
    }
}
