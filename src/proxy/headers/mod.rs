//! The one place of header policy, for both directions and for trailers.
//!
//! A request is judged by [`strip`], and what it makes of the fields can be written in one way only,
//! by [`Outbound::write`].

#[cfg(test)]
mod tests;

mod outbound;
mod rules;
mod survey;

use std::cell::Cell;

use http::header::{
    ALT_SVC, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, SEC_WEBSOCKET_PROTOCOL, TE,
    VIA, WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use hyper::ext::ReasonPhrase;

pub(super) use self::outbound::{Outbound, Sink, Stripped, vacant};
use self::rules::{Cookies, Fate, is_forwarding, is_hop_by_hop};
pub(super) use self::rules::{Rules, Via, is_client_address, is_read_as};
pub(super) use self::survey::Survey;
use super::refusal::Refusal;
use super::{cors, hops};
use crate::server::Peer;
use crate::telemetry::tally::Count;
use crate::token::present::Presented;

/// Shorter credentials are not looked for in answers: they would be found by chance.
const SHORTEST_LEAK: usize = 8;

/// A set of places from which credentials of clients are removed, by their index. Those beyond the
/// last bit share it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Places(u64);

impl Places {
    const LAST: usize = 63;

    const fn with(self, place: usize) -> Self {
        let bit = if place < Self::LAST { place } else { Self::LAST };
        Self(self.0 | 1 << bit)
    }

    /// The names of those in the set.
    pub(super) fn names(self, all: &[String]) -> Vec<String> {
        let has = |index: &usize| self.0 & Self::default().with(*index).0 != 0;
        all.iter()
            .enumerate()
            .filter(|(index, _)| has(index))
            .map(|(_, name)| name.clone())
            .collect()
    }
}

/// Counts the hop, takes the fields out of a client's head and judges which of them are for the
/// upstream. The target keeps its form; see [`super::route::Route::retarget`].
///
/// # Errors
/// A loop, or a query from which no parameter can be removed.
pub(super) fn strip(
    head: &mut Parts,
    found: Survey,
    rules: &Rules,
    peer: &Peer,
    stripped: &[Count],
) -> Result<Stripped, Refusal> {
    let removed = Cell::new(Places::default());
    let count = |place: usize| {
        if let Some(counter) = stripped.get(place) {
            counter.inc();
        }
        removed.set(removed.get().with(place));
    };
    hops::count(head);
    let mut headers = std::mem::take(&mut head.headers);
    if let Some(via) = &rules.via
        && found.has(Survey::VIA)
        && headers.get_all(VIA).iter().any(|value| names_us(value, &via.pseudonym))
    {
        return Err(Refusal::Loop);
    }
    let takes_trailers = found.has(Survey::TE) && lists(&headers, &TE, "trailers");
    if found.has(Survey::CONNECTION) {
        remove_named_in_connection(&mut headers, |name| {
            if let Fate::Strip(place) = rules.fate(name) {
                count(place);
            }
        });
    }
    if found.has(Survey::COOKIE) {
        if head.version == Version::HTTP_2 {
            join_cookies(&mut headers);
        }
        strip_cookies(&mut headers, &rules.cookies, count);
    }
    if found.has(Survey::UPGRADE)
        && let Fate::Strip(place) = rules.fate(&AUTHORIZATION)
        && strip_subprotocols(&mut headers)
    {
        count(place);
    }
    if !rules.query.is_empty() && super::target::strip_query(head, &rules.query)? {
        count(rules.query_place);
    }
    let mut stripped = Stripped::new(headers, takes_trailers, rules, peer, count);
    stripped.places = removed.get();
    Ok(stripped)
}

/// Removes the fields that `Connection` names, all lines and all tokens of it, but not yet
/// `Connection` itself, nor `Host`, which is never about one connection only. `removed` is told of
/// each.
fn remove_named_in_connection(headers: &mut HeaderMap, mut removed: impl FnMut(&HeaderName)) {
    // What is always there names no field, or one that goes anyway.
    let is_plain = |token: &[u8]| {
        [&b""[..], b"close", b"keep-alive"].iter().any(|plain| token.eq_ignore_ascii_case(plain))
    };
    let lines = headers.get_all(CONNECTION);
    if lines.iter().all(|line| is_plain(line.as_bytes())) {
        return;
    }
    let named: Vec<HeaderName> = lines
        .iter()
        .flat_map(|line| line.as_bytes().split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !is_plain(token))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .collect();
    for name in named {
        if name != CONNECTION && name != HOST && headers.remove(&name).is_some() {
            removed(&name);
        }
    }
}

/// Whether one of a field's comma-separated tokens is `wanted`.
pub(super) fn lists(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .flat_map(|line| line.as_bytes().split(|b| *b == b','))
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()))
}

