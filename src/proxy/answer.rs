//! An answer's body on its way to the client.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::headers;
use super::pool::Lease;
use super::record::Record;
use crate::net::body::Body;
use crate::server::Watch;
use crate::token::present::Presented;
use crate::vocab::Moment;

/// The upstream's body together with the connection that it comes from.
#[derive(Debug)]
pub(super) struct Arrival {
    incoming: Incoming,
    ended: bool,
    lease: Option<Lease>,
    /// What was read ahead to judge the answer.
    ahead: Option<Box<Ahead>>,
}

#[derive(Debug, Default)]
struct Ahead {
    chunks: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Arrival {
    pub(super) const fn new(incoming: Incoming, lease: Lease) -> Self {
        Self { incoming, ended: false, lease: Some(lease), ahead: None }
    }

    /// Has the connection closed after this answer.
    pub(super) fn last(&mut self) {
        self.lease = None;
    }

    /// Takes the connection out, which carries no further answer.
    pub(super) const fn detach(&mut self) -> Option<Lease> {
        self.lease.take()
    }

    /// Reads up to `most` bytes ahead; they are not lost. None if there are more.
    ///
    /// # Errors
    /// The body broke off.
    pub(super) async fn peek(&mut self, most: usize) -> Result<Option<Bytes>, hyper::Error> {
        let mut ahead = Box::<Ahead>::default();
        let mut size: usize = 0;
        while size <= most
            && let Some(frame) = std::future::poll_fn(|cx| self.poll_incoming(cx)).await
        {
            match frame?.into_data() {
                Ok(chunk) => {
                    size += chunk.len();
                    ahead.chunks.push_back(chunk);
                }
                Err(frame) => ahead.trailers = frame.into_trailers().ok(),
            }
        }
        let whole = (size <= most).then(|| ahead.chunks.iter().flatten().copied().collect());
        self.ahead = Some(ahead);
        Ok(whole)
    }

    fn poll_incoming(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let incoming = &mut self.incoming;
        let mut take = || {
            let frame = Pin::new(&mut *incoming).poll_frame(cx);
            (frame, incoming.is_end_stream())
        };
        let frame = ready!(match self.lease.as_ref().and_then(Lease::hush) {
            Some(hush) => hush.during(take),
            None => take().0,
        });
        self.ended =
            frame.as_ref().is_none_or(|frame| frame.as_ref().is_ok_and(Frame::is_trailers));
        Poll::Ready(frame)
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(ahead) = &mut self.ahead {
            if let Some(chunk) = ahead.chunks.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            let trailers = ahead.trailers.take();
            self.ahead = None;
            if let Some(trailers) = trailers {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
        }
        self.poll_incoming(cx)
    }

    fn is_complete(&self) -> bool {
        self.ended || self.incoming.is_end_stream()
    }

    fn is_end_stream(&self) -> bool {
        let is_read = |ahead: &Ahead| ahead.chunks.is_empty() && ahead.trailers.is_none();
        self.incoming.is_end_stream() && self.ahead.as_deref().is_none_or(is_read)
    }

    fn size_hint(&self) -> SizeHint {
        let ahead: usize = self.ahead.iter().flat_map(|ahead| &ahead.chunks).map(Bytes::len).sum();
        match self.incoming.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(ahead as u64 + rest),
            None => SizeHint::default(),
        }
    }

    /// Gives the connection back if the answer is complete.
    fn release(&mut self, now: Moment) {
        if let Some(lease) = self.lease.take()
            && self.is_complete()
        {
            lease.give_back(now);
        }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if self.lease.is_some() {
            self.release(Moment::now());
        }
    }
}

/// The body of an answer to a client. hyper drops it at its end, which is when the books are
/// closed and the upstream connection goes back.
#[derive(Debug)]
pub struct Answer {
    source: Source,
    record: Record,
    /// To be told of a body that breaks off, where the client could take it for whole.
    watch: Option<Arc<Watch>>,
}

#[derive(Debug)]
enum Source {
    Own(Body),
    Upstream(Arrival, Arc<Presented>),
}

impl Answer {
    pub(super) const fn own(body: Body, record: Record) -> Self {
        Self { source: Source::Own(body), record, watch: None }
    }

    pub(super) const fn relayed(
        arrival: Arrival,
        presented: Arc<Presented>,
        record: Record,
        watch: Option<Arc<Watch>>,
    ) -> Self {
        Self { source: Source::Upstream(arrival, presented), record, watch }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = ready!(match &mut this.source {
            Source::Own(body) => Pin::new(body).poll_frame(cx),
            Source::Upstream(arrival, _) => arrival.poll_frame(cx),
        });
        let frame = match frame {
            Some(Ok(frame)) => frame,
            None => return Poll::Ready(None),
            Some(Err(error)) => {
                if let Some(watch) = &this.watch {
                    watch.reset_at_close();
                }
                return Poll::Ready(Some(Err(error)));
            }
        };
        this.record.passed(frame.data_ref().map_or(0, Bytes::len));
        if frame.is_data() {
            return Poll::Ready(Some(Ok(frame)));
        }
        Poll::Ready(Some(Ok(match frame.into_trailers() {
            Ok(mut trailers) => {
                headers::filter_answer_trailers(&mut trailers);
                if let Source::Upstream(_, presented) = &this.source {
                    headers::remove_leaks(&mut trailers, presented);
                }
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        })))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(body) => body.is_end_stream(),
            Source::Upstream(arrival, _) => arrival.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(body) => body.size_hint(),
            Source::Upstream(arrival, _) => arrival.size_hint(),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let now = Moment::now();
        let whole = match &mut self.source {
            Source::Own(body) => body.is_end_stream(),
            Source::Upstream(arrival, _) => {
                arrival.release(now);
                arrival.is_complete()
            }
        };
        self.record.end(now, whole);
    }
}
