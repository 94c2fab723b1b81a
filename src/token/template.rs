//! Texts with `${..}` in them: parsed when the configuration is read, rendered at use.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};

use super::grant::Grant;
use crate::vocab::{
    At, Mistake, Period, Place, Placeholder, Secret, TokenName, Wall, judged, variable,
};

/// RFC 3986's unreserved characters stay as they are.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A text with references. Environment variables are resolved when it is parsed.
#[derive(Debug, Clone)]
pub struct Template {
    pieces: Vec<Piece>,
    place: Place,
    /// Whether a part comes from the environment.
    has_env: bool,
}

impl PartialEq for Template {
    /// Where a template stands makes no difference to what it does.
    fn eq(&self, other: &Self) -> bool {
        self.pieces == other.pieces
    }
}

impl Eq for Template {}

impl Hash for Template {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.pieces.hash(state);
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Piece {
    Literal(String),
    /// `${token}` or `${token.field}`.
    Token {
        name: TokenName,
        field: Option<String>,
        encode: bool,
    },
    /// `${self.field}`: of the grant that is being refreshed or revoked.
    Own {
        field: String,
        encode: bool,
    },
    /// `${now+15m|unix}`.
    Now {
        ahead: Duration,
        behind: Duration,
        form: TimeForm,
    },
    /// `${uuid}`: a fresh random UUID (RFC 9562 version 4).
    Uuid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum TimeForm {
    Unix,
    UnixMs,
    Rfc3339,
}

/// What a template is rendered with.
#[derive(Debug, Default)]
pub struct Scope<'s> {
    /// Values of the tokens that the template may name.
    pub tokens: BTreeMap<TokenName, Arc<Grant>>,
    /// The grant behind `${self.field}`.
    pub own: Option<&'s Grant>,
}

/// A reference without a value, named for the log; never a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`${{{0}}}` has no value")]
pub struct Unresolved(pub String);

impl Template {
    /// Parses a text.
    ///
    /// # Errors
    /// A reference of no known form, or an environment variable that is not set.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        let mut has_env = false;
        while let Some(start) = rest.find("${") {
            let (before, from) = rest.split_at(start);
            if let Some(before) = before.strip_suffix('$') {
                literal.push_str(before);
                literal.push_str("${");
                rest = &from[2..];
                continue;
            }
            literal.push_str(before);
            let end = from.find('}').ok_or_else(|| {
                Mistake::new("`${` without a closing `}`").hint("write `$${` for a literal `${`")
            })?;
            let reference = &from[2..end];
            if reference.starts_with("env.") {
                literal.push_str(&variable(reference)?);
                has_env = true;
            } else {
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(Piece::parse(reference)?);
            }
            rest = &from[end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self { pieces, place: Place::default(), has_env })
    }

    /// A text without references.
    #[must_use]
    pub fn literal(text: &str) -> Self {
        let pieces = vec![Piece::Literal(text.to_owned())];
        Self { pieces, place: Place::default(), has_env: false }
    }

    /// Says where the template stands.
    #[must_use]
    pub const fn placed(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    /// Where the template stands.
    #[must_use]
    pub const fn place(&self) -> Place {
        self.place
    }

    /// The tokens that the template names.
    pub fn tokens(&self) -> impl Iterator<Item = (&TokenName, Option<&str>)> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Token { name, field, .. } => Some((name, field.as_deref())),
            _ => None,
        })
    }

    /// Whether the template is the same at every rendering while its tokens are the same.
    #[must_use]
    pub fn is_stable(&self) -> bool {
        !self
            .pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Now { .. } | Piece::Uuid | Piece::Own { .. }))
    }

    /// Whether it is nothing but one point in time.
    #[must_use]
    pub fn is_time(&self) -> bool {
        matches!(self.pieces.as_slice(), [Piece::Now { .. }])
    }

    /// Whether any part comes from a token.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Token { .. } | Piece::Own { .. }))
    }

    /// The text, if all of it stands in the file.
    #[must_use]
    pub fn written(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [Piece::Literal(text)] if !self.has_env => Some(text),
            _ => None,
        }
    }

    /// The literal parts, for checks on what may stand in a header or URL.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Literal(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The text with every reference replaced by `stand_in`; for checks of its form.
    #[must_use]
    pub fn with_all(&self, stand_in: &str) -> String {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Literal(text) => text.as_str(),
                _ => stand_in,
            })
            .collect()
    }

    /// The literal text before the first reference.
    #[must_use]
    pub fn head(&self) -> &str {
        match self.pieces.first() {
            Some(Piece::Literal(text)) => text,
            _ => "",
        }
    }

    /// The template itself if it begins as an absolute URL does, else as a relative reference to
    /// `base` (RFC 3986 section 5.2, for a path without dot segments).
    #[must_use]
    pub fn beside(&self, base: &Self) -> Self {
        let (Some(Piece::Literal(own)), [Piece::Literal(base)]) =
            (self.pieces.first(), base.pieces.as_slice())
        else {
            return self.clone();
        };
        if own.contains("://") {
            return self.clone();
        }
        let path = base.split(['?', '#']).next().unwrap_or_default();
        let directory = path.rfind('/').map_or(path, |slash| &path[..=slash]);
        let mut joined = self.clone();
        joined.pieces[0] = Piece::Literal(format!("{directory}{own}"));
        joined
    }

    /// Puts the values in.
    ///
    /// # Errors
    /// A token or field that has no value.
    pub fn render(&self, scope: &Scope<'_>) -> Result<Secret, Unresolved> {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Token { name, field, encode } => {
                    let value = scope
                        .tokens
                        .get(name)
                        .and_then(|grant| grant.field(field.as_deref()))
                        .ok_or_else(|| Unresolved(dotted(name.as_str(), field.as_deref())))?;
                    push(&mut out, value, *encode);
                }
                Piece::Own { field, encode } => {
                    let value = scope
                        .own
                        .and_then(|grant| grant.field(Some(field)))
                        .ok_or_else(|| Unresolved(dotted("self", Some(field))))?;
                    push(&mut out, value, *encode);
                }
                Piece::Now { ahead, behind, form } => push_time(&mut out, *ahead, *behind, *form),
                Piece::Uuid => out.push_str(&uuid()),
            }
        }
        Ok(Secret::from(out))
    }
}

