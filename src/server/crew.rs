//! A worker at work: accepts, serves connections, sweeps over them.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::listener::Acceptor;
use super::problem::Own;
use super::socket::Socket;
use super::watch::{Clock, Verdict, Watch, poll_verdict};
use super::{Fleet, Handed, Handler, Limits, Peer, SHORTEST_TICK};
use crate::vocab::descriptors;

/// hyper reads and buffers at most so much of a body at a time; large reads save a third of the
/// work of a large body, and 64 KiB heads need at least this.
const BUFFER: usize = 128 * 1024;

/// hyper's own limit on header fields, below which it needs no allocation for them.
const FREE_FIELDS: usize = 100;

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
pub(super) struct Crew<H> {
    fleet: Arc<Fleet>,
    index: usize,
    handler: Arc<H>,
    builder: Builder,
    clock: Arc<Clock>,
    watches: Mutex<Vec<Arc<Watch>>>,
    joined: Notify,
}

/// Accepts on one address until draining begins.
pub(super) async fn accept<H: Handler>(
    crew: Arc<Crew<H>>,
    mut acceptor: Acceptor,
    bound: SocketAddr,
) {
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
    pub(super) fn new(fleet: Arc<Fleet>, index: usize, handler: Arc<H>) -> Self {
        Self {
            builder: builder(&fleet.limits),
            index,
            handler,
            clock: Arc::new(Clock::new()),
            watches: Mutex::default(),
            joined: Notify::new(),
            fleet,
        }
    }

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
    pub(super) fn adopt(self: &Arc<Self>, stream: TcpStream, addr: SocketAddr, local: SocketAddr) {
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
        let socket = Socket::new(stream, Arc::clone(&watch), self.fleet.refusals(), seat);
        let peer = Peer { addr, local, watch, label: OnceLock::new() };
        let task = serve_connection(Arc::clone(self), socket, peer);
        drop(self.fleet.shutdown.spawn(task));
    }

    /// Judges the connections a few times a second. Returns when draining or closing is over.
    pub(super) async fn sweep(&self) {
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
#[derive(Debug)]
pub(super) struct Seat {
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

async fn serve_connection<H: Handler>(crew: Arc<Crew<H>>, socket: Socket, peer: Peer) {
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
    let connection = crew.builder.serve_connection(TokioIo::new(socket), service);
    let mut connection = pin!(connection.with_upgrades());
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
