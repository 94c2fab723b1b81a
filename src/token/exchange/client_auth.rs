//! How a client proves itself to the issuer (RFC 6749 section 2.3, RFC 7521, RFC 7523).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::super::failure::{Failure, Reason};
use super::super::sign::{Algorithm, sign};
use super::super::template::{Scope, uuid};
use super::lifetime;
use super::value::{KeptSecret, RequestValue};
use crate::vocab::{Period, Secret, Text, Wall};

/// What `application/x-www-form-urlencoded` leaves as it is.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'*').remove(b'-').remove(b'.').remove(b'_');

/// RFC 7523 section 2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The `client_auth` setting.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// HTTP Basic with id and secret form-encoded first, as RFC 6749 section 2.3.1 demands.
    Basic,
    /// HTTP Basic with id and secret as they are, as curl sends them.
    BasicRaw,
    /// `client_id` and `client_secret` in the body.
    Body,
    /// Only `client_id` in the body: a public client.
    None,
    /// A fresh JWT for every try, signed with a private key (`private_key_jwt`).
    PrivateKeyJwt(PrivateKeyJwt),
    /// A fresh JWT for every try, signed with the client secret (`client_secret_jwt`).
    ClientSecretJwt(ClientSecretJwt),
    /// A ready-made assertion, such as a projected service account token; read anew for every try.
    Assertion(KeptSecret),
}

/// Settings of `private_key_jwt`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrivateKeyJwt {
    /// The private key, PEM.
    pub key: KeptSecret,
    /// RS256 unless said otherwise.
    #[serde(default = "rs256")]
    pub algorithm: Algorithm,
    /// The `kid` of the header.
    pub key_id: Option<Text>,
    /// The `aud` claim; the token URL unless said otherwise.
    pub audience: Option<Text>,
    /// From issue to expiry, 60 seconds unless said otherwise.
    #[serde(default = "minute")]
    pub lifetime: Period,
}

/// Settings of `client_secret_jwt`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientSecretJwt {
    /// The `aud` claim; the token URL unless said otherwise.
    pub audience: Option<Text>,
    /// From issue to expiry, 60 seconds unless said otherwise.
    #[serde(default = "minute")]
    pub lifetime: Period,
}

const fn rs256() -> Algorithm {
    Algorithm::RS256
}

const fn minute() -> Period {
    Period::secs(60)
}

/// A client and how it proves itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientAuth {
    /// How.
    pub style: Style,
    /// Its identifier.
    pub id: Option<RequestValue>,
    /// Its secret.
    pub secret: Option<KeptSecret>,
}

/// What a proof adds to a request.
#[derive(Debug, Default)]
pub(super) struct Proof {
    /// The `Authorization` field.
    pub authorization: Option<Secret>,
    /// Members of the body.
    pub body: Vec<(&'static str, Secret)>,
}

impl Style {
    /// With `audience` where none is set: requests to other endpoints than the token endpoint
    /// carry the same `aud`.
    #[must_use]
    pub fn or_audience(mut self, audience: &str) -> Self {
        match &mut self {
            Self::PrivateKeyJwt(PrivateKeyJwt { audience: own, .. })
            | Self::ClientSecretJwt(ClientSecretJwt { audience: own, .. }) => {
                own.get_or_insert_with(|| Text::from(audience));
            }
            _ => {}
        }
        self
    }
}

impl ClientAuth {
    /// No client at all.
    #[must_use]
    pub const fn nobody() -> Self {
        Self { style: Style::None, id: None, secret: None }
    }

    /// The proof for one try; `endpoint` is the default audience.
    pub(super) fn prove(&self, scope: &Scope<'_>, endpoint: &str) -> Result<Proof, Failure> {
        let id = self.id.as_ref().map(|id| id.render(scope)).transpose()?;
        let known_id = || id.clone().ok_or_else(|| missing("client_id"));
        let secret = || self.secret.as_ref().ok_or_else(|| missing("client_secret"))?.read();
        let mut proof = Proof::default();
        match &self.style {
            Style::Basic => {
                proof.authorization =
                    Some(basic(&form_encoded(&known_id()?), &form_encoded(&secret()?)));
            }
            Style::BasicRaw => {
                proof.authorization = Some(basic(known_id()?.expose(), secret()?.expose()));
            }
            Style::Body => {
                proof.body = vec![("client_id", known_id()?), ("client_secret", secret()?)];
            }
            Style::None => proof.body.extend(id.map(|id| ("client_id", id))),
            Style::PrivateKeyJwt(settings) => {
                let id = known_id()?;
                let mut header = json!({ "typ": "JWT" });
                if let Some(key_id) = &settings.key_id {
                    header["kid"] = key_id.as_str().into();
                }
                let audience = settings.audience.as_ref().map_or(endpoint, Text::as_str);
                let claims = claims(&id, audience, settings.lifetime);
                let assertion = sign(settings.algorithm, &settings.key.read()?, &header, &claims)?;
                proof.body = asserted(Some(id), assertion);
            }
            Style::ClientSecretJwt(settings) => {
                let id = known_id()?;
                let audience = settings.audience.as_ref().map_or(endpoint, Text::as_str);
                let claims = claims(&id, audience, settings.lifetime);
                let assertion =
                    sign(Algorithm::HS256, &secret()?, &json!({ "typ": "JWT" }), &claims)?;
                proof.body = asserted(Some(id), assertion);
            }
            Style::Assertion(source) => {
                let assertion = source.read()?;
                if lifetime::is_over(assertion.expose()) {
                    let why = "the assertion is a JWT whose time is over";
                    return Err(Failure::new(Reason::NoSecret, why));
                }
                proof.body = asserted(id, assertion);
            }
        }
        Ok(proof)
    }

