//! Signs JWTs (RFC 7515, 7518): for the `jwt` kind and for client authentication.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use schemars::JsonSchema;
use serde_json::Value;

use super::failure::{Failure, Reason};
use crate::vocab::{Secret, choices};

/// The algorithms that can sign (RFC 7518 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, JsonSchema)]
pub enum Algorithm {
    /// HMAC with SHA-256 and a shared secret.
    HS256,
    /// RSASSA-PKCS1-v1_5 with SHA-256; the key is PEM (PKCS#8 or PKCS#1).
    RS256,
    /// ECDSA with P-256 and SHA-256; the key is PEM (PKCS#8).
    ES256,
}

choices!(Algorithm: "HS256" = HS256, "RS256" = RS256, "ES256" = ES256);

impl Algorithm {
    const fn name(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::RS256 => "RS256",
            Self::ES256 => "ES256",
        }
    }
}

/// Signs `claims`; `alg` is put into `header` beside what it already has.
///
/// # Errors
/// [`Reason::Config`] if the key does not fit the algorithm; nothing of it is in the text.
pub(super) fn sign(
    algorithm: Algorithm,
    key: &Secret,
    header: &Value,
    claims: &Value,
) -> Result<Secret, Failure> {
    let mut header = header.clone();
    if let Value::Object(members) = &mut header {
        members.insert("alg".to_owned(), algorithm.name().into());
    }
    let mut message = URL_SAFE_NO_PAD.encode(header.to_string());
    message.push('.');
    message.push_str(&URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = raw_signature(algorithm, key, message.as_bytes()).map_err(|why| {
        Failure::new(Reason::Config, format!("cannot sign with {}: {why}", algorithm.name()))
    })?;
    message.push('.');
    message.push_str(&URL_SAFE_NO_PAD.encode(signature));
    Ok(Secret::from(message))
}

fn raw_signature(
    algorithm: Algorithm,
    key: &Secret,
    message: &[u8],
) -> Result<Vec<u8>, &'static str> {
    let random = SystemRandom::new();
    match algorithm {
        Algorithm::HS256 => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes());
            Ok(hmac::sign(&key, message).as_ref().to_vec())
        }
        Algorithm::RS256 => {
            let pair = match pem(key)? {
                PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
                PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
                _ => return Err("the PEM key is not an RSA key"),
            }
            .map_err(|_| "the key is not a usable RSA key of 2048 bits or more")?;
            let mut out = vec![0; pair.public().modulus_len()];
            pair.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut out)
                .map_err(|_| "signing failed")?;
            Ok(out)
        }
        Algorithm::ES256 => {
            let PrivateKeyDer::Pkcs8(der) = pem(key)? else {
                return Err("the PEM key must be PKCS#8 (`BEGIN PRIVATE KEY`)");
            };
            let pair = EcdsaKeyPair::from_pkcs8(
                &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
                der.secret_pkcs8_der(),
                &random,
            )
            .map_err(|_| "the key is not a P-256 key")?;
            let signed = pair.sign(&random, message).map_err(|_| "signing failed")?;
            Ok(signed.as_ref().to_vec())
        }
    }
}

fn pem(key: &Secret) -> Result<PrivateKeyDer<'static>, &'static str> {
    PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|_| "the key is not PEM")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hs256_is_the_signature_of_header_and_claims() {
        let key = Secret::from("your-256-bit-secret");
        let token =
            sign(Algorithm::HS256, &key, &json!({ "typ": "JWT" }), &json!({ "iss": "app" }))
                .unwrap();
        let (message, signature) = token.expose().rsplit_once('.').unwrap();
        let expected = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes()),
            message.as_bytes(),
        );
        assert_eq!(URL_SAFE_NO_PAD.decode(signature).unwrap(), expected.as_ref());
        let header = URL_SAFE_NO_PAD.decode(message.split('.').next().unwrap()).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&header).unwrap()["alg"], "HS256");
    }

    #[test]
    fn es256_verifies_with_the_public_key() {
        use ring::signature::KeyPair;
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let token = sign(
            Algorithm::ES256,
            &Secret::from(pair.serialize_pem()),
            &json!({}),
            &json!({ "sub": "x" }),
        )
        .unwrap();
        let (message, signature) = token.expose().rsplit_once('.').unwrap();
        let own = EcdsaKeyPair::from_pkcs8(
            &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            &pair.serialize_der(),
            &SystemRandom::new(),
        )
        .unwrap();
        signature::UnparsedPublicKey::new(
            &signature::ECDSA_P256_SHA256_FIXED,
            own.public_key().as_ref(),
        )
        .verify(message.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
        .unwrap();
    }

    #[test]
    fn a_key_that_does_not_fit_is_told_without_being_shown() {
        for algorithm in [Algorithm::RS256, Algorithm::ES256] {
            let failure =
                sign(algorithm, &Secret::from("hunter2"), &json!({}), &json!({})).unwrap_err();
            assert_eq!(failure.reason, Reason::Config);
            assert!(!failure.detail.contains("hunter2"));
        }
    }
}
