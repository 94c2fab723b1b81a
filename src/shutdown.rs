//! The end of the process, and the birth of every task.
//!
//! Four stages: *announced* (readiness is false, all else goes on), *draining* (finish what is
//! under way, start nothing), *closing* (the time for it is over), *finished* (no task left). Every task is spawned here, so that the end can wait for it.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Hands out the stages and counts the tasks; clones share one end.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    announced: CancellationToken,
    draining: CancellationToken,
    closing: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// A process that has just begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A part with an end of its own that also ends with the whole, such as one token's task
    /// after a reload.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            announced: self.announced.child_token(),
            draining: self.draining.child_token(),
            closing: self.closing.child_token(),
            tasks: self.tasks.clone(),
        }
    }

    /// Spawns a task on the current runtime that the end waits for.
    #[expect(clippy::disallowed_methods, reason = "the one place where tasks are born")]
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.tasks.track_future(task))
    }

    /// Says that the end is near.
    pub fn announce(&self) {
        self.announced.cancel();
    }

    /// Whether the end is near.
    #[must_use]
    pub fn is_announced(&self) -> bool {
        self.announced.is_cancelled()
    }

    /// Begins to drain.
    pub fn drain(&self) {
        self.announced.cancel();
        self.draining.cancel();
    }

    /// Gives up on what is still under way.
    pub fn close(&self) {
        self.drain();
        self.closing.cancel();
    }

    /// Whether draining has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Returns when draining begins.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Returns when the time to finish is over.
    pub async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// Whether the time to finish is over.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Waits until every task has ended, `grace` at most. True if all did.
    pub async fn finished(&self, grace: Duration) -> bool {
        self.tasks.close();
        tokio::time::timeout(grace, self.tasks.wait()).await.is_ok()
    }
}
