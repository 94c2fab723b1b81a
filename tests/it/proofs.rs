//! How clients prove themselves to issuers, and what is withdrawn at the end.

use ring::signature;
use serde_json::json;

use crate::doubles::scripted::Scripted;
use crate::doubles::{Ask, Double, Reply, opened, unix};
use crate::kinds::{
    authorization, claims, ecdsa, issued, ready_made, replace, start, verify, verify_hmac,
};
use crate::support::{Process, eventually, file};

/// A client-credentials token; the first try is answered with 500.
fn proving(client: &str, environment: &[(&str, &str)]) -> (Double<Scripted>, Process) {
    let issuer = Scripted::run(|_, before| match before {
        0 => Reply::html(500, "<h1>oops</h1>"),
        _ => issued(600),
    });
    let yaml = format!(
        "
tokens:
  api:
    oauth2:
      token_url: {url}/token
      client_id: me
{client}
routes: [{{upstream: '{url}', inject: {{Authorization: 'Bearer ${{api}}'}}}}]",
        url = issuer.url()
    );
    let process = start(&yaml, environment);
    eventually(|| issuer.asks().len() >= 2, || process.log());
    (issuer, process)
}

/// The client's assertions in order, after a look at what goes with them.
fn assertions(issuer: &Double<Scripted>, audience: &str) -> Vec<String> {
    let asks = issuer.asks();
    let mut ids = std::collections::BTreeSet::new();
    let mut tokens = Vec::new();
    for ask in asks.iter().filter(|ask| ask.path == "/token") {
        let form = ask.form();
        assert!(!ask.head.has("authorization"));
        assert!(!form.contains_key("client_secret"));
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        assert_eq!(form["client_assertion_type"], kind);
        let token = form["client_assertion"].clone();
        let claims = claims(&token);
        assert_eq!((&claims["iss"], &claims["sub"]), (&json!("me"), &json!("me")));
        assert_eq!(claims["aud"], audience);
        let (iat, exp) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
        assert!(exp - iat <= 60 && iat.abs_diff(unix()) < 60, "{claims}");
        assert!(ids.insert(claims["jti"].to_string()), "a `jti` was used twice");
        tokens.push(token);
    }
    assert!(tokens.len() >= 2);
    tokens
}

#[test]
fn private_key_jwt_is_signed_with_the_key_and_has_a_fresh_jti_for_every_try() {
    let (es, public) = ecdsa();
    let client = format!(
        "      client_auth: {{private_key_jwt: {{key: {{file: {}}}, algorithm: ES256, key_id: k9}}}}",
        es.display()
    );
    let (issuer, process) = proving(&format!("{client}\n      revoke: {{url: revoke}}"), &[]);
    let audience = format!("{}/token", issuer.url());
    for token in assertions(&issuer, &audience) {
        verify(&signature::ECDSA_P256_SHA256_FIXED, &public, &token);
        let header = opened(&token).unwrap().0;
        assert_eq!((&header["alg"], &header["kid"]), (&json!("ES256"), &json!("k9")));
    }
    process.ready();
    process.stop();
    // Other endpoints get an assertion of their own, for the same audience.
    let last = issuer.asks().pop().unwrap();
    assert_eq!((last.path.as_str(), &*last.form()["token_type_hint"]), ("/revoke", "access_token"));
    assert_eq!(claims(&last.form()["client_assertion"])["aud"], audience);
}

#[test]
fn without_a_refresh_token_the_access_token_is_withdrawn() {
    let issuer = Scripted::run(|_, _| issued(600));
    let yaml = format!(
        "
tokens:
  api:
    oauth2:
      token_url: {url}/token
      grant: password
      client_id: me
      username: ada
      password: {{env: KEY}}
      revoke: {{url: revoke}}
routes: [{{upstream: '{url}', inject: {{Authorization: 'Bearer ${{api}}'}}}}]",
        url = issuer.url()
    );
    let process = start(&yaml, &[("KEY", "x")]);
    let field = authorization(&issuer, &process);
    process.stop();
    let last = issuer.asks().pop().unwrap().form();
    assert_eq!(last["token_type_hint"], "access_token");
    assert_eq!(format!("Bearer {}", last["token"]), field);
}

#[test]
fn client_secret_jwt_is_signed_with_the_secret_for_the_audience_that_is_set() {
    let client = "      client_secret: {env: SECRET}
      client_auth: {client_secret_jwt: {audience: https://issuer.example, lifetime: 30s}}";
    let (issuer, process) = proving(client, &[("SECRET", "top secret")]);
    for token in assertions(&issuer, "https://issuer.example") {
        verify_hmac("top secret", &token);
    }
    assert!(!process.log().contains("top secret"));
}

#[test]
fn an_assertion_is_read_anew_for_every_try_and_never_sent_after_its_end() {
    let path = file("assertion", &ready_made("over", -5));
    let issuer = Scripted::run(|_, _| issued(2));
    let yaml = format!(
        "
tokens:
  api:
    oauth2: {{token_url: '{url}/token', client_auth: {{assertion: {{file: {}}}}}}}
routes: [{{upstream: '{url}'}}]",
        path.display(),
        url = issuer.url()
    );
    let process = start(&yaml, &[]);
    eventually(|| process.log().contains("time is over"), || process.log());
    assert_eq!(issuer.asks().len(), 0);
    let names = || -> Vec<String> {
        let form = |ask: &Ask| ask.form()["client_assertion"].clone();
        issuer.asks().iter().map(|ask| claims(&form(ask))["sub"].to_string()).collect()
    };
    for name in ["first", "second"] {
        replace(&path, &ready_made(name, 3600));
        eventually(|| names().contains(&format!("\"{name}\"")), || process.log());
    }
    assert!(!names().contains(&"\"over\"".to_owned()), "{:?}", names());
}
