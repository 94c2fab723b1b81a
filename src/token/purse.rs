//! Which request comes next: the refresh with the last refresh token, or the initial one. Pure.
//!
//! A one-time refresh token is dangerous: sent twice, a strict issuer ends the whole session. So
//! one whose answer was lost is not sent again while there is another way.

use crate::vocab::Moment;

use super::exchange::Means;
use super::failure::{Failure, Reason};

/// A refreshed lifetime below this part of the initial one shows that the session is ending.
const SHRUNK: u32 = 2;

/// What is known of the refresh token in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum InHand {
    /// There is none.
    #[default]
    None,
    /// It was never sent, or its use was answered without harm.
    Fresh,
    /// It was sent and the answer was lost.
    Doubtful,
}

/// Who may send the refresh token in hand, where it is shared with other programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// This one alone.
    Own,
    /// This one alone, but another one may have sent it before.
    Doubtful,
    /// Nobody knows: it must not be sent.
    Nobodys,
}

/// What to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// This request.
    Send(Means),
    /// Nothing: the only refresh token may be spent, and a usable value would be at risk.
    Hold,
}

/// The state of a source's refresh token.
#[derive(Debug, Clone, Default)]
pub struct Purse {
    /// Whether the source has a refresh request at all.
    refreshes: bool,
    reusable: bool,
    fallback_after: u32,
    /// The initial request is itself a refresh from a configured token.
    seeded: bool,
    in_hand: InHand,
    until: Option<Moment>,
    failures: u32,
    /// The configured refresh token, by fingerprint, once it was used.
    spent_seed: Option<u64>,
    /// The lifetime that the initial request yielded.
    initial_lifetime: Option<std::time::Duration>,
    /// The last refresh yielded so little that the initial request is due.
    ending: bool,
}

impl Purse {
    /// For a source with these properties of its refresh tokens; `None` if it has no refresh.
    #[must_use]
    pub fn new(refreshing: Option<&super::exchange::Refreshing>) -> Self {
        refreshing.map_or_else(Self::default, |refreshing| Self {
            refreshes: true,
            reusable: refreshing.reusable,
            fallback_after: refreshing.fallback_after,
            seeded: refreshing.seed.is_some(),
            ..Self::default()
        })
    }

    /// Takes note of a grant's refresh token.
    pub fn put(
        &mut self,
        means: Means,
        has_token: bool,
        until: Option<Moment>,
        lifetime: Option<std::time::Duration>,
        min_lifetime: Option<std::time::Duration>,
    ) {
        self.in_hand = if has_token { InHand::Fresh } else { InHand::None };
        self.until = until;
        self.failures = 0;
        match means {
            Means::Acquire => {
                self.initial_lifetime = lifetime;
                self.ending = false;
            }
            Means::Refresh => {
                let shrunk = lifetime
                    .zip(self.initial_lifetime)
                    .is_some_and(|(now, first)| now < first / SHRUNK);
                let short = lifetime.zip(min_lifetime).is_some_and(|(now, least)| now < least);
                self.ending = (shrunk || short) && !self.seeded;
            }
        }
    }

    /// Takes note that the refresh token in hand may have been sent by somebody who did not live
    /// to see the answer.
    pub fn doubt(&mut self) {
        if self.in_hand == InHand::Fresh && !self.reusable {
            self.in_hand = InHand::Doubtful;
        }
    }

    /// Whether the refresh token in hand serves once and was not used up.
    #[must_use]
    pub fn holds_one_time_token(&self) -> bool {
        self.in_hand == InHand::Fresh && !self.reusable
    }

    /// Takes note of a refresh token that somebody else obtained.
    pub const fn adopt(&mut self) {
        self.in_hand = InHand::Fresh;
        self.until = None;
        self.failures = 0;
        self.ending = false;
    }

    /// Whether the last refresh showed that the session is about to end.
    #[must_use]
    pub const fn is_ending(&self) -> bool {
        self.ending
    }

    /// What to send now. `usable` says whether a value is in use that could be lost; `seed` is
    /// the fingerprint of the configured refresh token; `right` says who may use the one in hand.
    #[must_use]
    pub fn choose(&self, now: Moment, usable: bool, seed: Option<u64>, right: Right) -> Choice {
        if !self.refreshes {
            return Choice::Send(Means::Acquire);
        }
        let expired = self.until.is_some_and(|until| now >= until);
        let shared = right != Right::Own && !self.reusable;
        let in_hand = match self.in_hand {
            InHand::Fresh if shared => InHand::Doubtful,
            in_hand => in_hand,
        };
        if in_hand == InHand::Fresh && !expired && !self.ending {
            let worn_out = self.failures >= self.fallback_after && !self.seeded;
            return Choice::Send(if worn_out { Means::Acquire } else { Means::Refresh });
        }
        if !self.seeded || seed.is_none() || seed != self.spent_seed {
            return Choice::Send(Means::Acquire);
        }
        match (usable, in_hand) {
            (true, _) => Choice::Hold,
            (false, InHand::Doubtful) if shared && right == Right::Nobodys => Choice::Hold,
            (false, InHand::Doubtful) => Choice::Send(Means::Refresh),
            (false, _) => Choice::Send(Means::Acquire),
        }
    }

    /// Takes note of the configured refresh token's use.
    pub const fn spend(&mut self, seed: Option<u64>) {
        self.spent_seed = seed;
    }

