//! The rest of a request's body over HTTP/2 that nobody reads any more. It is not dropped before
//! the answer is through: that would reset the stream.

use std::sync::PoisonError;

use h2::RecvStream;

use super::Watch;

impl Watch {
    /// Leaves the rest of the body to whoever sees the stream to its end.
    pub(in super::super) fn leave_rest(&self, stream: RecvStream) {
        *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
        self.rouse();
    }

    /// Takes it. The task that asks is woken once it is there.
    pub(in super::super) fn take_rest(&self) -> Option<RecvStream> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
