//! From an issuer's answer to a grant or a classified failure: the only place that does so.

#[cfg(test)]
mod tests;

use std::time::Duration;

use http::header;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::super::failure::{Failure, Reason, cleaned};
use super::super::grant::Grant;
use super::lifetime::{self, Expiry, Found};
use super::{clock, json};
use crate::net::fetch::Answer;
use crate::token::rejection::Rejection;
use crate::vocab::{Pointer, Secret, Text, TokenName, choices};

/// Longest value or field that is taken.
const MOST_BYTES: usize = 16 * 1024;

/// Where in an answer the value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueRule {
    /// A string.
    At(Pointer),
    /// Two strings, joined for HTTP Basic: base64 of `first:second`.
    Basic(Pointer, Pointer),
}

/// What an answer must say to count as a success; all conditions must hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Where to look.
    pub pointer: Pointer,
    /// The text that must be there.
    pub equals: Text,
}

/// What a failed answer means, told by its body.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorRule {
    /// Only with one of these statuses; any if empty.
    #[serde(default)]
    pub status: Vec<u16>,
    /// Where to look.
    pub pointer: Pointer,
    /// The text that must be there; any if absent.
    pub equals: Option<Text>,
    /// What it means.
    pub means: Meaning,
}

/// What an error of an issuer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Meaning {
    /// The refresh token is no good: run the initial request.
    RefreshToken,
    /// The credential is no good: try rarely.
    Credential,
    /// It will pass: try again soon.
    Transient,
}

choices!(Meaning:
    "refresh_token" = RefreshToken,
    "credential" = Credential,
    "transient" = Transient,
);

/// An answer that blames a token which the request was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentFault {
    /// When.
    pub when: Rejection,
    /// Which token to renew.
    pub renew: TokenName,
}

/// How the answers of one source are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// What a success must say.
    pub success: Vec<Condition>,
    /// Where the value is.
    pub value: ValueRule,
    /// Named fields.
    pub fields: Vec<(String, Pointer)>,
    /// Where the refresh token is.
    pub refresh_token: Option<Pointer>,
    /// Where the lifetime is.
    pub expiry: Vec<Expiry>,
    /// What is assumed where no place says it.
    pub assume: Duration,
    /// Where the refresh token's lifetime is.
    pub refresh_expiry: Vec<Expiry>,
    /// What failures mean, before the general rules.
    pub errors: Vec<ErrorRule>,
    /// Which failures blame a parent.
    pub parent_faults: Vec<ParentFault>,
    /// Whether this is an OAuth 2.0 token endpoint: `token_type` counts, and a 401 without an
    /// OAuth error code is nobody's word on the credential.
    pub oauth: bool,
}

impl Reading {
    /// Reads an answer.
    ///
    /// # Errors
    /// The classified failure; see [`Reason`].
    pub fn read(&self, answer: &Answer) -> Result<Grant, Failure> {
        let status = answer.status();
        let json = json::read(&answer.body);
        let mut failure = match &json {
            _ if status.is_redirection() => Failure::new(Reason::Redirect, redirected(answer)),
            Ok(json) if !status.is_success() => self.failure_in(answer, json),
            Err(_) if !status.is_success() => by_status(answer),
            Ok(json) => match self.grant_in(answer, json) {
                Ok(grant) => return Ok(grant),
                // The issuer has done something for this request; what, is lost.
                Err(failure) => failure.ambiguous(),
            },
            Err(why) => {
                let detail = format!("status {}, but {why}", status.as_u16());
                Failure::new(Reason::BadResponse, detail).ambiguous()
            }
        };
        failure.retry_after = clock::retry_after(&answer.head.headers);
        failure.server_fault = status.is_server_error();
        // A gateway that gave up waiting does not know what the issuer did.
        failure.ambiguous |= matches!(status.as_u16(), 502 | 504);
        Err(failure)
    }

    /// The parent that a failed answer blames.
    #[must_use]
    pub fn blamed(&self, answer: &Answer) -> Option<&TokenName> {
        use crate::token::rejection::Verdict;
        let fault =
            self.parent_faults.iter().find(|fault| match fault.when.by_head(&answer.head) {
                Verdict::No => false,
                Verdict::Yes => true,
                Verdict::NeedsBody => fault.when.by_body(&answer.body),
            });
        fault.map(|fault| &fault.renew)
    }

    fn grant_in(&self, answer: &Answer, json: &Value) -> Result<Grant, Failure> {
        if json.get("error").is_some_and(|error| !error.is_null() && error != "") {
            return Err(self.failure_in(answer, json));
        }
        for condition in &self.success {
            if text_at(json, &condition.pointer).as_deref() != Some(condition.equals.as_str()) {
                return Err(self.unsuccessful(answer, json, condition));
            }
        }
        let untyped = self.oauth && token_type(json)?.is_none();
        let value = match &self.value {
            ValueRule::At(pointer) => Secret::from(carried(json, pointer)?),
            ValueRule::Basic(first, second) => {
                use base64::Engine;
                let pair = format!("{}:{}", carried(json, first)?, carried(json, second)?);
                Secret::from(base64::engine::general_purpose::STANDARD.encode(pair))
            }
        };
        let mut grant = Grant::of(value);
        grant.untyped = untyped;
        for (name, pointer) in &self.fields {
            // A field is of no concern unless somebody names it: it never fails the grant.
            if let Some(text) = text_at(json, pointer).filter(|text| is_plain(text)) {
                grant.fields.insert(name.clone(), Secret::from(text));
            }
        }
        grant.refresh_token = self
            .refresh_token
            .as_ref()
            .and_then(|pointer| text_at(json, pointer))
            .filter(|token| !token.is_empty())
            .map(Secret::from);
        let now = clock::server_now(&answer.head.headers);
        grant.lifetime = match lifetime::find(&self.expiry, json, grant.value.expose(), now) {
            Found::Lifetime(lifetime) => Some(lifetime),
            Found::Never => None,
            Found::Nothing => Some(self.assume),
        };
        let refresh = grant.refresh_token.as_ref().map_or("", Secret::expose);
        if let Found::Lifetime(lifetime) = lifetime::find(&self.refresh_expiry, json, refresh, now)
        {
            grant.refresh_lifetime = Some(lifetime);
        }
        Ok(grant)
    }

