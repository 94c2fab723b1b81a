//! Numbers of bytes as people write them.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};

use super::{Mistake, Placeholder, scalar};

/// A number of bytes: `64KiB`, `1MiB`, `512`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub usize);

impl Size {
    /// So many times 1024 bytes.
    #[must_use]
    pub const fn kib(n: usize) -> Self {
        Self(n * 1024)
    }

    /// Reads a number of bytes.
    ///
    /// # Errors
    /// Anything but a whole number with an optional `B`, `KiB` or `MiB`.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let (digits, unit) =
            text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let factor = match unit.trim() {
            "" | "B" => Some(1),
            "KiB" | "K" => Some(1024),
            "MiB" | "M" => Some(1024 * 1024),
            _ => None,
        };
        factor
            .and_then(|factor: usize| digits.parse::<usize>().ok()?.checked_mul(factor))
            .map(Self)
            .ok_or_else(|| {
                Mistake::new(format!("`{text}` is not a number of bytes"))
                    .hint("write a whole number with a unit, such as `64KiB`")
            })
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, Self::parse)
    }
}

impl Placeholder for Size {
    fn placeholder() -> Self {
        Self(0)
    }
}

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "examples": ["64KiB", "1MiB"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        assert_eq!(Size::parse("64KiB").unwrap(), Size::kib(64));
        assert_eq!(Size::parse("512").unwrap().0, 512);
        for bad in ["", "KiB", "1GB", "99999999999999999999MiB"] {
            assert!(Size::parse(bad).is_err(), "{bad}");
        }
    }
}
