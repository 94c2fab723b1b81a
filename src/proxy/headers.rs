//! The one place of header policy, for both directions and for trailers.
//!
//! The order of [`to_upstream`] and [`inject`] is a security invariant: what the client's
//! `Connection` names is removed before our fields go in, or `Connection: authorization` would
//! remove the credential (S15); the client's credentials are removed before, in every spelling
//! (S16, S18); the injection comes last.

use http::header::{
    ALT_SVC, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, VIA, WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use http_body::Body as _;
use prometheus::IntCounter;

use super::refusal::Refusal;
use super::replay::Upload;
use super::settings::{HostField, Settings};
use crate::server::Peer;
use crate::token::present::{Mode, Presented};
use crate::vocab::FieldName;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HTTP: HeaderValue = HeaderValue::from_static("http");
const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
const TE_OPTION: HeaderValue = HeaderValue::from_static("te");
const ZERO: HeaderValue = HeaderValue::from_static("0");

/// Shorter credentials are not looked for in answers: they would be found by chance.
const SHORTEST_LEAK: usize = 8;

/// What one route does to header fields, prepared from the settings.
#[derive(Debug)]
pub(super) struct Rules {
    /// Names that never come from the client, with the place where their removal is counted.
    protected: Vec<(HeaderName, usize)>,
    /// Beginnings of such names.
    prefixes: Vec<(Box<str>, usize)>,
    cookies: Cookies,
    query: Vec<Box<str>>,
    /// Where removed parameters are counted.
    query_place: usize,
    host: Option<HeaderValue>,
    forwarded: bool,
    via: Option<Via>,
}

#[derive(Debug)]
enum Cookies {
    Kept,
    Removed { names: Vec<Box<str>>, place: usize },
    AllRemoved { place: usize },
}

/// How this process names itself in `Via`: different in each process, so that a loop is told
/// from a chain.
#[derive(Debug, Clone)]
pub(super) struct Via {
    pseudonym: String,
    http_11: HeaderValue,
    http_10: HeaderValue,
}

impl Via {
    pub(super) fn new() -> Self {
        let pseudonym = format!("bearerd-{:08x}", fastrand::u32(..));
        let value = |version: &str| {
            HeaderValue::try_from(format!("{version} {pseudonym}"))
                .unwrap_or_else(|_| HeaderValue::from_static("1.1 bearerd"))
        };
        Self { http_11: value("1.1"), http_10: value("1.0"), pseudonym }
    }
}

/// What a name is to the policy.
enum Fate {
    /// It stays.
    Stay,
    /// It goes, silently.
    Go,
    /// It is a client's credential, counted at this place.
    Strip(usize),
}

impl Rules {
    /// Prepares the rules of the route `own`, and the names of the places where removed
    /// credentials are counted. A field that any route of `all` sets is a credential on each.
    pub(super) fn new(own: &Settings, all: &[Settings], via: Option<Via>) -> (Self, Vec<String>) {
        let mut places: Vec<String> = Vec::new();
        let mut protected: Vec<(HeaderName, usize)> = Vec::new();
        let injected = all.iter().flat_map(|route| &route.inject);
        let injected = injected.filter(|(_, field)| field.mode() == Mode::Set);
        let is_kept = |name: &HeaderName| {
            let own = own.inject.iter().find(|(field, _)| field.as_header() == name);
            own.is_some_and(|(_, field)| field.mode() == Mode::Default)
        };
        let strip = &own.strip;
        let names = [&AUTHORIZATION, &PROXY_AUTHORIZATION]
            .into_iter()
            .chain(injected.map(|(name, _)| name.as_header()))
            .chain(strip.headers.iter().map(FieldName::as_header));
        for name in names {
            if protected.iter().all(|(known, _)| known != name) && !is_kept(name) {
                protected.push((name.clone(), places.len()));
                places.push(name.as_str().to_owned());
            }
        }
        let mut place = |name: String| {
            places.push(name);
            places.len() - 1
        };
        let prefixes = strip
            .header_prefixes
            .iter()
            .map(|prefix| folded(prefix.as_str()))
            .map(|prefix| (prefix.clone().into_boxed_str(), place(format!("{prefix}*"))))
            .collect();
        let cookies = if strip.cookies.is_empty() {
            Cookies::Kept
        } else if strip.cookies.iter().any(|name| name.as_str() == "*") {
            Cookies::AllRemoved { place: place("cookie".to_owned()) }
        } else {
            let names = strip.cookies.iter().map(|name| name.as_str().into()).collect();
            Cookies::Removed { names, place: place("cookie".to_owned()) }
        };
        let query_place = place("query".to_owned());
        let rules = Self {
            protected,
            prefixes,
            cookies,
            query: strip.query.iter().map(|key| key.as_str().into()).collect(),
            query_place,
            host: match own.host {
                HostField::Upstream => Some(own.upstream.host_value()),
                HostField::Keep => None,
            },
            forwarded: own.forwarded,
            via,
        };
        (rules, places)
    }

    /// What becomes of a request's field.
    fn fate(&self, name: &HeaderName) -> Fate {
        let text = name.as_str();
        if let Some((_, place)) = self.protected.iter().find(|(protected, _)| protected == name) {
            return Fate::Strip(*place);
        }
        if is_hop_by_hop(text) || is_framing(text) || is_forwarding(text) || text == "expect" {
            return Fate::Go;
        }
        if let Some((_, place)) = self.prefixes.iter().find(|(start, _)| begins(text, start)) {
            return Fate::Strip(*place);
        }
        if !text.contains('_') {
            return Fate::Stay;
        }
        // Some servers take `_` for `-` (S16).
        let folded = folded(text);
        if let Some((_, place)) = self.protected.iter().find(|(name, _)| name.as_str() == folded) {
            return Fate::Strip(*place);
        }
        if is_hop_by_hop(&folded) || is_framing(&folded) || is_forwarding(&folded) {
            return Fate::Go;
        }
        Fate::Stay
    }
}

/// `-` for `_`, in lower case.
fn folded(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

fn begins(name: &str, folded_start: &str) -> bool {
    let fold = |b: u8| if b == b'_' { b'-' } else { b };
    name.len() >= folded_start.len()
        && name.bytes().zip(folded_start.bytes()).all(|(b, start)| fold(b) == start)
}

/// Fields about one connection (RFC 9110 section 7.6.1), or that a proxy must not pass on.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "http2-settings"
            | "proxy"
    )
}

