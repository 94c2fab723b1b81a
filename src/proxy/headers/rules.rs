//! What one route does to the fields of a request.

use http::header::{AUTHORIZATION, PROXY_AUTHORIZATION};
use http::{HeaderName, HeaderValue};

use super::super::settings::{HostField, Settings};
use crate::token::present::Mode;
use crate::vocab::FieldName;

/// What one route does to header fields, prepared from the settings.
#[derive(Debug)]
pub(in super::super) struct Rules {
    protected: Vec<Protected>,
    /// Beginnings of such names.
    prefixes: Vec<(Box<str>, usize)>,
    pub(super) cookies: Cookies,
    pub(in super::super) query: Vec<Box<str>>,
    /// Where removed parameters are counted.
    pub(in super::super) query_place: usize,
    pub(super) host: Option<HeaderValue>,
    pub(super) forwarded: bool,
    pub(super) via: Option<Via>,
}

/// A field that never comes from the client, and where a client's own is counted.
#[derive(Debug)]
struct Protected {
    name: HeaderName,
    place: usize,
}

#[derive(Debug)]
pub(super) enum Cookies {
    Kept,
    Removed { names: Vec<Box<str>>, place: usize },
    AllRemoved { place: usize },
}

/// How this process names itself in `Via`: different in each process, so that a loop is told
/// from a chain.
#[derive(Debug, Clone)]
pub(in super::super) struct Via {
    pub(super) pseudonym: String,
    pub(super) http_11: HeaderValue,
    pub(super) http_10: HeaderValue,
}

impl Via {
    pub(in super::super) fn new() -> Self {
        let pseudonym = format!("bearerd-{:08x}", fastrand::u32(..));
        let value = |version: &str| {
            HeaderValue::try_from(format!("{version} {pseudonym}"))
                .unwrap_or_else(|_| HeaderValue::from_static("1.1 bearerd"))
        };
        Self { http_11: value("1.1"), http_10: value("1.0"), pseudonym }
    }
}

/// What a name is to the policy.
pub(super) enum Fate {
    /// It goes on to the upstream.
    Pass,
    /// It does not go on.
    Drop,
    /// It is a client's credential, which does not go on either, and is counted at this place.
    Strip(usize),
}

impl Rules {
    /// Prepares the rules of the route `own`, and the names of the places where removed
    /// credentials are counted. A field that any route of `all` sets is a credential on each.
    pub(in super::super) fn new(
        own: &Settings,
        all: &[Settings],
        via: Option<Via>,
    ) -> (Self, Vec<String>) {
        let mut places: Vec<String> = Vec::new();
        let mut protected: Vec<Protected> = Vec::new();
        let injected = all.iter().flat_map(|route| &route.inject);
        let injected = injected.filter(|(_, field)| field.mode() == Mode::Set);
        let is_optional = |name: &HeaderName| {
            let own = own.inject.iter().find(|(field, _)| field.as_header() == name);
            own.is_some_and(|(_, field)| field.mode() == Mode::Default)
        };
        let strip = &own.strip;
        let names = [&AUTHORIZATION, &PROXY_AUTHORIZATION]
            .into_iter()
            .chain(injected.map(|(name, _)| name.as_header()))
            .chain(strip.headers.iter().map(FieldName::as_header));
        for name in names {
            if !is_optional(name) && protected.iter().all(|known| known.name != name) {
                protected.push(Protected { name: name.clone(), place: places.len() });
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
    pub(super) fn fate(&self, name: &HeaderName) -> Fate {
        if let Some(known) = self.protected.iter().find(|known| known.name == name) {
            return Fate::Strip(known.place);
        }
        let text = name.as_str();
        if is_ours(text) {
            return Fate::Drop;
        }
        if let Some((_, place)) = self.prefixes.iter().find(|(start, _)| begins(text, start)) {
            return Fate::Strip(*place);
        }
        if text.bytes().all(|b| b != b'_') {
            return Fate::Pass;
        }
        // Some servers take `_` for `-` (S16).
        let folded = folded(text);
        if let Some(known) = self.protected.iter().find(|known| known.name.as_str() == folded) {
            return Fate::Strip(known.place);
        }
        if is_ours(&folded) { Fate::Drop } else { Fate::Pass }
    }
}

/// Whether the field is for us to write, or for nobody to pass on.
fn is_ours(name: &str) -> bool {
    is_hop_by_hop(name)
        || is_forwarding(name)
        || matches!(name, "content-length" | "expect" | "host")
}

impl Cookies {
    /// What goes on of a `Cookie` line, and where it is counted if not all does.
    pub(super) fn kept(&self, line: &HeaderValue) -> (Option<HeaderValue>, Option<usize>) {
        let (names, place) = match self {
            Self::Kept => return (Some(line.clone()), None),
            Self::AllRemoved { place } => return (None, Some(*place)),
            Self::Removed { names, place } => (names, *place),
        };
        let is_stripped = |pair: &&[u8]| {
            let name = pair.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
            names.iter().any(|stripped| stripped.as_bytes() == name)
        };
        let pairs = || line.as_bytes().split(|b| *b == b';');
        if !pairs().any(|pair| is_stripped(&pair)) {
            return (Some(line.clone()), None);
        }
        let kept: Vec<&[u8]> = pairs().filter(|pair| !is_stripped(pair)).collect();
        let kept = HeaderValue::from_bytes(kept.join(&b';').trim_ascii()).ok();
        (kept.filter(|kept| !kept.is_empty()), Some(place))
    }
}

/// `-` for `_`, in lower case.
pub(super) fn folded(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

fn begins(name: &str, folded_start: &str) -> bool {
    let fold = |b: u8| if b == b'_' { b'-' } else { b };
    name.len() >= folded_start.len()
        && name.bytes().zip(folded_start.bytes()).all(|(b, start)| fold(b) == start)
}

/// Fields about one connection (RFC 9110 section 7.6.1), or that a proxy must not pass on.
pub(super) fn is_hop_by_hop(name: &str) -> bool {
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

/// Fields by which proxies name the client; a client's own are lies (S47).
pub(super) fn is_forwarding(name: &str) -> bool {
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
