//! The upstream's half of an exchange. Everything about its connections is behind
//! [`Upstream::send`].

use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::hush::Hush;
use super::pool::{Lease, Shop};
use super::replay::Upload;
use crate::net::dial::{DialError, Dialer, Io};
use crate::net::tls::{self, TlsError};
use crate::server::{Expired, Limits, Watch};
use crate::shutdown::Shutdown;
use crate::telemetry::metrics::RouteMetrics;
use crate::vocab::{HttpUrl, Moment};

/// As in the server: large reads save a third of the work of a large body.
const BUFFER: usize = 128 * 1024;

/// With more connections to an upstream than these in use, each reads little at a time …
const FEW: i64 = 64;

/// … so much, or a thousand readers who take their time would cost hundreds of megabytes.
const SMALL_READ: usize = 8 * 1024;

/// Unused connections that may turn out to be closed before a new one is opened.
const MOST_STALE: usize = 8;

/// One route's upstream.
#[derive(Debug)]
pub(super) struct Upstream {
    dialer: Dialer,
    builder: Builder,
    shop: Arc<Shop>,
}

/// Which connection a request may go over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// One that waits, or a new one.
    Any,
    /// A new one: those that wait are probably as dead as the last.
    New,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection.
    Dial(DialError),
    /// The credential's time was over when the connection was ready; the request is where it was.
    Stale,
    /// A limit passed while waiting.
    Expired(Expired),
    /// The connection ended while the request was under way.
    Lost {
        /// How.
        error: hyper::Error,
        /// Whether nothing of an answer had come over a connection that had waited: most likely
        /// the upstream closed it before it saw the request.
        unheard: bool,
    },
}

impl Upstream {
    pub(super) fn new(
        url: &HttpUrl,
        tls: &tls::Settings,
        limits: &Limits,
        metrics: &RouteMetrics,
        shutdown: &Shutdown,
    ) -> Result<Self, TlsError> {
        let mut builder = Builder::new();
        builder.max_buf_size(limits.head_size.0.max(BUFFER)).max_header_size(limits.head_size.0);
        if limits.head_fields != 100 {
            builder.max_headers(limits.head_fields);
        }
        let shop = Shop {
            idle: limits.upstream_idle.0,
            age: limits.upstream_age.0,
            spare: limits.upstream_spare,
            active: metrics.active.clone(),
            waiting: metrics.idle.clone(),
            shutdown: shutdown.clone(),
        };
        let dialer = Dialer::new(url, tls, &[b"http/1.1"], limits.connect.0)?;
        Ok(Self { dialer, builder, shop: Arc::new(shop) })
    }

    /// Sends the `request`, which it takes, and returns the head of its answer together with the
    /// connection, which the answer's body gives back. Nothing is sent at or after `until`; it is
    /// `now`.
    ///
    /// A request of which nothing was written, because the connection turned out to be closed,
    /// goes over another one, whatever its method.
    ///
    /// # Errors
    /// See [`Failure`].
    pub(super) async fn send(
        &self,
        request: &mut Option<Request<Upload>>,
        until: Option<Moment>,
        over: Over,
        mut now: Moment,
        watch: &Watch,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        let mut stale = if over == Over::New { MOST_STALE } else { 0 };
        loop {
            let pooled = if stale < MOST_STALE { Lease::take(&self.shop, now) } else { None };
            let mut lease = match pooled {
                Some(lease) => lease,
                None => {
                    let lease = Box::pin(self.open()).await.map_err(Failure::Dial)?;
                    now = Moment::now();
                    lease
                }
            };
            if until.is_some_and(|until| now >= until) {
                lease.give_back(now);
                return Err(Failure::Stale);
            }
            let Some(wire) = lease.wire() else { continue };
            let Some(going) = request.take() else { return Err(Failure::Stale) };
            wire.heard.store(false, Relaxed);
            let answer = pin!(wire.sender.try_send_request(going));
            let mut error = match watch.limit(answer).await {
                Ok(Ok(response)) => return Ok((response, lease)),
                Ok(Err(error)) => error,
                Err(expired) => return Err(Failure::Expired(expired)),
            };
            *request = error.take_message();
            if wire.reused && request.is_some() {
                stale += 1;
            } else {
                let unheard = wire.reused && !wire.heard.load(Relaxed);
                return Err(Failure::Lost { error: error.into_error(), unheard });
            }
        }
    }

    async fn open(&self) -> Result<Lease, DialError> {
        let io = self.dialer.dial().await?;
        let heard = Arc::new(AtomicBool::new(false));
        let io = TokioIo::new(Heard {
            io,
            heard: Arc::clone(&heard),
            mute: false,
            active: self.shop.active.clone(),
        });
        let (sender, connection) = self.builder.handshake(io).await.map_err(|error| {
            DialError::Connect { host: String::new(), source: io::Error::other(error) }
        })?;
        let hush = Arc::new(Hush::default());
        let connection = Arc::clone(&hush).drive(connection.with_upgrades());
        drop(self.shop.shutdown.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an upstream connection ended early");
            }
        }));
        Ok(Lease::of(sender, heard, hush, &self.shop))
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
