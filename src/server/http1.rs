//! HTTP/1 with a client.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::body::Incoming;
use super::socket::Socket;
use super::watch::{Verdict, poll_verdict};
use super::{Handler, Limits, Peer};

/// hyper reads and buffers at most so much of a body at a time; large reads save a third of the
/// work of a large body, and 64 KiB heads need at least this.
const BUFFER: usize = 128 * 1024;

/// hyper's own limit on header fields, below which it needs no allocation for them.
const FREE_FIELDS: usize = 100;

/// hyper's settings. Its head timeout is off: it would make a timer for every request.
pub(super) fn builder(limits: &Limits) -> Builder {
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

/// What the requests of one connection share.
struct Line<H> {
    handler: Arc<H>,
    peer: Peer,
}

/// Serves a connection to its end. What hyper needs for it is on the heap from here on, so that
/// the task is small while it is made, and while a client has sent nothing.
pub(super) fn serve<H: Handler>(
    builder: &Builder,
    handler: &Arc<H>,
    socket: Socket,
    peer: Peer,
) -> impl Future<Output = ()> + Send + use<H> {
    let watch = Arc::clone(&peer.watch);
    let line = Arc::new(Line { handler: Arc::clone(handler), peer });
    let ends = line.peer.ends;
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let line = Arc::clone(&line);
        line.peer.watch.begin(!request.body().is_end_stream());
        let (mut head, body) = request.into_parts();
        async move {
            let body = Incoming::Http1(body);
            let mut response = line.handler.handle(&mut head, body, &line.peer).await;
            // Only the end of the connection can end it, and hyper would promise to keep that.
            if head.version == Version::HTTP_10 && response.body().size_hint().exact().is_none() {
                *response.version_mut() = Version::HTTP_10;
            }
            if line.peer.watch.is_draining() && response.status() != StatusCode::SWITCHING_PROTOCOLS
            {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response.map(|body| Tracked { body, line }))
        }
    });
    let connection = builder.serve_connection(TokioIo::new(socket), service);
    let mut connection = Box::pin(connection.with_upgrades());
    poll_fn(move |cx| {
        let close = poll_verdict(&watch, cx) == Verdict::Close;
        if close && !watch.is_resting() {
            return Poll::Ready(());
        }
        if let Poll::Ready(outcome) = connection.as_mut().poll(cx) {
            if let Err(error) = outcome {
                tracing::debug!(peer = %ends, %error, "a connection ended early");
            }
            return Poll::Ready(());
        }
        if close && watch.is_resting() {
            connection.as_mut().graceful_shutdown();
            // Nobody waits for a client to take the last words of TLS.
            drop(connection.as_mut().poll(cx));
            return Poll::Ready(());
        }
        if close {
            // A request came with the last look.
            watch.spare();
        }
        Poll::Pending
    })
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
