//! Signs JWTs (RFC 7515, 7518): for the `jwt` kind and for client authentication.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use schemars::JsonSchema;
use serde_json::Value;

use super::failure::{Failure, Reason};
use crate::vocab::{Secret, choices};

/// The algorithms that can sign (RFC 7518 section 3.1, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, JsonSchema)]
pub enum Algorithm {
    /// HMAC with SHA-256 and a shared secret.
    HS256,
    /// HMAC with SHA-384 and a shared secret.
    HS384,
    /// HMAC with SHA-512 and a shared secret.
    HS512,
    /// RSASSA-PKCS1-v1_5 with SHA-256; the key is PEM (PKCS#8 or PKCS#1).
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384; the key is PEM (PKCS#8 or PKCS#1).
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512; the key is PEM (PKCS#8 or PKCS#1).
    RS512,
    /// RSASSA-PSS with SHA-256; the key is PEM (PKCS#8 or PKCS#1).
    PS256,
    /// RSASSA-PSS with SHA-384; the key is PEM (PKCS#8 or PKCS#1).
    PS384,
    /// RSASSA-PSS with SHA-512; the key is PEM (PKCS#8 or PKCS#1).
    PS512,
    /// ECDSA with P-256 and SHA-256; the key is PEM (PKCS#8).
    ES256,
    /// ECDSA with P-384 and SHA-384; the key is PEM (PKCS#8).
    ES384,
    /// Ed25519; the key is PEM (PKCS#8).
    EdDSA,
}

choices!(Algorithm:
    "HS256" = HS256, "HS384" = HS384, "HS512" = HS512,
    "RS256" = RS256, "RS384" = RS384, "RS512" = RS512,
    "PS256" = PS256, "PS384" = PS384, "PS512" = PS512,
    "ES256" = ES256, "ES384" = ES384, "EdDSA" = EdDSA
);

/// What signs, with what it needs to know.
enum Scheme {
    Hmac(hmac::Algorithm),
    Rsa(&'static dyn signature::RsaEncoding),
    Ecdsa(&'static signature::EcdsaSigningAlgorithm),
    Ed25519,
}

impl Algorithm {
    const fn name(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }

    fn scheme(self) -> Scheme {
        match self {
            Self::HS256 => Scheme::Hmac(hmac::HMAC_SHA256),
            Self::HS384 => Scheme::Hmac(hmac::HMAC_SHA384),
            Self::HS512 => Scheme::Hmac(hmac::HMAC_SHA512),
            Self::RS256 => Scheme::Rsa(&signature::RSA_PKCS1_SHA256),
            Self::RS384 => Scheme::Rsa(&signature::RSA_PKCS1_SHA384),
            Self::RS512 => Scheme::Rsa(&signature::RSA_PKCS1_SHA512),
            Self::PS256 => Scheme::Rsa(&signature::RSA_PSS_SHA256),
            Self::PS384 => Scheme::Rsa(&signature::RSA_PSS_SHA384),
            Self::PS512 => Scheme::Rsa(&signature::RSA_PSS_SHA512),
            Self::ES256 => Scheme::Ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            Self::ES384 => Scheme::Ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            Self::EdDSA => Scheme::Ed25519,
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
    match algorithm.scheme() {
        Scheme::Hmac(digest) => {
            let key = hmac::Key::new(digest, key.expose().as_bytes());
            Ok(hmac::sign(&key, message).as_ref().to_vec())
        }
        Scheme::Rsa(encoding) => {
            let pair = match pem(key)? {
                PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
                PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
                _ => return Err("the PEM key is not an RSA key"),
            }
            .map_err(|_| "the key is not a usable RSA key of 2048 bits or more")?;
            let mut out = vec![0; pair.public().modulus_len()];
            pair.sign(encoding, &random, message, &mut out).map_err(|_| "signing failed")?;
            Ok(out)
        }
        Scheme::Ecdsa(curve) => {
            let pair = EcdsaKeyPair::from_pkcs8(curve, pkcs8(key)?.secret_pkcs8_der(), &random)
                .map_err(|_| "the key is not on this algorithm's curve")?;
            let signed = pair.sign(&random, message).map_err(|_| "signing failed")?;
            Ok(signed.as_ref().to_vec())
        }
        Scheme::Ed25519 => {
            // What openssl writes has no public key beside the private one.
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8(key)?.secret_pkcs8_der())
                .map_err(|_| "the key is not an Ed25519 key")?;
            Ok(pair.sign(message).as_ref().to_vec())
        }
    }
}

fn pkcs8(key: &Secret) -> Result<PrivatePkcs8KeyDer<'static>, &'static str> {
    match pem(key)? {
        PrivateKeyDer::Pkcs8(der) => Ok(der),
        _ => Err("the PEM key must be PKCS#8 (`BEGIN PRIVATE KEY`; \
                  `openssl pkcs8 -topk8 -nodes -in KEY` makes it one)"),
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

    const RSA: &str = include_str!("../../tests/it/fixtures/rsa.pem");

    /// Signs with this key, and takes the token apart into what is signed and the signature.
    fn signed(algorithm: Algorithm, key: &str) -> (String, Vec<u8>) {
        let token =
            sign(algorithm, &Secret::from(key), &json!({}), &json!({ "sub": "x" })).unwrap();
        let (message, signature) = token.expose().rsplit_once('.').unwrap();
        (message.to_owned(), URL_SAFE_NO_PAD.decode(signature).unwrap())
    }

    #[test]
    fn longer_hmacs_are_over_header_and_claims() {
        for (algorithm, digest) in
            [(Algorithm::HS384, hmac::HMAC_SHA384), (Algorithm::HS512, hmac::HMAC_SHA512)]
        {
            let (message, signature) = signed(algorithm, "secret");
            let key = hmac::Key::new(digest, b"secret");
            hmac::verify(&key, message.as_bytes(), &signature).unwrap();
        }
    }

    #[test]
    fn what_a_private_key_signs_its_public_key_verifies() {
        use rcgen::PublicKeyData;
        use ring::signature::{UnparsedPublicKey, VerificationAlgorithm};
        let rsa = || {
            let public = RsaKeyPair::from_pkcs8(pkcs8(&RSA.into()).unwrap().secret_pkcs8_der());
            (RSA.to_owned(), public.unwrap().public().as_ref().to_vec())
        };
        let drawn = |algorithm| {
            let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
            (pair.serialize_pem(), pair.der_bytes().to_vec())
        };
        type Pair = (String, Vec<u8>);
        let cases: [(Algorithm, Pair, &dyn VerificationAlgorithm); 9] = [
            (Algorithm::RS256, rsa(), &signature::RSA_PKCS1_2048_8192_SHA256),
            (Algorithm::RS384, rsa(), &signature::RSA_PKCS1_2048_8192_SHA384),
            (Algorithm::RS512, rsa(), &signature::RSA_PKCS1_2048_8192_SHA512),
            (Algorithm::PS256, rsa(), &signature::RSA_PSS_2048_8192_SHA256),
            (Algorithm::PS384, rsa(), &signature::RSA_PSS_2048_8192_SHA384),
            (Algorithm::PS512, rsa(), &signature::RSA_PSS_2048_8192_SHA512),
            (
                Algorithm::ES256,
                drawn(&rcgen::PKCS_ECDSA_P256_SHA256),
                &signature::ECDSA_P256_SHA256_FIXED,
            ),
            (
                Algorithm::ES384,
                drawn(&rcgen::PKCS_ECDSA_P384_SHA384),
                &signature::ECDSA_P384_SHA384_FIXED,
            ),
            (Algorithm::EdDSA, drawn(&rcgen::PKCS_ED25519), &signature::ED25519),
        ];
        for (algorithm, (private, public), verification) in cases {
            let (message, signature) = signed(algorithm, &private);
            let header = URL_SAFE_NO_PAD.decode(message.split('.').next().unwrap()).unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&header).unwrap()["alg"], algorithm.name());
            UnparsedPublicKey::new(verification, public)
                .verify(message.as_bytes(), &signature)
                .unwrap_or_else(|_| panic!("{algorithm:?}"));
        }
    }

    #[test]
    fn a_key_that_does_not_fit_is_told_without_being_shown() {
        for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
            let failure =
                sign(algorithm, &Secret::from("hunter2"), &json!({}), &json!({})).unwrap_err();
            assert_eq!(failure.reason, Reason::Config);
            assert!(!failure.detail.contains("hunter2"));
        }
    }
}
