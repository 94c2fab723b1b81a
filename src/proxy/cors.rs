//! What pages of listed origins may do (`cors` of a route). The credential never reaches the
//! page, so it need not ask for one: there is no `Access-Control-Allow-Credentials`.
//!
//! Preflights are answered here: they carry nothing, so they need no token and no upstream. The
//! upstream's own CORS fields are replaced, for it cannot know who may call through us.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use schemars::JsonSchema;
use serde::de::{Deserialize, Deserializer};

use super::headers::Survey;
use super::page;
use crate::server::Host;
use crate::vocab::{Mistake, Placeholder, scalar};

const REQUEST_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// All that a route forwards.
const METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// Seconds for which a browser may keep a grant: a change of the configuration is seen soon.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// Without credentials `*` means every field.
const EVERY_FIELD: HeaderValue = HeaderValue::from_static("*");

/// Most field names that one preflight is granted.
const MOST_FIELDS: usize = 64;

/// The `cors` block of a route.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Cors")]
pub struct Settings {
    /// The origins whose pages may call this route, such as `http://localhost:5173`.
    pub origins: Vec<Origin>,
}

/// An origin as browsers write it: scheme, host, and the port unless it is the scheme's own.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(transparent)]
pub struct Origin(#[schemars(with = "String")] String);

impl Origin {
    /// Reads `scheme://host[:port]`.
    ///
    /// # Errors
    /// Anything else: `*` and `null` would let everybody in.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        Self::canonical(text).map(Self).ok_or_else(|| {
            Mistake::new(format!("`{text}` is not an origin")).hint(
                "write scheme, host and port as the browser shows them, such as \
                 `http://localhost:5173`; `*` and `null` are not possible",
            )
        })
    }

    fn canonical(text: &str) -> Option<String> {
        let text = text.to_ascii_lowercase();
        let (scheme, authority) = text.split_once("://")?;
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        let (host, port) = Host::parse(authority.as_bytes())?;
        let default_port = match scheme {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        let host = match host {
            Host::Name(name) => name.to_owned(),
            Host::Address(std::net::IpAddr::V6(address)) => format!("[{address}]"),
            Host::Address(address) => address.to_string(),
        };
        let port = port.filter(|port| Some(*port) != default_port);
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        is_scheme.then(|| format!("{scheme}://{host}{port}"))
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, Self::parse)
    }
}

impl Placeholder for Origin {
    fn placeholder() -> Self {
        Self("http://localhost".to_owned())
    }
}

/// A route's listed origins, ready to judge.
#[derive(Debug, Default)]
pub(super) struct Cors {
    /// Sorted; as browsers write them.
    origins: Vec<Box<str>>,
}

impl Cors {
    pub(super) fn new(settings: Option<&Settings>) -> Self {
        let origins = settings.map(|settings| settings.origins.as_slice()).unwrap_or_default();
        let mut origins: Vec<Box<str>> =
            origins.iter().map(|origin| origin.0.as_str().into()).collect();
        origins.sort_unstable();
        origins.dedup();
        Self { origins }
    }

    #[cfg(test)]
    pub(super) fn of(origins: &[&str]) -> Self {
        let origins = origins.iter().map(|origin| Origin::parse(origin).unwrap()).collect();
        Self::new(Some(&Settings { origins }))
    }

    /// Whether any origin is listed.
    pub(super) const fn is_on(&self) -> bool {
        !self.origins.is_empty()
    }

    /// Whether an `Origin` is listed. Browsers write it in one form only, so it must be that.
    pub(super) fn lists(&self, origin: &HeaderValue) -> bool {
        self.lists_bytes(origin.as_bytes())
    }

    pub(super) fn lists_bytes(&self, origin: &[u8]) -> bool {
        self.origins.binary_search_by(|known| known.as_bytes().cmp(origin)).is_ok()
    }
}

