//! Comes to terms with the programs that share the token: who asks the issuer, and what the others
//! make of it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use super::super::exchange::Means;
use super::super::failure::{Failure, Reason};
use super::super::grant::Grant;
use super::super::handle::Current;
use super::super::identity::Identity;
use super::super::purse::{Choice, Right};
use super::super::schedule::{Change, FLOOR};
use super::super::state::Store;
use super::super::state::shared::{Claim, Entry, Shared};
use super::Refresher;
use crate::telemetry::metrics::StoreMetrics;
use crate::vocab::Moment;

/// How often it is looked whether another program is done.
const POLL: Duration = Duration::from_millis(500);

/// So much later than it was may a value seem to have been asked for, or earlier: the store's
/// answers take their time.
const SLACK: Duration = Duration::from_secs(2);

/// After a failure nobody else asks before its owner would, but for no longer than this.
const LONGEST_HUSH: Duration = Duration::from_secs(15);

impl Refresher {
    /// The same, sharing the token where its configuration says so. Needs a runtime.
    pub(in super::super) fn sharing(mut self, by: Option<(Identity, StoreMetrics)>) -> Self {
        let plan = self.source.state().and_then(Store::shared);
        self.shared = plan.zip(by).map(|(plan, (identity, metrics))| {
            Shared::new(plan.clone(), identity, self.handle.clone(), metrics, &self.stop)
        });
        self
    }

    /// Takes over what another program has stored, if it is better than what is in use; when to
    /// renew it.
    pub(super) async fn look(&mut self) -> Option<Option<Moment>> {
        let entry = self.shared.as_mut()?.look().await?;
        self.adopt(entry)
    }

    /// Before an attempt: takes the lease, or waits for another program to be done. If that one
    /// had success its value is in use now, and this is when to renew it.
    pub(super) async fn agree(&mut self) -> Option<Option<Moment>> {
        let give_up = Moment::now() + self.patience();
        loop {
            let lifetime = self.handle.current().and_then(|current| current.grant.lifetime);
            let left = match self.shared.as_mut()?.claim(lifetime).await {
                Claim::Ours => return None,
                Claim::Away => break,
                Claim::News(entry) => match self.adopt(entry) {
                    Some(next) => return Some(next),
                    None => continue,
                },
                Claim::Taken(left) => left,
            };
            if Moment::now() >= give_up {
                break;
            }
            let shared = self.shared.as_ref()?;
            tokio::select! {
                () = tokio::time::sleep(left.clamp(Duration::from_millis(20), POLL)) => {}
                () = shared.news() => {}
                () = self.stop.closing() => return Some(None),
            }
        }
        self.shared.as_ref()?.metrics().alone.inc();
        None
    }

    /// How long another program may keep this one from asking: while it is at work, but never
    /// into the last half of what the value in use has left.
    fn patience(&self) -> Duration {
        let longest = self.schedule.renew().timeout.0;
        let now = Moment::now();
        match self.handle.usable() {
            Some(current) => current.usable_until.map_or(longest, |until| now.until(until) / 2),
            None => longest,
        }
        .min(longest)
    }

