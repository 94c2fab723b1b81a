//! An answer's body on its way to the client.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};

use super::download::{Cut, Download};
use super::headers;
use super::pool::Lease;
use super::record::Record;
use crate::net::body::Body;
use crate::server::Watch;
use crate::token::present::Presented;
use crate::vocab::Moment;

/// The upstream's body, with what was read of it to judge the answer.
#[derive(Debug)]
pub(super) struct Arrival {
    download: Download,
    ahead: Option<Box<Ahead>>,
    /// How long the upstream may pause, if that matters.
    patience: Option<Duration>,
    /// It is being waited for.
    waits: bool,
}

#[derive(Debug, Default)]
struct Ahead {
    chunks: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Arrival {
    /// A body within which the upstream may pause no longer than `patience`.
    pub(super) const fn new(download: Download, patience: Option<Duration>) -> Self {
        Self { download, ahead: None, patience, waits: false }
    }

    /// Has the connection carry no other exchange after this one.
    pub(super) fn last(&mut self) {
        self.download.last();
    }

    /// Takes the connection of an answer that has switched protocols.
    pub(super) const fn detach(&mut self) -> Option<Lease> {
        self.download.detach()
    }

    /// Reads up to `most` bytes ahead; they are not lost. None if there are more.
    ///
    /// # Errors
    /// The body broke off.
    pub(super) async fn peek(&mut self, most: usize) -> Result<Option<Bytes>, Cut> {
        let mut ahead = Box::<Ahead>::default();
        let mut size: usize = 0;
        while size <= most
            && let Some(frame) = std::future::poll_fn(|cx| self.download.poll_frame(cx)).await
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

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
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
        self.download.poll_frame(cx)
    }

    /// The same for a client whose `watch` knows who is waited for.
    fn poll_watched(
        &mut self,
        cx: &mut Context<'_>,
        watch: &Watch,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let outcome = self.poll_frame(cx);
        if outcome.is_ready() {
            if std::mem::take(&mut self.waits) {
                watch.source_came();
            }
            return outcome;
        }
        if let Some(patience) = self.patience {
            if self.waits && watch.is_source_late() {
                return Poll::Ready(Some(Err(Cut::Stalled)));
            }
            self.waits = true;
            watch.await_source(patience);
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let is_read = |ahead: &Ahead| ahead.chunks.is_empty() && ahead.trailers.is_none();
        self.download.is_complete() && self.ahead.as_deref().is_none_or(is_read)
    }

    fn size_hint(&self) -> SizeHint {
        let ahead: usize = self.ahead.iter().flat_map(|ahead| &ahead.chunks).map(Bytes::len).sum();
        match self.download.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(ahead as u64 + rest),
            None => SizeHint::default(),
        }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if self.download.is_held() {
            self.download.release(Moment::now());
        }
    }
}

/// The body of an answer to a client. hyper drops it at its end, which is when the books are
/// closed and the upstream connection goes back.
#[derive(Debug)]
pub struct Answer {
    source: Source,
    record: Record,
}

#[derive(Debug)]
enum Source {
    Own(Body),
    Upstream(Arrival, Arc<Presented>, Client),
}

/// Whom a relayed answer is for.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) watch: Arc<Watch>,
    /// It could take an answer that breaks off for whole.
    pub(super) old: bool,
}

impl Answer {
    pub(super) const fn own(body: Body, record: Record) -> Self {
        Self { source: Source::Own(body), record }
    }

    pub(super) const fn relayed(
        arrival: Arrival,
        presented: Arc<Presented>,
        record: Record,
        client: Client,
    ) -> Self {
        Self { source: Source::Upstream(arrival, presented, client), record }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        let frame = ready!(match &mut this.source {
            Source::Own(body) => Pin::new(body).poll_frame(cx).map_err(Cut::Hyper),
            Source::Upstream(arrival, _, client) => arrival.poll_watched(cx, &client.watch),
        });
        let frame = match frame {
            Some(Ok(frame)) => frame,
            None => return Poll::Ready(None),
            Some(Err(error)) => {
                if let Source::Upstream(.., Client { watch, old: true }) = &this.source {
                    watch.reset_at_close();
                }
                if matches!(error, Cut::Stalled) {
                    this.record.stalled();
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
                match (&this.source, &this.record.route) {
                    (Source::Upstream(_, presented, _), Some(route)) => {
                        headers::filter_answer_trailers(&mut trailers, &route.rules);
                        headers::remove_leaks(&mut trailers, presented);
                    }
                    _ => trailers.clear(),
                }
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        })))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(body) => body.is_end_stream(),
            Source::Upstream(arrival, ..) => arrival.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(body) => body.size_hint(),
            Source::Upstream(arrival, ..) => arrival.size_hint(),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let now = Moment::now();
        let whole = match &mut self.source {
            Source::Own(body) => body.is_end_stream(),
            Source::Upstream(arrival, ..) => {
                arrival.download.release(now);
                arrival.download.is_complete()
            }
        };
        self.record.end(now, whole);
    }
}