    /// The secrets that a change of content should try again at once.
    pub fn secrets(&self) -> Vec<&KeptSecret> {
        let mut secrets = self.credentials();
        if let Style::Assertion(source) = &self.style {
            secrets.push(source);
        }
        secrets
    }

    /// The secrets that belong to one client and to no other.
    pub fn credentials(&self) -> Vec<&KeptSecret> {
        let mut secrets: Vec<_> = self.secret.iter().collect();
        if let Style::PrivateKeyJwt(settings) = &self.style {
            secrets.push(&settings.key);
        }
        secrets
    }
}

fn missing(what: &str) -> Failure {
    Failure::new(Reason::Config, format!("client authentication needs `{what}`"))
}

fn asserted(id: Option<Secret>, assertion: Secret) -> Vec<(&'static str, Secret)> {
    let mut body = vec![
        ("client_assertion_type", Secret::from(ASSERTION_TYPE)),
        ("client_assertion", assertion),
    ];
    body.extend(id.map(|id| ("client_id", id)));
    body
}

/// RFC 7523 section 3. A fresh `jti` for every try, so that a repeated request is no replay.
fn claims(id: &Secret, audience: &str, lifetime: Period) -> serde_json::Value {
    let now = Wall::now().secs();
    let lifetime = i64::try_from(lifetime.0.as_secs()).unwrap_or(60);
    json!({
        "iss": id.expose(), "sub": id.expose(), "aud": audience,
        "iat": now, "exp": now + lifetime, "jti": uuid(),
    })
}

fn basic(id: &str, secret: &str) -> Secret {
    Secret::from(format!("Basic {}", STANDARD.encode(format!("{id}:{secret}"))))
}

fn form_encoded(value: &Secret) -> String {
    let mut out = String::new();
    push_form(&mut out, value.expose());
    out
}

/// Appends a text in form encoding: a space is `+`.
pub(super) fn push_form(out: &mut String, text: &str) {
    for (index, part) in text.split(' ').enumerate() {
        if index > 0 {
            out.push('+');
        }
        out.extend(utf8_percent_encode(part, FORM));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::template::Template;
    use crate::vocab::SecretRef;

    /// A client whose secret's file goes with it.
    struct Client(ClientAuth, std::path::PathBuf);

    impl std::ops::Deref for Client {
        type Target = ClientAuth;

        fn deref(&self) -> &ClientAuth {
            &self.0
        }
    }

    impl Drop for Client {
        fn drop(&mut self) {
            std::fs::remove_file(&self.1).unwrap();
        }
    }

    fn client(style: Style, id: &str, secret: &str) -> Client {
        let path = std::env::temp_dir().join(format!("bearerd-auth-{:x}", fastrand::u64(..)));
        std::fs::write(&path, secret).unwrap();
        let auth = ClientAuth {
            style,
            id: Some(RequestValue::Text(Template::parse(id).unwrap())),
            secret: Some(KeptSecret::new(SecretRef::File(path.clone()))),
        };
        Client(auth, path)
    }

    fn decoded(proof: &Proof) -> String {
        let value = proof.authorization.as_ref().unwrap().expose().strip_prefix("Basic ").unwrap();
        String::from_utf8(STANDARD.decode(value).unwrap()).unwrap()
    }

    #[test]
    fn basic_form_encodes_id_and_secret_and_basic_raw_does_not() {
        let auth = client(Style::Basic, "a b", "p+%:s&");
        assert_eq!(decoded(&auth.prove(&Scope::default(), "").unwrap()), "a+b:p%2B%25%3As%26");
        let auth = client(Style::BasicRaw, "a b", "p+%:s&");
        assert_eq!(decoded(&auth.prove(&Scope::default(), "").unwrap()), "a b:p+%:s&");
    }

    #[test]
    fn an_assertion_is_fresh_for_every_try() {
        let settings = ClientSecretJwt { audience: None, lifetime: minute() };
        let auth = client(Style::ClientSecretJwt(settings), "c", "secret");
        let assertion = || {
            let proof = auth.prove(&Scope::default(), "https://idp/token").unwrap();
            proof.body.iter().find(|(n, _)| *n == "client_assertion").unwrap().1.expose().to_owned()
        };
        assert_ne!(assertion(), assertion());
    }
}
