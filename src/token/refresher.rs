//! The one loop that keeps a token alive: wait, ask, publish or note, and again. It is the only
//! writer of its [`Handle`]; every decision about time is [`Schedule`]'s, about refresh tokens
//! [`Purse`]'s.

mod carry;
mod share;
mod tell;
mod withdraw;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::task_tracker::TaskTrackerToken;

use self::share::{keep_lease, news};
use super::exchange::{Fetched, Means, Try};
use super::failure::{Failure, Reason};
use super::grant::Grant;
use super::handle::{Current, Handle};
use super::purse::Purse;
use super::schedule::{Change, FLOOR, Renew, Schedule};
use super::source::Source;
use super::state::shared::Shared;
use super::state::{Keeper, Store};
use crate::shutdown::Shutdown;
use crate::telemetry::spans::Span;
use crate::vocab::{Moment, TokenName};

/// No sleep is longer, so that the end of a suspend is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(15);

/// How often secrets are looked at while their change is what everything waits for.
const SECRET_POLL: Duration = Duration::from_secs(2);

/// For one request that withdraws a token.
const REVOKE_DEADLINE: Duration = Duration::from_secs(2);

/// Most grants that are remembered for being withdrawn at the end.
const MOST_LEFT: usize = 8;

/// Everything that a token's task needs.
pub(super) struct Refresher {
    handle: Handle,
    source: Arc<Source>,
    parents: BTreeMap<TokenName, Handle>,
    /// Says to the parents that this token is made from them.
    _child_of: Vec<TaskTrackerToken>,
    stop: Shutdown,
    schedule: Schedule,
    purse: Purse,
    /// Nothing is sent before this moment, whoever asks.
    hold: Moment,
    /// The failure that lasts, for the log and for what to wait for.
    failure: Option<Failure>,
    /// The secrets' fingerprints when the last attempt began, while their change is what
    /// everything waits for.
    tried_with: Vec<u64>,
    /// The refresh token's place beyond the process.
    keeper: Option<Keeper>,
    /// The store that the token is shared by.
    shared: Option<Shared>,
    /// What refreshes are made from, where it is not the value in use: read from the state.
    carried: Option<Grant>,
    /// A parent's generations, while its next one is waited for.
    awaited: Option<watch::Receiver<u64>>,
    /// Replaced grants that are to be withdrawn, and when.
    retired: Vec<(Moment, Arc<Grant>)>,
    /// That the issuer does not say a value's type is told once.
    told_untyped: bool,
    /// Whether there was a usable value when a failure was last told.
    told_usable: bool,
    /// Grants whose refresh tokens an initial grant has left behind, to be withdrawn at the end.
    left: VecDeque<Arc<Grant>>,
}

/// Why the loop goes on.
enum Wake {
    Attempt,
    /// Somebody else may have a newer value.
    Look,
    Stop,
}

impl Refresher {
    /// A task for `source`. A value that the handle already has, from a task that panicked, is
    /// taken over.
    pub(super) fn new(
        handle: Handle,
        source: Arc<Source>,
        parents: BTreeMap<TokenName, Handle>,
        renew: Renew,
        stop: Shutdown,
    ) -> Self {
        let mut purse = Purse::new(source.refreshing());
        if let Some(current) = handle.current() {
            let has_token = current.grant.refresh_token.is_some();
            purse.put(Means::Acquire, has_token, None, current.grant.lifetime, None);
            // What that task did last, nobody knows.
            purse.doubt();
        }
        // Without refresh requests there is nothing to keep.
        let file = source.refreshing().and_then(|_| source.state()).and_then(Store::file);
        let keeper = file.map(|file| Keeper::new(file.clone(), handle.name().clone()));
        Self {
            handle,
            source,
            _child_of: parents.values().map(Handle::child).collect(),
            parents,
            stop,
            schedule: Schedule::new(renew),
            purse,
            hold: Moment::now(),
            failure: None,
            tried_with: Vec::new(),
            keeper,
            shared: None,
            carried: None,
            awaited: None,
            retired: Vec::new(),
            told_untyped: false,
            told_usable: false,
            left: VecDeque::new(),
        }
    }

    /// Runs until the time to finish is over.
    pub(super) async fn run(mut self) {
        let mut due = Some(Moment::now());
        loop {
            due = match self.wait(due).await {
                Wake::Stop => break,
                Wake::Look => self.look().await.unwrap_or(due),
                Wake::Attempt => self.turn().await,
            };
            self.handle.metrics().next_refresh.set(due.map_or(0.0, |due| due.to_wall().0));
            self.handle.tell(|report| report.next_attempt = due);
        }
        self.withdraw_all().await;
    }

