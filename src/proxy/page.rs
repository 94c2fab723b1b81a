//! On whose behalf a browser asks: the rules about `Origin`, `Sec-Fetch-*` and `Referer`.
//!
//! Every request through here carries a credential, so no method is harmless: what a page of
//! another site causes is refused, also where the page could not read the answer (S2, S3). A
//! browser that sends none of these fields cannot be told from a program; for the rest there is
//! the check of `Host`, and the fields that keep an answer from being embedded.

use http::header::{ORIGIN, REFERER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;

use super::cors::Cors;
use super::headers::Survey;
use super::refusal::Refusal;
use crate::server::Host;
use crate::vocab::choices;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// A host with its port, if it was written.
pub(super) type Authority<'h> = (Host<'h>, Option<u16>);

/// Whether a browser may show a route's answers as pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Navigation {
    /// If the user typed the address, or followed a link of such a page. A link or redirect of
    /// another site is refused, but a browser that is redirected here after the user typed an
    /// address cannot be told from one where the user typed ours.
    #[default]
    Allow,
    /// Never.
    Refuse,
}

choices!(Navigation: "allow" = Allow, "refuse" = Refuse);

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    /// A program, the user, or a page of this very origin.
    Own,
    /// A page of an origin that the route lists.
    Listed,
}

/// Tells who asks.
///
/// # Errors
/// A page that may not.
pub(super) fn judge(
    headers: &HeaderMap,
    own: Option<Authority<'_>>,
    cors: &Cors,
    navigation: Navigation,
) -> Result<Page, Refusal> {
    let navigates = navigates(headers);
    if navigates && navigation == Navigation::Refuse {
        return Err(Refusal::Origin);
    }
    let mut origins = headers.get_all(ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (None, _) if is_own_site(headers) && has_own_referer(headers, own, cors) => Ok(Page::Own),
        (Some(origin), None) if is_own_site(headers) && is_own(origin.as_bytes(), own) => {
            Ok(Page::Own)
        }
        // A form of a listed origin would have the answer shown as a page of ours.
        (Some(origin), None) if !navigates && cors.lists(origin) => Ok(Page::Listed),
        _ => Err(Refusal::Origin),
    }
}

/// Whether a browser asks, as far as one can tell.
pub(super) fn is_browser(headers: &HeaderMap, found: Survey) -> bool {
    found.has(Survey::PAGE)
        || found.has(Survey::USER_AGENT)
            && headers
                .get(USER_AGENT)
                .is_some_and(|agent| agent.as_bytes().starts_with(b"Mozilla/"))
}

/// Whether the answer is to become a page, or a part of one that acts like a page.
fn navigates(headers: &HeaderMap) -> bool {
    let is_page = |dest: &HeaderValue| {
        matches!(
            dest.as_bytes(),
            b"document" | b"iframe" | b"frame" | b"fencedframe" | b"embed" | b"object"
        )
    };
    headers.get_all(SEC_FETCH_MODE).iter().any(|mode| mode.as_bytes() == b"navigate")
        || headers.get_all(SEC_FETCH_DEST).iter().any(is_page)
}

/// Whether the browser, if it is one that says so, names this origin or the user as the cause.
fn is_own_site(headers: &HeaderMap) -> bool {
    let is_own = |site: &HeaderValue| matches!(site.as_bytes(), b"same-origin" | b"none");
    headers.get_all(SEC_FETCH_SITE).iter().all(is_own)
}

/// Whether an origin is the listener's own, by the name under which the request addresses it.
fn is_own(origin: &[u8], own: Option<Authority<'_>>) -> bool {
    let parsed = std::str::from_utf8(origin).ok().and_then(|text| {
        let (scheme, authority) = text.split_once("://")?;
        let default_port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        Some((Host::parse(authority.as_bytes())?, default_port))
    });
    matches!((parsed, own), (Some((origin, port)), Some(own)) if same(own, origin, port))
}

/// Browsers send `Sec-Fetch-Site` to `https` and loopback addresses only, and embedding a script
/// or an image sends no `Origin`; elsewhere the `Referer` is all there is.
fn has_own_referer(headers: &HeaderMap, own: Option<Authority<'_>>, cors: &Cors) -> bool {
    if headers.contains_key(SEC_FETCH_SITE) {
        return true;
    }
    headers.get_all(REFERER).iter().all(|referer| {
        let bytes = referer.as_bytes();
        let Some(scheme) = bytes.windows(3).position(|window| window == b"://") else {
            return true;
        };
        let from = scheme + 3;
        let length = bytes[from..].iter().position(|b| matches!(b, b'/' | b'?' | b'#'));
        let origin = length.map_or(bytes, |length| &bytes[..from + length]);
        is_own(origin, own) || cors.lists_bytes(origin)
    })
}