/// Fields that say where a message ends, which the encoder writes anew, and where it goes.
fn is_framing(name: &str) -> bool {
    matches!(name, "content-length" | "host")
}

/// Fields by which proxies name the client; a client's own are lies (S47).
fn is_forwarding(name: &str) -> bool {
    matches!(
        name,
        "forwarded"
            | "x-forwarded-for"
            | "x-forwarded-host"
            | "x-forwarded-proto"
            | "x-forwarded-port"
            | "x-forwarded-server"
            | "x-forwarded-prefix"
            | "x-real-ip"
    )
}

/// Makes a client's head fit for the upstream, all but the injected fields. The target keeps its
/// form; see [`super::route::Route::target`].
///
/// # Errors
/// A loop, or a query from which no parameter can be removed.
pub(super) fn to_upstream(
    head: &mut Parts,
    rules: &Rules,
    stripped: &[IntCounter],
    peer: &Peer,
) -> Result<(), Refusal> {
    let count = |place: usize| {
        if let Some(counter) = stripped.get(place) {
            counter.inc();
        }
    };
    let headers = &mut head.headers;
    if let Some(via) = &rules.via
        && headers.get_all(VIA).iter().any(|value| names_us(value, &via.pseudonym))
    {
        return Err(Refusal::Loop);
    }
    let wants_trailers = lists(headers, &TE, "trailers");
    let host = headers.get(HOST).cloned();
    remove_named_in_connection(headers, |name| {
        if let Fate::Strip(place) = rules.fate(name) {
            count(place);
        }
    });
    let doomed: Vec<(HeaderName, Fate)> = headers
        .keys()
        .map(|name| (name, rules.fate(name)))
        .filter(|(_, fate)| !matches!(fate, Fate::Stay))
        .map(|(name, fate)| (name.clone(), fate))
        .collect();
    for (name, fate) in doomed {
        headers.remove(name);
        if let Fate::Strip(place) = fate {
            count(place);
        }
    }
    strip_cookies(headers, &rules.cookies, count);
    if wants_trailers {
        headers.insert(TE, TRAILERS);
        headers.insert(CONNECTION, TE_OPTION);
    }
    if rules.forwarded {
        headers.insert(X_FORWARDED_FOR, peer.label().clone());
        headers.insert(X_FORWARDED_PROTO, HTTP);
        if let Some(host) = &host {
            headers.insert(X_FORWARDED_HOST, host.clone());
        }
    }
    if let Some(host) = rules.host.clone().or(host) {
        headers.insert(HOST, host);
    }
    if let Some(via) = &rules.via {
        let version = if head.version == Version::HTTP_10 { &via.http_10 } else { &via.http_11 };
        headers.append(VIA, version.clone());
    }
    if !rules.query.is_empty() && super::target::strip_query(head, &rules.query)? {
        count(rules.query_place);
    }
    Ok(())
}