    /// Takes note of a failure; true if the initial request should follow at once.
    pub fn failed(&mut self, means: Means, failure: &Failure) -> bool {
        if means == Means::Acquire {
            return false;
        }
        if matches!(failure.reason, Reason::InvalidGrant | Reason::Refused) {
            self.in_hand = InHand::None;
            return true;
        }
        if failure.ambiguous && !self.reusable {
            self.in_hand = InHand::Doubtful;
        } else if failure.server_fault || failure.reason == Reason::BadResponse {
            // For some issuers a dead refresh token is an internal error, for ever.
            self.failures = self.failures.saturating_add(1);
        }
        false
    }

    /// Takes note that a refresh failed for a reason of the issuer's own while upstreams reject
    /// the value in use; true if the initial request should follow at once, as there is nothing
    /// left to lose.
    pub fn give_up(&mut self, means: Means, failure: &Failure) -> bool {
        let hopeless = means == Means::Refresh
            && failure.server_fault
            && failure.retry_after.is_none()
            && !self.seeded;
        if hopeless {
            self.in_hand = InHand::None;
        }
        hopeless
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::exchange::Refreshing;
    use super::*;

    const NOW: Moment = Moment::from_origin(Duration::from_secs(1000));
    const REFRESH: Choice = Choice::Send(Means::Refresh);
    const ACQUIRE: Choice = Choice::Send(Means::Acquire);

    fn purse() -> Purse {
        let refreshing = Refreshing { reusable: false, fallback_after: 2, seed: None };
        let mut purse = Purse::new(Some(&refreshing));
        purse.put(Means::Acquire, true, None, Some(Duration::from_secs(300)), None);
        purse
    }

    fn seeded() -> Purse {
        let mut purse = purse();
        purse.seeded = true;
        purse.spend(Some(7));
        purse
    }

    fn failure(reason: Reason) -> Failure {
        Failure::new(reason, "")
    }

    #[test]
    fn a_refresh_token_is_used_until_it_is_refused() {
        let mut purse = purse();
        assert_eq!(purse.choose(NOW, true, None, Right::Own), REFRESH);
        assert!(purse.failed(Means::Refresh, &failure(Reason::InvalidGrant)));
        assert_eq!(purse.choose(NOW, true, None, Right::Own), ACQUIRE);
    }

    #[test]
    fn a_one_time_refresh_token_whose_answer_was_lost_is_not_sent_again() {
        let mut purse = purse();
        assert!(!purse.failed(Means::Refresh, &failure(Reason::Timeout).ambiguous()));
        assert_eq!(purse.choose(NOW, false, None, Right::Own), ACQUIRE);
        let mut reusable = self::purse();
        reusable.reusable = true;
        reusable.failed(Means::Refresh, &failure(Reason::Timeout).ambiguous());
        assert_eq!(reusable.choose(NOW, false, None, Right::Own), REFRESH);
    }

    #[test]
    fn a_refresh_that_fails_for_ever_with_500_gives_way_to_the_initial_grant() {
        let mut purse = purse();
        let mut fault = failure(Reason::ServerError);
        fault.server_fault = true;
        purse.failed(Means::Refresh, &fault);
        assert_eq!(purse.choose(NOW, true, None, Right::Own), REFRESH);
        purse.failed(Means::Refresh, &fault);
        assert_eq!(purse.choose(NOW, true, None, Right::Own), ACQUIRE);
    }

    #[test]
    fn a_rejected_value_is_not_worth_a_second_refresh_that_fails_with_500() {
        let mut fault = failure(Reason::ServerError);
        fault.server_fault = true;
        let mut own = purse();
        assert!(!own.give_up(Means::Acquire, &fault));
        assert!(own.give_up(Means::Refresh, &fault));
        assert_eq!(own.choose(NOW, true, None, Right::Own), ACQUIRE);
        assert!(!seeded().give_up(Means::Refresh, &fault), "it is the only credential");
        fault.retry_after = Some(Duration::from_secs(1));
        assert!(!purse().give_up(Means::Refresh, &fault), "the issuer asks for patience");
    }

    #[test]
    fn an_issuer_that_is_down_does_not_cost_the_refresh_token() {
        let mut purse = purse();
        for _ in 0..10 {
            purse.failed(Means::Refresh, &failure(Reason::Connect));
        }
        assert_eq!(purse.choose(NOW, true, None, Right::Own), REFRESH);
    }

    #[test]
    fn an_expired_refresh_token_and_a_shrinking_session_lead_to_the_initial_grant() {
        let mut purse = purse();
        purse.put(Means::Refresh, true, Some(NOW), Some(Duration::from_secs(300)), None);
        assert_eq!(purse.choose(NOW, true, None, Right::Own), ACQUIRE);
        purse.put(Means::Refresh, true, None, Some(Duration::from_secs(20)), None);
        assert_eq!(purse.choose(NOW, true, None, Right::Own), ACQUIRE);
        purse.put(
            Means::Refresh,
            true,
            None,
            Some(Duration::from_secs(200)),
            Some(Duration::from_secs(250)),
        );
        assert_eq!(purse.choose(NOW, true, None, Right::Own), ACQUIRE);
    }

    #[test]
    fn without_another_grant_a_doubtful_refresh_token_is_the_last_resort() {
        let mut purse = seeded();
        assert_eq!(purse.choose(NOW, true, Some(7), Right::Own), REFRESH);
        purse.failed(Means::Refresh, &failure(Reason::Timeout).ambiguous());
        assert_eq!(purse.choose(NOW, true, Some(7), Right::Own), Choice::Hold);
        assert_eq!(purse.choose(NOW, false, Some(7), Right::Own), REFRESH);
        assert_eq!(
            purse.choose(NOW, true, Some(8), Right::Own),
            ACQUIRE,
            "a new one was put in place"
        );
    }
}
