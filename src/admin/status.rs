//! The status document: where every token and route stands, for people and scripts. Never a
//! secret: it is built from names, times and counts alone.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::telemetry::summary::{Summary, Traffic};
use crate::token::Tokens;
use crate::token::handle::Handle;
use crate::vocab::{Moment, Wall};

/// The whole document.
#[derive(Debug, Serialize)]
pub(super) struct Status<'s> {
    version: &'static str,
    started_at: String,
    now: String,
    ready: bool,
    draining: bool,
    tokens: Vec<TokenStatus>,
    routes: Vec<RouteStatus<'s>>,
    refusals: BTreeMap<String, u64>,
}

/// What is configured of a route, and what it did.
#[derive(Debug, Serialize)]
struct RouteStatus<'s> {
    name: &'s str,
    host: Option<&'s str>,
    path: &'s str,
    upstream: &'s str,
    injects: &'s [String],
    traffic: Traffic,
}

/// What the status tells of a route; filled in by whoever knows the routes.
#[derive(Debug, Clone)]
pub struct RouteInfo {
    /// Its name.
    pub name: String,
    /// The host that it matches, if not all.
    pub host: Option<String>,
    /// The path prefix that it matches.
    pub path: String,
    /// Where it leads, without a query.
    pub upstream: String,
    /// The names of the header fields that it injects.
    pub injects: Vec<String>,
}

#[derive(Debug, Serialize)]
struct TokenStatus {
    name: String,
    kind: &'static str,
    source: String,
    required: bool,
    state: State,
    generation: u64,
    obtained_at: Option<String>,
    age_seconds: Option<f64>,
    obtained_by: &'static str,
    expires_at: Option<String>,
    expires_in_seconds: Option<f64>,
    usable_for_seconds: Option<f64>,
    next_attempt_at: Option<String>,
    next_attempt_in_seconds: Option<f64>,
    consecutive_failures: u32,
    last_failure: Option<FailureStatus>,
}

#[derive(Debug, Serialize)]
struct FailureStatus {
    reason: &'static str,
    detail: String,
    advice: &'static str,
}

/// Where a token stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// There was none yet.
    Starting,
    /// Usable, the last attempt succeeded.
    Fresh,
    /// Usable, and a renewal is under way.
    Renewing,
    /// Usable, but renewal fails.
    Stale,
    /// No longer usable.
    Expired,
}

impl State {
    /// The state of a token now.
    #[must_use]
    pub fn of(handle: &Handle) -> Self {
        let failing = handle.report().failure.is_some();
        match handle.current() {
            None => Self::Starting,
            Some(current) if !current.is_usable(Moment::now()) => Self::Expired,
            Some(_) if failing => Self::Stale,
            Some(_) if handle.is_renewing() => Self::Renewing,
            Some(_) => Self::Fresh,
        }
    }
}

impl<'s> Status<'s> {
    pub(super) fn new(
        tokens: &Tokens,
        routes: &'s [RouteInfo],
        summary: Summary,
        started: Moment,
        draining: bool,
    ) -> Self {
        let Summary { routes: traffic, refusals } = summary;
        Self {
            version: env!("CARGO_PKG_VERSION"),
            started_at: started.to_wall().rfc3339(),
            now: Wall::now().rfc3339(),
            ready: !draining && tokens.missing().is_empty(),
            draining,
            tokens: tokens.iter().map(|(handle, source)| token(handle, source)).collect(),
            routes: routes.iter().map(|route| RouteStatus::new(route, &traffic)).collect(),
            refusals,
        }
    }
}

impl<'s> RouteStatus<'s> {
    fn new(route: &'s RouteInfo, traffic: &BTreeMap<String, Traffic>) -> Self {
        Self {
            name: &route.name,
            host: route.host.as_deref(),
            path: &route.path,
            upstream: &route.upstream,
            injects: &route.injects,
            traffic: traffic.get(&route.name).copied().unwrap_or_default(),
        }
    }
}

fn token(handle: &Handle, source: String) -> TokenStatus {
    let now = Moment::now();
    let current = handle.current();
    let report = handle.report();
    let date = |moment: Moment| moment.to_wall().rfc3339();
    let expires = current.as_ref().and_then(|current| current.expires);
    let usable = current.as_ref().and_then(|current| current.usable_until);
    TokenStatus {
        name: handle.name().to_string(),
        kind: handle.kind(),
        source,
        required: handle.is_required(),
        state: State::of(handle),
        generation: current.as_ref().map_or(0, |current| current.generation),
        obtained_at: current.as_ref().map(|current| date(current.obtained)),
        age_seconds: current.as_ref().map(|current| seconds(current.obtained, now)),
        obtained_by: report.last_means,
        expires_at: expires.map(date),
        expires_in_seconds: expires.map(|at| seconds(now, at)),
        usable_for_seconds: usable.map(|at| seconds(now, at)),
        next_attempt_at: report.next_attempt.map(date),
        next_attempt_in_seconds: report.next_attempt.map(|at| seconds(now, at)),
        consecutive_failures: report.consecutive_failures,
        last_failure: report.failure.map(|failure| FailureStatus {
            reason: failure.reason.as_str(),
            advice: failure.reason.advice(),
            detail: failure.detail,
        }),
    }
}

/// Seconds to the millisecond.
fn seconds(from: Moment, to: Moment) -> f64 {
    (from.until(to).as_secs_f64() * 1000.0).round() / 1000.0
}