/// Whether a `Via` line holds the pseudonym as a whole word.
fn names_us(line: &HeaderValue, pseudonym: &str) -> bool {
    line.as_bytes()
        .split(|b| matches!(b, b',' | b' ' | b'\t'))
        .any(|word| word.eq_ignore_ascii_case(pseudonym.as_bytes()))
}

/// Makes one field of what HTTP/2 may send in crumbs (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(COOKIE, whole);
    }
}

fn strip_cookies(headers: &mut HeaderMap, cookies: &Cookies, count: impl Fn(usize)) {
    let (names, place) = match cookies {
        Cookies::Kept => return,
        Cookies::AllRemoved { place } => {
            if headers.remove(COOKIE).is_some() {
                count(*place);
            }
            return;
        }
        Cookies::Removed { names, place } => (names, *place),
    };
    let is_stripped = |pair: &[u8]| {
        let name = pair.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
        names.iter().any(|stripped| stripped.as_bytes() == name)
    };
    let lines: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
    if !lines.iter().any(|line| line.as_bytes().split(|b| *b == b';').any(is_stripped)) {
        return;
    }
    count(place);
    headers.remove(COOKIE);
    for line in lines {
        let kept: Vec<&[u8]> =
            line.as_bytes().split(|b| *b == b';').filter(|pair| !is_stripped(pair)).collect();
        let kept = kept.join(&b';');
        if let Ok(value) = HeaderValue::from_bytes(kept.trim_ascii())
            && !value.is_empty()
        {
            headers.append(COOKIE, value);
        }
    }
}

/// What subprotocols begin with by which pages, who can set no field of a handshake, hand over a
/// credential: Kubernetes' and `OpenAI`'s.
const BEARING_SUBPROTOCOLS: [&[u8]; 2] =
    [b"base64url.bearer.authorization.", b"openai-insecure-api-key."];

/// Removes the subprotocols of a handshake that are credentials (S18). True if there were any.
fn strip_subprotocols(headers: &mut HeaderMap) -> bool {
    let bears = |token: &&[u8]| {
        BEARING_SUBPROTOCOLS.iter().any(|start| {
            token.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start))
        })
    };
    fn tokens(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
        line.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii)
    }
    let lines: Vec<HeaderValue> = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().cloned().collect();
    if !lines.iter().flat_map(tokens).any(|token| bears(&token)) {
        return false;
    }
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    for line in &lines {
        let kept: Vec<&[u8]> = tokens(line).filter(|token| !bears(token)).collect();
        if let Ok(value) = HeaderValue::from_bytes(&kept.join(&b", "[..]))
            && !value.is_empty()
        {
            headers.append(SEC_WEBSOCKET_PROTOCOL, value);
        }
    }
    true
}

/// Makes an answer's head, in which these fields were `found`, fit for the client. `rejected` says
/// that the answer rejected our credential, of which the client must not be asked for one.
///
/// # Errors
/// An answer that holds a credential.
pub(super) fn to_client<B>(
    response: &mut Response<B>,
    found: Survey,
    rules: &Rules,
    presented: &Presented,
    rejected: bool,
) -> Result<(), Refusal> {
    if leaks(response, presented) {
        return Err(Refusal::Leak);
    }
    // There is nothing that it could be the length of, not even for HEAD (RFC 9110 section 8.6).
    let is_empty = response.status() == StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    if found.has(Survey::CONNECTION) {
        remove_named_in_connection(headers, |_| {});
        headers.remove(CONNECTION);
    }
    if found.has(Survey::CONTENT_LENGTH) && is_empty {
        headers.remove(CONTENT_LENGTH);
    }
    if rejected {
        headers.remove(WWW_AUTHENTICATE);
    }
    for name in &rules.answer {
        headers.remove(name);
    }
    let doomed = Survey::TE | Survey::TRANSFER_ENCODING | Survey::UPGRADE | Survey::OTHER_DOOMED;
    if found.has(doomed) {
        while let Some(name) = headers.keys().find(|name| is_doomed(name)).cloned() {
            headers.remove(name);
        }
    }
    Ok(())
}

