//! The upstream's half of an exchange. Everything about its connections is behind
//! [`Upstream::send`].

#[cfg(test)]
mod tests;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use http::Response;
use tokio_util::either::Either;

use super::download::{Cut, Download};
use super::headers::Outbound;
use super::origin::{Origin, Protocol};
use super::pool::{Lease, Shop};
use super::replay::Upload;
use super::{http1, http2};
use crate::net::dial::{DialError, Dialer};
use crate::net::health::{Ejections, Health, Ledger};
use crate::net::tls::{self, TlsError};
use crate::server::{Expired, Limits};
use crate::shutdown::Shutdown;
use crate::telemetry::metrics::RouteMetrics;
use crate::vocab::Moment;

/// Most addresses that one request tries to connect to.
const MOST_SITES: usize = 3;

/// One route's upstream.
#[derive(Debug)]
pub(super) struct Upstream {
    sites: Vec<Site>,
    turn: AtomicUsize,
    http1: Arc<http1::Settings>,
    http2: Arc<http2::Settings>,
}

/// Where to connect to: the URL's host, or one of several configured addresses.
#[derive(Debug)]
struct Site {
    shop: Arc<Shop>,
    /// Opens connections for HTTP/1.1.
    dialer: Arc<Dialer>,
    /// Opens those on which HTTP/2 may or must be spoken.
    sharing: Option<Arc<Dialer>>,
    /// Whether nothing but HTTP/2 will do.
    required: bool,
    /// Whether it chose HTTP/1.1 when it was last asked, on a new connection.
    declined: AtomicBool,
    /// Whether it has answered a request over HTTP/2 by the demand for HTTP/1.1. It is not asked
    /// again: to be told once more would cost a request that cannot be repeated.
    demands: AtomicBool,
    health: Health,
}

/// Which connection a request may go over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// One that waits, or a new one.
    Any,
    /// A new one, at another than this address if there are several: those that wait are probably
    /// as dead as the last.
    New(usize),
}

/// One sending of a request. In one place, for what a future is given it holds, and so do all
/// futures around it.
#[derive(Debug)]
pub(super) struct Attempt {
    /// The request's body; taken as soon as anything is sent.
    pub(super) upload: Option<Upload>,
    pub(super) over: Over,
    /// Nothing is sent then or later.
    pub(super) until: Option<Moment>,
    /// The present, and after a new connection was opened the present of then.
    pub(super) now: Moment,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection.
    Dial(DialError),
    /// The credential's time was over when the connection was ready; the request is where it was.
    Stale,
    /// A limit passed while waiting.
    Expired(Expired),
    /// The connection ended while the request was under way.
    Lost {
        /// How.
        cut: Cut,
        /// Whether nothing of an answer had come, and most likely the upstream never saw the
        /// request.
        unheard: bool,
        /// The body from its beginning, if the upstream says that it did nothing about the
        /// request, or got nothing of it.
        unprocessed: Option<Upload>,
        /// By which address.
        site: usize,
    },
}

impl Upstream {
    pub(super) fn new(
        origin: &Origin,
        tls: &tls::Settings,
        limits: &Limits,
        metrics: &RouteMetrics,
        shutdown: &Shutdown,
    ) -> Result<Self, TlsError> {
        let ejections =
            Ejections { total: metrics.ejections.clone(), current: metrics.ejected.clone() };
        let dialer = |alpn: &[&[u8]]| {
            let dialer = Dialer::new(&origin.url, tls, alpn, limits.connect.0)?;
            Ok::<_, TlsError>(match origin.socket_path() {
                Some(path) => dialer.over(path),
                None => dialer,
            })
        };
        let plain = dialer(&[b"http/1.1"])?;
        let required = origin.protocol == Protocol::Http2;
        let sharing = match origin.protocol {
            Protocol::Http1 => None,
            Protocol::Auto if !plain.is_tls() => None,
            Protocol::Auto => Some(dialer(&[b"h2", b"http/1.1"])?),
            Protocol::Http2 => Some(dialer(&[b"h2"])?),
        };
        let site = |place: &dyn Fn(Dialer) -> Dialer| {
            // What chooses among several counts them; else what connects counts those of the name.
            let ledger = (origin.addresses.len() < 2).then(|| ejections.clone());
            let ledger = Arc::new(Ledger::new(ledger));
            let open =
                |dialer: &Dialer| Arc::new(place(dialer.clone()).with_ledger(Arc::clone(&ledger)));
            Site {
                shop: Arc::new(Shop {
                    idle: limits.upstream_idle.0,
                    age: limits.upstream_age.0,
                    spare: limits.upstream_spare,
                    active: metrics.active.clone(),
                    waiting: metrics.idle.clone(),
                    shutdown: shutdown.clone(),
                }),
                dialer: open(&plain),
                sharing: sharing.as_ref().map(open),
                required,
                declined: AtomicBool::new(false),
                demands: AtomicBool::new(false),
                health: Health::new(Some(&ejections)),
            }
        };
        let sites = match origin.addresses.as_slice() {
            [] => vec![site(&|dialer| dialer)],
            all => all
                .iter()
                .map(|at| site(&|dialer| dialer.at(at.value.host.clone(), at.value.port)))
                .collect(),
        };
        Ok(Self {
            sites,
            turn: AtomicUsize::new(0),
            http1: Arc::new(http1::Settings::new(limits, &metrics.active)),
            http2: Arc::new(http2::Settings::new(limits, required)),
        })
    }

