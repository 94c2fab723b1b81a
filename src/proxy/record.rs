//! What happened to one request, told when its answer's last byte is on its way: metrics, and one
//! line of the access log.

use std::sync::Arc;

use http::Method;
use tracing::Level;

use super::route::Route;
use crate::vocab::Moment;

/// A request under way. Dropping it closes the books, so that an answer which the client does
/// not wait for is counted too.
#[derive(Debug)]
pub(super) struct Record {
    started: Moment,
    method: Method,
    route: Option<Arc<Route>>,
    status: u16,
    bytes: u64,
    whole: bool,
    ended: Option<Moment>,
}

impl Record {
    pub(super) fn start(method: Method) -> Self {
        Self {
            started: Moment::now(),
            method,
            route: None,
            status: 0,
            bytes: 0,
            whole: false,
            ended: None,
        }
    }

    /// When the request came.
    pub(super) const fn started(&self) -> Moment {
        self.started
    }

    /// The request belongs to a route.
    pub(super) fn enter(&mut self, route: Arc<Route>) -> &Arc<Route> {
        route.metrics.in_flight.inc();
        self.route.insert(route)
    }

    /// The answer's head is there.
    pub(super) const fn answered(&mut self, status: u16) {
        self.status = status;
    }

    /// So many bytes of the answer's body went by.
    pub(super) const fn passed(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// The answer is over, `whole` or not.
    pub(super) const fn end(&mut self, now: Moment, whole: bool) {
        self.ended = Some(now);
        self.whole = whole;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let route = self.route.as_deref();
        let took = self.ended.unwrap_or_else(Moment::now).since(self.started);
        if let Some(route) = route {
            route.metrics.in_flight.dec();
            let series = route.metrics.method(&self.method);
            series.seconds.observe(took.as_secs_f64());
            // 499 is what nginx writes where the client left before there was an answer.
            series.code(if self.status == 0 { 499 } else { self.status }).inc();
        }
        if tracing::enabled!(target: "bearerd::access", Level::DEBUG) {
            tracing::debug!(
                target: "bearerd::access",
                route = route.map_or("-", |route| route.name.as_str()),
                method = %self.method,
                status = self.status,
                bytes = self.bytes,
                aborted = !self.whole,
                took = ?took,
                "request"
            );
        }
    }
}