    /// An attempt, unless a parent is missing; when the next one is due.
    async fn turn(&mut self) -> Option<Moment> {
        match self.missing_parent() {
            Some(parent) => {
                tracing::debug!(token = %self.handle.name(), parent = %parent.name(), "waiting for a parent token");
                self.awaited = Some(parent.follow());
                // Asked for or not, without its parent there is nothing to send.
                self.handle.set_renewing(true);
                self.handle.set_renewing(false);
                Some(Moment::now() + LONGEST_SLEEP)
            }
            None => self.attempt().await,
        }
    }

    /// Waits until something is to be done.
    async fn wait(&mut self, due: Option<Moment>) -> Wake {
        let watched = self.failure.as_ref().is_some_and(|failure| failure.reason.is_permanent());
        let mut asked = false;
        let mut looked = Moment::now();
        loop {
            let now = Moment::now();
            self.withdraw_due(now).await;
            if let Some(keeper) = &mut self.keeper {
                keeper.catch_up(now, self.handle.metrics()).await;
            }
            if watched && now.since(looked) >= SECRET_POLL {
                looked = now;
                if self.fingerprint() != self.tried_with {
                    tracing::info!(token = %self.handle.name(), "a secret has changed, trying again");
                    self.schedule.forgive();
                    return Wake::Attempt;
                }
                if self.take_over().await {
                    self.schedule.forgive();
                    return Wake::Attempt;
                }
            }
            let due = if asked { Some(self.hold) } else { due.map(|due| due.max(self.hold)) };
            if due.is_some_and(|due| due <= now) {
                return Wake::Attempt;
            }
            let mut sleep = due.map_or(LONGEST_SLEEP, |due| now.until(due).min(LONGEST_SLEEP));
            if watched {
                sleep = sleep.min(SECRET_POLL);
            }
            let chores = self.retired.first().map(|(at, _)| *at);
            let unsaved = self.keeper.as_ref().and_then(Keeper::due);
            for at in chores.into_iter().chain(unsaved) {
                sleep = sleep.min(now.until(at));
            }
            tokio::select! {
                biased;
                () = self.stop.closing() => return Wake::Stop,
                () = self.handle.poked(), if !asked => asked = true,
                () = self.handle.nudged() => {}
                () = news(self.shared.as_ref()), if !asked => return Wake::Look,
                () = changed(&mut self.awaited) => {
                    self.awaited = None;
                    asked = true;
                }
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// One attempt, with the second request that a refused refresh leads to, or one that yields
    /// no more than the end of a session.
    async fn attempt(&mut self) -> Option<Moment> {
        self.handle.set_renewing(true);
        self.awaited = None;
        // Before anything is read: a change while the issuer thinks must not be missed.
        self.tried_with = self.fingerprint();
        if let Some(next) = self.agree().await {
            self.handle.set_renewing(false);
            return next;
        }
        self.take_over().await;
        let mut outcome = self.ask().await;
        if let Err((_, failure)) = &outcome
            && failure.reason == Reason::InvalidGrant
            && self.take_over().await
        {
            outcome = self.ask().await;
        }
        if let Err((means, failure)) = &outcome
            && (self.purse.failed(*means, failure)
                || self.handle.is_rejected() && self.purse.give_up(*means, failure))
        {
            tracing::info!(token = %self.handle.name(), %failure, "refresh refused, running the initial grant");
            outcome = self.ask().await;
        }
        self.hold = Moment::now() + FLOOR;
        let mut next = self.settle(outcome).await;
        if self.purse.is_ending() && self.failure.is_none() {
            // The session ends so soon that its last value may not live until the next attempt.
            tracing::info!(token = %self.handle.name(), "the session is ending, running the initial grant");
            self.handle.set_renewing(true);
            let outcome = self.ask().await;
            self.hold = Moment::now() + FLOOR;
            next = self.settle(outcome).await;
        }
        self.release(next).await;
        self.handle.set_renewing(false);
        next
    }

    /// Puts what came in use, or takes note of why nothing did.
    async fn settle(
        &mut self,
        outcome: Result<(Means, Fetched), (Means, Failure)>,
    ) -> Option<Moment> {
        match outcome {
            Ok((means, fetched)) => self.accept(means, fetched).await,
            Err((_, failure)) => Some(self.note(failure)),
        }
    }

    /// Sends what the purse chooses.
    async fn ask(&mut self) -> Result<(Means, Fetched), (Means, Failure)> {
        let seed = self.seed();
        let means = self.choose(seed).await.map_err(|failure| (Means::Refresh, failure))?;
        let now = Moment::now();
        let span = Span::of_token(self.handle.name().as_str(), means.as_str());
        let previous = self.handle.current();
        let attempt = Try {
            parents: &self.parents,
            deadline: self.schedule.renew().timeout.0,
            tasks: &self.stop,
        };
        let current = previous.as_ref().map(|current| current.grant.as_ref());
        let grant = self.carried.as_ref().or(current);
        let mut fetch = std::pin::pin!(self.source.fetch(means, grant, attempt));
        let outcome = tokio::select! {
            outcome = &mut fetch => outcome,
            never = keep_lease(self.shared.as_ref()) => match never {},
            () = self.stop.closing() => {
                // The answer under way may bring what is to be withdrawn.
                let patience = self.revoke().map_or(Duration::ZERO, |_| REVOKE_DEADLINE);
                tokio::time::timeout(patience, fetch).await.unwrap_or_else(|_| {
                    Err(Failure::new(Reason::Broken, "stopped").ambiguous())
                })
            }
        };
        let metrics = self.handle.metrics();
        metrics.seconds.observe(Moment::now().since(now).as_secs_f64());
        match &outcome {
            Ok(_) => metrics.success.inc(),
            Err(failure) => {
                metrics.failed(failure.reason.as_str());
                span.failed(failure.reason.as_str());
            }
        }
        if means == Means::Acquire
            && outcome.as_ref().map_or_else(|failure| failure.ambiguous, |_| true)
        {
            self.purse.spend(seed);
        }
        outcome.map(|fetched| (means, fetched)).map_err(|failure| (means, failure))
    }

    /// Puts a grant in use and says when to renew it.
    async fn accept(&mut self, means: Means, fetched: Fetched) -> Option<Moment> {
        let Fetched { grant, sent } = fetched;
        self.tell_untyped(&grant);
        self.keep(&grant).await;
        self.share(&grant, means, sent).await;
        self.carried = None;
        let now = Moment::now();
        let old = self.handle.current();
        let same = old
            .as_ref()
            .is_some_and(|old| old.grant.value == grant.value && old.grant.fields == grant.fields);
        let span = self.schedule.span(sent, grant.lifetime);
        let refresh_until = grant.refresh_lifetime.map(|lifetime| sent + lifetime);
        let least = self.schedule.renew().min_lifetime.map(Duration::from);
        let has_token = grant.refresh_token.is_some();
        self.purse.put(means, has_token, refresh_until, span.lifetime, least);
        let change = if same { Change::SameValue } else { Change::New };
        let mut next = self.schedule.succeeded(span, change, now, fastrand::f64());
        if let Some(period) = self.source.period() {
            let read_again = now + period;
            next = Some(next.map_or(read_again, |next| next.min(read_again)));
        }
        let generation = old.as_ref().map_or(1, |old| old.generation + u64::from(!same));
        if let Some(old) = old.filter(|_| !same) {
            self.retire(&old, means, now);
        }
        self.failure = None;
        self.tell_success(means, generation, &span, same, next);
        self.handle.publish(Current {
            generation,
            grant: Arc::new(grant),
            obtained: sent,
            expires: span.expires(),
            usable_until: self.schedule.usable_until(span),
        });
        next
    }

    /// Takes note of a failure and says when to try again.
    fn note(&mut self, failure: Failure) -> Moment {
        let now = Moment::now();
        let usable = self.handle.usable().map(|current| current.usable_until);
        let mut next = self.schedule.failed(&failure, usable, now, fastrand::f64());
        if failure.retry_after.is_some() {
            self.hold = next;
        }
        if let Some(parent) = failure.parent.as_ref().and_then(|(name, _)| self.parents.get(name)) {
            // Sooner it would be refused with the same value, unless there is another one before.
            next = next.max(now + parent.forced_again_in());
            self.awaited = Some(parent.follow());
        }
        self.tell_failure(&failure, usable.is_some(), now.until(next));
        self.failure = Some(failure);
        next
    }

    /// The first token that is needed and not there.
    fn missing_parent(&self) -> Option<&Handle> {
        self.parents.values().find(|parent| parent.usable().is_none())
    }

    fn seed(&self) -> Option<u64> {
        let seed = self.source.refreshing()?.seed.as_ref()?;
        Some(seed.source().fingerprint())
    }

    fn fingerprint(&self) -> Vec<u64> {
        self.source.secrets().iter().map(|secret| secret.source().fingerprint()).collect()
    }
}

/// Returns when the awaited parent has changed; never if none is awaited.
async fn changed(awaited: &mut Option<watch::Receiver<u64>>) {
    match awaited {
        Some(generations) => {
            if generations.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}
