//! The catalogue of metrics: every name, help text and label of the program.
//!
//! Labels come from configured names and closed sets, never from a request, so no client can make
//! series. Handles are resolved once: requests count in cells of their worker ([`super::tally`]).

mod handles;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::process::Process;
pub use super::series::{MethodMetrics, RouteMetrics, StoreMetrics, TokenMetrics};
use super::tally::{self, Count, CountVec, Level, LevelVec, TimesVec};

/// A metric that could not be made: two of one name, a fault of the program.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the metrics: {0}")]
pub struct MetricsError(#[from] prometheus::Error);

/// Upper bounds of request durations, in microseconds.
const REQUEST_BOUNDS: &[u64] = &[
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000,
];

/// Upper bounds of token fetches, in seconds.
const FETCH_BUCKETS: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Every metric of the program.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    process: Process,
    requests: CountVec,
    request_seconds: TimesVec,
    in_flight: LevelVec,
    upstream_seconds: TimesVec,
    upstream_connections: LevelVec,
    upstream_stalls: IntCounterVec,
    upstream_ejections: IntCounterVec,
    upstream_ejected: IntGaugeVec,
    upgrades_active: IntGaugeVec,
    injections: CountVec,
    stripped: CountVec,
    unauthorized: IntCounterVec,
    replays: IntCounterVec,
    rejected: IntCounterVec,
    expiry: GaugeVec,
    next_refresh: GaugeVec,
    last_success: GaugeVec,
    failures: IntGaugeVec,
    usable: IntGaugeVec,
    refreshes: IntCounterVec,
    refresh_seconds: HistogramVec,
    waiters: IntGaugeVec,
    restarts: IntCounterVec,
    state_unsaved: IntGaugeVec,
    store_up: IntGaugeVec,
    store_events: IntCounterVec,
    secret_reloads: IntCounterVec,
    /// Connections that clients hold open.
    pub connections: Level,
    /// Connections accepted since the start.
    pub accepted: Count,
    /// Accepts that failed, by running out of file descriptors above all.
    pub accept_errors: IntCounter,
    config_reloads: IntCounterVec,
    config_last_reload: Gauge,
    config_reload_succeeded: IntGauge,
}

/// Registers one gauge.
pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> Result<Gauge, MetricsError> {
    register(registry, Gauge::new(name, help)?)
}

pub(super) fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, MetricsError> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

/// The vectors' names all begin with `bearerd_`.
struct Catalogue<'r>(&'r Registry);

