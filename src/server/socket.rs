//! The client's socket, with an eye on progress.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::crew::Seat;
use super::problem::Own;
use super::stream::Stream;
use super::watch::{Verdict, Watch, poll_verdict};
use crate::telemetry::metrics::Metrics;

/// What is read at once of a connection's beginning.
const FIRST_READ: usize = 4 * 1024;

/// With this a client begins HTTP/2 (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A request line of more bytes than this is looked for, should the head turn out to be too large.
const LONG_LINE: usize = FIRST_READ;

/// What is known of the request line of a head that comes in large pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Nothing.
    Unseen,
    /// It ended within the first of them.
    Ended,
    /// It did not.
    Long,
}

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP/1, or nothing that we know.
    Http1,
    Http2,
}

/// Most bytes that are read and dropped after the last answer.
pub(super) const MOST_LINGERING: usize = 1024 * 1024;

/// Slices that are no longer than this together are copied together: a plain send costs the
/// kernel less than a vectored one.
const SMALL: usize = 512;

/// Counts the answers of our own, by reason; nothing where nobody counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusals(Option<Arc<Tally>>);

#[derive(Debug)]
struct Tally {
    own: [IntCounter; Own::ALL.len()],
    floods: IntCounter,
}

impl Refusals {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let own = Own::ALL.map(|own| metrics.rejected(own.problem().slug));
        Self(Some(Arc::new(Tally { own, floods: metrics.rejected("flood") })))
    }

    pub(super) fn count(&self, own: Own) {
        if let Some(counters) = &self.0 {
            counters.own[own as usize].inc();
        }
    }

    /// Counts a connection that was ended because it cost much and asked for nothing.
    pub(super) fn flood(&self) {
        if let Some(counters) = &self.0 {
            counters.floods.inc();
        }
    }
}

/// A [`Stream`] that notes what happens in a [`Watch`].
#[derive(Debug)]
pub(super) struct Socket {
    stream: Stream,
    watch: Arc<Watch>,
    refusals: Refusals,
    closing: Closing,
    /// An answer of our own that is sent in place of hyper's, and how much of it is sent.
    own: Option<(Vec<u8>, usize)>,
    /// What was read to tell the protocol, and is not yet passed on.
    ahead: Bytes,
    line: Line,
    /// What is written waits for the client to take it.
    flushing: bool,
    /// The connection counts for as long as it is open, also as a tunnel.
    _seat: Seat,
}

#[derive(Debug, Clone, Copy)]
enum Closing {
    No,
    /// The end is sent; so many bytes were read since.
    Lingering(usize),
}

impl Socket {
    pub(super) const fn new(
        stream: Stream,
        watch: Arc<Watch>,
        refusals: Refusals,
        seat: Seat,
    ) -> Self {
        Self {
            stream,
            watch,
            refusals,
            closing: Closing::No,
            own: None,
            ahead: Bytes::new(),
            line: Line::Unseen,
            flushing: false,
            _seat: seat,
        }
    }

    /// Waits for the first bytes and tells what they are; they are not lost. None if the connection
    /// ends before, or is to end.
    pub(super) async fn begin(&mut self) -> Option<Protocol> {
        let mut first = Vec::new();
        let watch = Arc::clone(&self.watch);
        let protocol = poll_fn(|cx| {
            loop {
                let close = poll_verdict(&watch, cx) == Verdict::Close;
                let mut scratch = [const { MaybeUninit::uninit() }; FIRST_READ];
                let mut buffer = ReadBuf::uninit(&mut scratch);
                match Pin::new(&mut *self).poll_read(cx, &mut buffer) {
                    Poll::Pending if close => return Poll::Ready(None),
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(outcome) if outcome.is_err() || buffer.filled().is_empty() => {
                        return Poll::Ready(None);
                    }
                    Poll::Ready(_) => {}
                }
                if close {
                    // They come with the last look.
                    watch.spare();
                }
                first.extend_from_slice(buffer.filled());
                if first.starts_with(PREFACE) {
                    return Poll::Ready(Some(Protocol::Http2));
                }
                if !PREFACE.starts_with(&first) {
                    return Poll::Ready(Some(Protocol::Http1));
                }
            }
        })
        .await;
        self.ahead = Bytes::from(first);
        protocol
    }

    /// Answers a client that speaks something else, and ends the connection.
    pub(super) async fn refuse(mut self, own: Own) {
        self.refusals.count(own);
        self.watch.received();
        self.own = Some((own.problem().to_bytes(), 0));
        let watch = Arc::clone(&self.watch);
        let outcome = poll_fn(|cx| {
            if poll_verdict(&watch, cx) != Verdict::None {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_own(cx, 0))?;
            Pin::new(&mut self).poll_shutdown(cx)
        });
        if let Err(error) = outcome.await {
            tracing::trace!(%error, "a refused client is gone");
        }
    }

