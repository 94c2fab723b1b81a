//! Requests' bodies.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body::{Body, Frame, SizeHint};

use super::http2::is_padded;
use super::watch::Watch;

/// A request's body as it comes from the client.
#[derive(Debug)]
pub enum Incoming {
    /// Over HTTP/1.
    Http1(hyper::body::Incoming),
    /// Over HTTP/2.
    Http2(Box<Inflow>),
}

/// Why a request's body ended early.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// Over HTTP/1.
    #[error(transparent)]
    Http1(#[from] hyper::Error),
    /// Over HTTP/2.
    #[error(transparent)]
    Http2(#[from] h2::Error),
}

/// The body of one stream.
///
/// Whatever resets the stream, the body is broken: hyper takes a reset with `NO_ERROR` for a
/// clean end, by which a client could have half of a body pass for the whole.
#[derive(Debug)]
pub struct Inflow {
    /// There until it is dropped.
    stream: Option<RecvStream>,
    /// Bytes to come, if the client has said.
    left: Option<u64>,
    watch: Arc<Watch>,
    /// All data are read; trailers may follow.
    data_done: bool,
}

impl Inflow {
    pub(super) const fn new(stream: RecvStream, left: Option<u64>, watch: Arc<Watch>) -> Self {
        Self { stream: Some(stream), left, watch, data_done: false }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let Some(stream) = self.stream.as_mut().filter(|_| !self.data_done) else {
            return Poll::Ready(None);
        };
        let Some(outcome) = ready!(stream.poll_data(cx)) else {
            self.data_done = true;
            return Poll::Ready(None);
        };
        Poll::Ready(Some(outcome.and_then(|data| {
            // What is passed on makes room for more.
            stream.flow_control().release_capacity(data.len())?;
            self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
            Ok(data)
        })))
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.watch.call();
        let outcome = match self.poll_data(cx) {
            Poll::Ready(Some(outcome)) => Poll::Ready(Some(outcome.map(Frame::data))),
            Poll::Ready(None) => match &mut self.stream {
                Some(stream) => stream.poll_trailers(cx).map(|outcome| match outcome {
                    // A head like that is refused as well.
                    Ok(Some(fields)) if is_padded(&fields) => {
                        Some(Err(Reason::PROTOCOL_ERROR.into()))
                    }
                    outcome => outcome.map(|fields| fields.map(Frame::trailers)).transpose(),
                }),
                None => Poll::Ready(None),
            },
            Poll::Pending => Poll::Pending,
        };
        if outcome.is_pending() {
            self.watch.starved();
        } else {
            self.watch.received();
        }
        outcome.map_err(Broken::from)
    }

    fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_none_or(RecvStream::is_end_stream)
    }
}

impl Drop for Inflow {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take()
            && self.watch.owes_body()
        {
            self.watch.leave_rest(stream);
        }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(Broken::from),
            Self::Http2(inflow) => inflow.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(inflow) => inflow.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(inflow) => {
                let left = if inflow.is_end_stream() { Some(0) } else { inflow.left };
                left.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}
