//! How injected fields are written in the configuration.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::super::template::Template;
use crate::vocab::{At, FieldName, Mistake, choices, judged};

/// How one injected header field is written in the configuration: a template, or
/// `{value: TEMPLATE, mode: set | default}`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(untagged)]
pub enum FieldSettings {
    /// The value; replaces whatever the client sent.
    Value(Template),
    /// The value with a mode.
    WithMode(FieldWithMode),
}

/// A value with a mode.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldWithMode {
    /// The value.
    pub value: Template,
    /// Whether the client's own value is kept.
    #[serde(default)]
    pub mode: Mode,
}

/// Whether an injected field replaces the client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Mode {
    /// The client's value is removed.
    #[default]
    Set,
    /// The client's value is kept where it sent one; never for a field that holds a token.
    Default,
}

choices!(Mode: "set" = Set, "default" = Default);

impl FieldSettings {
    /// The template.
    #[must_use]
    pub const fn template(&self) -> &Template {
        match self {
            Self::Value(template) => template,
            Self::WithMode(with) => &with.value,
        }
    }

    /// The mode.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        match self {
            Self::Value(_) => Mode::Set,
            Self::WithMode(with) => with.mode,
        }
    }

    /// What is wrong with it as a header field's value.
    #[must_use]
    pub fn mistake(&self) -> Option<Mistake> {
        let template = self.template();
        if !template.is_stable() {
            return Some(
                Mistake::new("`${now..}`, `${uuid}` and `${self..}` are for token requests").hint(
                    "an injected field may use `${token}`, `${token.field}` and `${env.NAME}`",
                ),
            );
        }
        let printable = |b: u8| (0x20..=0x7e).contains(&b);
        if !template.literals().all(|text| text.bytes().all(printable)) {
            return Some(Mistake::new("a header value holds printable ASCII characters only"));
        }
        if self.mode() == Mode::Default && template.is_secret() {
            return Some(
                Mistake::new("a field that holds a token always replaces the client's")
                    .hint("remove `mode: default`"),
            );
        }
        None
    }
}

/// A field before its text is parsed: the text's place is known one step further out.
enum Raw {
    Text(String),
    WithMode(FieldWithMode),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a header value or `{value: .., mode: ..}`")
            }

            fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
                Ok(Raw::Text(text.to_owned()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Raw, E> {
                Ok(Raw::Text(number.to_string()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Raw, E> {
                Ok(Raw::Text(number.to_string()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Raw, E> {
                Ok(Raw::Text(number.to_string()))
            }

            fn visit_bool<E>(self, truth: bool) -> Result<Raw, E> {
                Ok(Raw::Text(truth.to_string()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Raw, A::Error> {
                let deserializer = serde::de::value::MapAccessDeserializer::new(map);
                FieldWithMode::deserialize(deserializer).map(Raw::WithMode)
            }
        }

        deserializer.deserialize_any(Fields)
    }
}

impl<'de> Deserialize<'de> for FieldSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = At::<Raw>::deserialize(deserializer)?;
        match raw.value {
            Raw::WithMode(with) => Ok(Self::WithMode(with)),
            Raw::Text(text) => {
                let parsed = Template::parse(&text).map(|template| template.placed(raw.place));
                judged(raw.place, parsed).map(Self::Value)
            }
        }
    }
}

/// The `inject` map of a route.
pub type Inject = BTreeMap<FieldName, At<FieldSettings>>;
