//! The running configuration, and its replacement by a changed one: built whole, checked, then
//! swapped. A broken file changes nothing but a metric and a log line.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::signal::unix::Signal;

use super::notify::Manager;
use super::{StartError, state, view, worker_count};
use crate::admin::View;
use crate::config::{self, Address, Config, Loaded, Mode, Overrides};
use crate::net::certificate;
use crate::proxy::State;
use crate::server::{Endpoint, Limits};
use crate::shutdown::Shutdown;
use crate::telemetry::journal::{Inspect, Journal};
use crate::telemetry::metrics::Metrics;
use crate::token::Tokens;

/// How often the file's content is looked at.
const POLL: Duration = Duration::from_secs(5);

/// What a reload replaces.
pub(super) struct Running {
    fixed: Fixed,
    /// Where clients really connect.
    bound: Endpoint,
    metrics: Arc<Metrics>,
    requests: Shutdown,
    tasks: Shutdown,
    /// What a person can see of the last requests.
    pub(super) journal: Arc<Journal>,
    /// What the workers read.
    pub(super) state: Arc<ArcSwap<State>>,
    /// What the admin listener reads.
    pub(super) view: Arc<ArcSwap<View>>,
}

impl Running {
    /// Sets up the first configuration; its tokens are not started yet.
    pub(super) fn start(
        loaded: Loaded,
        bound: Endpoint,
        metrics: &Arc<Metrics>,
        requests: &Shutdown,
        tasks: &Shutdown,
    ) -> Result<Self, StartError> {
        let Loaded { config, plans, warnings } = loaded;
        warn(&warnings);
        let tokens = Arc::new(Tokens::new(plans, &Tokens::default(), metrics, tasks));
        let state = state(&config, &tokens, metrics, requests)?;
        let fixed = Fixed::of(&config);
        let journal = Arc::new(Journal::new());
        journal.allow(fixed.inspect(&config));
        Ok(Self {
            view: Arc::new(ArcSwap::from_pointee(view(&config, &tokens))),
            state: Arc::new(ArcSwap::from_pointee(state)),
            fixed,
            bound,
            journal,
            metrics: Arc::clone(metrics),
            requests: requests.clone(),
            tasks: tasks.clone(),
        })
    }

    /// The tokens of the running configuration.
    pub(super) fn tokens(&self) -> Arc<Tokens> {
        Arc::clone(&self.view.load().tokens)
    }

    /// Reloads at every SIGHUP and every change of the file's content, until closing.
    pub(super) async fn follow(
        mut self,
        path: Option<PathBuf>,
        overrides: Overrides,
        hangups: Option<Signal>,
        manager: Manager,
    ) {
        let (Some(path), Some(mut hangups)) = (path, hangups) else {
            self.tasks.closing().await;
            return;
        };
        let mut seen = fingerprint(&path);
        loop {
            let told = tokio::select! {
                () = self.tasks.closing() => return,
                _ = hangups.recv() => true,
                () = tokio::time::sleep(POLL) => false,
            };
            let now = fingerprint(&path);
            // A file that is being replaced is not there for a moment; that is no change.
            if told || (now != seen && now.is_some()) {
                seen = now;
                manager.reloading();
                let success = self.reload(&path, overrides.clone());
                manager.reloaded(success);
            }
        }
    }

    /// Returns whether the new configuration is in use.
    fn reload(&mut self, path: &Path, overrides: Overrides) -> bool {
        let replaced = config::load(path, overrides)
            .map_err(|error| error.to_string())
            .and_then(|loaded| self.replace(loaded, path).map_err(|error| error.to_string()));
        let success = replaced.is_ok();
        self.metrics.reloaded(success);
        match replaced {
            Ok(()) => tracing::info!(path = %path.display(), "configuration reloaded"),
            Err(why) => tracing::error!("configuration not reloaded, the old one stays:\n{why}"),
        }
        success
    }

    fn replace(&mut self, loaded: Loaded, path: &Path) -> Result<(), StartError> {
        let Loaded { config, plans, warnings } = loaded;
        config::placed(&config, &self.bound, self.fixed.tls.as_ref(), path)?;
        warn(&warnings);
        for key in self.fixed.differences(&Fixed::of(&config)) {
            tracing::warn!("`{key}` is not what runs; to change it takes a restart");
        }
        let old = self.tokens();
        let tokens = Arc::new(Tokens::new(plans, &old, &self.metrics, &self.tasks));
        let state = state(&config, &tokens, &self.metrics, &self.requests)?;
        self.state.store(Arc::new(state));
        self.view.store(Arc::new(view(&config, &tokens)));
        // In this order: two tasks must not use one refresh token.
        old.stop_all_but(&tokens, &self.metrics);
        tokens.start();
        self.journal.allow(self.fixed.inspect(&config));
        Ok(())
    }
}

/// What runs as it was when the process started.
struct Fixed {
    listen: Endpoint,
    socket_mode: Mode,
    tls: Option<certificate::Settings>,
    admin: Address,
    workers: usize,
    limits: Limits,
}

impl Fixed {
    fn of(config: &Config) -> Self {
        Self {
            listen: config.listen.value.clone(),
            socket_mode: config.socket_mode.value,
            tls: config.tls.clone(),
            admin: config.admin.value,
            workers: worker_count(config),
            limits: config.limits.clone(),
        }
    }

    /// The keys in which another configuration differs.
    fn differences(&self, other: &Self) -> Vec<&'static str> {
        let differs = [
            ("listen", self.listen != other.listen),
            ("socket_mode", self.socket_mode != other.socket_mode),
            ("tls", self.tls != other.tls),
            ("admin", self.admin != other.admin),
            ("workers", self.workers != other.workers),
            ("limits", self.limits != other.limits),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }

    /// What may be shown of requests: nothing where others than this machine's programs can look.
    fn inspect(&self, config: &Config) -> Inspect {
        if self.admin.0.ip().is_loopback() { config.inspect } else { Inspect::None }
    }
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

/// Changes with the file's content; `None` while it cannot be read.
fn fingerprint(path: &Path) -> Option<u64> {
    let content = std::fs::read(path).ok()?;
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    Some(hasher.finish())
}
