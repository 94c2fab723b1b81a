//! JSON Pointer (RFC 6901).

use schemars::JsonSchema;
use serde::de::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Mistake, Placeholder, scalar};

/// A JSON Pointer: empty for the whole document, else `/name/0/name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(transparent)]
pub struct Pointer(String);

impl Pointer {
    /// Reads a pointer.
    ///
    /// # Errors
    /// Text that is neither empty nor begins with `/`.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        if text.is_empty() || text.starts_with('/') {
            Ok(Self(text.to_owned()))
        } else {
            Err(Mistake::new(format!("`{text}` is not a JSON pointer"))
                .hint(format!("begin with a slash: `/{text}`")))
        }
    }

    /// The whole document.
    #[must_use]
    pub const fn root() -> Self {
        Self(String::new())
    }

    /// What the pointer points at; `null` counts as nothing.
    #[must_use]
    pub fn find<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        value.pointer(&self.0).filter(|found| !found.is_null())
    }

    /// The pointer's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Pointer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, Self::parse)
    }
}

impl Placeholder for Pointer {
    fn placeholder() -> Self {
        Self(String::new())
    }
}
