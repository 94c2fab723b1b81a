//! One request and its answer on a stream of their own.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, Version};
use http_body::{Body as _, Frame, SizeHint};
use tokio::task::AbortHandle;

use super::Seat;
use crate::proxy::download::Cut;
use crate::proxy::headers::Outbound;
use crate::proxy::replay::Upload;
use crate::server::{Broken, is_padded};
use crate::shutdown::Shutdown;

const PADDED: Cut = Cut::Malformed("has a value that begins or ends with a blank");

/// A request without an answer.
pub(in crate::proxy) struct Unanswered {
    pub(in crate::proxy) cut: Cut,
    /// The body from its beginning, if the upstream has done nothing about the request and
    /// nothing of the body is lost.
    pub(in crate::proxy) unprocessed: Option<Upload>,
    /// Whether the connection had carried an exchange before: most likely the upstream closed it
    /// before it saw this one.
    pub(in crate::proxy) reused: bool,
}

impl Seat {
    /// Sends a request and waits for the head of its answer. Dropping the future, or the answer
    /// before its end, resets the stream.
    ///
    /// # Errors
    /// The stream was reset, or the connection ended.
    pub(in crate::proxy) async fn send(
        self,
        outbound: &Outbound<'_>,
        upload: Upload,
        is_tls: bool,
        tasks: &Shutdown,
    ) -> Result<Response<Stream>, Unanswered> {
        let reused = self.connection.used.swap(true, Relaxed);
        let failed = |cut, unprocessed| Unanswered { cut, unprocessed, reused };
        let Some(head) = converted(outbound, &upload, is_tls) else {
            return Err(failed(Cut::Malformed("cannot be asked for by HTTP/2"), None));
        };
        let done = upload.is_end_stream();
        let mut sender = self.connection.sender.clone();
        let opened = match poll_fn(|cx| sender.poll_ready(cx)).await {
            Ok(()) => sender.send_request(head, done),
            Err(error) => Err(error),
        };
        drop(sender);
        let (answer, stream) = match opened {
            Ok(both) => both,
            // Nothing was written.
            Err(error) => return Err(failed(Cut::Http2(error), upload.rewound())),
        };
        let mut pump = Pump { upload, stream, chunk: None, done };
        let outcome = {
            let mut answer = pin!(answer);
            poll_fn(|cx| {
                if let Poll::Ready(Err(broken)) = pump.poll(cx) {
                    return Poll::Ready(Err(Cut::Upload(broken)));
                }
                answer.as_mut().poll(cx).map_err(Cut::Http2)
            })
            .await
        };
        match outcome {
            Ok(response) if response.headers().len() > self.connection.most_fields => {
                Err(failed(Cut::Malformed("has too many header fields"), None))
            }
            Ok(response) if response.headers().get_all(CONTENT_LENGTH).iter().count() > 1 => {
                Err(failed(Cut::Malformed("has two lengths"), None))
            }
            // Who passed it on would be at fault itself (RFC 9113 sections 8.1.1 and 8.2.1).
            Ok(response) if is_padded(response.headers()) => Err(failed(PADDED, None)),
            Ok(response) => {
                if let Some(health) = &self.connection.health {
                    health.answered();
                }
                // The rest of the request's body must not wait for a client that reads slowly.
                let pump = (!pump.done).then(|| Ends(tasks.spawn(pump.run()).abort_handle()));
                let length = response.headers().get(CONTENT_LENGTH);
                let left = length.and_then(|length| length.to_str().ok()?.trim().parse().ok());
                Ok(response.map(|recv| Stream {
                    recv,
                    left,
                    ended: false,
                    cut: None,
                    held: Some((self, pump)),
                }))
            }
            Err(cut) if cut.is_unprocessed() => Err(failed(cut, pump.upload.rewound())),
            Err(cut) => Err(failed(cut, None)),
        }
    }
}

