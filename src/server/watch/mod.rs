//! What a connection is waiting for, and since when: the timeouts of a server without timers.
//!
//! A timer for every request costs more than the request's head. So a connection only notes, on
//! a clock that stands still between two sweeps, what happened last; the sweep of its worker
//! judges all connections a few times a second and wakes those whose time is over.

mod judge;
mod rest;
mod source;
mod wait;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use atomic_waker::AtomicWaker;

pub use self::wait::Expired;
use super::clock::Clock;

/// Where a connection is between two requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// Accepted, nothing received yet.
    New,
    /// Between two requests.
    Idle,
    /// Part of a request's head has arrived.
    Head,
    /// A request is being answered.
    Exchange,
    /// Everything is sent; what the client still sends is read and dropped.
    Lingering,
    /// The connection has left HTTP; whoever took it over sees to its limits.
    Tunnel,
    /// A stream's answer is under way; the client may be silent, as in a conversation (gRPC).
    Answer,
    /// HTTP/2 without a stream.
    Quiet,
    /// HTTP/2 with streams, each of which has a watch of its own.
    Streams,
}

/// How much of the request's body has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum BodyState {
    /// All of it.
    Whole,
    /// More is to come.
    Open,
    /// More is to come and nobody wants it.
    Unwanted,
}

/// What the sweep decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Verdict {
    /// Go on.
    None,
    /// Answer 408 and close.
    HeadTooSlow,
    /// The handler is told that no answer came in time.
    AnswerTooSlow,
    /// The handler is told that the client stopped sending.
    BodyTooSlow,
    /// The answer's body is told that its source has stopped.
    SourceTooSlow,
    /// Ask the client whether it is still there (HTTP/2).
    Ask,
    /// Close at once.
    Close,
}

/// The state of one connection, or of one stream of HTTP/2; see the module's text. All times are of the worker's `Clock`, and 0
/// stands for "not now". The orderings are relaxed: the sweep runs on the connection's own
/// thread, and the atomics only make the futures `Send`.
#[derive(Debug)]
pub struct Watch {
    clock: Arc<Clock>,
    waker: AtomicWaker,
    /// The waker is there, not used up.
    armed: AtomicBool,
    room: AtomicWaker,
    phase: AtomicU8,
    phase_since: AtomicU64,
    body: AtomicU8,
    read_since: AtomicU64,
    write_since: AtomicU64,
    wait_since: AtomicU64,
    /// Since when the answer's body waits for its source, and how many milliseconds it may.
    source_since: AtomicU64,
    source_limit: AtomicU64,
    read_ahead: AtomicBool,
    /// Somebody reads the body of a client that waits for a go-ahead (HTTP/2).
    called: AtomicBool,
    /// What of the request's body nobody reads any more (HTTP/2).
    rest: Mutex<Option<h2::RecvStream>>,
    verdict: AtomicU8,
    /// Since when the connection is to end.
    draining_since: AtomicU64,
    reset: AtomicBool,
}

impl Watch {
    pub(super) fn new(clock: Arc<Clock>) -> Self {
        let now = clock.now();
        Self {
            clock,
            waker: AtomicWaker::new(),
            armed: AtomicBool::new(false),
            room: AtomicWaker::new(),
            phase: AtomicU8::new(Phase::New as u8),
            phase_since: AtomicU64::new(now),
            body: AtomicU8::new(BodyState::Whole as u8),
            read_since: AtomicU64::new(0),
            write_since: AtomicU64::new(0),
            wait_since: AtomicU64::new(0),
            source_since: AtomicU64::new(0),
            source_limit: AtomicU64::new(0),
            read_ahead: AtomicBool::new(false),
            called: AtomicBool::new(false),
            rest: Mutex::default(),
            verdict: AtomicU8::new(Verdict::None as u8),
            draining_since: AtomicU64::new(0),
            reset: AtomicBool::new(false),
        }
    }

    /// The watch of a stream whose request's head has come.
    pub(super) fn of_stream(clock: Arc<Clock>, has_body: bool) -> Self {
        let watch = Self::new(clock);
        watch.begin(has_body);
        watch
    }

