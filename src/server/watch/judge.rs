//! What the limits say about a connection or a stream.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::super::{LINGER, Limits, PARTING};
use super::{BodyState, Phase, Verdict, Watch};

impl Watch {
    /// What the limits say about the connection now.
    pub(in super::super) fn judge(&self, limits: &Limits) -> Verdict {
        if self.is(Phase::Tunnel) {
            return Verdict::None;
        }
        let now = self.clock.now();
        let over = |since: u64, limit: Duration| {
            since != 0 && u128::from(now.saturating_sub(since)) >= limit.as_millis()
        };
        if over(self.write_since.load(Relaxed), limits.write_idle.0) {
            return Verdict::Close;
        }
        let source_limit = Duration::from_millis(self.source_limit.load(Relaxed));
        if !self.is_blocked() && over(self.source_since.load(Relaxed), source_limit) {
            return Verdict::SourceTooSlow;
        }
        let since = self.phase_since.load(Relaxed);
        if self.is(Phase::Exchange) {
            return self.judge_exchange(limits, over);
        }
        if self.is_blocked() && self.is_between() {
            // The end of an answer is on its way, for which the client has `write_idle`. What it has
            // sent since is looked at afterwards.
            return Verdict::None;
        }
        if self.is(Phase::Head) {
            return if over(since, limits.head.0) { Verdict::HeadTooSlow } else { Verdict::None };
        }
        if self.is(Phase::Answer) {
            return Verdict::None;
        }
        if self.is(Phase::Streams) {
            return self.judge_silence(limits.silence.0, over);
        }
        let parting = since.max(self.draining_since.load(Relaxed));
        let (since, limit) = if self.is_draining() && self.is_resting() {
            (parting, PARTING)
        } else if self.is(Phase::New) {
            (since, limits.head.0)
        } else if self.is(Phase::Idle) || self.is(Phase::Quiet) && !self.is_draining() {
            (since, limits.idle.0)
        } else if self.is(Phase::Quiet) {
            // By its PING the client says that it knows of the end; this is for one that does not.
            (parting, LINGER)
        } else {
            (since, LINGER)
        };
        if over(since, limit) { Verdict::Close } else { Verdict::None }
    }

    /// Whether the last answer's body is through and the next request not there.
    pub(super) fn is_between(&self) -> bool {
        self.is(Phase::Idle) || self.is(Phase::Head) || self.is(Phase::Quiet)
    }

    fn judge_exchange(&self, limits: &Limits, over: impl Fn(u64, Duration) -> bool) -> Verdict {
        let waiting = self.wait_since.load(Relaxed);
        let read = self.read_since.load(Relaxed);
        let client_owes = self.body.load(Relaxed) == BodyState::Open as u8 && read != 0;
        if client_owes && over(read, limits.body_idle.0) {
            return if waiting == 0 { Verdict::Close } else { Verdict::BodyTooSlow };
        }
        if !client_owes && over(waiting, limits.response_head.0) {
            return Verdict::AnswerTooSlow;
        }
        Verdict::None
    }

    /// A client that is gone says nothing, and neither does one that waits for an event. Once it
    /// is asked it has two thirds of the `silence` to say anything.
    fn judge_silence(&self, silence: Duration, over: impl Fn(u64, Duration) -> bool) -> Verdict {
        let silent = self.read_since.load(Relaxed);
        if over(silent, silence + silence * 2 / 3) {
            Verdict::Close
        } else if over(silent, silence) {
            Verdict::Ask
        } else {
            Verdict::None
        }
    }
}
