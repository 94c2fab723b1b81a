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
use http::{HeaderMap, HeaderName, HeaderValue, Version, response};
use http_body::Body as _;
use hyper::ext::ReasonPhrase;
use prometheus::IntCounter;

use super::cors;
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
    /// What is removed from answers.
    answer: Vec<HeaderName>,
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
    pub(super) fn new(
        own: &Settings,
        all: &[Settings],
        via: Option<Via>,
        caller: Option<&HeaderName>,
    ) -> (Self, Vec<String>) {
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
            .chain(strip.headers.iter().map(FieldName::as_header))
            .chain(caller);
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
            answer: strip.answer.iter().map(|name| name.as_header().clone()).collect(),
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
        if text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Fate::Stay;
        }
        // Some servers take `_`, or anything odd, for `-` (S16).
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

/// In lower case, with `-` for everything but letters and digits: so do gateways that hand
/// fields on as environment variables.
fn folded(name: &str) -> String {
    name.bytes().map(|b| char::from(fold(b))).collect()
}

const fn fold(b: u8) -> u8 {
    if b.is_ascii_alphanumeric() { b.to_ascii_lowercase() } else { b'-' }
}

fn begins(name: &str, folded_start: &str) -> bool {
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
    head: &mut response::Parts,
    rules: &Rules,
    presented: &Presented,
    rejected: bool,
) -> Result<(), Refusal> {
    let headers = &mut head.headers;
    let reason = head.extensions.get::<ReasonPhrase>().map(ReasonPhrase::as_bytes);
    let leaks = |secret: &[u8]| {
        reason.is_some_and(|reason| holds(reason, secret))
            || headers.values().any(|value| holds(value.as_bytes(), secret))
    };
    if secrets(presented).any(leaks) {
        return Err(Refusal::Leak);
    }
    remove_named_in_connection(headers, |_| {});
    let doomed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            is_hop_by_hop(name.as_str())
                || **name == ALT_SVC
                || cors::is_field(name)
                || rules.answer.contains(name)
        })
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

/// What must not come back: of each injected credential, what follows the scheme.
fn secrets(presented: &Presented) -> impl Iterator<Item = &[u8]> {
    presented
        .fields
        .iter()
        .filter(|(_, value, _)| value.is_sensitive())
        .filter_map(|(_, value, _)| value.as_bytes().rsplit(|b| *b == b' ').next())
        .filter(|secret| secret.len() >= SHORTEST_LEAK)
}

fn holds(value: &[u8], secret: &[u8]) -> bool {
    value.len() >= secret.len() && value.windows(secret.len()).any(|window| window == secret)
}

