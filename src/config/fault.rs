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
        Error::SerdeUnknownField { field, expected, .. } => unknown_key(field, expected),
        Error::SerdeUnknownVariant { expected, .. } => none_of(expected),
        Error::SerdeMissingField { field, .. } => missing(field),
        Error::DuplicateMappingKey { key, .. } => match key {
            Some(key) => repeated(key),
            None => Mistake::new("a key occurs twice in one map"),
        },
        Error::SerdeInvalidType { unexpected, expected, .. }
        | Error::SerdeInvalidValue { unexpected, expected, .. } => unfit(expected, unexpected),
        Error::SerdeInvalidLength { expected: wanted, .. } => expected(wanted),
        Error::ExpectedMappingEndAfterEnumVariantValue { .. } => several_kinds(),
        Error::ExternallyTaggedEnumExpectedScalarOrMapping { .. }
        | Error::ExpectedStringKeyForExternallyTaggedEnum { .. } => no_kind(),
        Error::Unexpected { expected: wanted, .. } => expected(structure(wanted)),
        Error::NullIntoString { .. } => no_text(),
        Error::InvalidScalar { ty, .. } => expected_type(ty),
        Error::Eof { .. } => Mistake::new("the file ends too early")
            .hint("an empty one is none; the least is a route: `routes: [{upstream: https://..}]`"),
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
    let hints = [
        ("mapping values are not allowed", "put a text that holds `: `, or ends in `:`, in quotes"),
        (
            "did not find expected ','",
            "within `{..}` and `[..]` put a text that holds `${` in quotes",
        ),
        ("did not find expected key", INDENT),
        ("did not find expected '-'", INDENT),
        ("intercepting the multiline text", INDENT),
        ("tabs disallowed", "indent by spaces"),
        ("unexpected character", "put a text that begins with it in quotes"),
    ];
    match hints.iter().find(|(part, _)| words.contains(part)) {
        Some((_, hint)) => mistake.hint(*hint),
        None => mistake,
    }
}

const INDENT: &str =
    "look at the indentation here and above: the keys of one map begin in the same column";

/// A key that must be there is not.
pub(super) fn missing(field: &str) -> Mistake {
    Mistake::new(format!("the key `{field}` is missing")).hint(format!("add `{field}: ..`"))
}

/// A key is there more than once.
pub(super) fn repeated(key: &str) -> Mistake {
    Mistake::new(format!("the key `{key}` occurs twice in one map"))
}

/// A value is none of those that have names.
pub(super) fn none_of(names: &[&str]) -> Mistake {
    Mistake::new("this is not one of the possible values").hint(one_of(names))
}

/// Another value is wanted.
pub(super) fn expected(wanted: &str) -> Mistake {
    let mistake = Mistake::new(format!("expected {wanted}"));
    match wanted {
        "a map" => mistake.hint("write lines of `key: value`, with a blank behind the colon"),
        "a list" => mistake.hint("write `[..]`, or lines that begin with `- `"),
        _ => mistake,
    }
}

/// A single value of another of serde's types is wanted.
pub(super) fn expected_type(ty: &str) -> Mistake {
    expected(&type_name(ty))
}

/// Another value than the one that is there, of which serde's words are `found`.
pub(super) fn unfit(wanted: &str, found: &str) -> Mistake {
    Mistake::new(format!("expected {wanted}, found {}", kind_of(found)))
}

/// Nothing stands where a text is wanted.
pub(super) fn no_text() -> Mistake {
    Mistake::new("a text is missing here")
}

/// A map has no key that names its kind.
pub(super) fn no_kind() -> Mistake {
    expected("a map with one key that names the kind")
        .hint("such as `oauth2: {token_url: .., client_id: .., client_secret: {file: ..}}`")
}

/// A map has keys beside the one that names its kind.
pub(super) fn several_kinds() -> Mistake {
    Mistake::new("more than one key where exactly one is allowed").hint(
        "this map has one key, which names a kind: one of `oauth2`, `http`, `jwt`, `value` \
         for a token, one of `file`, `redis` for its `state`",
    )
}

/// A map does not say where a secret is.
pub(super) fn no_secret() -> Mistake {
    Mistake::new("a secret has exactly one key: `file` or `env`")
}

/// A key that nothing reads.
pub(super) fn unknown_key(found: &str, expected: &[&str]) -> Mistake {
    let mistake = Mistake::new(format!("unknown key `{found}`"));
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
        "bool" | "boolean" => "`true` or `false`".to_owned(),
        other => other.to_owned(),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or("the file is not valid YAML").to_owned()
}
