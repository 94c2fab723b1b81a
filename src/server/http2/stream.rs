//! One exchange on a stream of its own.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, response};
use http_body::Body;

use super::super::body::{Incoming, Inflow};
use super::super::crew::Place;
use super::super::roll::Enrolled;
use super::super::socket::MOST_LINGERING;
use super::super::watch::{Verdict, Watch, poll_verdict};
use super::super::{Handler, Peer};
use super::Session;

/// Fields about one connection, which HTTP/2 forbids (RFC 9113 section 8.2.2).
const ABOUT_ONE_CONNECTION: [http::HeaderName; 6] = [
    CONNECTION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    http::HeaderName::from_static("keep-alive"),
    http::HeaderName::from_static("proxy-connection"),
];

/// One exchange.
pub(super) struct Stream<H: Handler> {
    session: Arc<Session<H>>,
    watch: Arc<Watch>,
    /// Counted and watched for as long as it lives.
    _listed: (Place, Enrolled),
}

/// Why an answer ends early.
enum Cut {
    /// The client is gone, or has taken the request back.
    Client,
    /// The client takes nothing, or sends nothing.
    Slow,
    /// There is no more of the answer.
    Source,
}

impl From<h2::Error> for Cut {
    fn from(_: h2::Error) -> Self {
        Self::Client
    }
}

impl<H: Handler> Stream<H> {
    pub(super) fn new(
        session: Arc<Session<H>>,
        watch: Arc<Watch>,
        listed: (Place, Enrolled),
    ) -> Self {
        if session.streams.fetch_add(1, Relaxed) == 0 {
            session.peer.watch.streams(true);
        }
        Self { session, watch, _listed: listed }
    }

    pub(super) async fn run(self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let method = request.method().clone();
        let waits = request.headers().contains_key(EXPECT);
        let peer = self.peer();
        // On the heap: the task is copied as it is made, and what it is to do is large.
        let (mut head, body) = self.inward(request);
        let handling = Box::pin(self.session.crew.handler.handle(&mut head, body, &peer));
        match self.exchange(handling, method, waits, &mut respond).await {
            Ok(()) => {
                self.session.credit.answered();
                if self.watch.owes_body() {
                    Box::pin(self.linger()).await;
                }
            }
            Err(Cut::Client) => self.session.credit.cancelled(),
            // Never the end of a stream, which would make the answer look whole (P12).
            Err(Cut::Source) => respond.send_reset(Reason::INTERNAL_ERROR),
            Err(Cut::Slow) => respond.send_reset(Reason::CANCEL),
        }
    }