    /// A success that is none by the declared conditions.
    fn unsuccessful(&self, answer: &Answer, json: &Value, condition: &Condition) -> Failure {
        if let Some(failure) = self.by_rules(answer, json) {
            return failure;
        }
        let place = condition.pointer.as_str();
        match text_at(json, &condition.pointer) {
            Some(found) => {
                Failure::new(Reason::Refused, format!("{place} is `{}`", cleaned(&found)))
            }
            None => Failure::new(Reason::BadResponse, format!("the answer has no {place}")),
        }
    }

    fn failure_in(&self, answer: &Answer, json: &Value) -> Failure {
        if let Some(failure) = self.by_rules(answer, json) {
            return failure;
        }
        let status = answer.status();
        let description = json
            .get("error_description")
            .and_then(Value::as_str)
            .map(|text| format!(" ({})", cleaned(text)))
            .unwrap_or_default();
        if let Some(code) = json.get("error").and_then(Value::as_str) {
            let reason = match (Reason::of_oauth(code), by_status(answer).reason) {
                (Reason::OtherOauthError, Reason::BadResponse) => Reason::OtherOauthError,
                (Reason::OtherOauthError, told_by_status) => told_by_status,
                (known, _) => known,
            };
            let text =
                format!("status {}, error `{}`{description}", status.as_u16(), cleaned(code));
            return Failure::new(reason, text);
        }
        let mut failure = by_status(answer);
        if !self.oauth && json.is_object() && matches!(status.as_u16(), 400 | 401 | 403) {
            // A login call that answers in its own format has judged the credential. Asking soon
            // again would lock the account.
            failure.reason = Reason::Refused;
        }
        failure
    }

    fn by_rules(&self, answer: &Answer, json: &Value) -> Option<Failure> {
        let status = answer.status().as_u16();
        let rule = self.errors.iter().find(|rule| {
            (rule.status.is_empty() || rule.status.contains(&status))
                && text_at(json, &rule.pointer).is_some_and(|found| {
                    rule.equals.as_ref().is_none_or(|wanted| found == wanted.as_str())
                })
        })?;
        let reason = match rule.means {
            Meaning::RefreshToken => Reason::InvalidGrant,
            Meaning::Credential => Reason::Refused,
            Meaning::Transient => Reason::ServerError,
        };
        let found = text_at(json, &rule.pointer).unwrap_or_default();
        let text = format!("status {status}, {} is `{}`", rule.pointer.as_str(), cleaned(&found));
        Some(Failure::new(reason, text))
    }
}

/// The token's type. Those that need a proof beside the token cannot be presented (RFC 6749
/// section 7.1).
fn token_type(json: &Value) -> Result<Option<&str>, Failure> {
    let kind = json.get("token_type").and_then(Value::as_str);
    let unfit =
        |kind: &&str| ["mac", "dpop", "pop"].iter().any(|bad| kind.eq_ignore_ascii_case(bad));
    match kind.filter(unfit) {
        Some(kind) => {
            let text = format!("the token's type is `{}`, which needs a proof", cleaned(kind));
            Err(Failure::new(Reason::BadResponse, text))
        }
        None => Ok(kind),
    }
}

/// A non-empty string of visible ASCII, fit for a header field (a superset of RFC 6750's
/// `b64token`).
fn carried(json: &Value, pointer: &Pointer) -> Result<String, Failure> {
    let place = pointer.as_str();
    // `false` is how some servers say that there is none.
    let found = pointer.find(json).filter(|found| !found.is_boolean());
    let text = found.and_then(text_of).filter(|text| !text.is_empty()).ok_or_else(|| {
        Failure::new(Reason::BadResponse, format!("the answer has no text at {place}"))
    })?;
    if text.len() > MOST_BYTES {
        return Err(Failure::new(Reason::TooLarge, format!("the text at {place} is over 16 KiB")));
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        let why = format!(
            "the text at {place} holds a space, line break, control or non-ASCII character"
        );
        return Err(Failure::new(Reason::Malformed, why));
    }
    Ok(text)
}

/// Whether a text can stand in a request: a scope has spaces, but nothing has line breaks.
fn is_plain(text: &str) -> bool {
    text.len() <= MOST_BYTES && !text.chars().any(char::is_control)
}

fn text_at(json: &Value, pointer: &Pointer) -> Option<String> {
    pointer.find(json).and_then(text_of)
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

fn by_status(answer: &Answer) -> Failure {
    let status = answer.status().as_u16();
    let reason = match status {
        429 => Reason::RateLimited,
        408 | 500..=599 => Reason::ServerError,
        _ => Reason::BadResponse,
    };
    Failure::new(reason, format!("status {status}"))
}

/// Where a redirect leads, without its query.
fn redirected(answer: &Answer) -> String {
    let location = answer
        .head
        .headers
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.split(['?', '#']).next())
        .unwrap_or_default();
    format!("status {} to `{}`, not followed", answer.status().as_u16(), cleaned(location))
}
