//! A fifth system, which nobody had in mind when the program was written: a login in JSON, an
//! answer with the pass deep inside, its end as an absolute time in milliseconds, words and
//! statuses of its own. All of it is YAML.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::doubles::scripted::Scripted;
use crate::doubles::{Ask, Double, FOREIGN, Reply, unique};
use crate::support::{Load, Process, eventually, file};

const CONFIG: &str = r#"
tokens:
  harbour:
    http:
      acquire:
        method: PUT
        url: ${env.HARBOUR_URL}/gate/sessions?v=2
        headers: {X-Gate: main}
        json:
          login: {name: pier7, code: {env: HARBOUR_CODE}}
          device: {serial: 7, tags: [a, b], at: "${now|unix_ms}", call: "${uuid}"}
      success: [{pointer: /state, equals: OPEN}]
      value: /session/pass/token
      fields: {zone: /session/pass/zone}
      expiry: [{unix_ms: /session/validUntil}]
      errors:
        - {pointer: /why, equals: code, means: credential}
        - {pointer: /why, equals: tide, means: transient}
      rejected: [{status: [419], pointer: /why, equals: pass}]
routes:
  - upstream: ${env.HARBOUR_URL}
    inject: {X-Harbour-Pass: "${harbour}", X-Harbour-Zone: "zone=${harbour.zone}"}
    deny: [{path: /gate/}]
"#;

const CODE: &str = "spring tide";

/// The pass in use and its end in milliseconds of Unix time.
#[derive(Default)]
struct Harbour {
    pass: Mutex<(String, u64)>,
    lifetime: AtomicU64,
    opened: AtomicUsize,
    tides: AtomicUsize,
}

impl Harbour {
    fn now() -> u64 {
        let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
        u64::try_from(now.unwrap().as_millis()).unwrap()
    }

    fn gate(&self, ask: &Ask) -> Reply {
        let body = ask.json();
        let now = Self::now();
        let fits = ask.method == "PUT"
            && ask.query.get("v").is_some_and(|v| v == "2")
            && ask.head.one("x-gate") == "main"
            && ask.media_type() == "application/json"
            && body["device"]["serial"] == 7
            && body["device"]["tags"] == json!(["a", "b"])
            && body["device"]["at"].as_u64().is_some_and(|at| at.abs_diff(now) < 60_000)
            && body["device"]["call"].as_str().is_some_and(|call| call.len() == 36);
        if !fits {
            return Reply::json(422, &json!({ "state": "SHUT", "why": "form" }));
        }
        if body["login"] != json!({ "name": "pier7", "code": CODE }) {
            return Reply::json(200, &json!({ "state": "SHUT", "why": "code" }));
        }
        if self.tides.load(Ordering::Relaxed) > 0 {
            self.tides.fetch_sub(1, Ordering::Relaxed);
            return Reply::json(200, &json!({ "state": "SHUT", "why": "tide" }));
        }
        self.opened.fetch_add(1, Ordering::Relaxed);
        let until = now + self.lifetime.load(Ordering::Relaxed);
        let pass = unique("pass-");
        *self.pass.lock().unwrap() = (pass.clone(), until);
        let session = json!({ "pass": { "token": pass, "zone": "north" }, "validUntil": until });
        Reply::json(201, &json!({ "state": "OPEN", "session": session }))
    }

    fn berth(&self, ask: &Ask) -> Reply {
        let (pass, until) = self.pass.lock().unwrap().clone();
        if ask.head.one("x-harbour-pass") != pass || Self::now() >= until {
            return Reply::json(419, &json!({ "why": "pass" }));
        }
        if ask.head.one("x-harbour-zone") != "zone=north" {
            return Reply::json(419, &json!({ "why": "zone" }));
        }
        Reply::json(200, &json!({ "berths": 3 }))
    }
}

fn start(code: &str, milliseconds: u64) -> (Arc<Harbour>, Double<Scripted>, Process) {
    start_with(code, Harbour { lifetime: milliseconds.into(), ..Harbour::default() })
}

fn start_with(code: &str, harbour: Harbour) -> (Arc<Harbour>, Double<Scripted>, Process) {
    let harbour = Arc::new(harbour);
    let system = Arc::clone(&harbour);
    let double = Scripted::run(move |ask, _| {
        if ask.path == "/gate/sessions" { system.gate(ask) } else { system.berth(ask) }
    });
    let environment = [("HARBOUR_URL", &*double.url()), ("HARBOUR_CODE", code)];
    let process = Process::start(&file("harbour.yaml", CONFIG), &environment);
    (harbour, double, process)
}

#[test]
fn a_system_that_nobody_had_in_mind_is_served_over_some_lifetimes() {
    let (harbour, double, process) = start(CODE, 2_000);
    let load = Load::start(
        &process,
        &[
            "GET /berths HTTP/1.1",
            "Host: localhost",
            &format!("X-Harbour-Pass: {FOREIGN}"),
            &format!("X_Harbour_Zone: {FOREIGN}"),
            &format!("Authorization: {FOREIGN}"),
        ],
    );
    eventually(|| harbour.opened.load(Ordering::Relaxed) >= 5, || process.log());
    load.more(5);
    load.all_ok();
    // A new pass ends the one before: who is under way just then is sent again.
    assert!(process.replays() <= 5.5);
    double.assert_saw_no_foreign_credential();
    assert!(!process.stop().contains(CODE));
}

#[test]
fn its_own_status_and_words_reject_a_pass() {
    let (harbour, _double, process) = start(CODE, 600_000);
    process.ready();
    harbour.pass.lock().unwrap().0 = "another".to_owned();
    assert_eq!(process.client().get("/berths").status(), 200);
    assert_eq!(harbour.opened.load(Ordering::Relaxed), 2);
    assert!((process.replays() - 1.0).abs() < 0.5);
}

#[test]
fn its_own_words_tell_a_wrong_code_from_a_bad_hour() {
    let (_harbour, double, process) = start("neap tide", 600_000);
    eventually(|| process.log().contains("refused"), || process.log());
    let next = process.metric("bearerd_token_next_refresh_timestamp_seconds");
    assert!(next - crate::doubles::unix() as f64 > 50.0, "a wrong code is tried rarely");
    assert_eq!(double.asks().len(), 1);

    let harbour = Harbour { lifetime: 600_000.into(), tides: 2.into(), ..Harbour::default() };
    let (harbour, double, process) = start_with(CODE, harbour);
    process.ready();
    assert_eq!(harbour.opened.load(Ordering::Relaxed), 1);
    assert_eq!(double.asks().len(), 3, "a bad hour passes: {}", process.log());
}
