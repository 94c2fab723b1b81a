//! What happened to one request, told when its answer's last byte is on its way: metrics, one
//! line of the access log, and an entry for whoever looks at the last requests.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderName, Method};
use tracing::Level;

use super::headers::Places;
use super::route::Route;
use crate::telemetry::journal::{Entry, Inspect, Journal};
use crate::telemetry::log::ACCESS;
use crate::telemetry::spans::Span;
use crate::token::failure::cleaned;
use crate::vocab::Moment;

/// Longer paths are cut where they are shown.
const LONGEST_PATH: usize = 200;

/// A request under way. Dropping it closes the books, so that an answer which the client does
/// not wait for is counted too.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) started: Moment,
    method: Method,
    /// Set by [`enter`].
    pub(super) route: Option<Arc<Route>>,
    pub(super) span: Span,
    /// There only while somebody looks.
    pub(super) sheet: Option<Box<Sheet>>,
    status: u16,
    refusal: Option<&'static str>,
    bytes: u64,
    whole: bool,
    ended: Option<Moment>,
}

/// The request belongs to a route, and to no other any more.
pub(super) fn enter(slot: &mut Option<Arc<Route>>, route: Arc<Route>) -> &Arc<Route> {
    route.metrics.in_flight.inc();
    if let Some(before) = slot.take() {
        before.metrics.in_flight.dec();
    }
    slot.insert(route)
}

impl Record {
    pub(super) fn start(head: &Parts, journal: &Arc<Journal>) -> Self {
        let started = Moment::now();
        let path = head.uri.path();
        let sheet = journal.is_watched(started).then(|| Box::new(Sheet::new(path, journal)));
        Self {
            started,
            method: head.method.clone(),
            route: None,
            span: Span::of_request(&head.method, &head.headers),
            sheet,
            status: 0,
            refusal: None,
            bytes: 0,
            whole: false,
            ended: None,
        }
    }

    /// The answer's head is there.
    pub(super) const fn answered(&mut self, status: u16) {
        self.status = status;
    }

    /// The answer is one of our own, for this reason.
    pub(super) const fn refused(&mut self, slug: &'static str) {
        self.refusal = Some(slug);
    }

    /// So many bytes of the answer's body went by.
    pub(super) const fn passed(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// The upstream fell silent within its answer.
    pub(super) fn stalled(&self) {
        if let Some(route) = &self.route {
            route.metrics.stalls.inc();
        }
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
            series.seconds.observe(took);
            // 499 is what nginx writes where the client left before there was an answer.
            series.code(if self.status == 0 { 499 } else { self.status }).inc();
            self.span.route(route.name.as_str());
        }
        self.span.status(self.status);
        if let Some(slug) = self.refusal {
            self.span.failed(slug);
        }
        if tracing::enabled!(target: ACCESS, Level::DEBUG) {
            tracing::debug!(
                target: ACCESS,
                route = route.map_or("-", |route| route.name.as_str()),
                method = %self.method,
                status = self.status,
                bytes = self.bytes,
                aborted = !self.whole,
                refusal = self.refusal,
                seconds = took.as_secs_f64(),
                "request"
            );
        }
        if let Some(sheet) = self.sheet.take() {
            let Sheet { journal, path, stripped, injected, replayed } = *sheet;
            journal.keep(Box::new(Entry {
                started: self.started,
                took,
                method: self.method.clone(),
                route: route.map(|route| route.name.clone()),
                path,
                status: self.status,
                bytes: self.bytes,
                whole: self.whole,
                stripped: route.map_or_else(Vec::new, |route| stripped.names(&route.places)),
                injected,
                replayed,
                refusal: self.refusal,
            }));
        }
    }
}

/// What is noted of a request that somebody looks at.
#[derive(Debug)]
pub(super) struct Sheet {
    journal: Arc<Journal>,
    path: Option<String>,
    stripped: Places,
    injected: Vec<HeaderName>,
    replayed: bool,
}

impl Sheet {
    fn new(path: &str, journal: &Arc<Journal>) -> Self {
        Self {
            path: (journal.inspect() == Inspect::Paths).then(|| shown(path)),
            journal: Arc::clone(journal),
            stripped: Places::default(),
            injected: Vec::new(),
            replayed: false,
        }
    }

    /// What was stripped from the request, and the fields that are `injected`.
    pub(super) fn dressed<'n>(
        &mut self,
        stripped: Places,
        injected: impl Iterator<Item = &'n HeaderName>,
    ) {
        self.stripped = stripped;
        self.injected = injected.cloned().collect();
    }

    /// The request was sent once more.
    pub(super) const fn replayed(&mut self) {
        self.replayed = true;
    }
}

/// A path as a person may see it: cut, and each segment without what looks like a credential,
/// for some APIs want one there.
fn shown(path: &str) -> String {
    let cut = path.char_indices().nth(LONGEST_PATH).map(|(at, _)| at);
    let kept = path.get(..cut.unwrap_or(path.len())).unwrap_or_default();
    // The beginning of a segment does not show what the segment is.
    let kept =
        if cut.is_some() { kept.rsplit_once('/').map_or("", |(whole, _)| whole) } else { kept };
    let mut out: Vec<String> = kept.split('/').map(cleaned).collect();
    if cut.is_some() {
        out.push("..".to_owned());
    }
    out.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_without_what_could_be_a_credential() {
        for (path, expected) in [
            ("/v2/orders/42", "/v2/orders/42"),
            ("/hooks/T0AB1CD2E/9f8e7d6c5b4a39281706f5e4/x", "/hooks/T0AB1CD2E/[..]/x"),
            ("/bot123456:AAF3xQv9k2LmN0pQrStUvWxYz/send", "/bot123456:[..]/send"),
            ("/a%0a\u{e9}", "/a%0a."),
            ("*", "*"),
        ] {
            assert_eq!(shown(path), expected);
        }
        let long = format!("/{}/{}0123456789abcdef", "x".repeat(150), "s".repeat(60));
        assert_eq!(shown(&long), format!("/{}/..", "x".repeat(150)));
    }
}
