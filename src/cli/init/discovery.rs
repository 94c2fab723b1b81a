//! Finds the token endpoint of an issuer (OpenID Connect Discovery 1.0 section 4, RFC 8414).

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::Full;
use serde::Deserialize;
use tokio::runtime::Builder;

use super::client::ClientAuth;
use super::compose::Endpoint;
use crate::net::dial::Dialer;
use crate::net::fetch::{Answer, Bounds, fetch};
use crate::net::tls;
use crate::shutdown::Shutdown;
use crate::vocab::HttpUrl;

const BOUNDS: Bounds = Bounds { deadline: Duration::from_secs(10), body: 256 * 1024 };

const PLACE: &str = "/.well-known/openid-configuration";

/// What is of use in the metadata.
#[derive(Debug, Deserialize)]
struct Metadata {
    issuer: String,
    token_endpoint: String,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

/// Asks an issuer for its token endpoint.
///
/// # Errors
/// Why it is not known, in words.
pub(super) fn find(issuer: &str) -> Result<Endpoint, String> {
    let issuer = issuer.trim_end_matches('/');
    let url = HttpUrl::parse(&format!("{issuer}{PLACE}")).map_err(|mistake| mistake.what)?;
    if let Some(mistake) = url.plaintext_mistake(false) {
        return Err(mistake.what);
    }
    let answer = ask(&url)?;
    if answer.status() != StatusCode::OK {
        return Err(format!("{url} answers {}", answer.status()));
    }
    read(issuer, &answer.body)
}

fn ask(url: &HttpUrl) -> Result<Answer, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let dialer = Dialer::new(url, &tls::Settings::default(), &[b"http/1.1"], BOUNDS.deadline)
        .map_err(|error| words(&error))?;
    let request = Request::get(url.target())
        .header(HOST, url.host_value())
        .header(ACCEPT, "application/json")
        .header(ACCEPT_ENCODING, "identity")
        .header(USER_AGENT, concat!("bearerd/", env!("CARGO_PKG_VERSION")))
        .body(Full::<Bytes>::default())
        .map_err(|error| words(&error))?;
    let runtime =
        Builder::new_current_thread().enable_all().build().map_err(|error| words(&error))?;
    let tasks = Shutdown::new();
    runtime.block_on(fetch(&dialer, request, BOUNDS, &tasks)).map_err(|error| words(&error))
}

/// The metadata must be the issuer's own, and the endpoint one to which a secret may be sent.
fn read(issuer: &str, body: &[u8]) -> Result<Endpoint, String> {
    let metadata: Metadata = serde_json::from_slice(body)
        .map_err(|_| "its metadata is not JSON with `issuer` and `token_endpoint`".to_owned())?;
    if metadata.issuer.trim_end_matches('/') != issuer {
        return Err(format!(
            "its metadata is that of another issuer, `{}`",
            metadata.issuer.escape_debug()
        ));
    }
    let url = HttpUrl::parse(&metadata.token_endpoint).map_err(|mistake| mistake.what)?;
    if let Some(mistake) = url.plaintext_mistake(false) {
        return Err(mistake.what);
    }
    let methods = &metadata.token_endpoint_auth_methods_supported;
    let has = |method: &str| methods.iter().any(|known| known == method);
    // Without a list, section 3 says it is Basic.
    let body_only = !methods.is_empty() && !has("client_secret_basic") && has("client_secret_post");
    Ok(Endpoint { url: url.to_string(), auth: body_only.then_some(ClientAuth::Body) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_issuers_own_metadata_and_a_safe_endpoint_are_taken() {
        let of = |text: &str| read("https://idp.example.com/realms/a", text.as_bytes());
        let own = r#""issuer": "https://idp.example.com/realms/a""#;
        let endpoint = of(&format!(r#"{{{own}, "token_endpoint": "https://idp.example.com/t"}}"#));
        assert_eq!(
            endpoint.unwrap(),
            Endpoint { url: "https://idp.example.com/t".to_owned(), auth: None }
        );
        let post = of(&format!(
            r#"{{{own}, "token_endpoint": "https://a.example/t", "token_endpoint_auth_methods_supported": ["client_secret_post"]}}"#
        ));
        assert_eq!(post.unwrap().auth, Some(ClientAuth::Body));
        for wrong in [
            "no json".to_owned(),
            "{}".to_owned(),
            r#"{"issuer": "https://evil.example", "token_endpoint": "https://a.example/t"}"#
                .to_owned(),
            format!(r#"{{{own}, "token_endpoint": "http://a.example/t"}}"#),
            format!(r#"{{{own}, "token_endpoint": "https://me:secret@a.example/t"}}"#),
        ] {
            assert!(of(&wrong).is_err(), "{wrong}");
        }
    }
}
