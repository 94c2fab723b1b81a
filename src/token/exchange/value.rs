//! Values in requests to an issuer: templates, or secrets by reference.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::super::failure::{Failure, Reason};
use super::super::template::{Scope, Template};
use crate::vocab::{At, Place, Secret, SecretRef, Text, judged};

/// A secret's place, with the last content that could be read: while a file is being replaced or
/// gone, the old secret is better than none.
#[derive(Clone)]
pub struct KeptSecret {
    source: SecretRef,
    place: Place,
    last: Arc<Mutex<Last>>,
}

/// What was read last.
#[derive(Default)]
struct Last {
    secret: Option<Secret>,
    /// It could not be read since, and that was told.
    gone: bool,
}

impl KeptSecret {
    /// A secret that was not read yet.
    #[must_use]
    pub fn new(source: SecretRef) -> Self {
        Self { source, place: Place::default(), last: Arc::default() }
    }

    /// Says where in the configuration it is named.
    #[must_use]
    pub const fn placed(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    /// Where in the configuration it is named.
    #[must_use]
    pub const fn place(&self) -> Place {
        self.place
    }

    /// Where it is.
    #[must_use]
    pub const fn source(&self) -> &SecretRef {
        &self.source
    }

    /// The secret as it is now, or as it last was.
    ///
    /// # Errors
    /// [`Reason::NoSecret`] if it never could be read.
    pub fn read(&self) -> Result<Secret, Failure> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match (self.source.read(), last.secret.clone()) {
            (Ok(secret), _) => {
                *last = Last { secret: Some(secret.clone()), gone: false };
                Ok(secret)
            }
            (Err(error), Some(kept)) => {
                if !std::mem::replace(&mut last.gone, true) {
                    tracing::warn!(%error, "keep the secret as it last was");
                }
                Ok(kept)
            }
            (Err(error), None) => Err(Failure::new(Reason::NoSecret, error.to_string())),
        }
    }
}

impl fmt::Debug for KeptSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.source, f)
    }
}

impl PartialEq for KeptSecret {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for KeptSecret {}

impl Hash for KeptSecret {
    /// Where the secret is found; its content is no part of a definition.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.source.hash(state);
    }
}

impl<'de> Deserialize<'de> for KeptSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = At::<SecretRef>::deserialize(deserializer)?;
        Ok(Self::new(source.value).placed(source.place))
    }
}

impl JsonSchema for KeptSecret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        SecretRef::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        SecretRef::json_schema(generator)
    }
}

/// One value of a request: a text with references, or `{file: ..}` / `{env: ..}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RequestValue {
    /// A text.
    Text(Template),
    /// A secret.
    Secret(KeptSecret),
}

impl RequestValue {
    /// The value now.
    ///
    /// # Errors
    /// An unreadable secret, or a reference without a value.
    pub fn render(&self, scope: &Scope<'_>) -> Result<Secret, Failure> {
        match self {
            Self::Text(template) => template
                .render(scope)
                .map_err(|error| Failure::new(Reason::Parent, error.to_string())),
            Self::Secret(secret) => secret.read(),
        }
    }

    /// The template, if it is one.
    #[must_use]
    pub const fn template(&self) -> Option<&Template> {
        match self {
            Self::Text(template) => Some(template),
            Self::Secret(_) => None,
        }
    }

    /// The secret's place, if it is one.
    #[must_use]
    pub const fn secret(&self) -> Option<&KeptSecret> {
        match self {
            Self::Text(_) => None,
            Self::Secret(secret) => Some(secret),
        }
    }
}

/// A JSON body with values in it; order and kinds of numbers are kept.
#[derive(Debug, Clone, PartialEq, Hash)]
pub enum JsonBody {
    /// `null`, `true`, `false` or a number.
    Plain(serde_json::Value),
    /// A string, rendered at use.
    Value(RequestValue),
    /// An array.
    Array(Vec<Self>),
    /// An object.
    Object(Vec<(String, Self)>),
}

