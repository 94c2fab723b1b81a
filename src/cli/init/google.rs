//! A Google service account: what its key file says, and the token that the key pays for
//! (RFC 7523 section 2.1).

use std::path::Path;

use serde::Deserialize;

use super::compose::{file, line, quoted};
use crate::vocab::{HttpUrl, Secret, SecretRef};

/// What is of use in a key file.
#[derive(Deserialize)]
struct KeyFile {
    #[serde(rename = "type")]
    kind: String,
    client_email: String,
    private_key_id: String,
    private_key: String,
    token_uri: String,
}

/// An account, but for its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    email: String,
    key_id: String,
    token_url: String,
}

/// What the account is to be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// An access token for these scopes: Google's own APIs.
    Access(Vec<String>),
    /// An ID token for this audience: a service on Cloud Run, or behind an identity-aware proxy.
    Identity(String),
}

/// Reads a key file, as Google hands it out.
///
/// # Errors
/// Why it is none, in words that hold nothing of it.
pub(super) fn read(path: &Path) -> Result<(Account, Secret), String> {
    let text = SecretRef::File(path.to_owned()).read().map_err(|error| error.to_string())?;
    let key: KeyFile = serde_json::from_str(text.expose()).map_err(|_| {
        format!(
            "{} is not the key of a service account: JSON with `type`, `client_email`, \
             `private_key_id`, `private_key` and `token_uri`",
            path.display()
        )
    })?;
    let secret = Secret::from(key.private_key);
    if key.kind != "service_account" {
        let kind = key.kind.escape_debug();
        return Err(format!("{} is a `{kind}`, not a `service_account`", path.display()));
    }
    let url = HttpUrl::parse(&key.token_uri)
        .map_err(|mistake| format!("`token_uri` in {}: {}", path.display(), mistake.what))?;
    let account =
        Account { email: key.client_email, key_id: key.private_key_id, token_url: url.to_string() };
    Ok((account, secret))
}

/// The tokens of the account whose key is in this file: what it signs, and what that buys.
pub(super) fn tokens(out: &mut String, account: &Account, wanted: &Wanted, key: &Path) {
    let (claim, asked, value, expiry) = match wanted {
        Wanted::Access(scopes) => {
            ("scope", scopes.join(" "), "/access_token", "seconds: /expires_in")
        }
        Wanted::Identity(audience) => {
            ("target_audience", audience.clone(), "/id_token", "jwt: exp")
        }
    };
    line(
        out,
        format_args!(
            "  assertion:                    # what the account signs, afresh for every request
    jwt:
      algorithm: RS256
      key: {key}
      header: {{typ: JWT, kid: {kid}}}
      claims: {{iss: {email}, aud: {url}, {claim}: {asked}}}
      lifetime: 5m
      fresh_per_use: true
  api:                          # the name by which `inject` refers to it
    http:
      acquire:
        url: {url}
        form:
          grant_type: urn:ietf:params:oauth:grant-type:jwt-bearer
          assertion: ${{assertion}}
      value: {value}
      expiry: [{{{expiry}}}]",
            key = file(key),
            kid = quoted(&account.key_id),
            email = quoted(&account.email),
            url = quoted(&account.token_url),
            asked = quoted(&asked),
        ),
    );
}

/// Where the key goes.
pub(super) const KEY_FILE: &str = "bearerd-service-account-key.pem";
