//! The time of a worker: it stands still between two sweeps, so that looking at it costs nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::vocab::Moment;

/// With more connections than these a worker reads little at a time from each: hyper makes its
/// buffers as large as what it is given of them is filled, and keeps them while a connection waits.
const FEW: usize = 64;

/// A worker's clock in milliseconds, moved on by its sweep. Never 0 after [`Clock::advance`].
#[derive(Debug)]
pub(super) struct Clock {
    origin: Moment,
    now: AtomicU64,
    crowded: AtomicBool,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { origin: Moment::now(), now: AtomicU64::new(1), crowded: AtomicBool::new(false) }
    }

    /// Sets the clock to the present.
    pub(super) fn advance(&self) {
        let passed = Moment::now().since(self.origin).as_millis();
        self.now.store(u64::try_from(passed).unwrap_or(u64::MAX - 1) + 1, Relaxed);
    }

    /// Says how many connections the worker has.
    pub(super) fn crowd(&self, connections: usize) {
        self.crowded.store(connections > FEW, Relaxed);
    }

    pub(super) fn is_crowded(&self) -> bool {
        self.crowded.load(Relaxed)
    }

    /// Milliseconds.
    pub(super) fn now(&self) -> u64 {
        self.now.load(Relaxed)
    }
}
