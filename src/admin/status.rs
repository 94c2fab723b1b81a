//! The status document: where every token and route stands, for people and scripts. Never a
//! secret: it is built from names, times and counts alone.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::telemetry::journal::Inspect;
use crate::telemetry::summary::{Summary, Traffic};
use crate::token::Tokens;
use crate::token::handle::{Current, Handle};
use crate::token::report::Report;
use crate::vocab::{Moment, Wall};

/// For so long after an upstream's last rejection a token counts as rejected: others of its
/// requests may pass, and nobody is told of those.
const REJECTION: Duration = Duration::from_secs(60);

/// What a person can do when an upstream says no.
const REJECTED_UPSTREAM: &str = "check that the token is one for this API: its audience, scopes and organization, and the \
     rights of its account";

/// The whole document.
#[derive(Debug, Serialize)]
pub(super) struct Status<'s> {
    pub(super) version: &'static str,
    pub(super) started_at: String,
    pub(super) now: String,
    pub(super) ready: bool,
    pub(super) draining: bool,
    /// Whether tokens can be renewed from the page.
    pub(super) renewable: bool,
    /// What is listed of requests.
    pub(super) inspect: Inspect,
    pub(super) tokens: Vec<TokenStatus>,
    pub(super) routes: Vec<RouteStatus<'s>>,
    pub(super) refusals: BTreeMap<String, u64>,
}

/// What the status tells beside tokens, routes and counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) started: Moment,
    pub(super) draining: bool,
    pub(super) renewable: bool,
    pub(super) inspect: Inspect,
}

/// What is configured of a route, and what it did.
#[derive(Debug, Serialize)]
pub(super) struct RouteStatus<'s> {
    pub(super) name: &'s str,
    pub(super) host: Option<&'s str>,
    pub(super) path: &'s str,
    pub(super) upstream: &'s str,
    pub(super) injects: &'s [String],
    pub(super) traffic: Traffic,
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
pub(super) struct TokenStatus {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) source: String,
    pub(super) required: bool,
    pub(super) state: State,
    /// The state in words.
    pub(super) says: &'static str,
    pub(super) generation: u64,
    obtained_at: Option<String>,
    pub(super) age_seconds: Option<f64>,
    pub(super) obtained_by: &'static str,
    expires_at: Option<String>,
    pub(super) expires_in_seconds: Option<f64>,
    pub(super) usable_for_seconds: Option<f64>,
    next_attempt_at: Option<String>,
    pub(super) next_attempt_in_seconds: Option<f64>,
    pub(super) consecutive_failures: u32,
    pub(super) last_failure: Option<FailureStatus>,
    pub(super) rejected_by_upstream: Option<RejectionStatus>,
    store: Option<StoreStatus>,
}

/// The store that a token is shared by.
#[derive(Debug, Serialize)]
struct StoreStatus {
    place: String,
    up: bool,
    /// Why it cannot be used.
    fault: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct FailureStatus {
    pub(super) reason: &'static str,
    pub(super) detail: String,
    pub(super) advice: &'static str,
}

/// An upstream's rejection of the value in use.
#[derive(Debug, Serialize)]
pub(super) struct RejectionStatus {
    pub(super) seconds_ago: f64,
    pub(super) advice: &'static str,
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
    /// The issuer refuses to give one, or an upstream the one in use.
    Rejected,
}

impl State {
    /// The state of a token now.
    #[must_use]
    pub fn of(handle: &Handle) -> Self {
        let (now, report) = (Moment::now(), handle.report());
        let refused = report.failure.as_ref().is_some_and(|failure| failure.reason.is_refusal());
        let current = handle.current();
        let usable = current.as_ref().map(|current| current.is_usable(now));
        let unwanted = handle.refused_at().is_some_and(|at| now.since(at) < REJECTION);
        match usable {
            _ if refused => Self::Rejected,
            None => Self::Starting,
            Some(false) => Self::Expired,
            Some(true) if handle.is_renewing() && report.failure.is_none() => Self::Renewing,
            Some(true) if unwanted => Self::Rejected,
            Some(true) if report.failure.is_some() => Self::Stale,
            Some(true) => Self::Fresh,
        }
    }

