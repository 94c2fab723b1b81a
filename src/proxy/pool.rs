//! HTTP/1.1 connections to upstreams that wait for their next request. Every worker keeps its own,
//! so no lock is taken and no connection changes threads.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use super::http1::Connection;
use crate::net::health::Health;
use crate::shutdown::Shutdown;
use crate::telemetry::tally::Level;
use crate::vocab::Moment;

thread_local! {
    /// The connections of this worker. Never borrowed across an await, nor while one of them is
    /// dropped.
    static POOL: RefCell<Pool> = RefCell::default();
}

#[derive(Debug, Default)]
struct Pool {
    shelves: Vec<Shelf>,
    reaping: bool,
}

/// The unused connections to one upstream; the last one in is the first one out, so that a few
/// stay warm and the others grow old.
#[derive(Debug)]
struct Shelf {
    shop: Arc<Shop>,
    spares: Vec<Spare>,
}

/// What the pool knows of an upstream.
#[derive(Debug)]
pub(super) struct Shop {
    /// How long a connection may wait.
    pub(super) idle: Duration,
    /// How long a connection is used at most.
    pub(super) age: Duration,
    /// Most connections that wait, on each worker.
    pub(super) spare: usize,
    /// Connections in use.
    pub(super) active: Level,
    /// Connections that wait.
    pub(super) waiting: Level,
    pub(super) shutdown: Shutdown,
}

/// An open connection's handle. It stays in its box, so that leases and answers, which are moved
/// a lot, are small.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) connection: Connection,
    /// How its address fares, where there could be others.
    pub(super) health: Option<Arc<Health>>,
    /// Whether it has carried a request before.
    pub(super) reused: bool,
    shop: Arc<Shop>,
    born: Moment,
    /// When it was last given back.
    since: Moment,
}

#[derive(Debug)]
struct Spare(Box<Wire>);

/// A connection in use. It goes back to the pool by [`Lease::give_back`] only; dropping it
/// closes it.
#[derive(Debug)]
pub(super) struct Lease(Option<Box<Wire>>);

impl Wire {
    /// No answer's head came over it.
    pub(super) fn note_silence(&self) {
        if let Some(health) = &self.health {
            health.unanswered();
        }
    }

    /// Whether it can carry another request. An upstream that has closed it has said so, as has
    /// one that says what nobody has asked for.
    fn is_fresh(&mut self, now: Moment) -> bool {
        now.since(self.since) < self.shop.idle
            && now.since(self.born) < self.shop.age
            && self.connection.is_silent()
    }
}

impl Lease {
    /// Takes over a new connection.
    pub(super) fn of(
        connection: Connection,
        health: Option<Arc<Health>>,
        shop: &Arc<Shop>,
    ) -> Self {
        shop.active.inc();
        let now = Moment::now();
        let shop = Arc::clone(shop);
        let wire = Wire { connection, health, reused: false, shop, born: now, since: now };
        Self(Some(Box::new(wire)))
    }

    /// Takes the connection that waited last, if any is still good.
    pub(super) fn take(shop: &Arc<Shop>, now: Moment) -> Option<Self> {
        loop {
            let spare =
                POOL.with_borrow_mut(|pool| pool.shelf(shop).and_then(|shelf| shelf.spares.pop()))?;
            shop.waiting.dec();
            let Spare(mut wire) = spare;
            if wire.is_fresh(now) {
                shop.active.inc();
                wire.reused = true;
                return Some(Self(Some(wire)));
            }
        }
    }

    pub(super) fn wire(&mut self) -> Option<&mut Wire> {
        self.0.as_deref_mut()
    }

    /// Where tasks that see to the connection are born.
    pub(super) fn tasks(&self) -> Option<&Shutdown> {
        self.0.as_deref().map(|wire| &wire.shop.shutdown)
    }

    pub(super) fn connection(&self) -> Option<&Connection> {
        self.0.as_deref().map(|wire| &wire.connection)
    }

    pub(super) fn connection_mut(&mut self) -> Option<&mut Connection> {
        self.0.as_deref_mut().map(|wire| &mut wire.connection)
    }

    /// Keeps the connection for the next request if it is ready for one: both bodies have ended
    /// and nothing is left over.
    pub(super) fn give_back(mut self, now: Moment) {
        let Some(mut wire) = self.0.take() else { return };
        wire.shop.active.dec();
        if !wire.connection.is_done() {
            return;
        }
        wire.since = now;
        // While a thread ends, there is no pool any more.
        let put = POOL.try_with(|pool| pool.borrow_mut().put(Spare(wire)));
        if let Ok(Put::First(shop)) = put {
            drop(shop.shutdown.clone().spawn(reap(Reaping, shop)));
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(wire) = &self.0 {
            wire.shop.active.dec();
        }
    }
}

impl Pool {
    fn shelf(&mut self, shop: &Arc<Shop>) -> Option<&mut Shelf> {
        self.shelves.iter_mut().find(|shelf| Arc::ptr_eq(&shelf.shop, shop))
    }

    /// Takes a connection in, or gives it back where there is no room.
    fn put(&mut self, spare: Spare) -> Put {
        if !self.reaping && tokio::runtime::Handle::try_current().is_err() {
            return Put::Refused(spare);
        }
        let shop = &spare.0.shop;
        let index = self.shelves.iter().position(|shelf| Arc::ptr_eq(&shelf.shop, shop));
        let shelf = match index {
            Some(index) => &mut self.shelves[index],
            None => {
                self.shelves.push(Shelf { shop: Arc::clone(shop), spares: Vec::new() });
                let last = self.shelves.len() - 1;
                &mut self.shelves[last]
            }
        };
        if shelf.spares.len() >= shop.spare {
            return Put::Refused(spare);
        }
        shop.waiting.inc();
        shelf.spares.push(spare);
        if std::mem::replace(&mut self.reaping, true) {
            Put::Done
        } else {
            Put::First(Arc::clone(&shelf.shop))
        }
    }

    /// Takes out what is too old or closed, or everything.
    fn expired(&mut self, all: bool) -> Vec<Spare> {
        let now = Moment::now();
        let mut out = Vec::new();
        for shelf in &mut self.shelves {
            let shop = &shelf.shop;
            out.extend(
                shelf
                    .spares
                    .extract_if(.., |spare| all || !spare.0.is_fresh(now))
                    .inspect(|_| shop.waiting.dec()),
            );
        }
        self.shelves.retain(|shelf| !shelf.spares.is_empty());
        out
    }
}

/// What became of a connection that was offered to the pool.
#[derive(Debug)]
enum Put {
    Done,
    /// Somebody must start the reaper.
    First(Arc<Shop>),
    /// Dropping it closes it.
    Refused(#[expect(dead_code, reason = "held to be dropped outside of the borrow")] Spare),
}

/// Says when the reaper of a thread is gone, however it went.
struct Reaping;

impl Drop for Reaping {
    fn drop(&mut self) {
        // While a thread ends, there is no pool any more.
        POOL.try_with(|pool| pool.borrow_mut().reaping = false).unwrap_or_default();
    }
}

/// Closes connections that have waited too long; runs while there are any.
async fn reap(reaping: Reaping, shop: Arc<Shop>) {
    let _reaping = reaping;
    let tick = (shop.idle / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
    loop {
        let all = shop.shutdown.is_draining();
        drop(POOL.with_borrow_mut(|pool| pool.expired(all)));
        if POOL.with_borrow(|pool| pool.shelves.is_empty()) {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(tick) => {}
            () = shop.shutdown.draining() => {}
        }
    }
}