    /// Says that something moved while a handler, or an answer's body, waits.
    pub fn progress(&self) {
        if self.wait_since.load(Relaxed) != 0 {
            self.wait_since.store(self.clock.now(), Relaxed);
        }
        self.restart_source();
    }

    /// Says that the request's body has arrived whole.
    pub fn body_ended(&self) {
        self.body.store(BodyState::Whole as u8, Relaxed);
    }

    /// Says that nobody will read the rest of the request's body.
    pub fn body_unwanted(&self) {
        if self.body.load(Relaxed) == BodyState::Open as u8 {
            self.body.store(BodyState::Unwanted as u8, Relaxed);
        }
    }

    /// Whether part of the request's body is still with the client.
    #[must_use]
    pub fn owes_body(&self) -> bool {
        self.body.load(Relaxed) != BodyState::Whole as u8
    }

    /// Has the connection end with a reset, so that a client to which the end of the connection
    /// means the end of the answer (HTTP/1.0) cannot take a cut answer for a whole one.
    pub fn reset_at_close(&self) {
        self.reset.store(true, Relaxed);
    }

    pub(super) fn is_reset(&self) -> bool {
        self.reset.load(Relaxed)
    }

    /// Says that the connection has left HTTP: from here on no limit of the server is for it.
    pub fn hand_over(&self) {
        self.enter(Phase::Tunnel);
        self.verdict.store(Verdict::None as u8, Relaxed);
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
        self.phase_since.store(self.clock.now(), Relaxed);
    }

    fn is(&self, phase: Phase) -> bool {
        self.phase.load(Relaxed) == phase as u8
    }

    /// Bytes came from the client.
    pub(super) fn received(&self) {
        self.read_since.store(0, Relaxed);
        if self.is(Phase::Idle) || self.is(Phase::New) {
            self.enter(Phase::Head);
        } else if self.body.load(Relaxed) == BodyState::Whole as u8 {
            self.read_ahead.store(true, Relaxed);
        } else if self.is_blocked() {
            // Who sends is there, and may read what it has not taken yet once it has sent all.
            self.write_since.store(self.clock.now(), Relaxed);
        }
    }

    /// The client has nothing to read from.
    pub(super) fn starved(&self) {
        if self.read_since.load(Relaxed) == 0 {
            self.read_since.store(self.clock.now(), Relaxed);
        }
    }

    /// The client took bytes.
    pub(super) fn sent(&self) {
        if self.write_since.swap(0, Relaxed) != 0 {
            self.restart_source();
            if self.is_between() {
                // From here on, and not since the end of its answer went to a buffer.
                self.phase_since.store(self.clock.now(), Relaxed);
            }
            self.room.wake();
        }
    }

