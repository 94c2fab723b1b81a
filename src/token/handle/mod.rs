//! A token as the rest of the program sees it: the current value, without a lock.

mod demand;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use self::demand::Demand;
pub use self::demand::{Asked, FORCED_INTERVAL, Rejected};
use super::failure::{Failure, Reason};
use super::grant::Grant;
use super::present::Presentation;
use super::rejection::Rejection;
use super::report::Report;
use crate::telemetry::metrics::TokenMetrics;
use crate::vocab::{Moment, TokenName};

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
    retired: AtomicBool,
    metrics: TokenMetrics,
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
            retired: AtomicBool::new(false),
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

    /// Follows the generations; the value is the newest one's number, 0 for none yet.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.0.generation.subscribe()
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
        demand.published();
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

    /// Says that a reload has replaced the token: whoever waits for a value waits in vain.
    pub(super) fn retire(&self) {
        self.0.retired.store(true, Relaxed);
        self.0.generation.send_modify(|_| {});
    }

    /// Whether a reload has replaced the token.
    pub(super) fn is_retired(&self) -> bool {
        self.0.retired.load(Relaxed)
    }

    /// Has `presentation` built anew whenever this token changes.
    pub(super) fn add_dependent(&self, presentation: &Arc<Presentation>) {
        lock(&self.0.dependents).push(Arc::downgrade(presentation));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
