//! Names that the user gives to tokens and routes; they become metric labels.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};

use super::{Mistake, Placeholder, scalar};

/// A name: letters, digits, `_` and `-`, 64 characters at most. `K` keeps kinds apart.
pub struct Name<K>(Arc<str>, PhantomData<fn() -> K>);

/// Marks names of tokens.
#[derive(Debug)]
pub enum TokenKind {}

/// Marks names of routes.
#[derive(Debug)]
pub enum RouteKind {}

/// The name of a token.
pub type TokenName = Name<TokenKind>;

/// The name of a route.
pub type RouteName = Name<RouteKind>;

impl<K> Name<K> {
    /// Reads a name.
    ///
    /// # Errors
    /// An empty or long name, or characters that a metric label should not hold.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if text.is_empty() || text.len() > 64 || !text.chars().all(fits) {
            return Err(Mistake::new(format!("`{text}` is not a name"))
                .hint("use letters, digits, `_` and `-`, 64 characters at most"));
        }
        if ["env", "self", "now", "uuid"].contains(&text) {
            return Err(Mistake::new(format!("`{text}` has a meaning of its own in templates"))
                .hint("choose another name"));
        }
        Ok(Self(text.into(), PhantomData))
    }

    /// The name's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<K> Clone for Name<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0), PhantomData)
    }
}

impl<K> PartialEq for Name<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<K> Eq for Name<K> {}

impl<K> Hash for Name<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<K> PartialOrd for Name<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for Name<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl<K> fmt::Debug for Name<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl<K> fmt::Display for Name<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<'de, K> Deserialize<'de> for Name<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, Self::parse)
    }
}

impl<K> Placeholder for Name<K> {
    fn placeholder() -> Self {
        Self("placeholder".into(), PhantomData)
    }
}

impl<K> JsonSchema for Name<K> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Name".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$" })
    }
}
