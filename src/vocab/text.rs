//! Strings of the configuration: `${env.NAME}` is resolved as they are read.

use std::env;

use schemars::JsonSchema;
use serde::de::{Deserialize, Deserializer};

use super::problem::report;
use super::{At, Mistake, Place};

/// A string of the configuration with `${env.NAME}` resolved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, JsonSchema)]
#[schemars(transparent)]
pub struct Text(String);

impl Text {
    /// The resolved text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, |text| Ok(Self(text.to_owned())))
    }
}

impl Placeholder for Text {
    fn placeholder() -> Self {
        Self(String::new())
    }
}

/// A value that can stand in for one that could not be read, until the problems are told.
pub trait Placeholder {
    /// The stand-in. It is never used: a file with problems is discarded.
    fn placeholder() -> Self;
}

/// Reads one scalar: text, then `${env.NAME}`, then `parse`. A mistake is reported with its line
/// and column, all mistakes of a file at once.
///
/// # Errors
/// Where nobody collects problems (see [`super::collecting`]), the mistake itself.
pub fn scalar<'de, D, T>(
    deserializer: D,
    parse: impl FnOnce(&str) -> Result<T, Mistake>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Placeholder,
{
    raw_scalar(deserializer, |raw| expand_env(raw).and_then(|text| parse(&text)))
}

/// As [`scalar`], for values that resolve `${..}` themselves.
///
/// # Errors
/// As [`scalar`].
pub fn raw_scalar<'de, D, T>(
    deserializer: D,
    parse: impl FnOnce(&str) -> Result<T, Mistake>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Placeholder,
{
    let raw = At::<String>::deserialize(deserializer)?;
    judged(raw.place, parse(&raw.value))
}

/// Reports the mistake of a value that was read by hand, and lets a placeholder stand in.
///
/// # Errors
/// As [`scalar`].
pub fn judged<T: Placeholder, E: serde::de::Error>(
    place: Place,
    parsed: Result<T, Mistake>,
) -> Result<T, E> {
    match parsed {
        Ok(value) => Ok(value),
        Err(mistake) => match report(mistake.at(place)) {
            Ok(()) => Ok(T::placeholder()),
            Err(problem) => Err(E::custom(problem.mistake.what)),
        },
    }
}

/// Replaces each `${env.NAME}` by the variable's value; `$${` stands for a literal `${`.
///
/// # Errors
/// An unset variable, or a `${` of another meaning: only templates know those.
pub fn expand_env(raw: &str) -> Result<String, Mistake> {
    if !raw.contains("${") {
        return Ok(raw.to_owned());
    }
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(start) = rest.find("${") {
        let (before, from) = rest.split_at(start);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &from[2..];
            continue;
        }
        out.push_str(before);
        let Some(end) = from.find('}') else {
            return Err(
                Mistake::new("`${` without a closing `}`").hint("write `$${` for a literal `${`")
            );
        };
        out.push_str(&variable(&from[2..end])?);
        rest = &from[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// The value of a reference `env.NAME`.
///
/// # Errors
/// Another reference, or a variable that is not set.
pub fn variable(reference: &str) -> Result<String, Mistake> {
    let Some(name) = reference.strip_prefix("env.") else {
        return Err(Mistake::new(format!("`${{{reference}}}` has no meaning here"))
            .hint("only `${env.NAME}` can be used in this place"));
    };
    match env::var(name) {
        Ok(value) => Ok(value),
        Err(env::VarError::NotPresent) => {
            Err(Mistake::new(format!("the environment variable `{name}` is not set"))
                .hint(format!("set {name} before you start bearerd")))
        }
        Err(env::VarError::NotUnicode(_)) => {
            Err(Mistake::new(format!("the environment variable `{name}` is not valid UTF-8")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_is_resolved_and_escapes_are_kept() {
        let path = env::var("PATH").unwrap();
        assert_eq!(expand_env("a ${env.PATH} b").unwrap(), format!("a {path} b"));
        assert_eq!(expand_env("a $${env.PATH}").unwrap(), "a ${env.PATH}");
        assert_eq!(expand_env("plain").unwrap(), "plain");
    }

    #[test]
    fn an_unset_variable_and_an_unknown_reference_are_mistakes() {
        assert!(expand_env("${env.BEARERD_SURELY_UNSET}").unwrap_err().what.contains("not set"));
        assert!(expand_env("${api}").unwrap_err().what.contains("no meaning"));
        assert!(expand_env("${env.PATH").is_err());
    }
}
