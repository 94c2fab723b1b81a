//! Spares the task of an upstream connection one wake-up for every answer.
//!
//! When the last piece of a body is taken, hyper wakes the connection's task to read on. The task
//! knew when it handed the piece over that it was the last, finds nothing to do, and sleeps again:
//! one of five wake-ups of a small exchange.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Wake, Waker};

/// Stands between a connection and the waker of its task. Everything happens on one thread; the
/// atomics only make the futures `Send`.
#[derive(Debug, Default)]
pub(super) struct Hush {
    task: OnceLock<Waker>,
    quiet: AtomicBool,
    missed: AtomicBool,
}

impl Hush {
    /// Runs the connection's future.
    pub(super) async fn drive<F: Future>(self: Arc<Self>, connection: F) -> F::Output {
        let mut connection = pin!(connection);
        let hushed = Waker::from(Arc::clone(&self));
        poll_fn(|cx| {
            let task = self.task.get_or_init(|| cx.waker().clone());
            if task.will_wake(cx.waker()) {
                connection.as_mut().poll(&mut Context::from_waker(&hushed))
            } else {
                connection.as_mut().poll(cx)
            }
        })
        .await
    }

    /// Keeps the task asleep during `take`, which takes a piece of a body and says whether it was
    /// the last. After any other the task is woken.
    pub(super) fn during<T>(&self, take: impl FnOnce() -> (T, bool)) -> T {
        self.quiet.store(true, Relaxed);
        let loud = Loud(self);
        let (taken, last) = take();
        if last {
            self.missed.store(false, Relaxed);
        }
        drop(loud);
        taken
    }

    fn rouse(&self) {
        if self.quiet.load(Relaxed) {
            self.missed.store(true, Relaxed);
        } else if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }
}

impl Wake for Hush {
    fn wake(self: Arc<Self>) {
        self.rouse();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rouse();
    }
}

/// Ends the quiet, also where taking the piece panics.
struct Loud<'h>(&'h Hush);

impl Drop for Loud<'_> {
    fn drop(&mut self) {
        self.0.quiet.store(false, Relaxed);
        if self.0.missed.swap(false, Relaxed) {
            self.0.rouse();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Poll;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn only_the_last_piece_leaves_the_task_asleep() {
        let count = Arc::new(Count::default());
        let task = Waker::from(Arc::clone(&count));
        let hush = Arc::new(Hush::default());
        let mut seen = None;
        {
            let connection = poll_fn(|cx| {
                seen = Some(cx.waker().clone());
                Poll::<()>::Pending
            });
            let mut driven = pin!(Arc::clone(&hush).drive(connection));
            assert!(driven.as_mut().poll(&mut Context::from_waker(&task)).is_pending());
        }
        let waker = seen.unwrap();
        waker.wake_by_ref();
        assert_eq!(count.0.load(Relaxed), 1);
        hush.during(|| (waker.wake_by_ref(), true));
        assert_eq!(count.0.load(Relaxed), 1);
        hush.during(|| (waker.wake_by_ref(), false));
        assert_eq!(count.0.load(Relaxed), 2);
        hush.during(|| ((), false));
        waker.wake();
        assert_eq!(count.0.load(Relaxed), 3);
    }
}
