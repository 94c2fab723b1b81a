//! The issuer is away, or slow, or comes and goes (F4–F7, F21–F23, F52, F55, F56).

use crate::support::{
    Fault, Issuer, Relay, Reply, Sidecar, Upstream, eventually, pass, secs, simple, tolerance,
    until, within,
};

/// F4 at a fifth: the issuer is away around the renewal point and comes back before the guard.
#[test]
fn an_outage_that_ends_before_the_guard_is_not_noticed_f4() {
    let (issuer, upstream) = (Issuer::giving(10.0), Upstream::ok());
    let relay = Relay::before(issuer.address);
    let sidecar = Sidecar::simple(&relay.url(), &upstream);
    sidecar.await_ready();
    let start = issuer.posts()[0].at;
    let load = sidecar.load(40);
    until(start, 5.0);
    relay.down();
    until(start, 8.4);
    relay.up();
    issuer.await_posts(2);
    assert!(issuer.gaps()[0] < 9.0 + tolerance(), "{:?}", issuer.gaps());
    pass(0.3);
    load.end_without_errors();
    upstream.assert_none_expired(&issuer, 9.0);
    let tries = sidecar.failures("connect");
    assert!((1.0..=6.0).contains(&tries), "{tries} tries");
}

#[test]
fn the_log_warns_of_an_outage_and_once_more_when_it_costs_the_token_f5() {
    let (issuer, upstream) = (Issuer::giving(3.0), Upstream::ok());
    let relay = Relay::before(issuer.address);
    let sidecar = Sidecar::simple(&relay.url(), &upstream);
    sidecar.await_ready();
    relay.down();
    let warned = |usable: &str| {
        let log = sidecar.log();
        let of_it = |line: &&str| line.contains("WARN") && line.contains("token not obtained");
        log.lines().filter(of_it).filter(|line| line.contains(usable)).count()
    };
    eventually("a warning of the loss", || warned("usable=false") == 1);
    assert_eq!(warned("usable=true"), 1, "{}", sidecar.log());
    let tried = || sidecar.failures("connect");
    let before = tried();
    eventually("another failure", || tried() > before);
    assert_eq!(warned("usable=false"), 1, "{}", sidecar.log());
}

/// F5 at a fifth: the outage outlives the token.
#[test]
fn an_outage_that_outlives_the_token_refuses_and_never_sends_an_expired_one_f5() {
    let (issuer, upstream) = (Issuer::giving(4.0), Upstream::ok());
    let relay = Relay::before(issuer.address);
    let config = format!("token_wait: 200ms\n{}", simple(&relay.url(), &upstream, ""));
    let sidecar = Sidecar::start(&config);
    sidecar.await_ready();
    let start = issuer.posts()[0].at;
    relay.down();
    let load = sidecar.load(40);
    until(start, 9.0);
    assert_eq!(issuer.count(), 1);
    for answer in load.end() {
        let age = answer.at.since(start).as_secs_f64();
        match answer.status {
            200 => assert!(age < 3.65 + tolerance(), "200 after {age} s"),
            _ => assert!(answer.is_missing_token() && age > 3.5, "{age} s: {}", answer.head),
        }
    }
    let reached = upstream.seen().len();
    upstream.assert_none_expired(&issuer, 3.6);
    assert_eq!(sidecar.get("/").status, 503);
    assert_eq!(upstream.seen().len(), reached, "a refused request reached the upstream");
    assert!(!sidecar.is_ready());
    relay.up();
    within(secs(16.0), "recovery", || sidecar.get("/").status == 200);
}

/// F6.
#[test]
fn a_start_without_the_issuer_serves_as_soon_as_it_is_there_f6() {
    let (issuer, upstream) = (Issuer::giving(600.0), Upstream::ok());
    let relay = Relay::refusing(issuer.address);
    let sidecar = Sidecar::simple(&relay.url(), &upstream);
    assert_eq!(sidecar.admin("/readyz").status, 503);
    assert_eq!(sidecar.admin("/livez").status, 200);
    assert_eq!(sidecar.admin("/startupz").status, 200);
    let answer = sidecar.get("/");
    assert!(answer.is_missing_token(), "{}", answer.head);
    assert!((4.9..5.1 + tolerance()).contains(&answer.took.as_secs_f64()), "{:?}", answer.took);
    relay.up();
    within(secs(16.0), "readiness", || sidecar.is_ready());
    assert_eq!(sidecar.get("/").status, 200);
    assert_eq!(upstream.seen().len(), 1);
}

