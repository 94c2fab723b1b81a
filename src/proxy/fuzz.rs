//! What the fuzz targets of `fuzz/` run: each takes any bytes, sends them through one part of a
//! request's path, and holds what comes of them against a second opinion that shares no code with
//! the first. The seeds of `fuzz/seeds` run with the unit tests.

#![allow(clippy::expect_used, clippy::missing_panics_doc, reason = "to panic is how it reports")]

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::LazyLock;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, ORIGIN, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version};

use super::cors::Grant;
use super::headers::{self, Outbound, Survey};
pub use super::http1::fuzz::answer as upstream;
use super::refusal::Refusal;
use super::route::{Routes, Settings, Surroundings};
use super::{State, upgrade};
use crate::server::{Limits, Peer};
use crate::shutdown::Shutdown;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::spans::Span;
use crate::token::present::{Mode, Presented};

const LISTED: &str = "http://app.example:5173";

const PLAIN: &str = "
- {upstream: 'http://127.0.0.1:1', cors: {origins: ['http://app.example:5173']}}
";

const RULED: &str = "
- {name: rest, upstream: 'http://127.0.0.1:1', deny: [{path: /admin/}]}
- name: base
  match: {path: /api}
  strip_prefix: true
  upstream: http://127.0.0.1:2/v1/tenant
  deny: [{path: /v1/tenant/admin}]
- {name: open, match: {path: /open}, upstream: 'http://127.0.0.1:3', allow: [{path: /open/pub}]}
";

const STRIPPING: &str = "
- upstream: http://127.0.0.1:1
  inject: {Authorization: Bearer x, Organization: acme}
  strip:
    headers: [X-Api-Key]
    header_prefixes: [X-Secret-]
    cookies: [session]
    query: [access_token]
";

/// What is injected.
const SECRET: &str = "ours-and-long-enough";

fn state(routes: &str) -> State {
    let settings: Vec<Settings> = serde_yaml::from_str(routes).expect("routes");
    let surroundings = Surroundings {
        limits: &Limits::default(),
        metrics: &Metrics::new().expect("metrics"),
        shutdown: &Shutdown::new(),
        via: true,
        caller: None,
        trusted: &[],
    };
    let routes = Routes::new(&settings, |_| None, surroundings).expect("sound routes");
    State::new(routes, ["api.local", "10.1.1.1"], Duration::ZERO)
}

fn peer() -> Peer {
    Peer::unwatched(SocketAddr::from(([127, 0, 0, 1], 8080)))
}

/// The lines of a text, and of each field its name and its value.
fn fields<'d>(lines: impl Iterator<Item = &'d [u8]>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            drop(headers.try_append(name, value));
        }
    }
    headers
}

/// A head as text: method, target, version, then a field a line.
fn head(data: &[u8]) -> Option<Parts> {
    let mut lines = data.split(|b| *b == b'\n');
    let mut words = lines.next()?.split(|b| *b == b' ');
    let method = Method::from_bytes(words.next()?).ok()?;
    let uri = Uri::try_from(words.next()?).ok()?;
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    if words.next() == Some(b"HTTP/1.0") {
        *request.version_mut() = Version::HTTP_10;
    }
    *request.headers_mut() = fields(lines);
    Some(request.into_parts().0)
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

fn all(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(text).collect()
}

/// Host and port of an authority, where the port may be left out; nothing if it is none.
fn authority(written: &str, default_port: &str) -> Option<(String, String)> {
    let lower = written.to_ascii_lowercase();
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    let (host, port) = match lower.rsplit_once(':') {
        Some((host, port)) if is_port(port) => (host, port.trim_start_matches('0')),
        _ => (lower.as_str(), ""),
    };
    let port = if port.is_empty() { default_port } else { port };
    let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok()?.to_canonical().to_string(),
        None => host.strip_suffix('.').unwrap_or(host).to_owned(),
    };
    Some((host, port.to_owned()))
}

