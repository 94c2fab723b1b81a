//! HTTP/2 with a client (RFC 9113): one task for the connection, one for each stream.
//!
//! It stands on the `h2` crate and not on hyper's server, of which a proxy would get too little:
//! hyper takes a request that is reset with `NO_ERROR` for one that is complete, buffers more of
//! an answer than the client has room for, and cannot give up a single stream that stands still.

mod stream;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream};
use http::header::{CONTENT_LENGTH, COOKIE};
use http::{HeaderMap, HeaderValue, Request, Response};

use self::stream::Stream;
use super::crew::Crew;
use super::meter::{Credit, Metered};
use super::problem::Own;
use super::socket::Socket;
use super::watch::{Verdict, Watch, poll_verdict};
use super::{Handler, Limits, Peer};

/// What a client may send of one body before it is read. All that is given away here can be used
/// up by a client that sends and an upstream that does not read.
const STREAM_WINDOW: u32 = 64 * 1024;

/// The same of all bodies together, so that a few that nobody reads do not hold up the rest.
const CONNECTION_WINDOW: u32 = 512 * 1024;

/// Most bytes of an answer that wait in a stream for the socket to take them.
const SEND_BUFFER: usize = 64 * 1024;

/// The protocol's smallest.
const FRAME: u32 = 16 * 1024;

/// Streams that the client opened and reset before we looked at them.
const MOST_UNSEEN_RESETS: usize = 20;

/// Streams that broke the protocol, each by itself.
const MOST_FAULTY: usize = 256;

fn builder(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.head_size.0).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(MOST_UNSEEN_RESETS)
        .max_local_error_reset_streams(Some(MOST_FAULTY))
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

/// What the streams of one connection share.
struct Session<H> {
    crew: Arc<Crew<H>>,
    peer: Peer,
    credit: Arc<Credit>,
    streams: AtomicUsize,
}

/// Serves a connection to its end.
pub(super) async fn serve<H: Handler>(crew: Arc<Crew<H>>, socket: Socket, peer: Peer) {
    let watch = Arc::clone(&peer.watch);
    watch.streams(false);
    let credit = Arc::new(Credit::new(Arc::clone(&crew.clock)));
    let metered = Metered::new(socket, Arc::clone(&credit));
    let mut handshake = pin!(builder(&crew.fleet.limits).handshake(metered));
    let begun = poll_fn(|cx| {
        if poll_verdict(&watch, cx) == Verdict::Close {
            return Poll::Ready(None);
        }
        handshake.as_mut().poll(cx).map(Some)
    });
    let mut connection = match begun.await {
        Some(Ok(connection)) => connection,
        Some(Err(error)) => return tracing::debug!(peer = %peer.ends, %error, "no HTTP/2"),
        None => return,
    };
    let ping = connection.ping_pong();
    let session = Session { crew, peer, credit, streams: AtomicUsize::new(0) };
    let session = Arc::new(session);
    let mut course = Course { connection, ping, session, end: End::Open };
    if let Err(error) = poll_fn(|cx| course.poll(cx)).await {
        // The library has limits of its own on frames without end.
        if error.reason() == Some(Reason::ENHANCE_YOUR_CALM) && error.is_library() {
            course.session.crew.fleet.refusals().flood();
        }
        let peer = course.session.peer.ends;
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}

/// How far the end of a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    /// The client was asked to open no further stream.
    Draining,
    /// The client was told that this is the end.
    Told,
}

/// A connection under way.
struct Course<H> {
    connection: Connection<Metered, Bytes>,
    ping: Option<PingPong>,
    session: Arc<Session<H>>,
    end: End,
}

impl<H: Handler> Course<H> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        let session = Arc::clone(&self.session);
        let watch = &session.peer.watch;
        if poll_verdict(watch, cx) == Verdict::Close {
            if self.end == End::Told {
                return Poll::Ready(Ok(()));
            }
            self.tell(Reason::NO_ERROR);
        } else if watch.is_draining() && self.end == End::Open {
            self.end = End::Draining;
            self.connection.graceful_shutdown();
        }
        self.poll_ping(cx, watch);
        loop {
            let next = self.connection.poll_accept(cx);
            if session.credit.is_spent() && self.end != End::Told {
                session.crew.fleet.refusals().flood();
                self.tell(Reason::ENHANCE_YOUR_CALM);
                continue;
            }
            match ready!(next) {
                Some(Ok((request, respond))) => begin(&session, request, respond),
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Ends the connection as soon as the client knows, and soon even if it does not.
    fn tell(&mut self, reason: Reason) {
        self.end = End::Told;
        self.session.peer.watch.leave();
        self.connection.abrupt_shutdown(reason);
    }

    /// Asks a silent client whether it is there; any sign of life will do.
    fn poll_ping(&mut self, cx: &mut Context<'_>, watch: &Watch) {
        let Some(ping) = &mut self.ping else { return };
        // An answer makes room for the next question, and has been noted as bytes that came.
        drop(ping.poll_pong(cx));
        if watch.take_ask()
            && let Err(error) = ping.send_ping(Ping::opaque())
        {
            tracing::trace!(%error, "asked already");
        }
    }
}

/// Starts a stream's own task.
fn begin<H: Handler>(
    session: &Arc<Session<H>>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let fleet = &session.crew.fleet;
    if !is_sound(&request) {
        respond.send_reset(Reason::PROTOCOL_ERROR);
        return;
    }
    let fits = fits(request.headers(), fleet.limits.head_fields);
    let place = if fits { session.crew.place().ok_or(Own::Crowded) } else { Err(Own::LargeHead) };
    let place = match place {
        Ok(place) => place,
        Err(own) => {
            fleet.refusals().count(own);
            if let Err(error) = refuse(own, &mut respond) {
                tracing::trace!(%error, "a stream is gone");
            }
            return;
        }
    };
    let clock = Arc::clone(&session.crew.clock);
    let watch = Arc::new(Watch::of_stream(clock, !request.body().is_end_stream()));
    let enrolled = session.crew.roll.enroll(&watch);
    let stream = Stream::new(Arc::clone(session), watch, (place, enrolled));
    drop(fleet.shutdown.spawn(stream.run(request, respond)));
}

/// Whether there are `most` fields at most. The crumbs of a cookie, which are sent apart for the sake
/// of compression, are one (RFC 9113 section 8.2.3).
fn fits(fields: &HeaderMap, most: usize) -> bool {
    let further = || fields.get_all(COOKIE).iter().count().saturating_sub(1);
    fields.len() <= most || fields.len() - further() <= most
}

/// Whether no value begins or ends with a blank (RFC 9113 section 8.2.1), which HTTP/1 would cut
/// off, and the path is one. The rest of the rules is kept by the library.
fn is_sound<B>(request: &Request<B>) -> bool {
    let target = request.uri().path_and_query();
    if target.is_some_and(|target| !target.path().starts_with('/') && target.as_str() != "*") {
        return false;
    }
    !is_padded(request.headers())
}

/// Whether a value begins or ends with a blank.
pub fn is_padded(fields: &HeaderMap) -> bool {
    let is_blank = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    let mut values = fields.values().map(HeaderValue::as_bytes);
    values.any(|v| is_blank(v.first()) || is_blank(v.last()))
}

/// Answers in place of a handler.
fn refuse(own: Own, respond: &mut SendResponse<Bytes>) -> Result<(), h2::Error> {
    let (mut head, body) = own.problem().to_response().into_parts();
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    let mut sending = respond.send_response(Response::from_parts(head, ()), false)?;
    sending.send_data(body, true)
}
