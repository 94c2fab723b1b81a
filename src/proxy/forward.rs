//! Sends a request to its upstream: with a credential that is good at that moment, once more if
//! the upstream rejects the credential, and once more if a connection that had waited was dead.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Request, StatusCode, Version, request, response};
use hyper::body::Incoming;

use super::answer::Arrival;
use super::headers;
use super::refusal::Refusal;
use super::replay::{Keep, Upload};
use super::route::Route;
use super::upstream::{Failure, Over};
use crate::server::{Expired, Peer};
use crate::token::handle::Rejected;
use crate::token::present::Presented;
use crate::token::rejection::Verdict;
use crate::vocab::Moment;

/// Most bytes of an answer that are read to tell whether it rejects the credential.
const MOST_JUDGED: usize = 64 * 1024;

/// A request that is ready to go but for the injected fields.
#[derive(Debug)]
pub(super) struct Trip<'t> {
    pub(super) route: &'t Arc<Route>,
    pub(super) head: request::Parts,
    /// Whether the client gave its body's length.
    pub(super) had_length: bool,
    pub(super) peer: &'t Peer,
    /// Longest wait for a credential.
    pub(super) token_wait: Duration,
}

/// An answer, and with what it was got.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) head: response::Parts,
    pub(super) arrival: Arrival,
    pub(super) presented: Arc<Presented>,
    /// Whether the upstream rejected the credential.
    pub(super) rejected: bool,
}

/// The route's credential, waiting for it if it has to.
///
/// # Errors
/// There is none in time.
pub(super) async fn credential(route: &Route, wait: Duration) -> Result<Arc<Presented>, Refusal> {
    let ready = route.presentation.load().as_ref().filter(|p| p.is_usable(Moment::now())).cloned();
    if let Some(presented) = ready {
        route.metrics.injected.inc();
        return Ok(presented);
    }
    if let Some(presented) = route.presentation.wait(wait).await {
        route.metrics.waited.inc();
        return Ok(presented);
    }
    route.metrics.no_token.inc();
    Err(Refusal::NoToken)
}

