//! How long a grant holds: an ordered list of places to look, the first usable one wins.
//!
//! Issuers lie about it: zero beside a valid token, numbers in strings, nothing at all, the year
//! 5871. Zero, negative, absent and absurd mean "not said", never "expired now".

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::vocab::{Mistake, Period, Placeholder, Pointer, scalar};

/// More than this is not a lifetime but a mistake of the issuer.
const ABSURD: f64 = 10.0 * 365.25 * 86_400.0;

/// One place to look for a lifetime; written as a map with one key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Expiry {
    /// Seconds from now, as a number or a numeric string.
    Seconds(Pointer),
    /// An absolute time in seconds of Unix time.
    Unix(Pointer),
    /// An absolute time in milliseconds of Unix time.
    UnixMs(Pointer),
    /// An absolute time as RFC 3339 or ISO 8601 text.
    Rfc3339(Pointer),
    /// The seconds between two absolute times, the later first.
    Difference(Pointer, Pointer),
    /// The `exp` claim of the value itself, a JWT (`jwt: exp`).
    Jwt(Claim),
    /// A fixed length of time, or `never`.
    Assume(Assumed),
}

/// The claim that tells a JWT's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// RFC 7519 section 4.1.4.
    Exp,
}

/// A fixed length of time, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(with = "String")]
pub enum Assumed {
    /// This long.
    For(Period),
    /// It does not expire.
    Never,
}

impl<'de> Deserialize<'de> for Assumed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, |text| match text {
            "never" => Ok(Self::Never),
            _ => Period::parse(text).map(Self::For).map_err(|mistake: Mistake| {
                mistake.hint("write a length of time such as `5m`, or `never`")
            }),
        })
    }
}

impl Placeholder for Assumed {
    fn placeholder() -> Self {
        Self::Never
    }
}

/// What a list of places came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// This long from the moment the request was sent.
    Lifetime(Duration),
    /// For ever.
    Never,
    /// No place said anything usable.
    Nothing,
}

/// Looks through the places in order. `server_now` is the issuer's clock (its `Date` field) in
/// seconds of Unix time, so that a wrong clock on this side does no harm.
pub(super) fn find(places: &[Expiry], json: &Value, value: &str, server_now: f64) -> Found {
    for place in places {
        let seconds = match place {
            Expiry::Seconds(pointer) => pointer.find(json).and_then(number),
            Expiry::Unix(pointer) => pointer.find(json).and_then(number).map(|at| at - server_now),
            Expiry::UnixMs(pointer) => {
                pointer.find(json).and_then(number).map(|at| at / 1000.0 - server_now)
            }
            Expiry::Rfc3339(pointer) => {
                pointer.find(json).and_then(instant).map(|at| at - server_now)
            }
            Expiry::Difference(later, earlier) => {
                let time = |pointer: &Pointer| {
                    pointer.find(json).and_then(|found| number(found).or_else(|| instant(found)))
                };
                time(later).zip(time(earlier)).map(|(later, earlier)| later - earlier)
            }
            Expiry::Jwt(Claim::Exp) => jwt_lifetime(value, server_now),
            Expiry::Assume(Assumed::Never) => return Found::Never,
            Expiry::Assume(Assumed::For(period)) => return Found::Lifetime(period.0),
        };
        // A number that is not a number fails both comparisons.
        if let Some(seconds) = seconds.filter(|s| *s > 0.0 && *s <= ABSURD) {
            return Found::Lifetime(Duration::from_secs_f64(seconds));
        }
    }
    Found::Nothing
}

/// The rest of the life of a value that is a JWT, by this machine's clock.
#[must_use]
pub fn of_jwt(value: &str) -> Option<Duration> {
    let places = [Expiry::Jwt(Claim::Exp)];
    match find(&places, &Value::Null, value, crate::vocab::Wall::now().0) {
        Found::Lifetime(lifetime) => Some(lifetime),
        Found::Never | Found::Nothing => None,
    }
}

