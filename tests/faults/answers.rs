//! What the issuer answers (F8–F20, F25).

use crate::support::{Issuer, Post, Reply, Sidecar, Upstream, eventually, pass, simple, tolerance};

/// An issuer with these answers first, then tokens.
fn first(replies: Vec<Reply>) -> Issuer {
    Issuer::run(move |post: &Post| {
        let good = || Reply::token(&format!("token-{}", post.number), 600.0);
        replies.get(post.number).cloned().unwrap_or_else(good)
    })
}

/// The gaps of an issuer that ends with a good answer.
fn gaps(replies: Vec<Reply>) -> (Vec<f64>, Sidecar) {
    let (count, upstream) = (replies.len(), Upstream::ok());
    let issuer = first(replies);
    let sidecar = Sidecar::before(&issuer, &upstream);
    issuer.await_posts(count + 1);
    sidecar.await_ready();
    assert_eq!(sidecar.get("/").status, 200);
    assert_eq!(upstream.credentials(), [format!("Bearer token-{count}")]);
    assert_eq!(issuer.count(), count + 1);
    (issuer.gaps(), sidecar)
}

fn assert_between(gaps: &[f64], bounds: &[(f64, f64)]) {
    assert_eq!(gaps.len(), bounds.len());
    for (gap, (low, high)) in gaps.iter().zip(bounds) {
        // A busy machine may be late, never early.
        assert!(*gap >= low - 0.02 && *gap <= high + tolerance(), "{gaps:?} against {bounds:?}");
    }
}

/// F8.
#[test]
fn server_errors_double_the_pause_f8() {
    let (gaps, sidecar) = gaps(vec![Reply::status(500); 3]);
    assert_between(&gaps, &[(0.5, 1.0), (1.0, 2.0), (2.0, 4.0)]);
    assert_eq!(sidecar.failures("server_error"), 3.0);
}

/// F9 with 3 s.
#[test]
fn retry_after_in_seconds_is_kept_f9() {
    let (gaps, _) = gaps(vec![Reply::status(429).with("Retry-After", "3")]);
    assert_between(&gaps, &[(3.0, 4.0)]);
}

/// F9: nothing that clients or upstreams do makes it ask earlier.
#[test]
fn a_rejected_token_does_not_override_retry_after_f9() {
    let upstream = Upstream::answering(|_| 401);
    let issuer = Issuer::run(|post| match post.number {
        0 => Reply::token("token-0", 600.0),
        1 => Reply::status(429).with("Retry-After", "4"),
        n => Reply::token(&format!("token-{n}"), 600.0),
    });
    let sidecar = Sidecar::before(&issuer, &upstream);
    sidecar.await_ready();
    assert_eq!(sidecar.get("/").status, 401);
    for _ in 0..10 {
        assert_eq!(sidecar.get("/").status, 401);
        pass(0.1);
    }
    issuer.await_posts(3);
    assert_between(&issuer.gaps()[1..], &[(4.0, 5.0)]);
}

/// F10.
#[test]
fn retry_after_as_a_date_is_kept_f10() {
    let date =
        httpdate::fmt_http_date(std::time::SystemTime::now() + std::time::Duration::from_secs(5));
    let (gaps, _) = gaps(vec![Reply::status(503).with("Retry-After", &date)]);
    // The program started a moment after the date was written, and a date has whole seconds.
    assert_between(&gaps, &[(3.0, 6.5)]);
}

/// F11: what is no time leads to the default pause; the clamp is proved at full scale.
#[test]
fn a_retry_after_that_is_no_time_is_ignored_f11() {
    for odd in ["-1", "abc", ""] {
        let (gaps, _) = gaps(vec![Reply::status(503).with("Retry-After", odd)]);
        assert_between(&gaps, &[(0.5, 1.0)]);
    }
}

