//! The story of the lxHive record store with the file that its users copy. The doubles age three
//! hundred times faster than told: the quarter of an hour that the file asks for is three seconds.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::doubles::lxhive::{Lrs, SUPER, Version};
use crate::doubles::{Double, FOREIGN};
use crate::support::{Load, Process, eventually, example, file};

const HASTE: u64 = 300;

fn start(lrs: &Double<Lrs>, config: &std::path::Path) -> Process {
    let url = lrs.url();
    let environment = [
        ("LXHIVE_URL", url.as_str()),
        ("LXHIVE_SUPER_KEY", SUPER.0),
        ("LXHIVE_SUPER_SECRET", SUPER.1),
        ("LXHIVE_EMAIL", "robot@example.com"),
    ];
    Process::start(config, &environment)
}

fn load(process: &Process) -> Load {
    let lines = [
        &format!("GET /statements?limit=1&access_token={FOREIGN} HTTP/1.1"),
        "Host: localhost",
        &format!("Authorization: Basic {}", STANDARD.encode(format!("{FOREIGN}:x"))),
        &format!("Proxy-Authorization: Basic {FOREIGN}"),
        &format!("Cookie: session={FOREIGN}"),
    ];
    Load::start(process, &lines)
}

fn some_lifetimes(version: Version, haste: u64, period: Duration) {
    let lrs = Double::start(Lrs::new(version, haste));
    let process = start(&lrs, &example("lxhive"));
    let load = load(&process);
    load.go_on(period);
    load.all_ok();
    let about = usize::try_from(period.as_secs() * haste / 900).unwrap();
    let made = lrs.with(|l| l.made);
    assert!((about..about * 2 + 1).contains(&made), "{made} tokens");
    assert!(process.replays() <= made as f64, "{} replays", process.replays());
    lrs.assert_saw_no_foreign_credential();
    let log = process.stop();
    assert!(!log.contains(SUPER.1), "{log}");
    lrs.with(|l| {
        assert!(!l.super_seen, "the super credential reached the statements");
        let used: std::collections::BTreeSet<&String> = l.used.iter().collect();
        // The last one may have come when the load was over.
        assert!((made - 1..=made).contains(&used.len()), "{} of {made} were used", used.len());
        match version {
            // At the end nothing is left, neither what was in use nor what it replaced.
            Version::V09 => assert_eq!(l.living(), 0, "{log}"),
            // This one cannot withdraw; it is asked, and the end comes all the same.
            Version::V010 => assert!(log.contains("not withdrawn"), "{log}"),
        }
    });
}

#[test]
fn version_0_9_with_its_header_on_every_request() {
    some_lifetimes(Version::V09, HASTE, Duration::from_secs(9));
}

#[test]
#[ignore = "takes two minutes"]
fn both_versions_over_a_minute() {
    for version in [Version::V09, Version::V010] {
        some_lifetimes(version, 200, Duration::from_secs(60));
    }
}

#[test]
fn version_0_10_with_its_false_expiry_and_named_scopes() {
    some_lifetimes(Version::V010, HASTE, Duration::from_secs(9));
}

#[test]
fn old_tokens_are_withdrawn_after_the_swap() {
    let lrs = Double::start(Lrs::new(Version::V09, HASTE));
    let text = std::fs::read_to_string(example("lxhive")).unwrap();
    let sooner = text.replace("after_replacement: 30s", "after_replacement: 1s");
    assert_ne!(text, sooner);
    let process = start(&lrs, &file("lxhive.yaml", &sooner));
    let load = load(&process);
    eventually(|| lrs.with(|l| l.deleted.len()) >= 2, || process.log());
    load.all_ok();
    lrs.with(|l| {
        // Old and new live side by side, so nothing is ever rejected.
        assert!(l.living() <= 2, "the one in use and at most one that it has just replaced");
        assert!(l.rejected <= l.made, "{} rejections", l.rejected);
    });
}

#[test]
fn a_withdrawn_token_is_replaced_and_a_missing_permission_is_not_taken_for_one() {
    for version in [Version::V09, Version::V010] {
        let lrs = Double::start(Lrs::new(version, 1));
        let process = start(&lrs, &example("lxhive"));
        process.ready();
        let answer = process.client().get("/statements/others");
        let expected = if version == Version::V09 { 403 } else { 401 };
        assert_eq!((answer.status(), lrs.with(|l| l.made)), (expected, 1), "{}", answer.text());
        lrs.with(Lrs::forget_tokens);
        assert_eq!(process.client().get("/statements").status(), 200);
        assert_eq!(lrs.with(|l| l.made), 2);
        assert!((process.replays() - 1.0).abs() < 0.5);
    }
}

#[test]
fn tunnels_and_token_endpoints_are_refused() {
    let lrs = Double::start(Lrs::new(Version::V010, 1));
    let process = start(&lrs, &example("lxhive"));
    process.ready();
    let form = format!("Authorization=Basic%20{FOREIGN}&content=%7B%7D");
    for target in
        ["/statements?method=GET", "/statements?x=1&method=PUT", "/statements?me%74hod=GET"]
    {
        let mut client = process.client();
        client.request(&[
            &format!("POST {target} HTTP/1.1"),
            "Host: localhost",
            "Content-Type: application/x-www-form-urlencoded",
            &format!("Content-Length: {}", form.len()),
        ]);
        let answer = client.send(&form).answer();
        assert_eq!((answer.status(), answer.refusal().as_str()), (403, "denied"), "{target}");
    }
    for target in ["/auth/tokens", "/auth/tokens?key=a", "/oauth/authorize", "/auth"] {
        let answer = process.client().get(target);
        assert_eq!((answer.status(), answer.refusal().as_str()), (403, "denied"), "{target}");
    }
    lrs.assert_saw_no_foreign_credential();
}

#[test]
fn the_clients_own_xapi_version_is_kept() {
    let lrs = Double::start(Lrs::new(Version::V010, 1));
    let process = start(&lrs, &example("lxhive"));
    process.ready();
    let lines = ["GET /statements HTTP/1.1", "Host: localhost", "X-Experience-API-Version: 2.0"];
    assert_eq!(process.client().request(&lines).answer().status(), 400);
    let lines = ["GET /statements HTTP/1.1", "Host: localhost", "X-Experience-API-Version: 1.0.1"];
    assert_eq!(process.client().request(&lines).answer().status(), 200);
}
