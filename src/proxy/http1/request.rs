//! A request on its way out: its head, and its body in the framing that the head announces.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::TRAILER;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use http_body::{Body as _, Frame};
use tokio::io::AsyncWrite;

use super::body::{Framing, Part};
use crate::proxy::headers::{Outbound, Sink};
use crate::proxy::replay::Upload;
use crate::server::Broken;

/// So much of a body is copied behind the head: one plain send costs the kernel less than one
/// of several pieces.
const COPIED: usize = 2048;

/// With so much ready and unsent, no more of the body is taken.
const MOST_READY: usize = 16 * 1024;

/// A larger memory for heads is not kept.
const MOST_KEPT: usize = 64 * 1024;

thread_local! {
    /// Where the heads of this thread's requests are put together. Whoever uses it takes it, so
    /// that a request which cannot be written at once keeps it.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes that are ready, of which so many are sent.
#[derive(Debug, Default)]
struct Ready {
    bytes: Vec<u8>,
    sent: usize,
}

/// What is left of a request.
#[derive(Debug)]
pub(in crate::proxy) struct Outgoing {
    /// It is HEAD, so that no body follows the answer's head.
    is_head: bool,
    ready: Ready,
    /// A piece of the body that follows them, and what frames it at its end.
    piece: Bytes,
    tail: &'static [u8],
    rest: Rest,
    upload: Upload,
    /// The trailers that the head announces; no others follow.
    trailers: Vec<HeaderName>,
    /// What was written may still be within the connection.
    unflushed: bool,
    /// There until a byte is written.
    unbegun: Option<Unbegun>,
}

/// What of the bytes that are ready is the head, and whether the rest is framed in chunks.
#[derive(Debug, Clone, Copy)]
struct Unbegun {
    head: usize,
    chunked: bool,
}

/// How the rest of the body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Nothing,
    /// So many bytes.
    Length(u64),
    Chunks,
}

/// Why a request could not be sent.
#[derive(Debug)]
pub(super) enum Unsent {
    /// Its own body broke off.
    Upload(Broken),
    /// Its own body is not as long as was said.
    Length,
    /// The connection.
    Io(io::Error),
}

impl Ready {
    const NONE: Self = Self { bytes: Vec::new(), sent: 0 };

    fn left(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Leaves the memory to the next request.
    fn release(&mut self) {
        let mut spare = std::mem::take(&mut self.bytes);
        self.sent = 0;
        if (1..=MOST_KEPT).contains(&spare.capacity()) {
            spare.clear();
            // While a thread ends, nothing is kept any more.
            SPARE.try_with(|place| place.set(spare)).unwrap_or_default();
        }
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.release();
    }
}

impl Outgoing {
    pub(super) const fn nothing() -> Self {
        Self {
            is_head: false,
            ready: Ready::NONE,
            piece: Bytes::new(),
            tail: b"",
            rest: Rest::Nothing,
            upload: Upload::empty(),
            trailers: Vec::new(),
            unflushed: false,
            unbegun: None,
        }
    }

    /// A request with this head, whose body is the `upload`.
    pub(in crate::proxy) fn new(head: &Outbound<'_>, upload: Upload) -> Self {
        Self::with(head.method(), head.target(), upload, |is_empty, lines| {
            head.write(is_empty, lines);
        })
    }

