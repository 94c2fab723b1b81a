//! From the YAML reader's errors to problems in our own words. Values are not quoted: whatever
//! stands in a wrong place may be a pasted secret.

use serde_yaml::Error;

use crate::vocab::{Mistake, Place, Problem, nearest};

/// The problem that an error tells of.
pub(super) fn problem(error: &Error) -> Problem {
    let error = error.without_snippet();
    let place =
        error.location().map(|location| Place { line: location.line(), column: location.column() });
    Problem { place, mistake: mistake(error) }
}

fn mistake(error: &Error) -> Mistake {
    match error {
        Error::AliasError { error, .. } => mistake(error.without_snippet()),
        Error::SerdeUnknownField { field, expected, .. } => unknown("key", field, expected),
        Error::SerdeUnknownVariant { expected, .. } => {
            Mistake::new("this is not one of the possible values").hint(one_of(expected))
        }
        Error::SerdeMissingField { field, .. } => {
            Mistake::new(format!("the key `{field}` is missing")).hint(format!("add `{field}: ..`"))
        }
        Error::DuplicateMappingKey { key, .. } => match key {
            Some(key) => Mistake::new(format!("the key `{key}` occurs twice in one map")),
            None => Mistake::new("a key occurs twice in one map"),
        },
        Error::SerdeInvalidType { unexpected, expected, .. }
        | Error::SerdeInvalidValue { unexpected, expected, .. } => {
            Mistake::new(format!("expected {expected}, found {}", kind_of(unexpected)))
        }
        Error::SerdeInvalidLength { expected, .. } => Mistake::new(format!("expected {expected}")),
        Error::ExpectedMappingEndAfterEnumVariantValue { .. } => {
            Mistake::new("more than one key where exactly one is allowed").hint(
                "this map has one key, which names a kind: one of `oauth2`, `http`, `jwt`, `value` \
             for a token, one of `file`, `redis` for its `state`",
            )
        }
        Error::ExternallyTaggedEnumExpectedScalarOrMapping { .. }
        | Error::ExpectedStringKeyForExternallyTaggedEnum { .. } => {
            Mistake::new("expected a map with one key that names the kind")
                .hint("such as `oauth2: {token_url: .., client_id: .., client_secret: {file: ..}}`")
        }
        Error::Unexpected { expected, .. } => {
            Mistake::new(format!("expected {}", structure(expected)))
        }
        Error::NullIntoString { .. } => Mistake::new("a text is missing here"),
        Error::InvalidScalar { ty, .. } => Mistake::new(format!("expected {}", type_name(ty))),
        Error::Eof { .. } => Mistake::new("the file ends too early"),
        Error::MultipleDocuments { .. } => {
            Mistake::new("the file holds more than one YAML document")
                .hint("remove the line `---` and what follows")
        }
        Error::UnknownAnchor { .. } => Mistake::new("an alias (`*`) names no anchor (`&`)"),
        Error::Message { msg, .. } => Mistake::new(msg.clone()),
        other => unparsable(&first_line(&other.to_string())),
    }
}

/// What is no YAML, in the reader's words; the place is told beside them.
fn unparsable(words: &str) -> Mistake {
    let words = words.rsplit_once(" at line ").map_or(words, |(words, _)| words);
    let mistake = Mistake::new(words);
    if words.contains("mapping values are not allowed") {
        mistake.hint("put a text that holds `: `, or ends in `:`, in quotes")
    } else {
        mistake
    }
}

fn unknown(what: &str, found: &str, expected: &[&str]) -> Mistake {
    let mistake = Mistake::new(format!("unknown {what} `{found}`"));
    match nearest(found, expected.iter().copied()) {
        Some(meant) => mistake.hint(format!("did you mean `{meant}`?")),
        None => mistake.hint(one_of(expected)),
    }
}

fn one_of(expected: &[&str]) -> String {
    let quoted: Vec<String> = expected.iter().map(|name| format!("`{name}`")).collect();
    format!("possible here: {}", quoted.join(", "))
}

/// serde tells what it found as `string "value"`; only the first word is fit to be repeated.
fn kind_of(unexpected: &str) -> &'static str {
    match unexpected.split_whitespace().next().unwrap_or_default() {
        "string" | "character" => "a text",
        "integer" | "floating" => "a number",
        "boolean" => "`true` or `false`",
        "sequence" => "a list",
        "map" => "a map",
        "unit" | "null" | "Option" => "nothing",
        _ => "something else",
    }
}

/// The YAML reader's words for what it wanted.
fn structure(expected: &str) -> &str {
    if expected.contains("sequence") {
        "a list"
    } else if expected.contains("mapping") {
        "a map"
    } else if expected.contains("scalar") {
        "a single value"
    } else {
        expected
    }
}

fn type_name(ty: &str) -> String {
    match ty {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0".to_owned(),
        "i8" | "i16" | "i32" | "i64" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "bool" => "`true` or `false`".to_owned(),
        other => other.to_owned(),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or("the file is not valid YAML").to_owned()
}
