//! The kinds of tokens and the clients' proofs, each against a script.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{self, EcdsaKeyPair, KeyPair, RsaKeyPair, UnparsedPublicKey};
use serde_json::{Value, json};

use crate::doubles::scripted::Scripted;
use crate::doubles::{Double, Reply, jwt, opened, unique, unix};
use crate::support::{Process, eventually, file};

pub(crate) const RSA: &str = include_str!("fixtures/rsa.pem");

/// An API that takes any credential.
fn api() -> Double<Scripted> {
    Scripted::run(|_, _| Reply::json(200, &json!({})))
}

/// A token endpoint without failures.
pub(crate) fn issued(seconds: u64) -> Reply {
    let body = json!({
        "access_token": unique("t"), "token_type": "Bearer", "expires_in": seconds,
    });
    Reply::json(200, &body)
}

pub(crate) fn start(yaml: &str, environment: &[(&str, &str)]) -> Process {
    Process::start(&file("kinds.yaml", yaml), environment)
}

/// What `Authorization` an API has got last.
pub(crate) fn authorization(api: &Double<Scripted>, process: &Process) -> String {
    assert_eq!(process.client().get("/").status(), 200, "{}", process.log());
    api.asks().last().unwrap().head.one("authorization")
}

pub(crate) fn claims(token: &str) -> Value {
    opened(token).unwrap_or_else(|| panic!("no JWT: {token}")).1
}

pub(crate) fn ecdsa() -> (PathBuf, Vec<u8>) {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let own = EcdsaKeyPair::from_pkcs8(
        &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        &pair.serialize_der(),
        &ring::rand::SystemRandom::new(),
    );
    let public = own.unwrap().public_key().as_ref().to_vec();
    (file("es.pem", &pair.serialize_pem()), public)
}

pub(crate) fn rsa_public() -> Vec<u8> {
    // Behind the explanation and the first line, before the last.
    let body: String = RSA.lines().skip(2).filter(|line| !line.starts_with('-')).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(body).unwrap();
    RsaKeyPair::from_pkcs8(&der).unwrap().public().as_ref().to_vec()
}

pub(crate) fn verify(
    algorithm: &'static dyn signature::VerificationAlgorithm,
    key: &[u8],
    token: &str,
) {
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    UnparsedPublicKey::new(algorithm, key).verify(message.as_bytes(), &signature).unwrap();
}

pub(crate) fn verify_hmac(key: &str, token: &str) {
    let (message, signature) = token.rsplit_once('.').unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.as_bytes());
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    ring::hmac::verify(&key, message.as_bytes(), &signature).unwrap();
}

#[test]
fn a_jwt_is_signed_so_that_its_key_verifies_it_and_renewed_before_its_end() {
    let (es, es_public) = ecdsa();
    let (rs, hs) = (file("rs.pem", RSA), file("hs", "shared secret\n"));
    for (algorithm, key) in [("HS256", &hs), ("RS256", &rs), ("ES256", &es)] {
        let api = api();
        let yaml = format!(
            "
tokens:
  own:
    jwt:
      algorithm: {algorithm}
      key: {{file: {}}}
      header: {{typ: at+jwt, kid: k1}}
      claims: {{iss: me, nested: {{n: 7, list: [1, a]}}, nbf: '${{now-10s|unix}}'}}
      lifetime: 2s
routes: [{{upstream: '{}', inject: {{Authorization: 'Bearer ${{own}}'}}}}]",
            key.display(),
            api.url()
        );
        let process = start(&yaml, &[]);
        let field = authorization(&api, &process);
        let token = field.strip_prefix("Bearer ").unwrap();
        match algorithm {
            "HS256" => verify_hmac("shared secret", token),
            "RS256" => verify(&signature::RSA_PKCS1_2048_8192_SHA256, &rsa_public(), token),
            _ => verify(&signature::ECDSA_P256_SHA256_FIXED, &es_public, token),
        }
        let (header, claims) = opened(token).unwrap();
        assert_eq!(header, json!({ "alg": algorithm, "typ": "at+jwt", "kid": "k1" }));
        assert_eq!(claims["nested"], json!({ "n": 7, "list": [1, "a"] }));
        let (iat, exp) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
        assert_eq!((exp - iat, claims["nbf"].as_u64().unwrap() + 10), (2, iat));
        let seen = || {
            let field = authorization(&api, &process);
            self::claims(field.strip_prefix("Bearer ").unwrap())["iat"].as_u64().unwrap()
        };
        eventually(|| seen() > iat, || process.log());
    }
}

