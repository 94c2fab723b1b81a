//! The status as a page for people: one self-contained document whose first view is made here and
//! whose script follows `/status/events`. Style and script are allowed by their digests alone, and
//! all text is set as text, so that no name or message of a stranger can become markup.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, VARY};
use http::{Response, StatusCode};
use ring::digest::{SHA256, digest};

use super::first::View;
use super::respond;
use crate::net::body::Body;

const FRAME: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// The page without its view, and its policy; made once.
#[derive(Debug)]
pub(super) struct Page {
    frame: String,
    policy: HeaderValue,
}

impl Page {
    pub(super) fn new() -> Self {
        let frame = FRAME.replace("/*style*/", STYLE).replace("/*script*/", SCRIPT);
        let hash = |text: &str| STANDARD.encode(digest(&SHA256, text.as_bytes()));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; \
             connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'; require-trusted-types-for 'script'",
            hash(STYLE),
            hash(SCRIPT),
        );
        // Base64 and the words above are always a valid value; the fallback shows a bare page.
        let policy = HeaderValue::from_str(&policy)
            .unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Self { frame, policy }
    }

    pub(super) fn respond(&self, view: &View) -> Response<Body> {
        let mut response = respond(StatusCode::OK, HTML, self.render(view));
        let headers = response.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(VARY, HeaderValue::from_static("accept"));
        response
    }

    /// The frame with the view's parts in their places, in the frame's order: what a part holds
    /// is never taken for a place.
    fn render(&self, view: &View) -> Bytes {
        let parts = [
            ("<!--key-->", view.key.as_str()),
            ("<!--tone-->", view.tone),
            ("<!--ready-->", view.ready),
            ("<!--about-->", &view.about),
            ("<!--tokens-->", &view.tokens),
            ("<!--routes-->", &view.routes),
            ("<!--refusals-->", &view.refusals),
            ("<!--requests-->", view.requests),
        ];
        let mut document = String::with_capacity(self.frame.len() + 4096);
        let mut rest = self.frame.as_str();
        for (place, part) in parts {
            if let Some((before, after)) = rest.split_once(place) {
                document.push_str(before);
                document.push_str(part);
                rest = after;
            }
        }
        document.push_str(rest);
        document.into()
    }
}

/// Whether the client prefers HTML by name. `*/*` does not: programs say that too.
pub(super) fn is_wanted<'h>(accept: impl Iterator<Item = &'h HeaderValue>) -> bool {
    let (mut html, mut json) = (0.0, 0.0);
    for range in accept.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let weight = parts
            .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
            .map_or(1.0, |q| q.parse::<f32>().unwrap_or(0.0));
        if kind.eq_ignore_ascii_case("text/html") {
            html = weight;
        } else if kind.eq_ignore_ascii_case("application/json") {
            json = weight;
        }
    }
    html > 0.0 && html >= json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_names_html_gets_it() {
        for (accept, html) in [
            ("*/*", false),
            ("", false),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true),
            ("application/json", false),
            ("text/html;q=0, */*", false),
            ("text/html;q=0.5, application/json", false),
            ("TEXT/HTML; level=1 ; q=0.9", true),
            ("text/html;q=many", false),
        ] {
            let value = HeaderValue::from_static(accept);
            assert_eq!(is_wanted([&value].into_iter()), html, "{accept}");
        }
        assert!(!is_wanted([].into_iter()));
    }

    #[test]
    fn every_part_has_its_place_and_none_is_taken_for_one() {
        let part = |text: &str| format!("[{text}]<!--routes-->");
        let view = View {
            key: part("key"),
            tone: "[tone]",
            ready: "[ready]",
            about: part("about"),
            tokens: part("tokens"),
            routes: "[routes]".to_owned(),
            refusals: part("refusals"),
            requests: "[requests]",
        };
        let page = String::from_utf8(Page::new().render(&view).to_vec()).unwrap();
        for part in ["key", "tone", "ready", "about", "tokens", "routes", "refusals", "requests"] {
            assert_eq!(page.matches(&format!("[{part}]")).count(), 1, "{part}");
        }
    }

    #[test]
    fn the_page_asks_nobody_but_its_own_listener() {
        let page = Page::new();
        // The name of a vocabulary, which nobody asks for.
        let text = page.frame.replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains("http:") && !text.contains("https:"));
        assert!(!text.contains("innerHTML") && !text.contains("style="));
        assert!(
            page.policy.to_str().unwrap().starts_with("default-src 'none'; style-src 'sha256-")
        );
    }
}
