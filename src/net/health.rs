//! Which of several addresses are worth a try: passive ejection, from what requests met with.
//!
//! An address that cannot be connected to, or that breaks off before it answers several times in
//! a row, is set aside for a time that grows while it fails. It is never lost: when all are set
//! aside the one whose time is over first is tried.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{IntCounter, IntGauge};

use crate::vocab::Moment;

/// So many exchanges in a row without an answer's head set an address aside.
const MOST_FAILED: u32 = 3;

/// For how long the first time …
const SHORTEST: Duration = Duration::from_secs(1);

/// … and at most; each failure in between doubles it.
const LONGEST: Duration = Duration::from_secs(30);

/// Where it is counted that an address was set aside.
#[derive(Debug, Clone)]
pub struct Ejections {
    /// How often.
    pub total: IntCounter,
    /// How many are now.
    pub current: IntGauge,
}

/// How one address fares.
#[derive(Debug)]
pub struct Health {
    ejections: Option<Ejections>,
    out: AtomicBool,
    failed: AtomicU32,
    term: Mutex<Term>,
}

/// How long an address is set aside, and how often it was without an answer in between.
#[derive(Debug)]
struct Term {
    until: Moment,
    times: u32,
}

impl Health {
    /// An address of which nothing bad is known. Without `ejections` nothing is counted.
    #[must_use]
    pub fn new(ejections: Option<&Ejections>) -> Self {
        let term = Term { until: Moment::from_origin(Duration::ZERO), times: 0 };
        Self {
            ejections: ejections.cloned(),
            out: AtomicBool::new(false),
            failed: AtomicU32::new(0),
            term: Mutex::new(term),
        }
    }

    /// An answer came.
    pub fn answered(&self) {
        if self.failed.load(Relaxed) != 0 {
            self.recover();
        }
    }

    #[cold]
    fn recover(&self) {
        self.failed.store(0, Relaxed);
        let mut term = self.term.lock().unwrap_or_else(PoisonError::into_inner);
        term.times = 0;
        if self.out.swap(false, Relaxed)
            && let Some(ejections) = &self.ejections
        {
            ejections.current.dec();
        }
    }

    /// There is no connection to it.
    pub fn unreachable(&self) {
        self.failed.fetch_add(1, Relaxed);
        self.eject(Moment::now());
    }

    /// A connection broke, or stayed silent, before an answer's head.
    pub fn unanswered(&self) {
        if self.failed.fetch_add(1, Relaxed) + 1 >= MOST_FAILED {
            self.eject(Moment::now());
        }
    }

    /// Sets it aside. What fails while it is set aside already belongs to the same incident.
    fn eject(&self, now: Moment) {
        let mut term = self.term.lock().unwrap_or_else(PoisonError::into_inner);
        if self.out.load(Relaxed) && now < term.until {
            return;
        }
        term.until = now + (SHORTEST * 2_u32.saturating_pow(term.times.min(10))).min(LONGEST);
        term.times += 1;
        let is_new = !self.out.swap(true, Relaxed);
        if let Some(ejections) = &self.ejections {
            ejections.total.inc();
            ejections.current.add(i64::from(is_new));
        }
    }

    /// Until when it is set aside, if it is. Once that time is over one caller a second is let
    /// through, until an answer comes.
    #[must_use]
    pub fn set_aside(&self, now: Moment) -> Option<Moment> {
        if !self.out.load(Relaxed) {
            return None;
        }
        let mut term = self.term.lock().unwrap_or_else(PoisonError::into_inner);
        if now < term.until {
            return Some(term.until);
        }
        // Whoever asked tries it; the others go on avoiding it meanwhile.
        term.until = now + SHORTEST;
        None
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        if *self.out.get_mut()
            && let Some(ejections) = &self.ejections
        {
            ejections.current.dec();
        }
    }
}

/// What is known of the addresses of one name.
#[derive(Debug)]
pub struct Ledger {
    ejections: Option<Ejections>,
    known: Mutex<Vec<(SocketAddr, Arc<Health>)>>,
    turn: AtomicUsize,
}

