//! One HTTP/1.1 connection to an upstream, which carries one exchange at a time. It has no task of
//! its own: it moves when the exchange that uses it is polled, and while it waits it holds no
//! buffer.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::{Response, StatusCode};
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::{Framing, Part};
use super::head::{self, Most};
use super::input;
use super::request::{Outgoing, Unsent};
use crate::net::io::{Io, Listen};
use crate::proxy::download::Cut;
use crate::proxy::replay::Upload;
use crate::server::Limits;
use crate::telemetry::tally::Level;

/// With more connections to an upstream than these in use, each reads little at a time: a
/// thousand clients who take their time would have us hold hundreds of megabytes.
const FEW: i64 = 64;

/// Informational answers to one request, before the one that counts (P18).
const MOST_INFORMATIONAL: u32 = 10_000;

/// How connections to one upstream are used.
#[derive(Debug, Clone)]
pub(in crate::proxy) struct Settings {
    pub(super) most: Most,
    /// Connections in use.
    pub(super) active: Level,
}

/// An open connection.
#[derive(Debug)]
pub(in crate::proxy) struct Connection<T = Io> {
    io: T,
    settings: Arc<Settings>,
    /// Bytes that came and are not taken yet.
    input: Bytes,
    /// So many of them were searched for the end of a head.
    seen: usize,
    outgoing: Outgoing,
    /// The rest of the answer's body.
    framing: Framing,
    /// Whether another exchange may follow.
    lasts: bool,
    /// Whether the upstream has sent anything since the request began.
    heard: bool,
    /// Whether the upstream has stopped to take anything.
    torn: bool,
    informational: u32,
    /// Whether the last read may have left something behind.
    eager: bool,
    /// The last answer did not fit into a little read, and so may the next.
    large: bool,
    /// How the answer broke off, before that is told.
    cut: Option<Cut>,
}

impl Settings {
    pub(in crate::proxy) fn new(limits: &Limits, active: &Level) -> Self {
        let most = Most { size: limits.head_size.0, fields: limits.head_fields };
        Self { most, active: active.clone() }
    }
}