impl JsonBody {
    /// The document now.
    ///
    /// # Errors
    /// As [`RequestValue::render`].
    pub fn render(&self, scope: &Scope<'_>) -> Result<serde_json::Value, Failure> {
        use serde_json::Value;
        Ok(match self {
            Self::Plain(value) => value.clone(),
            Self::Value(value) => {
                let text = value.render(scope)?;
                match value.template().filter(|template| template.is_time()) {
                    // A lone `${now|unix}` is a number, as every JSON reader of times expects.
                    Some(_) => text
                        .expose()
                        .parse::<i64>()
                        .map_or_else(|_| Value::String(text.expose().to_owned()), Value::from),
                    None => Value::String(text.expose().to_owned()),
                }
            }
            Self::Array(items) => {
                Value::Array(items.iter().map(|item| item.render(scope)).collect::<Result<_, _>>()?)
            }
            Self::Object(members) => Value::Object(
                members
                    .iter()
                    .map(|(name, member)| Ok((name.clone(), member.render(scope)?)))
                    .collect::<Result<_, Failure>>()?,
            ),
        })
    }

    /// Every value in it.
    pub fn values(&self) -> Vec<&RequestValue> {
        match self {
            Self::Plain(_) => Vec::new(),
            Self::Value(value) => vec![value],
            Self::Array(items) => items.iter().flat_map(Self::values).collect(),
            Self::Object(members) => members.iter().flat_map(|(_, m)| m.values()).collect(),
        }
    }
}

/// As [`JsonBody`], before the texts are parsed: their place is known one step further out.
enum Raw {
    Text(String),
    Body(JsonBody),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, `{file: PATH}` or `{env: NAME}`")
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Raw, E> {
        Ok(Raw::Body(JsonBody::Plain(truth.into())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Raw, E> {
        Ok(Raw::Body(JsonBody::Plain(number.into())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Raw, E> {
        Ok(Raw::Body(JsonBody::Plain(number.into())))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Raw, E> {
        Ok(Raw::Body(JsonBody::Plain(number.into())))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Body(JsonBody::Plain(serde_json::Value::Null)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<JsonBody>()? {
            items.push(item);
        }
        Ok(Raw::Body(JsonBody::Array(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut members: Vec<(String, JsonBody)> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if members.is_empty() && (name == "file" || name == "env") {
                let place = map.next_value::<Text>()?;
                if map.next_key::<String>()?.is_some() {
                    return Err(A::Error::custom("a secret has exactly one key: `file` or `env`"));
                }
                let source = if name == "file" {
                    SecretRef::File(place.as_str().into())
                } else {
                    SecretRef::Env(place.as_str().to_owned())
                };
                let secret = RequestValue::Secret(KeptSecret::new(source));
                return Ok(Raw::Body(JsonBody::Value(secret)));
            }
            members.push((name, map.next_value()?));
        }
        Ok(Raw::Body(JsonBody::Object(members)))
    }
}

impl<'de> Deserialize<'de> for JsonBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = At::<Raw>::deserialize(deserializer)?;
        match raw.value {
            Raw::Body(Self::Value(RequestValue::Secret(secret))) => {
                Ok(Self::Value(RequestValue::Secret(secret.placed(raw.place))))
            }
            Raw::Body(body) => Ok(body),
            Raw::Text(text) => {
                let parsed = Template::parse(&text).map(|template| template.placed(raw.place));
                judged(raw.place, parsed).map(|template| Self::Value(RequestValue::Text(template)))
            }
        }
    }
}

impl<'de> Deserialize<'de> for RequestValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match JsonBody::deserialize(deserializer)? {
            JsonBody::Value(value) => Ok(value),
            JsonBody::Plain(plain) if !plain.is_null() => Template::parse(&plain.to_string())
                .map(Self::Text)
                .map_err(|mistake| D::Error::custom(mistake.what)),
            _ => Err(D::Error::custom("expected a text, `{file: PATH}` or `{env: NAME}`")),
        }
    }
}

impl JsonSchema for RequestValue {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RequestValue".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let secret = generator.subschema_for::<SecretRef>();
        let template = generator.subschema_for::<Template>();
        json_schema!({ "anyOf": [template, secret] })
    }
}

impl JsonSchema for JsonBody {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "JsonBody".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Any JSON; strings may hold references, and `{file: ..}` or `{env: ..}` stands for a secret."
        })
    }
}