/// What is to be said to the browser that asked, if one did, beside what the answer says.
#[derive(Debug, Default)]
pub(super) struct Grant {
    /// The listed origin that may read the answer.
    origin: Option<HeaderValue>,
    /// Answers of the route differ by who asks.
    varies: bool,
    browser: bool,
}

impl Grant {
    /// What is known before there is a route: an origin that some route lists may read why it was
    /// refused, which holds nothing but words of ours.
    pub(super) fn early(
        headers: &HeaderMap,
        found: Survey,
        lists: impl Fn(&HeaderValue) -> bool,
    ) -> Self {
        let browser = page::is_browser(headers, found);
        if !found.has(Survey::PAGE) {
            return Self { browser, ..Self::default() };
        }
        let mut origins = headers.get_all(ORIGIN).iter();
        let origin = match (origins.next(), origins.next()) {
            (Some(origin), None) if lists(origin) => Some(origin.clone()),
            _ => None,
        };
        Self { varies: origin.is_some(), origin, browser }
    }

    /// The route is known.
    pub(super) fn narrow(&mut self, cors: &Cors) {
        self.varies = cors.is_on();
        self.origin.take_if(|origin| !cors.lists(origin));
    }

    /// Adds what the browser must be told to an answer's fields.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        if self.varies {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        if let Some(origin) = &self.origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EVERY_FIELD);
        }
        if self.browser {
            headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        }
    }
}

/// Whether a field is about CORS and so not for the upstream to say.
pub(super) fn is_field(name: &HeaderName) -> bool {
    name.as_str().starts_with("access-control-")
}

/// Whether a page of a listed origin asks what it may send.
pub(super) fn is_preflight(head: &Parts) -> bool {
    head.method == Method::OPTIONS && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The fields of a preflight's answer, but for those of [`Grant::tell`].
pub(super) fn grant_preflight(head: &Parts) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    let asked: Vec<String> = head
        .headers
        .get_all(ACCESS_CONTROL_REQUEST_HEADERS)
        .iter()
        .flat_map(|line| line.as_bytes().split(|b| *b == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| name.as_str() != "*")
        .take(MOST_FIELDS)
        .map(|name| name.as_str().to_owned())
        .collect();
    if let Ok(names) = HeaderValue::try_from(asked.join(", "))
        && !names.is_empty()
    {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    if head.headers.contains_key(REQUEST_PRIVATE_NETWORK) {
        headers.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_into_the_form_of_browsers() {
        for (text, expected) in [
            ("http://localhost:5173", "http://localhost:5173"),
            ("HTTPS://App.Example:443", "https://app.example"),
            ("http://app.example:80", "http://app.example"),
            ("http://[0:0::1]:3000", "http://[::1]:3000"),
            ("tauri://localhost", "tauri://localhost"),
        ] {
            assert_eq!(Origin::parse(text).unwrap().0, expected);
        }
        for bad in ["*", "null", "", "localhost:5173", "http://", "http://a/", "http://a b", "://a"]
        {
            assert!(Origin::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_list_of_ten_thousand_is_matched_as_one_of_one_s5() {
        let texts: Vec<String> = (0..10_000).map(|i| format!("http://h{i}.example")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let cors = Cors::of(&texts);
        assert!(texts.iter().all(|text| cors.lists_bytes(text.as_bytes())));
        for other in ["http://h10000.example", "http://h1.example:80", "http://H1.example", ""] {
            assert!(!cors.lists_bytes(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_preflight_is_granted_what_it_asks_for_by_name_s1() {
        let request = http::Request::options("/")
            .header("access-control-request-method", "PUT")
            .header("access-control-request-headers", "content-type, X-A,,bad name,*")
            .header("access-control-request-private-network", "true")
            .body(())
            .unwrap();
        let (head, ()) = request.into_parts();
        assert!(is_preflight(&head));
        let granted = grant_preflight(&head);
        assert_eq!(granted[ACCESS_CONTROL_ALLOW_HEADERS], "content-type, x-a");
        assert_eq!(granted[ALLOW_PRIVATE_NETWORK], "true");
        assert!(!granted.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
    }
}
