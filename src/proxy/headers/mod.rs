//! The one place of header policy, for both directions and for trailers.
//!
//! A request goes out in a head of our own making: nothing is cut out of the client's, but what
//! may go on is copied. So what the client's `Connection` names cannot touch a field of ours
//! (S15), and a field that we set cannot come from the client in any spelling (S16, S18).

#[cfg(test)]
mod tests;

mod rules;
mod survey;

use std::sync::Arc;

use http::header::{
    ALT_SVC, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TE, TRANSFER_ENCODING, VIA, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use http_body::Body as _;

use self::rules::{Fate, is_forwarding, is_hop_by_hop};
pub(super) use self::rules::{Rules, Via};
pub(super) use self::survey::Survey;
use self::survey::is_plain;
use super::refusal::Refusal;
use super::replay::Upload;
use crate::server::Peer;
use crate::token::present::{Mode, Presented};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const UNKNOWN: HeaderValue = HeaderValue::from_static("unknown");
const HTTP: HeaderValue = HeaderValue::from_static("http");
const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
const TE_OPTION: HeaderValue = HeaderValue::from_static("te");
const ZERO: HeaderValue = HeaderValue::from_static("0");

/// As many fields as most requests have.
const ROOM: usize = 24;

/// Shorter credentials are not looked for in answers: they would be found by chance.
const SHORTEST_LEAK: usize = 8;

/// A client's fields, with what the policy asks of their surroundings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client<'c> {
    pub(super) headers: &'c HeaderMap,
    pub(super) found: Survey,
    pub(super) version: Version,
    pub(super) peer: &'c Peer,
}

/// The fields that are the same in all requests of a route while its credential is the same.
#[derive(Debug)]
pub(super) struct Template {
    presented: Arc<Presented>,
    fields: HeaderMap,
}

impl Template {
    pub(super) fn new(rules: &Rules, presented: &Arc<Presented>) -> Self {
        // Room for the client's fields: a copy that has to grow costs as much again.
        let mut fields = HeaderMap::with_capacity(ROOM);
        if let Some(host) = &rules.host {
            fields.insert(HOST, host.clone());
        }
        if rules.forwarded {
            // To be replaced in each request; the copy has the room then.
            fields.insert(X_FORWARDED_FOR, UNKNOWN);
            fields.insert(X_FORWARDED_HOST, UNKNOWN);
            fields.insert(X_FORWARDED_PROTO, HTTP);
        }
        if let Some(via) = &rules.via {
            fields.insert(VIA, via.http_11.clone());
        }
        for (name, value, mode) in &presented.fields {
            if *mode == Mode::Set {
                fields.insert(name, value.clone());
            }
        }
        Self { presented: Arc::clone(presented), fields }
    }

    /// Whether it holds this credential and no other.
    pub(super) fn is_of(&self, presented: &Arc<Presented>) -> bool {
        Arc::ptr_eq(&self.presented, presented)
    }
}

/// Refuses a request that has been here before.
///
/// # Errors
/// It has.
pub(super) fn check_loop(client: Client<'_>, rules: &Rules) -> Result<(), Refusal> {
    let is_ours =
        |via: &Via| client.headers.get_all(VIA).iter().any(|line| names_us(line, &via.pseudonym));
    if client.found.has(Survey::VIA) && rules.via.as_ref().is_some_and(is_ours) {
        return Err(Refusal::Loop);
    }
    Ok(())
}

/// The fields of the request as the upstream gets it. `stripped` is told the place of each
/// credential of the client that does not go on.
pub(super) fn to_upstream(
    client: Client<'_>,
    rules: &Rules,
    template: &Template,
    mut stripped: impl FnMut(usize),
) -> HeaderMap {
    let Client { headers, found, version, peer } = client;
    let mut out = template.fields.clone();
    let via_goes_last = found.has(Survey::VIA) || version == Version::HTTP_10;
    if via_goes_last {
        out.remove(VIA);
    }
    let named = if found.has(Survey::NAMES) { named_in_connection(headers) } else { Vec::new() };
    for (name, value) in headers {
        match rules.fate(name) {
            Fate::Drop => {}
            Fate::Strip(place) => stripped(place),
            Fate::Pass if named.contains(name) => {}
            Fate::Pass if *name == COOKIE => {
                let (kept, place) = rules.cookies.kept(value);
                place.into_iter().for_each(&mut stripped);
                if let Some(kept) = kept {
                    out.append(COOKIE, kept);
                }
            }
            Fate::Pass => {
                out.append(name.clone(), value.clone());
            }
        }
    }
    if found.has(Survey::TE) && lists(headers, &TE, "trailers") {
        out.insert(TE, TRAILERS);
        out.insert(CONNECTION, TE_OPTION);
    }
    let host = headers.get(HOST);
    if rules.forwarded {
        out.insert(X_FORWARDED_FOR, peer.label().clone());
        match host {
            Some(host) => drop(out.insert(X_FORWARDED_HOST, host.clone())),
            None => drop(out.remove(X_FORWARDED_HOST)),
        }
    }
    if let (None, Some(host)) = (&rules.host, host) {
        out.insert(HOST, host.clone());
    }
    if let Some(via) = &rules.via
        && via_goes_last
    {
        let own = if version == Version::HTTP_10 { &via.http_10 } else { &via.http_11 };
        out.append(VIA, own.clone());
    }
    for (name, value, mode) in &template.presented.fields {
        if *mode == Mode::Default && !out.contains_key(name) {
            out.insert(name, value.clone());
        }
    }
    out
}

