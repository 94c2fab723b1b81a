//! The series of tokens and routes, resolved once, and forgotten with what they are about.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use prometheus::IntCounterVec;
use prometheus::core::Collector;

use super::super::series::METHODS;
use super::{MethodMetrics, Metrics, RouteMetrics, StoreMetrics, TokenMetrics};
use crate::vocab::{RouteName, TokenName};

impl Metrics {
    /// The series of one token, all present from the start. `reasons` is the closed set of
    /// reasons for a failure.
    #[must_use]
    pub fn token(&self, name: &TokenName, reasons: &[&'static str]) -> TokenMetrics {
        let label = [name.as_str()];
        let failures = reasons
            .iter()
            .map(|reason| {
                let values = [name.as_str(), "failure", reason];
                (*reason, self.refreshes.with_label_values(&values))
            })
            .collect();
        let metrics = TokenMetrics {
            expiry: self.expiry.with_label_values(&label),
            next_refresh: self.next_refresh.with_label_values(&label),
            last_success: self.last_success.with_label_values(&label),
            consecutive_failures: self.failures.with_label_values(&label),
            usable: self.usable.with_label_values(&label),
            success: self.refreshes.with_label_values(&[name.as_str(), "success", ""]),
            failures,
            seconds: self.refresh_seconds.with_label_values(&label),
            waiters: self.waiters.with_label_values(&label),
            restarts: self.restarts.with_label_values(&label),
            state_unsaved: self.state_unsaved.with_label_values(&label),
        };
        metrics.expiry.set(0.0);
        metrics
    }

    /// The series of the store that one token is shared by, all present from the start.
    #[must_use]
    pub fn token_store(&self, name: &TokenName) -> StoreMetrics {
        let name = name.as_str();
        let event = |event: &str| self.store_events.with_label_values(&[name, event]);
        StoreMetrics {
            up: self.store_up.with_label_values(&[name]),
            adopted: event("adopted"),
            published: event("published"),
            overtaken: event("overtaken"),
            alone: event("alone"),
            unreadable: event("unreadable"),
            failed: event("failed"),
        }
    }

    /// Forgets the series of a token that the configuration no longer has.
    pub fn forget_token(&self, name: &TokenName) {
        forget(&self.refreshes, name.as_str(), &["token", "result", "reason"]);
        self.forget_store(name);
        let label = [name.as_str()];
        for vec in [&self.expiry, &self.next_refresh, &self.last_success] {
            drop(vec.remove_label_values(&label));
        }
        for vec in [&self.failures, &self.usable, &self.waiters, &self.state_unsaved] {
            drop(vec.remove_label_values(&label));
        }
        drop(self.refresh_seconds.remove_label_values(&label));
        drop(self.restarts.remove_label_values(&label));
    }

    /// Forgets the series of a token's store, which the configuration no longer has.
    pub fn forget_store(&self, name: &TokenName) {
        forget(&self.store_events, name.as_str(), &["token", "event"]);
        drop(self.store_up.remove_label_values(&[name.as_str()]));
    }

    /// The series of one route, all present from the start but for status codes that no answer
    /// has had yet. `strippable` names the configured places of client credentials.
    #[must_use]
    pub fn route(&self, name: &RouteName, strippable: &[String]) -> RouteMetrics {
        let route = name.as_str();
        let methods = METHODS.map(|method| MethodMetrics {
            seconds: self.request_seconds.with_label_values(&[route, method]),
            // There from the start; after a reload it goes on from where it was.
            fine: self.requests.with_label_values(&[route, method, "200"]),
            codes: OnceLock::new(),
            requests: self.requests.clone(),
            route: route.to_owned(),
            method,
        });
        RouteMetrics {
            methods,
            in_flight: self.in_flight.with_label_values(&[route]),
            upstream_seconds: self.upstream_seconds.with_label_values(&[route]),
            active: self.upstream_connections.with_label_values(&[route, "active"]),
            idle: self.upstream_connections.with_label_values(&[route, "idle"]),
            stalls: self.upstream_stalls.with_label_values(&[route]),
            ejections: self.upstream_ejections.with_label_values(&[route]),
            ejected: self.upstream_ejected.with_label_values(&[route]),
            upgrades: self.upgrades_active.with_label_values(&[route]),
            injected: self.injections.with_label_values(&[route, "injected"]),
            waited: self.injections.with_label_values(&[route, "waited"]),
            no_token: self.injections.with_label_values(&[route, "no_token"]),
            stripped: strippable
                .iter()
                .map(|place| self.stripped.with_label_values(&[route, place]))
                .collect(),
            unauthorized: self.unauthorized.with_label_values(&[route, "401"]),
            forbidden: self.unauthorized.with_label_values(&[route, "403"]),
            unauthorized_other: self.unauthorized.with_label_values(&[route, "other"]),
            replay_accepted: self.replays.with_label_values(&[route, "accepted"]),
            replay_rejected: self.replays.with_label_values(&[route, "rejected"]),
            replay_failed: self.replays.with_label_values(&[route, "failed"]),
        }
    }
}

/// Removes every series of a vector with these labels whose first one has this value.
fn forget(vec: &IntCounterVec, first: &str, names: &[&str]) {
    for family in vec.collect() {
        for metric in family.get_metric() {
            let labels: BTreeMap<&str, &str> =
                metric.get_label().iter().map(|l| (l.name(), l.value())).collect();
            if labels.get("token") == Some(&first) {
                let values: Vec<&str> = names
                    .iter()
                    .map(|name| labels.get(name).copied().unwrap_or_default())
                    .collect();
                drop(vec.remove_label_values(&values));
            }
        }
    }
}
