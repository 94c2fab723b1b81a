//! When to try next. Pure: the present and the dice are arguments, so that every rule can be
//! tested without waiting.
//!
//! * A token is renewed at a point drawn uniformly around 75 % of its lifetime, earlier if the
//!   issuer is so slow that the answer would come too late.
//! * It is injected up to a guard before its expiry, never beyond.
//! * Failures double a pause, with jitter; while a token is still valid the tries get denser as
//!   the guard comes nearer. `Retry-After` overrides. Faults of the credential are tried rarely.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::failure::Failure;
use super::grant::LONGEST;
use crate::vocab::{Mistake, Moment, Period, Placeholder, positive_period, scalar};

/// Two attempts are never closer than this, whatever an answer says.
pub const FLOOR: Duration = Duration::from_millis(500);

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE_VALID: Duration = Duration::from_secs(60);
const LONGEST_PAUSE_NONE: Duration = Duration::from_secs(15);
const PERMANENT_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PERMANENT_PAUSE: Duration = Duration::from_secs(300);
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// The `renew` block of a token.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Renew {
    /// Where in its lifetime a token is renewed, as a percentage; drawn anew for each token up to
    /// five points before or after, so that replicas spread.
    pub at: Percent,
    /// Longest time before the expiry at which a token is no longer injected; a tenth of the
    /// lifetime where that is shorter.
    pub guard: Period,
    /// For one attempt, from connecting to the last byte of the answer.
    #[serde(deserialize_with = "positive_period")]
    pub timeout: Period,
    /// The lifetime to assume where an answer tells none.
    #[serde(deserialize_with = "positive_period")]
    pub assume: Period,
    /// Renew at the latest after this time, whatever the answer says.
    pub max_age: Option<Period>,
    /// A refresh that yields less than this is followed by the initial grant.
    pub min_lifetime: Option<Period>,
}

impl Default for Renew {
    fn default() -> Self {
        Self {
            at: Percent(75),
            guard: Period::secs(5),
            timeout: Period::secs(10),
            assume: Period::secs(300),
            max_age: None,
            min_lifetime: None,
        }
    }
}

/// A percentage from 10 to 90, written `75%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(with = "String")]
pub struct Percent(pub u8);

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, |text| {
            text.strip_suffix('%')
                .and_then(|digits| digits.trim().parse().ok())
                .filter(|percent| (10..=90).contains(percent))
                .map(Self)
                .ok_or_else(|| {
                    Mistake::new(format!("`{text}` is not a percentage from 10% to 90%"))
                        .hint("write it with the sign, such as `75%`")
                })
        })
    }
}

impl Placeholder for Percent {
    fn placeholder() -> Self {
        Self(75)
    }
}

/// When a value begins and ends to be of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// When the request for it was sent. Counting from here errs on the safe side.
    pub sent: Moment,
    /// How long it holds from then; `None` for ever.
    pub lifetime: Option<Duration>,
}

impl Span {
    /// When it expires.
    #[must_use]
    pub fn expires(&self) -> Option<Moment> {
        self.lifetime.map(|lifetime| self.sent + lifetime)
    }
}

/// What is known of the value that a successful attempt replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// There was none, or this one is really new.
    New,
    /// The very same value came again.
    SameValue,
}

/// The memory of one token's schedule.
#[derive(Debug, Clone)]
pub struct Schedule {
    renew: Renew,
    /// Smoothed duration of attempts.
    latency: Option<Duration>,
    transient: u32,
    permanent: u32,
    /// Expiry and full lifetime of the value that was last really new.
    last_new: Option<(Moment, Duration)>,
}

impl Schedule {
    /// A schedule before its first attempt.
    #[must_use]
    pub const fn new(renew: Renew) -> Self {
        Self { renew, latency: None, transient: 0, permanent: 0, last_new: None }
    }

    /// The settings.
    #[must_use]
    pub const fn renew(&self) -> &Renew {
        &self.renew
    }

