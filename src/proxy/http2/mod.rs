//! HTTP/2 towards an upstream: one connection, which carries many exchanges at once (RFC 9113).
//!
//! It stands on the `h2` crate itself. hyper's client would spawn a task for every request, and
//! takes a stream that was reset with CANCEL for one that has ended well.

mod exchange;
mod share;

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(super) use self::exchange::{Stream, Unanswered};
pub(super) use self::share::{Seat, Shared, adopt, share};
use super::download::Cut;
use super::pool::Shop;
use crate::net::dial::Line;
use crate::net::health::Health;
use crate::net::io::Io;
use crate::server::Limits;
use crate::telemetry::tally::Level;
use crate::vocab::Moment;

/// Most streams that we open on one connection, whatever the upstream permits.
const MOST_STREAMS: usize = 100;

/// Most bytes of one answer that wait for a client which takes its time …
const STREAM_WINDOW: u32 = 256 * 1024;

/// … and of all answers together: so many that streams whose clients have stopped reading cannot
/// hold up the others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * 100;

/// Most bytes of one request's body that are buffered before the upstream takes them.
const SEND_BUFFER: usize = 128 * 1024;

/// The largest frame that an upstream may send.
const FRAME: u32 = 64 * 1024;

/// How often a connection is looked after.
const LOOK: Duration = Duration::from_secs(1);

/// An upstream that was asked whether it is there is not asked again for so long, as gRPC servers hang
/// up on clients that ask more often.
const PATIENCE: Duration = Duration::from_secs(300);

/// How connections to one upstream are set up.
#[derive(Debug)]
pub(super) struct Settings {
    builder: Builder,
    most_fields: usize,
    /// Longest wait for the upstream's first word.
    connect: Duration,
    /// With streams open and nothing received for so long, the upstream is asked whether it is
    /// there; after a third of that without a reply the connection counts as dead.
    silence: Duration,
    /// Nothing but HTTP/2 will do.
    required: bool,
}

impl Settings {
    pub(super) fn new(limits: &Limits, required: bool) -> Self {
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(u32::try_from(limits.head_size.0).unwrap_or(u32::MAX));
        Self {
            builder,
            most_fields: limits.head_fields,
            connect: limits.connect.0,
            silence: limits.silence.0,
            required,
        }
    }
}

/// An open connection. Whoever holds it can open streams; it closes when nobody does.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Bytes>,
    most_fields: usize,
    health: Option<Arc<Health>>,
    born: Moment,
    /// Streams in use.
    streams: AtomicUsize,
    /// Whether it has carried an exchange.
    used: AtomicBool,
    /// It has ended.
    ended: AtomicBool,
    /// Connections without a stream.
    waiting: Level,
}

impl Connection {
    /// Takes over a new connection, and the task that drives it.
    ///
    /// # Errors
    /// The upstream does not speak HTTP/2, or not in time; no request was sent.
    async fn open(line: Line, settings: &Settings, shop: &Arc<Shop>) -> Result<Arc<Self>, Unfit> {
        let received = Arc::new(AtomicU64::new(0));
        let io = Ear { io: line.io, received: Arc::clone(&received) };
        let (sender, mut driver) = settings.builder.handshake::<_, Bytes>(io).await?;
        let Some(mut ping) = driver.ping_pong() else { return Err(Unfit::Silent) };
        // How many streams it takes is in its first word, before its reply to a PING.
        let first_word = async {
            tokio::select! {
                reply = ping.ping(Ping::opaque()) => reply.map(drop).map_err(Unfit::from),
                end = &mut driver => Err(end.err().map_or(Unfit::Silent, Unfit::from)),
            }
        };
        tokio::time::timeout(settings.connect, first_word).await.map_err(|_| Unfit::Silent)??;
        let connection = Arc::new(Self {
            sender,
            most_fields: settings.most_fields,
            health: line.health,
            born: Moment::now(),
            streams: AtomicUsize::new(0),
            used: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            waiting: shop.waiting.clone(),
        });
        connection.waiting.inc();
        let weak = Arc::downgrade(&connection);
        let silence = settings.silence;
        let care = Care { connection: weak, shop: Arc::clone(shop), silence, received };
        drop(shop.shutdown.spawn(async move {
            let end = tokio::select! {
                end = driver => end,
                () = care.look_after(ping) => Ok(()),
            };
            if let Err(error) = end {
                tracing::debug!(%error, "an upstream connection ended early");
            }
        }));
        Ok(connection)
    }

