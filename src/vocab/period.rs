//! Lengths of time as people write them.

use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};

use super::{Mistake, Placeholder, scalar};

/// A length of time: `30s`, `5m 10s`, `250ms`, `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
        let signed = text.parse::<jiff::SignedDuration>().map_err(|_| wrong())?;
        let period = Duration::try_from(signed).map_err(|_| wrong())?;
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
        for bad in ["30", "-1s", "", "soon", "99999999999999h"] {
            assert!(Period::parse(bad).is_err(), "{bad}");
        }
    }
}