/// Removes the fields that `Connection` names, all lines and all tokens of it, but not yet
/// `Connection` itself. `removed` is told of each.
fn remove_named_in_connection(headers: &mut HeaderMap, mut removed: impl FnMut(&HeaderName)) {
    if !headers.contains_key(CONNECTION) {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|b| *b == b','))
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
        .collect();
    for name in named {
        if name != CONNECTION && headers.remove(&name).is_some() {
            removed(&name);
        }
    }
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

/// Puts the injected fields in. Nothing may touch the fields between this and the upstream.
pub(super) fn inject(headers: &mut HeaderMap, presented: &Presented) {
    for (name, value, mode) in &presented.fields {
        if *mode == Mode::Set || !headers.contains_key(name) {
            headers.insert(name, value.clone());
        }
    }
}

/// Says how the body is framed, from the body alone: the client's own words about it are gone.
pub(super) fn frame(headers: &mut HeaderMap, body: &Upload, had_length: bool) {
    match body.size_hint().exact() {
        // hyper writes no length for an empty body, but `Content-Length: 0` means something on
        // a POST.
        Some(0) if had_length => drop(headers.insert(CONTENT_LENGTH, ZERO)),
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
    presented: &Presented,
    rejected: bool,
) -> Result<(), Refusal> {
    if leaks(headers, presented) {
        return Err(Refusal::Leak);
    }
    remove_named_in_connection(headers, |_| {});
    let doomed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_hop_by_hop(name.as_str()) || **name == ALT_SVC)
        .cloned()
        .collect();
    for name in doomed {
        headers.remove(name);
    }
    if rejected {
        headers.remove(WWW_AUTHENTICATE);
    }
    Ok(())
}

/// Whether any value holds an injected credential: what follows the scheme in it.
fn leaks(headers: &HeaderMap, presented: &Presented) -> bool {
    let longest = headers.values().map(HeaderValue::len).max().unwrap_or(0);
    presented
        .fields
        .iter()
        .filter(|(_, value, _)| value.is_sensitive())
        .filter_map(|(_, value, _)| value.to_str().ok()?.rsplit(' ').next())
        .filter(|secret| secret.len() >= SHORTEST_LEAK && secret.len() <= longest)
        .any(|secret| headers.values().any(|value| holds(value, secret)))
}

fn holds(value: &HeaderValue, secret: &str) -> bool {
    value.len() >= secret.len() && String::from_utf8_lossy(value.as_bytes()).contains(secret)
}

/// Removes from a request's trailers what must not come late (RFC 9110 section 6.5.1) and what
/// must not come from the client at all (S17).
pub(super) fn filter_request_trailers(trailers: &mut HeaderMap, rules: &Rules) {
    let doomed: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| !matches!(rules.fate(name), Fate::Stay) || !is_trailer(name.as_str()))
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
        && !is_framing(name)
        && !is_forwarding(name)
        && !name.starts_with("if-")
        && !matches!(
            name,
            "age"
                | "alt-svc"
                | "authorization"
                | "cache-control"
                | "content-encoding"
                | "content-range"
                | "content-type"
                | "cookie"
                | "date"
                | "expect"
                | "expires"
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

/// Whether a challenge binds authentication to the connection (S40).
pub(super) fn binds_connection(headers: &HeaderMap) -> bool {
    headers.get_all(WWW_AUTHENTICATE).iter().any(|challenge| {
        let text = String::from_utf8_lossy(challenge.as_bytes()).to_ascii_lowercase();
        text.contains("ntlm") || text.contains("negotiate")
    })
}
