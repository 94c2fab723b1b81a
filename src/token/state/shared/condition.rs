//! Tells people how the store does, each change once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::super::super::handle::Handle;
use super::super::super::report::StoreReport;
use crate::telemetry::metrics::StoreMetrics;

/// What is known of one token's store.
pub(super) struct Condition {
    handle: Handle,
    place: String,
    pub(super) metrics: StoreMetrics,
    /// Wakes whoever should look into the store.
    pub(super) news: Notify,
    /// The name by which this program knows its entry.
    mark: Mutex<String>,
    is_up: AtomicBool,
    told: Told,
}

/// What was told already.
#[derive(Default)]
struct Told {
    away: AtomicBool,
    unreadable: AtomicBool,
    foreign: AtomicBool,
}

impl Condition {
    pub(super) fn new(handle: Handle, place: String, metrics: StoreMetrics) -> Self {
        let condition = Self {
            handle,
            place,
            metrics,
            news: Notify::new(),
            mark: Mutex::default(),
            is_up: AtomicBool::new(false),
            told: Told::default(),
        };
        condition.report("connecting");
        condition
    }

    /// An answer came.
    pub(super) fn up(&self) {
        if self.is_up.swap(true, Ordering::Relaxed) {
            return;
        }
        self.metrics.up.set(1);
        self.report("");
        if self.told.away.swap(false, Ordering::Relaxed) {
            tracing::info!(token = %self.handle.name(), store = %self.place, "the token's store is back");
        }
    }

    /// A command was refused, or its answer did not come.
    pub(super) fn failed(&self, why: &str) {
        self.metrics.failed.inc();
        self.away(why);
    }

    /// There is no connection.
    pub(super) fn away(&self, why: &str) {
        self.is_up.store(false, Ordering::Relaxed);
        self.metrics.up.set(0);
        self.report(why);
        if !self.told.away.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                token = %self.handle.name(), store = %self.place, why,
                "the token's store cannot be used; going on alone"
            );
        }
    }

    /// What stands in the store was not written by a program with this key.
    pub(super) fn unreadable(&self) {
        self.metrics.unreadable.inc();
        if !self.told.unreadable.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                token = %self.handle.name(), store = %self.place,
                "the store's value was not sealed for this token with this key; it is not used"
            );
        }
    }

    /// Says by which name the entry is known from now on.
    pub(super) fn rename(&self, mark: &str) {
        let mut known = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
        mark.clone_into(&mut known);
    }

    /// Another program with this definition has said which entry it wrote.
    pub(super) fn message(&self, mark: &[u8]) {
        let known = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
        let foreign = !known.is_empty() && known.as_bytes() != mark;
        drop(known);
        if foreign && !self.told.foreign.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                token = %self.handle.name(), store = %self.place,
                "a program with the same definition shares nothing with this one: it has another \
                 `key`, or its credentials hold something else"
            );
        }
    }

    fn report(&self, why: &str) {
        let store = StoreReport { place: self.place.clone(), fault: why.to_owned() };
        self.handle.tell(|report| report.store = Some(store));
    }
}
