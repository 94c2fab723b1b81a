//! A text as it stands: values of any form, each with its place.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::Spanned;

use crate::vocab::Place;

/// A value of the file.
pub(super) struct Node {
    pub(super) form: Form,
    pub(super) place: Place,
    /// Whether it is written elsewhere: its parts are judged there.
    pub(super) is_alias: bool,
}

/// What a value is. No debug output: it may be a pasted secret.
pub(super) enum Form {
    Nothing,
    Truth,
    Number,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a map.
pub(super) struct Key {
    pub(super) name: String,
    pub(super) place: Place,
    /// Whether it comes from a map that is merged into this one.
    pub(super) is_alias: bool,
}

fn placed<T>(spanned: Spanned<T>) -> (T, Place, bool) {
    let Spanned { value, referenced, defined } = spanned;
    let place = Place { line: referenced.line(), column: referenced.column() };
    let is_alias = place != Place { line: defined.line(), column: defined.column() };
    (value, place, is_alias)
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (form, place, is_alias) = placed(Spanned::deserialize(deserializer)?);
        Ok(Self { form, place, is_alias })
    }
}

impl<'de> Deserialize<'de> for Form {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FormVisitor)
    }
}

struct FormVisitor;

impl<'de> Visitor<'de> for FormVisitor {
    type Value = Form;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Form, E> {
        Ok(Form::Truth)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Form, E> {
        Ok(Form::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Form, E> {
        Ok(Form::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Form, E> {
        Ok(Form::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Form, E> {
        Ok(Form::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Form, E> {
        Ok(Form::Nothing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Form, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Form::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Form, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let (name, place, is_alias) = placed(key);
            entries.push((Key { name, place, is_alias }, map.next_value()?));
        }
        Ok(Form::Map(entries))
    }
}

impl Node {
    /// The last place in it.
    pub(super) fn end(&self) -> Place {
        let last = match &self.form {
            Form::List(items) => items.last(),
            Form::Map(entries) => entries.last().map(|(_, value)| value),
            _ => None,
        };
        last.map_or(self.place, |last| last.end().max(self.place))
    }

    /// What stands here, in serde's words.
    pub(super) const fn kind(&self) -> &'static str {
        match self.form {
            Form::Nothing => "unit",
            Form::Truth => "boolean",
            Form::Number => "integer",
            Form::Text(_) => "string",
            Form::List(_) => "sequence",
            Form::Map(_) => "map",
        }
    }
}
