//! HTTP/1.1 towards an upstream: one connection, which carries one exchange at a time.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::download::Cut;
use super::hush::Hush;
use super::pool::{Lease, Shop};
use super::replay::Upload;
use crate::net::io::Io;
use crate::server::Limits;
use crate::vocab::Moment;

/// As in the server: large reads save a third of the work of a large body.
const BUFFER: usize = 128 * 1024;

/// With more connections to an upstream than these in use, each reads little at a time …
const FEW: i64 = 64;

/// … so much, or a thousand readers who take their time would cost hundreds of megabytes.
const SMALL_READ: usize = 8 * 1024;

/// How connections to one upstream are set up.
#[derive(Debug)]
pub(super) struct Settings(Builder);

impl Settings {
    pub(super) fn new(limits: &Limits) -> Self {
        let mut builder = Builder::new();
        builder.max_buf_size(limits.head_size.0.max(BUFFER)).max_header_size(limits.head_size.0);
        if limits.head_fields != 100 {
            builder.max_headers(limits.head_fields);
        }
        Self(builder)
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Upload>,
    /// Whether the upstream has sent anything since this was last cleared.
    heard: Arc<AtomicBool>,
    hush: Arc<Hush>,
}

/// A request without an answer.
pub(super) struct Unanswered {
    pub(super) cut: Cut,
    /// The request, if nothing of it was written.
    pub(super) request: Option<Request<Upload>>,
}

impl Connection {
    /// Takes over a new connection to the upstream of `shop`.
    ///
    /// # Errors
    /// HTTP could not be set up; nothing was sent.
    pub(super) async fn open(io: Io, settings: &Settings, shop: &Shop) -> Result<Self, Cut> {
        let heard = Arc::new(AtomicBool::new(false));
        let active = shop.active.clone();
        let io = Heard { io, heard: Arc::clone(&heard), mute: false, active };
        let (sender, connection) =
            settings.0.handshake(TokioIo::new(io)).await.map_err(Cut::Hyper)?;
        let hush = Arc::new(Hush::default());
        let connection = Arc::clone(&hush).drive(connection.with_upgrades());
        drop(shop.shutdown.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an upstream connection ended early");
            }
        }));
        Ok(Self { sender, heard, hush })
    }

    /// Waits until it can carry its first request.
    ///
    /// # Errors
    /// It has ended.
    pub(super) async fn ready(&mut self) -> Result<(), Cut> {
        self.sender.ready().await.map_err(Cut::Hyper)
    }

    /// Whether it can carry a request now: both bodies of the last exchange have ended, nothing
    /// is left over, and the upstream has not closed it.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Whether the upstream has sent anything since the last request began.
    pub(super) fn has_heard(&self) -> bool {
        self.heard.load(Relaxed)
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// The connection broke off.
    pub(super) fn send(
        &mut self,
        request: Request<Upload>,
    ) -> impl Future<Output = Result<Response<Head>, Unanswered>> {
        self.heard.store(false, Relaxed);
        let answer = self.sender.try_send_request(request);
        async move {
            match answer.await {
                Ok(response) => Ok(response.map(Head)),
                Err(mut error) => {
                    let request = error.take_message();
                    Err(Unanswered { cut: Cut::Hyper(error.into_error()), request })
                }
            }
        }
    }
}

/// The body of an answer of which the head is there, still without the connection that it comes
/// from.
#[derive(Debug)]
pub(super) struct Head(Incoming);

impl Head {
    /// The body together with its connection.
    pub(super) fn over(self, lease: Lease) -> Body {
        Body { incoming: self.0, ended: false, lease: Some(lease) }
    }
}

/// An answer's body, with the connection that it comes from.
#[derive(Debug)]
pub(super) struct Body {
    incoming: Incoming,
    ended: bool,
    lease: Option<Lease>,
}

impl Body {
    /// Has the connection closed after this answer.
    pub(super) fn last(&mut self) {
        self.lease = None;
    }

