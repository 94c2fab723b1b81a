//! The path of a request: [`Proxy::handle`], read from top to bottom.
//!
//! A request is admitted by the guard, finds its route, is rid of everything that the upstream
//! must not see, gets the credential, goes out, and its answer is rid of what the client must not
//! see. Whatever goes wrong on the way is a [`Refusal`], and nothing else makes an answer.

mod access;
mod answer;
mod forward;
mod guard;
mod headers;
mod pool;
mod record;
pub mod refusal;
mod replay;
pub mod route;
mod settings;
mod target;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Request, Response, Version};
use hyper::body::Incoming;

pub use answer::Answer;
use answer::Arrival;
use forward::Trip;
use guard::Guard;
use headers::{Client, Survey};
use record::Record;
use refusal::{Refusal, Tally};
use route::Routes;

use crate::server::{Handler, Peer};
use crate::telemetry::metrics::Metrics;

/// Everything that a change of the configuration replaces.
#[derive(Debug)]
pub struct State {
    guard: Guard,
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
        Self { guard, routes, token_wait }
    }
}

/// Answers the proxy listener's requests.
#[derive(Debug)]
pub struct Proxy {
    state: Arc<ArcSwap<State>>,
    refused: Tally,
}

impl Proxy {
    /// A proxy that follows `state`.
    #[must_use]
    pub fn new(state: Arc<ArcSwap<State>>, metrics: &Metrics) -> Self {
        Self { state, refused: Tally::new(metrics) }
    }

    async fn exchange(
        &self,
        request: Request<Incoming>,
        peer: &Peer,
        record: &mut Record,
    ) -> Result<Response<Arrival>, Refusal> {
        let now = record.started();
        let (mut head, body) = request.into_parts();
        let found = Survey::of(&head.headers);
        let (route, token_wait) = {
            let state = self.state.load();
            state.guard.admit(&mut head, found, peer)?;
            let route = Arc::clone(state.routes.find(&head)?);
            (record.enter(route), state.token_wait)
        };
        let client = Client { headers: &head.headers, found, version: head.version, peer };
        headers::check_loop(client, &route.rules)?;
        let uri = route.target(head.uri)?;
        let presented = forward::credential(route, now, token_wait).await?;
        let method = &head.method;
        let mut trip = Trip { route, client, method, uri, token_wait, presented, sent: false };
        trip.send(body).await
    }
}

impl Handler for Proxy {
    type Body = Answer;

    async fn handle(&self, request: Request<Incoming>, peer: &Peer) -> Response<Answer> {
        let mut record = Record::start(request.method().clone());
        // To HTTP/1.0 the end of the connection may be the end of the answer.
        let old = request.version() < Version::HTTP_11;
        match self.exchange(request, peer, &mut record).await {
            Ok(response) => {
                record.answered(response.status().as_u16());
                let watch = old.then(|| Arc::clone(&peer.watch));
                response.map(|arrival| Answer::relayed(arrival, record, watch))
            }
            Err(refusal) => {
                tracing::debug!(slug = refusal.slug(), %refusal, "refused");
                self.refused.count(&refusal);
                let response = refusal.to_response(peer.watch.owes_body());
                record.answered(response.status().as_u16());
                response.map(|body| Answer::own(body, record))
            }
        }
    }
}
