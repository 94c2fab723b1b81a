//! Tells an answer that rejects the injected credential from one that refuses the request.
//!
//! The same status means both at many APIs, so a rule may look at the body or a header as well.

use http::response::Parts;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::vocab::{FieldName, Pointer, Text, choices};

/// One rule of a token's `rejected` list; the credential was rejected if any rule holds.
#[derive(Debug, Clone, Deserialize, JsonSchema, PartialEq, Eq, Hash)]
#[serde(deny_unknown_fields)]
pub struct Rejection {
    /// The status codes that the rule is about.
    pub status: Vec<u16>,
    /// `empty`: only an answer without a body.
    pub body: Option<BodyIs>,
    /// Only a JSON body in which this pointer …
    pub pointer: Option<Pointer>,
    /// … is this text,
    pub equals: Option<Text>,
    /// … or begins with one of these,
    pub starts_with: Option<Vec<Text>>,
    /// … or (`true`) is not there at all.
    #[serde(default)]
    pub absent: bool,
    /// Only a body that contains this text.
    pub contains: Option<Text>,
    /// Only an answer with this header field …
    pub header: Option<FieldName>,
    /// … whose value contains this text.
    pub header_contains: Option<Text>,
}

/// What a rule can ask of a whole body.
#[derive(Debug, Clone, Copy, JsonSchema, PartialEq, Eq, Hash)]
#[schemars(rename_all = "snake_case")]
pub enum BodyIs {
    /// No bytes.
    Empty,
}

choices!(BodyIs: "empty" = Empty);

/// What the head of an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not a rejection.
    No,
    /// A rejection.
    Yes,
    /// The body decides.
    NeedsBody,
}

impl Rejection {
    /// The rule that every token has unless it says otherwise: 401.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self {
            status: vec![401],
            body: None,
            pointer: None,
            equals: None,
            starts_with: None,
            absent: false,
            contains: None,
            header: None,
            header_contains: None,
        }
    }

    /// Judges by the head alone, as far as that goes.
    #[must_use]
    pub fn by_head(&self, head: &Parts) -> Verdict {
        if !self.status.contains(&head.status.as_u16()) {
            return Verdict::No;
        }
        if let Some(name) = &self.header {
            let wanted = self.header_contains.as_ref().map_or("", |text| text.as_str());
            let held = head
                .headers
                .get_all(name.as_header())
                .iter()
                .any(|value| contains(value.as_bytes(), wanted.as_bytes()));
            if !held {
                return Verdict::No;
            }
        }
        if self.body.is_some() || self.pointer.is_some() || self.contains.is_some() {
            Verdict::NeedsBody
        } else {
            Verdict::Yes
        }
    }

    /// Judges by the body, where the head left it open.
    #[must_use]
    pub fn by_body(&self, body: &[u8]) -> bool {
        if self.body == Some(BodyIs::Empty) && !body.is_empty() {
            return false;
        }
        if let Some(text) = &self.contains
            && !contains(body, text.as_str().as_bytes())
        {
            return false;
        }
        self.pointer.as_ref().is_none_or(|pointer| self.by_pointer(pointer, body))
    }

    fn by_pointer(&self, pointer: &Pointer, body: &[u8]) -> bool {
        let Ok(json) = serde_json::from_slice::<Value>(body) else {
            return false;
        };
        let found = pointer.find(&json);
        if self.absent {
            return found.is_none();
        }
        let Some(text) = found.and_then(Value::as_str) else {
            return false;
        };
        self.equals.as_ref().is_none_or(|wanted| text == wanted.as_str())
            && self
                .starts_with
                .as_ref()
                .is_none_or(|starts| starts.iter().any(|start| text.starts_with(start.as_str())))
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || haystack.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(yaml: &str) -> Rejection {
        serde_yaml::from_str(yaml).unwrap()
    }

    fn head(status: u16) -> Parts {
        let response = http::Response::builder()
            .status(status)
            .header("www-authenticate", "Bearer error=\"invalid_token\"")
            .body(())
            .unwrap();
        response.into_parts().0
    }

    #[test]
    fn an_empty_403_rejects_and_one_with_a_text_does_not() {
        let rule = rule("{status: [403], body: empty}");
        assert_eq!(rule.by_head(&head(403)), Verdict::NeedsBody);
        assert_eq!(rule.by_head(&head(401)), Verdict::No);
        assert!(rule.by_body(b""));
        assert!(!rule.by_body(b"Environment does not exist"));
    }

    #[test]
    fn pointers_tell_two_credentials_apart() {
        let device = rule("{status: [401], pointer: /message, equals: Unauthorized}");
        let user = rule("{status: [401], pointer: /message, absent: true}");
        let gateway = br#"{"message":"Unauthorized"}"#;
        let service = br#"{"params":{"err":"UNAUTHORIZED_USER"}}"#;
        assert!(device.by_body(gateway) && !device.by_body(service));
        assert!(!user.by_body(gateway) && user.by_body(service));
    }

    #[test]
    fn a_header_can_decide() {
        let rule =
            rule("{status: [401], header: WWW-Authenticate, header_contains: invalid_token}");
        assert_eq!(rule.by_head(&head(401)), Verdict::Yes);
    }
}
