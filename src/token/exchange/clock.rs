//! What an answer's header fields say about time.

use std::time::Duration;

use http::header::{self, HeaderMap};

use crate::vocab::Wall;

/// RFC 9110 section 10.2.3: seconds, or a date.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number beyond all is a very long time, not nothing.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    let at = at.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs_f64();
    let now = date(headers).unwrap_or_else(|| Wall::now().0);
    Duration::try_from_secs_f64((at - now).max(0.0)).ok()
}

/// The issuer's clock, for lifetimes: rather ahead than behind. Its `Date` is cut to a second,
/// which would overstate every absolute end by up to one.
pub(super) fn server_now(headers: &HeaderMap) -> f64 {
    let own = Wall::now().0;
    match date(headers) {
        // The clocks agree as far as can be told, and ours is the finer one.
        Some(date) if (date..date + 2.0).contains(&own) => own,
        Some(date) => date + 1.0,
        None => own,
    }
}

/// The answer's `Date`, in seconds of Unix time.
fn date(headers: &HeaderMap) -> Option<f64> {
    headers
        .get(header::DATE)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| httpdate::parse_http_date(text).ok())
        .and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok())
        .map(|since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn fields(fields: &[(header::HeaderName, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_str(text).unwrap();
        fields.iter().map(|(name, text)| (name.clone(), value(text))).collect()
    }

    #[test]
    fn an_absolute_end_is_not_overstated_by_a_date_in_whole_seconds() {
        let at = |date: f64| {
            let since = Duration::from_secs_f64(date);
            let text = httpdate::fmt_http_date(std::time::UNIX_EPOCH + since);
            fields(&[(header::DATE, &text)])
        };
        let now = Wall::now().0;
        let agreeing = server_now(&at(now));
        assert!(agreeing >= now && agreeing < now + 1.0, "{agreeing} {now}");
        // An hour apart: theirs counts, in its last moment.
        let ahead = (now + 3600.0).floor();
        assert!((server_now(&at(ahead)) - (ahead + 1.0)).abs() < 0.001);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let after = |value: &str| {
            let date = "Tue, 14 Nov 2023 22:13:20 GMT";
            retry_after(&fields(&[(header::RETRY_AFTER, value), (header::DATE, date)]))
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("Tue, 14 Nov 2023 22:13:25 GMT"), Some(Duration::from_secs(5)));
        assert_eq!(after("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(after("-1"), None);
        assert_eq!(after("abc"), None);
    }

    proptest::proptest! {
        #[test]
        fn fuzz_no_retry_after_panics(value in "[0-9A-Za-z ,:+.-]{0,40}", date in "[ -~]{0,40}") {
            // A number is that number of seconds; of anything else only an end in the future counts.
            let fields = fields(&[(header::RETRY_AFTER, &value), (header::DATE, &date)]);
            let digits = value.trim();
            let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            let seconds = || digits.parse().unwrap_or(u64::MAX);
            let expected = is_number.then(|| Duration::from_secs(seconds()));
            if expected.is_some() {
                proptest::prop_assert_eq!(retry_after(&fields), expected);
            } else if httpdate::parse_http_date(value.trim()).is_err() {
                proptest::prop_assert_eq!(retry_after(&fields), None);
            }
        }
    }
}
