//! A header field's name.

use http::HeaderName;
use schemars::JsonSchema;
use serde::de::{Deserialize, Deserializer};

use super::{Mistake, Placeholder, scalar};

/// The name of a header field (RFC 9110 section 5.1), compared without regard to case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(transparent)]
pub struct FieldName(#[schemars(with = "String")] HeaderName);

impl FieldName {
    /// Reads a name.
    ///
    /// # Errors
    /// Bytes that a field name cannot hold.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        // A name may hold `*`, but who writes it means others.
        HeaderName::try_from(text).ok().filter(|_| !text.contains('*')).map(Self).ok_or_else(|| {
            Mistake::new(format!("`{text}` is not a header name")).hint(
                "letters, digits and `-` only, without the colon; `*` stands for nothing here",
            )
        })
    }

    /// The name as the http crate knows it.
    #[must_use]
    pub const fn as_header(&self) -> &HeaderName {
        &self.0
    }
}

impl PartialOrd for FieldName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for FieldName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.as_str().cmp(other.0.as_str())
    }
}

impl<'de> Deserialize<'de> for FieldName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, Self::parse)
    }
}

impl Placeholder for FieldName {
    fn placeholder() -> Self {
        Self(HeaderName::from_static("x-placeholder"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_itself_only() {
        assert_eq!(FieldName::parse("X-Key").unwrap().as_header(), "x-key");
        for bad in ["", "X Key", "X-Key:", "*", "X-Internal-*"] {
            assert!(FieldName::parse(bad).is_err(), "{bad}");
        }
    }
}