/// The guard and the rules for pages: who is let in has a name of this listener, and is no page of
/// an origin that is not listed (S2-S6).
///
/// # Panics
/// Somebody was let in who must not be.
pub fn guard(data: &[u8]) {
    static STATE: LazyLock<State> = LazyLock::new(|| state(PLAIN));
    let Some(mut head) = head(data) else { return };
    let before = head.clone();
    let found = Survey::of(&head.headers);
    let (mut slot, mut grant) = (None, Grant::default());
    let outcome = STATE.admit(&mut head, found, &peer(), &mut slot, &mut grant);
    let Ok(here) = outcome.map(|admitted| admitted.here) else { return };
    assert!(before.method != Method::CONNECT && before.method != Method::TRACE, "{before:?}");
    let hosts = all(&before.headers, "host");
    let own = match hosts.as_slice() {
        [] if before.version == Version::HTTP_10 => None,
        [host] => Some(authority(host, "80").expect("a host")),
        _ => panic!("not one host: {before:?}"),
    };
    let known = ["localhost", "api.local", "127.0.0.1", "10.1.1.1", "::1"];
    assert!(own.as_ref().is_none_or(|own| known.contains(&own.0.as_str())), "{before:?}");
    if let Some(named) = before.uri.authority() {
        assert_eq!(authority(named.as_str(), "80"), own, "{before:?}");
    }
    assert!(head.uri.authority().is_none() && head.uri.scheme().is_none(), "{head:?}");
    let origins = all(&before.headers, "origin");
    let is_listed = origins == [LISTED];
    let is_own = |origin: &String| {
        let (scheme, rest) = origin.split_once("://").expect("an origin");
        let port = if scheme == "https" { "443" } else { "80" };
        // What `Host` leaves out is the default of the scheme that is asked about.
        let own = hosts.first().and_then(|host| authority(host, port));
        authority(rest, port) == own && own.is_some()
    };
    assert!(is_listed || origins.iter().all(is_own), "{before:?}");
    assert!(origins.len() < 2, "{before:?}");
    let sites = all(&before.headers, "sec-fetch-site");
    let is_own_site = sites.iter().all(|site| site == "same-origin" || site == "none");
    assert!(is_listed || is_own_site, "{before:?}");
    let is_last = all(&before.headers, "max-forwards").iter().any(|left| left.contains('0'));
    let is_answered = before.method == Method::OPTIONS && (is_listed || is_last);
    assert!(here.is_none() || is_answered, "{before:?}");
    let codings = all(&before.headers, "transfer-encoding");
    assert!(codings.is_empty() || codings.len() == 1 && codings[0].eq_ignore_ascii_case("chunked"));
    let mut told = HeaderMap::new();
    grant.tell(&mut told);
    let allowed = all(&told, "access-control-allow-origin");
    assert!(allowed.is_empty() || is_listed && allowed == origins, "{before:?}: {told:?}");
}

/// Every reading that a server could have of a path, each as its segments.
fn readings(path: &str) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    let mut bytes = path.as_bytes().to_vec();
    for _ in 0..6 {
        let read = String::from_utf8_lossy(&bytes).to_uppercase().to_lowercase();
        let mut segments: Vec<String> = Vec::new();
        for segment in read.split(['/', '\\']) {
            let segment = segment.split(';').next().unwrap_or_default();
            match segment {
                ".." => drop(segments.pop()),
                "" | "." => {}
                other => {
                    let cut = other.trim_end_matches(|c: char| c == '.' || c.is_whitespace());
                    segments.push(cut.to_owned());
                }
            }
        }
        all.push(segments);
        bytes = decoded(&bytes);
    }
    all
}

fn decoded(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}

/// The rules about paths: whichever way a server reads what is sent, it is nothing that a rule
/// denies and nothing of another route; without rules not a byte is changed (S19, P7).
///
/// # Panics
/// A rule was passed by.
pub fn path(data: &[u8]) {
    static RULES: LazyLock<State> = LazyLock::new(|| state(RULED));
    static NONE: LazyLock<State> = LazyLock::new(|| state(PLAIN));
    // The parser cuts a fragment off, before anything looks at the target.
    let target = data.split(|b| matches!(b, b'\n' | b' ' | b'#')).next().unwrap_or_default();
    let Some(mut head) = head(&[b"GET ", target, b" HTTP/1.1\nHost: localhost"].concat()) else {
        return;
    };
    let origin_form = target.starts_with(b"/");
    if let Some((_, sent)) = sent(&NONE, &mut head.clone())
        && origin_form
    {
        assert_eq!(sent.as_bytes(), target, "changed without a rule");
    }
    let Some((route, sent)) = sent(&RULES, &mut head) else { return };
    let path = sent.split('?').next().unwrap_or_default();
    for reading in readings(path) {
        let segments: Vec<&str> = reading.iter().map(String::as_str).collect();
        let is_fine = match route.as_str() {
            "rest" => !matches!(segments.as_slice(), ["admin" | "api" | "open", ..]),
            "base" => {
                matches!(segments.as_slice(), ["v1", "tenant", ..])
                    && segments.get(2) != Some(&"admin")
            }
            _ => matches!(segments.as_slice(), ["open", "pub", ..]),
        };
        assert!(
            is_fine,
            "{route}: {} is sent as {sent}, read as {segments:?}",
            target.escape_ascii()
        );
    }
}