    /// Failures since the last success.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.transient.saturating_add(self.permanent)
    }

    /// The span of a grant whose request was sent at `sent`: believed for a day at most, and for
    /// `max_age` at most.
    #[must_use]
    pub fn span(&self, sent: Moment, lifetime: Option<Duration>) -> Span {
        let cap = self.renew.max_age.map(|age| age.0);
        let lifetime = match (lifetime.map(|l| l.min(LONGEST)), cap) {
            (Some(lifetime), Some(cap)) => Some(lifetime.min(cap)),
            (lifetime, cap) => lifetime.or(cap),
        };
        Span { sent, lifetime }
    }

    /// Up to when a value of this span may be injected: its expiry less the guard or a tenth of
    /// the lifetime.
    #[must_use]
    pub fn usable_until(&self, span: Span) -> Option<Moment> {
        let lifetime = span.lifetime?;
        Some(span.sent + lifetime - self.renew.guard.0.min(lifetime / 10))
    }

    /// After a success: when to renew; `None` for a value that never expires.
    ///
    /// `dice` is uniform in [0, 1).
    pub fn succeeded(
        &mut self,
        span: Span,
        change: Change,
        now: Moment,
        dice: f64,
    ) -> Option<Moment> {
        let took = now.since(span.sent);
        self.latency = Some(self.latency.map_or(took, |old| (old * 3 + took) / 4));
        self.adopted(span, change, now, dice)
    }

    /// After a value was taken over that somebody else has obtained: when to renew it. It tells
    /// nothing of how long the issuer takes.
    pub fn adopted(
        &mut self,
        span: Span,
        change: Change,
        now: Moment,
        dice: f64,
    ) -> Option<Moment> {
        self.forgive();
        let lifetime = span.lifetime?;
        let expires = span.sent + lifetime;
        if let Some((old_expires, whole)) = self.last_new {
            let moved = expires.since(old_expires);
            if change == Change::SameValue || moved < whole / 10 && old_expires > now {
                // The issuer hands out what it has cached. Asking at once again would spin.
                let remaining = now.until(expires);
                let pause = (remaining / 2).max(Duration::from_secs(30).min(whole / 10));
                return Some((now + pause).min(expires).max(now + FLOOR));
            }
        }
        self.last_new = Some((expires, lifetime));
        let percent = f64::from(self.renew.at.0) / 100.0 - 0.05 + dice * 0.10;
        let planned = span.sent + lifetime.mul_f64(percent);
        let slow = self.latency.unwrap_or_default() * 2;
        let latest = self.usable_until(span).unwrap_or(expires) - slow;
        Some(planned.min(latest).max(now + FLOOR))
    }

    /// After a failure: when to try again.
    ///
    /// `usable_until` is the guard of the value still in use: `None` if there is none,
    /// `Some(None)` if it never expires.
    pub fn failed(
        &mut self,
        failure: &Failure,
        usable_until: Option<Option<Moment>>,
        now: Moment,
        dice: f64,
    ) -> Moment {
        if let Some(asked) = failure.retry_after {
            self.count(failure);
            let asked = asked.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX);
            return now + asked + Duration::from_millis(900).mul_f64(dice);
        }
        if failure.reason.is_permanent() {
            let pause = doubled(PERMANENT_PAUSE, self.permanent, LONGEST_PERMANENT_PAUSE);
            self.count(failure);
            return now + pause + (pause / 10).mul_f64(dice);
        }
        let left = match usable_until {
            None => None,
            Some(None) => Some(Duration::MAX),
            Some(Some(until)) => Some(now.until(until)).filter(|left| !left.is_zero()),
        };
        let cap = if left.is_some() { LONGEST_PAUSE_VALID } else { LONGEST_PAUSE_NONE };
        let mut most = doubled(FIRST_PAUSE, self.transient, cap);
        if let Some(left) = left {
            most = most.min((left / 4).max(FLOOR));
        }
        self.count(failure);
        let pause = most / 2 + (most / 2).mul_f64(dice);
        // The token's last use and the floor bound the pause from both sides.
        now + pause.max(FLOOR.min(most))
    }

    fn count(&mut self, failure: &Failure) {
        if failure.reason.is_permanent() {
            self.permanent = self.permanent.saturating_add(1);
        } else {
            self.transient = self.transient.saturating_add(1);
            self.permanent = 0;
        }
    }

    /// Forgets the pauses, because what failed was changed.
    pub const fn forgive(&mut self) {
        self.transient = 0;
        self.permanent = 0;
    }
}

fn doubled(first: Duration, times: u32, cap: Duration) -> Duration {
    first.saturating_mul(1_u32.checked_shl(times.min(16)).unwrap_or(u32::MAX)).min(cap)
}

#[cfg(test)]
mod tests {
    use super::super::failure::Reason;
    use super::*;

    const fn at(secs: u64) -> Moment {
        Moment::from_origin(Duration::from_secs(1_000_000 + secs))
    }

    fn schedule() -> Schedule {
        Schedule::new(Renew::default())
    }

    fn transient() -> Failure {
        Failure::new(Reason::ServerError, "500")
    }

    fn secs(from: Moment, to: Moment) -> f64 {
        to.since(from).as_secs_f64()
    }

    #[test]
    fn renewal_is_drawn_from_70_to_80_percent() {
        for (dice, expected) in [(0.0, 420.0), (0.5, 450.0), (0.999_999, 480.0)] {
            let mut s = schedule();
            let span = s.span(at(0), Some(Duration::from_secs(600)));
            let next = s.succeeded(span, Change::New, at(0), dice).unwrap();
            assert!((secs(at(0), next) - expected).abs() < 0.01, "{dice}");
        }
    }

