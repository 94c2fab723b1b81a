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
        (kept.whole && !kept.lost)
            .then(|| Upload(Some(Box::new(Flow::Kept(Store::of(kept.chunks.clone()))))))
    }

    /// What has gone by so far, if all of it was kept.
    fn so_far(&self) -> Option<Store> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!kept.lost).then(|| Store::of(kept.chunks.clone()))
    }
}

/// A request's body as the upstream connection reads it; small, as requests are moved a lot.
#[derive(Debug)]
pub(super) struct Upload(Option<Box<Flow>>);

#[derive(Debug)]
enum Flow {
    Client(Incoming, Live),
    Kept(Store),
    /// What was kept, and then the rest, from the client.
    Resumed(Store, Incoming, Live),
}

/// Chunks that were kept, on their way once more.
#[derive(Debug)]
struct Store {
    chunks: Vec<Bytes>,
    next: usize,
    left: usize,
}

impl Store {
    fn of(chunks: Vec<Bytes>) -> Self {
        let left = chunks.iter().map(Bytes::len).sum();
        Self { chunks, next: 0, left }
    }

    fn take(&mut self) -> Option<Bytes> {
        let chunk = self.chunks.get(self.next)?.clone();
        self.next += 1;
        self.left -= chunk.len();
        Some(chunk)
    }

    fn rewind(&mut self) {
        self.next = 0;
        self.left = self.chunks.iter().map(Bytes::len).sum();
    }
}

/// What goes along with a body that comes from the client.
#[derive(Debug)]
struct Live {
    watch: Arc<Watch>,
    route: Arc<Route>,
    keep: Option<Keep>,
    /// Nothing has gone by yet.
    untouched: bool,
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
        let live = Live {
            watch: Arc::clone(watch),
            route: Arc::clone(route),
            keep: keep.clone(),
            untouched: true,
        };
        (Self(Some(Box::new(Flow::Client(incoming, live)))), keep)
    }

    /// Chunks that are there.
    #[cfg(test)]
    pub(super) fn kept(chunks: Vec<Bytes>) -> Self {
        Self(Some(Box::new(Flow::Kept(Store::of(chunks)))))
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The same body with these `chunks`, which were all that was read of it, before the rest.
    pub(super) fn behind(self, chunks: Vec<Bytes>) -> Option<Self> {
        let flow = match self.0 {
            None if chunks.is_empty() => return Some(Self(None)),
            // All of it was read.
            None => Flow::Kept(Store::of(chunks)),
            Some(flow) => match *flow {
                Flow::Client(incoming, live) => Flow::Resumed(Store::of(chunks), incoming, live),
                flow => return Self(Some(Box::new(flow))).rewound(),
            },
        };
        Some(Self(Some(Box::new(flow))))
    }

    /// The same body from its beginning, if nothing of it is lost.
    pub(super) fn rewound(self) -> Option<Self> {
        let Some(flow) = self.0 else { return Some(Self(None)) };
        let flow = match *flow {
            Flow::Client(incoming, live) if live.untouched => Flow::Client(incoming, live),
            Flow::Client(incoming, live) => {
                let store = live.keep.as_ref()?.so_far()?;
                Flow::Resumed(store, incoming, live)
            }
            Flow::Kept(mut store) => {
                store.rewind();
                Flow::Kept(store)
            }
            Flow::Resumed(_, incoming, live) => {
                let store = live.keep.as_ref()?.so_far()?;
                Flow::Resumed(store, incoming, live)
            }
        };
        Some(Self(Some(Box::new(flow))))
    }
}

impl Live {
    fn passed(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        self.untouched = false;
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
            Some(Flow::Kept(store)) => {
                return Poll::Ready(store.take().map(|chunk| Ok(Frame::data(chunk))));
            }
            Some(Flow::Resumed(store, incoming, live)) => match store.take() {
                Some(chunk) => return Poll::Ready(Some(Ok(Frame::data(chunk)))),
                None => (incoming, live),
            },
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
            Some(Flow::Kept(store)) => store.left == 0,
            Some(Flow::Resumed(store, incoming, _)) => store.left == 0 && incoming.is_end_stream(),
            Some(Flow::Client(incoming, _)) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.0.as_deref() {
            None => SizeHint::with_exact(0),
            Some(Flow::Kept(store)) => SizeHint::with_exact(store.left as u64),
            Some(Flow::Resumed(store, incoming, _)) => match incoming.size_hint().exact() {
                Some(rest) => SizeHint::with_exact(store.left as u64 + rest),
                None => SizeHint::default(),
            },
            Some(Flow::Client(incoming, _)) => incoming.size_hint(),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.watch.body_unwanted();
    }
}
