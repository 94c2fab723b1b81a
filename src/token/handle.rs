//! A token as the rest of the program sees it: the current value, without a lock.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::failure::{Failure, Reason};
use super::grant::Grant;
use super::present::Presentation;
use super::rejection::Rejection;
use super::report::Report;
use crate::telemetry::metrics::TokenMetrics;
use crate::vocab::{Moment, TokenName};

/// The shortest time between two renewals that upstreams asked for.
pub const FORCED_INTERVAL: Duration = Duration::from_secs(30);

/// A renewal that is planned within this time may be brought forward at any time.
const NEAR: Duration = Duration::from_secs(1);

/// One generation of a token.
#[derive(Debug)]
pub struct Current {
    /// Counts from 1; a newer value has a higher number.
    pub generation: u64,
    /// The value and its fields.
    pub grant: Arc<Grant>,
    /// When the request for it was sent.
    pub obtained: Moment,
    /// When it expires; `None` if never.
    pub expires: Option<Moment>,
    /// Up to when it may be injected: a guard before the expiry.
    pub usable_until: Option<Moment>,
}

impl Current {
    /// Whether it may be injected now.
    #[must_use]
    pub fn is_usable(&self, now: Moment) -> bool {
        self.usable_until.is_none_or(|until| now < until)
    }
}

/// What an upstream's rejection leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// The rejected value has been replaced already: send the current one, ask nobody.
    Stale,
    /// A renewal is on its way: wait for it.
    Renewing,
    /// This value was rejected before, or the last forced renewal is too recent: let the answer
    /// pass.
    Ignored,
}

/// What a person's wish for a renewal leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A renewal begins.
    Begun,
    /// One is under way already.
    UnderWay,
    /// The last one that was asked for is too recent: not before this time has passed.
    TooSoon(Duration),
    /// The issuer has asked for a pause of so much longer.
    Held(Duration),
}

/// Makes a value for one use.
pub(super) type Mint = Box<dyn Fn() -> Result<Grant, Failure> + Send + Sync>;

/// Shared by everybody who uses one token. `super::refresher` is the only writer.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

struct Shared {
    name: TokenName,
    kind: &'static str,
    required: bool,
    current: ArcSwapOption<Current>,
    generation: watch::Sender<u64>,
    demand: Mutex<Demand>,
    poke: Notify,
    nudge: Notify,
    report: Mutex<Report>,
    rejections: Vec<Rejection>,
    dependents: Mutex<Vec<Weak<Presentation>>>,
    /// The tasks of tokens that are made from this one.
    children: TaskTracker,
    mint: OnceLock<Mint>,
    metrics: TokenMetrics,
}

/// What upstreams asked for; touched only when something was rejected or renewed.
#[derive(Debug, Default)]
struct Demand {
    renewing: bool,
    /// The attempt under way has published its value already.
    fresh: bool,
    rejected: Option<u64>,
    /// The generation that an upstream rejected last, and when; for people.
    refused: Option<(u64, Moment)>,
    last_forced: Option<Moment>,
    pending: bool,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.0.name).finish()
    }
}

impl Handle {
    /// A token without a value.
    #[must_use]
    pub fn new(
        name: TokenName,
        kind: &'static str,
        required: bool,
        rejections: Vec<Rejection>,
        metrics: TokenMetrics,
    ) -> Self {
        Self(Arc::new(Shared {
            name,
            kind,
            required,
            current: ArcSwapOption::empty(),
            generation: watch::Sender::new(0),
            demand: Mutex::default(),
            poke: Notify::new(),
            nudge: Notify::new(),
            report: Mutex::default(),
            rejections,
            dependents: Mutex::default(),
            children: TaskTracker::new(),
            mint: OnceLock::new(),
            metrics,
        }))
    }

    /// The token's name.
    #[must_use]
    pub fn name(&self) -> &TokenName {
        &self.0.name
    }

