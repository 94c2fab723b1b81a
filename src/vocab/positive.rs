//! Bounds that let something through. Elsewhere a zero may stand for "no bound"; here it would be
//! one that nothing keeps to, so it is a mistake.

use std::str::FromStr;

use serde::de::Deserializer;

use super::{Mistake, Period, Placeholder, Size, scalar};

fn nothing() -> Mistake {
    Mistake::new("zero would let nothing through")
        .hint("where there should be no bound to speak of, write a large one")
}

/// Reads a length of time that is not zero.
///
/// # Errors
/// As [`scalar`].
pub fn positive_period<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
    scalar(deserializer, |text| {
        Period::parse(text).and_then(
            |period| {
                if period.0.is_zero() { Err(nothing()) } else { Ok(period) }
            },
        )
    })
}

/// Reads a number of bytes that is not zero.
///
/// # Errors
/// As [`scalar`].
pub fn positive_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
    scalar(deserializer, |text| {
        Size::parse(text).and_then(|size| if size.0 == 0 { Err(nothing()) } else { Ok(size) })
    })
}

/// Reads a number from 1.
///
/// # Errors
/// As [`scalar`].
pub fn positive<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr + Default + PartialEq + Placeholder,
{
    scalar(deserializer, |text| match text.parse::<T>() {
        Ok(number) if number == T::default() => Err(nothing()),
        Ok(number) => Ok(number),
        Err(_) => Err(Mistake::new("this is not a whole number from 1, or it is too large")),
    })
}

impl Placeholder for u32 {
    fn placeholder() -> Self {
        1
    }
}

impl Placeholder for usize {
    fn placeholder() -> Self {
        1
    }
}