    /// Reads on what the client still sends of a request that is answered, and drops it, until the
    /// sweep says that it was long enough. The stream ends with a reset then (RFC 9113 section
    /// 8.1), which some clients take for a failure where it comes together with the answer.
    async fn linger(&self) {
        self.watch.leave();
        let mut rest = None;
        let mut dropped = 0;
        poll_fn(|cx| {
            if poll_verdict(&self.watch, cx) == Verdict::Close {
                return Poll::Ready(());
            }
            rest = rest.take().or_else(|| self.watch.take_rest());
            let Some(stream) = &mut rest else { return Poll::Pending };
            // Without room for more the client waits, and so does the reset.
            while dropped < MOST_LINGERING {
                let Some(Ok(data)) = ready!(stream.poll_data(cx)) else { return Poll::Ready(()) };
                dropped += data.len();
                if stream.flow_control().release_capacity(data.len()).is_err() {
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        })
        .await;
    }

    /// The same peer, with the stream's own watch.
    fn peer(&self) -> Peer {
        let Peer { ends, secure, labels, .. } = &self.session.peer;
        let watch = Arc::clone(&self.watch);
        Peer { ends: *ends, secure: *secure, watch, labels: labels.clone() }
    }

    /// The request as a handler wants it: the authority is also in `Host`.
    fn inward(&self, request: Request<RecvStream>) -> (Parts, Incoming) {
        let (mut head, body) = request.into_parts();
        if let Some(authority) = head.uri.authority()
            && !head.headers.contains_key(HOST)
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            head.headers.insert(HOST, host);
        }
        let length = head.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        let body = Inflow::new(body, length, Arc::clone(&self.watch));
        (head, Incoming::Http2(Box::new(body)))
    }

    async fn exchange(
        &self,
        mut handling: Pin<Box<impl Future<Output = Response<H::Body>>>>,
        method: Method,
        mut waits: bool,
        respond: &mut SendResponse<Bytes>,
    ) -> Result<(), Cut> {
        let answer = poll_fn(|cx| {
            if poll_verdict(&self.watch, cx) == Verdict::Close {
                return Poll::Ready(Err(Cut::Slow));
            }
            if respond.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Cut::Client));
            }
            let outcome = handling.as_mut().poll(cx).map(Ok);
            if outcome.is_pending() && waits && self.watch.is_called() {
                waits = false;
                respond.send_informational(go_ahead())?;
            }
            outcome
        })
        .await?;
        self.watch.answer();
        let (mut head, mut body) = answer.into_parts();
        let is_whole = outward(&mut head, &body, &method);
        let mut sending = respond.send_response(Response::from_parts(head, ()), is_whole)?;
        if is_whole { Ok(()) } else { self.pipe(&mut body, &mut sending).await }
    }

    /// Sends a body, and no more of it than the client has room for.
    async fn pipe(&self, body: &mut H::Body, to: &mut SendStream<Bytes>) -> Result<(), Cut> {
        loop {
            let frame = poll_fn(|cx| {
                self.poll_open(to, cx)?;
                Pin::new(&mut *body).poll_frame(cx).map(Ok::<_, Cut>)
            });
            let Some(frame) = frame.await? else {
                return Ok(to.send_data(Bytes::new(), true)?);
            };
            match frame.map_err(|_| Cut::Source)?.into_data() {
                Ok(data) => {
                    let is_last = body.is_end_stream();
                    self.send(data, is_last, to).await?;
                    if is_last {
                        return Ok(());
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        return Ok(to.send_trailers(trailers)?);
                    }
                }
            }
        }
    }

    async fn send(
        &self,
        mut data: Bytes,
        is_last: bool,
        to: &mut SendStream<Bytes>,
    ) -> Result<(), Cut> {
        loop {
            to.reserve_capacity(data.len());
            let room = if data.is_empty() { 0 } else { self.room(to).await? };
            let piece = data.split_to(room.min(data.len()));
            self.session.credit.sent(piece.len(), !data.is_empty());
            to.send_data(piece, is_last && data.is_empty())?;
            if data.is_empty() {
                return Ok(());
            }
        }
    }

    /// Waits until the client has room for any bytes.
    async fn room(&self, to: &mut SendStream<Bytes>) -> Result<usize, Cut> {
        let room = poll_fn(|cx| {
            self.poll_open(to, cx)?;
            let room = to.capacity();
            if room > 0 {
                return Poll::Ready(Ok(room));
            }
            self.watch.blocked();
            match ready!(to.poll_capacity(cx)) {
                Some(room) => Poll::Ready(Ok(room?)),
                None => Poll::Ready(Err(Cut::Client)),
            }
        })
        .await?;
        self.watch.sent();
        Ok(room)
    }

    /// Whether the stream is open and moves. Registers for when it is not.
    fn poll_open(&self, to: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Result<(), Cut> {
        if poll_verdict(&self.watch, cx) == Verdict::Close {
            return Err(Cut::Slow);
        }
        if to.poll_reset(cx).is_ready() { Err(Cut::Client) } else { Ok(()) }
    }
}

impl<H: Handler> Drop for Stream<H> {
    fn drop(&mut self) {
        if self.watch.owes_body() {
            drop(self.watch.take_rest());
        }
        if self.session.streams.fetch_sub(1, Relaxed) == 1 {
            self.session.peer.watch.streams(false);
        }
    }
}

fn go_ahead() -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::CONTINUE;
    response
}

/// Makes an answer's head fit for HTTP/2. True if no body follows.
fn outward(head: &mut response::Parts, body: &impl Body, method: &Method) -> bool {
    for name in &ABOUT_ONE_CONNECTION {
        head.headers.remove(name);
    }
    if head.status == StatusCode::NO_CONTENT {
        // RFC 9110 section 8.6; hyper sees to it for HTTP/1.
        head.headers.remove(CONTENT_LENGTH);
    }
    let has_none = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if !has_none
        && let Some(length) = body.size_hint().exact().filter(|length| *length > 0)
        && !head.headers.contains_key(CONTENT_LENGTH)
    {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    has_none || method == Method::HEAD || body.is_end_stream()
}