impl Trip<'_> {
    /// Sends the request and returns the answer that counts.
    ///
    /// # Errors
    /// No answer, or none that can be passed on.
    pub(super) async fn send(
        self,
        body: Incoming,
        presented: Arc<Presented>,
    ) -> Result<Got, Refusal> {
        let route = self.route;
        let (upload, keep) = Upload::new(body, route, &self.peer.watch, route.can_be_rejected());
        let has_body = !upload.is_empty();
        let mut first = self.dispatch(upload, presented).await?;
        if !route.may_reject(first.head.status.as_u16()) {
            return Ok(first);
        }
        let rejected = self.judge(&mut first).await?;
        if rejected.is_empty() {
            return Ok(first);
        }
        route.metrics.unauthorized(first.head.status.as_u16());
        first.rejected = true;
        let again =
            if has_body { keep.as_ref().and_then(Keep::again) } else { Some(Upload::empty()) };
        let renewable: Vec<usize> = rejected
            .into_iter()
            .filter(|index| {
                route.presentation.reject(&first.presented, *index) != Rejected::Ignored
            })
            .collect();
        match again {
            Some(upload) if !renewable.is_empty() => self.replay(first, upload, &renewable).await,
            _ => Ok(first),
        }
    }

    /// Sends the request again with the renewed credential; the first answer stands if there is
    /// no other credential.
    async fn replay(
        &self,
        first: Got,
        upload: Upload,
        renewable: &[usize],
    ) -> Result<Got, Refusal> {
        let metrics = &self.route.metrics;
        let mut renewed = None;
        for index in renewable {
            let wait = self.route.presentation.renewed(&first.presented, *index, self.token_wait);
            renewed = wait.await;
            if renewed.is_none() {
                break;
            }
        }
        let Some(presented) = renewed else {
            metrics.replay_failed.inc();
            return Ok(first);
        };
        drop(first);
        let outcome = async {
            let mut second = self.dispatch(upload, presented).await?;
            if self.route.may_reject(second.head.status.as_u16()) {
                second.rejected = !self.judge(&mut second).await?.is_empty();
            }
            Ok(second)
        };
        let outcome = outcome.await;
        match &outcome {
            Err(_) => metrics.replay_failed.inc(),
            Ok(second) if second.rejected => {
                metrics.unauthorized(second.head.status.as_u16());
                metrics.replay_rejected.inc();
            }
            Ok(_) => metrics.replay_accepted.inc(),
        }
        outcome
    }

    /// Sends the request until it is sent: again where the credential's time was over before it
    /// could be, and again where it is safe and most likely was never seen.
    async fn dispatch(
        &self,
        mut upload: Upload,
        mut presented: Arc<Presented>,
    ) -> Result<Got, Refusal> {
        let repeatable = upload.is_empty() && self.head.method.is_idempotent();
        let mut over = Over::Any;
        let mut waited = false;
        loop {
            let started = Moment::now();
            let request = self.request(upload, &presented);
            let until = presented.usable_until;
            let sent = self.route.upstream.send(request, until, over, &self.peer.watch).await;
            match sent {
                Ok((response, lease)) => {
                    let took = Moment::now().since(started);
                    self.route.metrics.upstream_seconds.observe(took.as_secs_f64());
                    let (head, body) = response.into_parts();
                    let mut arrival = Arrival::new(body, lease);
                    let head = checked(head, &mut arrival)?;
                    return Ok(Got { head, arrival, presented, rejected: false });
                }
                Err(Failure::Stale(unsent)) if !waited => {
                    waited = true;
                    upload = unsent;
                    presented = credential(self.route, self.token_wait).await?;
                }
                Err(Failure::Lost { unheard: true, .. }) if repeatable && over == Over::Any => {
                    over = Over::New;
                    upload = Upload::empty();
                }
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    fn request(&self, upload: Upload, presented: &Presented) -> Request<Upload> {
        let mut headers = self.head.headers.clone();
        headers::frame(&mut headers, &upload, self.had_length);
        headers::inject(&mut headers, presented);
        let mut request = Request::new(upload);
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = self.head.uri.clone();
        *request.headers_mut() = headers;
        request
    }

    /// The tokens, by index, that an answer rejects.
    async fn judge(&self, got: &mut Got) -> Result<Vec<usize>, Refusal> {
        let mut rejected = Vec::new();
        let mut body = None;
        for (index, token) in self.route.presentation.tokens().iter().enumerate() {
            for rule in token.rejections() {
                let holds = match rule.by_head(&got.head) {
                    Verdict::No => false,
                    Verdict::Yes => true,
                    Verdict::NeedsBody => {
                        if body.is_none() {
                            let peek = got.arrival.peek(MOST_JUDGED);
                            let peek = self.peer.watch.limit(peek).await;
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
        Ok(rejected)
    }
}

/// Refuses an answer that hyper takes and nobody should pass on, and settles its length.
fn checked(mut head: response::Parts, arrival: &mut Arrival) -> Result<response::Parts, Refusal> {
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refusal::Malformed("switches protocols unasked".into()));
    }
    head.version = Version::HTTP_11;
    let mut codings = head.headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::Malformed("has a transfer coding other than `chunked`".into()));
        }
        // Both framings at once: the next answer may begin anywhere (RFC 9112 section 6.3).
        if head.headers.remove(CONTENT_LENGTH).is_some() {
            arrival.last();
        }
    }
    let mut lengths = head.headers.get_all(CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next()
        && (lengths.next().is_some() || length.as_bytes().contains(&b','))
    {
        // hyper has seen to it that they are all the same.
        let one = length.as_bytes().split(|b| *b == b',').next().unwrap_or_default().trim_ascii();
        let one = HeaderValue::from_bytes(one)
            .map_err(|_| Refusal::Malformed("has no valid length".into()))?;
        head.headers.insert(CONTENT_LENGTH, one);
    }
    if headers::remove_connection_challenges(&mut head.headers) {
        arrival.last();
    }
    Ok(head)
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
            Failure::Stale(_) => Self::NoToken,
            Failure::Expired(what) => expired(what),
            Failure::Lost { error, .. } if error.is_user() => Self::Body(error),
            Failure::Lost { error, .. } if error.is_parse() => {
                Self::Malformed(format!("is not valid HTTP: {error}").into())
            }
            Failure::Lost { error, .. } => Self::Reset(error),
        }
    }
}
