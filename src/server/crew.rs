//! A worker at work: accepts, serves connections, sweeps over them.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

use hyper::server::conn::http1::Builder;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::mpsc::error::SendError;
use tokio_util::either::Either;

use super::clock::Clock;
use super::handshake::{self, Misfit};
use super::listener::{Accepted, Acceptor};
use super::problem::Own;
use super::roll::{Enrolled, Roll};
use super::socket::{Protocol, Socket};
use super::stream::Stream;
use super::watch::{Verdict, Watch};
use super::{Ends, Fleet, Handed, Handler, Labels, Peer, SHORTEST_TICK, http1, http2};
use crate::vocab::descriptors;

/// A worker at work.
pub(super) struct Crew<H> {
    pub(super) fleet: Arc<Fleet>,
    index: usize,
    pub(super) handler: Arc<H>,
    builder: Builder,
    pub(super) clock: Arc<Clock>,
    pub(super) roll: Arc<Roll>,
}

/// Accepts on one address until draining begins, and then whoever has come until then.
pub(super) async fn accept<H: Handler>(crew: Arc<Crew<H>>, mut acceptor: Acceptor) {
    let draining = crew.fleet.shutdown.clone();
    let mut draining = pin!(draining.draining());
    let failed = |error: &std::io::Error| {
        tracing::warn!(%error, "cannot accept connections");
        if let Some(counters) = &crew.fleet.counters {
            counters.accept_errors.inc();
        }
    };
    poll_fn(|cx| {
        if draining.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        // All that wait: the runtime sees to it that others have their turn.
        while let Poll::Ready(accepted) = acceptor.poll_next(cx, failed) {
            crew.take(accepted);
        }
        Poll::Pending
    })
    .await;
    // To them the connection stands: the kernel would reset it under their first request.
    for accepted in acceptor.close() {
        crew.take(accepted);
    }
}

impl<H: Handler> Crew<H> {
    pub(super) fn new(fleet: Arc<Fleet>, index: usize, handler: Arc<H>) -> Self {
        let clock = Arc::new(Clock::new());
        let roll = Arc::new(Roll::new(Arc::clone(&clock)));
        Self { builder: http1::builder(&fleet.limits), index, handler, clock, roll, fleet }
    }

    /// Takes an accepted connection, or hands it to another worker.
    fn take(self: &Arc<Self>, accepted: Accepted) {
        let fleet = &self.fleet;
        if let Some(counters) = &fleet.counters {
            counters.accepted.inc();
        }
        let starved = !fleet.limits.last_descriptors && descriptors::is_reserved(&accepted.stream);
        if starved || fleet.connections() >= fleet.limits.connections {
            fleet.refusals().count(Own::Crowded);
            if accepted.tls.is_none() {
                accepted.stream.try_write(&Own::Crowded.problem().to_bytes());
            }
            return;
        }
        let place = fleet.place(self.index);
        if place == self.index {
            self.adopt(accepted);
            return;
        }
        let Accepted { stream, ends, tls } = accepted;
        if let Ok(stream) = stream.into_parcel()
            && let Err(SendError(handed)) =
                fleet.posts[place].inbox.send(Handed { stream, ends, tls })
        {
            // The other worker has drained.
            self.receive(handed);
        }
    }

    /// Takes over a connection that another worker has accepted.
    pub(super) fn receive(self: &Arc<Self>, handed: Handed) {
        let Handed { stream, ends, tls } = handed;
        match Stream::from_parcel(stream) {
            Ok(stream) => self.adopt(Accepted { stream, ends, tls }),
            Err(error) => tracing::debug!(%error, "lost a connection between workers"),
        }
    }

    /// Serves a connection on this worker.
    fn adopt(self: &Arc<Self>, accepted: Accepted) {
        let (watch, enrolled) = self.roll.begin();
        let seat = Seat::take(Arc::clone(&self.fleet), self.index, enrolled);
        drop(self.fleet.shutdown.spawn(serve_connection(Arc::clone(self), accepted, watch, seat)));
    }

