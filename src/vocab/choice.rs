//! Settings that have few possible values, each with a name.

use serde::de::Deserializer;

use super::{Mistake, Placeholder, scalar};

/// A setting that is one of a few names.
pub trait Choice: Copy + 'static {
    /// Every possible value by its name in the configuration.
    const ALL: &'static [(&'static str, Self)];
}

/// Reads a [`Choice`]. Another name is reported like every bad scalar, and not quoted.
///
/// # Errors
/// As [`scalar`].
pub fn choice<'de, D: Deserializer<'de>, T: Choice + Placeholder>(
    deserializer: D,
) -> Result<T, D::Error> {
    scalar(deserializer, |text| {
        let found = T::ALL.iter().find(|(name, _)| *name == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<String> = T::ALL.iter().map(|(name, _)| format!("`{name}`")).collect();
            Mistake::new("this is not one of the possible values")
                .hint(format!("possible here: {}", names.join(", ")))
        })
    })
}

/// Has a [`Choice`] be read by [`choice`], its default standing in for what is none.
macro_rules! choices {
    ($type:ty: $($name:literal = $value:ident),+ $(,)?) => {
        impl $crate::vocab::Choice for $type {
            const ALL: &'static [(&'static str, Self)] = &[$(($name, Self::$value)),+];
        }

        impl $crate::vocab::Placeholder for $type {
            fn placeholder() -> Self {
                <Self as $crate::vocab::Choice>::ALL[0].1
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::vocab::choice(deserializer)
            }
        }
    };
}
pub(crate) use choices;