/// Whether a value is a JWT whose end, by this machine's clock, is past.
#[must_use]
pub fn is_over(value: &str) -> bool {
    let exp = claims(value).and_then(|claims| claims.get("exp").and_then(number));
    // Zero is how some issuers write "never".
    exp.is_some_and(|exp| exp > 0.0 && exp <= crate::vocab::Wall::now().0)
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn instant(value: &Value) -> Option<f64> {
    let text = value.as_str()?.trim();
    let stamp = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        // ISO 8601 without an offset: UTC is what such servers mean.
        let civil = text.parse::<jiff::civil::DateTime>().ok()?;
        civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    })?;
    Some(stamp.as_duration().as_secs_f64())
}

fn claims(token: &str) -> Option<Value> {
    let payload = token.split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&claims).ok()
}

/// The rest of a JWT's life. The signature is not checked: this is a hint about time, not trust.
fn jwt_lifetime(token: &str, server_now: f64) -> Option<f64> {
    let claims = claims(token)?;
    let exp = number(claims.get("exp")?)?;
    let left = exp - server_now;
    let whole = claims.get("iat").and_then(number).map(|iat| exp - iat);
    // `exp - iat` needs no common clock but overstates a token that was issued a while ago.
    Some(whole.map_or(left, |whole| if left > 0.0 { left.min(whole) } else { left }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: f64 = 1_700_000_000.0;

    fn places(yaml: &str) -> Vec<Expiry> {
        serde_yaml::from_str(yaml).unwrap()
    }

    fn lifetime(yaml: &str, json: &Value) -> Option<f64> {
        match find(&places(yaml), json, "", NOW) {
            Found::Lifetime(lifetime) => Some(lifetime.as_secs_f64()),
            Found::Never | Found::Nothing => None,
        }
    }

    fn jwt(claims: &Value) -> String {
        format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    #[test]
    fn seconds_are_numbers_or_numeric_strings() {
        for (answer, expected) in [(json!(20), 20.0), (json!("20"), 20.0), (json!(20.7), 20.7)] {
            assert_eq!(lifetime("[{seconds: /e}]", &json!({ "e": answer })), Some(expected));
        }
    }

    #[test]
    fn expires_in_zero_is_not_an_expiry() {
        for odd in
            [json!(0), json!(-5), json!(null), json!(1e300), json!("x"), json!(121_683_831_139_u64)]
        {
            let found =
                find(&places("[{seconds: /e}, {assume: 5m}]"), &json!({ "e": odd }), "", NOW);
            assert_eq!(found, Found::Lifetime(Duration::from_secs(300)), "{odd}");
        }
    }

    #[test]
    fn absolute_times_and_differences_count_from_the_issuers_clock() {
        let body = json!({ "s": NOW + 60.0, "ms": (NOW + 60.0) * 1000.0, "t": "2023-11-14T22:14:20Z", "c": NOW });
        for list in
            ["[{unix: /s}]", "[{unix_ms: /ms}]", "[{rfc3339: /t}]", "[{difference: [/s, /c]}]"]
        {
            assert_eq!(lifetime(list, &body), Some(60.0), "{list}");
        }
    }

    #[test]
    fn a_jwt_tells_its_own_end() {
        let token = jwt(&json!({ "iat": NOW - 10.0, "exp": NOW + 50.0 }));
        let list = places("[{seconds: /expires_in}, {jwt: exp}]");
        assert_eq!(
            find(&list, &json!({ "expires_in": 0 }), &token, NOW),
            Found::Lifetime(Duration::from_secs(50))
        );
        let offline = jwt(&json!({ "exp": 0 }));
        assert_eq!(find(&list, &json!({}), &offline, NOW), Found::Nothing);
    }

    #[test]
    fn never_is_an_answer() {
        assert_eq!(
            find(&places("[{jwt: exp}, {assume: never}]"), &json!({}), "x", NOW),
            Found::Never
        );
    }
}
