//! Whom a worker watches over.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slab::Slab;
use tokio::sync::Notify;

use super::clock::Clock;
use super::watch::Watch;

/// The watches of a worker's connections and streams. Each leaves with what it watches: were they
/// kept until the next sweep, they would lie about between the memory of those that have ended,
/// which then could not be used again.
#[derive(Debug)]
pub(super) struct Roll {
    clock: Arc<Clock>,
    watched: Mutex<Watched>,
    joined: Notify,
}

#[derive(Debug, Default)]
struct Watched {
    watches: Slab<Arc<Watch>>,
    /// Nobody was there at the last sweep, and nobody has come since: the clock stands still.
    asleep: bool,
}

impl Roll {
    pub(super) fn new(clock: Arc<Clock>) -> Self {
        Self { clock, watched: Mutex::default(), joined: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches over a new connection.
    pub(super) fn begin(self: &Arc<Self>) -> (Arc<Watch>, Enrolled) {
        let mut watched = self.lock();
        if watched.asleep {
            watched.asleep = false;
            self.clock.advance();
            self.joined.notify_one();
        }
        let watch = Arc::new(Watch::new(Arc::clone(&self.clock)));
        let key = watched.watches.insert(Arc::clone(&watch));
        self.clock.crowd(watched.watches.len());
        (watch, Enrolled { roll: Arc::clone(self), key })
    }

    /// Watches over a further stream of a connection.
    pub(super) fn enroll(self: &Arc<Self>, watch: &Arc<Watch>) -> Enrolled {
        let key = self.lock().watches.insert(Arc::clone(watch));
        Enrolled { roll: Arc::clone(self), key }
    }

    /// Calls `judge` for each. True if there is none.
    pub(super) fn sweep(&self, judge: impl Fn(&Watch)) -> bool {
        self.clock.advance();
        let mut watched = self.lock();
        self.clock.crowd(watched.watches.len());
        watched.watches.iter().for_each(|(_, watch)| judge(watch));
        watched.asleep = watched.watches.is_empty();
        watched.asleep
    }

    /// Returns when a connection comes after a sweep that found none.
    pub(super) async fn joined(&self) {
        self.joined.notified().await;
    }
}

/// Keeps a watch on the roll.
#[derive(Debug)]
pub(super) struct Enrolled {
    roll: Arc<Roll>,
    key: usize,
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        let watch = self.roll.lock().watches.try_remove(self.key);
        // Outside of the lock.
        drop(watch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_leaves_with_what_it_watches() {
        let roll = Arc::new(Roll::new(Arc::new(Clock::new())));
        let (first, staying) = roll.begin();
        let (second, leaving) = roll.begin();
        let stream = roll.enroll(&second);
        drop(leaving);
        drop(stream);
        assert_eq!(Arc::strong_count(&second), 1, "nothing is kept until the next sweep");
        assert!(!roll.sweep(|watch| assert!(std::ptr::eq(watch, &*first))));
        drop(staying);
        assert!(roll.sweep(|_| panic!("nobody is left")));
    }

    #[tokio::test]
    async fn whoever_comes_after_a_sweep_that_found_nobody_is_heard_of() {
        let roll = Arc::new(Roll::new(Arc::new(Clock::new())));
        assert!(roll.sweep(|_| {}));
        let newcomer = roll.begin();
        roll.joined().await;
        drop(newcomer);
    }
}
