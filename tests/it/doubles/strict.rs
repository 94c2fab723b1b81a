//! The doubles refuse what the real systems refuse; a lenient one would prove nothing.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::caepe::Caepe;
use super::educates::{self, Portal};
use super::keycloak::{self, Keycloak, REALM};
use super::lxhive::{Lrs, SUPER, Version};
use super::sunbird::{APP, Sunbird, Words};
use super::{Double, System};
use crate::support::{Answer, Client};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";
const JSON: &str = "Content-Type: application/json";
const TEN_MINUTES: Duration = Duration::from_secs(600);

fn ask<S: System>(double: &Double<S>, start: &str, fields: &[&str], body: &str) -> Answer {
    let (start, length) = (format!("{start} HTTP/1.1"), format!("Content-Length: {}", body.len()));
    let mut lines = vec![start.as_str(), "Host: double", &length];
    lines.extend(fields);
    let mut client = Client::connect(double.address());
    client.request(&lines).send(body).answer()
}

/// Status and the text at a pointer of the JSON body.
fn told(answer: &Answer, pointer: &str) -> (u16, String) {
    let json: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    let text = json.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    (answer.status(), text.to_owned())
}

fn basic(id: &str, secret: &str) -> String {
    format!("Authorization: Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

fn member(answer: &Answer, name: &str) -> String {
    let json: Value = serde_json::from_slice(&answer.body).unwrap();
    json[name].as_str().unwrap().to_owned()
}

#[test]
fn educates() {
    let double = Double::start(Portal::new(TEN_MINUTES));
    let client = basic("robot%2Bclient", "s3cret%25%2B%2F%3Ax");
    let login = "grant_type=password&username=robot%40educates&password=pass+word%26more";
    let token = |target: &str, fields: &[&str], body: &str| {
        let answer = ask(&double, &format!("POST {target}"), fields, body);
        told(&answer, "/error")
    };
    let (path, raw) = ("/oauth2/token/", basic(educates::CLIENT.0, educates::CLIENT.1));
    let is = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(token("/oauth2/token", &[FORM, &client], login), is(301, ""));
    assert_eq!(ask(&double, "GET /oauth2/token/", &[], "").status(), 405);
    assert_eq!(token(&format!("{path}?a=b"), &[FORM, &client], login), is(400, "invalid_request"));
    assert_eq!(token(path, &[JSON, &client], "{}"), is(400, "unsupported_grant_type"));
    assert_eq!(token(path, &[FORM], login), is(401, "invalid_client"));
    assert_eq!(token(path, &[FORM, &raw], login), is(401, "invalid_client"), "not form-encoded");
    let machine = "grant_type=client_credentials";
    assert_eq!(token(path, &[FORM, &client], machine), is(400, "unauthorized_client"));
    let wide = format!("{login}&scope=admin");
    assert_eq!(token(path, &[FORM, &client], &wide), is(400, "invalid_scope"));
    let wrong = login.replace("pass+word", "pass+w0rd");
    assert_eq!(token(path, &[FORM, &client], &wrong), is(400, "invalid_grant"));

    let granted = ask(&double, "POST /oauth2/token/", &[FORM, &client], login);
    let (access, refresh) = (member(&granted, "access_token"), member(&granted, "refresh_token"));
    let sessions = |access: &str| {
        let answer = ask(&double, &format!("GET /s/?access_token={access}"), &[], "");
        (answer.status(), answer.body.len())
    };
    assert_eq!(sessions(&access).0, 200, "by the query too");
    let body = format!("grant_type=refresh_token&refresh_token={refresh}");
    assert_eq!(token(path, &[FORM, &client], &body), is(200, ""));
    assert_eq!(sessions(&access), (403, 0), "rotation ends the access token at once");
    assert_eq!(token(path, &[FORM, &client], &body), is(400, "invalid_grant"));

    let granted = ask(&double, "POST /oauth2/token/", &[FORM, &client], login);
    let (access, refresh) = (member(&granted, "access_token"), member(&granted, "refresh_token"));
    let revoke = |token: &str| {
        let body = format!("token={token}");
        ask(&double, "POST /oauth2/revoke-token/", &[FORM, &client], &body).status()
    };
    assert_eq!((revoke(&access), revoke("unknown")), (200, 200));
    let body = format!("grant_type=refresh_token&refresh_token={refresh}");
    for _ in 0..2 {
        assert_eq!(token(path, &[FORM, &client], &body), is(500, ""), "for ever");
    }
}

#[test]
fn lxhive() {
    let version = "X-Experience-API-Version: 1.0.3";
    let owner = basic(SUPER.0, SUPER.1);
    let make = |scopes: &Value| {
        let user = json!({ "email": "a@b", "permissions": ["all", "statements/read"] });
        json!({ "user": user, "scopes": scopes, "expiresAt": super::unix() + 600 }).to_string()
    };
    let good = make(&json!(["all"]));
    for (kind, bare, denied) in [(Version::V09, 400, 200), (Version::V010, 200, 401)] {
        let double = Double::start(Lrs::new(kind, 1));
        let tokens = |fields: &[&str], body: &str| {
            told(&ask(&double, "POST /auth/tokens", fields, body), "/message")
        };
        assert_eq!(tokens(&[&owner, JSON], &good).0, bare, "0.9 wants its header here too");
        assert_eq!(tokens(&[version, JSON], &good), (401, "Credentials invalid!".into()));
        assert_eq!(tokens(&[version, &owner, JSON], "{}").0, 400);
        assert_eq!(tokens(&[version, &owner, JSON], &make(&json!(["super"]))).0, 400);
        assert_eq!(tokens(&[version, &owner, JSON], &make(&json!(["state"]))).0, 400);
        let made = ask(&double, "POST /auth/tokens", &[version, &owner, JSON], &good);
        let own = basic(&member(&made, "key"), &member(&made, "secret"));
        let read = |fields: &[&str]| ask(&double, "GET /statements", fields, "").status();
        assert_eq!(read(&[&own]), 400);
        assert_eq!(read(&[&own, version]), denied, "the scope `all` is not enough in 0.10");
        assert_eq!(read(&[version]), 401);
    }
}

#[test]
fn keycloak_and_caepe() {
    let double = Arc::new(Double::start(Keycloak::new(TEN_MINUTES).revoking()));
    let token = |fields: &[&str], body: &str| {
        told(&ask(&*double, &format!("POST {REALM}/token"), fields, body), "/error")
    };
    let is = |status: u16, code: &str| (status, code.to_owned());
    let login = "client_id=cape-client&grant_type=password&username=ada&password=correct+horse";
    assert_eq!(token(&[JSON], "{}").0, 415);
    assert_eq!(token(&[FORM], "client_id=cape-client"), is(400, "invalid_request"));
    assert_eq!(token(&[FORM], &login[22..]), is(400, "invalid_client"));
    assert_eq!(token(&[FORM], &login.replace("cape-", "other-")), is(401, "invalid_client"));
    assert_eq!(token(&[FORM], &login.replace("horse", "cow")), is(401, "invalid_grant"));
    let machine = "grant_type=client_credentials&client_id=";
    assert_eq!(token(&[FORM], &format!("{machine}cape-client")), is(401, "unauthorized_client"));
    assert_eq!(token(&[FORM], &format!("{machine}service")), is(401, "unauthorized_client"));
    let raw = basic(keycloak::SERVICE.0, keycloak::SERVICE.1);
    let body = "grant_type=client_credentials";
    assert_eq!(token(&[FORM, &raw], body), is(401, "unauthorized_client"), "not form-encoded");

    let granted = ask(&*double, &format!("POST {REALM}/token"), &[FORM], login);
    let (access, refresh) = (member(&granted, "access_token"), member(&granted, "refresh_token"));
    let body = format!("client_id=cape-client&grant_type=refresh_token&refresh_token={refresh}");
    double.with(|keycloak| assert_eq!(keycloak.most_uses_of_a_refresh_token(), 0));
    let cut = std::panic::catch_unwind(|| token(&[FORM], &body));
    assert!(cut.is_err(), "the first answer to a refresh is cut off");
    assert_eq!(token(&[FORM], &body), is(400, "invalid_grant"), "sent twice");

    let api = Double::start(Caepe::new(&double));
    let bearer = format!("Authorization: Bearer {access}");
    let get = |fields: &[&str]| ask(&api, "GET /api/x", fields, "").status();
    assert_eq!(get(&["Organization: acme"]), 401);
    assert_eq!((get(&[&bearer]), get(&[&bearer, "Organization: other"])), (400, 403));
    assert_eq!(get(&[&bearer, "Organization: acme"]), 200, "tokens that are out go on");
    let post = ask(&api, "POST /api/x", &[&bearer, "Organization: acme", JSON], "{}");
    assert_eq!(post.status(), 415);
}

#[test]
fn sunbird() {
    let login = Arc::new(Double::start(Keycloak::new(TEN_MINUTES)));
    let double = Double::start(Sunbird::new(&login, Words::NotFound, TEN_MINUTES));
    let app = |claims: &Value, key: &str| {
        use base64::engine::general_purpose::URL_SAFE_NO_PAD as URL;
        let header = json!({ "alg": "HS256", "typ": "JWT" }).to_string();
        let message = format!("{}.{}", URL.encode(header), URL.encode(claims.to_string()));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.as_bytes());
        let signature = URL.encode(ring::hmac::sign(&key, message.as_bytes()));
        format!("Authorization: Bearer {message}.{signature}")
    };
    let path = "POST /api/api-manager/v2/consumer/mobile_device/credential/register";
    let body = |key: &str| {
        json!({ "id": "r", "ver": "1.0", "ts": "t", "request": { "key": key } }).to_string()
    };
    let own = app(&json!({ "iss": APP.0 }), APP.1);
    let register = |fields: &[&str], body: &str| ask(&double, path, fields, body);
    let message = |fields: &[&str]| told(&register(fields, &body("device")), "/message");
    assert_eq!(message(&[JSON]), (401, "Unauthorized".into()));
    let foreign = app(&json!({ "iss": "x" }), APP.1);
    assert_eq!(message(&[JSON, &foreign]), (403, "No credentials found for given 'iss'".into()));
    let forged = app(&json!({ "iss": APP.0 }), "other");
    assert_eq!(message(&[JSON, &forged]), (403, "Invalid signature".into()));
    assert_eq!(register(&[FORM, &own], &body("device")).status(), 415);
    for key in ["", "a b", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"] {
        let answer = register(&[JSON, &own], &body(key));
        assert_eq!(told(&answer, "/params/err"), (400, "BAD_REQUEST".into()), "{key}");
    }
    let answer = register(&[JSON, &own], &body("device"));
    let json: Value = serde_json::from_slice(&answer.body).unwrap();
    let (_, claims) = super::opened(json["result"]["token"].as_str().unwrap()).unwrap();
    assert_eq!((&claims["iss"], claims.get("exp")), (&json!("device"), None));
    let device = format!("Authorization: Bearer {}", json["result"]["token"].as_str().unwrap());
    let refresh = |fields: &[&str], body: &str| {
        told(&ask(&double, "POST /auth/v1/refresh/token", fields, body), "/params/err")
    };
    assert_eq!(refresh(&[FORM, &own], "refresh_token=x").0, 403, "the app may not");
    assert_eq!(refresh(&[JSON, &device], "{}").0, 415);
    assert_eq!(refresh(&[FORM, &device], "refresh_token=x").0, 500);
    let unknown = format!("refresh_token={}", super::jwt(&json!({}), &json!({})));
    assert_eq!(refresh(&[FORM, &device], &unknown), (400, "invalid_grant".into()));
    let service = ask(&double, "GET /api/x", &[&device], "");
    assert_eq!(told(&service, "/params/err"), (401, "UNAUTHORIZED_USER".into()));
}
