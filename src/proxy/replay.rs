//! The request's body on its way upstream, kept while it is small: a request whose credential was
//! rejected can be sent again only if its body is still there.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::headers;
use super::route::Route;
use crate::server::{Broken, Incoming, Watch};

/// Larger bodies are not kept.
const MOST_KEPT: usize = 64 * 1024;

/// What was kept of a body.
#[derive(Debug, Default)]
struct Kept {
    chunks: Vec<Bytes>,
    size: usize,
    /// The whole body went by and is here.
    whole: bool,
    /// It grew too large, or had trailers.
    lost: bool,
}

/// A body that is being kept. The chunks are those that are sent, not copies.
#[derive(Debug, Clone, Default)]
pub(super) struct Keep(Arc<Mutex<Kept>>);

impl Keep {
    fn note(&self, chunk: &Bytes) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.size = kept.size.saturating_add(chunk.len());
        if kept.lost || kept.size > MOST_KEPT {
            kept.lost = true;
            kept.chunks = Vec::new();
        } else {
            kept.chunks.push(chunk.clone());
        }
    }

    fn lose(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).lost = true;
    }

    fn complete(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).whole = true;
    }

    /// The body once more, if all of it was kept.
    pub(super) fn again(&self) -> Option<Upload> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.whole && !kept.lost).then(|| {
            let chunks = kept.chunks.clone().into_iter();
            Upload(Some(Box::new(Flow::Kept { chunks, left: kept.size })))
        })
    }
}

/// A request's body as the upstream connection reads it; small, as requests are moved a lot.
#[derive(Debug)]
pub(super) struct Upload(Option<Box<Flow>>);

#[derive(Debug)]
enum Flow {
    Client(Incoming, Live),
    Kept { chunks: std::vec::IntoIter<Bytes>, left: usize },
}

/// What goes along with a body that comes from the client.
#[derive(Debug)]
struct Live {
    watch: Arc<Watch>,
    route: Arc<Route>,
    keep: Option<Keep>,
}

impl Upload {
    /// No body.
    pub(super) const fn empty() -> Self {
        Self(None)
    }

    /// The client's body, and what keeps it if it is to be kept and could be small enough.
    pub(super) fn new(
        incoming: Incoming,
        route: &Arc<Route>,
        watch: &Arc<Watch>,
        keep: bool,
    ) -> (Self, Option<Keep>) {
        if incoming.is_end_stream() {
            return (Self::empty(), None);
        }
        let small = incoming.size_hint().lower() <= MOST_KEPT as u64;
        let keep = (keep && small).then(Keep::default);
        let live = Live { watch: Arc::clone(watch), route: Arc::clone(route), keep: keep.clone() };
        (Self(Some(Box::new(Flow::Client(incoming, live)))), keep)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl Live {
    fn passed(&self, frame: Frame<Bytes>) -> Frame<Bytes> {
        self.watch.progress();
        if let (Some(keep), Some(chunk)) = (&self.keep, frame.data_ref()) {
            keep.note(chunk);
        }
        if frame.is_data() {
            return frame;
        }
        match frame.into_trailers() {
            Ok(mut trailers) => {
                headers::filter_request_trailers(&mut trailers, &self.route.rules);
                if let Some(keep) = self.keep.as_ref().filter(|_| !trailers.is_empty()) {
                    keep.lose();
                }
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        }
    }

    fn ended(&self) {
        self.watch.body_ended();
        if let Some(keep) = &self.keep {
            keep.complete();
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let (incoming, live) = match self.get_mut().0.as_deref_mut() {
            None => return Poll::Ready(None),
            Some(Flow::Kept { chunks, left }) => {
                let chunk = chunks.next();
                *left -= chunk.as_ref().map_or(0, Bytes::len);
                return Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))));
            }
            Some(Flow::Client(incoming, live)) => (incoming, live),
        };
        let outcome = ready!(Pin::new(&mut *incoming).poll_frame(cx));
        let ended = match &outcome {
            None => true,
            Some(Ok(frame)) => frame.is_trailers() || incoming.is_end_stream(),
            Some(Err(_)) => false,
        };
        let outcome = outcome.map(|frame| frame.map(|frame| live.passed(frame)));
        if ended {
            live.ended();
        }
        Poll::Ready(outcome)
    }

    fn is_end_stream(&self) -> bool {
        match self.0.as_deref() {
            None => true,
            Some(Flow::Kept { left, .. }) => *left == 0,
            Some(Flow::Client(incoming, _)) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.0.as_deref() {
            None => SizeHint::with_exact(0),
            Some(Flow::Kept { left, .. }) => SizeHint::with_exact(*left as u64),
            Some(Flow::Client(incoming, _)) => incoming.size_hint(),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.watch.body_unwanted();
    }
}