/// A child token of two seconds whose request carries a signed parent.
fn chained(issuer: &Double<Scripted>, fresh: bool) -> Process {
    let yaml = format!(
        "
tokens:
  signed:
    jwt:
      algorithm: HS256
      key: {{env: KEY}}
      claims: {{iss: me, jti: '${{uuid}}'}}
      lifetime: 10m
      fresh_per_use: {fresh}
  child:
    http:
      acquire: {{url: '{url}/token', form: {{assertion: '${{signed}}'}}}}
      value: /access_token
      expiry: [{{seconds: /expires_in}}]
routes: [{{upstream: '{url}', inject: {{Authorization: 'Bearer ${{child}}'}}}}]",
        url = issuer.url()
    );
    start(&yaml, &[("KEY", "shared secret")])
}

#[test]
fn a_token_that_is_fresh_per_use_is_signed_anew_for_every_request_and_others_are_not() {
    for fresh in [true, false] {
        let issuer = Scripted::run(|_, _| issued(1));
        let process = chained(&issuer, fresh);
        eventually(|| issuer.asks().len() >= 3, || process.log());
        let assertions: Vec<String> =
            issuer.asks().iter().map(|ask| ask.form()["assertion"].clone()).collect();
        for assertion in &assertions {
            verify_hmac("shared secret", assertion);
        }
        let ids: std::collections::BTreeSet<String> =
            assertions.iter().map(|token| claims(token)["jti"].to_string()).collect();
        assert_eq!(ids.len(), if fresh { assertions.len() } else { 1 }, "{ids:?}");
    }
}

#[test]
fn blaming_a_token_that_no_request_is_made_from_is_a_mistake_with_its_line() {
    let yaml = "
tokens:
  parent: {value: {from: {env: KEY}}}
  child:
    http:
      acquire: {url: 'https://issuer.example/token'}
      value: /access_token
      parent_fault: [{status: [401], renew: parent}]
routes: [{upstream: 'https://api.example'}]";
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_bearerd"))
        .args(["check", "--config"])
        .arg(file("blame.yaml", yaml))
        .env("KEY", "x")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{errors}");
    assert!(errors.contains(":5:5: ") && errors.contains("`renew: parent`"), "{errors}");
}

pub(crate) fn ready_made(name: &str, seconds: i64) -> String {
    let exp = i64::try_from(unix()).unwrap() + seconds;
    jwt(&json!({ "alg": "RS256" }), &json!({ "sub": name, "exp": exp, "iat": exp - 7200 }))
}

/// As Kubernetes replaces a projected file.
pub(crate) fn replace(path: &Path, content: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, content).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

#[test]
fn a_value_is_read_again_and_the_last_good_one_is_kept() {
    let path = file("value", "first-value\n");
    let api = api();
    let yaml = format!(
        "
tokens: {{key: {{value: {{from: {{file: {}}}, every: 1s}}}}}}
routes: [{{upstream: '{}', inject: {{Authorization: 'Key ${{key}}'}}}}]",
        path.display(),
        api.url()
    );
    let process = start(&yaml, &[]);
    assert_eq!(authorization(&api, &process), "Key first-value");
    replace(&path, "second-value\n");
    eventually(|| authorization(&api, &process) == "Key second-value", || process.log());
    // Bad content and none at all change nothing.
    for bad in ["two\nlines", ""] {
        let before = process.metric("bearerd_token_refresh_total");
        replace(&path, bad);
        let looked = || process.metric("bearerd_token_refresh_total") > before;
        eventually(looked, || process.log());
        assert_eq!(authorization(&api, &process), "Key second-value");
    }
    std::fs::remove_file(&path).unwrap();
    let before = process.metric("bearerd_token_refresh_total");
    eventually(|| process.metric("bearerd_token_refresh_total") > before, || process.log());
    assert_eq!(authorization(&api, &process), "Key second-value");
    let told = process.log().matches("keep the secret").count();
    assert!(told <= 1, "it is told once, not at every look: {}", process.log());
    replace(&path, "third-value");
    eventually(|| authorization(&api, &process) == "Key third-value", || process.log());
}