    /// Whether a new exchange may begin on it: it is neither old nor going away.
    fn is_open(&self, shop: &Shop, now: Moment) -> bool {
        !self.ended.load(Relaxed)
            && now.since(self.born) < shop.age
            && !shop.shutdown.is_draining()
            && self.accepts()
    }

    /// Whether the upstream has not said that it takes no more streams.
    fn accepts(&self) -> bool {
        let mut sender = self.sender.clone();
        !matches!(sender.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_)))
    }

    /// Whether there is room for one more stream at once.
    fn has_room(&self) -> bool {
        let most = self.sender.current_max_send_streams().min(MOST_STREAMS);
        self.streams.load(Relaxed) < most
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.waiting.dec();
    }
}

/// Why a new connection is of no use.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("it does not speak HTTP/2: {0}")]
    Http(#[from] h2::Error),
    #[error("it does not speak HTTP/2: it says nothing")]
    Silent,
}

/// Looks after a connection from the task that drives it.
struct Care {
    /// Held by those who use it: it is to end without them.
    connection: Weak<Connection>,
    shop: Arc<Shop>,
    silence: Duration,
    /// Bytes received, modulo 2^64.
    received: Arc<AtomicU64>,
}

impl Care {
    /// Takes the connection out of use when it is too old, unused for too long or no longer
    /// needed, which ends it once its last stream has; returns when the upstream is dead.
    async fn look_after(&self, mut ping: PingPong) {
        let mut heard = self.received.load(Relaxed);
        let (mut last_heard, mut last_asked) = (Moment::now(), None::<Moment>);
        let mut last_used = last_heard;
        let look = LOOK.min(self.shop.idle / 4).min(self.silence / 8);
        let look = look.max(Duration::from_millis(10));
        loop {
            tokio::time::sleep(look).await;
            let now = Moment::now();
            let received = self.received.load(Relaxed);
            if received != heard {
                (heard, last_heard, last_asked) = (received, now, None);
            }
            // Retired and without streams; it is about to end.
            let Some(connection) = self.connection.upgrade() else { continue };
            if connection.streams.load(Relaxed) != 0 {
                last_used = now;
            } else {
                last_heard = now;
            }
            if now.since(last_used) >= self.shop.idle || !connection.is_open(&self.shop, now) {
                share::retire(&self.shop, &self.connection);
            }
            drop(connection);
            let asks = now.since(last_heard) >= self.silence
                && last_asked.is_none_or(|asked| now.since(asked) >= PATIENCE);
            if asks {
                last_asked = Some(now);
                if !replies(&mut ping, self.silence / 3).await {
                    tracing::debug!("an upstream no longer answers");
                    return;
                }
                // The reply is no word of the upstream's application.
                heard = self.received.load(Relaxed);
            }
        }
    }
}

impl Drop for Care {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.upgrade() {
            connection.ended.store(true, Relaxed);
        }
        share::retire(&self.shop, &self.connection);
    }
}

/// Whether a PING is answered in time.
async fn replies(ping: &mut PingPong, longest: Duration) -> bool {
    let reply = pin!(ping.ping(Ping::opaque()));
    matches!(tokio::time::timeout(longest, reply).await, Ok(Ok(_)))
}

/// A connection of which it is known how much was received.
#[derive(Debug)]
struct Ear {
    io: Io,
    received: Arc<AtomicU64>,
}

impl AsyncRead for Ear {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.io).poll_read(cx, buffer);
        self.received.fetch_add((buffer.filled().len() - before) as u64, Relaxed);
        outcome
    }
}

impl AsyncWrite for Ear {
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

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

impl Cut {
    /// Whether the upstream wants the request over HTTP/1.1 (RFC 9113 section 7).
    pub(super) fn demands_http1(&self) -> bool {
        let Self::Http2(error) = self else { return false };
        error.is_remote() && error.reason() == Some(h2::Reason::HTTP_1_1_REQUIRED)
    }

    /// Whether the upstream has said that it did nothing about the request (RFC 9113 section
    /// 8.7): whatever the request, it may be sent again.
    fn is_unprocessed(&self) -> bool {
        let Self::Http2(error) = self else { return false };
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (refused || error.is_go_away())
    }
}
