//! Google's token endpoint for service accounts (RFC 7523 section 2.1), as its documentation "Using
//! OAuth 2.0 for Server to Server Applications" has it.

use serde_json::{Value, json};

use super::{Ask, Reply, System, jwt, opened, unique, unix};

pub(crate) const EMAIL: &str = "robot@acme.iam.gserviceaccount.com";
pub(crate) const KEY_ID: &str = "0f3a9c";
pub(crate) const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
pub(crate) const AUDIENCE: &str = "https://billing-abc-ew.a.run.app";

/// The endpoint, and what it gave.
pub(crate) struct Google {
    /// Whether a token's signature is that of the account's key.
    verify: fn(&str) -> bool,
    lifetime: u64,
    /// Access and ID tokens, oldest first.
    pub(crate) issued: Vec<String>,
    /// What it refused, in its own words.
    pub(crate) refused: Vec<String>,
}

impl Google {
    pub(crate) fn new(lifetime: u64, verify: fn(&str) -> bool) -> Self {
        Self { verify, lifetime, issued: Vec::new(), refused: Vec::new() }
    }

    /// What the account may have, or why not.
    fn granted(&self, ask: &Ask) -> Result<Value, (&'static str, &'static str)> {
        let form = ask.form();
        let member = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        if member("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
            return Err(("unsupported_grant_type", "Invalid grant_type"));
        }
        if ask.head.has("authorization") {
            return Err(("invalid_request", "The assertion is the only credential"));
        }
        let assertion = member("assertion");
        let Some((header, claims)) = opened(assertion) else {
            return Err(("invalid_grant", "Bad Request"));
        };
        if header["alg"] != "RS256" || header["kid"] != KEY_ID || !(self.verify)(assertion) {
            return Err(("invalid_grant", "Invalid JWT Signature."));
        }
        if claims["iss"] != EMAIL {
            return Err(("invalid_grant", "Invalid grant: account not found"));
        }
        let url = format!("http://{}/token", ask.head.one("host"));
        if claims["aud"] != url.as_str() {
            return Err(("invalid_grant", "Invalid JWT: Failed audience check."));
        }
        let (from, until) = (claims["iat"].as_u64(), claims["exp"].as_u64());
        let (Some(from), Some(until)) = (from, until) else {
            return Err(("invalid_grant", "Invalid JWT: iat and exp are required"));
        };
        if from > unix() || until <= unix() || until - from > 3600 {
            return Err((
                "invalid_grant",
                "Invalid JWT: Token must be a short-lived token (60 minutes)",
            ));
        }
        match (claims["scope"].as_str(), claims["target_audience"].as_str()) {
            (Some(SCOPE), None) => Ok(json!({ "scope": SCOPE })),
            (None, Some(AUDIENCE)) => Ok(json!({ "aud": AUDIENCE })),
            _ => Err(("invalid_scope", "Invalid OAuth scope or ID token audience provided.")),
        }
    }
}

impl System for Google {
    fn answer(&mut self, ask: &Ask) -> Reply {
        if ask.path != "/token" || ask.method != "POST" || !ask.is_form() {
            return Reply::html(404, "<title>Error 404 (Not Found)!!1</title>");
        }
        match self.granted(ask) {
            Err((error, description)) => {
                self.refused.push(description.to_owned());
                Reply::json(400, &json!({ "error": error, "error_description": description }))
            }
            Ok(kind) if kind["scope"].is_string() => {
                self.issued.push(unique("ya29.c."));
                let answer = json!({
                    "access_token": self.issued.last(),
                    "expires_in": self.lifetime,
                    "token_type": "Bearer",
                });
                Reply::json(200, &answer)
            }
            Ok(kind) => {
                let claims = json!({
                    "aud": kind["aud"], "exp": unix() + self.lifetime, "jti": unique(""),
                });
                self.issued.push(jwt(&json!({ "alg": "RS256" }), &claims));
                Reply::json(200, &json!({ "id_token": self.issued.last() }))
            }
        }
    }
}
