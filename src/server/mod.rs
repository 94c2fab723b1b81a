//! Serves HTTP/1 on bound addresses: accepts, spreads connections over workers, keeps the limits,
//! closes gracefully. It serves any [`Handler`] and knows nothing of what the handler does.
//!
//! A worker is one thread with a runtime of its own, which runs [`Worker::serve`]; a connection
//! stays with its worker for life. All workers accept on all addresses, and a worker that has
//! taken a connection hands it over if another one, chosen at random, has fewer.

mod hosts;
mod limits;
mod listener;
mod problem;
mod socket;
mod watch;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::{SocketAddr, TcpStream as StdStream};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prometheus::{IntCounter, IntGauge};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};

pub use hosts::{Host, Hosts};
pub use limits::Limits;
use listener::Acceptor;
pub use listener::Listener;
use problem::Own;
pub use problem::Problem;
use socket::{Refusals, Socket};
use watch::{Clock, Verdict, poll_verdict};
pub use watch::{Expired, Watch};

use crate::shutdown::Shutdown;
use crate::telemetry::metrics::Metrics;
use crate::vocab::descriptors;

/// The sweeps' intervals.
const SHORTEST_TICK: Duration = Duration::from_millis(5);
const LONGEST_TICK: Duration = Duration::from_millis(500);

/// How long a client may go on sending after the last answer.
const LINGER: Duration = Duration::from_secs(1);

/// hyper reads and buffers at most so much of a body at a time; large reads save a third of the
/// work of a large body, and 64 KiB heads need at least this.
const BUFFER: usize = 128 * 1024;

/// With more connections than these a worker reads little at a time from each: hyper makes its
/// buffers as large as what it is given of them is filled, and keeps them while a connection waits.
const FEW: usize = 64;

/// hyper's own limit on header fields, below which it needs no allocation for them.
const FREE_FIELDS: usize = 100;

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// The answers' body. It is dropped as soon as it is sent or cannot be sent any more.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + Unpin
        + 'static;

    /// Answers one request. The future is dropped when the client goes away.
    fn handle(
        &self,
        request: Request<Incoming>,
        peer: &Peer,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// The other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// The client's address.
    pub addr: SocketAddr,
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// The connection's limits and progress.
    pub watch: Arc<Watch>,
    label: OnceLock<HeaderValue>,
}

impl Peer {
    /// A peer whose connection nobody watches; for tests of handlers.
    #[cfg(test)]
    pub(crate) fn unwatched(addr: SocketAddr) -> Self {
        let watch = Arc::new(Watch::new(Arc::new(Clock::new())));
        Self { addr, local: addr, watch, label: OnceLock::new() }
    }

    /// The client's IP address as a header value, made once a connection.
    #[must_use]
    pub fn label(&self) -> &HeaderValue {
        self.label.get_or_init(|| {
            HeaderValue::from_str(&self.addr.ip().to_canonical().to_string())
                .unwrap_or_else(|_| HeaderValue::from_static("unknown"))
        })
    }
}

/// What a server counts.
#[derive(Debug, Clone)]
pub struct Counters {
    connections: IntGauge,
    accepted: IntCounter,
    accept_errors: IntCounter,
    refusals: Refusals,
}

impl Counters {
    /// Counts in the program's metrics.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            connections: metrics.connections.clone(),
            accepted: metrics.accepted.clone(),
            accept_errors: metrics.accept_errors.clone(),
            refusals: Refusals::new(metrics),
        }
    }
}

/// What the workers of one server share.
#[derive(Debug)]
struct Fleet {
    limits: Limits,
    counters: Option<Counters>,
    shutdown: Shutdown,
    posts: Vec<Post>,
}

/// How the other workers see a worker.
#[derive(Debug)]
struct Post {
    connections: AtomicUsize,
    inbox: mpsc::UnboundedSender<Handed>,
}

/// A connection on its way to another worker.
#[derive(Debug)]
struct Handed {
    stream: StdStream,
    addr: SocketAddr,
    local: SocketAddr,
}

impl Fleet {
    /// Where a connection that `here` accepted should live: power of two choices.
    fn place(&self, here: usize) -> usize {
        let count = self.posts.len();
        if count < 2 {
            return here;
        }
        let other = (here + fastrand::usize(1..count)) % count;
        let load = |index: usize| self.posts[index].connections.load(Relaxed);
        if load(other) < load(here) { other } else { here }
    }

    fn refusals(&self) -> Refusals {
        self.counters.as_ref().map(|counters| counters.refusals.clone()).unwrap_or_default()
    }

