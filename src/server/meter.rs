//! Keeps an HTTP/2 connection from costing much and asking for nothing (S38): frames that carry
//! no request and no data are bought with a credit, as are requests that are taken back.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::clock::Clock;
use super::socket::{PREFACE, Socket};

/// After so many bytes without a pause others have their turn.
const AT_ONCE: usize = 32 * 1024;

/// Frames that may come before anything else has happened …
const MOST_FRAMES: i64 = 1000;

/// … and how many milliseconds earn another one.
const MILLIS_PER_FRAME: u64 = 5;

/// A part of an answer that is as long as this earns the frames that acknowledge it.
const ACKNOWLEDGED: usize = 4 * 1024;

/// Requests that a client may take back before it lets as many be answered.
const MOST_CANCELS: i64 = 100;

/// A frame's head (RFC 9113 section 4.1).
const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;

/// What a connection may still cost. The orderings are relaxed, as everything happens on one
/// thread.
#[derive(Debug)]
pub(super) struct Credit {
    clock: Arc<Clock>,
    frames: AtomicI64,
    cancels: AtomicI64,
    /// When time last earned frames.
    since: AtomicU64,
}

impl Credit {
    pub(super) fn new(clock: Arc<Clock>) -> Self {
        let since = AtomicU64::new(clock.now());
        let (frames, cancels) = (AtomicI64::new(MOST_FRAMES), AtomicI64::new(MOST_CANCELS));
        Self { clock, frames, cancels, since }
    }

    pub(super) fn is_spent(&self) -> bool {
        self.frames.load(Relaxed) < 0 || self.cancels.load(Relaxed) < 0
    }

    /// A request was answered.
    pub(super) fn answered(&self) {
        self.cancels.store((self.cancels.load(Relaxed) + 1).min(MOST_CANCELS), Relaxed);
        self.earn(4);
    }

    /// A request was taken back by the client.
    pub(super) fn cancelled(&self) {
        self.cancels.fetch_sub(1, Relaxed);
    }

    /// So many bytes of an answer went out, cut short by the client's window or not. A client
    /// that gives a byte of room at a time earns nothing by it.
    pub(super) fn sent(&self, bytes: usize, cut: bool) {
        let acknowledged = i64::try_from(bytes / ACKNOWLEDGED).unwrap_or(0);
        self.earn(acknowledged + i64::from(!cut));
    }

    fn earn(&self, frames: i64) {
        self.frames.store((self.frames.load(Relaxed) + frames).min(MOST_FRAMES), Relaxed);
    }

    fn spend(&self) {
        if self.frames.fetch_sub(1, Relaxed) > MOST_FRAMES / 2 {
            return;
        }
        let passed = self.clock.now().saturating_sub(self.since.load(Relaxed));
        let earned = passed / MILLIS_PER_FRAME;
        if earned > 0 {
            self.since.fetch_add(earned * MILLIS_PER_FRAME, Relaxed);
            self.earn(i64::try_from(earned).unwrap_or(MOST_FRAMES));
        }
    }
}

/// The client's socket, with an eye on the frames that come over it.
#[derive(Debug)]
pub(super) struct Metered {
    socket: Socket,
    credit: Arc<Credit>,
    /// Bytes until others have their turn.
    turn: usize,
    /// Bytes of the present frame that are still to come.
    rest: usize,
    /// The next frame's head as far as it is there.
    head: [u8; HEAD],
    filled: usize,
}

impl Metered {
    pub(super) const fn new(socket: Socket, credit: Arc<Credit>) -> Self {
        let rest = PREFACE.len();
        Self { socket, credit, turn: AT_ONCE, rest, head: [0; HEAD], filled: 0 }
    }

    /// Charges for the frames that begin in `bytes`.
    fn charge(&mut self, mut bytes: &[u8]) {
        loop {
            let skipped = self.rest.min(bytes.len());
            self.rest -= skipped;
            bytes = &bytes[skipped..];
            let count = (HEAD - self.filled).min(bytes.len());
            self.head[self.filled..self.filled + count].copy_from_slice(&bytes[..count]);
            self.filled += count;
            bytes = &bytes[count..];
            if self.filled < HEAD {
                return;
            }
            self.filled = 0;
            let [a, b, c, kind, ..] = self.head;
            self.rest = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if kind != HEADERS && (kind != DATA || self.rest == 0) {
                self.credit.spend();
            }
        }
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.turn == 0 {
            this.turn = AT_ONCE;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut this.socket).poll_read(cx, buffer);
        if outcome.is_pending() {
            this.turn = AT_ONCE;
        }
        ready!(outcome)?;
        let came = &buffer.filled()[before..];
        this.turn = this.turn.saturating_sub(came.len());
        this.charge(came);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
