//! Sends a request to its upstream: with a credential that is good at that moment, once more if
//! the upstream rejects the credential, and once more if a connection that had waited was dead.

use std::sync::Arc;
use std::time::Duration;

use http::{Response, Version, request};

use super::answer::Arrival;
use super::headers::{self, Outbound, Stripped, Survey};
use super::refusal::{Refusal, SOON};
use super::replay::{Keep, Upload};
use super::route::Route;
use super::upgrade;
use super::upstream::{Failure, Over};
use crate::server::{Expired, Incoming, Peer};
use crate::telemetry::spans::Span;
use crate::token::handle::Rejected;
use crate::token::present::{Presented, Waited};
use crate::token::rejection::Verdict;
use crate::vocab::Moment;

/// No client is told to stay away longer.
const LONGEST_AWAY: Duration = Duration::from_secs(30);

/// Most bytes of an answer that are read to tell whether it rejects the credential.
const MOST_JUDGED: usize = 64 * 1024;

/// A request that is ready to go but for the fields that we add.
#[derive(Debug)]
pub(super) struct Trip<'t> {
    route: &'t Arc<Route>,
    head: &'t request::Parts,
    /// What the client's head held.
    found: Survey,
    stripped: Stripped,
    peer: &'t Peer,
    /// The request's own; each call to the upstream has one below it.
    span: &'t Span,
    /// Longest wait for a credential.
    token_wait: Duration,
    /// The credential that is sent, or was sent last.
    pub(super) presented: Arc<Presented>,
    /// The present, if the clock was just read.
    now: Option<Moment>,
    /// What the last answer's head held.
    pub(super) answer: Survey,
    /// The request was sent again with a renewed credential.
    pub(super) replayed: bool,
}

/// The route's credential, waiting for it if it has to, up to `wait` after `since`, by which its
/// time is judged. Also returns when that is then. None if a reload has replaced what would be
/// waited for: another route may be the request's now.
///
/// # Errors
/// There is none in time.
pub(super) async fn credential(
    route: &Route,
    since: Moment,
    wait: Duration,
) -> Result<Option<(Arc<Presented>, Moment)>, Refusal> {
    let ready = route.presentation.load().as_ref().filter(|ready| ready.is_usable(since)).cloned();
    if let Some(presented) = ready {
        route.metrics.injected.inc();
        return Ok(Some((presented, since)));
    }
    let left = wait.saturating_sub(Moment::now().since(since));
    match Box::pin(route.presentation.wait(left)).await {
        Waited::Ready(presented) => {
            route.metrics.waited.inc();
            Ok(Some((presented, Moment::now())))
        }
        Waited::Replaced => Ok(None),
        Waited::InVain => {
            route.metrics.no_token.inc();
            Err(Refusal::NoToken(next_attempt(route)))
        }
    }
}

/// When the last of the route's missing tokens is tried again: a whole second at least, and not
/// so long that a client stays away from an issuer that has come back.
fn next_attempt(route: &Route) -> Duration {
    let now = Moment::now();
    let missing = route.presentation.tokens().iter().filter(|token| token.usable().is_none());
    let due = missing.filter_map(|token| token.report().next_attempt).max();
    due.map_or(SOON, |due| Duration::from_secs(now.until(due).as_secs() + 1).min(LONGEST_AWAY))
}

