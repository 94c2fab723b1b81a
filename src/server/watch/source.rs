//! How long the body of an answer waits for whoever makes it.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::{Verdict, Watch};

impl Watch {
    /// Says that the answer's body waits for its source, which it may do for so long. While the
    /// client is the one that is waited for, that time stands still.
    pub fn await_source(&self, limit: Duration) {
        if self.source_since.load(Relaxed) == 0 {
            self.source_since.store(self.clock.now(), Relaxed);
            let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            self.source_limit.store(limit, Relaxed);
        }
    }

    /// Says that the answer's body no longer waits.
    pub fn source_came(&self) {
        self.source_since.store(0, Relaxed);
        if self.verdict.load(Relaxed) == Verdict::SourceTooSlow as u8 {
            self.verdict.store(Verdict::None as u8, Relaxed);
        }
    }

    /// Whether the answer's body has waited for too long.
    #[must_use]
    pub fn is_source_late(&self) -> bool {
        self.verdict.load(Relaxed) == Verdict::SourceTooSlow as u8
    }

    /// Has the time begin anew.
    pub(super) fn restart_source(&self) {
        if self.source_since.load(Relaxed) != 0 {
            self.source_since.store(self.clock.now(), Relaxed);
        }
    }
}