/// The route that takes a request, and the target that it sends.
fn sent(state: &State, head: &mut Parts) -> Option<(String, String)> {
    let found = Survey::of(&head.headers);
    let (mut slot, mut grant) = (None, Grant::default());
    let admitted = state.admit(head, found, &peer(), &mut slot, &mut grant).ok()?;
    let route = admitted.route;
    route.retarget(&mut head.uri).ok()?;
    Some((route.name.as_str().to_owned(), head.uri.to_string()))
}

fn presented() -> Presented {
    let field = |name: &'static str, value: &str| {
        let mut value = HeaderValue::try_from(value).expect("a value");
        value.set_sensitive(true);
        (HeaderName::from_static(name), value, Mode::Set)
    };
    let fields =
        vec![field("authorization", &format!("Bearer {SECRET}")), field("organization", "acme")];
    Presented::new(fields, None, Vec::new())
}

/// A name as servers see it that take `_`, or anything odd, for `-`.
fn folded(name: &str) -> String {
    let fold = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    name.chars().map(fold).collect()
}

fn named_in_connection(headers: &HeaderMap) -> Vec<String> {
    let lines = all(headers, "connection").join(",");
    lines.split(',').map(|name| name.trim().to_ascii_lowercase()).collect()
}

/// The pipeline of fields, both ways: exactly our credential goes out and none of the client's,
/// nothing that is about one connection passes, and the credential does not come back (S15-S18,
/// S27, P1).
///
/// # Panics
/// A field passed that must not.
pub fn pipeline(data: &[u8]) {
    static STATE: LazyLock<State> = LazyLock::new(|| state(STRIPPING));
    let Some(mut head) = head(data) else { return };
    let Ok(route) = STATE.routes.find(&head) else { return };
    let before = head.clone();
    request(&mut head, route, &before);
    let trailers = &mut before.headers.clone();
    headers::filter_request_trailers(trailers, &route.rules);
    for name in trailers.keys() {
        let name = folded(name.as_str());
        assert!(!is_forbidden(&name) && name != "authorization" && name != "organization");
        assert!(name != "content-length" && name != "transfer-encoding" && name != "host");
    }
    answer(before.headers, &route.rules);
}

/// Names, folded, that never pass with a client's value.
fn is_forbidden(folded: &str) -> bool {
    ["proxy-authorization", "x-api-key", "keep-alive", "proxy-connection", "http2-settings"]
        .contains(&folded)
        || folded.starts_with("x-secret-")
        || folded.starts_with("x-forwarded-")
            && !["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"].contains(&folded)
        || ["upgrade", "transfer-encoding", "forwarded", "x-real-ip", "expect"].contains(&folded)
        || ["cf-connecting-ip", "true-client-ip", "x-client-ip"].contains(&folded)
}