    /// Whether it may refuse a request of which it has seen the body's beginning, so that this is
    /// better kept.
    pub(super) fn may_refuse(&self) -> bool {
        self.sites.iter().any(Site::prefers_http2)
    }

    /// Sends the request and returns the head of its answer together with the body, which comes
    /// from the connection and gives it back.
    ///
    /// A request of which nothing was written, because the connection turned out to be closed or
    /// could not be opened, goes over another one, whatever its method.
    ///
    /// # Errors
    /// See [`Failure`].
    pub(super) fn send(
        &self,
        head: &Outbound<'_>,
        attempt: &mut Attempt,
    ) -> impl Future<Output = Result<Response<Download>, Failure>> {
        if let [only] = self.sites.as_slice() {
            Either::Left(self.send_to(only, 0, head, attempt))
        } else {
            Either::Right(Box::pin(self.send_to_any(head, attempt)))
        }
    }

    /// Sends the request to the first of several addresses that can be connected to.
    async fn send_to_any(
        &self,
        head: &Outbound<'_>,
        attempt: &mut Attempt,
    ) -> Result<Response<Download>, Failure> {
        let mut avoid = if let Over::New(site) = attempt.over { Some(site) } else { None };
        let mut tries = MOST_SITES.min(self.sites.len());
        loop {
            let index = self.choose(avoid, attempt.now);
            let site = &self.sites[index];
            let outcome = self.send_to(site, index, head, attempt).await;
            match &outcome {
                Ok(_) => site.health.answered(),
                Err(Failure::Dial(_)) => site.health.unreachable(),
                Err(Failure::Lost { cut, .. }) if !cut.is_upload() => site.health.unanswered(),
                Err(Failure::Expired(Expired::Answer)) => site.health.unanswered(),
                Err(_) => {}
            }
            tries -= 1;
            match outcome {
                Err(Failure::Dial(_)) if tries > 0 && attempt.upload.is_some() => {
                    avoid = Some(index)
                }
                outcome => return outcome,
            }
        }
    }

    /// The address whose turn it is: the next that is not set aside, or else the one that is for
    /// the shortest time.
    fn choose(&self, avoid: Option<usize>, now: Moment) -> usize {
        let count = self.sites.len();
        let turn = self.turn.fetch_add(1, Relaxed);
        let mut least = (None, turn % count);
        for index in (0..count).map(|step| (turn + step) % count) {
            if avoid == Some(index) {
                continue;
            }
            match self.sites[index].health.set_aside(now) {
                None => return index,
                until if least.0.is_none_or(|least| until < Some(least)) => least = (until, index),
                Some(_) => {}
            }
        }
        least.1
    }