    fn connections(&self) -> usize {
        self.posts.iter().map(|post| post.connections.load(Relaxed)).sum()
    }
}

/// One of the threads that serve; see [`workers`].
#[derive(Debug)]
pub struct Worker {
    fleet: Arc<Fleet>,
    index: usize,
    inbox: mpsc::UnboundedReceiver<Handed>,
}

/// Makes the workers of one server, of which each goes to a thread of its own. Without
/// `counters` nothing is counted.
#[must_use]
pub fn workers(
    count: usize,
    limits: Limits,
    counters: Option<Counters>,
    shutdown: Shutdown,
) -> Vec<Worker> {
    let (posts, inboxes): (Vec<_>, Vec<_>) = (0..count.max(1))
        .map(|_| {
            let (inbox, receiver) = mpsc::unbounded_channel();
            (Post { connections: AtomicUsize::new(0), inbox }, receiver)
        })
        .unzip();
    let fleet = Arc::new(Fleet { limits, counters, shutdown, posts });
    let worker = |(index, inbox)| Worker { fleet: Arc::clone(&fleet), index, inbox };
    inboxes.into_iter().enumerate().map(worker).collect()
}

impl Worker {
    /// Serves until draining is over: accepts on `listeners` until draining begins, then waits
    /// for the connections to end, or for the time to be over.
    ///
    /// # Errors
    /// A listener that the runtime cannot take.
    pub async fn serve<H: Handler>(
        self,
        listeners: Vec<Listener>,
        handler: Arc<H>,
    ) -> std::io::Result<()> {
        let Self { fleet, index, mut inbox } = self;
        let crew = Arc::new(Crew {
            builder: builder(&fleet.limits),
            index,
            handler,
            clock: Arc::new(Clock::new()),
            watches: Mutex::default(),
            joined: Notify::new(),
            fleet,
        });
        for listener in listeners {
            let local = listener.local_addr();
            let acceptor = Acceptor::new(listener.into_tokio()?);
            drop(crew.fleet.shutdown.spawn(accept(Arc::clone(&crew), acceptor, local)));
        }
        let mut sweep = pin!(crew.sweep());
        loop {
            tokio::select! {
                () = &mut sweep => return Ok(()),
                Some(handed) = inbox.recv() => match TcpStream::from_std(handed.stream) {
                    Ok(stream) => crew.adopt(stream, handed.addr, handed.local),
                    Err(error) => tracing::debug!(%error, "lost a connection between workers"),
                },
            }
        }
    }
}

/// hyper's settings. Its head timeout is off: it would make a timer for every request.
fn builder(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .header_read_timeout(None)
        .half_close(false)
        .keep_alive(true)
        .auto_date_header(false)
        .max_buf_size(limits.head_size.0.max(BUFFER))
        .max_header_size(limits.head_size.0);
    if limits.head_fields != FREE_FIELDS {
        builder.max_headers(limits.head_fields);
    }
    builder
}

/// A worker at work.
struct Crew<H> {
    fleet: Arc<Fleet>,
    index: usize,
    handler: Arc<H>,
    builder: Builder,
    clock: Arc<Clock>,
    watches: Mutex<Vec<Arc<Watch>>>,
    joined: Notify,
}

/// Accepts on one address until draining begins.
async fn accept<H: Handler>(crew: Arc<Crew<H>>, mut acceptor: Acceptor, bound: SocketAddr) {
    let draining = crew.fleet.shutdown.clone();
    let mut draining = pin!(draining.draining());
    let failed = |error: &std::io::Error| {
        tracing::warn!(%error, "cannot accept connections");
        if let Some(counters) = &crew.fleet.counters {
            counters.accept_errors.inc();
        }
    };
    loop {
        let (stream, addr) = tokio::select! {
            biased;
            () = &mut draining => return,
            accepted = acceptor.next(failed) => accepted,
        };
        let local =
            if bound.ip().is_unspecified() { stream.local_addr().unwrap_or(bound) } else { bound };
        crew.take(stream, addr, local);
    }
}

impl<H: Handler> Crew<H> {
    /// Takes an accepted connection, or hands it to another worker.
    fn take(self: &Arc<Self>, stream: TcpStream, addr: SocketAddr, local: SocketAddr) {
        let fleet = &self.fleet;
        if let Some(counters) = &fleet.counters {
            counters.accepted.inc();
        }
        let starved = !fleet.limits.last_descriptors && descriptors::is_reserved(&stream);
        if starved || fleet.connections() >= fleet.limits.connections {
            fleet.refusals().count(Own::Crowded);
            drop(stream.try_write(&Own::Crowded.problem().to_bytes()));
            return;
        }
        let place = fleet.place(self.index);
        if place == self.index {
            self.adopt(stream, addr, local);
        } else if let Ok(stream) = stream.into_std() {
            // The other worker's inbox closes only when the process ends.
            drop(fleet.posts[place].inbox.send(Handed { stream, addr, local }));
        }
    }

