//! The series of one token and of one route, resolved at start.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use prometheus::{Gauge, Histogram, IntCounter, IntGauge};

use super::tally::{Count, CountVec, Level, Times};

/// Methods with a series of their own; any other is counted as `_OTHER`.
pub(super) const METHODS: [&str; 8] =
    ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "_OTHER"];

/// Where codes without a series of their own are counted, behind those from 100 to 599.
const OTHER_CODE: usize = 500;

/// The series of one token.
#[derive(Debug)]
pub struct TokenMetrics {
    /// Unix time of expiry.
    pub expiry: Gauge,
    /// Unix time of the next attempt.
    pub next_refresh: Gauge,
    /// Unix time of the last success.
    pub last_success: Gauge,
    /// Failures in a row.
    pub consecutive_failures: IntGauge,
    /// 1 while injectable.
    pub usable: IntGauge,
    /// Successful attempts.
    pub success: IntCounter,
    pub(super) failures: BTreeMap<&'static str, IntCounter>,
    /// Durations of attempts.
    pub seconds: Histogram,
    /// Requests that wait.
    pub waiters: IntGauge,
    /// Restarts of the task.
    pub restarts: IntCounter,
    /// 1 while the newest refresh token is only in memory.
    pub state_unsaved: IntGauge,
}

impl TokenMetrics {
    /// Counts a failed attempt.
    pub fn failed(&self, reason: &'static str) {
        if let Some(counter) = self.failures.get(reason) {
            counter.inc();
        }
    }
}

/// The series of one token's shared store.
#[derive(Debug, Clone)]
pub struct StoreMetrics {
    /// 1 while it can be used.
    pub up: IntGauge,
    /// Values taken over from another program.
    pub adopted: IntCounter,
    /// Values handed to the others.
    pub published: IntCounter,
    /// Values that came too late: another program had stored a newer one.
    pub overtaken: IntCounter,
    /// Attempts made without the store's consent.
    pub alone: IntCounter,
    /// Entries that were not sealed for this token with this key.
    pub unreadable: IntCounter,
    /// Commands that were refused or not answered in time.
    pub failed: IntCounter,
}

/// The series of one route.
#[derive(Debug)]
pub struct RouteMetrics {
    pub(super) methods: [MethodMetrics; METHODS.len()],
    /// Requests being answered.
    pub in_flight: Level,
    /// Time to the answer's head.
    pub upstream_seconds: Times,
    /// Upstream connections in use.
    pub active: Level,
    /// Upstream connections kept for later.
    pub idle: Level,
    /// Answers cut off within the body.
    pub stalls: IntCounter,
    /// Times that an address of the upstream was set aside.
    pub ejections: IntCounter,
    /// Addresses of the upstream that are set aside.
    pub ejected: IntGauge,
    /// Open tunnels.
    pub upgrades: IntGauge,
    /// Credential there at once.
    pub injected: Count,
    /// Credential there after a wait.
    pub waited: Count,
    /// Refused for want of a credential.
    pub no_token: Count,
    /// By index of the `strippable` list given to [`super::metrics::Metrics::route`].
    pub stripped: Vec<Count>,
    pub(super) unauthorized: IntCounter,
    pub(super) forbidden: IntCounter,
    pub(super) unauthorized_other: IntCounter,
    /// Replays that the upstream accepted.
    pub replay_accepted: IntCounter,
    /// Replays that were rejected again.
    pub replay_rejected: IntCounter,
    /// Replays that could not be sent.
    pub replay_failed: IntCounter,
}

impl RouteMetrics {
    /// The series of one method.
    #[must_use]
    pub fn method(&self, method: &http::Method) -> &MethodMetrics {
        let index = METHODS.iter().position(|known| *known == method.as_str());
        &self.methods[index.unwrap_or(METHODS.len() - 1)]
    }

    /// Counts an answer that rejected the injected credential.
    pub fn unauthorized(&self, code: u16) {
        match code {
            401 => self.unauthorized.inc(),
            403 => self.forbidden.inc(),
            _ => self.unauthorized_other.inc(),
        }
    }
}

/// The series of one route and method.
#[derive(Debug)]
pub struct MethodMetrics {
    /// Durations.
    pub seconds: Times,
    /// Answers with 200, which are there from the start.
    pub(super) fine: Count,
    /// One counter a status code from 100 to 599, made at its first use; the last is for others.
    /// The table, of 8 KiB, is there once any but 200 was answered.
    pub(super) codes: OnceLock<Box<[OnceLock<Count>]>>,
    pub(super) requests: CountVec,
    pub(super) route: String,
    pub(super) method: &'static str,
}

impl MethodMetrics {
    /// The counter of one status code.
    ///
    /// An upstream chooses the code, so only registered ones have a series of their own.
    #[must_use]
    pub fn code(&self, code: u16) -> &Count {
        if code == 200 {
            return &self.fine;
        }
        let known = http::StatusCode::from_u16(code)
            .ok()
            .filter(|status| code < 600 && status.canonical_reason().is_some());
        let index = known.map_or(OTHER_CODE, |_| usize::from(code) - 100);
        let codes = self.codes.get_or_init(|| (0..=OTHER_CODE).map(|_| OnceLock::new()).collect());
        codes[index].get_or_init(|| {
            let label = known.as_ref().map_or("other", http::StatusCode::as_str);
            self.requests.with_label_values(&[self.route.as_str(), self.method, label])
        })
    }
}
