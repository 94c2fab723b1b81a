//! What a source gave: a value, named fields, and how long they hold.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::vocab::Secret;

/// No lifetime is believed beyond this; the token is simply renewed once a day.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// One answer of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What `${token}` stands for.
    pub value: Secret,
    /// What `${token.field}` stands for.
    pub fields: BTreeMap<String, Secret>,
    /// The refresh token that came with it.
    pub refresh_token: Option<Secret>,
    /// How long the value holds, counted from the moment the request was sent; `None` if it never
    /// expires.
    pub lifetime: Option<Duration>,
    /// How long the refresh token holds, where the issuer says so.
    pub refresh_lifetime: Option<Duration>,
    /// Whether an OAuth answer did not say the value's type (RFC 6749 section 5.1).
    pub untyped: bool,
}

impl Grant {
    /// A grant of nothing but a value that never expires.
    #[must_use]
    pub const fn of(value: Secret) -> Self {
        Self {
            value,
            fields: BTreeMap::new(),
            refresh_token: None,
            lifetime: None,
            refresh_lifetime: None,
            untyped: false,
        }
    }

    /// The value, or a named field. `value`, `access_token` and `token` name the value too, where
    /// no field of that name was read.
    #[must_use]
    pub fn field(&self, name: Option<&str>) -> Option<&Secret> {
        let Some(name) = name else { return Some(&self.value) };
        if let Some(field) = self.fields.get(name) {
            return Some(field);
        }
        match name {
            "value" | "access_token" | "token" => Some(&self.value),
            "refresh_token" => self.refresh_token.as_ref(),
            _ => None,
        }
    }
}