    /// The same with the fields that `write` writes, which is told whether the body is empty.
    pub(super) fn with(
        method: &Method,
        target: &Uri,
        upload: Upload,
        write: impl FnOnce(bool, &mut Lines<'_>),
    ) -> Self {
        let rest = match upload.size_hint().exact() {
            Some(0) => Rest::Nothing,
            Some(length) => Rest::Length(length),
            None => Rest::Chunks,
        };
        let mut bytes = SPARE.take();
        begin(&mut bytes, method, target);
        let mut lines =
            Lines { out: &mut bytes, announces: rest == Rest::Chunks, trailers: Vec::new() };
        write(rest == Rest::Nothing, &mut lines);
        let trailers = lines.trailers;
        end(&mut bytes, rest);
        let is_head = *method == Method::HEAD;
        let unbegun = Some(Unbegun { head: bytes.len(), chunked: rest == Rest::Chunks });
        let ready = Ready { bytes, sent: 0 };
        Self { is_head, ready, rest, upload, trailers, unbegun, ..Self::nothing() }
    }

    /// Whether any byte of it is written.
    pub(super) const fn is_begun(&self) -> bool {
        self.unbegun.is_none()
    }

    /// The body from its beginning, if no byte of the request is written and nothing of the body
    /// is lost. There is nothing left to send then.
    pub(super) fn take_back(&mut self) -> Option<Upload> {
        let Unbegun { head, chunked } = self.unbegun.take()?;
        let piece = std::mem::take(&mut self.piece);
        let mut staged = Bytes::from([self.ready.bytes.get(head..)?, &piece].concat());
        let upload = std::mem::replace(&mut self.upload, Upload::empty());
        self.give_up();
        let mut framing = if chunked { Framing::chunked() } else { Framing::UntilEnd };
        let mut chunks = Vec::new();
        loop {
            match framing.take(&mut staged) {
                Ok(Part::Data(data)) => chunks.push(data),
                Ok(Part::End | Part::More) => return upload.behind(chunks),
                Ok(Part::Trailers(_)) | Err(_) => return None,
            }
        }
    }

    /// Whether the answer's head is all of the answer.
    pub(super) const fn is_head(&self) -> bool {
        self.is_head
    }

    /// Whether everything is sent.
    pub(super) fn is_over(&self) -> bool {
        self.rest == Rest::Nothing && self.is_written() && !self.unflushed
    }

    /// Gives up what is not sent yet.
    pub(super) fn give_up(&mut self) {
        *self = Self { is_head: self.is_head, ..Self::nothing() };
    }

    fn is_written(&self) -> bool {
        self.ready.left().is_empty() && self.piece.is_empty() && self.tail.is_empty()
    }

    /// Sends what can be sent now; ready when that is everything.
    pub(super) fn poll_send<T: AsyncWrite + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Unsent>> {
        loop {
            let starved = self.poll_stage(cx)?.is_pending();
            ready!(self.poll_write(io, cx)).map_err(Unsent::Io)?;
            if self.rest == Rest::Nothing {
                self.ready.release();
                return Poll::Ready(Ok(()));
            }
            if starved {
                return Poll::Pending;
            }
        }
    }

    /// Makes the next piece of the body ready, where there is room for one.
    fn poll_stage(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        let has_room =
            self.piece.is_empty() && self.tail.is_empty() && self.ready.bytes.len() < MOST_READY;
        if self.rest == Rest::Nothing || !has_room {
            return Poll::Ready(Ok(()));
        }
        let frame = ready!(Pin::new(&mut self.upload).poll_frame(cx));
        Poll::Ready(match frame.transpose().map_err(Unsent::Upload)?.map(Frame::into_data) {
            Some(Ok(data)) => self.stage(data),
            Some(Err(frame)) => self.finish(frame.into_trailers().unwrap_or_default()),
            None => self.finish(HeaderMap::new()),
        })
    }

    fn stage(&mut self, data: Bytes) -> Result<(), Unsent> {
        match self.rest {
            _ if data.is_empty() => return Ok(()),
            Rest::Nothing => return Err(Unsent::Length),
            Rest::Length(left) => {
                // One byte more would be the beginning of the next request.
                let left = left.checked_sub(data.len() as u64).ok_or(Unsent::Length)?;
                self.rest = Rest::Length(left);
                if left == 0 {
                    self.end();
                }
            }
            Rest::Chunks => {
                push_number(&mut self.ready.bytes, data.len() as u64, 16);
                self.ready.bytes.extend_from_slice(b"\r\n");
                self.tail = b"\r\n";
            }
        }
        if data.len() <= COPIED {
            self.ready.bytes.extend_from_slice(&data);
            self.ready.bytes.extend_from_slice(std::mem::take(&mut self.tail));
        } else {
            self.piece = data;
        }
        Ok(())
    }

    /// Ends the body.
    fn finish(&mut self, trailers: HeaderMap) -> Result<(), Unsent> {
        if let Rest::Length(_) = self.rest {
            // With the rest missing, the next request would be taken for it.
            return Err(Unsent::Length);
        }
        self.ready.bytes.extend_from_slice(b"0\r\n");
        for (name, value) in &trailers {
            if self.trailers.contains(name) {
                write_field(&mut self.ready.bytes, name, value);
            }
        }
        self.ready.bytes.extend_from_slice(b"\r\n");
        self.end();
        Ok(())
    }

    fn end(&mut self) {
        self.rest = Rest::Nothing;
        self.upload = Upload::empty();
    }

    fn poll_write<T: AsyncWrite + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_written() {
            let io = Pin::new(&mut *io);
            let ready = self.ready.left();
            let outcome = if self.piece.is_empty() && self.tail.is_empty() {
                io.poll_write(cx, ready)
            } else {
                let pieces = [ready, &self.piece, self.tail].map(IoSlice::new);
                io.poll_write_vectored(cx, &pieces[usize::from(ready.is_empty())..])
            };
            let count = ready!(outcome)?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.advance(count);
        }
        if self.unflushed {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// So many bytes more are written.
    fn advance(&mut self, mut count: usize) {
        self.unbegun = None;
        let of_ready = count.min(self.ready.left().len());
        self.ready.sent += of_ready;
        if self.ready.left().is_empty() {
            self.ready.bytes.clear();
            self.ready.sent = 0;
        }
        count -= of_ready;
        let of_piece = count.min(self.piece.len());
        self.piece.advance(of_piece);
        self.tail = &self.tail[(count - of_piece).min(self.tail.len())..];
    }
}

/// The fields of a head as they are written.
#[derive(Debug)]
pub(super) struct Lines<'o> {
    out: &'o mut Vec<u8>,
    /// Whether trailers may follow, and those that the head announces (RFC 9110 section 6.6.2).
    announces: bool,
    trailers: Vec<HeaderName>,
}

impl Sink for Lines<'_> {
    fn put(&mut self, name: &HeaderName, value: &HeaderValue) {
        write_field(self.out, name, value);
        if self.announces && *name == TRAILER {
            let names = value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii);
            self.trailers.extend(names.filter_map(|name| HeaderName::from_bytes(name).ok()));
        }
    }
}

/// Writes the request line.
fn begin(out: &mut Vec<u8>, method: &Method, target: &Uri) {
    let target = target.path_and_query().map_or("/", PathAndQuery::as_str);
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Ends the head.
fn end(out: &mut Vec<u8>, rest: Rest) {
    match rest {
        Rest::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            push_number(out, length, 10);
            out.extend_from_slice(b"\r\n");
        }
        Rest::Chunks => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Rest::Nothing => {}
    }
    out.extend_from_slice(b"\r\n");
}

fn write_field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends a number in decimal or hexadecimal digits.
fn push_number(out: &mut Vec<u8>, mut number: u64, base: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[usize::try_from(number % base).unwrap_or_default()];
        number /= base;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