fn request(head: &mut Parts, route: &super::route::Route, before: &Parts) {
    let found = upgrade::asked(head, Survey::of(&head.headers));
    let tunnel = found.has(Survey::UPGRADE);
    let (rules, peer) = (&route.rules, &peer());
    let stripped = match headers::strip(head, found, rules, peer, &[]) {
        Ok(stripped) => stripped,
        Err(refusal) => {
            assert!(matches!(refusal, Refusal::Query), "{refusal:?}");
            return;
        }
    };
    let (span, presented) = (&Span::of_request(&head.method, &head.headers), &presented());
    let fields = &mut HeaderMap::new();
    let outbound = Outbound { head, stripped: &stripped, found, rules, peer, span, presented };
    outbound.write(true, fields);
    assert_eq!(all(fields, "authorization"), [format!("Bearer {SECRET}")]);
    assert_eq!(all(fields, "organization"), ["acme"]);
    assert_eq!(all(fields, "host"), ["127.0.0.1:1"]);
    assert_eq!(all(fields, "x-forwarded-for"), ["127.0.0.1"]);
    let named = named_in_connection(&before.headers);
    let vias =
        if named.contains(&"via".to_owned()) { 0 } else { all(&before.headers, "via").len() };
    assert_eq!(all(fields, "via").len(), vias + 1);
    let ours = ["authorization", "organization", "host", "via", "te", "connection"];
    for name in fields.keys().map(HeaderName::as_str) {
        let folded = folded(name);
        assert!(tunnel && name == "upgrade" || !is_forbidden(&folded), "{name}");
        assert!(folded == name || !ours.contains(&folded.as_str()), "{name}");
    }
    for name in named {
        let is_ours = ours.contains(&name.as_str()) || name.starts_with("x-forwarded-");
        let is_kept = tunnel && name == "upgrade";
        assert!(is_ours || is_kept || !fields.contains_key(name.as_str()), "{name}");
    }
    assert!(fields.get(TE).is_none_or(|te| te == "trailers"));
    let options = fields.get(CONNECTION).map(text).unwrap_or_default();
    assert!(
        ["", "te", "upgrade", "Upgrade", "te, upgrade"].contains(&options.as_str()),
        "{options}"
    );
    let cookies = all(fields, "cookie").join(";");
    assert!(!cookies.split(';').any(|pair| pair.trim().starts_with("session=")), "{cookies}");
    let query = head.uri.query().unwrap_or_default();
    for pair in query.split('&') {
        let name = decoded(pair.split('=').next().unwrap_or_default().as_bytes());
        assert_ne!(name, b"access_token", "{query}");
    }
    assert_eq!(head.uri.path(), before.uri.path());
}

fn answer(fields: HeaderMap, rules: &headers::Rules) {
    let named = named_in_connection(&fields);
    let holds = |headers: &HeaderMap| headers.values().any(|value| text(value).contains(SECRET));
    let held = holds(&fields);
    let found = Survey::of(&fields);
    let cookies = all(&fields, "set-cookie");
    let mut response = Response::new(());
    *response.headers_mut() = fields.clone();
    let outcome = headers::to_client(&mut response, found, rules, &presented(), false);
    assert_eq!(outcome.is_err(), held, "{fields:?}");
    if outcome.is_err() {
        return;
    }
    let headers = response.headers();
    for name in [CONNECTION, TE, TRANSFER_ENCODING, UPGRADE] {
        assert!(!headers.contains_key(&name), "{name}");
    }
    for name in ["keep-alive", "proxy-connection", "proxy-authenticate", "alt-svc"] {
        assert!(!headers.contains_key(name), "{name}");
    }
    let lost = |name: &String| name != "connection" && name != "host" && !name.is_empty();
    for name in named.iter().filter(|name| lost(name)) {
        assert!(!headers.contains_key(name.as_str()), "{name}");
    }
    if !named.contains(&"set-cookie".to_owned()) {
        assert_eq!(all(headers, "set-cookie"), cookies);
    }
    let mut trailers = fields;
    headers::filter_answer_trailers(&mut trailers, rules);
    headers::remove_leaks(&mut trailers, &presented());
    assert!(!holds(&trailers));
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING, HOST, ORIGIN].iter().take(3) {
        assert!(!trailers.contains_key(name), "{name}");
    }
}

#[cfg(test)]
mod tests {
    use crate::vocab::seeds::replay;

    #[test]
    fn the_seeds_hold() {
        replay("guard", super::guard);
        replay("path", super::path);
        replay("pipeline", super::pipeline);
    }

    #[test]
    fn the_second_opinion_can_say_no() {
        let says = |path: &str, segment: &str| {
            super::readings(path).iter().any(|reading| reading.iter().any(|own| own == segment))
        };
        assert!(says("/x/..%252f%2561dmin;a/y", "admin"));
        assert!(!says("/x/y", "admin"));
        assert_eq!(super::authority("A.b.:080", "1"), Some(("a.b".into(), "80".into())));
    }
}
