//! The command line, run as its user would: exit codes, messages, the file's mistakes.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

fn bearerd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bearerd"))
        .args(arguments)
        .env_remove("BEARERD_CONFIG")
        .env("STATIC_API_KEY", "static-canary")
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A directory of this test alone.
fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{name}"));
    fs::create_dir_all(&path).unwrap();
    path
}

fn file(name: &str, text: &str) -> String {
    let path = directory(name).join("bearerd.yaml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn check(name: &str, yaml: &str) -> (Option<i32>, String) {
    let output = bearerd(&["check", "--config", &file(name, yaml)]);
    (output.status.code(), stderr(&output))
}

const ROUTES: &str = "routes:\n  - upstream: https://api.example.com\n";

#[test]
fn every_mistake_exits_64_with_its_place_and_a_hint_and_no_secret() {
    for (name, yaml, place, says) in [
        ("unknown-key", format!("toekn_wait: 5s\n{ROUTES}"), ":1:1: ", "did you mean `token_wait`"),
        ("no-unit", format!("token_wait: 5\n{ROUTES}"), ":1:13: ", "with a unit"),
        ("wrong-type", "routes: 5\n".to_owned(), ":1:9: ", "list"),
        (
            "unknown-kind",
            format!("tokens:\n  api:\n    oauth3: {{}}\n{ROUTES}"),
            ":3:5: ",
            "`oauth2`, `http`, `jwt`, `value`",
        ),
        (
            "two-kinds",
            format!(
                "tokens:\n  api:\n    value: {{from: {{env: HOME}}}}\n    jwt: {{algorithm: HS256, key: {{env: HOME}}, claims: {{}}}}\n{ROUTES}"
            ),
            ":4:5: ",
            "one of `oauth2`",
        ),
        (
            "missing-reference",
            "tokens:\n  api: {value: {from: {env: HOME}}}\nroutes:\n  - upstream: https://a.example\n    inject: {Authorization: 'Bearer ${apo}'}\n".to_owned(),
            ":5:29: ",
            "did you mean `api`",
        ),
        (
            "inline-secret",
            format!(
                "tokens:\n  api:\n    oauth2: {{token_url: https://a.example, client_id: x, client_secret: hunter2}}\n{ROUTES}"
            ),
            ":3:",
            "{file: PATH}",
        ),
        (
            "inline-secret-in-a-map",
            format!("tokens:\n  api: {{value: {{from: {{vaule: hunter2}}}}}}\n{ROUTES}"),
            ":2:",
            "`file` or `env`",
        ),
        (
            "unreadable-secret",
            format!("tokens:\n  api: {{value: {{from: {{file: /nowhere/secret}}}}}}\n{ROUTES}"),
            ":2:23: ",
            "/nowhere/secret",
        ),
        (
            "password-in-url",
            "routes:\n  - upstream: https://me:hunter2@a.example\n".to_owned(),
            ":2:15: ",
            "must not hold",
        ),
        (
            "plain-http",
            "routes:\n  - upstream: http://a.example\n".to_owned(),
            ":2:15: ",
            "plaintext: true",
        ),
        (
            "nothing-through",
            format!("limits:\n  head: 0s\n  head_size: 0\n  connections: 0\n{ROUTES}"),
            ":4:16: ",
            "zero would let nothing through",
        ),
        (
            "no-time-for-an-attempt",
            format!(
                "tokens:\n  api:\n    oauth2:\n      token_url: https://a.example\n      client_id: x\n      client_secret: {{env: HOME}}\n      renew: {{timeout: 0s}}\n{ROUTES}"
            ),
            ":7:24: ",
            "write a large one",
        ),
        (
            "no-ca-of-an-upstream",
            "routes:\n  - upstream: https://a.example\n    tls: {ca_file: /nowhere/ca.pem}\n".to_owned(),
            ":3:20: ",
            "/nowhere/ca.pem",
        ),
        (
            "half-an-identity",
            "routes:\n  - upstream: https://a.example\n    tls: {cert_file: /nowhere/a.pem}\n".to_owned(),
            ":3:22: ",
            "write both",
        ),
        (
            "half-an-identity-for-redis",
            format!(
                "tokens:\n  api:\n    oauth2:\n      token_url: https://a.example\n      client_id: x\n      client_secret: {{env: HOME}}\n      state: {{redis: {{url: 'rediss://cache', key: {{env: PATH}}, tls: {{cert_file: /nowhere/a.pem}}}}}}\n{ROUTES}"
            ),
            ":7:81: ",
            "write both",
        ),
        (
            "tls-with-a-redis-without",
            format!(
                "tokens:\n  api:\n    oauth2:\n      token_url: https://a.example\n      client_id: x\n      client_secret: {{env: HOME}}\n      state: {{redis: {{url: 'redis://cache', key: {{env: PATH}}, tls: {{ca_file: /nowhere/a.pem}}}}}}\n{ROUTES}"
            ),
            ":7:78: ",
            "no TLS is spoken",
        ),
        (
            "two-places-of-state",
            format!(
                "tokens:\n  api:\n    oauth2:\n      token_url: https://a.example\n      client_id: x\n      client_secret: {{env: HOME}}\n      state: {{file: /a, redis: {{url: 'redis://a', key: {{env: HOME}}}}}}\n{ROUTES}"
            ),
            ":7:25: ",
            "`redis` for its `state`",
        ),
        (
            "unset-variable",
            "routes:\n  - upstream: https://${env.BEARERD_TEST_UNSET}/\n".to_owned(),
            ":2:15: ",
            "BEARERD_TEST_UNSET",
        ),
        ("not-yaml", "routes: [\n".to_owned(), ":", ""),
        ("not-quoted", format!("listen: systemd:\n{ROUTES}"), ":1:16: ", "in quotes"),
        ("empty", String::new(), ":1:1: ", ""),
        (
            "circle",
            format!(
                "tokens:\n  a: {{jwt: {{algorithm: HS256, key: {{env: HOME}}, claims: {{x: '${{b}}'}}}}}}\n  b: {{jwt: {{algorithm: HS256, key: {{env: HOME}}, claims: {{x: '${{a}}'}}}}}}\n{ROUTES}"
            ),
            ":2:6: ",
            "made from itself",
        ),
        (
            "inline-secret-among-the-parameters",
            format!(
                "tokens:\n  api:\n    oauth2: {{token_url: https://a.example, client_id: x, client_secret: {{env: HOME}}, params: {{client_secret: hunter2}}}}\n{ROUTES}"
            ),
            ":3:",
            "{file: PATH}",
        ),
        ("no-worker", format!("drain: 1s\nworkers: 0\n{ROUTES}"), ":2:10: ", "at least 1"),
        (
            "too-large",
            format!("{ROUTES}# {}\n", "x".repeat(1 << 20)),
            "bearerd.yaml: ",
            "the right file?",
        ),
        (
            "own-listener",
            "listen: 127.0.0.1:4180\nroutes:\n  - upstream: http://localhost:4180\n".to_owned(),
            ":3:15: ",
            "own listener",
        ),
    ] {
        let (code, text) = check(name, &yaml);
        assert_eq!(code, Some(64), "{name}: {text}");
        assert!(text.contains("bearerd.yaml") && text.contains(place), "{name}: {text}");
        assert!(text.contains(says), "{name}: {text}");
        assert!(!text.contains("hunter2"), "{name}: {text}");
    }
}

#[test]
fn a_file_in_another_encoding_is_told_with_its_place() {
    let path = file("encoding", "");
    fs::write(&path, b"drain: 1s\n# \xc3\xa9\xe9\n").unwrap();
    let output = bearerd(&["check", "--config", &path]);
    assert_eq!(output.status.code(), Some(64));
    let text = stderr(&output);
    assert!(text.contains(":2:4: ") && text.contains("hint: save the file as UTF-8"), "{text}");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let yaml = "
tokens:
  api:
    oauth2:
      token_url: http://idp.example.com/token
      client_id: billing
      client_secret: {file: /nowhere/secret}
  robot:
    oauth2: {token_url: 'https://idp.example.com/token', grant: password}
routes:
  - upstream: http://api.example.com
    inject: {Authorization: 'Bearer ${apo}', X-Org: '${api.tenant}', Host: x}
    match: {path: api}
";
    // The values of short lists, and what follows them.
    let choices = "
inspect: all
admin: nowhere
trusted_proxies: [nobody]
socket_mode: open
tokens:
  api:
    oauth2: {token_url: 'https://idp.example.com/', grant: implicit, client_id: x}
routes:
  - upstream: {url: 'https://api.example.com', protocol: h2c, addresses: [a]}
    host: mine
    navigation: maybe
    forwarded: perhaps
    inject: {X: {value: a, mode: add}}
";
    let (_, text) = check("choices", choices);
    for place in [
        "2:10", "3:8", "4:19", "5:14", "8:60", "10:58", "10:75", "11:11", "12:17", "13:16", "14:34",
    ] {
        assert!(text.contains(&format!("bearerd.yaml:{place}: ")), "{place}: {text}");
    }
    assert!(text.contains("possible here: `none`, `names`, `paths`"), "{text}");
    let (_, text) = check("all", yaml);
    for says in [
        "plain text",
        "/nowhere/secret",
        "needs `username`",
        "needs `password`",
        "named `apo`",
        "no field `tenant`",
        "`host` routes or frames",
        "`api` cannot be matched",
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
}

#[test]
fn a_file_that_is_not_there_and_one_that_is_too_large_are_refused() {
    let output = bearerd(&["check", "--config", "/nowhere/bearerd.yaml"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("/nowhere/bearerd.yaml"));
    let (code, text) = check("large", &"# x\n".repeat(300_000));
    assert_eq!(code, Some(64));
    assert!(text.contains("1 MiB"));
}

#[test]
fn run_refuses_a_bad_file_as_check_does_and_a_taken_address_with_1() {
    let output = bearerd(&["run", "--config", &file("run-bad", "routes: []\n")]);
    assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = bearerd(&["run", "--config", &file("run-taken", ROUTES), "--listen", &address]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains(&address));
}

/// The example with its secrets and its state in a directory of this name.
fn example(name: &str) -> String {
    let path = directory(name);
    for name in ["client-secret", "password", "refresh-token", "service-account-token", "caller"] {
        fs::write(path.join(name), "canary-secret").unwrap();
    }
    for name in ["store-key", "redis-password"] {
        fs::write(path.join(name), "canary-secret-of-thirty-two-letters").unwrap();
    }
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(path.join("key.pem"), key.serialize_pem()).unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["idp.example.com".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap().pem();
    for name in ["ca.pem", "clients.pem", "client.pem", "listener.pem"] {
        fs::write(path.join(name), &certificate).unwrap();
    }
    for name in ["client.key", "listener.key"] {
        fs::write(path.join(name), key.serialize_pem()).unwrap();
    }
    let path = path.to_str().unwrap();
    let example = include_str!("../../config.example.yaml");
    example.replace("/run/secrets/idp", path).replace("/var/lib/bearerd", path)
}

#[test]
fn the_example_loads_and_its_plan_shows_no_secret() {
    let output = bearerd(&["check", "--config", &file("example", &example("example-files"))]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("token api: oauth2 from https://idp.example.com/oauth2/token"), "{text}");
    assert!(!text.contains("canary"), "{text}");
}

/// Its head says so.
#[test]
fn the_example_shows_the_defaults() {
    let text = example("example-defaults").replace("STATIC_API_KEY", "PATH");
    let shown = bearerd::config::parse(&text, Default::default()).unwrap().config;
    let defaults = bearerd::config::parse(ROUTES, Default::default()).unwrap().config;
    assert_eq!(shown.limits, defaults.limits);
    assert_eq!(shown.listen.value, defaults.listen.value);
    assert_eq!(shown.admin.value, defaults.admin.value);
    assert_eq!(shown.socket_mode.value, defaults.socket_mode.value);
    assert_eq!((shown.exposed, shown.via), (defaults.exposed, defaults.via));
    assert_eq!((shown.token_wait, shown.drain), (defaults.token_wait, defaults.drain));
    assert_eq!((shown.drain_delay, shown.inspect), (defaults.drain_delay, defaults.inspect));
}

#[test]
fn the_example_names_the_schema_and_every_key() {
    let example = include_str!("../../config.example.yaml");
    assert!(example.starts_with("# yaml-language-server: $schema=deploy/bearerd.schema.json\n"));
    let schema: serde_json::Value = serde_json::from_str(&stdout(&bearerd(&["schema"]))).unwrap();
    let mut keys = Vec::new();
    properties(&schema, &mut keys);
    assert!(keys.len() > 80, "{}", keys.len());
    let missing: Vec<_> = keys.iter().filter(|key| !example.contains(&format!("{key}:"))).collect();
    assert!(missing.is_empty(), "config.example.yaml does not show {missing:?}");
}

fn properties(schema: &serde_json::Value, keys: &mut Vec<String>) {
    match schema {
        serde_json::Value::Object(members) => {
            if let Some(serde_json::Value::Object(own)) = members.get("properties") {
                keys.extend(own.keys().cloned());
            }
            members.values().for_each(|member| properties(member, keys));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| properties(item, keys)),
        _ => {}
    }
}

#[test]
fn the_schema_in_deploy_is_the_one_that_is_printed() {
    let stored = include_str!("../../deploy/bearerd.schema.json");
    assert_eq!(stdout(&bearerd(&["schema"])), stored, "run `just schema`");
}

#[test]
fn a_token_is_described_and_shown_only_if_asked() {
    let yaml = format!("tokens:\n  key: {{value: {{from: {{env: STATIC_API_KEY}}}}}}\n{ROUTES}");
    let path = file("token", &yaml);
    let output = bearerd(&["token", "key", "--config", &path]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!stdout(&output).contains("static-canary"));
    let output = bearerd(&["token", "key", "--config", &path, "--reveal"]);
    assert!(stdout(&output).contains("static-canary"));
    let output = bearerd(&["token", "kay", "--config", &path]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("did you mean `key`"), "{}", stderr(&output));
}

#[test]
fn health_of_nobody_is_1() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = bearerd(&["health", "--admin", &free.to_string()]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_short_password_that_the_issuer_quotes_is_not_shown() {
    use std::io::{Read, Write};
    let issuer = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = issuer.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in issuer.incoming().map_while(Result::ok) {
            let read = stream.read(&mut [0; 4096]).unwrap_or(0);
            let body =
                r#"{"error":"invalid_grant","error_description":"joe has no password `hunter2`"}"#;
            let length = body.len();
            let head = "HTTP/1.1 400 Bad Request\r\nconnection: close";
            if read > 0 {
                write!(stream, "{head}\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
            }
        }
    });
    let directory = directory("quoted");
    let password = directory.join("password");
    fs::write(&password, "hunter2").unwrap();
    let password = password.display();
    let yaml = format!(
        "tokens:\n  joe:\n    oauth2: {{token_url: 'http://{address}/', grant: password, client_id: x, username: joe, password: {{file: '{password}'}}}}\n{ROUTES}"
    );
    let output = bearerd(&["token", "joe", "--config", &file("quoted", &yaml)]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("invalid_grant") && text.contains("joe has no password"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_mistake_in_a_flag_names_the_flag_and_not_a_place_in_the_file() {
    let path = file("flag", ROUTES);
    for (flag, value, says) in [
        ("--listen", "0.0.0.0:0", "`--listen` (or `BEARERD_LISTEN`): whoever reaches 0.0.0.0:0"),
        ("--admin", "127.0.0.1:8080", "`--admin` (or `BEARERD_ADMIN`): "),
    ] {
        let output = bearerd(&["run", "--config", &path, flag, value]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{text}");
        assert!(text.contains(says) && !text.contains(".yaml:1:1"), "{text}");
        assert!(text.contains("bearerd.yaml: ") && text.contains("hint: "), "{text}");
    }
}

#[test]
fn a_credential_that_stands_in_the_file_is_warned_about_and_not_shown() {
    let route = |inject: &str| {
        format!("routes: [{{upstream: 'https://api.example.com', inject: {{{inject}}}}}]\n")
    };
    for inject in [
        "Authorization: Bearer eyJhbGciOiJub25lIn0.e30.",
        "Authorization: Basic Zm9vOmJhcg==",
        "X-Api-Key: 0123456789abcdef",
        "X-Session: {value: eyJhbGciOiJub25lIn0.e30.}",
    ] {
        let output = bearerd(&["check", "--config", &file("written", &route(inject))]);
        let text = stdout(&output);
        assert!(text.contains("warning: the value of `"), "{inject}: {text}");
        assert!(text.contains("in line 1 looks like a credential"), "{inject}: {text}");
        assert!(!text.contains("eyJ") && !text.contains("Zm9v"), "{text}");
    }
    for inject in ["Organization: acme", "Authorization: 'Bearer ${env.STATIC_API_KEY}'"] {
        let output = bearerd(&["check", "--config", &file("unwritten", &route(inject))]);
        assert!(!stdout(&output).contains("looks like"), "{inject}");
    }
}