    #[test]
    fn a_token_is_not_injected_in_its_last_five_seconds_or_tenth() {
        let s = schedule();
        for (lifetime, usable) in [(600, 595), (20, 18), (50, 45), (1, 1)] {
            let span = s.span(at(0), Some(Duration::from_secs(lifetime)));
            let until = s.usable_until(span).unwrap();
            assert!(until <= at(usable) && until < at(lifetime), "{lifetime}");
        }
    }

    #[test]
    fn a_slow_issuer_is_asked_earlier() {
        // F56: lifetime 60 s, answers take 9 s: begin no later than 55 - 18 = 37 s.
        let mut s = schedule();
        let span = s.span(at(0), Some(Duration::from_secs(60)));
        let next = s.succeeded(span, Change::New, at(9), 0.9).unwrap();
        assert!(next <= at(37));
    }

    #[test]
    fn pauses_double_from_one_second_with_jitter() {
        // F8: gaps 0.5-1, 1-2, 2-4 s.
        for dice in [0.0, 0.99] {
            let mut s = schedule();
            let mut now = at(0);
            for (low, high) in [(0.5, 1.0), (1.0, 2.0), (2.0, 4.0)] {
                let next = s.failed(&transient(), None, now, dice);
                assert!((low..=high).contains(&secs(now, next)));
                now = next;
            }
        }
    }

    #[test]
    fn pauses_are_capped_at_15_s_without_and_60_s_with_a_token() {
        let mut s = schedule();
        let mut now = at(0);
        for _ in 0..20 {
            now = s.failed(&transient(), None, now, 0.99);
        }
        let next = s.failed(&transient(), None, now, 0.0);
        assert!((7.5..=15.0).contains(&secs(now, next)));
        let next = s.failed(&transient(), Some(Some(now + Duration::from_secs(9000))), now, 0.99);
        assert!((30.0..=60.0).contains(&secs(now, next)));
    }

    #[test]
    fn tries_get_denser_as_the_guard_comes_nearer() {
        let mut s = schedule();
        for _ in 0..5 {
            s.failed(&transient(), None, at(0), 0.5);
        }
        let next = s.failed(&transient(), Some(Some(at(8))), at(0), 0.99);
        assert!(secs(at(0), next) <= 2.0);
        let next = s.failed(&transient(), Some(Some(at(1))), at(0), 0.0);
        assert!((secs(at(0), next) - 0.5).abs() < 0.001, "and never denser than the floor");
    }

    #[test]
    fn retry_after_overrides_and_is_clamped() {
        for (asked, low, high) in [(7, 7.0, 8.0), (99_999, 300.0, 301.0), (0, 1.0, 2.0)] {
            let mut failure = transient();
            failure.retry_after = Some(Duration::from_secs(asked));
            let next = schedule().failed(&failure, Some(Some(at(3))), at(0), 0.99);
            assert!((low..=high).contains(&secs(at(0), next)), "{asked}");
        }
    }

    #[test]
    fn a_fault_of_the_credential_is_tried_at_most_twelve_times_in_ten_minutes() {
        let mut s = schedule();
        let (mut now, mut tries) = (at(0), 1);
        loop {
            now = s.failed(&Failure::new(Reason::InvalidGrant, ""), None, now, 0.0);
            if now > at(600) {
                break;
            }
            tries += 1;
        }
        assert!(tries <= 12, "{tries}");
    }

    #[test]
    fn the_same_token_again_does_not_spin() {
        // F28: the issuer hands out one token until it expires.
        for (lifetime, most) in [(20, 4), (3600, 9)] {
            for dice in [0.0, 0.99] {
                let mut s = schedule();
                let span = s.span(at(0), Some(Duration::from_secs(lifetime)));
                let mut now = s.succeeded(span, Change::New, at(0), dice).unwrap();
                let mut posts = 0;
                while now < at(lifetime) {
                    posts += 1;
                    let span = s.span(now, Some(now.until(at(lifetime))));
                    now = s.succeeded(span, Change::SameValue, now, dice).unwrap();
                }
                assert!(posts <= most, "{lifetime}: {posts}");
            }
        }
    }

    #[test]
    fn short_lifetimes_never_spin_and_long_ones_end_within_a_day() {
        // F29, F30.
        for millis in [1, 100, 1000, 2000, 5000] {
            let mut s = schedule();
            let span = s.span(at(0), Some(Duration::from_millis(millis)));
            let next = s.succeeded(span, Change::New, at(0), 0.0).unwrap();
            assert!(next >= at(0) + FLOOR, "{millis}");
        }
        let mut s = schedule();
        let span = s.span(at(0), Some(Duration::from_secs(10 * 365 * 86_400)));
        assert!(s.succeeded(span, Change::New, at(0), 0.99).unwrap() < at(86_400));
        assert_eq!(s.succeeded(s.span(at(0), None), Change::New, at(0), 0.0), None);
    }
}
