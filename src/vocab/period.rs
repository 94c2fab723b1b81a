//! Lengths of time as people write them.

use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};

use super::{Mistake, Placeholder, scalar};

/// A length of time: `30s`, `5m 10s`, `250ms`, `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Period(pub Duration);

impl Period {
    /// Whole seconds.
    #[must_use]
    pub const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// Reads a length of time.
    ///
    /// # Errors
    /// No unit, a negative length, or one of more than ten years.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let wrong = || {
            Mistake::new(format!("`{text}` is not a length of time"))
                .hint("write a number with a unit, such as `30s`, `5m` or `250ms`")
        };
        // A day is 24 hours here; jiff leaves that open.
        let (days, rest) = match text.split_once('d') {
            Some((days, rest)) => (days.trim().parse::<u32>().map_err(|_| wrong())?, rest.trim()),
            None => (0, text),
        };
        let rest = if days > 0 && rest.is_empty() { "0s" } else { rest };
        let signed = rest.parse::<jiff::SignedDuration>().map_err(|_| wrong())?;
        let rest = Duration::try_from(signed).map_err(|_| wrong())?;
        let period = Duration::from_secs(u64::from(days) * 86_400).saturating_add(rest);
        if period > Duration::from_secs(10 * 366 * 86_400) {
            return Err(Mistake::new(format!("`{text}` is longer than ten years")));
        }
        Ok(Self(period))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl From<Period> for Duration {
    fn from(period: Period) -> Self {
        period.0
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, Self::parse)
    }
}

impl Placeholder for Period {
    fn placeholder() -> Self {
        Self(Duration::ZERO)
    }
}

impl JsonSchema for Period {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Period".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["30s", "5m 10s", "250ms"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_read_as_people_write_them() {
        assert_eq!(Period::parse("30s").unwrap(), Period::secs(30));
        assert_eq!(Period::parse("5m 10s").unwrap(), Period::secs(310));
        assert_eq!(Period::parse("250ms").unwrap().0, Duration::from_millis(250));
        assert_eq!(Period::parse("60d").unwrap(), Period::secs(60 * 86_400));
        assert_eq!(Period::parse("1d 12h").unwrap(), Period::secs(36 * 3600));
        for bad in ["30", "d", "xd", "-1s", "", "soon", "99999999999999h"] {
            assert!(Period::parse(bad).is_err(), "{bad}");
        }
    }
}
