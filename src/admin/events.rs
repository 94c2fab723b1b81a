//! The status as a stream of server-sent events: the status every second, and the requests that
//! came to an end meanwhile. A stream ends when the process drains; a new one then gets one look
//! and ends, so that nothing is held up.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::{Desk, caller, plain, requests, respond};
use crate::net::body::Body;
use crate::telemetry::journal::Inspect;

/// Most streams at once.
const MOST: usize = 16;

const PERIOD: Duration = Duration::from_secs(1);

const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");

/// An answer of the admin listener.
#[derive(Debug)]
pub enum Reply {
    /// All of it.
    Whole(Body),
    /// Events as they come.
    Stream(Stream),
}

/// The client's end of a stream.
#[derive(Debug)]
pub struct Stream {
    events: mpsc::Receiver<Bytes>,
    _place: Place,
}

/// One of the places for streams; given back on drop.
#[derive(Debug)]
struct Place(Arc<Desk>);

impl Place {
    fn take(desk: &Arc<Desk>) -> Option<Self> {
        let taken = desk.streams.fetch_update(Relaxed, Relaxed, |n| (n < MOST).then_some(n + 1));
        taken.is_ok().then(|| Self(Arc::clone(desk)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }
}

/// Answers with a stream, if there is room for one more.
pub(super) fn open(desk: &Arc<Desk>, headers: &HeaderMap, head_only: bool) -> Response<Reply> {
    if !caller::is_own(headers) {
        return plain(StatusCode::FORBIDDEN, "not for pages of other sites\n").map(Reply::Whole);
    }
    if head_only {
        return respond(StatusCode::OK, EVENTS, Bytes::new()).map(Reply::Whole);
    }
    let Some(place) = Place::take(desk) else {
        let mut crowded = plain(StatusCode::SERVICE_UNAVAILABLE, "too many streams of events\n");
        crowded.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
        return crowded.map(Reply::Whole);
    };
    let (sender, events) = mpsc::channel(2);
    drop(desk.shutdown.spawn(feed(Arc::clone(desk), sender)));
    let stream = Stream { events, _place: place };
    respond(StatusCode::OK, EVENTS, Bytes::new()).map(|_| Reply::Stream(stream))
}

/// Fills a stream. What a client does not take in time is left out, not kept for it.
async fn feed(desk: Arc<Desk>, sender: mpsc::Sender<Bytes>) {
    let mut seen = 0;
    let mut greeting = "retry: 1000\n\n";
    loop {
        let last = desk.shutdown.is_draining();
        if desk.journal.inspect() != Inspect::None {
            desk.journal.look();
        }
        match sender.try_reserve() {
            Ok(permit) => {
                let news = requests::news(&desk.journal, seen);
                let status = desk.with_status(|status| serde_json::to_string(status));
                let mut text = greeting.to_owned();
                greeting = "";
                text.push_str(&event("status", &status.unwrap_or_default()));
                if let Some((newest, list)) = news {
                    seen = newest;
                    text.push_str(&event("requests", &list));
                }
                permit.send(text.into());
            }
            Err(TrySendError::Full(())) => {}
            Err(TrySendError::Closed(())) => return,
        }
        if last {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = desk.shutdown.draining() => {}
            () = sender.closed() => return,
        }
    }
}

/// JSON on one line has no line end, so that one `data` line holds it.
fn event(name: &str, data: &str) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

impl http_body::Body for Reply {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx),
            Self::Stream(stream) => {
                stream.events.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