    /// The kind of its source.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.0.kind
    }

    /// Whether readiness depends on it.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.0.required
    }

    /// The current generation, usable or not.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Current>> {
        self.0.current.load_full()
    }

    /// The current generation, if it may be used now.
    #[must_use]
    pub fn usable(&self) -> Option<Arc<Current>> {
        self.current().filter(|current| current.is_usable(Moment::now()))
    }

    /// A usable value for a request that is made from this token: one of its own, where the
    /// token is made for each use.
    ///
    /// # Errors
    /// There is none, or it could not be made.
    pub fn fresh(&self) -> Result<Arc<Current>, Failure> {
        let current = self.usable().ok_or_else(|| {
            Failure::new(Reason::Parent, format!("`{}` has no usable value", self.0.name))
        })?;
        let Some(mint) = self.0.mint.get() else { return Ok(current) };
        Ok(Arc::new(Current {
            generation: current.generation,
            grant: Arc::new(mint()?),
            obtained: Moment::now(),
            expires: current.expires,
            usable_until: current.usable_until,
        }))
    }

    /// Says that a token is made from this one for as long as the answer is kept.
    pub(super) fn child(&self) -> TaskTrackerToken {
        self.0.children.token()
    }

    /// Returns when no token is made from this one any more.
    pub(super) async fn childless(&self) {
        self.0.children.close();
        self.0.children.wait().await;
    }

    /// Has [`Self::fresh`] make a value for each use.
    pub(super) fn mint_by(&self, mint: Mint) {
        // Only the first counts; there is one start for each handle.
        drop(self.0.mint.set(mint));
    }

    /// Whether an upstream has rejected the value in use.
    #[must_use]
    pub(super) fn is_rejected(&self) -> bool {
        let rejected = lock(&self.0.demand).rejected;
        self.0.current.load().as_ref().is_some_and(|now| rejected == Some(now.generation))
    }

    /// The rules by which an upstream's answer rejects this token.
    #[must_use]
    pub fn rejections(&self) -> &[Rejection] {
        &self.0.rejections
    }

    /// The token's metrics.
    #[must_use]
    pub fn metrics(&self) -> &TokenMetrics {
        &self.0.metrics
    }

    /// Where the token stands.
    #[must_use]
    pub fn report(&self) -> Report {
        lock(&self.0.report).clone()
    }

    /// Says that an upstream rejected `generation`. At most one renewal comes of it, per
    /// generation and per [`FORCED_INTERVAL`].
    #[must_use]
    pub fn reject(&self, generation: u64) -> Rejected {
        let mut demand = lock(&self.0.demand);
        if self.0.current.load().as_ref().is_none_or(|current| current.generation != generation) {
            return Rejected::Stale;
        }
        let now = Moment::now();
        demand.refused = Some((generation, now));
        if (demand.renewing && !demand.fresh) || demand.pending {
            return Rejected::Renewing;
        }
        let too_soon = demand.last_forced.is_some_and(|last| now.since(last) < FORCED_INTERVAL);
        if demand.rejected == Some(generation) || (too_soon && !self.is_due(now)) {
            return Rejected::Ignored;
        }
        demand.rejected = Some(generation);
        if !too_soon {
            demand.last_forced = Some(now);
        }
        demand.pending = true;
        self.0.poke.notify_one();
        Rejected::Renewing
    }

    /// How long nothing would come of [`Self::reject`] because of the last renewal that was asked
    /// for; no time while one is on its way.
    #[must_use]
    pub fn forced_again_in(&self) -> Duration {
        let demand = lock(&self.0.demand);
        if demand.renewing || demand.pending {
            return Duration::ZERO;
        }
        let again = demand.last_forced.map(|last| last + FORCED_INTERVAL);
        again.map_or(Duration::ZERO, |again| Moment::now().until(again))
    }

    /// Whether the next attempt is so near (a second, or a tenth of the lifetime) that to bring it
    /// forward costs the issuer nothing.
    fn is_due(&self, now: Moment) -> bool {
        let report = lock(&self.0.report);
        let lifetime = self.0.current.load().as_ref().and_then(|current| current.grant.lifetime);
        let near = NEAR.min(lifetime.unwrap_or_default() / 10);
        report.next_attempt.is_some_and(|at| now.until(at) <= near)
    }

    /// Asks for a renewal now, on behalf of a person: at most once per [`FORCED_INTERVAL`],
    /// whoever asks, and never against what the issuer wants.
    #[must_use]
    pub fn ask_renewal(&self) -> Asked {
        let mut demand = lock(&self.0.demand);
        if demand.renewing || demand.pending {
            return Asked::UnderWay;
        }
        let now = Moment::now();
        let passed = demand.last_forced.map_or(FORCED_INTERVAL, |last| now.since(last));
        if passed < FORCED_INTERVAL {
            return Asked::TooSoon(FORCED_INTERVAL - passed);
        }
        let report = self.report();
        let held = report.failure.is_some_and(|failure| failure.retry_after.is_some());
        if let Some(left) = report.next_attempt.filter(|_| held).map(|at| now.until(at))
            && !left.is_zero()
        {
            return Asked::Held(left);
        }
        demand.last_forced = Some(now);
        demand.pending = true;
        self.0.poke.notify_one();
        Asked::Begun
    }

    /// When an upstream last rejected the value in use.
    #[must_use]
    pub fn refused_at(&self) -> Option<Moment> {
        let (generation, at) = lock(&self.0.demand).refused?;
        self.current().filter(|current| current.generation == generation).map(|_| at)
    }

    /// Follows the generations; the value is the newest one's number, 0 for none yet.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.0.generation.subscribe()
    }

    /// Whether a renewal is under way or asked for.
    #[must_use]
    pub fn is_renewing(&self) -> bool {
        let demand = lock(&self.0.demand);
        demand.renewing || demand.pending
    }

    /// Returns when somebody asked for a renewal.
    pub(super) async fn poked(&self) {
        loop {
            let notified = self.0.poke.notified();
            if lock(&self.0.demand).pending {
                return;
            }
            notified.await;
        }
    }

    /// Says that somebody finds the value no longer usable. It asks for nothing: the token's task
    /// looks at the clock anew, which after a suspend shows that a renewal is overdue.
    pub(super) fn nudge(&self) {
        self.0.nudge.notify_one();
    }

    /// Returns when somebody found the value no longer usable.
    pub(super) async fn nudged(&self) {
        self.0.nudge.notified().await;
    }

    /// Marks the beginning and end of an attempt. The beginning answers whoever asked for one, the
    /// end wakes requests that wait for it.
    pub(super) fn set_renewing(&self, renewing: bool) {
        let mut demand = lock(&self.0.demand);
        if renewing && demand.pending {
            demand.pending = false;
            // What was asked for may have had to wait; the interval counts from the attempt.
            demand.last_forced = Some(Moment::now());
        }
        demand.renewing = renewing;
        demand.fresh = false;
        drop(demand);
        if !renewing {
            self.0.generation.send_modify(|_| {});
        }
    }

    /// Changes what people are told.
    pub(super) fn tell(&self, change: impl FnOnce(&mut Report)) {
        change(&mut lock(&self.0.report));
    }

    /// Puts a new generation in use: first the header fields of every route, then the news.
    pub(super) fn publish(&self, current: Current) {
        let generation = current.generation;
        // The attempt has given what it had: whoever rejects this value asks for another one.
        let mut demand = lock(&self.0.demand);
        self.0.current.store(Some(Arc::new(current)));
        demand.fresh = true;
        drop(demand);
        let mut dependents = lock(&self.0.dependents);
        dependents.retain(|presentation| presentation.strong_count() > 0);
        let living: Vec<_> = dependents.iter().filter_map(Weak::upgrade).collect();
        drop(dependents);
        for presentation in living {
            presentation.refresh();
        }
        self.0.generation.send_replace(generation);
    }

    /// Has `presentation` built anew whenever this token changes.
    pub(super) fn add_dependent(&self, presentation: &Arc<Presentation>) {
        lock(&self.0.dependents).push(Arc::downgrade(presentation));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;
    use crate::vocab::Secret;

    /// A token of this generation that lives a minute and is to be renewed after `renewal`.
    fn publish(handle: &Handle, generation: u64, renewal: Duration) {
        let now = Moment::now();
        handle.set_renewing(true);
        let mut grant = Grant::of(Secret::from("value"));
        grant.lifetime = Some(Duration::from_secs(60));
        handle.publish(Current {
            generation,
            grant: Arc::new(grant),
            obtained: now,
            expires: Some(now + Duration::from_secs(60)),
            usable_until: Some(now + Duration::from_secs(55)),
        });
        handle.tell(|report| report.next_attempt = Some(now + renewal));
        handle.set_renewing(false);
    }

    #[test]
    fn a_person_may_ask_for_a_renewal_once_in_half_a_minute_and_not_against_the_issuer() {
        let metrics = Metrics::new().unwrap();
        let name = TokenName::parse("api").unwrap();
        let series = metrics.token(&name, &[]);
        let handle = Handle::new(name, "oauth2", true, vec![Rejection::unauthorized()], series);
        publish(&handle, 1, Duration::from_secs(40));
        let mut failure = Failure::new(Reason::RateLimited, "slow down");
        failure.retry_after = Some(Duration::from_secs(9));
        handle.tell(|report| report.failure = Some(failure));
        assert!(matches!(handle.ask_renewal(), Asked::Held(left) if left.as_secs() > 30));
        handle.tell(|report| report.failure = None);
        assert_eq!(handle.ask_renewal(), Asked::Begun);
        assert_eq!(handle.ask_renewal(), Asked::UnderWay);
        publish(&handle, 2, Duration::from_secs(40));
        assert!(matches!(handle.ask_renewal(), Asked::TooSoon(left) if left.as_secs() > 20));
        assert_eq!(handle.reject(2), Rejected::Ignored, "the interval is one for all");
        assert!(handle.refused_at().is_some(), "yet it is told");
        publish(&handle, 3, Duration::from_secs(40));
        assert!(handle.refused_at().is_none(), "of the value in use only");
    }

    #[test]
    fn a_second_rejection_within_half_a_minute_passes_unless_the_renewal_is_due_anyway() {
        let metrics = Metrics::new().unwrap();
        let name = TokenName::parse("api").unwrap();
        let series = metrics.token(&name, &[]);
        let handle = Handle::new(name, "oauth2", true, vec![Rejection::unauthorized()], series);
        publish(&handle, 1, Duration::from_secs(40));
        assert_eq!(handle.reject(1), Rejected::Renewing);
        publish(&handle, 2, Duration::from_secs(40));
        assert_eq!(handle.reject(1), Rejected::Stale);
        assert_eq!(handle.reject(2), Rejected::Ignored, "too soon");
        handle
            .tell(|report| report.next_attempt = Some(Moment::now() + Duration::from_millis(100)));
        assert_eq!(handle.reject(2), Rejected::Renewing, "due anyway");
    }
}
