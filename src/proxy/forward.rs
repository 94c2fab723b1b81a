//! Sends a request to its upstream: with a credential that is good at that moment, once more if
//! the upstream rejects the credential, and once more if a connection that had waited was dead.

use std::sync::Arc;
use std::time::Duration;

use http::{Response, Version, request};

use super::answer::Arrival;
use super::download::Download;
use super::headers::{self, Outbound, Stripped, Survey};
use super::refusal::{Refusal, SOON};
use super::replay::{Keep, Upload};
use super::route::Route;
use super::upgrade;
use super::upstream::{Attempt, Failure, Over};
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
        // In a block of its own: the future would have room for the answer beside all that it needs
        // to get it.
        let reconsidered = {
            let first = self.dispatch(upload).await?;
            if !route.may_reject(first.status().as_u16()) {
                return Ok((first, false));
            }
            Box::pin(self.reconsider(first, has_body, keep))
        };
        reconsidered.await
    }

    /// What counts of an answer that may reject the credential: itself, or the one that follows
    /// once the credential is renewed.
    async fn reconsider(
        &mut self,
        first: Response<Arrival>,
        has_body: bool,
        keep: Option<Keep>,
    ) -> Result<(Response<Arrival>, bool), Refusal> {
        let (first, rejected) = self.judge(first).await?;
        if rejected.is_empty() {
            return Ok((first, false));
        }
        let presentation = &self.route.presentation;
        let is_renewable =
            |index: &usize| presentation.reject(&self.presented, *index) != Rejected::Ignored;
        let renewable: Vec<usize> = rejected.into_iter().filter(is_renewable).collect();
        let again =
            if has_body { keep.as_ref().and_then(Keep::again) } else { Some(Upload::empty()) };
        match again {
            Some(upload) if !renewable.is_empty() => self.replay(first, upload, &renewable).await,
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
        let now = self.now.take().unwrap_or_else(Moment::now);
        let mut attempt = Attempt { upload: Some(upload), over: Over::Any, until: None, now };
        let mut waited = false;
        loop {
            attempt.until = self.presented.usable_until;
            let begun = attempt.now;
            let outbound = self.outbound(&call);
            let failure = match self.route.upstream.send(&outbound, &mut attempt).await {
                Ok(response) => return self.answered(response, &call, begun),
                Err(failure) => failure,
            };
            match failure {
                Failure::Stale if !waited => {
                    waited = true;
                    attempt.now = self.renew().await?;
                    continue;
                }
                Failure::Lost { unprocessed: Some(whole), site, .. }
                    if attempt.over == Over::Any =>
                {
                    attempt.over = Over::New(site);
                    attempt.upload = Some(whole);
                }
                Failure::Lost { unheard: true, site, .. }
                    if repeatable && attempt.over == Over::Any =>
                {
                    attempt.over = Over::New(site);
                    attempt.upload = Some(Upload::empty());
                }
                failure => {
                    let refusal = Refusal::from(failure);
                    call.failed(refusal.slug());
                    return Err(refusal);
                }
            }
            attempt.now = Moment::now();
        }
    }

    /// Waits for a credential in place of one whose time was over. Returns when that is then.
    async fn renew(&mut self) -> Result<Moment, Refusal> {
        let renewed = credential(self.route, Moment::now(), self.token_wait).await?;
        // What is on its way has lost what another route would judge it by.
        let (presented, now) = renewed.ok_or(Refusal::NoToken(SOON))?;
        self.presented = presented;
        Ok(now)
    }

    /// Takes the answer to what was begun to be sent at `begun`.
    fn answered(
        &mut self,
        response: Response<Download>,
        call: &Span,
        begun: Moment,
    ) -> Result<Response<Arrival>, Refusal> {
        self.route.metrics.upstream_seconds.observe(Moment::now().since(begun));
        call.status(response.status().as_u16());
        self.answer = Survey::of(response.headers());
        upgrade::check(&response, self.found, self.answer)?;
        let is_stream = self.answer.has(Survey::STREAM);
        let patience = if is_stream { None } else { self.route.body_idle };
        let response = response.map(|body| Arrival::new(body, patience));
        Ok(settled(response, self.answer))
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