    /// Ready while the client takes bytes. What it does not take is better left with whoever makes
    /// it: a thousand slow readers would have us hold all that our buffers can (S37).
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.is_blocked() {
            return Poll::Ready(());
        }
        self.room.register(cx.waker());
        Poll::Pending
    }

    /// Whether there are so many connections that each should read little at a time.
    pub(super) fn is_crowded(&self) -> bool {
        self.clock.is_crowded()
    }

    /// The client takes no more bytes.
    pub(super) fn blocked(&self) {
        if !self.is_blocked() {
            self.write_since.store(self.clock.now(), Relaxed);
        }
    }

    /// Whether there is something that the client has yet to take.
    fn is_blocked(&self) -> bool {
        self.write_since.load(Relaxed) != 0
    }

    /// The connection speaks HTTP/2, and has streams or none.
    pub(super) fn streams(&self, any: bool) {
        self.enter(if any { Phase::Streams } else { Phase::Quiet });
    }

    /// The end of an HTTP/2 connection is told, or a stream's answer is sent; it has a moment to
    /// reach the client.
    pub(super) fn leave(&self) {
        self.verdict.store(Verdict::None as u8, Relaxed);
        self.enter(Phase::Lingering);
    }

    /// The stream's answer has begun.
    pub(super) fn answer(&self) {
        self.enter(Phase::Answer);
    }

    /// Whether the client is to be asked if it is still there; asked once, it is false again.
    pub(super) fn take_ask(&self) -> bool {
        let ask = self.verdict.load(Relaxed) == Verdict::Ask as u8;
        if ask {
            self.verdict.store(Verdict::None as u8, Relaxed);
        }
        ask
    }

    /// Somebody reads the request's body.
    pub(super) fn call(&self) {
        if !self.called.swap(true, Relaxed) {
            self.rouse();
        }
    }

    /// Whether somebody has begun to read the request's body.
    pub(super) fn is_called(&self) -> bool {
        self.called.load(Relaxed)
    }

    /// Whether a head is being read.
    pub(super) fn is_in_head(&self) -> bool {
        self.is(Phase::Head)
    }

    /// Whether an answer of the server's own may be written past hyper: part of a head has
    /// arrived and no earlier answer is unsent.
    pub(super) fn may_speak(&self) -> bool {
        self.is(Phase::Head) && !self.is_blocked()
    }

    /// A request's head is complete.
    pub(super) fn begin(&self, has_body: bool) {
        let body = if has_body { BodyState::Open } else { BodyState::Whole };
        self.body.store(body as u8, Relaxed);
        self.read_ahead.store(false, Relaxed);
        self.enter(Phase::Exchange);
    }

    /// The answer is complete.
    pub(super) fn end(&self) {
        self.body_unwanted();
        self.source_came();
        let ahead = self.read_ahead.load(Relaxed);
        self.enter(if ahead { Phase::Head } else { Phase::Idle });
    }

    /// The last byte is sent. True if the client may still be sending: closing now would reset
    /// the connection and could destroy the answer on its way.
    pub(super) fn closing(&self) -> bool {
        if self.is(Phase::Tunnel) {
            return false;
        }
        let linger = self.may_still_send();
        self.enter(Phase::Lingering);
        linger
    }

    /// Whether the last byte is sent and none is to come, so that the connection can be closed at
    /// once. Never of a tunnel, of which only this half ends.
    pub(super) fn is_through(&self) -> bool {
        !self.is(Phase::Tunnel) && !self.may_still_send()
    }

    fn may_still_send(&self) -> bool {
        self.is(Phase::Head) || self.body.load(Relaxed) == BodyState::Unwanted as u8
    }

    /// Has the connection's task woken for what is decided. A task keeps its waker for life, so that
    /// it is registered anew only where it was used: that costs two locked instructions a poll.
    pub(super) fn register(&self, waker: &Waker) {
        if !self.armed.load(Relaxed) {
            self.armed.store(true, Relaxed);
            self.waker.register(waker);
        }
    }

    fn rouse(&self) {
        self.armed.store(false, Relaxed);
        self.waker.wake();
    }

    pub(super) fn verdict(&self) -> Verdict {
        match self.verdict.load(Relaxed) {
            v if v == Verdict::Close as u8 => Verdict::Close,
            v if v == Verdict::HeadTooSlow as u8 => Verdict::HeadTooSlow,
            v if v == Verdict::AnswerTooSlow as u8 => Verdict::AnswerTooSlow,
            v if v == Verdict::BodyTooSlow as u8 => Verdict::BodyTooSlow,
            v if v == Verdict::SourceTooSlow as u8 => Verdict::SourceTooSlow,
            v if v == Verdict::Ask as u8 => Verdict::Ask,
            _ => Verdict::None,
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining_since.load(Relaxed) != 0
    }

    /// Has the connection end once it has been idle for a moment.
    pub(super) fn drain(&self) {
        if !self.is_draining() {
            self.draining_since.store(self.clock.now(), Relaxed);
            self.rouse();
        }
    }

    /// Whether the client owes nothing and is owed nothing.
    pub(super) fn is_resting(&self) -> bool {
        (self.is(Phase::New) || self.is(Phase::Idle)) && !self.is_blocked()
    }

    /// Takes back what was decided of a connection at rest that is so no longer.
    pub(super) fn spare(&self) {
        self.verdict.store(Verdict::None as u8, Relaxed);
    }

    /// Has the connection do what `verdict` says.
    pub(super) fn decide(&self, verdict: Verdict) {
        if verdict != Verdict::None {
            self.verdict.store(verdict as u8, Relaxed);
            self.rouse();
        }
    }
}

/// Polls with the watch's verdict in mind; the connection's future is built around it.
pub(super) fn poll_verdict(watch: &Watch, cx: &Context<'_>) -> Verdict {
    watch.register(cx.waker());
    watch.verdict()
}