impl Catalogue<'_> {
    fn counter(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, MetricsError> {
        register(self.0, IntCounterVec::new(Opts::new(prefixed(name), help), labels)?)
    }

    /// A family that requests count in.
    fn count(&self, name: &str, help: &str, labels: &[&str]) -> Result<CountVec, MetricsError> {
        register(self.0, tally::counts(&prefixed(name), help, labels)?)
    }

    /// A family that requests go up and down in.
    fn level(&self, name: &str, help: &str, labels: &[&str]) -> Result<LevelVec, MetricsError> {
        register(self.0, tally::levels(&prefixed(name), help, labels)?)
    }

    /// A family that requests count their durations in.
    fn times(&self, name: &str, help: &str, labels: &[&str]) -> Result<TimesVec, MetricsError> {
        register(self.0, tally::times(&prefixed(name), help, labels, REQUEST_BOUNDS)?)
    }

    fn int_gauge(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, MetricsError> {
        register(self.0, IntGaugeVec::new(Opts::new(prefixed(name), help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, MetricsError> {
        register(self.0, GaugeVec::new(Opts::new(prefixed(name), help), labels)?)
    }

    fn histogram(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec, MetricsError> {
        let opts = HistogramOpts::new(prefixed(name), help).buckets(buckets.to_vec());
        register(self.0, HistogramVec::new(opts, labels)?)
    }
}

fn prefixed(name: &str) -> String {
    format!("bearerd_{name}")
}

impl Metrics {
    /// Makes and registers every metric.
    ///
    /// # Errors
    /// Two metrics of one name.
    pub fn new() -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let c = Catalogue(&registry);
        let build_info =
            c.int_gauge("build_info", "Always 1; the version is the label.", &["version"])?;
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            process: Process::register(&registry)?,
            requests: c.count(
                "requests_total",
                "Requests answered, by route, method and status code.",
                &["route", "method", "code"],
            )?,
            request_seconds: c.times(
                "request_duration_seconds",
                "Time from a request's head to the end of its answer, in seconds.",
                &["route", "method"],
            )?,
            in_flight: c.level("requests_in_flight", "Requests being answered.", &["route"])?,
            upstream_seconds: c.times(
                "upstream_duration_seconds",
                "Time from sending a request upstream to the answer's head, in seconds.",
                &["route"],
            )?,
            upstream_connections: c.level(
                "upstream_connections",
                "Open connections to upstreams, by state (`active`, `idle`).",
                &["route", "state"],
            )?,
            upstream_stalls: c.counter(
                "upstream_stalls_total",
                "Answers cut off because the upstream fell silent within the body.",
                &["route"],
            )?,
            upstream_ejections: c.counter(
                "upstream_ejections_total",
                "Addresses of upstreams set aside for a while, having failed.",
                &["route"],
            )?,
            upstream_ejected: c.int_gauge(
                "upstream_addresses_ejected",
                "Addresses of upstreams that were set aside and have not answered since.",
                &["route"],
            )?,
            upgrades_active: c.int_gauge("upgrades_active", "Open tunnels.", &["route"])?,
            injections: c.count(
                "injections_total",
                "Requests by what became of their credential: `injected`, `waited` (injected after waiting for a token) or `no_token`.",
                &["route", "result"],
            )?,
            stripped: c.count(
                "client_credentials_stripped_total",
                "Credentials of clients that were removed, by configured place.",
                &["route", "header"],
            )?,
            unauthorized: c.counter(
                "upstream_unauthorized_total",
                "Answers by which an upstream rejected the injected credential.",
                &["route", "code"],
            )?,
            replays: c.counter(
                "replays_total",
                "Requests sent again with a renewed credential: `accepted`, `rejected` or `failed`.",
                &["route", "result"],
            )?,
            rejected: c.counter(
                "rejected_total",
                "Requests refused by bearerd itself, by reason.",
                &["reason"],
            )?,
            expiry: c.gauge(
                "token_expiry_timestamp_seconds",
                "When the token expires, as Unix time in seconds; 0 while there is none.",
                &["token"],
            )?,
            next_refresh: c.gauge(
                "token_next_refresh_timestamp_seconds",
                "When the next attempt to renew the token is due, as Unix time in seconds.",
                &["token"],
            )?,
            last_success: c.gauge(
                "token_last_success_timestamp_seconds",
                "When the token was last obtained, as Unix time in seconds; 0 if never.",
                &["token"],
            )?,
            failures: c.int_gauge(
                "token_consecutive_failures",
                "Failed attempts since the last success.",
                &["token"],
            )?,
            usable: c.int_gauge(
                "token_usable",
                "1 while the token may be injected, else 0.",
                &["token"],
            )?,
            refreshes: c.counter(
                "token_refresh_total",
                "Attempts to obtain or renew the token, by result and reason of failure.",
                &["token", "result", "reason"],
            )?,
            refresh_seconds: c.histogram(
                "token_refresh_duration_seconds",
                "Duration of attempts to obtain or renew the token, in seconds.",
                &["token"],
                FETCH_BUCKETS,
            )?,
            waiters: c.int_gauge("token_waiters", "Requests waiting for the token.", &["token"])?,
            restarts: c.counter(
                "token_task_restarts_total",
                "Restarts of the token's background task after a panic.",
                &["token"],
            )?,
            state_unsaved: c.int_gauge(
                "token_state_unsaved",
                "1 while the newest refresh token could not be written to the token's state.",
                &["token"],
            )?,
            store_up: c.int_gauge(
                "token_store_up",
                "1 while the store that the token is shared by can be used, else 0.",
                &["token"],
            )?,
            store_events: c.counter(
                "token_store_events_total",
                "What came of sharing the token: `adopted`, `published`, `overtaken`, `alone`, `unreadable` or `failed`.",
                &["token", "event"],
            )?,
            secret_reloads: c.counter(
                "secret_reload_total",
                "Changes of a secret's content that were noticed, by result.",
                &["result"],
            )?,
            connections: c
                .level("connections", "Connections held open by clients.", &[])?
                .with_label_values::<&str>(&[]),
            accepted: c
                .count("connections_total", "Connections accepted from clients.", &[])?
                .with_label_values::<&str>(&[]),
            accept_errors: register(
                &registry,
                IntCounter::new("bearerd_accept_errors_total", "Failures to accept a connection.")?,
            )?,
            config_reloads: c.counter(
                "config_reload_total",
                "Attempts to take over a changed configuration, by result.",
                &["result"],
            )?,
            config_last_reload: gauge(
                &registry,
                "bearerd_config_last_reload_success_timestamp_seconds",
                "When the running configuration was loaded, as Unix time in seconds.",
            )?,
            config_reload_succeeded: register(
                &registry,
                IntGauge::new(
                    "bearerd_config_last_reload_successful",
                    "1 if the configuration on disk is the one that runs, 0 if it was not taken over.",
                )?,
            )?,
            registry,
        };
        for result in ["success", "failure"] {
            metrics.config_reloads.with_label_values(&[result]).reset();
            metrics.secret_reloads.with_label_values(&[result]).reset();
        }
        metrics.config_last_reload.set(crate::vocab::Wall::now().0);
        metrics.config_reload_succeeded.set(1);
        Ok(metrics)
    }

    /// The Prometheus text format, version 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        self.process.observe();
        let mut out = Vec::new();
        let encoded = TextEncoder::new().encode(&self.registry.gather(), &mut out);
        debug_assert!(encoded.is_ok(), "the catalogue renders");
        String::from_utf8(out).unwrap_or_default()
    }

    /// All families, for whoever sums them up.
    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// A counter of refusals for one reason of a closed set.
    #[must_use]
    pub fn rejected(&self, reason: &'static str) -> IntCounter {
        self.rejected.with_label_values(&[reason])
    }

    /// Counts a reload of the configuration.
    pub fn reloaded(&self, success: bool) {
        let result = if success { "success" } else { "failure" };
        self.config_reloads.with_label_values(&[result]).inc();
        self.config_reload_succeeded.set(i64::from(success));
        if success {
            self.config_last_reload.set(crate::vocab::Wall::now().0);
        }
    }

    /// Counts a noticed change of a secret.
    pub fn secret_reloaded(&self, success: bool) {
        let result = if success { "success" } else { "failure" };
        self.secret_reloads.with_label_values(&[result]).inc();
    }
}
