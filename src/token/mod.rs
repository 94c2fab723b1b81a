//! The life of a token.
//!
//! A [`source`] says where it comes from. One task for each token, the [`refresher`], asks the
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
pub mod present;
pub mod purse;
mod refresher;
pub mod rejection;
pub mod schedule;
mod sign;
pub mod source;
pub mod template;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use self::failure::Reason;
use self::handle::Handle;
use self::refresher::Refresher;
use self::source::{Kind, Source};
use crate::shutdown::Shutdown;
use crate::telemetry::metrics::Metrics;
use crate::vocab::{Moment, TokenName};

/// How long a token's task rests after a panic.
const RESTART_PAUSE: Duration = Duration::from_millis(500);

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
                .filter(|plan| plan.source.parents().iter().any(|p| kept.get(p) != Some(&true)))
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
                .parents()
                .into_iter()
                .chain(entry.source.blamable().into_iter().cloned())
                .filter_map(|name| Some((name.clone(), self.handle(&name)?)))
                .collect();
            entry.start(parents);
        }
    }

    /// Ends the tasks of tokens that `after` does not share.
    pub fn stop_all_but(&self, after: &Self, metrics: &Metrics) {
        for (name, entry) in &self.entries {
            let successor = after.entries.get(name);
            if successor.is_none_or(|new| !Arc::ptr_eq(&new.source, &entry.source)) {
                entry.stop.close();
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
        Self { kind, source: Arc::new(source), handle, stop: tasks.child(), running: false }
    }

    /// Runs the refresher, and runs it anew should it ever panic: a token must not go stale in
    /// silence.
    fn start(&self, parents: BTreeMap<TokenName, Handle>) {
        let Self { kind, source, handle, stop, .. } = self.clone();
        let tasks = self.stop.clone();
        if let Source::Jwt(signer) = &*source
            && signer.is_fresh_per_use()
        {
            let (source, parents) = (Arc::clone(&source), parents.clone());
            handle.mint_by(Box::new(move || source.sign(&parents)));
        }
        self.stop.spawn(async move {
            loop {
                let refresher = Refresher::new(
                    handle.clone(),
                    Arc::clone(&source),
                    parents.clone(),
                    kind.common().renew.clone(),
                    stop.clone(),
                );
                if tasks.spawn(refresher.run()).await.is_ok() {
                    return;
                }
                handle.metrics().restarts.inc();
                handle.set_renewing(false);
                tracing::error!(token = %handle.name(), "the token's task has panicked; starting it anew");
                tokio::time::sleep(RESTART_PAUSE).await;
            }
        });
    }
}
