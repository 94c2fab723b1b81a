//! Sends a request to its upstream: with a credential that is good at that moment, once more if
//! the upstream rejects the credential, and once more if a connection that had waited was dead.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;

use super::answer::Arrival;
use super::headers::{self, Client, Survey};
use super::refusal::Refusal;
use super::replay::{Keep, Upload};
use super::route::Route;
use super::upstream::{Failure, Over};
use crate::server::Expired;
use crate::token::handle::Rejected;
use crate::token::present::Presented;
use crate::token::rejection::Verdict;
use crate::vocab::Moment;

/// Most bytes of an answer that are read to tell whether it rejects the credential.
const MOST_JUDGED: usize = 64 * 1024;

/// A request that has found its route and its credential.
#[derive(Debug)]
pub(super) struct Trip<'t> {
    pub(super) route: &'t Arc<Route>,
    pub(super) client: Client<'t>,
    pub(super) method: &'t Method,
    /// The target at the upstream.
    pub(super) uri: Uri,
    /// Longest wait for a credential.
    pub(super) token_wait: Duration,
    /// The credential that is sent, or was sent last.
    pub(super) presented: Arc<Presented>,
    /// Whether it has been made once.
    pub(super) sent: bool,
}

/// The route's credential, waiting for it if it has to; it is `now`.
///
/// # Errors
/// There is none in time.
pub(super) async fn credential(
    route: &Route,
    now: Moment,
    wait: Duration,
) -> Result<Arc<Presented>, Refusal> {
    let ready = route.presentation.load().as_ref().filter(|ready| ready.is_usable(now)).cloned();
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
    /// Sends the request and returns the answer that counts, fit for the client.
    ///
    /// # Errors
    /// No answer, or none that can be passed on.
    pub(super) async fn send(&mut self, body: Incoming) -> Result<Response<Arrival>, Refusal> {
        let route = self.route;
        let watch = &self.client.peer.watch;
        let (upload, keep) = Upload::new(body, route, watch, route.can_be_rejected());
        let has_body = !upload.is_empty();
        let first = self.dispatch(upload).await?;
        if !route.may_reject(first.status().as_u16()) {
            return self.finished(first, false);
        }
        let (first, rejected) = self.judge(first).await?;
        if rejected.is_empty() {
            return self.finished(first, false);
        }
        let is_renewable =
            |index: &usize| route.presentation.reject(&self.presented, *index) != Rejected::Ignored;
        let renewable: Vec<usize> = rejected.into_iter().filter(is_renewable).collect();
        let again =
            if has_body { keep.as_ref().and_then(Keep::again) } else { Some(Upload::empty()) };
        let (last, rejected) = match again {
            Some(upload) if !renewable.is_empty() => self.replay(first, upload, &renewable).await?,
            _ => (first, true),
        };
        self.finished(last, rejected)
    }

    fn finished(
        &self,
        mut response: Response<Arrival>,
        rejected: bool,
    ) -> Result<Response<Arrival>, Refusal> {
        let found = Survey::of(response.headers());
        check_framing(&mut response, found)?;
        headers::to_client(response.headers_mut(), found, &self.presented, rejected)?;
        Ok(response)
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
    async fn dispatch(&mut self, mut upload: Upload) -> Result<Response<Arrival>, Refusal> {
        let repeatable = upload.is_empty() && self.method.is_idempotent();
        let mut over = Over::Any;
        let mut waited = false;
        loop {
            let now = Moment::now();
            let until = self.presented.usable_until;
            let request = self.request(upload);
            let sent =
                self.route.upstream.send(request, until, over, now, &self.client.peer.watch).await;
            match sent {
                Ok((response, lease)) => {
                    let took = Moment::now().since(now);
                    self.route.metrics.upstream_seconds.observe(took.as_secs_f64());
                    return Ok(response.map(|body| Arrival::new(body, lease)));
                }
                Err(Failure::Stale(unsent)) if !waited => {
                    waited = true;
                    upload = unsent;
                    self.presented = credential(self.route, Moment::now(), self.token_wait).await?;
                }
                Err(Failure::Lost { unheard: true, .. }) if repeatable && over == Over::Any => {
                    over = Over::New;
                    upload = Upload::empty();
                }
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    fn request(&mut self, upload: Upload) -> Request<Upload> {
        let again = std::mem::replace(&mut self.sent, true);
        let mut headers = self.route.outgoing(self.client, &self.presented, again);
        headers::frame(&mut headers, &upload, self.client.found.has(Survey::CONTENT_LENGTH));
        let mut request = Request::new(upload);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        request
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
                            let peek =
                                self.client.peer.watch.limit(arrival.peek(MOST_JUDGED)).await;
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

/// Refuses an answer that hyper takes and nobody should pass on, and settles its length.
fn check_framing(response: &mut Response<Arrival>, found: Survey) -> Result<(), Refusal> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refusal::Malformed("switches protocols unasked".into()));
    }
    *response.version_mut() = Version::HTTP_11;
    if found.has(Survey::TRANSFER_ENCODING) {
        let mut codings = response.headers().get_all(TRANSFER_ENCODING).iter();
        let is_chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if !codings.next().is_some_and(is_chunked) || codings.next().is_some() {
            return Err(Refusal::Malformed("has a transfer coding other than `chunked`".into()));
        }
        // Both framings at once: the next answer may begin anywhere (RFC 9112 section 6.3).
        if response.headers_mut().remove(CONTENT_LENGTH).is_some() {
            response.body_mut().last();
        }
    } else if found.has(Survey::LENGTHS) {
        settle_length(response.headers_mut())?;
    }
    if found.has(Survey::WWW_AUTHENTICATE)
        && headers::remove_connection_challenges(response.headers_mut())
    {
        response.body_mut().last();
    }
    Ok(())
}

/// Makes one length of several. hyper has seen to it that they are the same.
fn settle_length(headers: &mut HeaderMap) -> Result<(), Refusal> {
    let first = headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes).unwrap_or_default();
    let one = first.split(|b| *b == b',').next().unwrap_or_default().trim_ascii();
    let one = HeaderValue::from_bytes(one)
        .map_err(|_| Refusal::Malformed("has no valid length".into()))?;
    headers.insert(CONTENT_LENGTH, one);
    Ok(())
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