impl<'t> Trip<'t> {
    pub(super) fn new(
        route: &'t Arc<Route>,
        (head, found, stripped): (&'t request::Parts, Survey, Stripped),
        (peer, span): (&'t Peer, &'t Span),
        token_wait: Duration,
        (presented, now): (Arc<Presented>, Moment),
    ) -> Self {
        let answer = Survey::NONE;
        Self {
            route,
            head,
            found,
            stripped,
            peer,
            span,
            token_wait,
            presented,
            now: Some(now),
            answer,
            replayed: false,
        }
    }

    /// Sends the request and returns the answer that counts, and whether it rejects the
    /// credential.
    ///
    /// # Errors
    /// No answer, or none that can be passed on.
    pub(super) async fn send(
        &mut self,
        body: Incoming,
    ) -> Result<(Response<Arrival>, bool), Refusal> {
        let route = self.route;
        let keeps = route.can_be_rejected() || route.upstream.may_refuse();
        let (upload, keep) = Upload::new(body, route, &self.peer.watch, keeps);
        let has_body = !upload.is_empty();
        let first = self.dispatch(upload).await?;
        if !route.may_reject(first.status().as_u16()) {
            return Ok((first, false));
        }
        let (first, rejected) = Box::pin(self.judge(first)).await?;
        if rejected.is_empty() {
            return Ok((first, false));
        }
        let is_renewable =
            |index: &usize| route.presentation.reject(&self.presented, *index) != Rejected::Ignored;
        let renewable: Vec<usize> = rejected.into_iter().filter(is_renewable).collect();
        let again =
            if has_body { keep.as_ref().and_then(Keep::again) } else { Some(Upload::empty()) };
        match again {
            Some(upload) if !renewable.is_empty() => {
                Box::pin(self.replay(first, upload, &renewable)).await
            }
            _ => Ok((first, true)),
        }
    }

    /// Sends the request again with the renewed credential; the first answer stands if there is
    /// no other credential.
    async fn replay(
        &mut self,
        first: Response<Arrival>,
        upload: Upload,
        renewable: &[usize],
    ) -> Result<(Response<Arrival>, bool), Refusal> {
        let route = self.route;
        let mut renewed = None;
        for index in renewable {
            let wait = route.presentation.renewed(&self.presented, *index, self.token_wait);
            renewed = wait.await;
            if renewed.is_none() {
                break;
            }
        }
        let Some(presented) = renewed else {
            route.metrics.replay_failed.inc();
            return Ok((first, true));
        };
        drop(first);
        self.presented = presented;
        self.replayed = true;
        let outcome = async {
            let second = self.dispatch(upload).await?;
            if !route.may_reject(second.status().as_u16()) {
                return Ok((second, false));
            }
            let (second, rejected) = self.judge(second).await?;
            Ok((second, !rejected.is_empty()))
        };
        let outcome = outcome.await;
        match &outcome {
            Err(_) => route.metrics.replay_failed.inc(),
            Ok((_, true)) => route.metrics.replay_rejected.inc(),
            Ok((_, false)) => route.metrics.replay_accepted.inc(),
        }
        outcome
    }

    /// Sends the request until it is sent: again where the credential's time was over before it
    /// could be, and again where it is safe and most likely was never seen.
    async fn dispatch(&mut self, upload: Upload) -> Result<Response<Arrival>, Refusal> {
        let repeatable = upload.is_empty() && self.head.method.is_idempotent();
        let call = self.span.call(&self.head.method);
        let mut upload = Some(upload);
        let mut over = Over::Any;
        let mut waited = false;
        loop {
            let now = self.now.take().unwrap_or_else(Moment::now);
            let until = self.presented.usable_until;
            let upstream = &self.route.upstream;
            let outbound = self.outbound(&call);
            match upstream.send(&outbound, &mut upload, until, over, now).await {
                Ok(response) => {
                    let took = Moment::now().since(now);
                    self.route.metrics.upstream_seconds.observe(took);
                    call.status(response.status().as_u16());
                    self.answer = Survey::of(response.headers());
                    upgrade::check(&response, self.found, self.answer)?;
                    let is_stream = self.answer.has(Survey::STREAM);
                    let patience = if is_stream { None } else { self.route.body_idle };
                    let response = response.map(|body| Arrival::new(body, patience));
                    return Ok(settled(response, self.answer));
                }
                Err(Failure::Stale) if !waited => {
                    waited = true;
                    let renewed = credential(self.route, Moment::now(), self.token_wait).await?;
                    // What is on its way has lost what another route would judge it by.
                    let (presented, now) = renewed.ok_or(Refusal::NoToken(SOON))?;
                    self.presented = presented;
                    self.now = Some(now);
                }
                Err(Failure::Lost { unprocessed: Some(whole), site, .. }) if over == Over::Any => {
                    over = Over::New(site);
                    upload = Some(whole);
                }
                Err(Failure::Lost { unheard: true, site, .. })
                    if repeatable && over == Over::Any =>
                {
                    over = Over::New(site);
                    upload = Some(Upload::empty());
                }
                Err(failure) => {
                    let refusal = Refusal::from(failure);
                    call.failed(refusal.slug());
                    return Err(refusal);
                }
            }
        }
    }

    /// The request as it goes out now.
    fn outbound<'o>(&'o self, span: &'o Span) -> Outbound<'o> {
        Outbound {
            head: self.head,
            stripped: &self.stripped,
            found: self.found,
            rules: &self.route.rules,
            peer: self.peer,
            span,
            presented: &self.presented,
        }
    }

    /// The tokens, by index, that an answer rejects.
    async fn judge(
        &self,
        response: Response<Arrival>,
    ) -> Result<(Response<Arrival>, Vec<usize>), Refusal> {
        let (head, mut arrival) = response.into_parts();
        let mut rejected = Vec::new();
        let mut body = None;
        for (index, token) in self.route.presentation.tokens().iter().enumerate() {
            for rule in token.rejections() {
                let holds = match rule.by_head(&head) {
                    Verdict::No => false,
                    Verdict::Yes => true,
                    Verdict::NeedsBody => {
                        if body.is_none() {
                            let peek = self.peer.watch.limit(arrival.peek(MOST_JUDGED)).await;
                            body = Some(peek.map_err(expired)?.map_err(Refusal::Reset)?);
                        }
                        let whole = body.as_ref().and_then(Option::as_ref);
                        whole.is_some_and(|body| rule.by_body(body))
                    }
                };
                if holds {
                    rejected.push(index);
                    break;
                }
            }
        }
        if !rejected.is_empty() {
            self.route.metrics.unauthorized(head.status.as_u16());
        }
        Ok((Response::from_parts(head, arrival), rejected))
    }
}

/// Takes out of an answer, in whose head these fields were `found`, what is about its connection.
fn settled(mut response: Response<Arrival>, found: Survey) -> Response<Arrival> {
    *response.version_mut() = Version::HTTP_11;
    if found.has(Survey::WWW_AUTHENTICATE)
        && headers::remove_connection_challenges(response.headers_mut())
    {
        response.body_mut().last();
    }
    response
}

const fn expired(expired: Expired) -> Refusal {
    match expired {
        Expired::Answer => Refusal::Timeout,
        Expired::Body => Refusal::BodyTimeout,
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Dial(error) => Self::Connect(error),
            Failure::Stale => Self::NoToken(SOON),
            Failure::Expired(what) => expired(what),
            Failure::Lost { cut, .. } if cut.is_upload() => Self::Body(cut),
            Failure::Lost { cut, .. } if cut.is_malformed() => {
                Self::Malformed(format!("is not valid HTTP: {cut}").into())
            }
            Failure::Lost { cut, .. } => Self::Reset(cut),
        }
    }
}
