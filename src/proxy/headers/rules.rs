//! What one route does to the fields of a request.

use http::header::{self, AUTHORIZATION, PROXY_AUTHORIZATION};
use http::{HeaderName, HeaderValue};

use super::super::forwarded::{Teller, Trusted};
use super::super::settings::{HostField, Settings};
use crate::server::Peer;
use crate::token::present::Mode;
use crate::vocab::FieldName;

/// What one route does to header fields, prepared from the settings.
#[derive(Debug)]
pub(in super::super) struct Rules {
    protected: Vec<Protected>,
    /// Beginnings of such names.
    prefixes: Vec<(Box<str>, usize)>,
    /// Plain names are none of these.
    spares_plain: bool,
    pub(super) cookies: Cookies,
    pub(super) query: Vec<Box<str>>,
    /// What is removed from answers.
    pub(super) answer: Vec<HeaderName>,
    /// Where removed parameters are counted.
    pub(super) query_place: usize,
    /// The upstream's `Host`.
    pub(super) host: HeaderValue,
    /// The client's goes in its place, if there is one.
    pub(super) keeps_host: bool,
    pub(super) teller: Teller,
    pub(super) via: Option<Via>,
}

/// A field that never comes from the client.
#[derive(Debug)]
struct Protected {
    name: HeaderName,
    /// Where a client's own is counted.
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
    pub(super) http_2: HeaderValue,
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
        Self { http_2: value("2"), http_11: value("1.1"), http_10: value("1.0"), pseudonym }
    }
}

/// What a name is to the policy.
pub(super) enum Fate {
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
    pub(in super::super) fn new(
        own: &Settings,
        all: &[Settings],
        via: Option<Via>,
        caller: Option<&HeaderName>,
        trusted: &[Trusted],
    ) -> (Self, Vec<String>) {
        let mut places: Vec<String> = Vec::new();
        let mut protected: Vec<Protected> = Vec::new();
        let injected = all.iter().flat_map(|route| &route.inject);
        let injected = injected.filter(|(_, field)| field.mode() == Mode::Set);
        let own_mode = |name: &HeaderName| {
            let own = own.inject.iter().find(|(field, _)| field.as_header() == name);
            own.map(|(_, field)| field.mode())
        };
        let strip = &own.strip;
        let names = [&AUTHORIZATION, &PROXY_AUTHORIZATION]
            .into_iter()
            .chain(injected.map(|(name, _)| name.as_header()))
            .chain(strip.headers.iter().map(FieldName::as_header))
            .chain(caller);
        for name in names {
            if own_mode(name) == Some(Mode::Default)
                || protected.iter().any(|known| known.name == name)
            {
                continue;
            }
            let place = places.len();
            protected.push(Protected { name: name.clone(), place });
            places.push(name.as_str().to_owned());
            // Many servers cannot tell `X_Key` from `X-Key`, so neither comes from the client.
            let alias = HeaderName::try_from(folded(name.as_str())).ok();
            let known = |alias: &HeaderName| protected.iter().any(|known| known.name == *alias);
            if let Some(name) = alias.filter(|alias| !known(alias)) {
                protected.push(Protected { name, place });
            }
        }
        let mut place = |name: String| {
            places.push(name);
            places.len() - 1
        };
        let prefixes: Vec<(Box<str>, usize)> = strip
            .header_prefixes
            .iter()
            .map(|prefix| folded(prefix.as_header().as_str()))
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
        let spares_plain =
            prefixes.is_empty() && !protected.iter().any(|known| is_plain(&known.name));
        let rules = Self {
            protected,
            prefixes,
            spares_plain,
            cookies,
            query: strip.query.iter().map(|key| key.as_str().into()).collect(),
            answer: strip.answer.iter().map(|name| name.as_header().clone()).collect(),
            query_place,
            host: own.upstream.url.host_value(),
            keeps_host: own.host == HostField::Keep,
            teller: Teller { fields: own.forwarded, trusted: trusted.into() },
            via,
        };
        (rules, places)
    }

    /// Whether a field with this `fate` goes on as it came.
    pub(super) fn keeps(&self, name: &HeaderName, fate: &Fate, peer: &Peer) -> bool {
        match fate {
            Fate::Stay => true,
            Fate::Go => self.teller.keeps(name, peer),
            Fate::Strip(_) => false,
        }
    }