    /// Serves a connection on this worker.
    fn adopt(self: &Arc<Self>, stream: TcpStream, addr: SocketAddr, local: SocketAddr) {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        if watches.is_empty() {
            self.clock.advance();
            self.joined.notify_one();
        }
        let watch = Arc::new(Watch::new(Arc::clone(&self.clock)));
        watches.push(Arc::clone(&watch));
        self.clock.crowd(watches.len());
        drop(watches);
        let seat = Seat::take(Arc::clone(&self.fleet), self.index);
        let socket = Socket::new(stream, Arc::clone(&watch), self.fleet.refusals());
        let peer = Peer { addr, local, watch, label: OnceLock::new() };
        let task = serve_connection(Arc::clone(self), socket, peer, seat);
        drop(self.fleet.shutdown.spawn(task));
    }

    /// Judges the connections a few times a second. Returns when draining or closing is over.
    async fn sweep(&self) {
        let shutdown = &self.fleet.shutdown;
        let tick = self.fleet.limits.tick();
        loop {
            let quiet = self.judge_all();
            match (quiet, shutdown.is_draining()) {
                (true, true) => return,
                (true, false) => tokio::select! {
                    () = self.joined.notified() => {}
                    () = shutdown.draining() => {}
                },
                (false, true) => tokio::time::sleep(tick.min(SHORTEST_TICK * 4)).await,
                (false, false) => tokio::select! {
                    () = tokio::time::sleep(tick) => {}
                    () = shutdown.draining() => {}
                },
            }
        }
    }

    /// True if there is no connection.
    fn judge_all(&self) -> bool {
        self.clock.advance();
        let shutdown = &self.fleet.shutdown;
        let (draining, closing) = (shutdown.is_draining(), shutdown.is_closing());
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.retain(|watch| !watch.is_over());
        self.clock.crowd(watches.len());
        for watch in &*watches {
            if draining {
                watch.drain();
            }
            watch.decide(if closing { Verdict::Close } else { watch.judge(&self.fleet.limits) });
        }
        watches.is_empty()
    }
}

/// Counts a connection while it lives, however it ends.
struct Seat {
    fleet: Arc<Fleet>,
    index: usize,
}

impl Seat {
    fn take(fleet: Arc<Fleet>, index: usize) -> Self {
        fleet.posts[index].connections.fetch_add(1, Relaxed);
        if let Some(counters) = &fleet.counters {
            counters.connections.inc();
        }
        Self { fleet, index }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.fleet.posts[self.index].connections.fetch_sub(1, Relaxed);
        if let Some(counters) = &self.fleet.counters {
            counters.connections.dec();
        }
    }
}

/// What the requests of one connection share.
struct Line<H> {
    handler: Arc<H>,
    peer: Peer,
}

async fn serve_connection<H: Handler>(crew: Arc<Crew<H>>, socket: Socket, peer: Peer, _seat: Seat) {
    let watch = Arc::clone(&peer.watch);
    let line = Arc::new(Line { handler: Arc::clone(&crew.handler), peer });
    let service = service_fn(|request: Request<Incoming>| {
        let line = Arc::clone(&line);
        line.peer.watch.begin(!request.body().is_end_stream());
        async move {
            let response = line.handler.handle(request, &line.peer).await;
            Ok::<_, Infallible>(response.map(|body| Tracked { body, line }))
        }
    });
    let mut connection = pin!(crew.builder.serve_connection(TokioIo::new(socket), service));
    let mut asked_to_drain = false;
    let outcome = poll_fn(|cx| {
        if poll_verdict(&watch, cx) == Verdict::Close {
            return Poll::Ready(Ok(()));
        }
        if !asked_to_drain && watch.is_draining() {
            asked_to_drain = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    })
    .await;
    if let Err(error) = outcome {
        tracing::debug!(peer = %line.peer.addr, %error, "a connection ended early");
    }
}

/// An answer's body that says when it is through.
struct Tracked<H: Handler> {
    body: H::Body,
    line: Arc<Line<H>>,
}

impl<H: Handler> Body for Tracked<H> {
    type Data = Bytes;
    type Error = <H::Body as Body>::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        ready!(this.line.peer.watch.poll_room(cx));
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<H: Handler> Drop for Tracked<H> {
    fn drop(&mut self) {
        self.line.peer.watch.end();
    }
}