#[test]
fn a_rejected_value_is_read_again_at_once() {
    let path = file("rotated", "old-value");
    let api = Scripted::run(|ask, _| match ask.head.one("authorization").as_str() {
        "Key new-value" => Reply::json(200, &json!({})),
        _ => Reply::empty(401),
    });
    let yaml = format!(
        "
tokens: {{key: {{value: {{from: {{file: {}}}, every: 1h}}}}}}
routes: [{{upstream: '{}', inject: {{Authorization: 'Key ${{key}}'}}}}]",
        path.display(),
        api.url()
    );
    let process = start(&yaml, &[]);
    process.ready();
    replace(&path, "new-value");
    assert_eq!(authorization(&api, &process), "Key new-value");
    assert_eq!(api.asks().len(), 2);
}

#[test]
fn a_value_that_is_a_jwt_is_never_sent_after_its_end() {
    let path = file("jwt", &ready_made("over", -1));
    let api = api();
    let yaml = format!(
        "
token_wait: 100ms
tokens: {{sa: {{value: {{from: {{file: {}}}, every: 1s}}}}}}
routes: [{{upstream: '{}', inject: {{Authorization: 'Bearer ${{sa}}'}}}}]",
        path.display(),
        api.url()
    );
    let process = start(&yaml, &[]);
    eventually(|| process.log().contains("time is over"), || process.log());
    assert_eq!(process.client().get("/").refusal(), "no-token");
    replace(&path, &ready_made("short", 4));
    eventually(|| process.client().get("/").status() == 200, || process.log());
    // It ends, nobody replaces it: it is sent no more.
    eventually(|| process.client().get("/").refusal() == "no-token", || process.log());
    replace(&path, &ready_made("next", 3600));
    eventually(|| process.client().get("/").status() == 200, || process.log());
    let names: Vec<String> = api
        .asks()
        .iter()
        .map(|ask| claims(&ask.authorization("bearer").unwrap())["sub"].to_string())
        .collect();
    assert!(names.iter().all(|name| name != "\"over\""), "{names:?}");
}

#[test]
fn a_child_waits_for_its_parents_first_value_and_then_does_not_wait_any_longer() {
    let up = Arc::new(AtomicBool::new(false));
    let (is_up, order) = (Arc::clone(&up), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&order);
    let issuer = Scripted::run(move |ask, _| {
        seen.lock().unwrap().push(ask.path.clone());
        match (ask.path.as_str(), is_up.load(Ordering::Relaxed)) {
            ("/parent", false) => Reply::empty(503),
            ("/child", _) => {
                assert!(ask.form()["by"].starts_with('t'), "{ask:?}");
                issued(600)
            }
            _ => issued(600),
        }
    });
    let yaml = format!(
        "
tokens:
  child:
    http:
      acquire: {{url: '{url}/child', form: {{by: '${{parent}}'}}}}
      value: /access_token
  parent:
    http: {{acquire: {{url: '{url}/parent'}}, value: /access_token}}
routes: [{{upstream: '{url}', inject: {{Authorization: 'Bearer ${{child}}'}}}}]",
        url = issuer.url()
    );
    let process = start(&yaml, &[]);
    eventually(|| issuer.asks().len() >= 2, || process.log());
    assert!(order.lock().unwrap().iter().all(|path| path == "/parent"));
    up.store(true, Ordering::Relaxed);
    // Woken by the parent, not by a clock.
    process.ready();
    let asks = order.lock().unwrap().clone();
    assert_eq!(asks.iter().filter(|path| *path == "/child").count(), 1, "{asks:?}");
    assert_eq!(asks.last().map(String::as_str), Some("/child"));
}
