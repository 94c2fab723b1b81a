//! The life of a token.
//!
//! A [`source`] says where it comes from. One task for each token, the `refresher`, asks the
//! source when the [`schedule`] says so, by the request that the [`purse`] chooses, and publishes
//! the [`grant`] through the token's [`handle`]. Publishing builds the header fields of every
//! route that injects the token ([`present`]); requests read those without a lock.
//!
//! What must never happen: a value injected past its guard; two writers of one handle; a one-time
//! refresh token sent again after its answer was lost; a secret in a log line.

pub mod exchange;
pub mod failure;
pub mod grant;
pub mod handle;
mod identity;
pub mod present;
pub mod purse;
mod refresher;
pub mod rejection;
pub mod report;
pub mod schedule;
mod sign;
pub mod source;
pub mod state;
pub mod template;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use self::failure::Reason;
use self::handle::Handle;
use self::identity::Identity;
use self::refresher::Refresher;
use self::source::{Kind, Source};
use self::state::Store;
use crate::shutdown::Shutdown;
use crate::telemetry::metrics::{Metrics, StoreMetrics};
use crate::vocab::{Moment, TokenName};

/// How long a token's task rests after a panic: from this, doubling …
const RESTART_PAUSE: Duration = Duration::from_millis(500);

/// … to this, unless it ran for longer in between.
const LONGEST_RESTART_PAUSE: Duration = Duration::from_secs(30);

/// One token as the configuration describes it.
#[derive(Debug)]
pub struct Plan {
    /// Its name.
    pub name: TokenName,
    /// Its settings; a reload compares them.
    pub kind: Kind,
    /// Its source.
    pub source: Source,
}

/// All tokens by name.
#[derive(Debug, Default)]
pub struct Tokens {
    entries: BTreeMap<TokenName, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    kind: Kind,
    source: Arc<Source>,
    handle: Handle,
    stop: Shutdown,
    /// The counters of its shared store, if it has one.
    store: Option<StoreMetrics>,
    /// Already running, taken over from before a reload.
    running: bool,
}

impl Tokens {
    /// Prepares all tokens; [`Self::start`] sets them going. A token whose settings and parents
    /// are as in `before` keeps its value, its schedule and its task.
    #[must_use]
    pub fn new(plans: Vec<Plan>, before: &Self, metrics: &Metrics, tasks: &Shutdown) -> Self {
        let mut kept: BTreeMap<&TokenName, bool> = plans
            .iter()
            .map(|plan| {
                let same = before.entries.get(&plan.name).is_some_and(|old| old.kind == plan.kind);
                (&plan.name, same)
            })
            .collect();
        // A replaced parent replaces its children, and theirs.
        loop {
            let lost: Vec<&TokenName> = plans
                .iter()
                .filter(|plan| kept[&plan.name])
                .filter(|plan| plan.source.relatives().iter().any(|p| kept.get(p) != Some(&true)))
                .map(|plan| &plan.name)
                .collect();
            if lost.is_empty() {
                break;
            }
            for name in lost {
                kept.insert(name, false);
            }
        }
        let kept: BTreeMap<TokenName, bool> =
            kept.into_iter().map(|(name, same)| (name.clone(), same)).collect();
        let entries = plans
            .into_iter()
            .map(|plan| {
                let entry = match before.entries.get(&plan.name).filter(|_| kept[&plan.name]) {
                    Some(old) => Entry { running: true, ..old.clone() },
                    None => Entry::new(&plan.name, plan.kind, plan.source, metrics, tasks),
                };
                (plan.name, entry)
            })
            .collect();
        Self { entries }
    }

    /// Starts the task of every token that has none. Needs a runtime.
    pub fn start(&self) {
        for entry in self.entries.values().filter(|entry| !entry.running) {
            let parents = entry
                .source
                .relatives()
                .into_iter()
                .filter_map(|name| Some((name.clone(), self.handle(&name)?)))
                .collect();
            entry.start(parents, self.identity(entry));
        }
    }

    fn identity(&self, entry: &Entry) -> Identity {
        let mut lineage = vec![(entry.handle.name(), &entry.kind, &entry.source)];
        let mut next = 0;
        while let Some((_, _, source)) = lineage.get(next) {
            for name in source.relatives() {
                if let Some((name, entry)) = self.entries.get_key_value(&name)
                    && !lineage.iter().any(|(known, ..)| *known == name)
                {
                    lineage.push((name, &entry.kind, &entry.source));
                }
            }
            next += 1;
        }
        Identity::new(&lineage)
    }

    /// Ends the tasks of tokens that `after` does not share. Requests that wait for one of them
    /// look for their route anew, so the routes of `after` have to be in use by now.
    pub fn stop_all_but(&self, after: &Self, metrics: &Metrics) {
        for (name, entry) in &self.entries {
            let successor = after.entries.get(name);
            if successor.is_none_or(|new| !Arc::ptr_eq(&new.source, &entry.source)) {
                entry.stop.close();
                entry.handle.retire();
                if successor.is_none_or(|new| new.store.is_none()) {
                    metrics.forget_store(name);
                }
            }
            if successor.is_none() {
                metrics.forget_token(name);
            }
        }
    }