/// The head as HTTP/2 has it (RFC 9113 section 8.3.1): the authority is no field, and there is
/// nothing about the connection. None if it names no authority.
fn converted(outbound: &Outbound<'_>, upload: &Upload, is_tls: bool) -> Option<Request<()>> {
    let mut head = Request::new(());
    *head.method_mut() = outbound.method().clone();
    let headers = head.headers_mut();
    outbound.write(upload.size_hint().exact() == Some(0), headers);
    let authority = Authority::try_from(headers.remove(HOST)?.as_bytes()).ok()?;
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    if let Some(length) = upload.size_hint().exact().filter(|length| *length > 0) {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    let mut target = outbound.target().clone().into_parts();
    target.scheme = Some(if is_tls { Scheme::HTTPS } else { Scheme::HTTP });
    target.authority = Some(authority);
    *head.uri_mut() = Uri::from_parts(target).ok()?;
    *head.version_mut() = Version::HTTP_2;
    Some(head)
}

/// Moves a request's body into its stream.
struct Pump {
    upload: Upload,
    stream: SendStream<Bytes>,
    /// Read, but not sent yet; and whether it is the last.
    chunk: Option<(Bytes, bool)>,
    done: bool,
}

impl Pump {
    async fn run(mut self) {
        if let Err(error) = poll_fn(|cx| self.poll(cx)).await {
            tracing::debug!(%error, "a request's body broke off behind its answer's head");
            self.stream.send_reset(Reason::CANCEL);
        }
    }

    /// Ready when the upstream has all of it or wants no more.
    ///
    /// # Errors
    /// The client's body broke off.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if !self.done {
            ready!(self.poll_more(cx))?;
            self.done = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            // What a reset means is for the answer to say: an early one may be complete (P20).
            if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            if let Some((chunk, last)) = self.chunk.take() {
                if !chunk.is_empty() && self.stream.capacity() == 0 {
                    match self.stream.poll_capacity(cx) {
                        Poll::Ready(Some(Ok(_))) => {}
                        Poll::Ready(_) => return Poll::Ready(Ok(())),
                        Poll::Pending => {
                            self.chunk = Some((chunk, last));
                            return Poll::Pending;
                        }
                    }
                    self.chunk = Some((chunk, last));
                    continue;
                }
                if self.stream.send_data(chunk, last).is_err() || last {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            match ready!(Pin::new(&mut self.upload).poll_frame(cx)).transpose()? {
                None => self.chunk = Some((Bytes::new(), true)),
                Some(frame) => match frame.into_data() {
                    Ok(chunk) => {
                        // The least that has the connection ask for room: h2 asks for the rest.
                        self.stream.reserve_capacity(usize::from(!chunk.is_empty()));
                        self.chunk = Some((chunk, self.upload.is_end_stream()));
                    }
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            // A stream that was reset meanwhile takes none.
                            self.stream.send_trailers(trailers).ok();
                        }
                        return Poll::Ready(Ok(()));
                    }
                },
            }
        }
    }
}

/// Ends a task with the value.
#[derive(Debug)]
struct Ends(AbortHandle);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An answer's body.
#[derive(Debug)]
pub(in crate::proxy) struct Stream {
    recv: RecvStream,
    /// Bytes that are still to come, if they were announced.
    left: Option<u64>,
    ended: bool,
    /// How it broke off, before that is told.
    cut: Option<Cut>,
    /// The place on the connection, and what still sends the request's body.
    held: Option<(Seat, Option<Ends>)>,
}

impl Stream {
    /// Gives the place on the connection back.
    pub(in crate::proxy) fn release(&mut self) {
        self.held = None;
    }

    pub(in crate::proxy) const fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Whether every byte has come.
    pub(in crate::proxy) fn is_complete(&self) -> bool {
        self.ended || self.recv.is_end_stream()
    }

    /// The next part of the body. Where it breaks off, whoever relays it is first given the time to
    /// pass on what came before.
    pub(in crate::proxy) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(cut) = self.cut.take() {
            return Poll::Ready(Some(Err(cut)));
        }
        let part = ready!(self.poll_part(cx));
        let Some(Err(cut)) = part else { return Poll::Ready(part) };
        self.cut = Some(cut);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        while let Some(chunk) = ready!(self.recv.poll_data(cx)) {
            let chunk = match chunk {
                Ok(chunk) if chunk.is_empty() => continue,
                Ok(chunk) => chunk,
                Err(error) => return Poll::Ready(Some(Err(Cut::Http2(error)))),
            };
            self.left = self.left.map(|left| left.saturating_sub(chunk.len() as u64));
            // It was within the window, or h2 would not have handed it out.
            self.recv.flow_control().release_capacity(chunk.len()).ok();
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        let trailers = match ready!(self.recv.poll_trailers(cx)) {
            Ok(Some(trailers)) if is_padded(&trailers) => return Poll::Ready(Some(Err(PADDED))),
            Ok(trailers) => trailers,
            Err(error) => return Poll::Ready(Some(Err(Cut::Http2(error)))),
        };
        self.ended = true;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    pub(in crate::proxy) fn size_hint(&self) -> SizeHint {
        match self.left {
            _ if self.is_complete() => SizeHint::with_exact(0),
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::default(),
        }
    }
}