    async fn send_to(
        &self,
        site: &Site,
        index: usize,
        head: &Outbound<'_>,
        attempt: &mut Attempt,
    ) -> Result<Response<Download>, Failure> {
        if site.shares(head)
            && let Some(outcome) = Box::pin(self.send_shared(site, index, head, attempt)).await
        {
            return outcome;
        }
        let reuses = attempt.over == Over::Any;
        let mut lease = match reuses.then(|| Lease::take(&site.shop, attempt.now)).flatten() {
            Some(lease) => lease,
            None => {
                let asks = site.asks(head);
                let mut opened = Box::pin(self.open(site, asks)).await.map_err(Failure::Dial)?;
                if opened.is_none() {
                    if let Some(outcome) =
                        Box::pin(self.send_shared(site, index, head, attempt)).await
                    {
                        return outcome;
                    }
                    // It cannot make up its mind, so it is not asked.
                    opened = Box::pin(self.open(site, false)).await.map_err(Failure::Dial)?;
                }
                attempt.now = Moment::now();
                opened.ok_or(Failure::Stale)?
            }
        };
        if attempt.until.is_some_and(|until| attempt.now >= until) {
            lease.give_back(attempt.now);
            return Err(Failure::Stale);
        }
        let Some(wire) = lease.wire() else { return Err(Failure::Stale) };
        let Some(upload) = attempt.upload.take() else { return Err(Failure::Stale) };
        let outcome = {
            let request = http1::Outgoing::new(head, upload);
            let answer = pin!(wire.connection.send(request));
            head.peer.watch.limit(answer).await
        };
        match outcome {
            Ok(Ok(response)) => {
                if let Some(health) = &wire.health {
                    health.answered();
                }
                Ok(response.map(|()| Download::Http1(http1::Body::over(lease))))
            }
            Ok(Err(cut)) => {
                let others = wire.reused || self.sites.len() > 1;
                let unheard = others && !wire.connection.has_heard();
                if !cut.is_upload() {
                    wire.note_silence();
                }
                // TLS may have sent part of what it failed to send; and a body that broke off would
                // come to an end the second time, as if it were whole.
                let is_sure = unheard && !cut.is_upload() && !site.dialer.is_tls();
                let unprocessed = if is_sure { wire.connection.take_back() } else { None };
                Err(Failure::Lost { cut, unheard, unprocessed, site: index })
            }
            Err(expired) => {
                wire.note_silence();
                Err(Failure::Expired(expired))
            }
        }
    }

    /// Opens a connection for HTTP/1.1. If it `asks` which protocol the upstream would have, and that
    /// is HTTP/2 by now, the connection is one to share, and there is none for HTTP/1.1.
    async fn open(&self, site: &Site, asks: bool) -> Result<Option<Lease>, DialError> {
        let dialer = site.sharing.as_ref().filter(|_| asks).unwrap_or(&site.dialer);
        let line = dialer.reach().await?;
        if line.io.alpn() == Some(b"h2") {
            http2::adopt(line, &site.shop, dialer, &self.http2).await?;
            site.declined.store(false, Relaxed);
            return Ok(None);
        }
        let connection = http1::Connection::new(line.io, Arc::clone(&self.http1));
        Ok(Some(Lease::of(connection, line.health, &site.shop)))
    }

    /// Sends the request over a connection that it shares with others. None if the upstream
    /// speaks HTTP/1.1 only.
    async fn send_shared(
        &self,
        site: &Site,
        index: usize,
        head: &Outbound<'_>,
        attempt: &mut Attempt,
    ) -> Option<Result<Response<Download>, Failure>> {
        let dialer = site.sharing.as_ref()?;
        let is_fresh = attempt.over != Over::Any;
        let shared = http2::share(&site.shop, dialer, (&self.http2, &self.http1), is_fresh).await;
        let seat = match shared {
            Ok(http2::Shared::Seat(seat)) => seat,
            Ok(http2::Shared::Http1) => {
                site.declined.store(true, Relaxed);
                return None;
            }
            Err(error) => return Some(Err(Failure::Dial(error))),
        };
        if attempt.until.is_some_and(|until| Moment::now() >= until) {
            return Some(Err(Failure::Stale));
        }
        let Some(upload) = attempt.upload.take() else { return Some(Err(Failure::Stale)) };
        let answer = pin!(seat.send(head, upload, dialer.is_tls(), &site.shop.shutdown));
        Some(match head.peer.watch.limit(answer).await {
            Ok(Ok(response)) => Ok(response.map(|stream| Download::Http2(Box::new(stream)))),
            Ok(Err(http2::Unanswered { cut, unprocessed, reused })) => {
                let demands = !site.required && cut.demands_http1();
                if demands {
                    site.demands.store(true, Relaxed);
                }
                // That it was not looked at is not said with a demand (RFC 9113 section 8.7).
                let unheard = demands || reused && !cut.is_malformed();
                Err(Failure::Lost { cut, unheard, unprocessed, site: index })
            }
            Err(expired) => Err(Failure::Expired(expired)),
        })
    }
}

impl Site {
    /// Whether HTTP/2 is what a request goes by, as far as is known.
    fn prefers_http2(&self) -> bool {
        self.sharing.is_some() && !self.declined.load(Relaxed) && !self.demands.load(Relaxed)
    }

    /// Whether this request may go over a shared connection. One that asks for another protocol
    /// needs a connection of its own, which only HTTP/1.1 has.
    fn shares(&self, head: &Outbound<'_>) -> bool {
        self.prefers_http2() && (self.required || !head.is_upgrade())
    }

    /// Whether a new connection for this request is to ask which protocol the upstream would have:
    /// it may have come to know HTTP/2.
    fn asks(&self, head: &Outbound<'_>) -> bool {
        self.sharing.is_some() && !self.demands.load(Relaxed) && !head.is_upgrade()
    }
}
