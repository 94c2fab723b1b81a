//! A header field's name.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use http::HeaderName;
use schemars::JsonSchema;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::{At, Mistake, Placeholder, judged, scalar};

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

/// Reads a map by field names, in which `Authorization` and `authorization` are one key twice: which
/// of them counted nobody could tell.
///
/// # Errors
/// As [`scalar`].
pub fn by_field_name<'de, D, V>(deserializer: D) -> Result<BTreeMap<FieldName, V>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    deserializer.deserialize_map(ByName(PhantomData))
}

struct ByName<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for ByName<V> {
    type Value = BTreeMap<FieldName, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut all = BTreeMap::new();
        while let Some(At { value: name, place }) = map.next_key::<At<FieldName>>()? {
            let value = map.next_value()?;
            let known = name.clone();
            if all.insert(name, value).is_some() && known != FieldName::placeholder() {
                let what = format!("the field `{}` occurs twice", known.as_header());
                judged::<FieldName, _>(place, Err(Mistake::new(what)))?;
            }
        }
        Ok(all)
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

    #[derive(Debug, serde::Deserialize)]
    struct Fields(#[serde(deserialize_with = "by_field_name")] BTreeMap<FieldName, String>);

    #[test]
    fn a_field_stands_once_in_a_map_however_it_is_spelled() {
        let read = |yaml: &str| serde_yaml::from_str::<Fields>(yaml).map_err(|e| e.to_string());
        assert_eq!(read("{X-A: a, X-B: b}").unwrap().0.len(), 2);
        let mistake = read("{Authorization: a, authorization: b}").unwrap_err();
        assert!(mistake.contains("`authorization` occurs twice"), "{mistake}");
    }

    #[test]
    fn a_name_stands_for_itself_only() {
        assert_eq!(FieldName::parse("X-Key").unwrap().as_header(), "x-key");
        for bad in ["", "X Key", "X-Key:", "*", "X-Internal-*"] {
            assert!(FieldName::parse(bad).is_err(), "{bad}");
        }
    }
}