    /// Gives the connection back if the answer is complete.
    pub(super) fn release(&mut self, now: Moment) {
        if let Some(lease) = self.lease.take()
            && self.is_complete()
        {
            lease.give_back(now);
        }
    }

    /// Takes the connection out, which has left HTTP by `upgrade`.
    pub(super) const fn switch(&mut self, upgrade: OnUpgrade) -> Switched {
        Switched { upgrade, lease: self.lease.take() }
    }

    /// Whether [`Self::release`] has something to give back or to close.
    pub(super) const fn is_held(&self) -> bool {
        self.lease.is_some()
    }

    /// Whether every byte has come.
    pub(super) fn is_complete(&self) -> bool {
        self.ended || self.incoming.is_end_stream()
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let incoming = &mut self.incoming;
        let mut take = || {
            let frame = Pin::new(&mut *incoming).poll_frame(cx);
            (frame, incoming.is_end_stream())
        };
        let hush = self.lease.as_mut().and_then(Lease::wire).map(|wire| &wire.connection.hush);
        let frame = ready!(match hush {
            Some(hush) => hush.during(take),
            None => take().0,
        });
        self.ended =
            frame.as_ref().is_none_or(|frame| frame.as_ref().is_ok_and(Frame::is_trailers));
        Poll::Ready(frame.map(|frame| frame.map_err(Cut::Hyper)))
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// A connection that has left HTTP.
#[derive(Debug)]
pub(super) struct Switched {
    upgrade: OnUpgrade,
    /// Keeps the connection counted; it never goes back to the pool.
    lease: Option<Lease>,
}

impl Switched {
    /// The connection itself, and what keeps it counted.
    ///
    /// # Errors
    /// It has ended meanwhile.
    pub(super) async fn open(
        self,
    ) -> Result<(impl AsyncRead + AsyncWrite + Unpin, Option<Lease>), Cut> {
        let upgraded = self.upgrade.await.map_err(Cut::Hyper)?;
        Ok((TokioIo::new(upgraded), self.lease))
    }
}

/// A connection that notes whether anything was received, and that goes on reading when it
/// cannot write any more: an upstream may answer early and close, and hyper would look at the
/// failed write before it looks at the answer.
#[derive(Debug)]
struct Heard {
    io: Io,
    heard: Arc<AtomicBool>,
    mute: bool,
    /// Connections in use, of which many must not each fill a large buffer.
    active: IntGauge,
}

impl Heard {
    /// Turns a failed write into one that never ends. The end of the connection is then found by
    /// reading, behind whatever the upstream has sent.
    fn unless_broken<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        cx: &Context<'_>,
    ) -> Poll<io::Result<T>> {
        match outcome {
            Poll::Ready(Err(error)) if is_broken(&error) => {
                self.mute = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            outcome => outcome,
        }
    }
}

fn is_broken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = if self.active.get() <= FEW {
            Pin::new(&mut self.io).poll_read(cx, buffer)
        } else {
            // hyper makes its buffers as large as what it is given of them is filled.
            let mut scratch = [const { MaybeUninit::uninit() }; SMALL_READ];
            let room = buffer.remaining().min(SMALL_READ);
            let mut small = ReadBuf::uninit(&mut scratch[..room]);
            let outcome = Pin::new(&mut self.io).poll_read(cx, &mut small);
            buffer.put_slice(small.filled());
            outcome
        };
        if buffer.filled().len() > before {
            self.heard.store(true, Relaxed);
        }
        outcome
    }
}

impl AsyncWrite for Heard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.mute {
            return Poll::Pending;
        }
        let outcome = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.unless_broken(outcome, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.mute {
            return Poll::Pending;
        }
        let outcome = Pin::new(&mut self.io).poll_flush(cx);
        self.unless_broken(outcome, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.mute { Poll::Ready(Ok(())) } else { Pin::new(&mut self.io).poll_shutdown(cx) }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.mute {
            return Poll::Pending;
        }
        let outcome = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.unless_broken(outcome, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
