//! JSON from a stranger: bounded in depth, duplicate names refused (RFC 8259 section 4 leaves
//! their meaning open, and two readers of one answer must not disagree about the token).

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Deepest nesting that is read.
const DEPTH: usize = 32;

/// Reads one JSON document.
///
/// # Errors
/// The kind of fault in a constant text; never any of the document.
pub(super) fn read(bytes: &[u8]) -> Result<Value, &'static str> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict(DEPTH).deserialize(&mut deserializer).map_err(|error| {
        if error.is_eof() {
            "the JSON is cut short"
        } else if error.to_string().starts_with(TWICE) {
            TWICE
        } else if error.to_string().starts_with(DEEP) {
            DEEP
        } else {
            "it is not JSON"
        }
    })?;
    deserializer.end().map_err(|_| "something follows the JSON")?;
    Ok(value)
}

const TWICE: &str = "a name occurs twice in one JSON object";
const DEEP: &str = "the JSON is nested too deeply";

#[derive(Clone, Copy)]
struct Strict(usize);

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Number::from_f64(number).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.deeper::<A::Error>()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.deeper::<A::Error>()?;
        let mut object = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(A::Error::custom(TWICE));
            }
            object.insert(name, map.next_value_seed(inner)?);
        }
        Ok(Value::Object(object))
    }
}

impl Strict {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        self.0.checked_sub(1).map(Self).ok_or_else(|| E::custom(DEEP))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_json_reads() {
        let value = read(br#"{"a":[1,"x",null,true,1.5],"b":{"c":-1}}"#).unwrap();
        assert_eq!(value.pointer("/b/c").unwrap(), -1);
    }

    #[test]
    fn duplicates_depth_truncation_and_trash_are_told_apart() {
        assert_eq!(read(br#"{"a":1,"a":2}"#), Err(TWICE));
        assert_eq!(read("[".repeat(40).as_bytes()), Err(DEEP));
        assert_eq!(read(br#"{"access_token":"ab"#), Err("the JSON is cut short"));
        assert_eq!(read(b"<html>"), Err("it is not JSON"));
        assert_eq!(read(b""), Err("the JSON is cut short"));
        assert_eq!(read(b"{} x"), Err("something follows the JSON"));
    }
}
