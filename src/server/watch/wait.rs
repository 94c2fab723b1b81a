//! What a handler waits for: another party's answer, under a limit.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

use super::{Verdict, Watch};

/// What ran out while a handler waited in [`Watch::limit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// The answer did not come in time.
    Answer,
    /// The client sent no more of its request's body.
    Body,
}

impl Watch {
    /// Runs `future`, which waits for another party's answer, under the limit on that wait.
    /// Sending the request's body counts as progress ([`Self::progress`]).
    ///
    /// # Errors
    /// What ran out.
    pub async fn limit<F: Future>(&self, future: F) -> Result<F::Output, Expired> {
        let _waiting = Waiting::begin(self);
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Some(expired) = self.take_expired() {
                return Poll::Ready(Err(expired));
            }
            future.as_mut().poll(cx).map(Ok)
        })
        .await
    }

    fn take_expired(&self) -> Option<Expired> {
        let expired = match self.verdict.load(Relaxed) {
            v if v == Verdict::AnswerTooSlow as u8 => Expired::Answer,
            v if v == Verdict::BodyTooSlow as u8 => Expired::Body,
            _ => return None,
        };
        self.verdict.store(Verdict::None as u8, Relaxed);
        Some(expired)
    }

    fn forget_expired(&self) {
        if self.take_expired().is_some() {
            tracing::trace!("a wait ended as its limit passed");
        }
    }
}

/// Marks the time in [`Watch::limit`], also when that future is dropped.
struct Waiting<'w>(&'w Watch);

impl<'w> Waiting<'w> {
    fn begin(watch: &'w Watch) -> Self {
        // What expired during an earlier wait is no matter for this one.
        watch.forget_expired();
        watch.wait_since.store(watch.clock.now(), Relaxed);
        Self(watch)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.wait_since.store(0, Relaxed);
    }
}