/// Removes the trailers that hold an injected credential; the answer is under way already.
pub(super) fn remove_leaks(trailers: &mut HeaderMap, presented: &Presented) {
    let doomed: Vec<HeaderName> = trailers
        .iter()
        .filter(|(_, value)| secrets(presented).any(|secret| holds(value.as_bytes(), secret)))
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;

    const ROUTES: &str = "
- upstream: https://api.example:444/
  inject: {Authorization: Bearer ours, Organization: acme, X-Plain: {value: dflt, mode: default}}
  strip: {headers: [X-Api-Key], header_prefixes: [X-Secret-], cookies: [session]}
- {upstream: 'https://b.example/', match: {path: /b}, inject: {X-Other-Token: theirs}}
";

    fn rules(yaml: &str) -> (Rules, Vec<String>) {
        let settings: Vec<Settings> = serde_yaml::from_str(yaml).unwrap();
        Rules::new(&settings[0], &settings, Some(Via::new()), None)
    }

    fn presented() -> Presented {
        let field = |name: &'static str, value: &'static str, mode| {
            let mut value = HeaderValue::from_static(value);
            value.set_sensitive(true);
            (HeaderName::from_static(name), value, mode)
        };
        Presented {
            fields: vec![
                field("authorization", "Bearer ours-and-long", Mode::Set),
                field("organization", "acme", Mode::Set),
                field("x-plain", "dflt", Mode::Default),
            ],
            usable_until: None,
            generations: Vec::new(),
        }
    }

    fn sent(fields: &[(&str, &str)]) -> HeaderMap {
        let (rules, places) = rules(ROUTES);
        let counters: Vec<IntCounter> = places
            .iter()
            .enumerate()
            .map(|(i, _)| IntCounter::new(format!("c{i}"), "help").unwrap())
            .collect();
        let mut request = http::Request::builder();
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        let peer = Peer::unwatched(SocketAddr::from(([10, 0, 0, 9], 1)));
        to_upstream(&mut head, &rules, &counters, &peer).unwrap();
        inject(&mut head.headers, &presented());
        head.headers
    }

    fn all(headers: &HeaderMap, name: &str) -> Vec<String> {
        headers.get_all(name).iter().map(|v| v.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn connection_cannot_remove_the_credential_and_removes_what_it_names() {
        let headers = sent(&[
            ("connection", ""),
            ("Connection", "keep-alive,\tAUTHORIZATION , x-a"),
            ("connection", "Organization, x-b"),
            ("x-a", "1"),
            ("x-b", "2"),
            ("x-c", "3"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA"),
            ("te", "gzip"),
            ("transfer-encoding", "chunked"),
            ("proxy-authorization", "Basic x"),
            ("proxy", "http://evil.example"),
        ]);
        assert_eq!(all(&headers, "authorization"), ["Bearer ours-and-long"]);
        assert_eq!(all(&headers, "organization"), ["acme"]);
        assert_eq!(all(&headers, "x-c"), ["3"]);
        for gone in [
            "connection",
            "x-a",
            "x-b",
            "keep-alive",
            "proxy-connection",
            "upgrade",
            "http2-settings",
            "te",
            "transfer-encoding",
            "proxy-authorization",
            "proxy",
        ] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
    }

    #[test]
    fn client_credentials_go_in_every_spelling() {
        let headers = sent(&[
            ("authorization", "Bearer a"),
            ("Authorization", "Bearer b"),
            ("ORGANIZATION", "evil"),
            ("x_api_key", "k"),
            ("X-API-KEY", "k"),
            ("x-secret-a", "s"),
            ("X_Secret_B", "s"),
            ("x_other-token", "t"),
            ("x-other-token", "t"),
            ("x_forwarded_for", "1.2.3.4"),
            ("x_harmless", "stays"),
            ("x-plain", "client's"),
            ("cookie", "a=1; session=x; b=2"),
            ("cookie", "session=y"),
        ]);
        assert_eq!(all(&headers, "authorization"), ["Bearer ours-and-long"]);
        assert_eq!(all(&headers, "organization"), ["acme"]);
        assert_eq!(all(&headers, "x-plain"), ["client's"]);
        assert_eq!(all(&headers, "x_harmless"), ["stays"]);
        assert_eq!(all(&headers, "cookie"), ["a=1; b=2"]);
        for gone in [
            "x_api_key",
            "x-api-key",
            "x-secret-a",
            "x_secret_b",
            "x_other-token",
            "x-other-token",
            "x_forwarded_for",
        ] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
    }

    #[test]
    fn the_client_is_named_by_its_socket_and_not_by_itself() {
        let headers = sent(&[
            ("host", "localhost:8080"),
            ("x-forwarded-for", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("x-real-ip", "1.2.3.4"),
            ("x-forwarded-host", "evil.example"),
            ("via", "1.0 first"),
        ]);
        assert_eq!(all(&headers, "x-forwarded-for"), ["10.0.0.9"]);
        assert_eq!(all(&headers, "x-forwarded-host"), ["localhost:8080"]);
        assert_eq!(all(&headers, "x-forwarded-proto"), ["http"]);
        assert_eq!(all(&headers, "host"), ["api.example:444"]);
        let via = all(&headers, "via");
        assert_eq!((via.len(), via[0].as_str()), (2, "1.0 first"));
        assert!(via[1].starts_with("1.1 bearerd-"));
        assert!(!headers.contains_key("forwarded") && !headers.contains_key("x-real-ip"));
    }

    #[test]
    fn te_trailers_goes_on_as_an_option_of_our_connection() {
        let headers = sent(&[("te", "deflate, Trailers"), ("connection", "te, close")]);
        assert_eq!(all(&headers, "te"), ["trailers"]);
        assert_eq!(all(&headers, "connection"), ["te"]);
    }

    #[test]
    fn a_request_that_has_been_here_is_a_loop() {
        let (rules, _) = rules(ROUTES);
        let own = rules.via.as_ref().unwrap().http_11.clone();
        let request =
            http::Request::builder().header("via", "1.1 a, 1.1 bearerd").header("via", own);
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        let peer = Peer::unwatched(SocketAddr::from(([10, 0, 0, 9], 1)));
        assert!(matches!(to_upstream(&mut head, &rules, &[], &peer), Err(Refusal::Loop)));
    }

    fn answered(fields: &[(&str, &str)], rejected: bool) -> Result<HeaderMap, Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let (mut head, ()) = http::Response::new(()).into_parts();
        head.headers = headers;
        to_client(&mut head, &rules(ROUTES).0, &presented(), rejected).map(|()| head.headers)
    }

    #[test]
    fn answers_lose_what_is_between_us_and_the_upstream() {
        let headers = answered(
            &[
                ("connection", "x-hop"),
                ("x-hop", "1"),
                ("keep-alive", "timeout=5"),
                ("transfer-encoding", "chunked"),
                ("alt-svc", "h3=\":443\""),
                ("proxy-authenticate", "Basic"),
                ("set-cookie", "a=1"),
                ("set-cookie", "b=2"),
                ("www-authenticate", "Bearer"),
            ],
            false,
        )
        .unwrap();
        assert_eq!(all(&headers, "set-cookie"), ["a=1", "b=2"]);
        assert_eq!(headers.len(), 3);
        let headers = answered(&[("www-authenticate", "Bearer")], true).unwrap();
        assert!(headers.is_empty());
    }

    #[test]
    fn an_answer_that_holds_the_credential_is_not_passed_on() {
        let echo = [("x-echo", "got Bearer ours-and-long, thanks")];
        assert!(matches!(answered(&echo, false), Err(Refusal::Leak)));
        assert!(matches!(answered(&[("x", "ours-and-long")], false), Err(Refusal::Leak)));
        assert!(answered(&[("x", "acme and a long enough text")], false).is_ok());
    }

    #[test]
    fn trailers_hold_nothing_that_must_come_early() {
        let (rules, _) = rules(ROUTES);
        let mut trailers = HeaderMap::new();
        for name in [
            "authorization",
            "organization",
            "x_api_key",
            "content-length",
            "transfer-encoding",
            "host",
            "if-match",
            "cookie",
            "grpc-status",
            "x-checksum",
            "x-forwarded-for",
        ] {
            trailers.insert(HeaderName::from_static(name), ZERO);
        }
        let mut answers = trailers.clone();
        filter_request_trailers(&mut trailers, &rules);
        assert_eq!(
            trailers.keys().map(HeaderName::as_str).collect::<Vec<_>>(),
            ["grpc-status", "x-checksum"]
        );
        answers.insert("set-cookie", ZERO);
        filter_answer_trailers(&mut answers);
        for gone in ["authorization", "set-cookie", "content-length", "host"] {
            assert!(!answers.contains_key(gone), "{gone}");
        }
        assert!(answers.contains_key("grpc-status"));
    }

    fn any_name() -> impl Strategy<Value = String> {
        let pool = prop::sample::select(vec![
            "authorization",
            "organization",
            "connection",
            "te",
            "host",
            "cookie",
            "x-api-key",
            "x-plain",
            "via",
            "x-forwarded-for",
        ]);
        let respelled = (pool, any::<u32>()).prop_map(|(name, bits)| {
            let change = |(i, c): (usize, char)| match (bits >> (i % 32)) & 1 {
                0 => c,
                _ if c == '-' => '_',
                _ => c.to_ascii_uppercase(),
            };
            name.chars().enumerate().map(change).collect()
        });
        prop_oneof![respelled, "[a-zA-Z_-]{1,12}"]
    }

    fn any_value() -> impl Strategy<Value = String> {
        prop_oneof![
            "[ -~]{0,20}",
            proptest::collection::vec(any_name(), 0..4).prop_map(|names| names.join(", ")),
        ]
    }

    proptest! {
        #[test]
        fn the_upstream_sees_exactly_one_of_each_injected_field_and_it_is_ours(
            fields in proptest::collection::vec((any_name(), any_value()), 0..20),
        ) {
            let fields: Vec<(&str, &str)> =
                fields.iter().map(|(name, value)| (name.as_str(), value.trim())).collect();
            let headers = sent(&fields);
            prop_assert_eq!(all(&headers, "authorization"), ["Bearer ours-and-long"]);
            prop_assert_eq!(all(&headers, "organization"), ["acme"]);
            prop_assert_eq!(all(&headers, "x-forwarded-for"), ["10.0.0.9"]);
            prop_assert_eq!(all(&headers, "host"), ["api.example:444"]);
            for name in headers.keys() {
                let folded = folded(name.as_str());
                let ours = ["authorization", "organization", "host", "x-forwarded-for"];
                prop_assert!(folded == name.as_str() || !ours.contains(&folded.as_str()), "{}", name);
                prop_assert!(!["x-api-key", "proxy-authorization", "x-other-token"].contains(&folded.as_str()));
            }
        }
    }
}
