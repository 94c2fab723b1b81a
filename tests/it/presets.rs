//! What `bearerd init` writes for each provider: `check` takes it, and for Google, whose exchange
//! is none of the usual ones, a strict double gives tokens for it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::json;

use crate::doubles::Double;
use crate::doubles::google::{AUDIENCE, EMAIL, Google, KEY_ID, SCOPE};
use crate::kinds::{RSA, rsa_public};
use crate::support::{Place, Process, Upstream, eventually};

fn bearerd(place: &Place, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bearerd"));
    command.args(arguments).current_dir(place.path()).env_clear();
    command.output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

fn private_key() -> String {
    RSA.lines().skip(1).map(|line| format!("{line}\n")).collect()
}

/// A key file as Google hands it out.
fn account(place: &Place, token_url: &str) {
    let key = json!({
        "type": "service_account",
        "project_id": "acme",
        "private_key_id": KEY_ID,
        "private_key": private_key(),
        "client_email": EMAIL,
        "client_id": "1024",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": token_url,
        "universe_domain": "googleapis.com",
    });
    fs::write(place.path().join("account.json"), key.to_string()).unwrap();
}

#[test]
fn check_takes_what_every_preset_writes_with_every_grant() {
    let place = Place::new();
    account(&place, "https://oauth2.googleapis.com/token");
    for name in ["secret", "password", "first"] {
        let path = place.path().join(name);
        fs::write(&path, "x".repeat(20)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let client = ["--token-url", "https://idp.example.com/t", "--client-id", "billing"];
    let with_secret = [client.as_slice(), &["--client-secret-file", "secret"]].concat();
    let public = [client.as_slice(), &["--public-client"]].concat();
    let password =
        ["--grant", "password", "--username", "joe", "--password-file", "password"].as_slice();
    let refresh = ["--grant", "refresh-token", "--refresh-token-file", "first"].as_slice();
    let mut variants = Vec::new();
    for provider in ["generic", "keycloak", "auth0", "entra", "okta", "django-oauth-toolkit"] {
        for (client, grant) in [
            (&with_secret, [].as_slice()),
            (&with_secret, password),
            (&public, password),
            (&with_secret, refresh),
            (&public, refresh),
        ] {
            let both = ["--scope", "billing.read", "--audience", "https://api.example.com"];
            variants.push([&["--provider", provider], client.as_slice(), grant, &both].concat());
        }
    }
    for wanted in [["--scope", SCOPE], ["--audience", AUDIENCE]] {
        let google = ["--provider", "google", "--service-account-file", "account.json"];
        variants.push([google.as_slice(), &wanted].concat());
    }
    for variant in variants {
        let end = ["--upstream", "https://api.example.com", "--force"];
        let written = bearerd(&place, &[&["init"], variant.as_slice(), &end].concat());
        assert!(written.status.success(), "{variant:?}: {}", told(&written));
        let check = bearerd(&place, &["check", "--config", "bearerd.yaml"]);
        assert!(check.status.success(), "{variant:?}: {}", told(&check));
        assert!(!told(&check).contains("warning"), "{variant:?}: {}", told(&check));
    }
    // A provider that is not here has not been looked at.
    let help = told(&bearerd(&place, &["init", "--help"]));
    let listed = help.split("Possible values:").nth(1).unwrap().split("[default").next().unwrap();
    assert_eq!(listed.matches("\n          - ").count(), 7, "{help}");
}

fn init_google(place: &Place, upstream: &str, wanted: [&str; 2]) -> String {
    let google = ["init", "--provider", "google", "--service-account-file", "account.json"];
    let written = bearerd(place, &[google.as_slice(), &["--upstream", upstream], &wanted].concat());
    assert!(written.status.success(), "{}", told(&written));
    told(&written)
}

fn verify(token: &str) -> bool {
    let Some((message, signature)) = token.rsplit_once('.') else { return false };
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, rsa_public());
    key.verify(message.as_bytes(), &decoded(signature)).is_ok()
}

fn decoded(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap_or_default()
}

#[test]
fn a_google_service_account_gets_access_and_id_tokens_and_requests_carry_them() {
    for wanted in [["--scope", SCOPE], ["--audience", AUDIENCE]] {
        let (google, upstream) = (Double::start(Google::new(3, verify)), Upstream::ok());
        let place = Place::new();
        account(&place, &format!("{}/token", google.url()));
        let said = init_google(&place, &upstream.url(), wanted);
        let key = place.path().join("bearerd-service-account-key.pem");
        assert!(
            said.contains(&format!("the account's private key to {}", key.display())),
            "{said}"
        );
        assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let config = place.path().join("bearerd.yaml");
        assert_holds_no_key(&said);
        assert_holds_no_key(&fs::read_to_string(&config).unwrap());
        // Not what Google's own file is needed for any more.
        fs::remove_file(place.path().join("account.json")).unwrap();
        let process = Process::start(&config, &[]);
        process.ready();
        // Renewed more than once: each request to the issuer has an assertion of its own time.
        eventually(|| google.with(|g| g.issued.len()) > 2, || process.log());
        assert_eq!(process.client().get("/").status(), 200);
        let sent = upstream.request().head.one("authorization");
        let token = sent.strip_prefix("Bearer ").unwrap().to_owned();
        google.with(|g| assert!(g.issued.contains(&token), "{sent}"));
        google.with(|g| assert_eq!(g.refused, Vec::<String>::new()));
        assert_holds_no_key(&process.stop());
    }
}

fn assert_holds_no_key(text: &str) {
    for line in private_key().lines() {
        assert!(!text.contains(line), "{text}");
    }
}

#[test]
fn what_google_refuses_is_told_in_its_words() {
    let google = Double::start(Google::new(3, |_| false));
    let place = Place::new();
    account(&place, &format!("{}/token", google.url()));
    init_google(&place, "https://api.example.com", ["--scope", SCOPE]);
    let output = bearerd(&place, &["token", "api", "--config", "bearerd.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(told(&output).contains("Invalid JWT Signature."), "{}", told(&output));
}

#[test]
fn what_is_no_service_accounts_key_or_belongs_to_others_is_refused_and_not_shown() {
    let place = Place::new();
    let write = |content: &str| fs::write(place.path().join("account.json"), content).unwrap();
    let google =
        ["init", "--provider", "google", "--service-account-file", "account.json", "--scope", "s"];
    let init = |more: &[&str]| {
        let upstream = ["--upstream", "https://api.example.com"];
        bearerd(&place, &[google.as_slice(), &upstream, more].concat())
    };
    for (content, says) in [
        ("canary, not JSON", "is not the key of a service account"),
        (r#"{"type": "service_account", "private_key": "canary"}"#, "is not the key of a"),
        (
            r#"{"type": "authorized_user", "client_email": "a", "private_key_id": "b", "private_key": "canary", "token_uri": "https://a.example/t"}"#,
            "is a `authorized_user`, not a `service_account`",
        ),
        (
            r#"{"type": "service_account", "client_email": "a", "private_key_id": "b", "private_key": "canary", "token_uri": "http://a.example/t"}"#,
            "plain text",
        ),
        ("", "is empty"),
    ] {
        write(content);
        let output = init(&[]);
        assert!(!output.status.success());
        assert!(told(&output).contains(says), "{content}: {}", told(&output));
        assert!(!told(&output).contains("canary"), "{}", told(&output));
    }
    account(&place, "https://oauth2.googleapis.com/token");
    let output = init(&["--client-id", "x", "--grant", "password", "--audience", "y"]);
    assert_eq!(output.status.code(), Some(64));
    for says in ["--client-id is not for", "--grant is not for", "--audience asks for an ID token"]
    {
        assert!(told(&output).contains(says), "{}", told(&output));
    }
    let output = bearerd(&place, &["init", "--service-account-file", "account.json"]);
    assert!(told(&output).contains("is for --provider google alone"), "{}", told(&output));
    let left: Vec<_> = fs::read_dir(place.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(left, [Path::new(place.path()).join("account.json")], "nothing is left behind");
}
