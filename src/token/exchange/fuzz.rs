//! What the fuzz targets of `fuzz/` run about answers of issuers: any bytes, and a second opinion
//! on what is made of them. The seeds of `fuzz/seeds` run with the unit tests.

#![allow(clippy::expect_used, clippy::missing_panics_doc, reason = "to panic is how it reports")]

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response};
use serde_json::Value;

use super::answer::{Reading, ValueRule};
use super::clock;
use crate::net::fetch::Answer;
use crate::token::failure::{Failure, Reason};
use crate::token::grant::Grant;
use crate::token::schedule::{Renew, Schedule};
use crate::vocab::{Moment, Pointer};

fn pointer(text: &str) -> Pointer {
    Pointer::parse(text).expect("a pointer")
}

fn reading(oauth: bool) -> Reading {
    let expiry = "[{seconds: /expires_in}, {unix: /at}, {rfc3339: /until}, {jwt: exp}]";
    Reading {
        success: Vec::new(),
        value: if oauth {
            ValueRule::At(pointer("/access_token"))
        } else {
            ValueRule::Basic(pointer("/id"), pointer("/key"))
        },
        fields: vec![("scope".to_owned(), pointer("/scope"))],
        refresh_token: Some(pointer("/refresh_token")),
        expiry: serde_yaml::from_str(expiry).expect("places"),
        assume: Duration::from_secs(300),
        refresh_expiry: serde_yaml::from_str("[{seconds: /refresh_expires_in}]").expect("places"),
        errors: Vec::new(),
        parent_faults: Vec::new(),
        oauth,
    }
}

/// A status, then a field a line, an empty line, the body.
fn answered(data: &[u8]) -> Option<Answer> {
    let mut response = Response::new(Bytes::new());
    let mut rest = data;
    let mut line = || {
        let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
        let line = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        line
    };
    let status: u16 = std::str::from_utf8(line()).ok()?.trim().parse().ok()?;
    *response.status_mut() = http::StatusCode::from_u16(status).ok()?;
    loop {
        let field = line();
        let Some(colon) = field.iter().position(|b| *b == b':') else { break };
        let name = HeaderName::from_bytes(&field[..colon]).ok()?;
        let value = HeaderValue::from_bytes(field[colon + 1..].trim_ascii()).ok()?;
        response.headers_mut().append(name, value);
    }
    let body = Bytes::copy_from_slice(rest);
    let (head, _) = response.into_parts();
    Some(Answer { head, body })
}

/// Reads an answer of a token endpoint: what is granted stands in the answer and fits a header
/// field, what is refused is told in words without a secret (S21, S44).
///
/// # Panics
/// It is not so.
pub fn answer(data: &[u8]) {
    let Some(answer) = answered(data) else { return };
    for oauth in [true, false] {
        match reading(oauth).read(&answer) {
            Ok(grant) => granted(&answer, &grant, oauth),
            Err(failure) => failed(&answer, &failure),
        }
    }
}

fn granted(answer: &Answer, grant: &Grant, oauth: bool) {
    assert!(answer.status().is_success());
    let body = answer.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&answer.body);
    let json: Value = serde_json::from_slice(body).expect("what is read is JSON");
    assert!(matches!(json.get("error"), None | Some(Value::Null)) || json["error"] == "");
    let value = grant.value.expose();
    assert!(!value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic()));
    assert!(value.len() <= 48 * 1024 && HeaderValue::from_str(value).is_ok());
    let plain = |name: &str| match &json[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if oauth {
        assert_eq!(value, plain("access_token"));
    } else {
        use base64::Engine;
        let pair = base64::engine::general_purpose::STANDARD.decode(value).expect("base64");
        assert_eq!(pair, format!("{}:{}", plain("id"), plain("key")).into_bytes());
    }
    for field in grant.fields.values() {
        assert!(!field.expose().chars().any(char::is_control));
    }
    assert!(grant.refresh_token.as_ref().is_none_or(|token| !token.is_empty()));
    for lifetime in grant.lifetime.iter().chain(&grant.refresh_lifetime) {
        assert!(*lifetime <= Duration::from_secs(10 * 366 * 86_400));
    }
    let now = Moment::now();
    let mut schedule = Schedule::new(Renew::default());
    let span = schedule.span(now, grant.lifetime);
    assert!(span.lifetime.is_none_or(|lifetime| lifetime <= Duration::from_secs(86_400)));
    let next = schedule.succeeded(span, crate::token::schedule::Change::New, now, 0.5);
    assert!(next.is_none_or(|next| next > now));
}

fn failed(answer: &Answer, failure: &Failure) {
    assert!(failure.detail.len() < 1000);
    let words = failure.detail.as_str();
    assert!(words.bytes().all(|b| b.is_ascii_graphic() || b == b' '), "{words}");
    let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    for name in ["access_token", "refresh_token", "id_token"] {
        if let Some(secret) = json.get(name).and_then(Value::as_str) {
            let is_secret = secret.len() >= 16
                && secret.bytes().all(|b| b.is_ascii_alphanumeric())
                && secret.bytes().any(|b| b.is_ascii_digit())
                && secret.bytes().any(|b| b.is_ascii_alphabetic());
            assert!(!is_secret || !words.contains(secret), "{words}");
        }
    }
}

/// Reads `Retry-After`, with the answer's `Date` on a line of its own: a number is that number of
/// seconds, a date is the time up to it, and whatever it says, the next attempt is neither at once
/// nor out of reach.
///
/// # Panics
/// It is not so.
pub fn retry_after(data: &[u8]) {
    let mut lines = data.splitn(2, |b| *b == b'\n');
    let mut headers = http::HeaderMap::new();
    for (name, line) in [http::header::RETRY_AFTER, http::header::DATE].into_iter().zip(&mut lines)
    {
        if let Ok(value) = HeaderValue::from_bytes(line.trim_ascii()) {
            headers.insert(name, value);
        }
    }
    let read = clock::retry_after(&headers);
    let text = headers.get("retry-after").map(|value| value.as_bytes()).unwrap_or_default();
    if !text.is_empty() && text.iter().all(u8::is_ascii_digit) {
        let number = text.iter().fold(0_u64, |sum, digit| {
            sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
        });
        assert_eq!(read.map(|read| read.as_secs()), Some(number));
    } else {
        // A date has a name of a day and a time.
        assert!(read.is_none() || text.is_ascii() && text.contains(&b':'), "{read:?}");
    }
    let mut failure = Failure::new(Reason::RateLimited, "");
    failure.retry_after = read;
    let now = Moment::now();
    let next = Schedule::new(Renew::default()).failed(&failure, None, now, 0.5);
    let pause = now.until(next);
    assert!(pause >= Duration::from_millis(500) && pause <= Duration::from_secs(301), "{pause:?}");
}

#[cfg(test)]
mod tests {
    use crate::vocab::seeds::replay;

    #[test]
    fn the_seeds_hold() {
        replay("answer", super::answer);
        replay("retry_after", super::retry_after);
    }
}
