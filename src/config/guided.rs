//! What stands between a deserializer and the settings: it leaves out what a [`Course`] does and
//! passes everything else on as it is.

use std::fmt;
use std::mem::take;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IgnoredAny, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

use super::course::{Course, Fields, Step};

/// A part of a deserializer that follows a [`Course`].
pub(super) struct Guided<'c, T> {
    inner: T,
    course: &'c Course,
    /// Of the struct, if it is one.
    fields: Fields,
}

impl<'c, T> Guided<'c, T> {
    pub(super) const fn new(inner: T, course: &'c Course, fields: Fields) -> Self {
        Self { inner, course, fields }
    }
}

macro_rules! pass_on {
    ($($method:ident($($name:ident: $type:ty),*);)+) => {$(
        fn $method<V: Visitor<'de>>(self, $($name: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method($($name,)* self.course.lead(visitor))
        }
    )+};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Guided<'_, D> {
    type Error = D::Error;

    pass_on! {
        deserialize_any();
        deserialize_bool();
        deserialize_i8();
        deserialize_i16();
        deserialize_i32();
        deserialize_i64();
        deserialize_i128();
        deserialize_u8();
        deserialize_u16();
        deserialize_u32();
        deserialize_u64();
        deserialize_u128();
        deserialize_f32();
        deserialize_f64();
        deserialize_char();
        deserialize_str();
        deserialize_string();
        deserialize_bytes();
        deserialize_byte_buf();
        deserialize_option();
        deserialize_unit();
        deserialize_unit_struct(name: &'static str);
        deserialize_newtype_struct(name: &'static str);
        deserialize_seq();
        deserialize_tuple(len: usize);
        deserialize_tuple_struct(name: &'static str, len: usize);
        deserialize_map();
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
        deserialize_identifier();
        deserialize_ignored_any();
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = Guided::new(visitor, self.course, fields);
        self.inner.deserialize_struct(name, fields, visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! visit {
    ($($method:ident($type:ty);)+) => {$(
        fn $method<E: serde::de::Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$method(value)
        }
    )+};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Guided<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    visit! {
        visit_bool(bool);
        visit_i8(i8);
        visit_i16(i16);
        visit_i32(i32);
        visit_i64(i64);
        visit_i128(i128);
        visit_u8(u8);
        visit_u16(u16);
        visit_u32(u32);
        visit_u64(u64);
        visit_u128(u128);
        visit_f32(f32);
        visit_f64(f64);
        visit_char(char);
        visit_bytes(&[u8]);
        visit_borrowed_bytes(&'de [u8]);
        visit_byte_buf(Vec<u8>);
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<V::Value, E> {
        self.course.word.set(text.to_owned());
        self.inner.visit_str(text)
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<V::Value, E> {
        self.course.word.set(text.to_owned());
        self.inner.visit_borrowed_str(text)
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<V::Value, E> {
        self.course.word.set(text.clone());
        self.inner.visit_string(text)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(self.course.lead(deserializer))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<V::Value, D::Error> {
        self.inner.visit_newtype_struct(self.course.lead(deserializer))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<V::Value, A::Error> {
        self.inner.visit_seq(Entries::of(list, self.course, &[]))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Entries::of(map, self.course, self.fields))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<V::Value, A::Error> {
        self.inner.visit_enum(self.course.lead(data))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Guided<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(self.course.lead(deserializer))
    }
}

impl<'c, 'de, A: EnumAccess<'de>> EnumAccess<'de> for Guided<'c, A> {
    type Error = A::Error;
    type Variant = Guided<'c, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), A::Error> {
        let (value, variant) = self.inner.variant_seed(seed)?;
        Ok((value, self.course.lead(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Guided<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.newtype_variant_seed(self.course.lead(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.inner.tuple_variant(len, self.course.lead(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.inner.struct_variant(fields, self.course.lead(visitor))
    }
}

/// The entries of a map or a list, but for those that are left out.
struct Entries<'c, A> {
    inner: A,
    course: &'c Course,
    /// Of the next entry.
    index: usize,
    /// The word of the last key.
    key: String,
    /// Of the struct, if it is one, and those of them that have not come so far.
    fields: Fields,
    absent: Vec<&'static str>,
}

impl<'c, A> Entries<'c, A> {
    fn of(inner: A, course: &'c Course, fields: Fields) -> Self {
        Self { inner, course, index: 0, key: String::new(), fields, absent: fields.to_vec() }
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Entries<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let Self { inner, course, index, key, .. } = self;
        while let Some(step) = course.leaves_out(*index) {
            course.within(step, key, || inner.next_element::<IgnoredAny>())?;
            *index += 1;
        }
        let seed = course.lead(seed);
        let element = course.within(Step::Value(*index), key, || inner.next_element_seed(seed));
        *index += 1;
        element
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Entries<'_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let Self { inner, course, index, key, fields, absent } = self;
        while let Some(step) = course.leaves_out(*index) {
            course.within(step, key, || inner.next_entry::<IgnoredAny, IgnoredAny>())?;
            *index += 1;
        }
        let seed = course.lead(seed);
        let found = course.within(Step::Key(*index), key, || inner.next_key_seed(seed))?;
        if found.is_some() {
            *key = course.word.take();
            absent.retain(|field| field != key);
        } else {
            course.absent.replace((fields, take(absent)));
        }
        Ok(found)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let Self { inner, course, index, key, .. } = self;
        course.enter(*index, key);
        let seed = course.lead(seed);
        let value = course.within(Step::Value(*index), key, || inner.next_value_seed(seed));
        *index += 1;
        value
    }
}
