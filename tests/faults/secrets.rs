//! Secrets change, vanish and break while the program runs (F13, F44–F46).

use std::os::unix::fs::symlink;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::support::{
    Dir, Issuer, Post, Reply, Sidecar, Upstream, pass, secs, simple, tolerance, wire, within,
};

/// The secret that a POST proved itself with.
fn secret_of(post: &Post) -> String {
    let value = wire::field(&post.head, "authorization").expect("a proof");
    let pair = STANDARD.decode(value.strip_prefix("Basic ").unwrap()).unwrap();
    String::from_utf8(pair).unwrap().split_once(':').unwrap().1.to_owned()
}

/// An issuer that knows one secret.
fn knowing(secret: &'static str) -> Issuer {
    Issuer::run(move |post| match secret_of(post) == secret {
        true => Reply::token(&format!("token-{}", post.number), 600.0),
        false => Reply::error(401, "invalid_client"),
    })
}

/// F13.
#[test]
fn a_replaced_secret_ends_the_slow_tries_f13() {
    let (issuer, upstream) = (knowing("right"), Upstream::ok());
    let sidecar = Sidecar::before(&issuer, &upstream);
    issuer.await_posts(1);
    pass(3.0);
    assert_eq!(issuer.count(), 1, "a refused client is not tried soon");
    sidecar.dir.write("secret", "wrong too");
    let took = within(secs(12.0), "a second try", || issuer.count() >= 2);
    sidecar.dir.write("secret", "right");
    let took = took + within(secs(12.0), "a third try", || sidecar.is_ready());
    assert!(took < secs(5.5 + tolerance()), "{took:?} for two changes");
    assert_eq!(issuer.count(), 3);
}

/// F13: the change comes while the issuer still thinks about the old secret.
#[test]
fn a_secret_that_is_replaced_during_an_attempt_is_tried_at_once_f13() {
    let issuer = Issuer::run(|post| match secret_of(post).as_str() {
        "right" => Reply::token("token", 600.0),
        _ => Reply::error(401, "invalid_client").after(secs(1.0)),
    });
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&issuer, &upstream);
    issuer.await_posts(1);
    sidecar.dir.write("secret", "right");
    within(secs(5.0), "readiness", || sidecar.is_ready());
}

/// F44: `..data` is switched as the kubelet does it; F45 beside it.
#[test]
fn a_mounted_secret_is_followed_and_what_is_broken_is_passed_over_f44_f45() {
    let dir = Dir::new();
    let version = |name: &str, secret: &[u8]| {
        let at = dir.path().join(name);
        std::fs::create_dir(&at).unwrap();
        std::fs::write(at.join("secret"), secret).unwrap();
        symlink(name, dir.path().join("..new")).unwrap();
        std::fs::rename(dir.path().join("..new"), dir.path().join("..data")).unwrap();
    };
    version("..1", b"one");
    symlink("..data/secret", dir.path().join("secret")).unwrap();
    let issuer = Issuer::giving(1.0);
    let upstream = Upstream::ok();
    let file = dir.path().join("secret").display().to_string();
    let config = simple(&issuer.url(), &upstream, "").replace("DIR/secret", &file);
    let sidecar = Sidecar::start(&config);
    sidecar.await_ready();
    let load = sidecar.load(20);
    let next = |expected: &str| {
        // The one that is under way may have read the old one.
        let count = issuer.count();
        issuer.await_posts(count + 2);
        assert_eq!(secret_of(&issuer.posts()[count + 1]), expected);
    };
    next("one");
    version("..2", "\u{feff}two\r\n".as_bytes());
    next("two");
    version("..3", b"");
    next("two");
    version("..4", &vec![b'x'; 1 << 20]);
    next("two");
    version("..5", b"\xff\xfe");
    next("two");
    version("..6", b"three\n");
    next("three");
    std::fs::remove_file(dir.path().join("..data")).unwrap();
    next("three");
    load.end_without_errors();
    for post in issuer.posts() {
        assert!(["one", "two", "three"].contains(&secret_of(&post).as_str()));
    }
}

/// F46.
#[test]
fn a_projected_assertion_is_read_anew_and_an_expired_one_never_sent_f46() {
    let assertion = |number: u32, lifetime: f64| {
        let now = bearerd::vocab::Wall::now().0;
        let claims = format!(r#"{{"jti":"{number}","iat":{now},"exp":{}}}"#, now + lifetime);
        format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims))
    };
    let number_of = |post: &Post| {
        let payload = post.form["client_assertion"].split('.').nth(1).unwrap();
        let claims = URL_SAFE_NO_PAD.decode(payload).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        claims["jti"].as_str().unwrap().parse::<u32>().unwrap()
    };
    let (issuer, upstream) = (Issuer::giving(1.0), Upstream::ok());
    let launch = Sidecar::launch();
    launch.write("assertion", assertion(0, 600.0));
    let config =
        simple(&issuer.url(), &upstream, ", client_auth: {assertion: {file: DIR/assertion}}")
            .replace(", client_secret: {file: DIR/secret}", "");
    let sidecar = launch.start(&config);
    for number in 1..4 {
        sidecar.dir.write("assertion", assertion(number, 600.0));
        let count = issuer.count();
        issuer.await_posts(count + 2);
        assert_eq!(number_of(&issuer.posts()[count + 1]), number);
    }
    sidecar.dir.write("assertion", assertion(4, -1.0));
    pass(2.5);
    assert!(issuer.posts().iter().all(|post| number_of(post) < 4), "an expired one was sent");
    let count = issuer.count();
    sidecar.dir.write("assertion", assertion(5, 600.0));
    within(secs(4.0), "the next", || issuer.count() > count);
    assert_eq!(number_of(&issuer.posts()[count]), 5);
}
