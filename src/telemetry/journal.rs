//! The last requests, for a person who looks at them.
//!
//! Nothing is kept unless somebody looks: a request then pays for one load and one branch. While
//! somebody does, each request leaves an entry in a ring of fixed size that no worker waits for.
//! An entry holds names, numbers and times, never a value of a field or of a query.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use http::{HeaderName, Method};

use crate::vocab::{Moment, RouteName, choices};

/// So many requests are kept.
pub const MOST: usize = 200;

/// How long after the last look requests are still kept, so that a page that is loaded anew goes
/// on from where it was.
pub const ATTENTION: Duration = Duration::from_secs(60);

/// What is kept of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Inspect {
    /// No request is listed.
    None,
    /// Requests are listed without their paths.
    Names,
    /// Requests are listed with their paths, without a query, and without what looks like a
    /// credential.
    #[default]
    Paths,
}

choices!(Inspect: "none" = None, "names" = Names, "paths" = Paths);

/// One request that is over.
#[derive(Debug)]
pub struct Entry {
    /// When its head was read.
    pub started: Moment,
    /// From then to the end of its answer.
    pub took: Duration,
    /// As the client wrote it.
    pub method: Method,
    /// None if no route was found.
    pub route: Option<RouteName>,
    /// Without a query; none where paths are not kept.
    pub path: Option<String>,
    /// 0 if the client left before there was an answer.
    pub status: u16,
    /// Of the answer's body.
    pub bytes: u64,
    /// Whether the answer was sent to its end.
    pub whole: bool,
    /// The places from which credentials of the client were removed.
    pub stripped: Vec<String>,
    /// The fields that went upstream as the route sets them.
    pub injected: Vec<HeaderName>,
    /// Whether it was sent once more with a renewed credential.
    pub replayed: bool,
    /// Why bearerd answered it by itself.
    pub refusal: Option<&'static str>,
}

/// The entries, numbered from 1 in the order in which they came to an end.
#[derive(Debug, Default)]
struct Book {
    last: u64,
    entries: VecDeque<(u64, Arc<Entry>)>,
}

/// Written to by the workers, read by the admin listener.
#[derive(Debug)]
pub struct Journal {
    origin: Moment,
    inspect: AtomicU8,
    /// Milliseconds since `origin` up to which requests are kept; 0 while nobody looks.
    until: AtomicU64,
    arrived: ArrayQueue<Box<Entry>>,
    book: Mutex<Book>,
}

impl Journal {
    /// An empty journal that keeps nothing until [`Self::allow`] and [`Self::look`].
    #[must_use]
    pub fn new() -> Self {
        Self {
            origin: Moment::now(),
            inspect: AtomicU8::new(Inspect::None as u8),
            until: AtomicU64::new(0),
            arrived: ArrayQueue::new(MOST),
            book: Mutex::default(),
        }
    }

    /// Says what may be kept; what is there goes if that is less than before.
    pub fn allow(&self, inspect: Inspect) {
        if (inspect as u8) < self.inspect.swap(inspect as u8, Relaxed) {
            self.until.store(0, Relaxed);
            while self.arrived.pop().is_some() {}
            self.book.lock().unwrap_or_else(PoisonError::into_inner).entries.clear();
        }
    }

    /// What may be kept.
    #[must_use]
    pub fn inspect(&self) -> Inspect {
        match self.inspect.load(Relaxed) {
            kept if kept == Inspect::Paths as u8 => Inspect::Paths,
            kept if kept == Inspect::Names as u8 => Inspect::Names,
            _ => Inspect::None,
        }
    }

    /// Somebody looks now: requests are kept for a while.
    pub fn look(&self) {
        if self.inspect() != Inspect::None {
            let now = Moment::now() + ATTENTION;
            self.until.store(self.millis(now).max(1), Relaxed);
        }
    }

    /// Whether a request that begins `now` is to be kept.
    #[must_use]
    pub fn is_watched(&self, now: Moment) -> bool {
        self.until.load(Relaxed) != 0 && self.is_still_watched(now)
    }

    #[cold]
    fn is_still_watched(&self, now: Moment) -> bool {
        let watched = self.millis(now) < self.until.load(Relaxed);
        if !watched {
            self.until.store(0, Relaxed);
        }
        watched
    }

    fn millis(&self, moment: Moment) -> u64 {
        u64::try_from(moment.since(self.origin).as_millis()).unwrap_or(u64::MAX)
    }

    /// Keeps a request, at the price of the oldest one.
    pub fn keep(&self, entry: Box<Entry>) {
        drop(self.arrived.force_push(entry));
    }

    /// The kept requests whose number is above `seen`, the oldest first.
    #[must_use]
    pub fn after(&self, seen: u64) -> Vec<(u64, Arc<Entry>)> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(entry) = self.arrived.pop() {
            book.last += 1;
            let number = book.last;
            book.entries.push_back((number, Arc::from(entry)));
            if book.entries.len() > MOST {
                book.entries.pop_front();
            }
        }
        book.entries.iter().filter(|(number, _)| *number > seen).cloned().collect()
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(status: u16) -> Box<Entry> {
        Box::new(Entry {
            started: Moment::now(),
            took: Duration::ZERO,
            method: Method::GET,
            route: None,
            path: Some("/".to_owned()),
            status,
            bytes: 0,
            whole: true,
            stripped: Vec::new(),
            injected: Vec::new(),
            replayed: false,
            refusal: None,
        })
    }

    #[test]
    fn nothing_is_kept_unless_it_is_allowed_and_somebody_looks() {
        let journal = Journal::new();
        let now = Moment::now();
        journal.look();
        assert!(!journal.is_watched(now), "not allowed");
        journal.allow(Inspect::Names);
        assert!(!journal.is_watched(now), "nobody has looked since");
        journal.look();
        assert!(journal.is_watched(now));
        assert!(!journal.is_watched(now + ATTENTION + Duration::from_secs(1)));
        assert!(!journal.is_watched(now), "attention has ended for good");
    }

    #[test]
    fn the_last_ones_stay_and_are_numbered_without_a_gap_at_their_end() {
        let journal = Journal::new();
        for status in 0..500 {
            journal.keep(entry(status));
        }
        let kept = journal.after(0);
        assert_eq!(kept.len(), MOST);
        assert_eq!(kept.last().unwrap().1.status, 499);
        let seen = kept.last().unwrap().0;
        assert!(journal.after(seen).is_empty());
        journal.keep(entry(1000));
        let news = journal.after(seen);
        assert_eq!((news.len(), news[0].0, news[0].1.status), (1, seen + 1, 1000));
        assert_eq!(journal.after(0).len(), MOST);
    }

    #[test]
    fn what_is_no_longer_allowed_is_forgotten() {
        let journal = Journal::new();
        journal.allow(Inspect::Paths);
        journal.look();
        journal.keep(entry(200));
        assert_eq!(journal.after(0).len(), 1);
        journal.keep(entry(200));
        journal.allow(Inspect::Names);
        assert!(journal.after(0).is_empty() && !journal.is_watched(Moment::now()));
    }
}
