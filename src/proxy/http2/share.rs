//! The connections of a worker that many requests share, and who opens them: of all requests that
//! find none, one dials and the others wait for it.

use std::cell::RefCell;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

use tokio::sync::watch;

use super::{Connection, Settings};
use crate::net::dial::{DialError, Dialer, Line};
use crate::proxy::http1;
use crate::proxy::pool::{Lease, Shop};
use crate::vocab::Moment;

/// Most connections to one address of an upstream on each worker. Where all their streams are in
/// use, requests wait for one to end.
const MOST_CONNECTIONS: usize = 16;

/// So often may others have taken all of a new connection's streams before a request gives up.
const MOST_DIALS: usize = 2 * MOST_CONNECTIONS;

thread_local! {
    /// The connections of this worker. Never borrowed across an await, nor while one of them is
    /// dropped.
    static ROWS: RefCell<Vec<Row>> = const { RefCell::new(Vec::new()) };
}

/// The connections to one address of an upstream.
#[derive(Debug)]
struct Row {
    shop: Arc<Shop>,
    connections: Vec<Arc<Connection>>,
    /// What comes of the dialling under way.
    landing: Option<watch::Receiver<Landing>>,
}

/// What came of dialling; nothing yet at first.
type Landing = Option<Result<Spoken, DialError>>;

/// What an upstream chose to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    Http1,
    Http2,
}

/// A place on a shared connection.
#[derive(Debug)]
pub(in crate::proxy) struct Seat {
    pub(super) connection: Arc<Connection>,
    shop: Arc<Shop>,
}

impl Seat {
    fn take(connection: &Arc<Connection>, shop: &Arc<Shop>) -> Self {
        if connection.streams.fetch_add(1, Relaxed) == 0 {
            shop.active.inc();
            shop.waiting.dec();
        }
        Self { connection: Arc::clone(connection), shop: Arc::clone(shop) }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.connection.streams.fetch_sub(1, Relaxed) == 1 {
            self.shop.active.dec();
            self.shop.waiting.inc();
        }
    }
}

/// What a request finds.
enum Found {
    Seat(Seat),
    /// Somebody dials.
    Wait(watch::Receiver<Landing>),
    /// Nobody does; whoever finds this must.
    Dial(watch::Sender<Landing>),
}

/// What [`share`] came to.
pub(in crate::proxy) enum Shared {
    /// A place on a connection.
    Seat(Seat),
    /// The upstream speaks HTTP/1.1; a connection may wait in the pool.
    Http1,
}

/// A place on a connection to the upstream of `shop`: one that is open, or a new one, which
/// `dialer` opens; only a new one if it is to be `is_fresh`.
///
/// # Errors
/// There is no connection.
pub(in crate::proxy) async fn share(
    shop: &Arc<Shop>,
    dialer: &Arc<Dialer>,
    (settings, http1): (&Arc<Settings>, &Arc<http1::Settings>),
    is_fresh: bool,
) -> Result<Shared, DialError> {
    let since = is_fresh.then(Moment::now);
    let mut dials = 0;
    loop {
        let mut landing = match find(shop, since) {
            Found::Seat(seat) => return Ok(Shared::Seat(seat)),
            Found::Wait(landing) => landing,
            Found::Dial(told) => {
                let landing = told.subscribe();
                let (shop, dialer) = (Arc::clone(shop), Arc::clone(dialer));
                let (settings, http1) = (Arc::clone(settings), Arc::clone(http1));
                // A task of its own: whoever asked first may leave before the others.
                drop(shop.shutdown.clone().spawn(async move {
                    let outcome = open(&shop, &dialer, &settings, &http1).await;
                    land(&shop);
                    told.send_replace(Some(outcome));
                }));
                landing
            }
        };
        let landed = landing.wait_for(Option::is_some).await.map(|landed| landed.clone());
        match landed {
            Ok(Some(Err(error))) => return Err(error),
            Ok(Some(Ok(Spoken::Http1))) => return Ok(Shared::Http1),
            // The task is gone with its runtime.
            Err(_) => return Err(DialError::connect(dialer.place(), "the process ends")),
            Ok(_) => dials += 1,
        }
        if dials == MOST_DIALS {
            let why = "the server takes too few streams";
            return Err(DialError::connect(dialer.place(), why));
        }
    }
}