    /// In words, for whoever looks at a token whose last attempt failed or did not.
    const fn says(self, refused_by_issuer: bool) -> &'static str {
        match self {
            Self::Starting => "no token yet",
            Self::Fresh => "fresh",
            Self::Renewing => "being renewed",
            Self::Stale => "usable, renewal fails",
            Self::Expired => "expired",
            Self::Rejected if refused_by_issuer => "rejected by its issuer",
            Self::Rejected => "rejected by an upstream",
        }
    }
}

impl<'s> Status<'s> {
    pub(super) fn new(
        tokens: &Tokens,
        routes: &'s [RouteInfo],
        summary: Summary,
        frame: Frame,
    ) -> Self {
        let Summary { routes: mut traffic, refusals } = summary;
        Self {
            version: env!("CARGO_PKG_VERSION"),
            started_at: frame.started.to_wall().rfc3339(),
            now: Wall::now().rfc3339(),
            ready: !frame.draining && tokens.missing().is_empty(),
            draining: frame.draining,
            renewable: frame.renewable,
            inspect: frame.inspect,
            tokens: tokens.iter().map(|(handle, source)| token(handle, source)).collect(),
            routes: routes.iter().map(|route| RouteStatus::new(route, &mut traffic)).collect(),
            refusals,
        }
    }
}

impl<'s> RouteStatus<'s> {
    fn new(route: &'s RouteInfo, traffic: &mut BTreeMap<String, Traffic>) -> Self {
        Self {
            name: &route.name,
            host: route.host.as_deref(),
            path: &route.path,
            upstream: &route.upstream,
            injects: &route.injects,
            traffic: traffic.remove(&route.name).unwrap_or_default(),
        }
    }
}

fn token(handle: &Handle, source: String) -> TokenStatus {
    let now = Moment::now();
    let current = handle.current();
    let report = handle.report();
    let date = |moment: Moment| moment.to_wall().rfc3339();
    let of = |get: fn(&Current) -> Option<Moment>| current.as_deref().and_then(get);
    let (expires, usable) = (of(|current| current.expires), of(|current| current.usable_until));
    let state = State::of(handle);
    let Report { failure, consecutive_failures, next_attempt, last_means, .. } = report;
    let refused = failure.as_ref().is_some_and(|failure| failure.reason.is_refusal());
    TokenStatus {
        name: handle.name().to_string(),
        kind: handle.kind(),
        source,
        required: handle.is_required(),
        state,
        says: state.says(refused),
        generation: current.as_ref().map_or(0, |current| current.generation),
        obtained_at: of(|current| Some(current.obtained)).map(date),
        age_seconds: of(|current| Some(current.obtained)).map(|at| seconds(at, now)),
        obtained_by: last_means,
        expires_at: expires.map(date),
        expires_in_seconds: expires.map(|at| seconds(now, at)),
        usable_for_seconds: usable.map(|at| seconds(now, at)),
        next_attempt_at: next_attempt.map(date),
        next_attempt_in_seconds: next_attempt.map(|at| seconds(now, at)),
        consecutive_failures,
        last_failure: failure.map(|failure| FailureStatus {
            reason: failure.reason.as_str(),
            advice: failure.reason.advice(),
            detail: failure.detail,
        }),
        rejected_by_upstream: handle
            .refused_at()
            .map(|at| RejectionStatus { seconds_ago: seconds(at, now), advice: REJECTED_UPSTREAM }),
        store: report.store.map(|store| StoreStatus {
            place: store.place,
            up: store.fault.is_empty(),
            fault: Some(store.fault).filter(|fault| !fault.is_empty()),
        }),
    }
}

/// Seconds to the millisecond.
fn seconds(from: Moment, to: Moment) -> f64 {
    (from.until(to).as_secs_f64() * 1000.0).round() / 1000.0
}