    /// Puts another program's value in use, unless the one in use is better.
    fn adopt(&mut self, entry: Entry) -> Option<Option<Moment>> {
        let shared = self.shared.as_mut()?;
        let now = Moment::now();
        let old = self.handle.current();
        let same = old.as_ref().is_some_and(|old| old.grant.value == entry.grant.value);
        let span = self.schedule.span(entry.sent, entry.grant.lifetime);
        let usable_until = self.schedule.usable_until(span);
        let usable = usable_until.is_none_or(|until| now < until);
        let wanted = old.as_ref().is_none_or(|old| {
            let longer = match (span.expires(), old.expires) {
                (Some(theirs), Some(ours)) => theirs > ours,
                (theirs, ours) => theirs.is_none() && ours.is_some(),
            };
            // The store's number is not sealed. Whoever can write to the store could bring back a
            // value of the past by it, with a refresh token that was spent since.
            let is_past = entry.sent + SLACK < old.obtained;
            same || !is_past && (longer || shared.is_newer(&entry) || !old.is_usable(now))
        });
        if !wanted {
            return None;
        }
        shared.adopted(&entry);
        let refresh_until = entry.grant.refresh_lifetime.map(|lifetime| entry.sent + lifetime);
        let least = self.schedule.renew().min_lifetime.map(Duration::from);
        let has_token = entry.grant.refresh_token.is_some();
        self.purse.put(entry.means, has_token, refresh_until, span.lifetime, least);
        // The configured token has been used, or there would be no entry.
        self.purse.spend(self.seed());
        if !usable {
            // Its refresh token may be good all the same.
            self.carried = Some(entry.grant);
            return None;
        }
        self.carried = None;
        self.failure = None;
        let change = if same { Change::SameValue } else { Change::New };
        let next = self.schedule.adopted(span, change, now, fastrand::f64());
        let generation = old.as_ref().map_or(1, |old| old.generation + u64::from(!same));
        if let Some(shared) = &self.shared {
            shared.metrics().adopted.inc();
        }
        self.tell_adopted(generation, &span, next);
        self.handle.publish(Current {
            generation,
            grant: Arc::new(entry.grant),
            obtained: entry.sent,
            expires: span.expires(),
            usable_until,
        });
        Some(next)
    }

    /// What to send now, in agreement with the store.
    pub(super) async fn choose(&mut self, seed: Option<u64>) -> Result<Means, Failure> {
        let usable = self.handle.usable().is_some();
        let mut right = self.shared.as_ref().map_or(Right::Own, Shared::right);
        let mut choice = self.purse.choose(Moment::now(), usable, seed, right);
        if let Some(shared) = &mut self.shared
            && choice == Choice::Send(Means::Refresh)
            && right == Right::Own
            && self.purse.holds_one_time_token()
            && !shared.spend().await
        {
            right = Right::Nobodys;
            choice = self.purse.choose(Moment::now(), usable, seed, right);
        }
        match (choice, right) {
            (Choice::Send(means), _) => Ok(means),
            (Choice::Hold, Right::Nobodys) => {
                let text = "the only refresh token is shared; without the store nobody knows whether it was used";
                Err(Failure::new(Reason::Store, text))
            }
            (Choice::Hold, _) => {
                let text = "the only refresh token may be spent; it is not risked while the value in use holds";
                Err(Failure::new(Reason::NoSecret, text))
            }
        }
    }

    /// Hands what was just obtained to the others.
    pub(super) async fn share(&mut self, grant: &Grant, means: Means, sent: Moment) {
        if let Some(shared) = &mut self.shared {
            shared.put(grant, means, sent).await;
        }
    }

    /// After an attempt: gives the lease back. After a failure that is the issuer's own nobody
    /// else asks before this program would.
    pub(super) async fn release(&mut self, next: Option<Moment>) {
        let Some(shared) = &mut self.shared else { return };
        let issuer_failed =
            self.failure.as_ref().is_some_and(|failure| !failure.reason.is_permanent());
        let pause = match next.filter(|_| issuer_failed && !self.stop.is_closing()) {
            Some(next) => Moment::now().until(next).clamp(FLOOR, LONGEST_HUSH),
            None => Duration::ZERO,
        };
        shared.release(pause, self.purse.holds_one_time_token()).await;
    }
}

/// Returns when it is worth looking into the store; never without one.
pub(super) async fn news(shared: Option<&Shared>) {
    match shared {
        Some(shared) => shared.news().await,
        None => std::future::pending().await,
    }
}

/// Keeps the lease, if there is one; never returns.
pub(super) async fn keep_lease(shared: Option<&Shared>) -> Infallible {
    match shared {
        Some(shared) => shared.keep_lease().await,
        None => std::future::pending().await,
    }
}