    /// What becomes of a request's field.
    pub(super) fn fate(&self, name: &HeaderName) -> Fate {
        if self.spares_plain && is_plain(name) {
            return Fate::Stay;
        }
        if let Some(known) = self.protected.iter().find(|known| known.name == name) {
            return Fate::Strip(known.place);
        }
        if is_ours(name) {
            return Fate::Go;
        }
        let text = name.as_str();
        if let Some((_, place)) = self.prefixes.iter().find(|(start, _)| begins(text, start)) {
            return Fate::Strip(*place);
        }
        if text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Fate::Stay;
        }
        // Some servers take `_`, or anything odd, for `-` (S16).
        let Ok(folded) = HeaderName::try_from(folded(text)) else { return Fate::Go };
        if let Some(known) = self.protected.iter().find(|known| known.name == folded) {
            return Fate::Strip(known.place);
        }
        if is_ours(&folded) { Fate::Go } else { Fate::Stay }
    }
}

/// Whether the field is for us to write, or for nobody to pass on.
fn is_ours(name: &HeaderName) -> bool {
    matches!(*name, header::CONTENT_LENGTH | header::EXPECT)
        || is_hop_by_hop(name)
        || is_forwarding(name)
}

/// In lower case, with `-` for everything but letters and digits: so do gateways that hand
/// fields on as environment variables.
pub(super) fn folded(name: &str) -> String {
    name.bytes().map(|b| char::from(fold(b))).collect()
}

const fn fold(b: u8) -> u8 {
    if b.is_ascii_alphanumeric() { b.to_ascii_lowercase() } else { b'-' }
}

/// Whether servers that take `_`, or anything odd, for `-` read `name` as the `folded` one.
pub(in super::super) fn is_read_as(name: &HeaderName, folded: &str) -> bool {
    name.as_str().len() == folded.len() && begins(name.as_str(), folded)
}

fn begins(name: &str, folded_start: &str) -> bool {
    name.len() >= folded_start.len()
        && name.bytes().zip(folded_start.bytes()).all(|(b, start)| fold(b) == start)
}

/// Frequent fields of which the policy has nothing to say. The library knows their names as
/// numbers, so that this is cheaper than a look at their text.
pub(super) const fn is_plain(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::ACCEPT
            | header::ACCEPT_ENCODING
            | header::ACCEPT_LANGUAGE
            | header::ACCEPT_RANGES
            | header::AGE
            | header::CACHE_CONTROL
            | header::CONTENT_DISPOSITION
            | header::CONTENT_ENCODING
            | header::CONTENT_TYPE
            | header::DATE
            | header::ETAG
            | header::EXPIRES
            | header::HOST
            | header::LAST_MODIFIED
            | header::LOCATION
            | header::SERVER
            | header::SET_COOKIE
            | header::USER_AGENT
            | header::VARY
    )
}

/// Fields about one connection (RFC 9110 section 7.6.1), or that a proxy must not pass on.
///
/// Names that the library knows are compared as numbers, which is why they are not text here.
pub(super) fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::TE
            | header::TRANSFER_ENCODING
            | header::UPGRADE
            | header::PROXY_AUTHENTICATE
            | PROXY_AUTHORIZATION
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings" | "proxy")
}

/// Fields by which proxies tell of the client (its address, name and certificate) and of what it
/// asked for; a client's own are lies (S47). Some servers take the latter for the target, which then
/// is not the one that was judged (S19).
pub(super) fn is_forwarding(name: &HeaderName) -> bool {
    if *name == header::FORWARDED {
        return true;
    }
    if is_client_address(name) {
        return true;
    }
    let Some(rest) = name.as_str().strip_prefix("x-") else { return false };
    match rest.strip_prefix("forwarded") {
        Some(kind) => kind.is_empty() || kind.starts_with('-'),
        None => matches!(rest, "real-ip" | "original-url" | "rewrite-url"),
    }
}

/// Fields in which this or that network tells servers the client's address.
pub(in super::super) fn is_client_address(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "cf-connecting-ip"
            | "fastly-client-ip"
            | "true-client-ip"
            | "x-client-ip"
            | "x-cluster-client-ip"
    )
}