/// Whether an answer loses a field of this name on any route.
fn is_doomed(name: &HeaderName) -> bool {
    is_hop_by_hop(name) || *name == ALT_SVC || cors::is_field(name)
}

/// Whether any value, or the reason phrase, holds an injected credential.
fn leaks<B>(response: &Response<B>, presented: &Presented) -> bool {
    let headers = response.headers();
    let reason = response.extensions().get::<ReasonPhrase>().map(ReasonPhrase::as_bytes);
    let longest = headers.values().map(HeaderValue::len).chain(reason.map(<[u8]>::len)).max();
    secrets(presented, longest.unwrap_or(0)).any(|secret| {
        reason.is_some_and(|reason| holds(reason, secret))
            || headers.values().any(|value| holds(value.as_bytes(), secret))
    })
}

/// Of each injected credential what follows the scheme, if it has `most` bytes at most. Tokens are
/// long and header values are not, so that little is left to look for.
fn secrets(presented: &Presented, most: usize) -> impl Iterator<Item = &[u8]> {
    presented.secrets().filter(move |secret| (SHORTEST_LEAK..=most).contains(&secret.len()))
}

fn holds(value: &[u8], secret: &[u8]) -> bool {
    value.len() >= secret.len() && value.windows(secret.len()).any(|window| window == secret)
}

/// Removes the trailers that hold an injected credential; the answer is under way already.
pub(super) fn remove_leaks(trailers: &mut HeaderMap, presented: &Presented) {
    let is_leak = |value: &[u8]| secrets(presented, value.len()).any(|secret| holds(value, secret));
    let doomed: Vec<HeaderName> = trailers
        .iter()
        .filter(|(_, value)| is_leak(value.as_bytes()))
        .map(|(name, _)| name.clone())
        .collect();
    for name in doomed {
        trailers.remove(name);
    }
}

/// Removes from a request's trailers what must not come late (RFC 9110 section 6.5.1) and what
/// must not come from the client at all (S17).
pub(super) fn filter_request_trailers(trailers: &mut HeaderMap, rules: &Rules) {
    let doomed: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| !matches!(rules.fate(name), Fate::Stay) || !is_trailer(name))
        .cloned()
        .collect();
    for name in doomed {
        trailers.remove(name);
    }
}

/// Removes from an answer's trailers what must not come late, and what the route removes from
/// answers.
pub(super) fn filter_answer_trailers(trailers: &mut HeaderMap, rules: &Rules) {
    let stays = |name: &HeaderName| is_trailer(name) && !rules.answer.contains(name);
    let doomed: Vec<HeaderName> = trailers.keys().filter(|name| !stays(name)).cloned().collect();
    for name in doomed {
        trailers.remove(name);
    }
}

/// Whether a field may stand in trailers: nothing about framing, routing, authentication,
/// request modifiers, response control or the content's format.
fn is_trailer(name: &HeaderName) -> bool {
    !is_hop_by_hop(name)
        && !is_forwarding(name)
        && !name.as_str().starts_with("if-")
        && !matches!(
            name.as_str(),
            "age"
                | "alt-svc"
                | "authorization"
                | "cache-control"
                | "content-encoding"
                | "content-length"
                | "content-range"
                | "content-type"
                | "cookie"
                | "date"
                | "expect"
                | "expires"
                | "host"
                | "location"
                | "max-forwards"
                | "pragma"
                | "range"
                | "retry-after"
                | "set-cookie"
                | "trailer"
                | "vary"
                | "via"
                | "warning"
                | "www-authenticate"
        )
}

/// Removes challenges for authentication that binds to the connection (S40), which clients would
/// share. True if there were any: the connection must not be used again.
pub(super) fn remove_connection_challenges(headers: &mut HeaderMap) -> bool {
    if !headers.contains_key(WWW_AUTHENTICATE) {
        return false;
    }
    let binds = |challenge: &HeaderValue| {
        let text = String::from_utf8_lossy(challenge.as_bytes()).to_ascii_lowercase();
        text.contains("ntlm") || text.contains("negotiate")
    };
    let all: Vec<HeaderValue> = headers.get_all(WWW_AUTHENTICATE).iter().cloned().collect();
    if !all.iter().any(binds) {
        return false;
    }
    headers.remove(WWW_AUTHENTICATE);
    for other in all.into_iter().filter(|challenge| !binds(challenge)) {
        headers.append(WWW_AUTHENTICATE, other);
    }
    true
}
