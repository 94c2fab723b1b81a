//! Renewal when nothing fails, and at the edges of lifetimes (F1–F3, F28–F30).

use std::time::Duration;

use crate::support::{Client, Issuer, Reply, Sidecar, Upstream, lateness, pass, secs, tolerance};
use bearerd::vocab::Moment;

/// F1 at a fifth of its lifetime: 4 s instead of 20 s, 24 s instead of 120 s.
#[test]
fn a_token_is_renewed_in_time_and_never_more_often_f1() {
    let (issuer, upstream) = (Issuer::giving(4.0), Upstream::ok());
    let sidecar = Sidecar::before(&issuer, &upstream);
    let load = sidecar.load(40);
    pass(24.0);
    let posts = issuer.count();
    load.end_without_errors();
    assert!((7..=10).contains(&posts), "{posts} POSTs");
    for gap in issuer.gaps() {
        assert!((2.75 - lateness()..3.25 + tolerance()).contains(&gap), "{gap} s");
    }
    upstream.assert_none_expired(&issuer, 3.6);
    let all: Vec<String> = (0..issuer.count()).map(|n| format!("Bearer token-{n}")).collect();
    assert!(all.starts_with(&upstream.credentials()), "{:?}", upstream.credentials());
}

/// F2.
#[test]
fn a_thousand_requests_at_a_cold_start_make_one_post_f2() {
    let issuer = Issuer::run(|_| Reply::token("token-0", 600.0).after(secs(1.0)));
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&issuer, &upstream);
    issuer.await_posts(1);
    let mut clients: Vec<Client> = (0..1000).map(|_| sidecar.client()).collect();
    for client in &mut clients {
        client.ask("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.answer().unwrap().status, 200);
    }
    assert_eq!(issuer.count(), 1);
    assert_eq!(upstream.seen().len(), 1000);
}

/// F3.
#[test]
fn requests_that_find_the_token_expired_share_one_attempt_f3() {
    // The second POST takes longer than the first token lives.
    let issuer = Issuer::run(|post| match post.number {
        0 => Reply::token("token-0", 2.0),
        n => Reply::token(&format!("token-{n}"), 600.0).after(secs(3.0)),
    });
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&issuer, &upstream);
    sidecar.await_ready();
    issuer.await_posts(2);
    let first = issuer.posts()[0].at;
    let mut clients: Vec<Client> = (0..500).map(|_| sidecar.client()).collect();
    crate::support::until(first, 1.85);
    for client in &mut clients {
        client.ask("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.answer().unwrap().status, 200);
    }
    assert_eq!((issuer.count(), issuer.most_under_way()), (2, 1));
    assert_eq!(upstream.credentials(), ["Bearer token-1"]);
}

/// F28, on the wire: the issuer hands out one token until it expires.
#[test]
fn the_same_token_again_is_no_reason_to_hurry_f28() {
    let start = Moment::now();
    let issuer = Issuer::run(move |_| {
        let age = Moment::now().since(start).as_secs_f64();
        let round = (age / 8.0).floor();
        Reply::token(&format!("same-{round}"), (round + 1.0) * 8.0 - age)
    });
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&issuer, &upstream);
    let load = sidecar.load(20);
    pass(16.5);
    // Two lifetimes: the first token, at most four tries each before it is over, the successors.
    let posts = issuer.count();
    assert!((5..=13).contains(&posts), "{posts} POSTs");
    let answers = load.end();
    let bad = answers.iter().filter(|answer| answer.status != 200).count();
    assert_eq!(bad, 0, "of {}", answers.len());
    assert!(issuer.gaps().iter().all(|gap| *gap >= 0.45), "{:?}", issuer.gaps());
}

/// F29.
#[test]
fn lifetimes_of_a_second_do_not_make_it_spin_f29() {
    for lifetime in [1.0, 2.0, 5.0] {
        let (issuer, upstream) = (Issuer::giving(lifetime), Upstream::ok());
        let sidecar = Sidecar::before(&issuer, &upstream);
        sidecar.await_ready();
        let load = sidecar.load(20);
        let (before, cpu) = (issuer.count(), sidecar.metric("process_cpu_seconds_total"));
        pass(4.0);
        let posts = issuer.count() - before;
        let cpu = sidecar.metric("process_cpu_seconds_total") - cpu;
        assert!(posts <= 8, "{posts} POSTs in 4 s at {lifetime} s");
        load.end_without_errors();
        upstream.assert_none_expired(&issuer, lifetime);
        // A twentieth of a core, and what the load itself costs in a debug build.
        assert!(cpu < 0.6, "{cpu} s of CPU time");
    }
}

/// F30.
#[test]
fn a_lifetime_of_ten_years_is_believed_for_a_day_f30() {
    let (issuer, upstream) = (Issuer::giving(315_360_000.0), Upstream::ok());
    let sidecar = Sidecar::before(&issuer, &upstream);
    sidecar.await_ready();
    assert_eq!(sidecar.get("/").status, 200);
    let now = bearerd::vocab::Wall::now().0;
    let next = sidecar.metric("bearerd_token_next_refresh_timestamp_seconds") - now;
    let day = Duration::from_secs(86_400).as_secs_f64();
    assert!(next > day * 0.6 && next < day, "{next}");
}