/// The fields that `Connection` names, in all lines and tokens of it.
fn named_in_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !is_plain(token))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .collect()
}

/// Whether one of a field's comma-separated tokens is `wanted`.
fn lists(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
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

/// Says how the body is framed, from the body alone: the client's own words about it are gone.
pub(super) fn frame(headers: &mut HeaderMap, body: &Upload, had_length: bool) {
    match body.size_hint().exact() {
        // hyper writes no length for an empty body, but `Content-Length: 0` means something on
        // a POST.
        Some(0) if had_length => drop(headers.insert(CONTENT_LENGTH, ZERO)),
        // hyper writes it.
        Some(_) => {}
        // hyper would drop the chunked body of a GET unless told.
        None => drop(headers.insert(TRANSFER_ENCODING, CHUNKED)),
    }
}

/// Makes an answer's head fit for the client. `rejected` says that the answer rejected our
/// credential, of which the client must not be asked for one.
///
/// # Errors
/// An answer that holds a credential.
pub(super) fn to_client(
    headers: &mut HeaderMap,
    found: Survey,
    presented: &Presented,
    rejected: bool,
) -> Result<(), Refusal> {
    if leaks(headers, found.longest(), presented) {
        return Err(Refusal::Leak);
    }
    if found.has(Survey::NAMES) {
        for name in named_in_connection(headers) {
            headers.remove(name);
        }
    }
    if found.has(Survey::CONNECTION) {
        headers.remove(CONNECTION);
    }
    if found.has(Survey::TRANSFER_ENCODING) {
        headers.remove(TRANSFER_ENCODING);
    }
    if found.has(Survey::BETWEEN) {
        let is_between = |name: &&HeaderName| is_hop_by_hop(name.as_str()) || **name == ALT_SVC;
        while let Some(name) = headers.keys().find(is_between).cloned() {
            headers.remove(name);
        }
    }
    if rejected && found.has(Survey::WWW_AUTHENTICATE) {
        headers.remove(WWW_AUTHENTICATE);
    }
    Ok(())
}

/// Whether any value holds an injected credential: what follows the scheme in it.
fn leaks(headers: &HeaderMap, longest: usize, presented: &Presented) -> bool {
    presented
        .fields
        .iter()
        .filter(|(_, value, _)| value.is_sensitive())
        .filter_map(|(_, value, _)| last_word(value.as_bytes(), longest))
        .filter(|secret| secret.len() >= SHORTEST_LEAK)
        .any(|secret| headers.values().any(|value| holds(value, secret)))
}

/// What follows the last space, if it has `most` bytes at most. Tokens are long and header values
/// are not, so this looks at little.
fn last_word(value: &[u8], most: usize) -> Option<&str> {
    let tail = &value[value.len().saturating_sub(most + 1)..];
    let word = tail.rsplit(|b| *b == b' ').next().filter(|word| word.len() <= most)?;
    std::str::from_utf8(word).ok()
}

fn holds(value: &HeaderValue, secret: &str) -> bool {
    value.len() >= secret.len() && String::from_utf8_lossy(value.as_bytes()).contains(secret)
}

/// Removes from a request's trailers what must not come late (RFC 9110 section 6.5.1) and what
/// must not come from the client at all (S17).
pub(super) fn filter_request_trailers(trailers: &mut HeaderMap, rules: &Rules) {
    let doomed: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| !matches!(rules.fate(name), Fate::Pass) || !is_trailer(name.as_str()))
        .cloned()
        .collect();
    for name in doomed {
        trailers.remove(name);
    }
}

/// Removes from an answer's trailers what must not come late.
pub(super) fn filter_answer_trailers(trailers: &mut HeaderMap) {
    let doomed: Vec<HeaderName> =
        trailers.keys().filter(|name| !is_trailer(name.as_str())).cloned().collect();
    for name in doomed {
        trailers.remove(name);
    }
}

/// Whether a field may stand in trailers: nothing about framing, routing, authentication,
/// request modifiers, response control or the content's format.
fn is_trailer(name: &str) -> bool {
    !is_hop_by_hop(name)
        && !is_forwarding(name)
        && !name.starts_with("if-")
        && !matches!(
            name,
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
