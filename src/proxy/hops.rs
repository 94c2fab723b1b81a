//! `Max-Forwards`: how far an `OPTIONS` may go (RFC 9110 section 7.6.2). `TRACE`, the other method
//! that it is for, is refused.

use http::header::{ALLOW, MAX_FORWARDS};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};

use super::refusal::METHODS;

/// Counts the hop to the upstream; what to answer instead if none is left. A number that is none
/// is left alone.
pub(super) fn count(head: &mut Parts) -> Option<HeaderMap> {
    if head.method != Method::OPTIONS {
        return None;
    }
    let mut lines = head.headers.get_all(MAX_FORWARDS).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return None };
    let digits = line.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    match digits.parse::<u64>().ok()?.checked_sub(1) {
        Some(left) => {
            head.headers.insert(MAX_FORWARDS, HeaderValue::from(left));
            None
        }
        None => Some(HeaderMap::from_iter([(ALLOW, METHODS)])),
    }
}