/// F7, its first 25 s: the pauses grow to their cap, and neither memory nor the log does.
#[test]
fn a_long_outage_costs_neither_memory_nor_log_f7() {
    let (issuer, upstream) = (Issuer::giving(600.0), Upstream::ok());
    let relay = Relay::refusing(issuer.address);
    let sidecar = Sidecar::simple(&relay.url(), &upstream);
    eventually("a first failure", || sidecar.failures("connect") >= 1.0);
    pass(2.0);
    let memory = sidecar.metric("process_resident_memory_bytes");
    pass(23.0);
    let tries = sidecar.failures("connect");
    // 0, then after at most 1, 2, 4, 8, 15 s and at least half of that.
    assert!((4.0..=8.0).contains(&tries), "{tries} tries");
    let grown = sidecar.metric("process_resident_memory_bytes") - memory;
    assert!(grown.abs() <= 2.0 * 1024.0 * 1024.0, "{grown} bytes");
    let loud = sidecar.log().lines().filter(|l| l.contains("WARN") || l.contains("ERROR")).count();
    assert!((1..=5).contains(&loud), "{}", sidecar.log());
}

/// F21.
#[test]
fn a_stalled_issuer_costs_one_attempt_of_bounded_time_f21() {
    let issuer = Issuer::run(|post| match post.number {
        0 => Reply::token("token-0", 14.0),
        1 => Reply::Stall(secs(60.0)),
        n => Reply::token(&format!("token-{n}"), 600.0),
    });
    let upstream = Upstream::ok();
    let timeout = ", renew: {timeout: 1s}";
    let sidecar = Sidecar::start(&simple(&issuer.url(), &upstream, timeout));
    sidecar.await_ready();
    let load = sidecar.load(20);
    issuer.await_posts(3);
    let gap = issuer.gaps()[1];
    assert!((1.45..2.1 + tolerance()).contains(&gap), "{gap} s: the deadline and the first pause");
    pass(0.2);
    load.end_without_errors();
    assert_eq!(sidecar.failures("timeout"), 1.0);
}

/// F21 with the deadline that nobody configured, and F22 beside it.
#[test]
fn an_attempt_ends_after_ten_seconds_however_the_issuer_dawdles_f21_f22() {
    let full = Reply::token("token-0", 600.0).bytes();
    let (trickle, silent) = (
        Issuer::run(move |_| Reply::Trickle(full.clone(), secs(1.0))),
        Issuer::run(|_| Reply::Stall(secs(60.0))),
    );
    let upstream = Upstream::ok();
    for issuer in [&trickle, &silent] {
        assert_eq!(issuer.count(), 0);
    }
    let sidecars = [&trickle, &silent].map(|issuer| Sidecar::before(issuer, &upstream));
    for issuer in [&trickle, &silent] {
        issuer.await_posts(2);
        let gap = issuer.gaps()[0];
        assert!((10.4..11.2 + tolerance()).contains(&gap), "{gap} s");
    }
    for sidecar in &sidecars {
        assert_eq!(sidecar.failures("timeout"), 1.0);
    }
}

/// F23, and the other ways in which an answer breaks off.
#[test]
fn a_broken_connection_is_tried_again_soon_f23() {
    let upstream = Upstream::ok();
    for fault in [Fault::ResetAfter(0), Fault::ResetAfter(40), Fault::TruncateAfter(90)] {
        let issuer = Issuer::giving(600.0);
        let relay = Relay::before(issuer.address);
        relay.set(fault);
        let sidecar = Sidecar::simple(&relay.url(), &upstream);
        issuer.await_posts(1);
        relay.set(Fault::None);
        issuer.await_posts(2);
        sidecar.await_ready();
        let gap = issuer.gaps()[0];
        assert!((0.45..1.05 + tolerance()).contains(&gap), "{fault:?}: {gap} s");
        assert_eq!(sidecar.failures("broken"), 1.0, "{fault:?}");
    }
}