/// Finds a place on a connection that was opened after `since`, or on any.
fn find(shop: &Arc<Shop>, since: Option<Moment>) -> Found {
    let now = Moment::now();
    ROWS.with_borrow_mut(|rows| {
        let row = row_of(rows, shop);
        let is_meant = |connection: &&Arc<Connection>| {
            since.is_none_or(|since| connection.born >= since) && connection.is_open(shop, now)
        };
        if let Some(free) = row.connections.iter().filter(is_meant).find(|c| c.has_room()) {
            return Found::Seat(Seat::take(free, shop));
        }
        if let Some(landing) = &row.landing {
            return Found::Wait(landing.clone());
        }
        if row.connections.len() >= MOST_CONNECTIONS
            && let Some(least) =
                row.connections.iter().filter(is_meant).min_by_key(|c| c.streams.load(Relaxed))
        {
            return Found::Seat(Seat::take(least, shop));
        }
        let told = watch::Sender::new(None);
        row.landing = Some(told.subscribe());
        Found::Dial(told)
    })
}

/// Opens a connection, and puts it where requests find it.
async fn open(
    shop: &Arc<Shop>,
    dialer: &Dialer,
    settings: &Settings,
    http1: &Arc<http1::Settings>,
) -> Result<Spoken, DialError> {
    let line = dialer.reach().await?;
    let is_http2 = match line.io.alpn() {
        Some(chosen) => chosen == b"h2",
        None => !dialer.is_tls(),
    };
    if is_http2 {
        adopt(line, shop, dialer, settings).await?;
        return Ok(Spoken::Http2);
    }
    if settings.required {
        return Err(DialError::Protocol { host: dialer.place() });
    }
    let connection = http1::Connection::new(line.io, Arc::clone(http1));
    Lease::of(connection, line.health, shop).give_back(Moment::now());
    Ok(Spoken::Http1)
}

/// Puts a new connection on which HTTP/2 is to be spoken where requests find it.
///
/// # Errors
/// It is not spoken.
pub(in crate::proxy) async fn adopt(
    line: Line,
    shop: &Arc<Shop>,
    dialer: &Dialer,
    settings: &Settings,
) -> Result<(), DialError> {
    let connection = Connection::open(line, settings, shop)
        .await
        .map_err(|error| DialError::connect(dialer.place(), error))?;
    ROWS.with_borrow_mut(|rows| row_of(rows, shop).connections.push(connection));
    Ok(())
}

/// The connections to the upstream of `shop`.
fn row_of<'r>(rows: &'r mut Vec<Row>, shop: &Arc<Shop>) -> &'r mut Row {
    let index = rows.iter().position(|row| Arc::ptr_eq(&row.shop, shop)).unwrap_or(rows.len());
    if index == rows.len() {
        rows.push(Row { shop: Arc::clone(shop), connections: Vec::new(), landing: None });
    }
    &mut rows[index]
}

/// Nobody dials any more.
fn land(shop: &Arc<Shop>) {
    ROWS.with_borrow_mut(|rows| {
        if let Some(row) = rows.iter_mut().find(|row| Arc::ptr_eq(&row.shop, shop)) {
            row.landing = None;
        }
        rows.retain(Row::is_needed);
    });
}

/// Takes a connection out of use. It ends when its last stream does.
pub(super) fn retire(shop: &Arc<Shop>, connection: &Weak<Connection>) {
    // While a thread ends, there are no rows any more.
    let retired = ROWS.try_with(|rows| {
        let mut rows = rows.borrow_mut();
        let row = rows.iter_mut().find(|row| Arc::ptr_eq(&row.shop, shop))?;
        let index =
            row.connections.iter().position(|own| Arc::as_ptr(own) == connection.as_ptr())?;
        let retired = row.connections.swap_remove(index);
        rows.retain(Row::is_needed);
        Some(retired)
    });
    drop(retired);
}

impl Row {
    fn is_needed(&self) -> bool {
        !self.connections.is_empty() || self.landing.is_some()
    }
}
