//! Who may act, or watch: this listener's own page, and programs of this machine. A browser sends
//! for pages of other sites too, so a request must not come from one (S2), and who acts must know
//! a key that no such page can read.

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderName};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The field that holds the key.
const FIELD: HeaderName = HeaderName::from_static("bearerd-key");

/// By which a page proves that it could read an answer of this process. It protects from pages of
/// other sites only: every program that reaches the listener can read it.
#[derive(Debug)]
pub(super) struct Key {
    text: String,
    own: hmac::Key,
    tag: hmac::Tag,
}

impl Key {
    /// A new one, if the system has random numbers.
    pub(super) fn new() -> Option<Self> {
        let mut bytes = [0_u8; 16];
        SystemRandom::new().fill(&mut bytes).ok()?;
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let own = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        let tag = hmac::sign(&own, text.as_bytes());
        Some(Self { text, own, tag })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a request holds the key, once.
    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
        let mut lines = headers.get_all(&FIELD).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else { return false };
        // Comparing tags takes the same time whatever the two have in common.
        hmac::verify(&self.own, line.as_bytes(), self.tag.as_ref()).is_ok()
    }
}

/// Whether a request is sent by no page, or by a page of this listener. `Sec-Fetch-Site: none`
/// is the user's own hand, which does not POST.
pub(super) fn is_own(headers: &HeaderMap) -> bool {
    let site = |value: &http::HeaderValue| matches!(value.as_bytes(), b"same-origin" | b"none");
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let origin = |value: &http::HeaderValue| {
        let text = value.to_str().ok();
        let authority = text.and_then(|text| {
            text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"))
        });
        matches!((authority, host), (Some(own), Some(host)) if own.eq_ignore_ascii_case(host))
    };
    headers.get_all(SITE).iter().all(site) && headers.get_all(ORIGIN).iter().all(origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, http::HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_the_own_origin_is_own_s2() {
        for (fields, own) in [
            (&[("host", "localhost:9090")][..], true),
            (&[("host", "localhost:9090"), ("origin", "http://localhost:9090")], true),
            (&[("host", "LOCALHOST:9090"), ("origin", "http://localhost:9090")], true),
            (&[("host", "localhost:9090"), ("sec-fetch-site", "same-origin")], true),
            (&[("host", "localhost:9090"), ("sec-fetch-site", "none")], true),
            (&[("host", "localhost:9090"), ("origin", "null")], false),
            (&[("host", "localhost:9090"), ("origin", "http://localhost:3000")], false),
            (&[("host", "localhost:9090"), ("origin", "http://localhost")], false),
            (&[("host", "localhost:9090"), ("origin", "file://localhost:9090")], false),
            (
                &[("host", "localhost:9090"), ("origin", "http://localhost:9090.evil.example")],
                false,
            ),
            (&[("host", "localhost:9090"), ("sec-fetch-site", "same-site")], false),
            (&[("host", "localhost:9090"), ("sec-fetch-site", "cross-site")], false),
            (&[("host", "a"), ("sec-fetch-site", "same-origin"), ("sec-fetch-site", "x")], false),
            (&[("host", "a"), ("origin", "http://a"), ("origin", "http://b")], false),
            (&[("origin", "http://localhost:9090")], false),
        ] {
            assert_eq!(is_own(&headers(fields)), own, "{fields:?}");
        }
    }

    #[test]
    fn the_key_is_asked_for_once_and_whole() {
        let key = Key::new().unwrap();
        let with = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FIELD, line.parse().unwrap());
            }
            key.is_in(&headers)
        };
        let text = key.as_str();
        assert!(with(&[text]) && text.len() == 32);
        for wrong in [&[][..], &[""], &[&text[1..]], &[text, text], &[&text.to_uppercase(), "a"]] {
            assert!(!with(wrong), "{wrong:?}");
        }
        assert_ne!(Key::new().unwrap().as_str(), text);
    }
}