    /// A place for a request over HTTP/2; none if there are too many.
    pub(super) fn place(&self) -> Option<Place> {
        (self.fleet.requests() < self.fleet.limits.connections)
            .then(|| Place::take(Arc::clone(&self.fleet), self.index))
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
                    () = self.roll.joined() => {}
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
        let shutdown = &self.fleet.shutdown;
        let (draining, closing) = (shutdown.is_draining(), shutdown.is_closing());
        self.roll.sweep(|watch| {
            if draining {
                watch.drain();
            }
            watch.decide(if closing { Verdict::Close } else { watch.judge(&self.fleet.limits) });
        })
    }
}

/// Counts a connection, and has it watched, while it lives, however it ends.
#[derive(Debug)]
pub(super) struct Seat {
    fleet: Arc<Fleet>,
    index: usize,
    _enrolled: Enrolled,
}

impl Seat {
    fn take(fleet: Arc<Fleet>, index: usize, enrolled: Enrolled) -> Self {
        fleet.posts[index].connections.fetch_add(1, Relaxed);
        if let Some(counters) = &fleet.counters {
            counters.connections.inc();
        }
        Self { fleet, index, _enrolled: enrolled }
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

/// Counts a stream of HTTP/2 while its request is under way.
#[derive(Debug)]
pub(super) struct Place {
    fleet: Arc<Fleet>,
    index: usize,
}

impl Place {
    fn take(fleet: Arc<Fleet>, index: usize) -> Self {
        fleet.posts[index].requests.fetch_add(1, Relaxed);
        Self { fleet, index }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.fleet.posts[self.index].requests.fetch_sub(1, Relaxed);
    }
}

/// Serves a connection to its end. Not `async` itself, for a future holds what it is given even
/// when that was taken apart.
fn serve_connection<H: Handler>(
    crew: Arc<Crew<H>>,
    accepted: Accepted,
    watch: Arc<Watch>,
    seat: Seat,
) -> impl Future<Output = ()> + Send {
    let Accepted { stream, ends, tls } = accepted;
    match (stream, tls) {
        (Stream::Tcp(tcp), Some(config)) => {
            Either::Left(Box::pin(serve_secure(crew, tcp, config, ends, watch, seat)))
        }
        (stream, _) => Either::Right(serve(crew, stream, ends, watch, seat)),
    }
}

async fn serve_secure<H: Handler>(
    crew: Arc<Crew<H>>,
    tcp: TcpStream,
    config: Arc<ServerConfig>,
    ends: Ends,
    watch: Arc<Watch>,
    seat: Seat,
) {
    match handshake::shake(tcp, config, &watch).await {
        Ok(stream) => serve(crew, stream, ends, watch, seat).await,
        Err(Misfit::Plain(tcp)) => {
            let socket = Socket::new(Stream::Tcp(tcp), watch, crew.fleet.refusals(), seat);
            socket.refuse(Own::NoTls).await;
        }
        Err(Misfit::Failed(error)) => tracing::debug!(peer = %ends, %error, "no TLS"),
    }
}

/// The handshake of TLS settles which protocol the client speaks (RFC 9113 section 3.2); where it
/// does not, the client's first bytes tell (section 3.3).
fn serve<H: Handler>(
    crew: Arc<Crew<H>>,
    stream: Stream,
    ends: Ends,
    watch: Arc<Watch>,
    seat: Seat,
) -> impl Future<Output = ()> + Send {
    let (agreed, secure) = (stream.agreed(), matches!(stream, Stream::Tls(_)));
    let mut socket = Socket::new(stream, Arc::clone(&watch), crew.fleet.refusals(), seat);
    async move {
        let protocol = socket.begin().await.map(|found| agreed.unwrap_or(found));
        let peer = Peer { ends, secure, watch, labels: Labels::default() };
        match protocol {
            Some(Protocol::Http1) => http1::serve(&crew.builder, &crew.handler, socket, peer).await,
            // Boxed, as it is large and most connections speak HTTP/1.
            Some(Protocol::Http2) => Box::pin(http2::serve(crew, socket, peer)).await,
            None => {}
        }
    }
}