    /// The handle of a token.
    #[must_use]
    pub fn handle(&self, name: &TokenName) -> Option<Handle> {
        self.entries.get(name).map(|entry| entry.handle.clone())
    }

    /// All tokens with the place where each asks.
    pub fn iter(&self) -> impl Iterator<Item = (&Handle, String)> {
        self.entries.values().map(|entry| (&entry.handle, entry.source.describe()))
    }

    /// The required tokens that are not usable now.
    #[must_use]
    pub fn missing(&self) -> Vec<&TokenName> {
        self.entries
            .values()
            .map(|entry| &entry.handle)
            .filter(|handle| handle.is_required() && handle.usable().is_none())
            .map(Handle::name)
            .collect()
    }

    /// Brings the gauges up to date that change by the mere passing of time.
    pub fn observe(&self) {
        let now = Moment::now();
        for entry in self.entries.values() {
            let current = entry.handle.current();
            let usable = current.as_ref().is_some_and(|current| current.is_usable(now));
            let metrics = entry.handle.metrics();
            metrics.usable.set(i64::from(usable));
            let expires = current.and_then(|current| current.expires);
            metrics.expiry.set(expires.map_or(0.0, |at| at.to_wall().0));
        }
    }
}

impl Entry {
    fn new(
        name: &TokenName,
        kind: Kind,
        source: Source,
        metrics: &Metrics,
        tasks: &Shutdown,
    ) -> Self {
        let common = kind.common();
        let handle = Handle::new(
            name.clone(),
            kind.name(),
            common.required,
            common.rejections(),
            metrics.token(name, &Reason::labels()),
        );
        let shared = source.state().and_then(Store::shared);
        let store = shared.map(|_| metrics.token_store(name));
        let source = Arc::new(source);
        Self { kind, source, handle, stop: tasks.child(), store, running: false }
    }

    /// Runs the refresher, and runs it anew should it ever panic: a token must not go stale in
    /// silence.
    fn start(&self, parents: BTreeMap<TokenName, Handle>, identity: Identity) {
        let Self { kind, source, handle, stop, store, .. } = self.clone();
        if let Source::Jwt(signer) = &*source
            && signer.is_fresh_per_use()
        {
            let (source, parents) = (Arc::clone(&source), parents.clone());
            handle.mint_by(Box::new(move || source.sign(&parents)));
        }
        let of_task = handle.clone();
        let task = {
            let stop = stop.clone();
            move || {
                let renew = kind.common().renew.clone();
                let (handle, source) = (of_task.clone(), Arc::clone(&source));
                let sharing = store.clone().map(|metrics| (identity.clone(), metrics));
                let refresher =
                    Refresher::new(handle, source, parents.clone(), renew, stop.clone());
                refresher.sharing(sharing).run()
            }
        };
        let panicked = move || {
            handle.metrics().restarts.inc();
            handle.set_renewing(false);
            tracing::error!(token = %handle.name(), "the token's task has panicked; starting it anew");
        };
        drop(self.stop.spawn(supervise(stop, RESTART_PAUSE, task, panicked)));
    }
}

/// Runs a task until it ends by itself, and anew whenever it panics: `first_pause` after the first
/// panic, later and later after each further one.
async fn supervise<F>(
    tasks: Shutdown,
    first_pause: Duration,
    task: impl Fn() -> F,
    panicked: impl Fn(),
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut pause = first_pause;
    loop {
        let began = Moment::now();
        if tasks.spawn(task()).await.is_ok() {
            return;
        }
        panicked();
        if Moment::now().since(began) > LONGEST_RESTART_PAUSE {
            pause = first_pause;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = tasks.closing() => return,
        }
        pause = (pause * 2).min(LONGEST_RESTART_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn in_runtime(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    /// F54. The pauses are counted from the moment at which the panic is noticed: printing it
    /// with a backtrace takes its own time.
    #[test]
    fn a_task_that_panics_is_started_anew_within_a_second() {
        let (starts, panics) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let task = {
            let starts = Arc::clone(&starts);
            move || {
                let mut starts = starts.lock().unwrap();
                starts.push(Moment::now());
                let number = starts.len();
                async move { assert!(number > 2, "a panic that belongs to the test") }
            }
        };
        let noted = Arc::clone(&panics);
        let panicked = move || noted.lock().unwrap().push(Moment::now());
        in_runtime(supervise(Shutdown::new(), RESTART_PAUSE, task, panicked));
        let (starts, panics) = (starts.lock().unwrap(), panics.lock().unwrap());
        assert_eq!((starts.len(), panics.len()), (3, 2));
        let pause = |number: usize| starts[number + 1].since(panics[number]).as_secs_f64();
        assert!((0.5..5.0).contains(&pause(0)), "{}", pause(0));
        assert!((1.0..5.0).contains(&pause(1)), "no hot loop of panics: {}", pause(1));
    }

    /// F49 and F54.
    #[test]
    fn a_panicking_task_does_not_hold_up_the_end() {
        let tasks = Shutdown::new();
        let end = tasks.clone();
        let (began, pause) = (Moment::now(), Duration::from_secs(60));
        in_runtime(supervise(
            tasks,
            pause,
            || async { panic!("a panic that belongs to the test") },
            move || end.close(),
        ));
        assert!(Moment::now().since(began) < pause / 2);
    }
}