impl Ledger {
    /// Nothing is known yet. Without `ejections` nothing is counted.
    #[must_use]
    pub fn new(ejections: Option<Ejections>) -> Self {
        Self { ejections, known: Mutex::default(), turn: AtomicUsize::new(0) }
    }

    /// Puts a name's addresses in the order in which to try them: each of the first one's family
    /// takes its turn to be first, and those that are set aside come last. Addresses that the
    /// name no longer has are forgotten.
    pub(super) fn order(&self, addresses: &[SocketAddr]) -> Vec<(SocketAddr, Arc<Health>)> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(address, _)| addresses.contains(address));
        for address in addresses {
            if !known.iter().any(|(other, _)| other == address) {
                known.push((*address, Arc::new(Health::new(self.ejections.as_ref()))));
            }
        }
        let health = |address: &SocketAddr| {
            known.iter().find(|(other, _)| other == address).map(|(_, health)| Arc::clone(health))
        };
        let mut ordered: Vec<_> =
            super::dial::interleaved(addresses, self.turn.fetch_add(1, Relaxed))
                .into_iter()
                .filter_map(|address| Some((address, health(&address)?)))
                .collect();
        if ordered.len() > 1 {
            let now = Moment::now();
            ordered.sort_by_cached_key(|(_, health)| health.set_aside(now));
        }
        ordered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ejections() -> Ejections {
        Ejections {
            total: IntCounter::new("a", "a").unwrap(),
            current: IntGauge::new("b", "b").unwrap(),
        }
    }

    #[test]
    fn an_address_is_set_aside_for_a_growing_time_until_it_answers() {
        let ejections = ejections();
        let health = Health::new(Some(&ejections));
        let start = Moment::from_origin(Duration::from_secs(1000));
        let mut now = start;
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            health.eject(now);
            assert_eq!(health.set_aside(now), Some(now + Duration::from_secs(seconds)));
            now = now + Duration::from_secs(seconds);
            assert_eq!(health.set_aside(now), None, "{seconds}");
            // One is let through; the next has to wait for what comes of it.
            assert!(health.set_aside(now).is_some());
            now = now + SHORTEST;
        }
        assert_eq!((ejections.total.get(), ejections.current.get()), (7, 1));
        health.failed.store(1, Relaxed);
        health.answered();
        assert_eq!(health.set_aside(now), None);
        assert_eq!(ejections.current.get(), 0);
        health.eject(now);
        assert_eq!(health.set_aside(now), Some(now + SHORTEST));
        drop(health);
        assert_eq!(ejections.current.get(), 0);
    }

    #[test]
    fn only_silence_in_a_row_sets_an_address_aside() {
        let health = Health::new(None);
        for _ in 0..5 {
            health.unanswered();
            health.unanswered();
            health.answered();
        }
        assert_eq!(health.set_aside(Moment::now()), None);
        for _ in 0..MOST_FAILED {
            health.unanswered();
        }
        assert!(health.set_aside(Moment::now()).is_some());
    }

    #[test]
    fn what_failed_comes_last_and_is_never_left_out() {
        let counted = ejections();
        let ledger = Ledger::new(Some(counted.clone()));
        let all: Vec<SocketAddr> =
            ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"].iter().map(|a| a.parse().unwrap()).collect();
        let first = |ledger: &Ledger| ledger.order(&all)[0].0;
        let mut seen: Vec<SocketAddr> = (0..3).map(|_| first(&ledger)).collect();
        seen.sort();
        assert_eq!(seen, all);
        let bad = ledger.order(&all).into_iter().find(|(address, _)| *address == all[1]);
        bad.unwrap().1.unreachable();
        for _ in 0..6 {
            let order = ledger.order(&all);
            assert_eq!((order.len(), order[2].0), (3, all[1]));
        }
        // A name that no longer has it, and then has it again, begins anew.
        assert_eq!(ledger.order(&all[..1]).len(), 1);
        assert!(counted.current.get() == 0);
    }
}
