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
mod tests;
