//! `Max-Forwards`: how far an `OPTIONS` may go (RFC 9110 section 7.6.2). `TRACE`, the other method
//! that it is for, is refused.

use http::header::{ALLOW, MAX_FORWARDS};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};

use super::refusal::METHODS;

/// What to answer in place of the upstream if the request may go no further.
pub(super) fn spent(head: &Parts) -> Option<HeaderMap> {
    (left(head)? == 0).then(|| HeaderMap::from_iter([(ALLOW, METHODS)]))
}

/// Counts the hop to the upstream.
pub(super) fn count(head: &mut Parts) {
    if let Some(left) = left(head) {
        head.headers.insert(MAX_FORWARDS, HeaderValue::from(left.saturating_sub(1)));
    }
}

/// How far the request may go, if it says so. A number that is none is left alone.
fn left(head: &Parts) -> Option<u64> {
    if head.method != Method::OPTIONS {
        return None;
    }
    let mut lines = head.headers.get_all(MAX_FORWARDS).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return None };
    let digits = line.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}
