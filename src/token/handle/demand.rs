//! Who asks for a renewal, and what comes of it: upstreams that reject a value, and people.

use std::time::Duration;

use super::{Handle, lock};
use crate::vocab::Moment;

/// The shortest time between two renewals that upstreams asked for.
pub const FORCED_INTERVAL: Duration = Duration::from_secs(30);

/// A renewal that is planned within this time may be brought forward at any time.
const NEAR: Duration = Duration::from_secs(1);

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

/// What upstreams asked for; touched only when something was rejected or renewed.
#[derive(Debug, Default)]
pub(super) struct Demand {
    renewing: bool,
    /// The attempt under way has published its value already.
    fresh: bool,
    rejected: Option<u64>,
    /// The generation that an upstream rejected last, and when; for people.
    refused: Option<(u64, Moment)>,
    last_forced: Option<Moment>,
    pending: bool,
}

impl Demand {
    /// The attempt under way has given what it had.
    pub(super) const fn published(&mut self) {
        self.fresh = true;
    }
}

impl Handle {
    /// Whether an upstream has rejected the value in use.
    #[must_use]
    pub(in crate::token) fn is_rejected(&self) -> bool {
        let rejected = lock(&self.0.demand).rejected;
        self.0.current.load().as_ref().is_some_and(|now| rejected == Some(now.generation))
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

    /// Whether a renewal is under way or asked for.
    #[must_use]
    pub fn is_renewing(&self) -> bool {
        let demand = lock(&self.0.demand);
        demand.renewing || demand.pending
    }

    /// Returns when somebody asked for a renewal.
    pub(in crate::token) async fn poked(&self) {
        loop {
            let notified = self.0.poke.notified();
            if lock(&self.0.demand).pending {
                return;
            }
            notified.await;
        }
    }

    /// Marks the beginning and end of an attempt. The beginning answers whoever asked for one, the
    /// end wakes requests that wait for it.
    pub(in crate::token) fn set_renewing(&self, renewing: bool) {
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
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Current;
    use super::*;
    use crate::telemetry::metrics::Metrics;
    use crate::token::failure::{Failure, Reason};
    use crate::token::grant::Grant;
    use crate::token::rejection::Rejection;
    use crate::vocab::{Secret, TokenName};

    /// A token whose first value is to be renewed after 40 s.
    fn handle() -> Handle {
        let metrics = Metrics::new().unwrap();
        let name = TokenName::parse("api").unwrap();
        let series = metrics.token(&name, &[]);
        let handle = Handle::new(name, "oauth2", true, vec![Rejection::unauthorized()], series);
        publish(&handle, 1, Duration::from_secs(40));
        handle
    }

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
        let handle = handle();
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
        let handle = handle();
        assert_eq!(handle.reject(1), Rejected::Renewing);
        publish(&handle, 2, Duration::from_secs(40));
        assert_eq!(handle.reject(1), Rejected::Stale);
        assert_eq!(handle.reject(2), Rejected::Ignored, "too soon");
        handle
            .tell(|report| report.next_attempt = Some(Moment::now() + Duration::from_millis(100)));
        assert_eq!(handle.reject(2), Rejected::Renewing, "due anyway");
    }
}