/// F23, from the issuer itself.
#[test]
fn a_reset_after_the_request_is_no_word_on_the_credential_f23() {
    let issuer = Issuer::run(|post| match post.number {
        0 => Reply::Reset,
        n => Reply::token(&format!("token-{n}"), 600.0),
    });
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&issuer, &upstream);
    sidecar.await_ready();
    let gap = issuer.gaps()[0];
    assert!((0.45..1.05 + tolerance()).contains(&gap), "{gap} s");
    assert_eq!(sidecar.failures("broken"), 1.0);
}

/// A slow line is no fault: what comes late but in time is used.
#[test]
fn a_late_answer_is_an_answer_f22() {
    let upstream = Upstream::ok();
    for fault in [Fault::Delay(secs(1.0)), Fault::Trickle(secs(0.005)), Fault::Stall] {
        let issuer = Issuer::giving(600.0);
        let relay = Relay::before(issuer.address);
        relay.set(fault);
        let config = simple(&relay.url(), &upstream, ", renew: {timeout: 3s}");
        let sidecar = Sidecar::start(&config);
        if matches!(fault, Fault::Stall) {
            eventually("a timeout", || sidecar.failures("timeout") >= 1.0);
            assert_eq!((issuer.count(), relay.connections()), (0, 1));
        } else {
            sidecar.await_ready();
            assert_eq!(issuer.count(), 1);
        }
    }
}

/// F52.
#[test]
fn one_issuer_that_is_down_does_not_touch_the_other_ones_route_f52() {
    let (issuer, upstream) = (Issuer::giving(4.0), Upstream::ok());
    let gone = Relay::refusing(issuer.address);
    let token = |name: &str, url: &str| {
        format!(
            "{name}: {{oauth2: {{token_url: \"{url}\", client_id: me, \
             client_secret: {{file: DIR/secret}}}}}}"
        )
    };
    let route = |path: &str, name: &str| {
        format!(
            "{{match: {{path: {path}}}, upstream: \"{}\", \
             inject: {{Authorization: \"Bearer ${{{name}}}\"}}}}",
            upstream.url()
        )
    };
    let config = format!(
        "token_wait: 100ms\ntokens: {{{}, {}}}\nroutes: [{}, {}]\n",
        token("good", &issuer.url()),
        token("bad", &gone.url()),
        route("/load", "good"),
        route("/bad", "bad")
    );
    let sidecar = Sidecar::start(&config);
    eventually("the good route", || sidecar.get("/load").status == 200);
    let load = sidecar.load(40);
    for _ in 0..10 {
        assert!(sidecar.get("/bad").is_missing_token());
        pass(0.5);
    }
    load.end_without_errors();
    let readiness = sidecar.admin("/readyz");
    let text = String::from_utf8(readiness.body).unwrap();
    assert_eq!(readiness.status, 503);
    assert!(text.contains("`bad`") && !text.contains("`good`"), "{text}");
    upstream.assert_none_expired(&issuer, 3.6);
}

/// F55 at a fifth.
#[test]
fn an_issuer_that_limits_every_second_post_costs_nothing_f55() {
    let issuer = Issuer::run(|post| match post.number % 2 {
        0 => Reply::token(&format!("token-{}", post.number), 4.0),
        _ => Reply::error(429, "slow_down"),
    });
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&issuer, &upstream);
    sidecar.await_ready();
    let load = sidecar.load(40);
    pass(14.0);
    load.end_without_errors();
    upstream.assert_none_expired(&issuer, 3.6);
    assert!(sidecar.failures("rate_limited") >= 3.0);
    assert!(issuer.count() <= 12, "{} POSTs", issuer.count());
}

/// F56 at a sixth: a plain schedule would finish past the guard.
#[test]
fn a_slow_issuer_is_asked_early_enough_f56() {
    let issuer =
        Issuer::run(|post| Reply::token(&format!("token-{}", post.number), 10.0).after(secs(1.5)));
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&issuer, &upstream);
    sidecar.await_ready();
    let load = sidecar.load(40);
    issuer.await_posts(3);
    pass(1.8);
    load.end_without_errors();
    for gap in &issuer.gaps() {
        assert!(
            *gap <= 6.05 + tolerance(),
            "begun {gap} s after the last, guard at 9 s, 1.5 s an answer"
        );
    }
}