    /// Finds an answer of hyper's own among what it writes: to a head that it could not read,
    /// without a word of advice or the fields that keep browsers from acting on it.
    fn substitute(&mut self, first: &[u8], total: usize) {
        if self.own.is_none()
            && first.len() == total
            && self.watch.is_in_head()
            && let Some(own) = Own::of_hyper(first)
        {
            // hyper does not look for what makes a head large (RFC 9112 section 3).
            let is_target = own == Own::LargeHead && self.line == Line::Long;
            let own = if is_target { Own::LongTarget } else { own };
            self.refusals.count(own);
            self.own = Some((own.problem().to_bytes(), 0));
        }
    }

    /// Sends the answer of our own; done when all of it is sent, which counts as `total`.
    fn poll_own(&mut self, cx: &mut Context<'_>, total: usize) -> Poll<io::Result<usize>> {
        while let Some((bytes, sent)) = &mut self.own {
            let outcome = Pin::new(&mut self.stream).poll_write(cx, &bytes[*sent..]);
            match ready!(outcome)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => *sent += count,
            }
            if *sent == bytes.len() {
                self.own = None;
            }
        }
        Poll::Ready(Ok(total))
    }

    /// Looks at a piece of a head, if it is one.
    fn note_line(&mut self, piece: &[u8]) {
        if self.line == Line::Unseen && self.watch.is_in_head() {
            self.line = if piece.contains(&b'\n') { Line::Ended } else { Line::Long };
        }
    }

    fn note_read(&self, outcome: &Poll<io::Result<()>>, count: usize) {
        match outcome {
            Poll::Ready(Ok(())) if count > 0 => self.watch.received(),
            Poll::Ready(_) => {}
            Poll::Pending => self.watch.starved(),
        }
    }

    fn note_write(&mut self, outcome: &Poll<io::Result<usize>>) {
        // What is read from here on belongs to another head.
        self.line = Line::Unseen;
        if outcome.is_pending() {
            self.watch.blocked();
        } else {
            self.watch.sent();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.watch.verdict() == Verdict::HeadTooSlow {
            if self.watch.may_speak() {
                self.refusals.count(Own::SlowHead);
                let bytes = Own::SlowHead.problem().to_bytes();
                // Nobody waits for a client that was too slow.
                drop(Pin::new(&mut self.stream).poll_write(cx, &bytes));
            }
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead[..count]);
            self.ahead.advance(count);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let outcome = if self.watch.is_crowded() {
            self.stream.poll_read_little(cx, buffer)
        } else {
            Pin::new(&mut self.stream).poll_read(cx, buffer)
        };
        let piece = &buffer.filled()[before..];
        self.note_read(&outcome, piece.len());
        if piece.len() >= LONG_LINE {
            self.note_line(piece);
        }
        outcome
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.substitute(bytes, bytes.len());
        let outcome = if self.own.is_some() {
            self.poll_own(cx, bytes.len())
        } else {
            Pin::new(&mut self.stream).poll_write(cx, bytes)
        };
        self.note_write(&outcome);
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        // With TLS the last bytes of an answer may wait here, and only here.
        if outcome.is_pending() {
            self.flushing = true;
            self.watch.blocked();
        } else if std::mem::take(&mut self.flushing) {
            self.watch.sent();
        }
        outcome
    }

    /// Ends our half, then reads on for a while where the client may still be sending: a close
    /// with unread bytes would reset the connection under the answer (RFC 9112 section 9.6).
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Closing::No = self.closing {
            // Whoever ends the connection drops it then, which says the same for one call less.
            if !self.stream.has_last_words() && self.watch.is_through() {
                return Poll::Ready(Ok(()));
            }
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            if !self.watch.closing() {
                return Poll::Ready(Ok(()));
            }
            self.closing = Closing::Lingering(0);
        }
        while let Closing::Lingering(dropped) = self.closing {
            let mut scratch = [0_u8; 4096];
            let mut buffer = ReadBuf::new(&mut scratch);
            let outcome = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer));
            let count = buffer.filled().len();
            if outcome.is_err() || count == 0 || dropped + count > MOST_LINGERING {
                break;
            }
            self.closing = Closing::Lingering(dropped + count);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = slices {
            return self.poll_write(cx, only);
        }
        let outcome = if slices.iter().map(|slice| slice.len()).sum::<usize>() <= SMALL {
            let mut joined = [0_u8; SMALL];
            let mut end = 0;
            for slice in slices {
                joined[end..end + slice.len()].copy_from_slice(slice);
                end += slice.len();
            }
            Pin::new(&mut self.stream).poll_write(cx, &joined[..end])
        } else {
            Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
        };
        self.note_write(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.watch.is_reset() {
            self.stream.reset_at_close();
        }
    }
}