/// F12 at the beginning of its ten minutes; the count is proved at full scale.
#[test]
fn a_refused_client_is_tried_rarely_and_its_token_served_to_the_guard_f12() {
    let issuer = Issuer::run(|post| match post.number {
        0 => Reply::token("token-0", 5.0),
        _ => Reply::error(400, "invalid_client"),
    });
    let upstream = Upstream::ok();
    let config = format!("token_wait: 100ms\n{}", simple(&issuer.url(), &upstream, ""));
    let sidecar = Sidecar::start(&config);
    sidecar.await_ready();
    let start = issuer.posts()[0].at;
    let load = sidecar.load(40);
    pass(9.0);
    for answer in load.end() {
        let age = answer.at.since(start).as_secs_f64();
        let late = tolerance();
        assert!(
            (answer.status == 200) == (age < 4.5) || (4.4..4.5 + late).contains(&age),
            "{age} s"
        );
    }
    assert_eq!(issuer.count(), 2);
    assert_eq!(sidecar.failures("invalid_client"), 1.0);
}

/// F14.
#[test]
fn a_firewalls_page_says_nothing_of_the_credential_f14() {
    let page = format!("<html>{} hunter2</html>", "blocked ".repeat(100));
    let waf = Reply::Http { status: 401, fields: Vec::new(), body: page.into_bytes() };
    let (gaps, sidecar) = gaps(vec![waf]);
    assert_between(&gaps, &[(0.5, 1.0)]);
    assert!(!sidecar.log().contains("hunter2") && !sidecar.log().contains("blocked blocked"));
}

/// F15, F16.
#[test]
fn an_answer_without_a_token_is_tried_again_within_a_second_f15_f16() {
    let cut =
        Reply::Http { status: 200, fields: Vec::new(), body: br#"{"access_token":"abc"#.to_vec() };
    let other = Reply::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec());
    for reply in [Reply::status(200), cut, Reply::json(200, &serde_json::json!({})), other] {
        let (gaps, sidecar) = gaps(vec![reply]);
        assert_between(&gaps, &[(0.5, 1.0)]);
        assert_eq!(sidecar.failures("bad_response"), 1.0);
    }
}

/// F17, F18: answers with a token that must not be used; the old one is kept.
#[test]
fn a_token_that_no_header_may_carry_is_refused_and_the_old_one_kept_f17_f18() {
    let long = "x".repeat(100 * 1024);
    let sixteen = "y".repeat(17 * 1024);
    let cases = [
        (Reply::token("poison\r\nX: y", 600.0), "malformed"),
        (Reply::token("poison\u{e9}", 600.0), "malformed"),
        (Reply::token(&format!("poison{sixteen}"), 600.0), "too_large"),
        (Reply::token(&format!("poison{long}"), 600.0), "too_large"),
        (Reply::Endless, "too_large"),
    ];
    for (bad, reason) in cases {
        let issuer = Issuer::run(move |post| match post.number {
            0 => Reply::token("token-0", 5.0),
            1 => bad.clone(),
            n => Reply::token(&format!("token-{n}"), 600.0),
        });
        let upstream = Upstream::ok();
        let sidecar = Sidecar::before(&issuer, &upstream);
        sidecar.await_ready();
        let load = sidecar.load(20);
        issuer.await_posts(3);
        eventually("the next token", || upstream.credentials().len() == 2);
        load.end_without_errors();
        assert_eq!(sidecar.failures(reason), 1.0, "{reason}");
        assert_eq!(upstream.credentials(), ["Bearer token-0", "Bearer token-2"]);
        assert!(!sidecar.log().contains("poison"), "{}", sidecar.log());
    }
}