/// Whether two authorities are the same where a missing port is `default_port`.
pub(super) fn same(a: Authority<'_>, b: Authority<'_>, default_port: u16) -> bool {
    a.0.is(b.0) && a.1.unwrap_or(default_port) == b.1.unwrap_or(default_port)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn asks(fields: &[(&'static str, &str)]) -> Option<Page> {
        let cors = Cors::of(&["http://localhost:5173"]);
        let own = Host::parse(b"localhost:8080");
        judge(&headers(fields), own, &cors, Navigation::Allow).ok()
    }

    #[test]
    fn pages_of_other_origins_are_refused_whatever_they_do_s2_s3() {
        for fields in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "")],
            &[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")],
            &[("origin", "null")],
            &[("origin", "")],
            &[("origin", "http://localhost:8081")],
            &[("origin", "http://localhost")],
            &[("origin", "http://evil.example")],
            &[("origin", "http://localhost:8080.evil.example")],
            &[("origin", "http://evil@localhost:8080")],
            &[("origin", "http://127.0.0.1:8080")],
            &[("origin", "file://localhost:8080")],
            &[("origin", "http://localhost:8080"), ("origin", "http://evil.example")],
            &[("origin", "http://localhost:8080"), ("origin", "http://localhost:5173")],
            &[("origin", "http://localhost:8080"), ("sec-fetch-site", "cross-site")],
            &[("origin", "http://localhost:5173"), ("sec-fetch-mode", "navigate")],
            &[("origin", "http://localhost:5173"), ("sec-fetch-dest", "iframe")],
            &[("origin", "HTTP://localhost:5173")],
            &[("referer", "http://evil.example/")],
            &[("referer", "http://evil.example?http://localhost:8080/")],
            &[("referer", "http://localhost:8080.evil.example/")],
        ] {
            assert_eq!(asks(fields), None, "{fields:?}");
        }
    }

    #[test]
    fn programs_users_and_own_pages_are_let_in() {
        for fields in [
            &[][..],
            &[("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "navigate")],
            &[("sec-fetch-site", "none"), ("sec-fetch-dest", "document")],
            &[("origin", "http://localhost:8080")],
            &[("origin", "http://LOCALHOST:8080")],
            &[("referer", "http://localhost:8080/page?x")],
            &[("referer", "http://localhost:5173/page?x")],
            &[("referer", "/relative")],
            &[("referer", "http://evil.example/"), ("sec-fetch-site", "none")],
        ] {
            assert_eq!(asks(fields), Some(Page::Own), "{fields:?}");
        }
    }

    #[test]
    fn a_listed_origin_may_fetch() {
        for fields in [
            &[("origin", "http://localhost:5173")][..],
            &[("origin", "http://localhost:5173"), ("sec-fetch-site", "same-site")],
            &[("origin", "http://localhost:5173"), ("sec-fetch-mode", "cors")],
            &[("origin", "http://localhost:5173"), ("sec-fetch-mode", "websocket")],
        ] {
            assert_eq!(asks(fields), Some(Page::Listed), "{fields:?}");
        }
    }

    #[test]
    fn a_route_can_refuse_to_be_a_page() {
        let cors = Cors::default();
        for (fields, expected) in [
            (&[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")], false),
            (&[("sec-fetch-site", "same-origin"), ("sec-fetch-dest", "document")], false),
            (&[("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors")], true),
        ] {
            let judged = judge(&headers(fields), None, &cors, Navigation::Refuse);
            assert_eq!(judged.is_ok(), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_default_port_may_be_written_or_not() {
        let fields = headers(&[("origin", "http://localhost")]);
        for (own, expected) in
            [("localhost", true), ("localhost:80", true), ("localhost:81", false)]
        {
            let own = Host::parse(own.as_bytes());
            let judged = judge(&fields, own, &Cors::default(), Navigation::Allow);
            assert_eq!(judged.is_ok(), expected, "{own:?}");
        }
        assert!(judge(&fields, None, &Cors::default(), Navigation::Allow).is_err());
    }

    proptest! {
        #[test]
        fn no_random_origin_is_let_in_s5(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let fields = HeaderMap::from_iter([(ORIGIN, value)]);
                let own = Host::parse(b"localhost:8080");
                let judged = judge(&fields, own, &Cors::default(), Navigation::Allow);
                prop_assert!(judged.is_err());
            }
        }
    }
}
