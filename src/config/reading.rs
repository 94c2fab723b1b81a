//! From a text to the settings, or to all that keeps it from being read.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::options::DuplicateKeyPolicy;
use serde_yaml::{Error, Options, from_str_with_options, with_deserializer_from_str_with_options};

use super::course::{Cause, Course, Whole};
use super::{Config, MOST_BYTES, fault, required};
use crate::vocab::{At, Problem, Problems, collecting};

/// Most bytes that are read on the search for mistakes: each is found by a reading of its own.
const MOST_READ: u64 = 16 * MOST_BYTES;

/// Most readings of a short text.
const MOST_READINGS: u64 = 300;

/// Reads a text. What is wrong is told among the problems. The settings are what is sound, for
/// further checks of it, if there is any.
pub(super) fn read(text: &str) -> (Option<(Config, Whole)>, Problems) {
    // Nearly all are sound; the search's code stays on disk then.
    let plain = || from_str_with_options(text, options(DuplicateKeyPolicy::Error));
    let (read, mut problems) = collecting(plain);
    match read {
        Ok(config) if problems.is_empty() => return (Some((config, Whole::ALL)), problems),
        Ok(_) => {}
        Err(error) => problems.push(fault::problem(&error)),
    }
    let mut course = Course::default();
    let mut keys = DuplicateKeyPolicy::Error;
    let length = u64::try_from(text.len()).unwrap_or(u64::MAX).max(1);
    for _ in 0..(MOST_READ / length).clamp(1, MOST_READINGS) {
        let (read, found) = once(text, keys, &course);
        problems.extend(found);
        let error = match read {
            Ok(_) if matches!(keys, DuplicateKeyPolicy::Error) => {
                let whole = course.sift();
                return (once(text, keys, &course).0.ok().zip(Some(whole)), problems);
            }
            // Which of the repeated keys holds, nobody knows.
            Ok(_) => break,
            Err(error) => error,
        };
        problems.extend(told(&error, &course));
        if matches!(error.without_snippet(), Error::DuplicateMappingKey { .. }) {
            keys = DuplicateKeyPolicy::FirstWins;
            problems.extend(repeated_keys(text));
        } else if !course.leave_out() {
            break;
        }
    }
    (None, problems)
}

fn once(
    text: &str,
    keys: DuplicateKeyPolicy,
    course: &Course,
) -> (Result<Config, Error>, Problems) {
    collecting(|| {
        with_deserializer_from_str_with_options(text, options(keys), |deserializer| {
            Config::deserialize(course.guide(deserializer))
        })
    })
}

fn options(duplicate_keys: DuplicateKeyPolicy) -> Options {
    serde_yaml::options! { with_snippet: false, duplicate_keys: duplicate_keys }
}

/// What is to be told of a reading's end.
fn told(error: &Error, course: &Course) -> Problems {
    let mut problems = Problems::new();
    let cause = fault::cause(error);
    let first = fault::problem(error);
    let place = first.place;
    if course.is_news(cause) {
        problems.push(first);
    }
    if let Cause::Missing(_) = cause {
        // serde tells of one.
        let (fields, absent) = course.absent();
        for field in required(fields).iter().filter(|field| absent.contains(&field.as_str())) {
            if course.is_news(Cause::Missing(field)) {
                problems.push(Problem { place, mistake: fault::missing(field) });
            }
        }
    }
    problems
}

/// The names of the keys that occur twice in one map.
fn repeated_keys(text: &str) -> Problems {
    let mut problems = Problems::new();
    let read = with_deserializer_from_str_with_options(
        text,
        options(DuplicateKeyPolicy::PassThrough),
        |deserializer| Keys(&mut problems).deserialize(deserializer),
    );
    // What cannot be read here ends the reading of the settings too, and is told there.
    drop(read);
    problems
}

/// Reads anything and notes repeated keys.
struct Keys<'p>(&'p mut Problems);

impl<'de> DeserializeSeed<'de> for Keys<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Keys<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Keys(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut known = BTreeSet::new();
        while let Some(key) = map.next_key::<At<String>>()? {
            if known.contains(&key.value) {
                self.0.add(key.place, fault::repeated(&key.value));
            }
            known.insert(key.value);
            map.next_value_seed(Keys(self.0))?;
        }
        Ok(())
    }
}