impl<T: Listen> Connection<T> {
    /// Whether the upstream says nothing, as it should while nobody has asked: no byte has come,
    /// nor the end.
    pub(in crate::proxy) fn is_silent(&mut self) -> bool {
        self.io.is_silent()
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    pub(in crate::proxy) const fn new(io: T, settings: Arc<Settings>) -> Self {
        Self {
            io,
            settings,
            input: Bytes::new(),
            seen: 0,
            outgoing: Outgoing::nothing(),
            framing: Framing::NONE,
            lasts: true,
            heard: false,
            torn: false,
            informational: 0,
            eager: false,
            large: false,
            cut: None,
        }
    }

    /// Whether the last exchange is over in both directions and another may follow.
    pub(in crate::proxy) fn is_done(&self) -> bool {
        self.lasts && self.framing.is_over() && self.outgoing.is_over() && self.input.is_empty()
    }

    /// Whether the upstream has sent anything since the last request began.
    pub(in crate::proxy) const fn has_heard(&self) -> bool {
        self.heard
    }

    /// The request's body from its beginning, if the connection has taken nothing of the request
    /// and nothing of the body is lost.
    pub(in crate::proxy) fn take_back(&mut self) -> Option<Upload> {
        self.outgoing.take_back()
    }

    /// Has the connection closed after this exchange.
    pub(super) const fn last(&mut self) {
        self.lasts = false;
    }

    /// Sends a request and waits for the head of its answer. What is left of the request's body then
    /// goes out by [`Self::poll_upload`].
    ///
    /// # Errors
    /// The exchange broke off; the connection is of no further use.
    pub(in crate::proxy) async fn send(&mut self, request: Outgoing) -> Result<Response<()>, Cut> {
        self.outgoing = request;
        // Until the answer says otherwise.
        self.lasts = false;
        self.heard = false;
        self.informational = 0;
        self.seen = 0;
        poll_fn(|cx| self.poll_head(cx)).await
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<()>, Cut>> {
        self.poll_upload(cx)?;
        loop {
            while self.input.len() > self.seen {
                let found = head::read(&self.input, self.seen, self.settings.most);
                let Some(head) = found.map_err(Cut::Malformed)? else {
                    self.seen = self.input.len();
                    break;
                };
                self.input.advance(head.size);
                self.seen = 0;
                let status = head.response.status();
                if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
                    self.informational += 1;
                    if self.informational > MOST_INFORMATIONAL {
                        return Poll::Ready(Err(Cut::Malformed("does not come to the point")));
                    }
                    continue;
                }
                if status.is_informational() && !self.outgoing.is_over() {
                    return Poll::Ready(Err(Cut::Malformed("switches before it was asked")));
                }
                if self.torn {
                    self.outgoing.give_up();
                }
                self.lasts = head.lasts && !self.torn && !status.is_informational();
                self.framing = if self.outgoing.is_head() { Framing::NONE } else { head.framing };
                self.large = self.left().is_none_or(|left| left > input::LITTLE as u64);
                return Poll::Ready(Ok(head.response));
            }
            let came = match self.poll_sized(self.large, u64::MAX, cx) {
                // Who takes nothing was asked nothing: an answer would be there already.
                Poll::Pending if self.torn && !self.outgoing.is_begun() => {
                    Err(io::ErrorKind::BrokenPipe.into())
                }
                came => ready!(came),
            };
            let came = came.map_err(Cut::Io)?;
            if came.is_empty() {
                return Poll::Ready(Err(Cut::Ended));
            }
            self.heard = true;
            self.eager = input::is_full(came.len());
            self.input = input::joined(std::mem::take(&mut self.input), came);
        }
    }

    /// The next part of the answer's body. Where it breaks off, whoever relays it is first given the
    /// time to pass on what came before.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(cut) = self.cut.take() {
            return Poll::Ready(Some(Err(cut)));
        }
        match ready!(self.poll_part(cx)) {
            Ok(Part::Data(data)) => Poll::Ready(Some(Ok(Frame::data(data)))),
            Ok(Part::Trailers(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Ok(Part::End | Part::More) => Poll::Ready(None),
            Err(cut) => {
                self.lasts = false;
                self.cut = Some(cut);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    /// The next part of the answer's body, if it has come already.
    pub(super) fn take_at_hand(&mut self) -> Option<Frame<Bytes>> {
        match self.framing.take(&mut self.input) {
            Ok(Part::Data(data)) => Some(Frame::data(data)),
            Ok(Part::Trailers(trailers)) => Some(Frame::trailers(trailers)),
            Ok(Part::End | Part::More) => None,
            Err(flaw) => {
                self.lasts = false;
                self.cut = Some(Cut::Malformed(flaw));
                None
            }
        }
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, Cut>> {
        if self.framing.is_over() {
            return Poll::Ready(Ok(Part::End));
        }
        loop {
            let part = self.framing.take(&mut self.input).map_err(Cut::Malformed)?;
            if !matches!(part, Part::More) {
                return Poll::Ready(Ok(part));
            }
            self.input = ready!(self.poll_input(cx)).map_err(Cut::Io)?;
            self.eager = input::is_full(self.input.len());
            if self.input.is_empty() {
                self.lasts = false;
                if !self.framing.end() {
                    return Poll::Ready(Err(Cut::Ended));
                }
            }
        }
    }

    /// Reads once, as much as suits what is to come.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        // One byte more than there should be is found without another read.
        let most = self.framing.left().map(|left| left.saturating_add(1));
        let is_large = most.map_or(self.eager, |most| most > input::LITTLE as u64);
        self.poll_sized(is_large, most.unwrap_or(u64::MAX), cx)
    }

    fn poll_sized(
        &mut self,
        is_large: bool,
        most: u64,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Bytes>> {
        if is_large && self.settings.active.get() <= FEW {
            input::poll_much(&mut self.io, most, cx)
        } else {
            input::poll_little(&mut self.io, cx)
        }
    }

    /// Whether the answer's body is complete.
    pub(super) const fn is_over(&self) -> bool {
        self.framing.is_over()
    }

    /// How many bytes of the body are to come, if that is known.
    pub(super) const fn left(&self) -> Option<u64> {
        self.framing.left()
    }

    /// Whether part of the request is still to be sent.
    pub(super) fn uploads(&self) -> bool {
        !self.outgoing.is_over()
    }

    /// Sends on. An upstream that takes no more may have answered, so that this is no failure.
    pub(super) fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), Cut> {
        if self.outgoing.is_over() {
            return Ok(());
        }
        match self.outgoing.poll_send(&mut self.io, cx) {
            Poll::Ready(Err(Unsent::Upload(error))) => Err(Cut::Upload(error)),
            Poll::Ready(Err(Unsent::Length)) => Err(Cut::Length),
            Poll::Ready(Err(Unsent::Io(error))) if is_broken(&error) => {
                // Of what was not begun nothing is lost, should there be no answer either.
                if self.outgoing.is_begun() {
                    self.outgoing.give_up();
                }
                self.torn = true;
                self.lasts = false;
                Ok(())
            }
            Poll::Ready(Err(Unsent::Io(error))) => Err(Cut::Io(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }
}

fn is_broken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// The connection after it has left HTTP, beginning with what came behind the head.
impl<T: AsyncRead + Unpin> AsyncRead for Connection<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.input.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let count = self.input.len().min(buffer.remaining());
        buffer.put_slice(&self.input.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Connection<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
