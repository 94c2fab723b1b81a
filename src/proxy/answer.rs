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

/// The upstream's body together with the connection that it comes from.
#[derive(Debug)]
pub(super) struct Arrival {
    /// What was read ahead to judge the answer.
    ahead: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    incoming: Incoming,
    ended: bool,
    lease: Option<Lease>,
}

impl Arrival {
    pub(super) fn new(incoming: Incoming, lease: Lease) -> Self {
        Self { ahead: VecDeque::new(), trailers: None, incoming, ended: false, lease: Some(lease) }
    }

    /// Has the connection closed after this answer.
    pub(super) fn last(&mut self) {
        self.lease = None;
    }

    /// Reads up to `most` bytes ahead; they are not lost. None if there are more.
    ///
    /// # Errors
    /// The body broke off.
    pub(super) async fn peek(&mut self, most: usize) -> Result<Option<Bytes>, hyper::Error> {
        let mut size: usize = 0;
        while let Some(frame) = std::future::poll_fn(|cx| self.poll_incoming(cx)).await {
            match frame?.into_data() {
                Ok(chunk) => {
                    size += chunk.len();
                    self.ahead.push_back(chunk);
                }
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
            if size > most {
                return Ok(None);
            }
        }
        let whole = match self.ahead.len() {
            1 => self.ahead[0].clone(),
            _ => self.ahead.iter().flatten().copied().collect(),
        };
        Ok(Some(whole))
    }

    fn poll_incoming(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        self.ended =
            frame.as_ref().is_none_or(|frame| frame.as_ref().is_ok_and(Frame::is_trailers));
        Poll::Ready(frame)
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(chunk) = self.ahead.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        self.poll_incoming(cx)
    }

    fn is_complete(&self) -> bool {
        self.ended || self.incoming.is_end_stream()
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.trailers.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let ahead: usize = self.ahead.iter().map(Bytes::len).sum();
        match self.incoming.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(ahead as u64 + rest),
            None => SizeHint::default(),
        }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if self.is_complete()
            && let Some(lease) = self.lease.take()
        {
            lease.give_back();
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
        let whole = match &self.source {
            Source::Own(body) => body.is_end_stream(),
            Source::Upstream(arrival, _) => arrival.is_complete(),
        };
        if whole {
            self.record.complete();
        }
    }
}