impl Piece {
    fn parse(reference: &str) -> Result<Self, Mistake> {
        let unknown = || {
            Mistake::new(format!("`${{{reference}}}` is not a reference")).hint(
                "use `${token}`, `${token.field}`, `${self.field}`, `${env.NAME}`, `${now+15m|unix}` or `${uuid}`",
            )
        };
        let (path, filter) = match reference.split_once('|') {
            Some((path, filter)) => (path.trim(), Some(filter.trim())),
            None => (reference.trim(), None),
        };
        if path == "uuid" && filter.is_none() {
            return Ok(Self::Uuid);
        }
        if let Some(offset) = path.strip_prefix("now") {
            let form = match filter {
                Some("unix") => TimeForm::Unix,
                Some("unix_ms") => TimeForm::UnixMs,
                Some("rfc3339") => TimeForm::Rfc3339,
                _ => {
                    return Err(Mistake::new(format!(
                        "`${{{reference}}}` does not say in which form"
                    ))
                    .hint("end with `|unix`, `|unix_ms` or `|rfc3339`"));
                }
            };
            let (ahead, behind) = match offset.split_at_checked(1) {
                None => (Duration::ZERO, Duration::ZERO),
                Some(("+", period)) => (Period::parse(period)?.0, Duration::ZERO),
                Some(("-", period)) => (Duration::ZERO, Period::parse(period)?.0),
                Some(_) => return Err(unknown()),
            };
            return Ok(Self::Now { ahead, behind, form });
        }
        let encode = match filter {
            None => false,
            Some("urlencode") => true,
            Some(_) => return Err(unknown()),
        };
        match path.split_once('.') {
            Some(("self", field)) if !field.is_empty() => {
                Ok(Self::Own { field: field.to_owned(), encode })
            }
            Some((name, field)) if !field.is_empty() => Ok(Self::Token {
                name: TokenName::parse(name).map_err(|_| unknown())?,
                field: Some(field.to_owned()),
                encode,
            }),
            Some(_) => Err(unknown()),
            None => Ok(Self::Token {
                name: TokenName::parse(path).map_err(|_| unknown())?,
                field: None,
                encode,
            }),
        }
    }
}

fn dotted(name: &str, field: Option<&str>) -> String {
    field.map_or_else(|| name.to_owned(), |field| format!("{name}.{field}"))
}

fn push(out: &mut String, value: &Secret, encode: bool) {
    if encode {
        out.extend(utf8_percent_encode(value.expose(), RESERVED));
    } else {
        out.push_str(value.expose());
    }
}

fn push_time(out: &mut String, ahead: Duration, behind: Duration, form: TimeForm) {
    let at = Wall::now().0 + ahead.as_secs_f64() - behind.as_secs_f64();
    let written = match form {
        TimeForm::Unix => write!(out, "{}", Wall(at).secs()),
        TimeForm::UnixMs => write!(out, "{}", Wall(at * 1000.0).secs()),
        TimeForm::Rfc3339 => write!(out, "{}", Wall(at).rfc3339()),
    };
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
}

/// A random UUID (RFC 9562 section 5.4).
#[must_use]
pub fn uuid() -> String {
    let mut bytes = [0_u8; 16];
    if ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).is_err() {
        fastrand::fill(&mut bytes);
    }
    let bits = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = At::<String>::deserialize(deserializer)?;
        judged(raw.place, Self::parse(&raw.value).map(|template| template.placed(raw.place)))
    }
}

impl Placeholder for Template {
    fn placeholder() -> Self {
        Self::literal("")
    }
}

impl JsonSchema for Template {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Template".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "number", "boolean"],
            "description": "Text with `${token}`, `${token.field}`, `${self.field}`, `${env.NAME}`, `${now+15m|unix}`, `${uuid}`; `$${` is a literal `${`."
        })
    }
}