/// F19.
#[test]
fn a_token_that_needs_a_proof_is_refused_and_a_missing_type_taken_f19() {
    let typed = |kind: &str| {
        Reply::json(
            200,
            &serde_json::json!({"access_token": "a", "token_type": kind, "expires_in": 600}),
        )
    };
    let (gaps, sidecar) = gaps(vec![typed("mac"), typed("DPoP")]);
    assert_between(&gaps, &[(0.5, 1.0), (1.0, 2.0)]);
    assert_eq!(sidecar.failures("bad_response"), 2.0);
    for good in [typed("BEARER"), Reply::json(200, &serde_json::json!({"access_token": "a"}))] {
        let (issuer, upstream) = (first(vec![good]), Upstream::ok());
        let sidecar = Sidecar::before(&issuer, &upstream);
        sidecar.await_ready();
        assert_eq!(sidecar.get("/").status, 200);
        assert_eq!(upstream.credentials(), ["Bearer a"]);
    }
}

/// F19: once a token, and by its name.
#[test]
fn a_missing_type_is_told_once_for_each_token_f19() {
    let untyped = || Reply::json(200, &serde_json::json!({"access_token": "a", "expires_in": 1}));
    let (issuer, upstream) = (Issuer::run(move |_| untyped()), Upstream::ok());
    let token = |name: &str| {
        format!(
            "{name}: {{oauth2: {{token_url: \"{}\", client_id: me, \
             client_secret: {{file: DIR/secret}}}}}}",
            issuer.url()
        )
    };
    let config = format!(
        "tokens: {{{}, {}}}\nroutes: [{{upstream: \"{}\", \
         inject: {{Authorization: \"Bearer ${{one}}\", X-Other: \"${{two}}\"}}}}]\n",
        token("one"),
        token("two"),
        upstream.url()
    );
    let sidecar = Sidecar::start(&config);
    issuer.await_posts(6);
    let log = sidecar.log();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("no token_type")).collect();
    assert_eq!(told.len(), 2, "{log}");
    for name in ["token=one", "token=two"] {
        assert!(told.iter().any(|line| line.contains(name)), "{told:?}");
    }
}

/// F20, with zero, negative and absurd lifetimes read as "not said".
#[test]
fn an_odd_lifetime_is_five_minutes_and_never_a_failure_f20() {
    let answer = |lifetime: &str| Reply::Http {
        status: 200,
        fields: Vec::new(),
        body: format!(r#"{{"access_token":"a","token_type":"Bearer"{lifetime}}}"#).into_bytes(),
    };
    for (text, low, high) in [
        ("", 295.0, 300.0),
        (r#","expires_in":"20""#, 15.0, 20.0),
        (r#","expires_in":20.7"#, 15.0, 20.7),
        (r#","expires_in":0"#, 295.0, 300.0),
        (r#","expires_in":-5"#, 295.0, 300.0),
        (r#","expires_in":1e300"#, 295.0, 300.0),
        (r#","expires_in":null"#, 295.0, 300.0),
        (r#","expires_in":100000000"#, 86_390.0, 86_400.0),
    ] {
        let reply = answer(text);
        let (issuer, upstream) = (Issuer::run(move |_| reply.clone()), Upstream::ok());
        let sidecar = Sidecar::before(&issuer, &upstream);
        sidecar.await_ready();
        assert_eq!(sidecar.get("/").status, 200);
        let now = bearerd::vocab::Wall::now().0;
        let left = sidecar.metric("bearerd_token_expiry_timestamp_seconds") - now;
        assert!((low..=high + 0.1).contains(&left), "{text}: {left} s");
        assert_eq!(issuer.count(), 1);
    }
}

/// F25.
#[test]
fn a_redirect_is_not_followed_f25() {
    for status in [301, 302, 303, 307, 308] {
        let (attacker, upstream) = (Issuer::giving(600.0), Upstream::ok());
        let there = attacker.url();
        let issuer = Issuer::run(move |_| Reply::status(status).with("Location", &there));
        let sidecar = Sidecar::before(&issuer, &upstream);
        eventually("a redirect", || sidecar.failures("redirect") >= 1.0);
        issuer.await_posts(2);
        assert_eq!(attacker.connections(), 0, "{status}");
    }
}
