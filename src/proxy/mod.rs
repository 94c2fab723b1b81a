//! The path of a request: [`Proxy::handle`], read from top to bottom.
//!
//! A request is admitted by the guard, finds its route, is rid of everything that the upstream
//! must not see, gets the credential, goes out, and its answer is rid of what the client must not
//! see. Whatever goes wrong on the way is a [`Refusal`], and nothing else makes an answer.

mod access;
mod answer;
pub mod caller;
pub mod cors;
pub mod download;
mod forward;
pub mod forwarded;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod guard;
mod headers;
mod hops;
mod http1;
mod http2;
pub mod origin;
pub mod page;
mod pool;
mod record;
pub mod refusal;
mod replay;
pub mod route;
mod settings;
mod target;
mod upgrade;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::request::Parts;
use http::{HeaderMap, Response, Version};

pub use answer::Answer;
use answer::{Arrival, Client};
use caller::Caller;
use cors::Grant;
use forward::Trip;
use guard::Guard;
use headers::Survey;
use page::Page;
use record::Record;
use refusal::{Refusal, Tally};
use route::{Route, Routes};

use crate::net::body::Body;
use crate::server::{Handler, Incoming, Peer};
use crate::telemetry::journal::Journal;
use crate::telemetry::metrics::Metrics;
use crate::token::present::Presented;

/// Everything that a change of the configuration replaces.
#[derive(Debug)]
pub struct State {
    guard: Guard,
    caller: Option<Caller>,
    routes: Routes,
    token_wait: Duration,
}

impl State {
    /// The routes, the further `hosts` under which they may be addressed, and how long a request
    /// waits for a token.
    #[must_use]
    pub fn new<'h>(
        routes: Routes,
        hosts: impl IntoIterator<Item = &'h str>,
        token_wait: Duration,
    ) -> Self {
        let mut guard = Guard::new();
        guard.add(hosts);
        guard.add(routes.hosts());
        Self { guard, caller: None, routes, token_wait }
    }

    /// Every request must prove that it comes from an intended caller.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn with_caller(mut self, settings: &caller::Settings) -> Result<Self, NoRandomNumbers> {
        self.caller = Some(Caller::new(settings).ok_or(NoRandomNumbers)?);
        Ok(self)
    }
}

/// The system has no random numbers to give.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoRandomNumbers;

/// How a request ends well.
enum Reply {
    /// With the upstream's answer.
    Relayed(Response<Arrival>, Arc<Presented>),
    /// With one of our own.
    Own(Response<Body>),
}

/// A request that may go on.
struct Admitted<'r> {
    route: &'r Arc<Route>,
    token_wait: Duration,
    /// The fields of an answer that needs no upstream: to a browser that asks what a listed page
    /// may send, to a request that may go no further.
    here: Option<HeaderMap>,
}

impl State {
    /// Lets a request in: who may speak, to which route, for which page, and what of the route.
    /// `grant` learns what a browser may be told, even of a refusal.
    fn admit<'r>(
        &self,
        head: &mut Parts,
        found: Survey,
        peer: &Peer,
        slot: &'r mut Option<Arc<Route>>,
        grant: &mut Grant,
    ) -> Result<Admitted<'r>, Refusal> {
        *grant = Grant::early(&head.headers, found, |origin| self.routes.list(origin));
        self.guard.admit(head, found, peer)?;
        let route = record::enter(slot, Arc::clone(self.routes.find(head)?));
        grant.narrow(&route.cors);
        if found.has(Survey::PAGE) {
            let own = guard::host_of(&head.headers, head.version)?;
            let page = page::judge(&head.headers, own, &route.cors, route.navigation)?;
            // A browser asks before it sends anything, and cannot prove anything yet.
            if page == Page::Listed && cors::is_preflight(head) {
                let here = Some(cors::grant_preflight(head));
                return Ok(Admitted { route, token_wait: self.token_wait, here });
            }
        }
        if let Some(caller) = &self.caller {
            caller.admit(&head.headers)?;
        }
        route.permits(head)?;
        Ok(Admitted { route, token_wait: self.token_wait, here: hops::spent(head) })
    }
}

/// Answers the proxy listener's requests.
#[derive(Debug)]
pub struct Proxy {
    state: Arc<ArcSwap<State>>,
    refused: Tally,
    journal: Arc<Journal>,
}

impl Proxy {
    /// A proxy that follows `state` and tells `journal` of requests while somebody looks.
    #[must_use]
    pub fn new(state: Arc<ArcSwap<State>>, metrics: &Metrics, journal: Arc<Journal>) -> Self {
        Self { state, refused: Tally::new(metrics), journal }
    }

    async fn exchange(
        &self,
        head: &mut Parts,
        body: Incoming,
        peer: &Peer,
        record: &mut Record,
        grant: &mut Grant,
    ) -> Result<Reply, Refusal> {
        let Record { started, route: slot, sheet, span, .. } = record;
        let now = *started;
        let found = Survey::of(&head.headers);
        let (route, token_wait, presented) = loop {
            let admitted = self.state.load().admit(head, found, peer, slot, grant)?;
            let Admitted { route, token_wait, here } = admitted;
            if let Some(fields) = here {
                return Ok(Reply::Own(refusal::granted(fields)));
            }
            // A head that waits is as it came: a reload may send it to another route.
            if let Some(presented) = forward::credential(route, now, token_wait).await? {
                break (route, token_wait, presented);
            }
        };
        // In a block of its own: what lives on beside the trip would be kept while it lasts.
        let mut trip = {
            let found = upgrade::asked(head, found);
            let counters = &route.metrics.stripped;
            let stripped = headers::strip(head, found, &route.rules, peer, counters)?;
            route.retarget(&mut head.uri)?;
            if let Some(sheet) = sheet {
                let injected = stripped.injected(&route.rules, peer, &presented.0);
                sheet.dressed(stripped.places, injected.map(|(name, _)| name));
            }
            Trip::new(route, (head, found, stripped), (peer, span), token_wait, presented)
        };
        let sent = trip.send(body).await;
        if let (true, Some(sheet)) = (trip.replayed, sheet) {
            sheet.replayed();
        }
        let (mut response, rejected) = sent?;
        let presented = trip.presented;
        headers::to_client(&mut response, trip.answer, &route.rules, &presented, rejected)?;
        upgrade::open(head, &mut response, route, peer);
        Ok(Reply::Relayed(response, presented))
    }
}

impl Handler for Proxy {
    type Body = Answer;

    async fn handle(&self, head: &mut Parts, body: Incoming, peer: &Peer) -> Response<Answer> {
        let mut record = Record::start(head, &self.journal);
        // To HTTP/1.0 the end of the connection may be the end of the answer.
        let old = head.version < Version::HTTP_11;
        let mut grant = Grant::default();
        let reply = self.exchange(head, body, peer, &mut record, &mut grant).await;
        let mut response = match reply {
            Ok(Reply::Relayed(response, presented)) => {
                record.answered(response.status().as_u16());
                let client = Client { watch: Arc::clone(&peer.watch), old };
                response.map(|arrival| Answer::relayed(arrival, presented, record, client))
            }
            Ok(Reply::Own(response)) => {
                record.answered(response.status().as_u16());
                response.map(|body| Answer::own(body, record))
            }
            Err(refusal) => {
                tracing::debug!(slug = refusal.slug(), %refusal, "refused");
                self.refused.count(&refusal);
                record.refused(refusal.slug());
                let response = refusal.to_response(peer.watch.owes_body());
                record.answered(response.status().as_u16());
                response.map(|body| Answer::own(body, record))
            }
        };
        grant.tell(response.headers_mut());
        response
    }
}
