//! The upstream's half of an exchange. Everything about its connections is behind
//! [`Upstream::send`].

use std::io;
use std::pin::pin;
use std::sync::Arc;

use http::{Request, Response};

use super::download::{Cut, Download};
use super::http1;
use super::pool::{Lease, Shop};
use super::replay::Upload;
use crate::net::dial::{DialError, Dialer};
use crate::net::tls::{self, TlsError};
use crate::server::{Expired, Limits, Watch};
use crate::shutdown::Shutdown;
use crate::telemetry::metrics::RouteMetrics;
use crate::vocab::{HttpUrl, Moment};

/// Unused connections that may turn out to be closed before a new one is opened.
const MOST_STALE: usize = 8;

/// One route's upstream.
#[derive(Debug)]
pub(super) struct Upstream {
    dialer: Dialer,
    http1: http1::Settings,
    shop: Arc<Shop>,
}

/// Which connection a request may go over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// One that waits, or a new one.
    Any,
    /// A new one: those that wait are probably as dead as the last.
    New,
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
        /// Whether nothing of an answer had come over a connection that had waited: most likely
        /// the upstream closed it before it saw the request.
        unheard: bool,
    },
}

impl Upstream {
    pub(super) fn new(
        url: &HttpUrl,
        tls: &tls::Settings,
        limits: &Limits,
        metrics: &RouteMetrics,
        shutdown: &Shutdown,
    ) -> Result<Self, TlsError> {
        let shop = Shop {
            idle: limits.upstream_idle.0,
            age: limits.upstream_age.0,
            spare: limits.upstream_spare,
            active: metrics.active.clone(),
            waiting: metrics.idle.clone(),
            shutdown: shutdown.clone(),
        };
        let dialer = Dialer::new(url, tls, &[b"http/1.1"], limits.connect.0)?;
        Ok(Self { dialer, http1: http1::Settings::new(limits), shop: Arc::new(shop) })
    }

    /// Sends the `request`, which it takes, and returns the head of its answer together with the
    /// body, which comes from the connection and gives it back. Nothing is sent at or after
    /// `until`; it is `now`.
    ///
    /// A request of which nothing was written, because the connection turned out to be closed,
    /// goes over another one, whatever its method.
    ///
    /// # Errors
    /// See [`Failure`].
    pub(super) async fn send(
        &self,
        request: &mut Option<Request<Upload>>,
        until: Option<Moment>,
        over: Over,
        mut now: Moment,
        watch: &Watch,
    ) -> Result<Response<Download>, Failure> {
        let mut stale = if over == Over::New { MOST_STALE } else { 0 };
        loop {
            let pooled = if stale < MOST_STALE { Lease::take(&self.shop, now) } else { None };
            let mut lease = match pooled {
                Some(lease) => lease,
                None => {
                    let lease = Box::pin(self.open()).await.map_err(Failure::Dial)?;
                    now = Moment::now();
                    lease
                }
            };
            if until.is_some_and(|until| now >= until) {
                lease.give_back(now);
                return Err(Failure::Stale);
            }
            let Some(wire) = lease.wire() else { continue };
            let Some(going) = request.take() else { return Err(Failure::Stale) };
            let outcome = {
                let answer = pin!(wire.connection.send(going));
                watch.limit(answer).await
            };
            let unanswered = match outcome {
                Ok(Ok(response)) => {
                    return Ok(response.map(|head| Download::Http1(head.over(lease))));
                }
                Ok(Err(unanswered)) => unanswered,
                Err(expired) => return Err(Failure::Expired(expired)),
            };
            *request = unanswered.request;
            if wire.reused && request.is_some() {
                stale += 1;
            } else {
                let unheard = wire.reused && !wire.connection.has_heard();
                return Err(Failure::Lost { cut: unanswered.cut, unheard });
            }
        }
    }

    async fn open(&self) -> Result<Lease, DialError> {
        let io = self.dialer.dial().await?;
        let connection = http1::Connection::open(io, &self.http1, &self.shop).await;
        let connection = connection.map_err(|cut| DialError::Connect {
            host: String::new(),
            source: io::Error::other(cut),
        })?;
        Ok(Lease::of(connection, &self.shop))
    }
}
